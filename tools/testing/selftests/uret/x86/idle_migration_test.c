// SPDX-License-Identifier: GPL-2.0-only
/*
 * A sleeping vCPU wakes up on another CPU while the old CPU is idle.  On SVM the wake-up must
 * need no IPI, and on VMX one IPI, which clears the VMCS, as with stock KVM.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "common.h"
#include "guest.h"
#include "migration.h"

#define TIMEOUT		600

/* The number of migrations: MIGRATIONS in the environment, or 1000. */
static int nr_migrations = 1000;

/* IPIs for other reasons, such as a change of the clock source. */
#define SLACK		(nr_migrations / 20)

#define QUEUED	"/sys/kernel/tracing/events/csd/csd_queue_cpu/"
#define BY_FUNC	"hist:keys=func.sym"

/*
 * The scheduler wakes tasks on the other CPU, such as the RCU thread for the grace period
 * of sched_setaffinity(), and kicks the idle load balancer.  The number depends on the
 * phase of the ticks.
 */
static const char *const scheduler_calls[] = { "sched_ttwu_pending", "nohz_csd_func" };

/*
 * Print the calls queued to another CPU since the setup, by function.  Each function call
 * interrupt has at least one queued call.
 *
 * Return: The number of calls without those of the scheduler, or -1.
 */
static long long calls(void)
{
	FILE *file = fopen(QUEUED "hist", "r");
	long long sum = 0, count;
	char line[512];

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		char *at = strstr(line, "hitcount:");
		bool scheduler = false;

		if (!at || sscanf(at, "hitcount: %lld", &count) != 1)
			continue;
		fprintf(stderr, "# %s", line);
		for (int i = 0; i < ARRAY_SIZE(scheduler_calls); i++)
			scheduler |= !!strstr(line, scheduler_calls[i]);
		if (!scheduler)
			sum += count;
	}
	fclose(file);
	return sum;
}

/* Return: the number of function call interrupts on all CPUs. */
static long long function_calls(void)
{
	FILE *file = fopen("/proc/interrupts", "r");
	long long sum = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		char *at = strstr(line, "CAL:");
		int used;

		if (!at)
			continue;
		at += 4;
		for (long long n; sscanf(at, "%lld%n", &n, &used) == 1; at += used)
			sum += n;
	}
	if (file)
		fclose(file);
	return sum;
}

/* Return: the sum of a column of uret/fsgs over both CPUs. */
static long long counted(const char *column)
{
	return table_read(DEBUGFS "uret/fsgs", 0, column) +
	       table_read(DEBUGFS "uret/fsgs", 1, column);
}

static void *run_vcpu(void *arg)
{
	struct migration *m = arg;

	m->tid = syscall(SYS_gettid);
	if (vm_run(&m->vm, GUEST_TURN_2, nr_migrations))
		m->error = m->vm.error;
	return NULL;
}

/*
 * Run the waker as a real-time task.  Otherwise the vCPU may preempt the waker that sent the
 * wake-up, and leave the CPU to the waker instead of to the idle task.
 */
static void wake(struct migration *m, int cpu)
{
	set_priority(1);
	migration_wake(m, cpu, nr_migrations);
}

static void *waker_0(void *arg)
{
	wake(arg, 0);
	return NULL;
}

static void *waker_1(void *arg)
{
	wake(arg, 1);
	return NULL;
}

FIXTURE(idle_migration) {
	struct migration m;
	bool svm;
};

FIXTURE_SETUP(idle_migration)
{
	if (last_cpu() != 1)
		SKIP(return, "only one CPU, or more than two");
	if (getenv("MIGRATIONS"))
		nr_migrations = atoi(getenv("MIGRATIONS"));
	ASSERT_LE(100, nr_migrations);
	self->svm = !access("/sys/module/kvm_amd", F_OK);
	/* Disable polling, so that the CPU of a halted vCPU goes idle. */
	ASSERT_EQ(0, write_file("/sys/module/kvm/parameters/halt_poll_ns", "0"));
	ASSERT_EQ(0, write_file(QUEUED "trigger", BY_FUNC));
	ASSERT_EQ(0, pin_to_cpu(0));
	ASSERT_EQ(0, migration_create(&self->m)) TH_LOG("%s", self->m.vm.error);
}

