// SPDX-License-Identifier: GPL-2.0-only
/*
 * No user task ever sees a guest's values, and no guest those of another.
 *
 * The guests check their registers themselves, see guest.S.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "common.h"
#include "guest.h"
#include "host.h"
#include "vm.h"

/* In seconds: a kernel with KASAN and lockdep, emulated, takes its time. */
#define TIMEOUT 300

static const struct {
	int what;
	const char *name;
} kinds[] = {
	{ GUEST_PIO, "an exit to user space" },
	{ GUEST_CPUID, "an exit that the kernel handles" },
	{ GUEST_HLT, "idle" },
	{ GUEST_WRMSR, "other values for a while" },
};

FIXTURE(values) {
	int cpu;
	struct vm vm;
};

FIXTURE_SETUP(values)
{
	if (access("/dev/kvm", R_OK | W_OK))
		SKIP(return, "no /dev/kvm");
	self->cpu = host_last_cpu();
	ASSERT_EQ(0, host_pin(self->cpu));
	host_init();
	ASSERT_EQ(0, vm_create(&self->vm, 1)) TH_LOG("%s", self->vm.error);
	ASSERT_EQ(NULL, host_check()) TH_LOG("%s, before all", host_check());
}

FIXTURE_TEARDOWN(values)
{
	vm_destroy(&self->vm);
}

TEST_F_TIMEOUT(values, are_the_hosts_after_each_exit, TIMEOUT)
{
	for (int kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		for (int i = 0; i < 50; i++) {
			const char *wrong;

			ASSERT_EQ(0, vm_run(&self->vm, kinds[kind].what, 1))
				TH_LOG("%s", self->vm.error);
			wrong = host_check();
			ASSERT_EQ(NULL, wrong) TH_LOG("%s, after %s", wrong, kinds[kind].name);
		}
	}
}

static volatile sig_atomic_t stop;

static void on_term(int nr)
{
	stop = 1;
}

/* Another task on the same CPU, that does nothing but check. */
static int bystander(void)
{
	signal(SIGTERM, on_term);
	host_init();
	while (!stop) {
		const char *wrong = host_check();

		if (wrong) {
			printf("# the other task: %s\n", wrong);
			return 1;
		}
	}
	return 0;
}

TEST_F_TIMEOUT(values, are_the_hosts_for_another_task, TIMEOUT)
{
	long long fired = table_read(DEBUGFS "uret/cpus", self->cpu, "fired_other");
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(bystander());

	/* The tick preempts the one, idle lets the other run. */
	for (int i = 0; i < 20; i++) {
		EXPECT_EQ(0, vm_run(&self->vm, GUEST_CPUID, 2000)) TH_LOG("%s", self->vm.error);
		EXPECT_EQ(0, vm_run(&self->vm, GUEST_HLT, 10)) TH_LOG("%s", self->vm.error);
		EXPECT_EQ(0, vm_run(&self->vm, GUEST_PIO, 100)) TH_LOG("%s", self->vm.error);
		EXPECT_EQ(NULL, host_check()) TH_LOG("%s", host_check());
	}
	kill(pid, SIGTERM);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	/* That this was put to the test at all, uret can tell. */
	if (kvm_uses_uret())
		ASSERT_GT(table_read(DEBUGFS "uret/cpus", self->cpu, "fired_other"), fired);
}

struct runner {
	pthread_t thread;
	int cpu;
	int values;
	int what;
	const char *wrong;
	struct vm vm;
};

static void *run(void *arg)
{
	struct runner *runner = arg;

	host_pin(runner->cpu);
	host_init();
	if (vm_create(&runner->vm, runner->values)) {
		runner->wrong = runner->vm.error;
		return NULL;
	}
	for (int i = 0; i < 10 && !runner->wrong; i++) {
		if (vm_run(&runner->vm, runner->what, runner->what == GUEST_HLT ? 10 : 500))
			runner->wrong = runner->vm.error;
		else
			runner->wrong = host_check();
	}
	return NULL;
}

static const char *run_two(int cpu, int what, int values, int other_values)
{
	struct runner runners[] = {
		{ .cpu = cpu, .what = what, .values = values },
		{ .cpu = cpu, .what = what, .values = other_values },
	};
	static char wrong[128];

	for (int i = 0; i < 2; i++)
		pthread_create(&runners[i].thread, NULL, run, &runners[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(runners[i].thread, NULL);
	for (int i = 0; i < 2; i++) {
		if (runners[i].vm.mem)
			vm_destroy(&runners[i].vm);
		if (runners[i].wrong) {
			snprintf(wrong, sizeof(wrong), "%s", runners[i].wrong);
			return wrong;
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(values, are_each_guests_own, TIMEOUT)
{
	for (int kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		for (int other = 1; other <= 2; other++) {
			const char *wrong = run_two(self->cpu, kinds[kind].what, 1, other);

			ASSERT_EQ(NULL, wrong) TH_LOG("%s, with %s", wrong, kinds[kind].name);
		}
	}
}

TEST_F_TIMEOUT(values, follow_a_vcpu_to_another_cpu, TIMEOUT)
{
	if (self->cpu == 0)
		SKIP(return, "only one CPU");
	for (int i = 0; i < 40; i++) {
		const char *wrong;

		ASSERT_EQ(0, host_pin(i % 2 ? self->cpu : 0));
		host_init();
		ASSERT_EQ(0, vm_run(&self->vm, kinds[i % ARRAY_SIZE(kinds)].what, 5))
			TH_LOG("%s", self->vm.error);
		wrong = host_check();
		ASSERT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	}
	for (int cpu = 0; kvm_uses_uret() && cpu <= self->cpu; cpu += self->cpu) {
		/* What is pinned here has nothing to leave behind. */
		ASSERT_EQ(0, host_pin(cpu));
		EXPECT_EQ(0, table_read(DEBUGFS "uret/cpus", cpu, "dirty"));
		EXPECT_EQ(0, table_read(DEBUGFS "uret/cpus", cpu, "armed"));
	}
}

TEST_F_TIMEOUT(values, are_counted, TIMEOUT)
{
	long long fired;

	if (!kvm_uses_uret())
		SKIP(return, "kvm is loaded with uret=0");
	fired = table_read(DEBUGFS "uret/cpus", self->cpu, "fired");
	ASSERT_EQ(0, vm_run(&self->vm, GUEST_PIO, 100)) TH_LOG("%s", self->vm.error);
	/* At least one register differs, so that each return restores. */
	ASSERT_GE(table_read(DEBUGFS "uret/cpus", self->cpu, "fired"), fired + 100);
}

TEST_HARNESS_MAIN
