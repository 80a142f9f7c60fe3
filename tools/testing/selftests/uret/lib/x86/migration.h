/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A vCPU that sleeps, and wakes up on CPU 0 and CPU 1 in turn.
 *
 * The waker of each CPU wakes up by a timer, moves the sleeping vCPU to the CPU of the waker,
 * and sends an interrupt to the guest.  No wake-up needs an IPI, and only kernel threads run on
 * the CPU that the vCPU has left.
 */
#ifndef URET_MIGRATION_H
#define URET_MIGRATION_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "vm.h"

struct migration {
	struct vm vm;
	/* The thread of the vCPU, which must run GUEST_TURN_2 when the wakers start. */
	volatile pid_t tid;
	int irq_fd, turn_fd;
	/* Start a sample at each wake-up, see marker.h. */
	bool mark_wake_up;
	/* The time of the first turn. */
	struct timespec start;
	/* An error message, or NULL. */
	const char *volatile error;
	char message[64];
};

/*
 * migration_create() - create the VM, and let the guest enable its APIC
 *
 * Return: 0, or -1 with an error message in m->vm.error.
 */
int migration_create(struct migration *m);

/* Set the time of the first turn to one second from now; start the wakers before that. */
void migration_start(struct migration *m);

/*
 * migration_wake() - wake the vCPU on a CPU at every other turn
 * @m: from migration_create()
 * @cpu: 0 or 1
 * @turns: the number of turns of both CPUs
 */
void migration_wake(struct migration *m, int cpu, int turns);

void migration_destroy(struct migration *m);

#endif /* URET_MIGRATION_H */
