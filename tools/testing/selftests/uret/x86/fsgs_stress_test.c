// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stress test of the segment registers of tasks.
 *
 *	fsgs_stress_test [-t SECONDS] [-s SEED]
 *
 * 64-bit tasks, 32-bit tasks and the threads of vCPUs load random values into their segment
 * registers, and check the registers all the time.  Meanwhile the tasks sleep, preempt each other,
 * fork, migrate, handle signals, are traced and dump core, and a CPU goes offline and online.  A
 * tracer and a core dump must also see the values that the task has loaded.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "kselftest.h"

#include "common.h"
#include "fsgs_core.h"
#include "fsgs_vm.h"

#define NR_TASKS	8
#define NR_VMS		4
#define NR		(NR_TASKS + NR_VMS)
#define NR_TESTS	9
#define PAGE		4096

#define CORES "/tmp/fsgs-core."

struct task {
	int fd;
	pid_t pid;
	struct fsgs_shared *shared;
};

static struct task tasks[NR];
static unsigned int seed;
static int nr_cpus;
static char dir[256];
static unsigned int gdt_limit;

/* The numbers of actions and checks, and the first error message of each kind. */
static unsigned long long migrated, signalled, hotplugged;
static unsigned long long checks_64, checks_32, checks_vcpu[NR_VMS], forks, signals;
/* [0] of tasks, [1] of the threads of vCPUs. */
static unsigned long long traced[2], dumped[2];
static char error_64[FSGS_MESSAGE], error_32[FSGS_MESSAGE], error_vcpu[FSGS_MESSAGE];
static char error_traced[FSGS_MESSAGE], error_dumped[FSGS_MESSAGE];

static volatile bool stop;

static unsigned int rnd(unsigned int below)
{
	return rand_r(&seed) % below;
}

static bool is_vm(const struct task *task)
{
	return task >= tasks + NR_TASKS;
}

/* Return: the limit of the GDT, or 0 if UMIP prevents SGDT. */
static unsigned int get_gdt_limit(void)
{
	unsigned int eax, ebx, ecx = 0, edx;
	struct {
		unsigned short limit;
		unsigned long base;
	} __attribute__((packed)) gdt;

	if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && ecx & 1 << 2)
		return 0;
	asm volatile("sgdt %0" : "=m" (gdt));
	return gdt.limit;
}

static void start(struct task *task)
{
	int nr = task - tasks;
	char path[300], seed_arg[16], ldt_arg[2], cpus_arg[8];

	memset(task->shared, 0, sizeof(*task->shared));
	task->shared->gdt_limit = gdt_limit;
	snprintf(path, sizeof(path), "%s/fsgs_task_%s", dir, nr & 1 ? "32" : "64");
	snprintf(seed_arg, sizeof(seed_arg), "%u", rnd(1000000));
	snprintf(ldt_arg, sizeof(ldt_arg), "%d", nr >> 1 & 1);
	snprintf(cpus_arg, sizeof(cpus_arg), "%d", nr_cpus);

	task->pid = fork();
	if (task->pid < 0)
		die("fork: %s", strerror(errno));
	if (task->pid)
		return;
	if (is_vm(task))
		fsgs_vm(task->shared, nr - NR_TASKS, rnd(1000000));
	if (task->fd != FSGS_FD)
		dup2(task->fd, FSGS_FD);
	execl(path, path, seed_arg, ldt_arg, cpus_arg, NULL);
	_exit(2);
}

static void init(struct task *task)
{
	task->fd = memfd_create("fsgs", 0);
	if (task->fd < 0 || ftruncate(task->fd, PAGE))
		die("memfd_create: %s", strerror(errno));
	task->shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, task->fd, 0);
	if (task->shared == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	start(task);
}

/* Add up the results of a task that has ended. */
static void collect(struct task *task)
{
	struct fsgs_shared *shared = task->shared;
	char *error = is_vm(task) ? error_vcpu : shared->is_32bit ? error_32 : error_64;

	if (shared->failed && !*error)
		snprintf(error, FSGS_MESSAGE, "%.*s", FSGS_MESSAGE - 1, shared->message);
	if (is_vm(task))
		checks_vcpu[task - tasks - NR_TASKS] += shared->checks;
	else if (shared->is_32bit)
		checks_32 += shared->checks;
	else
		checks_64 += shared->checks;
	forks += shared->forks;
	signals += shared->signals;
	shared->checks = 0;
	shared->forks = 0;
	shared->signals = 0;
}

