/* SPDX-License-Identifier: GPL-2.0-only */
/* A VM with a guest that reports and sets the VMLOAD/VMSAVE state, see guest_regs.S. */
#ifndef URET_REGS_VM_H
#define URET_REGS_VM_H

#include <linux/kvm.h>

#include "guest_regs.h"
#include "vm.h"

#define REGS_NR_MSRS GUEST_NR_MSRS

struct regs_vm {
	struct vm vm;
	struct guest_regs *regs;
	/* The values that the guest must find, if known. */
	uint64_t expected[GUEST_NR_REGS];
	bool known;
};

/* The state to restore in a VM of another KVM. */
struct regs_state {
	struct kvm_sregs sregs;
	uint64_t msrs[REGS_NR_MSRS];
	uint64_t expected[GUEST_NR_REGS];
};

/*
 * Each function returns 0, or -1 with an error message in vm.error.
 *
 * regs_vm_step() lets the guest report the registers, set the values of set number @set, from 1,
 * and report the registers again after @exits exits that the kernel handles.  All values are
 * distinct, and none is 0.  Checks both reports, and the values that KVM returns.
 */
int regs_vm_create(struct regs_vm *vm);
int regs_vm_step(struct regs_vm *vm, unsigned int set, unsigned int exits);

/* As regs_vm_step(), but the guest shuts down, and KVM must have reset the registers. SVM only. */
int regs_vm_shut_down(struct regs_vm *vm, unsigned int set, unsigned int exits);

/* Set the values of @set by ioctls: the guest must find these values in the next step. */
int regs_vm_set(struct regs_vm *vm, unsigned int set);

int regs_vm_save(struct regs_vm *vm, struct regs_state *state);
int regs_vm_restore(struct regs_vm *vm, const struct regs_state *state);

#endif /* URET_REGS_VM_H */
