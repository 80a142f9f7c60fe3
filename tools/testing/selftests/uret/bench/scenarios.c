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
#include "marker.h"
#include "migration.h"

#define REGISTRY	"/sys/kernel/debug/uret_bench/run"

static int run_guest(struct worker *worker, unsigned long operations)
{
	int ret = vm_run(&worker->vm, worker->op, operations);

	if (ret)
		worker->error = worker->vm.error;
	return ret;
}

/* Wait for a wake-up by the guest, then wake the guest, in a loop. */
static int run_user_task(struct worker *worker, unsigned long operations)
{
	uint64_t value = 1;

	for (unsigned long i = 0; i < operations; i++) {
		if (read(worker->in, &value, 8) != 8 || write(worker->out, &value, 8) != 8) {
			worker->error = "cannot read or write an eventfd";
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

/* Two processes yield the CPU to each other. */
static int run_switches(struct worker *worker, unsigned long operations)
{
	pid_t child = fork();

	if (child < 0) {
		worker->error = "cannot fork";
		return -1;
	}
	if (!child) {
		for (;;)
			yield(1000);
	}
	/* The child yields as often, except for the first and the last time. */
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
		worker->error = "this CPU has too few MSRs for that many slots";
		break;
	case ENOSPC:
		worker->error = "the registry has too few slots";
		break;
	case EOPNOTSUPP:
		worker->error = "this CPU lacks the instructions";
		break;
	default:
		worker->error = "uret_bench rejects the command: see the kernel log";
	}
	return -1;
}

/* The module uret_bench executes the operations and the markers. */
static int run_sets(struct worker *worker, unsigned long operations)
{
	return write_command(worker, "%s %lu\n", operations);
}

/* uret_bench makes slots dirty.  The operation is the return to user mode after that. */
static int run_restores(struct worker *worker, unsigned long operations)
{
	for (unsigned long i = 0; i < operations; i++) {
		if (write_command(worker, "%s %lu\n", 1))
			return -1;
		marker('O');
	}
	return 0;
}

/* The vCPU of the migration scenarios, and the barrier before the first operation. */
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
		worker->error = migration.vm.error;
	pin_to_cpu(worker->bench->cpu);
	return ret;
}

static int run_waker(struct worker *worker, unsigned long operations)
{
	pthread_barrier_wait(&migration_barrier);
	migration_wake(&migration, worker->op, operations);
	worker->error = migration.error;
	pin_to_cpu(worker->bench->cpu);
	return worker->error ? -1 : 0;
}

/* Add a worker that runs a guest, with register values of set @values. */
static struct worker *add_guest(struct bench *bench, int op, int values)
{
	struct worker *worker = &bench->workers[bench->nr_workers];

	if (vm_create(&worker->vm, values)) {
		fprintf(stderr, "switch_perf_test: %s\n", worker->vm.error);
		return NULL;
	}
	worker->vm.lean = true;
	worker->op = op;
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

static int set_up_guest(struct bench *bench, int op)
{
	return add_guest(bench, op, 1) ? 0 : -1;
}

static int set_up_thread(struct bench *bench, int op)
{
	struct worker *guest = add_guest(bench, GUEST_TURN, 1);

	return guest && !vm_wake_by(&guest->vm, vm_turn_fd(&guest->vm), VM_IRQ_WORKER) ? 0 : -1;
}

static int set_up_user_task(struct bench *bench, int op)
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
		fprintf(stderr, "switch_perf_test: the scenario needs exactly two CPUs\n");
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
		add_worker(bench, run_waker)->op = cpu;
	return 0;
}

/* Add a worker without a guest.  With @with_vm, a VM exists, but does not run. */
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

/* Add a worker that writes a command to uret_bench, with the number of operations. */
static int set_up_registry(struct bench *bench, const char *command, int dirty, int slots)
{
	bool restore = !strcmp(command, "restore");
	struct worker *worker = add_worker(bench, restore ? run_restores : run_sets);

	worker->out = open(REGISTRY, O_WRONLY | O_CLOEXEC);
	if (worker->out < 0) {
		fprintf(stderr, "switch_perf_test: " REGISTRY ": %s: load uret_bench\n",
			strerror(errno));
		return -1;
	}
	snprintf(worker->command, sizeof(worker->command), "%s %d %d", command, dirty, slots);
	return 0;
}

static const struct scenario {
	const char *name;
	const char *description;
	int (*set_up)(struct bench *bench, int argument);
	int argument;
} scenarios[] = {
	{ "exit-to-user", "a PIO exit to user space and back", set_up_guest, GUEST_PIO },
	{ "exit-in-kernel", "a CPUID exit that the kernel handles", set_up_guest, GUEST_CPUID },
	{ "guest-idle-guest", "HLT to idle, woken by a timer", set_up_guest, GUEST_HLT },
	{ "guest-thread-guest", "HLT, woken by a kernel thread", set_up_thread },
	{ "guest-user-guest", "HLT, woken by another user task", set_up_user_task },
	{ "migrate-after-idle", "HLT, woken on the other of two CPUs", set_up_migration },
	{ "wake-on-other-cpu", "the wake-up alone (counts only)", set_up_migration, true },
	{ "two-guests-equal", "a turn of two guests with equal values", set_up_two, false },
	{ "two-guests-different", "a turn of two guests with different values", set_up_two, true },
	{ "syscall", "getppid()", set_up_syscall },
	{ "context-switch", "sched_yield() to another process", set_up_switches },
	{ "syscall-beside-vm", "getppid() while a VM exists", set_up_syscall, true },
	{ "context-switch-beside-vm", "sched_yield() while a VM exists", set_up_switches, true },
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
	fprintf(stderr, "switch_perf_test: no scenario \"%s\"; see switch_perf_test -l\n", name);
	return -1;
}

int bench_setup(struct bench *bench, const char *name)
{
	int ret = set_up(bench, name);

	if (!bench->nr_marking)
		bench->nr_marking = bench->nr_workers;
	for (int i = 0; ret && i < bench->nr_workers; i++)
		if (bench->workers[i].vm.error[0])
			fprintf(stderr, "switch_perf_test: %s: %s\n", name,
				bench->workers[i].vm.error);
	return ret;
}

int bench_ready(struct worker *worker)
{
	/* Enable the APIC, and enter the guest for the first time. */
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
		printf("%-22s %s\n", scenarios[i].name, scenarios[i].description);
	printf("%-22s %s\n", "turns:N", "a turn of N guests with different values");
	printf("%-22s %s\n", "set-equal:N", "set N slots to the current values (uret_bench)");
	printf("%-22s %s\n", "set-new:N", "set N slots to other values (uret_bench)");
	printf("%-22s %s\n", "restore:K/N", "return to user mode, K of N slots dirty (uret_bench)");
	printf("%-22s %s\n", "calibrate", "a known sequence of instructions (uret_bench)");
}
