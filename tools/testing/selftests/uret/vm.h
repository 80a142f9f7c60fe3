/* SPDX-License-Identifier: GPL-2.0-only */
/* A small VM with one vCPU, whose user-mode registers differ from the host's. */
#ifndef URET_VM_H
#define URET_VM_H

#include <stdbool.h>
#include <stdint.h>

struct vm {
	int vm_fd;
	int vcpu_fd;
	/* What vm_connect() signals the other VM with. */
	int turn_fd;
	struct kvm_run *run;
	void *mem;
	uint64_t tsc_aux;
	uint64_t kernel_gs_base;
	uint64_t syscall;
	/* What went wrong last. */
	char error[128];
};

/*
 * vm_create() - make a VM
 * @vm: to be filled in
 * @values: which of two sets of register values the guest has, 1 or 2
 *
 * Return: 0, or -1 with vm->error saying why.
 */
int vm_create(struct vm *vm, int values);

/*
 * vm_run() - let the guest do something
 * @vm: made by vm_create()
 * @what: GUEST_*
 * @times: how often
 *
 * Return: 0, or -1 with vm->error saying why; that includes a guest that found
 * registers that are not its own.
 */
int vm_run(struct vm *vm, int what, uint64_t times);

/*
 * vm_connect() - let two guests take turns
 * @vm: made by vm_create(), to do GUEST_TURN
 * @other: likewise, to do GUEST_TURN_2
 *
 * They do so without leaving the kernel.  Their APICs must be on, as they are
 * after GUEST_HLT.
 *
 * Return: 0, or -1 with vm->error saying why.
 */
int vm_connect(struct vm *vm, struct vm *other);

void vm_destroy(struct vm *vm);

#endif /* URET_VM_H */
