// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every task has its own FS, GS and so on, whatever happens.
 *
 *	fsgs_stress_test [-t SECONDS] [-s SEED]
 *
 * Tasks of 64 and of 32 bits, and the threads of vCPUs, choose random values for
 * their segment registers, and look at them all the time. Meanwhile they sleep and
 * preempt each other, fork, move, get signals, are traced and dump core, and a CPU
 * goes offline and comes back. What a debugger or a core dump shows of one that is
 * not running must be what it has chosen.
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
#include "host.h"

#define NR_TASKS	8
#define NR_VMS		4
#define NR		(NR_TASKS + NR_VMS)
#define NR_TESTS	9
#define PAGE		4096

#define CORES "/tmp/fsgs-core."

struct task {
	int fd;
	pid_t pid;
	struct fsgs_claim *claim;
};

static struct task tasks[NR];
static unsigned int seed;
static int nr_cpus;
static char dir[256];
static unsigned int gdt_limit;

/* What was done, and what was wrong with it. */
static unsigned long long moved, signalled, plugged;
static unsigned long long checks_64, checks_32, checks_vcpu[NR_VMS], forks, signals;
/* Of tasks, and of vCPUs' threads. */
static unsigned long long traced[2], dumped[2];
static char wrong_64[FSGS_MESSAGE], wrong_32[FSGS_MESSAGE], wrong_vcpu[FSGS_MESSAGE];
static char wrong_traced[FSGS_MESSAGE], wrong_dumped[FSGS_MESSAGE];

static volatile bool stop;

static unsigned int rnd(unsigned int below)
{
	return rand_r(&seed) % below;
}

static bool is_vm(const struct task *task)
{
	return task >= tasks + NR_TASKS;
}

/* The limit of the GDT, if a user task can see it. */
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

	memset(task->claim, 0, sizeof(*task->claim));
	task->claim->gdt_limit = gdt_limit;
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
		fsgs_vm(task->claim, nr - NR_TASKS, rnd(1000000));
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
	task->claim = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, task->fd, 0);
	if (task->claim == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	start(task);
}

/* Takes over what a task that is at an end, or gone, has to say. */
static void collect(struct task *task)
{
	struct fsgs_claim *claim = task->claim;
	char *wrong = is_vm(task) ? wrong_vcpu : claim->is_32bit ? wrong_32 : wrong_64;

	if (claim->wrong && !*wrong)
		snprintf(wrong, FSGS_MESSAGE, "%.*s", FSGS_MESSAGE - 1, claim->what);
	if (is_vm(task))
		checks_vcpu[task - tasks - NR_TASKS] += claim->checks;
	else if (claim->is_32bit)
		checks_32 += claim->checks;
	else
		checks_64 += claim->checks;
	forks += claim->forks;
	signals += claim->signals;
	claim->checks = 0;
	claim->forks = 0;
	claim->signals = 0;
}

/* Whether what a task claims is what it has just now. */
static bool is_settled(const struct fsgs_claim *claim)
{
	return claim->changing && !(claim->changing & 1);
}

/* Whether what was seen of a task that does not run is what it claims. */
static void compare(const struct task *task, const struct fsgs_regs *regs, char *wrong)
{
	const struct fsgs_claim *claim = task->claim;
	bool bases = !claim->is_32bit;

	if (*wrong)
		return;
	if (regs->fs == claim->fs && regs->gs == claim->gs &&
	    regs->ds == claim->ds && regs->es == claim->es &&
	    (!bases || (regs->fs_base == claim->fs_base && regs->gs_base == claim->gs_base)))
		return;
	snprintf(wrong, FSGS_MESSAGE, "%s %u: %x %x %x %x %llx %llx, not %x %x %x %x %llx %llx",
		 is_vm(task) ? "vCPU" : bases ? "64" : "32", claim->tid, regs->fs, regs->gs,
		 regs->ds, regs->es, regs->fs_base, regs->gs_base, claim->fs, claim->gs,
		 claim->ds, claim->es, claim->fs_base, claim->gs_base);
}

/* A tracer may change the base of a null selector. */
static void poke(struct task *task, const struct user_regs_struct *user)
{
	unsigned long base = (unsigned long)rnd(0x7fff) << 32 | rnd(0x7fffffff);

	if (is_vm(task) || task->claim->is_32bit || user->gs || rnd(2))
		return;
	if (!ptrace(PTRACE_POKEUSER, task->claim->tid,
		    offsetof(struct user_regs_struct, gs_base), base)) {
		task->claim->gs_base = base;
		task->claim->pokes++;
	}
}

