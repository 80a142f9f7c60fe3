/* SPDX-License-Identifier: GPL-2.0-only */
/* A thread's segment registers, as a debugger sees them. */
#ifndef URET_FSGS_CORE_H
#define URET_FSGS_CORE_H

struct fsgs_regs {
	unsigned int fs, gs, ds, es;
	/* 0 for a 32-bit task. */
	unsigned long long fs_base, gs_base;
};

/*
 * fsgs_from_core() - find a thread's segment registers in a core dump
 * @path: the file
 * @tid: the thread
 * @regs: to be filled in
 *
 * Return: 1, or 0 if they are not there.
 */
int fsgs_from_core(const char *path, int tid, struct fsgs_regs *regs);

#endif /* URET_FSGS_CORE_H */
