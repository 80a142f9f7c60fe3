/* SPDX-License-Identifier: GPL-2.0-only */
/* A VM whose guest reports and sets all registers that VMLOAD loads, see guest_regs.S. */
#ifndef URET_REGS_VM_H
#define URET_REGS_VM_H

#include <linux/kvm.h>

#include "guest_regs.h"
#include "vm.h"

#define REGS_NR_MSRS GUEST_NR_MSRS

struct regs_vm {
	struct vm vm;
	struct guest_regs *regs;
	/* What the guest must find, if anything is known. */
	uint64_t expected[GUEST_NR_REGS];
	bool known;
};

/* All that another KVM has to know to go on. */
struct regs_state {
	struct kvm_sregs sregs;
	uint64_t msrs[REGS_NR_MSRS];
	uint64_t expected[GUEST_NR_REGS];
};

/*
 * Each returns 0, or -1 with vm.error saying why.
 *
 * regs_vm_step() lets the guest report what it finds, set the values of set number
 * @set, from 1, all distinct and none 0, and report them again after some exits
 * that the kernel handles. Both must be right, and what KVM says of them, too.
 */
int regs_vm_create(struct regs_vm *vm);
int regs_vm_step(struct regs_vm *vm, unsigned int set, unsigned int exits);

/* Lets the guest do so, and shut down. KVM has reset all registers then. On SVM only. */
int regs_vm_shut_down(struct regs_vm *vm, unsigned int set, unsigned int exits);

/* Sets the values of @set from outside: the guest must find them. */
int regs_vm_set(struct regs_vm *vm, unsigned int set);

int regs_vm_save(struct regs_vm *vm, struct regs_state *state);
int regs_vm_restore(struct regs_vm *vm, const struct regs_state *state);

#endif /* URET_REGS_VM_H */
