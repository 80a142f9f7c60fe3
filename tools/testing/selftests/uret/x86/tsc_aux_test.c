// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the registry without KVM, with the module uret_sample_tsc_aux.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "common.h"
#include "host.h"

#define SAMPLE	DEBUGFS "uret_sample_tsc_aux/"

FIXTURE(tsc_aux) {
	int cpu;
};

FIXTURE_SETUP(tsc_aux)
{
	const char *error;

	if (access(SAMPLE, F_OK) && system("modprobe -q uret_sample_tsc_aux"))
		SKIP(return, "no module uret_sample_tsc_aux, or kvm uses TSC_AUX");
	self->cpu = last_cpu();
	ASSERT_EQ(0, pin_to_cpu(self->cpu));
	host_init();
	error = host_check();
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
}

FIXTURE_TEARDOWN(tsc_aux)
{
}

/* Return: the TSC_AUX that the module has read in the kernel, or -1. */
static long long seen(void)
{
	FILE *file = fopen(SAMPLE "seen", "r");
	long long value = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%lld", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

TEST_F(tsc_aux, differs_only_in_kernel)
{
	for (int i = 0; i < 50; i++) {
		const char *error;
		char text[16];

		snprintf(text, sizeof(text), "%d", 4711 + i);
		ASSERT_EQ(0, write_file(SAMPLE "value", text));
		error = host_check();
		ASSERT_EQ(NULL, error) TH_LOG("%s", error);
		ASSERT_EQ(4711 + i, seen());
	}
}

TEST_F(tsc_aux, restored_only_if_changed)
{
	long long fired = table_read(DEBUGFS "uret/cpus", self->cpu, "fired");
	char text[16];

	ASSERT_EQ(0, write_file(SAMPLE "value", "4711"));
	ASSERT_EQ(fired + 1, table_read(DEBUGFS "uret/cpus", self->cpu, "fired"));
	/* The host's value does not arm the notifier. */
	snprintf(text, sizeof(text), "%d", self->cpu);
	ASSERT_EQ(0, write_file(SAMPLE "value", text));
	ASSERT_EQ(self->cpu, seen());
	ASSERT_EQ(fired + 1, table_read(DEBUGFS "uret/cpus", self->cpu, "fired"));
	ASSERT_EQ(0, table_read(DEBUGFS "uret/cpus", self->cpu, "armed"));
}

TEST_F(tsc_aux, restored_for_child)
{
	const char *error;
	int status;
	pid_t pid;

	for (int i = 0; i < 10; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			host_init();
			write_file(SAMPLE "value", "4712");
			error = host_check();
			if (error)
				TH_LOG("child: %s", error);
			_exit(error ? 1 : 0);
		}
		ASSERT_EQ(0, write_file(SAMPLE "value", "4711"));
		error = host_check();
		ASSERT_EQ(NULL, error) TH_LOG("%s", error);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
	}
}

TEST_HARNESS_MAIN
