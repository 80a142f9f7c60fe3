/* SPDX-License-Identifier: GPL-2.0-only */
/* Helpers for all tests, such as reading the debugfs files of uret. */
#ifndef URET_COMMON_H
#define URET_COMMON_H

#include <stdbool.h>

#define DEBUGFS "/sys/kernel/debug/"

/* Also defined by kselftest.h. */
#ifndef ARRAY_SIZE
#define ARRAY_SIZE(arr) (sizeof(arr) / sizeof((arr)[0]))
#endif

/*
 * table_read() - read a number from a table
 * @path: a file with the names of the columns in the first line
 * @row: the number in the first column
 * @column: the name of the column
 *
 * Return: the number, or -1 on failure.
 */
long long table_read(const char *path, int row, const char *column);

/* As table_read(), by one system call on an open file. */
long long table_pread(int fd, int row, const char *column);

/* Return: true if KVM is loaded with uret=1. */
bool kvm_uses_uret(void);

/* Write to a file. Return: 0 or -errno. */
int write_file(const char *path, const char *text);

/* Print the name of the program and a message, and exit with status 1. */
void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...);

/* Return: the time of CLOCK_MONOTONIC, in ns. */
long long now_ns(void);

/*
 * set_priority() - make this thread a real-time thread, or exit
 *
 * A real-time thread runs until the thread sleeps, or a thread of higher priority wakes up.
 */
void set_priority(int priority);

/* Pin this thread to a CPU. Return: 0 or -1. */
int pin_to_cpu(int cpu);

/* Return: the highest CPU that is online. */
int last_cpu(void);

#endif /* URET_COMMON_H */