static void trace(struct task *task)
{
	struct user_regs_struct user;
	pid_t tid = task->claim->tid;
	int status = 0;

	/* Some of what a VM is made by fails when interrupted. */
	if (!task->claim->changing || ptrace(PTRACE_SEIZE, tid, NULL, NULL))
		return;
	if (!ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) &&
	    waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status) &&
	    is_settled(task->claim) && !ptrace(PTRACE_GETREGS, tid, NULL, &user)) {
		struct fsgs_regs regs = {
			.fs = user.fs, .gs = user.gs, .ds = user.ds, .es = user.es,
			.fs_base = user.fs_base, .gs_base = user.gs_base,
		};

		compare(task, &regs, wrong_traced);
		poke(task, &user);
		traced[is_vm(task)]++;
	}
	/* A signal that stopped it instead goes on. */
	status = WIFSTOPPED(status) && !(status >> 16) ? WSTOPSIG(status) : 0;
	ptrace(PTRACE_DETACH, tid, NULL, status == SIGTRAP ? 0 : status);
}

static void crash(struct task *task)
{
	struct fsgs_regs regs;
	char path[64];
	int status;

	/* When it is killed in KVM_CREATE_VM, KVM warns: see kvm_lockdep_assert_sev_lock_held(). */
	if (is_vm(task) && !task->claim->changing)
		return;
	if (is_vm(task))
		kill(task->pid, SIGQUIT);
	else
		task->claim->command = FSGS_CRASH;
	if (waitpid(task->pid, &status, 0) != task->pid)
		die("waitpid: %s", strerror(errno));
	snprintf(path, sizeof(path), CORES "%d", task->pid);
	if (!WIFSIGNALED(status) || !WCOREDUMP(status)) {
		/* One that has found something ends by itself. */
		if (!task->claim->wrong && !*wrong_dumped)
			snprintf(wrong_dumped, FSGS_MESSAGE, "%d has left no core, but status %x",
				 task->pid, status);
	} else if (is_settled(task->claim)) {
		if (fsgs_from_core(path, task->claim->tid, &regs)) {
			compare(task, &regs, wrong_dumped);
			dumped[is_vm(task)]++;
		} else if (!*wrong_dumped) {
			snprintf(wrong_dumped, FSGS_MESSAGE, "no thread %u in the core",
				 task->claim->tid);
		}
	}
	unlink(path);
	collect(task);
	start(task);
}

static void move(struct task *task)
{
	unsigned int cpu = rnd(nr_cpus);
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (rnd(3) == 0)
		for (int i = 0; i < nr_cpus; i++)
			CPU_SET(i, &set);
	/* Which may be offline just now. */
	if (task->claim->tid && !sched_setaffinity(task->claim->tid, sizeof(set), &set))
		moved++;
}

/* One CPU, for some seconds, and again two. */
static void *plug(void *arg)
{
	unsigned int its_seed = seed + 1;
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", nr_cpus - 1);
	while (!stop) {
		usleep(500000 + rand_r(&its_seed) % 3000000);
		if (write_file(path, "0"))
			continue;
		usleep(rand_r(&its_seed) % 2000000);
		if (!write_file(path, "1"))
			plugged++;
	}
	write_file(path, "1");
	return NULL;
}

static void has_ended(struct task *task, int status)
{
	if (status && !task->claim->wrong) {
		task->claim->wrong = 1;
		snprintf(task->claim->what, FSGS_MESSAGE, "%d has ended, status %x", task->pid,
			 status);
	}
	collect(task);
}

static void watch(struct task *task)
{
	int status;

	if (waitpid(task->pid, &status, WNOHANG) != task->pid)
		return;
	/* It was not asked to. */
	has_ended(task, status ?: -1);
	start(task);
}

/* The sum, or 0 if one of them is. */
static unsigned long long in_all(const unsigned long long *times, int nr)
{
	unsigned long long sum = 0;

	for (int i = 0; i < nr; i++) {
		if (!times[i])
			return 0;
		sum += times[i];
	}
	return sum;
}

static bool something_is_wrong(void)
{
	return *wrong_64 || *wrong_32 || *wrong_vcpu || *wrong_traced || *wrong_dumped;
}

/* Where everything is slow, some things may take longer than the time that was given. */
static bool something_is_missing(void)
{
	for (int i = 0; i < NR_VMS; i++)
		if (!checks_vcpu[i] && !tasks[NR_TASKS + i].claim->checks)
			return true;
	return !in_all(traced, 2) || !in_all(dumped, 2) || !signalled ||
	       (nr_cpus > 1 && !plugged);
}

/* One half of it is for the vCPUs, and then all that these have missed. */
static struct task *choose(bool late)
{
	if (late || rnd(2))
		return &tasks[NR_TASKS + rnd(NR_VMS)];
	return &tasks[rnd(NR_TASKS)];
}

