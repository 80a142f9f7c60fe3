/* SPDX-License-Identifier: GPL-2.0-only */
/* A small VM with one vCPU.  The MSRs that user mode can observe differ from the host's values. */
#ifndef URET_VM_H
#define URET_VM_H

#include <stdbool.h>
#include <stdint.h>

struct vm {
	int vm_fd;
	int vcpu_fd;
	/* The eventfd of vm_turn_fd(), or -1. */
	int turn_fd;
	struct kvm_run *run;
	int run_size;
	void *mem;
	uint64_t tsc_aux;
	uint64_t kernel_gs_base;
	uint64_t syscall;
	/* The length of GUEST_HLT, in ticks of KVM's APIC bus. The default is GUEST_TIMER. */
	uint32_t timer;
	/* Whether the guest skips the checks of its registers. */
	bool lean;
	/* Whether a signal ends vm_run(). */
	bool stop_on_signal;
	/* The last error message. */
	char error[128];
};

/*
 * vm_create() - create a VM
 * @vm: to be initialized
 * @values: the number of the set of register values for the guest, from 1
 *
 * Return: 0, or -1 with an error message in vm->error.
 */
int vm_create(struct vm *vm, int values);

/*
 * vm_run() - let the guest execute an operation
 * @vm: from vm_create()
 * @op: GUEST_*
 * @times: the number of operations
 *
 * Return: 0, or -1 with an error message in vm->error, also if the guest has found a wrong
 * value in a register.
 */
int vm_run(struct vm *vm, int op, uint64_t times);

/* The delivery of an interrupt that an eventfd signals. */
enum vm_irq {
	VM_IRQ_MSI,	/* an MSI, sent in the context of the write to the eventfd */
	VM_IRQ_WORKER,	/* by the IOAPIC, from a kernel thread */
};

/*
 * vm_turn_fd() - get an eventfd that the guest signals by writes to GUEST_PORT_TURN
 * @vm: from vm_create()
 *
 * With the eventfd, KVM handles the writes without an exit to user space.
 *
 * Return: the eventfd, which vm_destroy() closes, or -1 with an error message in vm->error.
 */
int vm_turn_fd(struct vm *vm);

/*
 * vm_wake_by() - let an eventfd raise the interrupt that GUEST_TURN waits for
 * @vm: from vm_create(), with the APIC enabled: run GUEST_HLT first
 * @fd: the eventfd, which must stay open until vm_destroy()
 * @irq: the delivery of the interrupt
 *
 * Return: 0, or -1 with an error message in vm->error.
 */
int vm_wake_by(struct vm *vm, int fd, enum vm_irq irq);

/*
 * vm_connect_ring() - let guests take turns
 * @vms: from vm_create(), with APICs enabled: run GUEST_HLT first
 * @nr: the number of VMs
 *
 * Each guest wakes the next guest without an exit to user space.  Then run GUEST_TURN in the
 * first VM, and GUEST_TURN_2 in the others.
 *
 * Return: 0, or -1 with an error message in vms[0]->error.
 */
int vm_connect_ring(struct vm *const *vms, int nr);

void vm_destroy(struct vm *vm);

#endif /* URET_VM_H */