/* Whether the expected values are valid: the task has loaded values, and is not in a change. */
static bool is_valid(const struct fsgs_shared *shared)
{
	return shared->changing && !(shared->changing & 1);
}

/* Compare the registers that a tracer or a core dump shows with the expected registers. */
static void compare(const struct task *task, const struct fsgs_regs *regs, char *error)
{
	const struct fsgs_shared *shared = task->shared;
	const struct fsgs_regs *expected = &shared->expected;
	bool bases = !shared->is_32bit;

	if (*error)
		return;
	if (regs->fs == expected->fs && regs->gs == expected->gs &&
	    regs->ds == expected->ds && regs->es == expected->es &&
	    (!bases || (regs->fs_base == expected->fs_base && regs->gs_base == expected->gs_base)))
		return;
	snprintf(error, FSGS_MESSAGE,
		 "%s %u: FS, GS, DS, ES and bases: expected %x %x %x %x %llx %llx, got %x %x %x %x %llx %llx",
		 is_vm(task) ? "vCPU thread" : bases ? "64-bit task" : "32-bit task", shared->tid,
		 expected->fs, expected->gs, expected->ds, expected->es, expected->fs_base,
		 expected->gs_base, regs->fs, regs->gs, regs->ds, regs->es, regs->fs_base,
		 regs->gs_base);
}

/* Change the GS base of a traced task with a null selector. */
static void ptrace_write(struct task *task, const struct user_regs_struct *user)
{
	unsigned long base = (unsigned long)rnd(0x7fff) << 32 | rnd(0x7fffffff);

	if (is_vm(task) || task->shared->is_32bit || user->gs || rnd(2))
		return;
	if (!ptrace(PTRACE_POKEUSER, task->shared->tid,
		    offsetof(struct user_regs_struct, gs_base), base)) {
		task->shared->expected.gs_base = base;
		task->shared->ptrace_writes++;
	}
}

/*
 * Whether the stopped task is in the handler of SIGUSR1, where SIGUSR1 is blocked.  The kernel sets
 * DS and ES of a 32-bit task for the handler.
 */
static bool is_in_handler(const struct task *task)
{
	unsigned long long blocked = 0;

	return ptrace(PTRACE_GETSIGMASK, task->shared->tid, sizeof(blocked), &blocked) ||
	       blocked & 1ULL << (SIGUSR1 - 1);
}

static void trace(struct task *task)
{
	struct user_regs_struct user;
	pid_t tid = task->shared->tid;
	int status = 0;

	/* Some ioctls that create a VM fail if interrupted. */
	if (!task->shared->changing || ptrace(PTRACE_SEIZE, tid, NULL, NULL))
		return;
	if (!ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) &&
	    waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status) &&
	    is_valid(task->shared) && !is_in_handler(task) &&
	    !ptrace(PTRACE_GETREGS, tid, NULL, &user)) {
		struct fsgs_regs regs = {
			.fs = user.fs, .gs = user.gs, .ds = user.ds, .es = user.es,
			.fs_base = user.fs_base, .gs_base = user.gs_base,
		};

		compare(task, &regs, error_traced);
		ptrace_write(task, &user);
		traced[is_vm(task)]++;
	}
	/* If a signal has stopped the task instead, deliver the signal. */
	status = WIFSTOPPED(status) && !(status >> 16) ? WSTOPSIG(status) : 0;
	ptrace(PTRACE_DETACH, tid, NULL, status == SIGTRAP ? 0 : status);
}

static void crash(struct task *task)
{
	struct fsgs_regs regs;
	char path[64];
	int status;

	/* KVM warns about a kill in KVM_CREATE_VM, see kvm_lockdep_assert_sev_lock_held(). */
	if (is_vm(task) && !task->shared->changing)
		return;
	if (is_vm(task))
		kill(task->pid, SIGQUIT);
	else
		task->shared->command = FSGS_CRASH;
	if (waitpid(task->pid, &status, 0) != task->pid)
		die("waitpid: %s", strerror(errno));
	snprintf(path, sizeof(path), CORES "%d", task->pid);
	if (!WIFSIGNALED(status) || !WCOREDUMP(status)) {
		/* A task with a failed check ends without a core dump. */
		if (!task->shared->failed && !*error_dumped)
			snprintf(error_dumped, FSGS_MESSAGE,
				 "task %d: expected a core dump, got status %x", task->pid, status);
	} else if (is_valid(task->shared)) {
		if (fsgs_from_core(path, task->shared->tid, &regs)) {
			compare(task, &regs, error_dumped);
			dumped[is_vm(task)]++;
		} else if (!*error_dumped) {
			snprintf(error_dumped, FSGS_MESSAGE,
				 "expected thread %u in the core dump, got none",
				 task->shared->tid);
		}
	}
	unlink(path);
	collect(task);
	start(task);
}

