// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

static int column_of(const char *header, const char *column)
{
	size_t len = strlen(column);

	for (int i = 0; ; i++) {
		size_t word = strcspn(header, "\n ");

		if (word == len && !strncmp(header, column, len))
			return i;
		if (header[word] != ' ')
			return -1;
		header += word + 1;
	}
}

long long table_pread(int fd, int row, const char *column)
{
	char buf[16384], *line, *word;
	ssize_t len = pread(fd, buf, sizeof(buf) - 1, 0);
	int index;

	if (len <= 0)
		return -1;
	buf[len] = '\0';
	index = column_of(buf, column);
	if (index < 0)
		return -1;

	for (line = strchr(buf, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
		if (strtol(line + 1, &word, 0) != row)
			continue;
		if (!index)
			return row;
		for (int i = 1; i < index && word; i++)
			word = strchr(word + 1, ' ');
		return word ? strtoll(word, NULL, 0) : -1;
	}
	return -1;
}

long long table_read(const char *path, int row, const char *column)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long long value;

	if (fd < 0)
		return -1;
	value = table_pread(fd, row, column);
	close(fd);
	return value;
}

bool kvm_uses_uret(void)
{
	int fd = open("/sys/module/kvm/parameters/uret", O_RDONLY | O_CLOEXEC);
	char c = 'N';

	if (fd < 0)
		return false;
	if (read(fd, &c, 1) != 1)
		c = 'N';
	close(fd);
	return c == 'Y';
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, fmt, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

long long now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

void set_priority(int priority)
{
	struct sched_param param = { .sched_priority = priority };

	if (sched_setscheduler(0, SCHED_FIFO, &param))
		die("cannot become a real-time task: %s", strerror(errno));
}

int pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

int last_cpu(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) - 1;
}
