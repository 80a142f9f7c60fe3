/* SPDX-License-Identifier: GPL-2.0-only */
/* What fsgs_stress_test and its tasks, which may be 32-bit, have to agree on. */
#ifndef URET_FSGS_H
#define URET_FSGS_H

/* A task's memory that fsgs_stress_test sees is behind this file descriptor. */
#define FSGS_FD	3

#define FSGS_MESSAGE	120

enum fsgs_command {
	FSGS_GO,
	FSGS_REST,	/* as FSGS_GO, but leave the CPU to others */
	FSGS_STOP,
	FSGS_CRASH,
};

/* Nothing listens there, but only a task with an I/O bitmap may tell. */
#define FSGS_PORT	0x80

/*
 * struct fsgs_claim - what a task has in its segment registers
 * @changing: odd while they and this are being changed
 * @command: what the task shall do next
 * @gdt_limit: the limit of the GDT, set by fsgs_stress_test, or 0 if a task cannot see it
 * @tid: whose they are
 * @pokes: how often a tracer has changed them
 * @what: a sentence about what was wrong, if something was
 *
 * The bases are what counts, also where they come from a descriptor.
 */
struct fsgs_claim {
	unsigned int changing;
	unsigned int command;
	unsigned long long fs_base;
	unsigned long long gs_base;
	unsigned int fs;
	unsigned int gs;
	unsigned int ds;
	unsigned int es;
	unsigned long long checks;
	unsigned long long signals;
	unsigned long long forks;
	unsigned int tid;
	unsigned int gdt_limit;
	unsigned int pokes;
	unsigned int is_32bit;
	unsigned int wrong;
	char what[FSGS_MESSAGE];
};

#endif /* URET_FSGS_H */
