/* SPDX-License-Identifier: GPL-2.0-only */
/* Descriptors of segments that a task may have. */
#ifndef URET_FSGS_DESC_H
#define URET_FSGS_DESC_H

#include <asm/ldt.h>

/* The first of a task's own in the GDT of a 64-bit kernel: see asm/segment.h there. */
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
 * fsgs_set_tls() - set the task's descriptor in the GDT
 * @base: where the segment begins
 * @low: a place below 4 GiB for the kernel to read it from
 *
 * There is no such system call for 64-bit tasks, but they can use that of 32-bit ones.
 *
 * Return: 0, or a negative error.
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