FIXTURE_TEARDOWN(idle_migration)
{
	migration_destroy(&self->m);
	write_file(QUEUED "trigger", "!" BY_FUNC);
}

TEST_F_TIMEOUT(idle_migration, takes_no_more_ipis_than_stock, TIMEOUT)
{
	struct migration *m = &self->m;
	long long cal, before, ipis, taken, flushed;
	pthread_t vcpu, wakers[2];

	ASSERT_EQ(0, pthread_create(&vcpu, NULL, run_vcpu, m));
	usleep(200000);
	migration_start(m);
	ASSERT_EQ(0, pthread_create(&wakers[0], NULL, waker_0, m));
	ASSERT_EQ(0, pthread_create(&wakers[1], NULL, waker_1, m));
	usleep(500000);
	before = calls();
	ASSERT_LE(0, before);
	cal = function_calls();
	taken = counted("taken");
	flushed = counted("flushed");
	pthread_join(wakers[0], NULL);
	pthread_join(wakers[1], NULL);
	ipis = calls();
	ASSERT_LE(0, ipis);
	ipis -= before;
	cal = function_calls() - cal;
	taken = counted("taken") - taken;
	flushed = counted("flushed") - flushed;
	ASSERT_EQ(NULL, m->error) TH_LOG("%s", m->error);
	pthread_join(vcpu, NULL);
	ASSERT_EQ(NULL, m->error) TH_LOG("%s", m->error);

	TH_LOG("%d migrations: %lld calls, CAL %lld, %lld taken, %lld flushed", nr_migrations,
	       ipis, cal, taken, flushed);
	ASSERT_LE(ipis, (self->svm ? 0 : nr_migrations) + SLACK);
	/* On VMX, each migration clears a VMCS by a call. */
	ASSERT_GE(ipis, self->svm ? 0 : nr_migrations - SLACK);
	if (!kvm_uses_uret())
		return;
	/* The old CPU had the state of the vCPU: SVM takes, and VMX flushes the state. */
	ASSERT_GE(self->svm ? taken : flushed, nr_migrations * 9 / 10);
	ASSERT_LE(self->svm ? flushed : taken, SLACK);
}

static void *run_two_turns(void *arg)
{
	struct migration *m = arg;

	m->tid = syscall(SYS_gettid);
	if (pin_to_cpu(1) || vm_run(&m->vm, GUEST_TURN_2, 2))
		m->error = m->vm.error;
	return NULL;
}

/* Return: 1 if CPU 1 has deferred state. */
static long long deferred(void)
{
	return table_read(DEBUGFS "uret/cpus", 1, "deferred");
}

/*
 * The vCPU leaves CPU 1, which runs no user task from then on.  The destruction of the last VM
 * must restore the state on CPU 1, as the next user task may come after notifiers are disabled.
 */
TEST_F_TIMEOUT(idle_migration, last_vm_restores_taken_state, TIMEOUT)
{
	struct migration *m = &self->m;
	uint64_t one = 1;
	pthread_t vcpu;
	cpu_set_t set;

	if (!self->svm || !kvm_uses_uret())
		SKIP(return, "uret=0, or VMX: SVM only");
	ASSERT_EQ(0, pthread_create(&vcpu, NULL, run_two_turns, m));
	usleep(300000);
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	ASSERT_EQ(0, sched_setaffinity(m->tid, sizeof(set), &set));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(sizeof(one), write(m->irq_fd, &one, sizeof(one)));
		usleep(100000);
	}
	pthread_join(vcpu, NULL);
	ASSERT_EQ(NULL, m->error) TH_LOG("%s", m->error);
	ASSERT_EQ(1, deferred());
	vm_destroy(&m->vm);
	ASSERT_EQ(0, deferred());
}

TEST_HARNESS_MAIN
