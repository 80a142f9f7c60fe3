/* SPDX-License-Identifier: GPL-2.0-only */
/* Definitions for fsgs_stress_test and its tasks, which may be 32-bit. */
#ifndef URET_FSGS_H
#define URET_FSGS_H

/* The file descriptor of the memory that a task shares with fsgs_stress_test. */
#define FSGS_FD	3

#define FSGS_MESSAGE	240

enum fsgs_command {
	FSGS_GO,
	FSGS_REST,	/* as FSGS_GO, but sleep most of the time */
	FSGS_STOP,
	FSGS_CRASH,
};

/* A port without a device, for tasks with an I/O bitmap. */
#define FSGS_PORT	0x80

/*
 * struct fsgs_regs - the segment registers of a task
 *
 * The bases are the effective bases, also of segments with a descriptor.  A debugger sees 0 for a
 * 32-bit task.
 */
struct fsgs_regs {
	unsigned int fs, gs, ds, es;
	unsigned long long fs_base, gs_base;
};

/*
 * struct fsgs_shared - the memory that a task shares with fsgs_stress_test
 * @changing: odd while the task changes its registers and @expected
 * @command: FSGS_*, set by fsgs_stress_test
 * @expected: the expected registers of the task
 * @checks: the number of checks
 * @signals: the number of signals handled
 * @forks: the number of children
 * @tid: the thread with the registers
 * @gdt_limit: the expected limit of the GDT, or 0 if user mode cannot read the limit
 * @ptrace_writes: how often fsgs_stress_test has changed the GS base by ptrace
 * @is_32bit: whether the task is a 32-bit task
 * @failed: whether a check has failed
 * @message: the message of the first failed check
 */
struct fsgs_shared {
	unsigned int changing;
	unsigned int command;
	struct fsgs_regs expected;
	unsigned long long checks;
	unsigned long long signals;
	unsigned long long forks;
	unsigned int tid;
	unsigned int gdt_limit;
	unsigned int ptrace_writes;
	unsigned int is_32bit;
	unsigned int failed;
	char message[FSGS_MESSAGE];
};

#endif /* URET_FSGS_H */
