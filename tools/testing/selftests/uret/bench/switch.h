/* SPDX-License-Identifier: GPL-2.0-only */
/* The scenarios of switch_perf_test; see switch_perf_test.c for the measurement. */
#ifndef URET_SWITCH_H
#define URET_SWITCH_H

#include <pthread.h>
#include <stdbool.h>

#include "vm.h"

#define MAX_WORKERS	64

/*
 * A real-time thread on the measured CPU, which executes operations on demand. For
 * each operation, one of the workers of a scenario, or its guest, executes marker('O').
 */
struct worker {
	struct bench *bench;
	pthread_t thread;
	int (*work)(struct worker *worker, unsigned long operations);
	/* The VM, if the worker runs a guest. */
	struct vm vm;
	/* GUEST_* for a worker that runs a guest, the CPU for a waker. */
	int op;
	/* The eventfds or files of workers without a guest. */
	int in, out;
	char command[64];
	/* An error message, or NULL. */
	const char *error;
};

struct bench {
	int cpu;
	int nr_workers;
	/* The workers that mark operations, or have guests that do.  Each marks an equal share. */
	int nr_marking;
	struct worker workers[MAX_WORKERS];
	/* The number of operations of each worker in this round, or 0 to end the threads. */
	unsigned long operations;
	pthread_barrier_t barrier;
};

/*
 * bench_setup() - prepare a scenario
 * @bench: zeroed, except for the CPU
 * @name: NAME, NAME:N or NAME:K/N
 *
 * Return: 0, or -1 after an error message.
 */
int bench_setup(struct bench *bench, const char *name);

/*
 * bench_ready() - do the part of the setup that must run in the thread of the worker
 *
 * Return: 0, or -1 with an error message in worker->vm.error.
 */
int bench_ready(struct worker *worker);

/* Undo bench_setup(), after all threads have ended. */
void bench_teardown(struct bench *bench);

/* Print the names of all scenarios, with descriptions. */
void bench_list(void);

#endif /* URET_SWITCH_H */
