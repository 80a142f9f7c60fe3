// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "switch.h"
#include "common.h"
#include "guest.h"
#include "host.h"
#include "marker.h"
#include "migration.h"

#define REGISTRY	"/sys/kernel/debug/uret_bench/run"

static int run_guest(struct worker *worker, unsigned long operations)
{
	int ret = vm_run(&worker->vm, worker->what, operations);

	if (ret)
		worker->wrong = worker->vm.error;
	return ret;
}

/* Wakes the guest that has woken it. */
static int run_user_task(struct worker *worker, unsigned long operations)
{
	uint64_t value = 1;

	for (unsigned long i = 0; i < operations; i++) {
		if (read(worker->in, &value, 8) != 8 || write(worker->out, &value, 8) != 8) {
			worker->wrong = "an eventfd does not work";
			return -1;
		}
	}
	return 0;
}

static int run_syscall(struct worker *worker, unsigned long operations)
{
	for (unsigned long i = 0; i <= operations; i++) {
		marker('O');
		syscall(SYS_getppid);
	}
	return 0;
}

static void yield(unsigned long times)
{
	for (unsigned long i = 0; i < times; i++) {
		syscall(SYS_sched_yield);
		marker('O');
	}
}

/* Two processes that give the CPU to each other. */
static int run_switches(struct worker *worker, unsigned long operations)
{
	pid_t child = fork();

	if (child < 0) {
		worker->wrong = "cannot fork";
		return -1;
	}
	if (!child) {
		for (;;)
			yield(1000);
	}
	/* The other one does as many, but for the first and the last. */
	yield(operations / 2 + 2);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}

static int write_command(struct worker *worker, const char *format, unsigned long times)
{
	char line[96];
	int len = snprintf(line, sizeof(line), format, worker->command, times);

	if (pwrite(worker->out, line, len, 0) == len)
		return 0;
	switch (errno) {
	case EIO:
		worker->wrong = "this CPU has fewer MSRs that can be used for it";
		break;
	case ENOSPC:
		worker->wrong = "there are fewer slots";
		break;
	case EOPNOTSUPP:
		worker->wrong = "this CPU does not have the instructions";
		break;
	default:
		worker->wrong = "uret_bench refuses: see the kernel's log";
	}
	return -1;
}

/* The module does it all, with markers of its own. */
static int run_sets(struct worker *worker, unsigned long operations)
{
	return write_command(worker, "%s %lu\n", operations);
}

/* The module makes slots dirty; what counts is the way from there to user mode. */
static int run_restores(struct worker *worker, unsigned long operations)
{
	for (unsigned long i = 0; i < operations; i++) {
		if (write_command(worker, "%s %lu\n", 1))
			return -1;
		marker('O');
	}
	return 0;
}

/* There is one, and all of its workers know when to start. */
static struct migration migration;
static pthread_barrier_t migration_barrier;

static int run_migrating_guest(struct worker *worker, unsigned long operations)
{
	int ret;

	migration.tid = syscall(SYS_gettid);
	migration_start(&migration);
	pthread_barrier_wait(&migration_barrier);
	ret = vm_run(&migration.vm, GUEST_TURN_2, operations);
	if (ret)
		worker->wrong = migration.vm.error;
	host_pin(worker->bench->cpu);
	return ret;
}

static int run_waker(struct worker *worker, unsigned long operations)
{
	pthread_barrier_wait(&migration_barrier);
	migration_wake(&migration, worker->what, operations);
	worker->wrong = migration.wrong;
	host_pin(worker->bench->cpu);
	return worker->wrong ? -1 : 0;
}

/* Adds a guest with the values of a set. */
static struct worker *add_guest(struct bench *bench, int what, int values)
{
	struct worker *worker = &bench->workers[bench->nr_workers];

	if (vm_create(&worker->vm, values)) {
		fprintf(stderr, "switch_perf_test: %s\n", worker->vm.error);
		return NULL;
	}
	worker->vm.lean = true;
	worker->what = what;
	worker->work = run_guest;
	bench->nr_workers++;
	return worker;
}

