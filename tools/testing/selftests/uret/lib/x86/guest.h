/* SPDX-License-Identifier: GPL-2.0-only */
/* Constants of the guest program in guest.S and of the VM in vm.c. */
#ifndef URET_GUEST_H
#define URET_GUEST_H

/* The operations of the guest. */
#define GUEST_PIO	0	/* an exit to user space */
#define GUEST_CPUID	1	/* an exit that the kernel handles */
#define GUEST_HLT	2	/* HLT, until the timer wakes the guest */
#define GUEST_TURN	3	/* wake the other guest, then HLT until a wake-up */
#define GUEST_TURN_2	4	/* HLT until a wake-up, then wake the other guest */
#define GUEST_WRMSR	5	/* set TSC_AUX and LSTAR, and set them back */

#define GUEST_PORT_OP	0x10
#define GUEST_PORT_DONE	0x11
#define GUEST_PORT_BAD	0x12
#define GUEST_PORT_TURN	0x13	/* an eventfd handles writes, see vm_turn_fd() */

#define GUEST_BAD_TSC_AUX		1
#define GUEST_BAD_KERNEL_GS_BASE	2
#define GUEST_BAD_SYSCALL		3
#define GUEST_BAD_LSTAR			4

#define GUEST_VECTOR	0x40	/* of the timer */
#define GUEST_TURN_VECTOR	0x41
#define GUEST_TIMER	300000	/* ticks of KVM's APIC bus, 1 ns each */
#define GUEST_LONG_TIMER (10 * GUEST_TIMER)
#define GUEST_CODE	0x8000

#ifndef __ASSEMBLER__
extern const char guest_start[], guest_end[], guest_irq[];
extern const char guest_syscall_1[], guest_syscall_2[];
#endif

#endif /* URET_GUEST_H */
