/* SPDX-License-Identifier: GPL-2.0-only */
/* What a user task can see of the registers that uret switches. */
#ifndef URET_HOST_H
#define URET_HOST_H

#include <stdint.h>

/* Pins this task to a CPU. Return: 0 or -1. */
int host_pin(int cpu);

/* Returns the highest CPU that is online. */
int host_last_cpu(void);

/*
 * host_init() - remember what this task's registers are
 *
 * To be called once per thread, when it is pinned.
 */
void host_init(void);

/*
 * host_check() - check that this task's registers are its own
 *
 * Uses SYSCALL, RDTSCP, and the FS and GS bases; and reads the MSRs themselves,
 * on this CPU, where there is /dev/cpu/N/msr.
 *
 * Return: NULL, or what is wrong.
 */
const char *host_check(void);

#endif /* URET_HOST_H */