static struct worker *add_worker(struct bench *bench,
				 int (*work)(struct worker *worker, unsigned long operations))
{
	struct worker *worker = &bench->workers[bench->nr_workers++];

	worker->work = work;
	worker->in = -1;
	worker->out = -1;
	return worker;
}

static int set_up_guest(struct bench *bench, int what)
{
	return add_guest(bench, what, 1) ? 0 : -1;
}

static int set_up_thread(struct bench *bench, int what)
{
	struct worker *guest = add_guest(bench, GUEST_TURN, 1);

	return guest && !vm_wake_by(&guest->vm, vm_turn_fd(&guest->vm), VM_IRQ_WORKER) ? 0 : -1;
}

static int set_up_user_task(struct bench *bench, int what)
{
	struct worker *guest = add_guest(bench, GUEST_TURN, 1);
	struct worker *task;

	if (!guest)
		return -1;
	bench->nr_marking = 1;
	task = add_worker(bench, run_user_task);
	task->in = vm_turn_fd(&guest->vm);
	task->out = eventfd(0, EFD_CLOEXEC);
	return task->in < 0 ? -1 : vm_wake_by(&guest->vm, task->out, VM_IRQ_MSI);
}

static int set_up_ring(struct bench *bench, int nr, bool differ)
{
	struct vm *vms[MAX_WORKERS];

	for (int i = 0; i < nr; i++) {
		struct worker *guest = add_guest(bench, i ? GUEST_TURN_2 : GUEST_TURN,
						 differ ? i + 1 : 1);

		if (!guest)
			return -1;
		vms[i] = &guest->vm;
	}
	return vm_connect_ring(vms, nr);
}

static int set_up_two(struct bench *bench, int differ)
{
	return set_up_ring(bench, 2, differ);
}

static int set_up_migration(struct bench *bench, int mark_wake_up)
{
	if (bench->cpu != 1) {
		fprintf(stderr, "switch_perf_test: this takes two CPUs\n");
		return -1;
	}
	if (migration_create(&migration)) {
		fprintf(stderr, "switch_perf_test: %s\n", migration.vm.error);
		return -1;
	}
	migration.vm.lean = true;
	migration.mark_wake_up = mark_wake_up;
	pthread_barrier_init(&migration_barrier, NULL, 3);
	bench->nr_marking = 1;
	add_worker(bench, run_migrating_guest);
	for (int cpu = 0; cpu < 2; cpu++)
		add_worker(bench, run_waker)->what = cpu;
	return 0;
}

/* With a VM that is there, but does not run, or with none. */
static int set_up_plain(struct bench *bench, int with_vm,
			int (*work)(struct worker *worker, unsigned long operations))
{
	struct worker *worker = add_worker(bench, work);

	return with_vm ? vm_create(&worker->vm, 1) : 0;
}

static int set_up_syscall(struct bench *bench, int with_vm)
{
	return set_up_plain(bench, with_vm, run_syscall);
}

static int set_up_switches(struct bench *bench, int with_vm)
{
	return set_up_plain(bench, with_vm, run_switches);
}

/* Gives the module a command, to which the number of times is added. */
static int set_up_registry(struct bench *bench, const char *command, int dirty, int slots)
{
	bool restore = !strcmp(command, "restore");
	struct worker *worker = add_worker(bench, restore ? run_restores : run_sets);

	worker->out = open(REGISTRY, O_WRONLY | O_CLOEXEC);
	if (worker->out < 0) {
		fprintf(stderr, "switch_perf_test: " REGISTRY ": %s: load uret_bench\n", strerror(errno));
		return -1;
	}
	snprintf(worker->command, sizeof(worker->command), "%s %d %d", command, dirty, slots);
	return 0;
}

