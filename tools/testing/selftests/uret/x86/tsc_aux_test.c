// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registry without KVM: the module uret_sample_tsc_aux.
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
	if (access(SAMPLE, F_OK) && system("modprobe -q uret_sample_tsc_aux"))
		SKIP(return, "no module uret_sample_tsc_aux, or kvm uses TSC_AUX");
	self->cpu = host_last_cpu();
	ASSERT_EQ(0, host_pin(self->cpu));
	host_init();
	ASSERT_EQ(NULL, host_check());
}

FIXTURE_TEARDOWN(tsc_aux)
{
}

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

TEST_F(tsc_aux, is_another_in_the_kernel_only)
{
	for (int i = 0; i < 50; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%d", 4711 + i);
		ASSERT_EQ(0, write_file(SAMPLE "value", text));
		ASSERT_EQ(NULL, host_check()) TH_LOG("%s", host_check());
		ASSERT_EQ(4711 + i, seen());
	}
}

TEST_F(tsc_aux, is_restored_only_where_it_differs)
{
	long long fired = table_read(DEBUGFS "uret/cpus", self->cpu, "fired");
	char text[16];

	ASSERT_EQ(0, write_file(SAMPLE "value", "4711"));
	ASSERT_EQ(fired + 1, table_read(DEBUGFS "uret/cpus", self->cpu, "fired"));
	/* The host's own value arms nothing. */
	snprintf(text, sizeof(text), "%d", self->cpu);
	ASSERT_EQ(0, write_file(SAMPLE "value", text));
	ASSERT_EQ(self->cpu, seen());
	ASSERT_EQ(fired + 1, table_read(DEBUGFS "uret/cpus", self->cpu, "fired"));
	ASSERT_EQ(0, table_read(DEBUGFS "uret/cpus", self->cpu, "armed"));
}

TEST_F(tsc_aux, is_the_hosts_for_a_child)
{
	int status;
	pid_t pid;

	for (int i = 0; i < 10; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			host_init();
			write_file(SAMPLE "value", "4712");
			_exit(host_check() ? 1 : 0);
		}
		ASSERT_EQ(0, write_file(SAMPLE "value", "4711"));
		ASSERT_EQ(NULL, host_check());
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
	}
}

TEST_HARNESS_MAIN