static void torment(unsigned int seconds)
{
	time_t end = time(NULL) + seconds, told = time(NULL);

	while ((time(NULL) < end || (something_is_missing() && time(NULL) < end + 3 * seconds)) &&
	       !something_is_wrong()) {
		bool late = time(NULL) >= end;
		struct task *task = choose(late && in_all(dumped, 1) && in_all(traced, 1));
		/* Now many want each CPU, now it is mostly idle. */
		bool rest = time(NULL) / 2 % 3 != 0;

		for (int i = 0; i < NR; i++) {
			if (tasks[i].claim->command <= FSGS_REST)
				tasks[i].claim->command = rest ? FSGS_REST : FSGS_GO;
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
			move(task);
			break;
		default:
			/* The C library of a vCPU's process would not like it. */
			if (!is_vm(task) && task->claim->tid && task->claim->checks) {
				kill(task->pid, SIGUSR1);
				signalled++;
			}
		}
		usleep(rnd(rest ? 50000 : 5000));
		if (time(NULL) - told >= 60 && time(NULL) < end) {
			told = time(NULL);
			ksft_print_msg("%lld s to go\n", (long long)(end - told));
		}
	}
}

static void finish(struct task *task)
{
	int status;

	task->claim->command = FSGS_STOP;
	for (int i = 0; i < 600; i++) {
		if (waitpid(task->pid, &status, WNOHANG) == task->pid) {
			has_ended(task, status);
			return;
		}
		usleep(100000);
	}
	kill(task->pid, SIGKILL);
	waitpid(task->pid, &status, 0);
	if (!*wrong_vcpu)
		snprintf(wrong_vcpu, FSGS_MESSAGE, "%d does not end", task->pid);
	collect(task);
}

static void result(const char *wrong, unsigned long long times, const char *what)
{
	if (*wrong)
		ksft_print_msg("%s\n", wrong);
	ksft_test_result(!*wrong && times, "%s (%llu)\n", what, times);
}

/* What uret counts: see Documentation/ABI/testing/debugfs-uret. */
static const char *const columns[] = { "deferred", "cancelled", "restored", "flushed" };
static long long counted_before[ARRAY_SIZE(columns)];

/* What uret has counted on all CPUs. */
static long long counted(const char *column)
{
	long long sum = 0;

	for (int cpu = 0; cpu < nr_cpus; cpu++)
		sum += table_read(DEBUGFS "uret/fsgs", cpu, column);
	return sum;
}

/* That all of uret's transitions were put to the test. */
static void count_transitions(void)
{
	bool all = true;

	if (!kvm_uses_uret() || access(DEBUGFS "uret/fsgs", R_OK)) {
		ksft_test_result_skip("each transition: kvm is loaded with uret=0\n");
		return;
	}
	for (int i = 0; i < ARRAY_SIZE(columns); i++) {
		long long times = counted(columns[i]) - counted_before[i];

		ksft_print_msg("FS and GS %s %lld times\n", columns[i], times);
		/* That one wants a CPU to stay idle, see transitions.sh. */
		all &= times > 0 || !strcmp(columns[i], "flushed");
	}
	ksft_test_result(all, "each transition has been seen\n");
}

static void prepare(void)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	ssize_t length = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (length < 0 || !strrchr(dir, '/'))
		die("readlink: %s", strerror(errno));
	*strrchr(dir, '/') = 0;
	nr_cpus = host_last_cpu() + 1;
	gdt_limit = get_gdt_limit();
	setrlimit(RLIMIT_CORE, &unlimited);
	if (write_file("/proc/sys/kernel/core_pattern", CORES "%p"))
		die("/proc/sys/kernel/core_pattern cannot be written");
	for (int i = 0; i < ARRAY_SIZE(columns); i++)
		counted_before[i] = counted(columns[i]);
}

static void report(void)
{
	result(wrong_64, checks_64, "64-bit tasks have their own registers");
	result(wrong_32, checks_32, "32-bit tasks have their own registers");
	result(wrong_vcpu, in_all(checks_vcpu, NR_VMS),
	       "vCPUs and their threads have their own registers");
	result(wrong_traced, in_all(traced, 2), "a tracer sees a task's own registers");
	result(wrong_dumped, in_all(dumped, 2), "a core dump has a task's own registers");
	ksft_print_msg("%llu signals sent, %llu moves\n", signalled, moved);
	result("", signals, "signals find the task's own registers");
	result("", forks, "children inherit the task's own registers");
	if (nr_cpus > 1)
		result("", plugged, "CPUs go offline and come back");
	else
		ksft_test_result_skip("CPUs go offline and come back: only one CPU\n");
	count_transitions();
}

int main(int argc, char **argv)
{
	unsigned int seconds = 20;
	pthread_t plugger;
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
		ksft_exit_skip("this needs root and /dev/kvm\n");
	ksft_set_plan(NR_TESTS);
	prepare();
	ksft_print_msg("%u s, seed %u, %d CPUs\n", seconds, seed, nr_cpus);

	for (int i = 0; i < NR; i++)
		init(&tasks[i]);
	if (nr_cpus > 1)
		pthread_create(&plugger, NULL, plug, NULL);
	torment(seconds);
	stop = true;
	if (nr_cpus > 1)
		pthread_join(plugger, NULL);
	for (int i = 0; i < NR; i++)
		finish(&tasks[i]);

	report();
	ksft_finished();
}
