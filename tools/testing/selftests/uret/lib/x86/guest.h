/* SPDX-License-Identifier: GPL-2.0-only */
/* What the guest program and its VM have to agree on. */
#ifndef URET_GUEST_H
#define URET_GUEST_H

/* What the guest does. */
#define GUEST_PIO	0	/* an exit to user space */
#define GUEST_CPUID	1	/* an exit that the kernel handles */
#define GUEST_HLT	2	/* idle, until its timer wakes it */
#define GUEST_TURN	3	/* wake the other guest, idle until that one does */
#define GUEST_TURN_2	4	/* the same for the other guest: the other way round */
#define GUEST_WRMSR	5	/* set some of these registers, and set them back */

#define GUEST_PORT_OP	0x10
#define GUEST_PORT_DONE	0x11
#define GUEST_PORT_BAD	0x12
#define GUEST_PORT_TURN	0x13	/* handled by the kernel, see vm_connect() */

#define GUEST_BAD_TSC_AUX		1
#define GUEST_BAD_KERNEL_GS_BASE	2
#define GUEST_BAD_SYSCALL		3

#define GUEST_VECTOR	0x40	/* of its timer */
#define GUEST_TURN_VECTOR	0x41
#define GUEST_TIMER	300000	/* ticks of KVM's APIC bus, 1 ns each */
#define GUEST_LONG_TIMER (10 * GUEST_TIMER)
#define GUEST_CODE	0x8000

#ifndef __ASSEMBLER__
extern const char guest_start[], guest_end[], guest_irq[];
extern const char guest_syscall_1[], guest_syscall_2[];
#endif

#endif /* URET_GUEST_H */
