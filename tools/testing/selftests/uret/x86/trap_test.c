// SPDX-License-Identifier: GPL-2.0-only
/*
 * Traps while the guest state is loaded (the VMLOAD/VMSAVE state of a guest).  Needs the module
 * uret_trap_test with breakpoint=kvm_emulate_cpuid.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <asm/ldt.h>

#include "kselftest_harness.h"

#include "common.h"
#include "guest.h"
#include "host.h"
#include "regs_vm.h"

#define TRAPS DEBUGFS "uret_trap_test/"
/* The column of the module for traps in the thread of the vCPU with the guest state loaded. */
#define LOADED "loaded"
#define TIMEOUT 300
#define EXITS 2000

static bool deferred(void)
{
	return kvm_uses_uret() && !access("/sys/module/kvm_amd", F_OK);
}

/* Return: the number of breakpoints taken on a CPU, in a column of the module. */
static long long taken(int cpu, const char *place)
{
	return table_read(TRAPS "breakpoints", cpu, place);
}

/* Return: the first failed check of the module, or NULL. */
static const char *failed_check(void)
{
	static char text[256];
	FILE *file = fopen(TRAPS "bad", "r");

	if (!file)
		return "cannot open " TRAPS "bad";
	if (!fgets(text, sizeof(text), file))
		*text = 0;
	fclose(file);
	return *text ? text : NULL;
}

FIXTURE(traps) {
	int cpu;
};

FIXTURE_SETUP(traps)
{
	if (access(TRAPS, F_OK))
		SKIP(return, "the module uret_trap_test is not loaded");
	self->cpu = last_cpu();
	ASSERT_EQ(0, pin_to_cpu(self->cpu));
	host_init();
}

FIXTURE_TEARDOWN(traps)
{
	const char *error = failed_check();

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
}

/* One breakpoint per exit.  KVM does not defer at the first exit after vcpu_load(). */
TEST_F_TIMEOUT(traps, breakpoints_with_guest_state_loaded, TIMEOUT)
{
	long long loaded = taken(self->cpu, LOADED), kernel = taken(self->cpu, "kernel");
	const char *error;
	struct vm vm;

	ASSERT_EQ(0, vm_create(&vm, 1)) TH_LOG("%s", vm.error);
	ASSERT_EQ(0, vm_run(&vm, GUEST_CPUID, EXITS)) TH_LOG("%s", vm.error);
	error = host_check();
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	vm_destroy(&vm);
	loaded = taken(self->cpu, LOADED) - loaded;
	kernel = taken(self->cpu, "kernel") - kernel;
	/* The breakpoints on writes to jiffies count, too. */
	ASSERT_GE(loaded + kernel, EXITS);
	ASSERT_GE(loaded, deferred() ? EXITS * 9 / 10 : 0);
	ASSERT_LE(loaded, deferred() ? EXITS * 2 : 0);
}

/* The breakpoints on writes to jiffies, in the timer interrupt. */
TEST_F_TIMEOUT(traps, breakpoints_while_idle, TIMEOUT)
{
	long long before = 0, after = 0;
	struct vm vm;

	if (!deferred())
		SKIP(return, "KVM defers no VMLOAD/VMSAVE state: uret=0");
	/* Disable polling, so that the CPU of a halted vCPU goes idle. */
	ASSERT_EQ(0, write_file("/sys/module/kvm/parameters/halt_poll_ns", "0"));
	for (int cpu = 0; cpu <= self->cpu; cpu++)
		before += taken(cpu, "idle");
	/* One CPU writes jiffies.  Try all CPUs. */
	for (int i = 0; i < 200 && after <= before; i++) {
		ASSERT_EQ(0, pin_to_cpu(i % (self->cpu + 1)));
		ASSERT_EQ(0, vm_create(&vm, 1)) TH_LOG("%s", vm.error);
		vm.timer = GUEST_LONG_TIMER;
		ASSERT_EQ(0, vm_run(&vm, GUEST_HLT, 10)) TH_LOG("%s", vm.error);
		vm_destroy(&vm);
		after = 0;
		for (int cpu = 0; cpu <= self->cpu; cpu++)
			after += taken(cpu, "idle");
	}
	ASSERT_GT(after, before);
}