static void migrate(struct task *task)
{
	unsigned int cpu = rnd(nr_cpus);
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (rnd(3) == 0)
		for (int i = 0; i < nr_cpus; i++)
			CPU_SET(i, &set);
	/* The CPU may be offline. */
	if (task->shared->tid && !sched_setaffinity(task->shared->tid, sizeof(set), &set))
		migrated++;
}

/* Take the last CPU offline and online again, in random intervals of some seconds. */
static void *hotplug(void *arg)
{
	unsigned int hotplug_seed = seed + 1;
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", nr_cpus - 1);
	while (!stop) {
		usleep(500000 + rand_r(&hotplug_seed) % 3000000);
		if (write_file(path, "0"))
			continue;
		usleep(rand_r(&hotplug_seed) % 2000000);
		if (!write_file(path, "1"))
			hotplugged++;
	}
	write_file(path, "1");
	return NULL;
}

/* Handle the end of a task.  A status that is not 0 is a failure. */
static void reap(struct task *task, int status)
{
	if (status && !task->shared->failed) {
		task->shared->failed = 1;
		snprintf(task->shared->message, FSGS_MESSAGE,
			 "task %d: expected status 0 at the end, got %x", task->pid, status);
	}
	collect(task);
}

/* Restart the task if the task has ended. */
static void watch(struct task *task)
{
	int status;

	if (waitpid(task->pid, &status, WNOHANG) != task->pid)
		return;
	/* An end without FSGS_STOP is a failure, even with status 0. */
	reap(task, status ?: -1);
	start(task);
}

/* Return: the sum of the counts, or 0 if one of the counts is 0. */
static unsigned long long sum_if_all(const unsigned long long *times, int nr)
{
	unsigned long long sum = 0;

	for (int i = 0; i < nr; i++) {
		if (!times[i])
			return 0;
		sum += times[i];
	}
	return sum;
}

static bool has_failed(void)
{
	return *error_64 || *error_32 || *error_vcpu || *error_traced || *error_dumped;
}

/* Whether an action or a check has not happened yet, as on a slow machine. */
static bool is_incomplete(void)
{
	for (int i = 0; i < NR_VMS; i++)
		if (!checks_vcpu[i] && !tasks[NR_TASKS + i].shared->checks)
			return true;
	return !sum_if_all(traced, 2) || !sum_if_all(dumped, 2) || !signalled ||
	       (nr_cpus > 1 && !hotplugged);
}

/* Choose the threads of vCPUs in half of the cases, and only these if @late. */
static struct task *choose(bool late)
{
	if (late || rnd(2))
		return &tasks[NR_TASKS + rnd(NR_VMS)];
	return &tasks[rnd(NR_TASKS)];
}

static void stress(unsigned int seconds)
{
	time_t end = time(NULL) + seconds, printed = time(NULL);

	while ((time(NULL) < end || (is_incomplete() && time(NULL) < end + 3 * seconds)) &&
	       !has_failed()) {
		bool late = time(NULL) >= end;
		struct task *task = choose(late && sum_if_all(dumped, 1) && sum_if_all(traced, 1));
		/* Alternate between busy CPUs and mostly idle CPUs. */
		bool rest = time(NULL) / 2 % 3 != 0;

		for (int i = 0; i < NR; i++) {
			if (tasks[i].shared->command <= FSGS_REST)
				tasks[i].shared->command = rest ? FSGS_REST : FSGS_GO;
			watch(&tasks[i]);
		}
		switch (rnd(late && signalled ? 9 : 24)) {
		case 0:
			crash(task);
			break;
		case 1 ... 8:
			trace(task);
			break;
		case 9 ... 16:
			migrate(task);
			break;
		default:
			/* Not for vCPUs: their processes have no signal handler. */
			if (!is_vm(task) && task->shared->tid && task->shared->checks) {
				kill(task->pid, SIGUSR1);
				signalled++;
			}
		}
		usleep(rnd(rest ? 50000 : 5000));
		if (time(NULL) - printed >= 60 && time(NULL) < end) {
			printed = time(NULL);
			ksft_print_msg("%lld s remain\n", (long long)(end - printed));
		}
	}
}

