/* SPDX-License-Identifier: GPL-2.0-only */
/* What several of the programs need, and reading what uret shows in debugfs. */
#ifndef URET_COMMON_H
#define URET_COMMON_H

#include <stdbool.h>

#define DEBUGFS "/sys/kernel/debug/"

/* kselftest.h has it, too. */
#ifndef ARRAY_SIZE
#define ARRAY_SIZE(arr) (sizeof(arr) / sizeof((arr)[0]))
#endif

/*
 * table_read() - read a number from a table
 * @path: a file whose first line names the columns
 * @row: the number in the first column
 * @column: the name of the column
 *
 * Return: the number, or -1.
 */
long long table_read(const char *path, int row, const char *column);

/* As table_read(), from a file that is open, by one system call. */
long long table_pread(int fd, int row, const char *column);

/* Whether KVM is loaded, and with uret=1. */
bool kvm_uses_uret(void);

/* Writes to a file. Return: 0 or -errno. */
int write_file(const char *path, const char *text);

/* Prints the program's name and a message, and exits with status 1. */
void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...);

/* Returns the time of CLOCK_MONOTONIC, in ns. */
long long now_ns(void);

/*
 * set_priority() - make this thread a real-time one, or exit
 *
 * Threads of a higher priority go on until they sleep.
 */
void set_priority(int priority);

#endif /* URET_COMMON_H */
