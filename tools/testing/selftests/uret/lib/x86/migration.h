/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A vCPU that sleeps, and wakes on the other one of two CPUs in turn.
 *
 * A waker on each CPU is woken by its own timer, moves the sleeping vCPU to its CPU, and
 * sends an interrupt to the guest. So no wake-up takes an IPI, and only kernel threads run
 * on the CPU that the vCPU has left.
 */
#ifndef URET_MIGRATION_H
#define URET_MIGRATION_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "vm.h"

struct migration {
	struct vm vm;
	/* The vCPU's thread, which does GUEST_TURN_2 when the wakers start. */
	volatile pid_t tid;
	int irq_fd, turn_fd;
	/* Start a sample at each wake-up, see marker.h. */
	bool mark_wake_up;
	/* When the first turn is. */
	struct timespec start;
	/* What went wrong. */
	const char *volatile wrong;
};

/*
 * migration_create() - make the VM, and let its guest turn its APIC on
 *
 * Return: 0, or -1 with m->vm.error saying why.
 */
int migration_create(struct migration *m);

/* Sets the time of the first turn, for wakers that start in the next second. */
void migration_start(struct migration *m);

/*
 * migration_wake() - wake the vCPU on a CPU, every other turn
 * @m: made by migration_create()
 * @cpu: 0 or 1
 * @turns: how many there are, of both CPUs
 */
void migration_wake(struct migration *m, int cpu, int turns);

void migration_destroy(struct migration *m);

#endif /* URET_MIGRATION_H */
