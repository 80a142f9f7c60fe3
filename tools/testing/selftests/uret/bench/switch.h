/* SPDX-License-Identifier: GPL-2.0-only */
/* What is measured, and how it is run; see bench.c for the measuring. */
#ifndef URET_BENCH_H
#define URET_BENCH_H

#include <pthread.h>
#include <stdbool.h>

#include "vm.h"

#define MAX_WORKERS	64

/*
 * A real-time thread on the measured CPU that does operations when it is told
 * to. At each operation one of a scenario's workers, or their guests, executes
 * marker('O').
 */
struct worker {
	struct bench *bench;
	pthread_t thread;
	int (*work)(struct worker *worker, unsigned long operations);
	/* A guest, and what it does, if it is one. */
	struct vm vm;
	int what;
	/* Eventfds or files that the work is done with. */
	int in, out;
	char command[64];
	/* What went wrong, or NULL. */
	const char *wrong;
};

struct bench {
	int cpu;
	int nr_workers;
	/* How many of them, or of their guests, mark operations: each its share. */
	int nr_marking;
	struct worker workers[MAX_WORKERS];
	/* How often to do it now, for each of the workers; 0 to end. */
	unsigned long operations;
	pthread_barrier_t barrier;
};

/*
 * bench_setup() - prepare a scenario
 * @bench: zeroed, but for the CPU
 * @name: NAME, NAME:N or NAME:K/N
 *
 * Return: 0, or -1 after saying why.
 */
int bench_setup(struct bench *bench, const char *name);

/*
 * bench_ready() - prepare what needs to be done in the worker's own thread
 *
 * Return: 0, or -1 with worker->wrong saying why.
 */
int bench_ready(struct worker *worker);

/* Undoes bench_setup(), when the threads have ended. */
void bench_teardown(struct bench *bench);

/* Prints the names of all scenarios, and what they are. */
void bench_list(void);

#endif /* URET_BENCH_H */
