/* SPDX-License-Identifier: GPL-2.0-only */
/* Reads the segment registers of a thread from a core dump. */
#ifndef URET_FSGS_CORE_H
#define URET_FSGS_CORE_H

#include "fsgs.h"

/*
 * fsgs_from_core() - find the segment registers of a thread in a core dump
 * @path: the file
 * @tid: the thread
 * @regs: set to the registers
 *
 * Return: 1, or 0 if the core dump has no such thread.
 */
int fsgs_from_core(const char *path, int tid, struct fsgs_regs *regs);

#endif /* URET_FSGS_CORE_H */