static const struct scenario {
	const char *name;
	const char *what;
	int (*set_up)(struct bench *bench, int argument);
	int argument;
} scenarios[] = {
	{ "exit-to-user", "a PIO exit to user space and back", set_up_guest, GUEST_PIO },
	{ "exit-in-kernel", "a CPUID exit that the kernel handles", set_up_guest, GUEST_CPUID },
	{ "guest-idle-guest", "HLT to idle, woken by a timer", set_up_guest, GUEST_HLT },
	{ "guest-thread-guest", "HLT, woken by a kernel thread", set_up_thread },
	{ "guest-user-guest", "HLT, woken by another user task", set_up_user_task },
	{ "migrate-after-idle", "HLT, woken on the other one of two CPUs", set_up_migration },
	{ "wake-on-other-cpu", "the wake-up alone (counts only)", set_up_migration, true },
	{ "two-guests-equal", "a turn of two guests with equal values", set_up_two, false },
	{ "two-guests-different", "a turn of two guests with different values", set_up_two, true },
	{ "syscall", "getppid()", set_up_syscall },
	{ "context-switch", "sched_yield() to another process", set_up_switches },
	{ "syscall-beside-vm", "getppid() while there is a VM", set_up_syscall, true },
	{ "context-switch-beside-vm", "sched_yield() while there is a VM", set_up_switches, true },
};

static int set_up(struct bench *bench, const char *name)
{
	int k, n;

	for (int i = 0; i < ARRAY_SIZE(scenarios); i++)
		if (!strcmp(name, scenarios[i].name))
			return scenarios[i].set_up(bench, scenarios[i].argument);
	if (sscanf(name, "turns:%d", &n) == 1 && n > 0 && n <= MAX_WORKERS)
		return set_up_ring(bench, n, true);
	if (sscanf(name, "set-equal:%d", &n) == 1)
		return set_up_registry(bench, "equal", 0, n);
	if (sscanf(name, "set-new:%d", &n) == 1)
		return set_up_registry(bench, "new", n, n);
	if (sscanf(name, "restore:%d/%d", &k, &n) == 2)
		return set_up_registry(bench, "restore", k, n);
	if (!strcmp(name, "calibrate"))
		return set_up_registry(bench, "calibrate", 0, 0);
	fprintf(stderr, "switch_perf_test: no scenario \"%s\"; see bench -l\n", name);
	return -1;
}

int bench_setup(struct bench *bench, const char *name)
{
	int ret = set_up(bench, name);

	if (!bench->nr_marking)
		bench->nr_marking = bench->nr_workers;
	for (int i = 0; ret && i < bench->nr_workers; i++)
		if (bench->workers[i].vm.error[0])
			fprintf(stderr, "switch_perf_test: %s: %s\n", name, bench->workers[i].vm.error);
	return ret;
}

int bench_ready(struct worker *worker)
{
	/* This turns the APIC on, and the guest has been entered once. */
	return worker->work == run_guest && vm_run(&worker->vm, GUEST_HLT, 1) ? -1 : 0;
}

void bench_teardown(struct bench *bench)
{
	for (int i = 0; i < bench->nr_workers; i++) {
		struct worker *worker = &bench->workers[i];

		if (worker->work != run_guest && worker->out >= 0)
			close(worker->out);
	}
	for (int i = 0; i < bench->nr_workers; i++)
		if (bench->workers[i].vm.mem)
			vm_destroy(&bench->workers[i].vm);
	if (migration.vm.mem)
		migration_destroy(&migration);
}

void bench_list(void)
{
	for (int i = 0; i < ARRAY_SIZE(scenarios); i++)
		printf("%-22s %s\n", scenarios[i].name, scenarios[i].what);
	printf("%-22s %s\n", "turns:N", "a turn of N guests with different values");
	printf("%-22s %s\n", "set-equal:N", "N slots that have their values (module uret_bench)");
	printf("%-22s %s\n", "set-new:N", "N slots that get other values (uret_bench)");
	printf("%-22s %s\n", "restore:K/N", "return to user mode, K of N slots dirty (uret_bench)");
	printf("%-22s %s\n", "calibrate", "instructions that are known (uret_bench)");
}
