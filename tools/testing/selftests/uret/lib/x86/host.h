/* SPDX-License-Identifier: GPL-2.0-only */
/* Checks of the registers that uret switches, as far as a user task can see them. */
#ifndef URET_HOST_H
#define URET_HOST_H

/*
 * host_init() - record the values of the registers of this thread
 *
 * Call once per thread, after pin_to_cpu().
 */
void host_init(void);

/*
 * host_check() - check that the registers of this thread have the values of host_init()
 *
 * Uses SYSCALL, RDTSCP, and the FS and GS bases, and reads the MSRs of this CPU from
 * /dev/cpu/N/msr.
 *
 * Return: NULL, or an error message, which is valid until the next failed check.
 */
const char *host_check(void);

#endif /* URET_HOST_H */