static void finish(struct task *task)
{
	int status;

	task->shared->command = FSGS_STOP;
	for (int i = 0; i < 600; i++) {
		if (waitpid(task->pid, &status, WNOHANG) == task->pid) {
			reap(task, status);
			return;
		}
		usleep(100000);
	}
	kill(task->pid, SIGKILL);
	waitpid(task->pid, &status, 0);
	if (!*error_vcpu)
		snprintf(error_vcpu, FSGS_MESSAGE, "task %d: expected an end within 60 s, got none",
			 task->pid);
	collect(task);
}

static void result(const char *error, unsigned long long times, const char *name)
{
	if (*error)
		ksft_print_msg("%s\n", error);
	ksft_test_result(!*error && times, "%s (%llu)\n", name, times);
}

/* Columns of uret/fsgs, see Documentation/ABI/testing/debugfs-uret. */
static const char *const columns[] = { "deferred", "cancelled", "restored", "flushed" };
static long long counted_before[ARRAY_SIZE(columns)];

/* Return: the sum of a column of uret/fsgs over all CPUs. */
static long long counted(const char *column)
{
	long long sum = 0;

	for (int cpu = 0; cpu < nr_cpus; cpu++)
		sum += table_read(DEBUGFS "uret/fsgs", cpu, column);
	return sum;
}

/* Check that all transitions of FS and GS have happened. */
static void check_transitions(void)
{
	bool all = true;

	if (!kvm_uses_uret() || access(DEBUGFS "uret/fsgs", R_OK)) {
		ksft_test_result_skip("all transitions of FS and GS: kvm is loaded with uret=0\n");
		return;
	}
	for (int i = 0; i < ARRAY_SIZE(columns); i++) {
		long long times = counted(columns[i]) - counted_before[i];
		/* A flush needs a CPU that stays idle, see transitions_test.sh. */
		bool required = strcmp(columns[i], "flushed");

		ksft_print_msg("FS and GS %s: expected at least %d, got %lld\n", columns[i],
			       required, times);
		all &= times > 0 || !required;
	}
	ksft_test_result(all, "all transitions of FS and GS\n");
}

static void prepare(void)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	ssize_t length = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (length < 0 || !strrchr(dir, '/'))
		die("readlink: %s", strerror(errno));
	*strrchr(dir, '/') = 0;
	nr_cpus = last_cpu() + 1;
	gdt_limit = get_gdt_limit();
	setrlimit(RLIMIT_CORE, &unlimited);
	if (write_file("/proc/sys/kernel/core_pattern", CORES "%p"))
		die("cannot write /proc/sys/kernel/core_pattern");
	for (int i = 0; i < ARRAY_SIZE(columns); i++)
		counted_before[i] = counted(columns[i]);
}

static void report(void)
{
	result(error_64, checks_64, "64-bit tasks keep their registers");
	result(error_32, checks_32, "32-bit tasks keep their registers");
	result(error_vcpu, sum_if_all(checks_vcpu, NR_VMS),
	       "vCPUs and their threads keep their registers");
	result(error_traced, sum_if_all(traced, 2), "a tracer sees the registers of a task");
	result(error_dumped, sum_if_all(dumped, 2), "a core dump has the registers of a task");
	ksft_print_msg("%llu signals sent, %llu migrations\n", signalled, migrated);
	result("", signals, "signal handlers find the registers of the task");
	result("", forks, "children inherit the registers of the task");
	if (nr_cpus > 1)
		result("", hotplugged, "a CPU goes offline and online");
	else
		ksft_test_result_skip("a CPU goes offline and online: only one CPU\n");
	check_transitions();
}

int main(int argc, char **argv)
{
	unsigned int seconds = 20;
	pthread_t hotplugger;
	int opt;

	seed = time(NULL);
	while ((opt = getopt(argc, argv, "t:s:")) != -1) {
		if (opt == 't')
			seconds = atoi(optarg);
		else if (opt == 's')
			seed = atoi(optarg);
		else
			die("usage: fsgs_stress_test [-t SECONDS] [-s SEED]");
	}
	ksft_print_header();
	if (geteuid() || access("/dev/kvm", R_OK | W_OK))
		ksft_exit_skip("root and /dev/kvm are required\n");
	ksft_set_plan(NR_TESTS);
	prepare();
	ksft_print_msg("%u s, seed %u, %d CPUs\n", seconds, seed, nr_cpus);

	for (int i = 0; i < NR; i++)
		init(&tasks[i]);
	if (nr_cpus > 1)
		pthread_create(&hotplugger, NULL, hotplug, NULL);
	stress(seconds);
	stop = true;
	if (nr_cpus > 1)
		pthread_join(hotplugger, NULL);
	for (int i = 0; i < NR; i++)
		finish(&tasks[i]);

	report();
	ksft_finished();
}
