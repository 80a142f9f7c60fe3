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
	int run_size;
	void *mem;
	uint64_t tsc_aux;
	uint64_t kernel_gs_base;
	uint64_t syscall;
	/* How long GUEST_HLT lasts, in ticks of KVM's APIC bus: GUEST_TIMER, unless changed. */
	uint32_t timer;
	/* Whether the guest does without looking at its registers. */
	bool lean;
	/* Whether a signal ends a run. */
	bool stop_on_signal;
	/* What went wrong last. */
	char error[128];
};

/*
 * vm_create() - make a VM
 * @vm: to be filled in
 * @values: which set of register values the guest has, from 1
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

/* How an interrupt that an eventfd signals gets to the guest. */
enum vm_irq {
	VM_IRQ_MSI,	/* at once, in the context of whoever signals */
	VM_IRQ_WORKER,	/* by way of the IOAPIC, from a kernel thread */
};

/*
 * vm_turn_fd() - get an eventfd for the guest's writes to GUEST_PORT_TURN
 * @vm: made by vm_create()
 *
 * They do not leave the kernel then.
 *
 * Return: the eventfd, which vm_destroy() closes, or -1 with vm->error saying why.
 */
int vm_turn_fd(struct vm *vm);

/*
 * vm_wake_by() - let an eventfd raise the interrupt that GUEST_TURN waits for
 * @vm: made by vm_create(), and its APIC on, as it is after GUEST_HLT
 * @fd: the eventfd; nobody may close it before the VM
 * @irq: how
 *
 * Return: 0, or -1 with vm->error saying why.
 */
int vm_wake_by(struct vm *vm, int fd, enum vm_irq irq);

/*
 * vm_connect_ring() - let guests take turns
 * @vms: made by vm_create(), the first to do GUEST_TURN, the others GUEST_TURN_2
 * @nr: how many there are
 *
 * Each wakes the next one, without leaving the kernel. Their APICs must be on,
 * as they are after GUEST_HLT.
 *
 * Return: 0, or -1 with the error of the first saying why.
 */
int vm_connect_ring(struct vm *const *vms, int nr);

void vm_destroy(struct vm *vm);

#endif /* URET_VM_H */
