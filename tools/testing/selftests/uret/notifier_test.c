// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of user-return notifiers, with the counters of the module uret_sample_notifier.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "common.h"

#define SAMPLE	DEBUGFS "uret_sample_notifier/"
#define CALLS	50
#define TRIES	200
/* Far fewer than CALLS, to detect a notifier that fires twice or never. */
#define MAX_IRQS 5

FIXTURE(notifier) {
	int cpu;
	int fd;
};

FIXTURE_SETUP(notifier)
{
	if (access(SAMPLE, F_OK) && system("modprobe -q uret_sample_notifier"))
		SKIP(return, "no module uret_sample_notifier, or not root");
	self->cpu = last_cpu();
	ASSERT_EQ(0, pin_to_cpu(self->cpu));
	self->fd = open(SAMPLE "returns", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(0, write_file(SAMPLE "armed", "1"));
}

FIXTURE_TEARDOWN(notifier)
{
	pin_to_cpu(self->cpu);
	write_file(SAMPLE "armed", "0");
	close(self->fd);
}

static long long returns(int fd, int cpu)
{
	return table_pread(fd, cpu, "returns");
}

static long long other_task(int fd, int cpu)
{
	return table_pread(fd, cpu, "other_task");
}

/* Return: the sum of all interrupts of a CPU. */
static long long irqs_of(int cpu)
{
	long long sum = 0;
	char line[1024];
	FILE *file;

	file = fopen("/proc/interrupts", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		char *pos = strchr(line, ':');
		long long count = 0;

		if (!pos)
			continue;
		pos++;
		for (int i = 0; i <= cpu; i++)
			count = strtoll(pos, &pos, 10);
		sum += count;
	}
	fclose(file);
	return sum;
}

static void system_calls(int nr)
{
	while (nr--)
		syscall(SYS_getpid);
}

/* Return: the page faults of this task, which return to user mode, but are not interrupts. */
static long faults(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		return -1;
	return usage.ru_minflt + usage.ru_majflt;
}

/* Causes of further returns to user mode in an interval. */
struct disturbance {
	long long irqs;
	long faults;
};

static bool is_small(const struct disturbance *disturbance)
{
	return disturbance->irqs <= MAX_IRQS && !disturbance->faults;
}

/*
 * Count the returns to user mode for CALLS system calls.  Accept one more return for each
 * interrupt, as a slow machine has no interval without interrupts.
 */
static long long count_returns(int fd, int cpu, struct disturbance *disturbance)
{
	long long before, after;

	disturbance->irqs = irqs_of(cpu);
	disturbance->faults = faults();
	before = returns(fd, cpu);
	system_calls(CALLS);
	after = returns(fd, cpu);
	disturbance->faults = faults() - disturbance->faults;
	disturbance->irqs = irqs_of(cpu) - disturbance->irqs;
	/* The read of the first number returns to user mode, too. */
	after -= before + 1;
	return after > CALLS && after <= CALLS + disturbance->irqs ? CALLS : after;
}

/*
 * As count_returns(), in an interval with few interrupts, in which no other task ran, and this
 * task had no page fault.
 */
static long long count_undisturbed(int fd, int cpu)
{
	for (int i = 0; i < TRIES; i++) {
		long long others = other_task(fd, cpu);
		struct disturbance disturbance;
		long long count = count_returns(fd, cpu, &disturbance);

		if (is_small(&disturbance) && other_task(fd, cpu) == others)
			return count;
	}
	return -1;
}

TEST_F(notifier, fires_exactly_once_per_return)
{
	ASSERT_EQ(CALLS, count_undisturbed(self->fd, self->cpu));
}

TEST_F(notifier, does_not_fire_when_disarmed)
{
	long long before;

	ASSERT_EQ(0, write_file(SAMPLE "armed", "0"));
	before = returns(self->fd, self->cpu);
	system_calls(CALLS);
	ASSERT_EQ(before, returns(self->fd, self->cpu));
}

TEST_F(notifier, cannot_be_armed_twice)
{
	ASSERT_EQ(-EBUSY, write_file(SAMPLE "armed", "1"));
	/* The notifier still fires once per return. */
	ASSERT_EQ(CALLS, count_undisturbed(self->fd, self->cpu));
}

TEST_F(notifier, rejects_invalid_input)
{
	ASSERT_EQ(-EINVAL, write_file(SAMPLE "armed", "x"));
	ASSERT_EQ(1, table_pread(self->fd, self->cpu, "armed"));
}

TEST_F(notifier, does_not_fire_for_kernel_threads_or_idle)
{
	for (int i = 0; i < 20; i++)
		usleep(5000);
	ASSERT_EQ(0, table_pread(self->fd, self->cpu, "kernel_thread"));
	ASSERT_EQ(CALLS, count_undisturbed(self->fd, self->cpu));
}

TEST_F(notifier, follows_the_cpu_to_another_task)
{
	long long before = other_task(self->fd, self->cpu);
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		system_calls(CALLS);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_GE(other_task(self->fd, self->cpu), before + CALLS);
	/* The notifier also fires for this task again. */
	ASSERT_EQ(CALLS, count_undisturbed(self->fd, self->cpu));
}

TEST_F(notifier, does_not_follow_the_task_to_another_cpu)
{
	long long there, here;

	if (self->cpu == 0)
		SKIP(return, "only one CPU");
	ASSERT_EQ(0, pin_to_cpu(0));
	there = returns(self->fd, self->cpu);
	here = returns(self->fd, 0);
	system_calls(CALLS);
	ASSERT_EQ(here, returns(self->fd, 0));
	/* Other tasks may run there, but return less often. */
	ASSERT_LT(returns(self->fd, self->cpu), there + CALLS);
	ASSERT_EQ(0, pin_to_cpu(self->cpu));
	ASSERT_EQ(CALLS, count_undisturbed(self->fd, self->cpu));
}

static volatile int signals;

static void on_signal(int nr)
{
	signals++;
}

TEST_F(notifier, survives_signals)
{
	signal(SIGUSR1, on_signal);
	for (int i = 0; i < 20; i++)
		raise(SIGUSR1);
	ASSERT_EQ(20, signals);
	ASSERT_EQ(CALLS, count_undisturbed(self->fd, self->cpu));
}

/* Arm in a child that ends by exit or exec, and check that the notifier still fires. */
static const char *arm_in_child(int fd, int cpu, bool exec)
{
	static char message[64];
	int status;
	pid_t pid;

	if (write_file(SAMPLE "armed", "0"))
		return "cannot disarm the notifier";
	pid = fork();
	if (!pid) {
		if (write_file(SAMPLE "armed", "1"))
			_exit(127);
		if (exec)
			execl("/proc/self/exe", "notifier_test", "-l", NULL);
		_exit(exec ? 127 : 0);
	}
	if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) == 127)
		return "the child cannot arm the notifier";
	if (table_pread(fd, cpu, "armed") != 1)
		return "expected an armed notifier, got a disarmed one";

	/* No return from now on is of the task that armed the notifier. */
	for (int i = 0; i < TRIES; i++) {
		struct disturbance disturbance;
		long long count = count_returns(fd, cpu, &disturbance);

		if (!is_small(&disturbance))
			continue;
		if (count == CALLS)
			return NULL;
		snprintf(message, sizeof(message), "expected %d calls of the notifier, got %lld",
			 CALLS, count);
		return message;
	}
	return "expected an interval with few interrupts, got none";
}

TEST_F(notifier, survives_fork)
{
	int status;
	pid_t pid;

	for (int i = 0; i < 5; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			_exit(0);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
	}
	ASSERT_EQ(CALLS, count_undisturbed(self->fd, self->cpu));
}

TEST_F(notifier, survives_exec_of_the_task_that_armed_it)
{
	const char *error = arm_in_child(self->fd, self->cpu, true);

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
}

TEST_F(notifier, survives_exit_of_the_task_that_armed_it)
{
	const char *error = arm_in_child(self->fd, self->cpu, false);

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
}

TEST_HARNESS_MAIN
