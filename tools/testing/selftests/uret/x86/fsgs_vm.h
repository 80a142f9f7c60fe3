/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef URET_FSGS_VM_H
#define URET_FSGS_VM_H

#include "fsgs.h"

/* What the thread of a vCPU has that most have not. */
enum fsgs_vm_kind {
	FSGS_VM_PLAIN,
	FSGS_VM_PORT,	/* an I/O bitmap */
	FSGS_VM_TLS,	/* selectors in GS, DS and ES, now and then */
	FSGS_VM_LDT,	/* an LDT, which another thread makes while the guest runs */
};

/*
 * fsgs_vm() - run a VM until told to stop; does not return
 * @claim: where its vCPU's thread says what it has in its registers
 * @kind: FSGS_VM_*
 * @seed: for what it does
 */
void __attribute__((noreturn))
fsgs_vm(struct fsgs_claim *claim, enum fsgs_vm_kind kind, unsigned int seed);

#endif /* URET_FSGS_VM_H */
