/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef URET_FSGS_VM_H
#define URET_FSGS_VM_H

#include "fsgs.h"

/* Properties of the thread of a vCPU that make a difference for deferral. */
enum fsgs_vm_kind {
	FSGS_VM_PLAIN,
	FSGS_VM_PORT,	/* an I/O bitmap */
	FSGS_VM_TLS,	/* at times, selectors in GS, DS and ES */
	FSGS_VM_LDT,	/* an LDT, which another thread installs while the guest runs */
};

/*
 * fsgs_vm() - run a VM until FSGS_STOP, and exit
 * @shared: the memory that the thread of the vCPU shares with fsgs_stress_test
 * @kind: FSGS_VM_*
 * @seed: the seed of random numbers
 */
void __attribute__((noreturn))
fsgs_vm(struct fsgs_shared *shared, enum fsgs_vm_kind kind, unsigned int seed);

#endif /* URET_FSGS_VM_H */
