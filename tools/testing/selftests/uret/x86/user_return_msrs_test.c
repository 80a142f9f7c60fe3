// SPDX-License-Identifier: GPL-2.0-only
/*
 * User-return MSRs: user tasks must never see values of a guest, and a guest must never see
 * values of another guest.
 *
 * The guests check their registers, see guest.S.
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

/* In seconds.  An emulated kernel with KASAN and lockdep is slow. */
#define TIMEOUT 300

static const struct {
	int op;
	const char *name;
} operations[] = {
	{ GUEST_PIO, "exit to user space" },
	{ GUEST_CPUID, "exit that the kernel handles" },
	{ GUEST_HLT, "HLT" },
	{ GUEST_WRMSR, "WRMSR in the guest" },
};

FIXTURE(user_return_msrs) {
	int cpu;
	struct vm vm;
};

FIXTURE_SETUP(user_return_msrs)
{
	const char *error;

	if (access("/dev/kvm", R_OK | W_OK))
		SKIP(return, "no /dev/kvm");
	self->cpu = last_cpu();
	ASSERT_EQ(0, pin_to_cpu(self->cpu));
	host_init();
	ASSERT_EQ(0, vm_create(&self->vm, 1)) TH_LOG("%s", self->vm.error);
	error = host_check();
	ASSERT_EQ(NULL, error) TH_LOG("%s, before the first run", error);
}

FIXTURE_TEARDOWN(user_return_msrs)
{
	vm_destroy(&self->vm);
}

TEST_F_TIMEOUT(user_return_msrs, restored_after_exit, TIMEOUT)
{
	for (int i = 0; i < ARRAY_SIZE(operations); i++) {
		for (int j = 0; j < 50; j++) {
			const char *error;

			ASSERT_EQ(0, vm_run(&self->vm, operations[i].op, 1))
				TH_LOG("%s", self->vm.error);
			error = host_check();
			ASSERT_EQ(NULL, error) TH_LOG("%s, after %s", error, operations[i].name);
		}
	}
}

static volatile sig_atomic_t stop;

static void on_term(int nr)
{
	stop = 1;
}

/* Another task on the same CPU, which only checks its registers. */
static int other_task(void)
{
	signal(SIGTERM, on_term);
	host_init();
	while (!stop) {
		const char *error = host_check();

		if (error) {
			printf("# the other task: %s\n", error);
			return 1;
		}
	}
	return 0;
}

TEST_F_TIMEOUT(user_return_msrs, restored_for_other_task, TIMEOUT)
{
	long long fired = table_read(DEBUGFS "uret/cpus", self->cpu, "fired_other");
	const char *error;
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(other_task());

	/* The tick preempts both tasks, and the other task runs while the vCPU halts. */
	for (int i = 0; i < 20; i++) {
		EXPECT_EQ(0, vm_run(&self->vm, GUEST_CPUID, 2000)) TH_LOG("%s", self->vm.error);
		EXPECT_EQ(0, vm_run(&self->vm, GUEST_HLT, 10)) TH_LOG("%s", self->vm.error);
		EXPECT_EQ(0, vm_run(&self->vm, GUEST_PIO, 100)) TH_LOG("%s", self->vm.error);
		error = host_check();
		EXPECT_EQ(NULL, error) TH_LOG("%s", error);
	}
	kill(pid, SIGTERM);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	/* Check that the notifier has fired in the other task. */
	if (kvm_uses_uret())
		ASSERT_GT(table_read(DEBUGFS "uret/cpus", self->cpu, "fired_other"), fired);
}

struct runner {
	pthread_t thread;
	int cpu;
	int values;
	int op;
	const char *error;
	struct vm vm;
};

static void *run(void *arg)
{
	struct runner *runner = arg;

	pin_to_cpu(runner->cpu);
	host_init();
	if (vm_create(&runner->vm, runner->values)) {
		runner->error = runner->vm.error;
		return NULL;
	}
	for (int i = 0; i < 10 && !runner->error; i++) {
		if (vm_run(&runner->vm, runner->op, runner->op == GUEST_HLT ? 10 : 500))
			runner->error = runner->vm.error;
		else
			runner->error = host_check();
	}
	return NULL;
}

static const char *run_two(int cpu, int op, int values, int other_values)
{
	struct runner runners[] = {
		{ .cpu = cpu, .op = op, .values = values },
		{ .cpu = cpu, .op = op, .values = other_values },
	};
	static char error[128];

	for (int i = 0; i < 2; i++)
		pthread_create(&runners[i].thread, NULL, run, &runners[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(runners[i].thread, NULL);
	for (int i = 0; i < 2; i++) {
		if (runners[i].vm.mem)
			vm_destroy(&runners[i].vm);
		if (runners[i].error) {
			snprintf(error, sizeof(error), "%s", runners[i].error);
			return error;
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(user_return_msrs, separate_for_each_guest, TIMEOUT)
{
	for (int i = 0; i < ARRAY_SIZE(operations); i++) {
		for (int other = 1; other <= 2; other++) {
			const char *error = run_two(self->cpu, operations[i].op, 1, other);

			ASSERT_EQ(NULL, error) TH_LOG("%s, with %s", error, operations[i].name);
		}
	}
}

TEST_F_TIMEOUT(user_return_msrs, follow_migrating_vcpu, TIMEOUT)
{
	if (self->cpu == 0)
		SKIP(return, "only one CPU");
	for (int i = 0; i < 40; i++) {
		const char *error;

		ASSERT_EQ(0, pin_to_cpu(i % 2 ? self->cpu : 0));
		host_init();
		ASSERT_EQ(0, vm_run(&self->vm, operations[i % ARRAY_SIZE(operations)].op, 5))
			TH_LOG("%s", self->vm.error);
		error = host_check();
		ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	}
	for (int cpu = 0; kvm_uses_uret() && cpu <= self->cpu; cpu += self->cpu) {
		/* On the return of this task to user mode, the CPU restores all MSRs. */
		ASSERT_EQ(0, pin_to_cpu(cpu));
		EXPECT_EQ(0, table_read(DEBUGFS "uret/cpus", cpu, "dirty"));
		EXPECT_EQ(0, table_read(DEBUGFS "uret/cpus", cpu, "armed"));
	}
}

TEST_F_TIMEOUT(user_return_msrs, restores_are_counted, TIMEOUT)
{
	long long fired;

	if (!kvm_uses_uret())
		SKIP(return, "kvm is loaded with uret=0");
	fired = table_read(DEBUGFS "uret/cpus", self->cpu, "fired");
	ASSERT_EQ(0, vm_run(&self->vm, GUEST_PIO, 100)) TH_LOG("%s", self->vm.error);
	/* At least one MSR differs, so that each return to user mode restores. */
	ASSERT_GE(table_read(DEBUGFS "uret/cpus", self->cpu, "fired"), fired + 100);
}

TEST_HARNESS_MAIN
