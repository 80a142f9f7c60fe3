/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory that guest_regs.S and the VM in regs_vm.c share: three arrays of registers. */
#ifndef URET_GUEST_REGS_H
#define URET_GUEST_REGS_H

/* MSRs in the order of the table in guest_regs.S, then the selectors. */
#define GUEST_FS_BASE		0
#define GUEST_GS_BASE		1
#define GUEST_KERNEL_GS_BASE	2
#define GUEST_STAR		3
#define GUEST_LSTAR		4
#define GUEST_CSTAR		5
#define GUEST_FMASK		6
#define GUEST_SYSENTER_CS	7
#define GUEST_SYSENTER_ESP	8
#define GUEST_SYSENTER_EIP	9
#define GUEST_NR_MSRS		10
#define GUEST_FS		10
#define GUEST_GS		11
#define GUEST_LDTR		12
#define GUEST_TR		13
#define GUEST_NR_REGS		14

#define GUEST_FOUND	0
#define GUEST_SET	(8 * GUEST_NR_REGS)
#define GUEST_KEPT	(2 * 8 * GUEST_NR_REGS)

#ifndef __ASSEMBLER__
#include <stdint.h>

struct guest_regs {
	uint64_t found[GUEST_NR_REGS];	/* the values at the start */
	uint64_t set[GUEST_NR_REGS];	/* the values for the guest to set */
	uint64_t kept[GUEST_NR_REGS];	/* the values at the end */
};

extern const char guest_regs_start[], guest_regs_end[];
#endif

#endif /* URET_GUEST_REGS_H */
