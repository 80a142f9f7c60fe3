/* SPDX-License-Identifier: GPL-2.0-only */
/* Segment descriptors of the tasks. */
#ifndef URET_FSGS_DESC_H
#define URET_FSGS_DESC_H

#include <asm/ldt.h>

/* GDT_ENTRY_TLS_MIN of a 64-bit kernel, see arch/x86/include/asm/segment.h. */
#define FSGS_TLS_ENTRY		12
#define FSGS_TLS_SELECTOR	(FSGS_TLS_ENTRY << 3 | 3)

/* A data segment of 4 GiB. */
static inline struct user_desc fsgs_descriptor(int entry, unsigned long base)
{
	return (struct user_desc) {
		.entry_number = entry, .base_addr = base, .limit = 0xfffff,
		.seg_32bit = 1, .limit_in_pages = 1,
	};
}

/*
 * fsgs_set_tls() - set a descriptor of this task in the GDT
 * @base: the base of the segment
 * @low: a buffer below 4 GiB
 *
 * 64-bit tasks have no such system call, but can use the system call of 32-bit tasks.
 *
 * Return: 0, or a negative error number.
 */
static inline int fsgs_set_tls(unsigned long base, struct user_desc *low)
{
	int result = 243; /* __NR_set_thread_area */

	*low = fsgs_descriptor(FSGS_TLS_ENTRY, base);
	asm volatile("int $0x80" : "+a" (result) : "b" (low)
#ifdef __x86_64__
		     : "r8", "r9", "r10", "r11", "memory");
#else
		     : "memory");
#endif
	return result;
}

#endif /* URET_FSGS_DESC_H */