/* Start a process with an LDT, for a kernel thread that uses the mm of the process. */
static pid_t start_with_ldt(void)
{
	struct user_desc desc = { .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1 };
	int ready[2];
	pid_t pid;
	char byte;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (!pid) {
		if (!syscall(SYS_modify_ldt, 1, &desc, sizeof(desc)) &&
		    write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		pid = -1;
	close(ready[0]);
	return pid;
}

struct user_of_mm {
	pid_t pid;
	int cpu;
	volatile bool stop;
	int times;
};

/* Let a kernel thread on the guest's CPU use the mm, and thus the LDT, of the process. */
static void *use_mm(void *arg)
{
	struct user_of_mm *user = arg;
	char text[32];

	snprintf(text, sizeof(text), "%d %d", user->pid, user->cpu);
	while (!user->stop) {
		if (write_file(TRAPS "use_mm", text))
			break;
		user->times++;
		usleep(1000);
	}
	return NULL;
}

TEST_F_TIMEOUT(traps, kthread_keeps_ldtr_of_guest, TIMEOUT)
{
	struct user_of_mm user = { .pid = start_with_ldt(), .cpu = self->cpu };
	const char *error;
	struct regs_vm vm;
	pthread_t thread;

	ASSERT_GT(user.pid, 0);
	ASSERT_EQ(0, regs_vm_create(&vm)) TH_LOG("%s", vm.vm.error);
	ASSERT_EQ(0, pthread_create(&thread, NULL, use_mm, &user));
	for (unsigned int i = 1; i <= 100; i++) {
		ASSERT_EQ(0, regs_vm_step(&vm, i, EXITS)) TH_LOG("%s", vm.vm.error);
		error = host_check();
		ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	}
	user.stop = true;
	pthread_join(thread, NULL);
	vm_destroy(&vm.vm);
	kill(user.pid, SIGKILL);
	waitpid(user.pid, NULL, 0);
	ASSERT_GT(user.times, 10);
}

/* A guest that sleeps and wakes until @stop. */
struct sleeper {
	struct vm vm;
	int cpu;
	volatile bool stop;
	int ret;
};

static void *sleep_and_wake(void *arg)
{
	struct sleeper *sleeper = arg;

	sleeper->ret = pin_to_cpu(sleeper->cpu);
	while (!sleeper->stop && !sleeper->ret)
		sleeper->ret = vm_run(&sleeper->vm, GUEST_HLT, 10);
	return NULL;
}

/*
 * A kernel thread with little room on its stack gets NMIs while the guest state is loaded.  The
 * IDT uses no IST stacks then: NMI handlers must switch stacks, or the handlers overflow the
 * stack of the thread without a message.
 */
TEST_F_TIMEOUT(traps, nmis_on_deep_stack, TIMEOUT)
{
	struct sleeper sleeper = { .cpu = self->cpu };
	long long before, taken;
	pthread_t thread;
	char text[32];

	if (!deferred())
		SKIP(return, "KVM defers no VMLOAD/VMSAVE state: uret=0");
	ASSERT_EQ(0, write_file("/sys/module/kvm/parameters/halt_poll_ns", "0"));
	ASSERT_EQ(0, vm_create(&sleeper.vm, 1)) TH_LOG("%s", sleeper.vm.error);
	sleeper.vm.timer = GUEST_LONG_TIMER;
	ASSERT_EQ(0, pthread_create(&thread, NULL, sleep_and_wake, &sleeper));
	before = table_read(TRAPS "nmis", self->cpu, "kthread");
	snprintf(text, sizeof(text), "%d 1000", self->cpu);
	ASSERT_EQ(0, write_file(TRAPS "deep", text));
	taken = table_read(TRAPS "nmis", self->cpu, "kthread") - before;
	sleeper.stop = true;
	pthread_join(thread, NULL);
	ASSERT_EQ(0, sleeper.ret) TH_LOG("%s", sleeper.vm.error);
	vm_destroy(&sleeper.vm);
	ASSERT_GE(taken, 1000);
}

TEST_HARNESS_MAIN
