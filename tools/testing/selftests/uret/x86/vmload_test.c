// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VMLOAD/VMSAVE state of a guest is correct in the guest, in KVM, and in user space that
 * saves and restores the state, whether the CPU or the VMCB has the current copy.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "common.h"
#include "guest.h"
#include "host.h"
#include "regs_vm.h"

/* In seconds.  An emulated kernel with KASAN and lockdep is slow. */
#define TIMEOUT 300

FIXTURE(vmload) {
	int cpu;
	struct regs_vm vm;
};

FIXTURE_SETUP(vmload)
{
	if (access("/dev/kvm", R_OK | W_OK))
		SKIP(return, "no /dev/kvm");
	self->cpu = last_cpu();
	ASSERT_EQ(0, pin_to_cpu(self->cpu));
	host_init();
	ASSERT_EQ(0, regs_vm_create(&self->vm)) TH_LOG("%s", self->vm.vm.error);
}

FIXTURE_TEARDOWN(vmload)
{
	vm_destroy(&self->vm.vm);
}

static long long counted(int cpu, const char *column)
{
	return table_read(DEBUGFS "uret/svm", cpu, column);
}

TEST_F_TIMEOUT(vmload, kept_and_readable, TIMEOUT)
{
	const char *error;

	for (unsigned int i = 1; i <= 200; i++) {
		ASSERT_EQ(0, regs_vm_step(&self->vm, i, i % 4 * 5)) TH_LOG("%s", self->vm.vm.error);
		error = host_check();
		ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	}
}

TEST_F_TIMEOUT(vmload, set_by_ioctls, TIMEOUT)
{
	for (unsigned int i = 1; i <= 200; i += 2) {
		ASSERT_EQ(0, regs_vm_step(&self->vm, i, 10)) TH_LOG("%s", self->vm.vm.error);
		ASSERT_EQ(0, regs_vm_set(&self->vm, i + 1)) TH_LOG("%s", self->vm.vm.error);
	}
}

TEST_F_TIMEOUT(vmload, saved_and_restored, TIMEOUT)
{
	struct regs_state state;
	struct regs_vm other;

	ASSERT_EQ(0, regs_vm_step(&self->vm, 1, 10)) TH_LOG("%s", self->vm.vm.error);
	for (unsigned int i = 2; i <= 20; i++) {
		ASSERT_EQ(0, regs_vm_save(&self->vm, &state)) TH_LOG("%s", self->vm.vm.error);
		ASSERT_EQ(0, regs_vm_create(&other)) TH_LOG("%s", other.vm.error);
		ASSERT_EQ(0, regs_vm_restore(&other, &state)) TH_LOG("%s", other.vm.error);
		vm_destroy(&self->vm.vm);
		self->vm = other;
		ASSERT_EQ(0, regs_vm_step(&self->vm, i, 10)) TH_LOG("%s", self->vm.vm.error);
	}
}

TEST_F_TIMEOUT(vmload, reset_at_shutdown, TIMEOUT)
{
	if (access("/sys/module/kvm_amd", F_OK))
		SKIP(return, "KVM resets the state on SVM only");
	ASSERT_EQ(0, regs_vm_shut_down(&self->vm, 1, 20)) TH_LOG("%s", self->vm.vm.error);
}

/* A VM that mostly sleeps, and the CPU of its thread. */
struct sleeper {
	int cpu;
	volatile bool stop;
	struct vm vm;
};

static void *run_sleeper(void *arg)
{
	struct sleeper *sleeper = arg;
	bool failed = pin_to_cpu(sleeper->cpu) || vm_create(&sleeper->vm, 1);

	while (!failed && !sleeper->stop)
		failed = vm_run(&sleeper->vm, GUEST_HLT, 10);
	return failed ? sleeper->vm.error : NULL;
}

/* Start a task on the CPU, which wakes up often, and fails if DS is not null. */
static pid_t start_task(int cpu)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	if (pin_to_cpu(cpu))
		_exit(1);
	for (int i = 0; i < 1000; i++) {
		unsigned short ds;

		asm volatile("mov %%ds, %0" : "=r" (ds));
		if (ds)
			_exit(2);
		usleep(1000);
	}
	_exit(0);
}

/* Stop the task, write a selector to DS and ES, and let the task continue. */
static int ptrace_write(pid_t pid, unsigned long selector)
{
	int status;

	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) || waitpid(pid, &status, 0) != pid ||
	    !WIFSTOPPED(status) ||
	    ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, ds), selector) ||
	    ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, es), selector))
		return -1;
	/* Let the other CPU go idle. */
	usleep(2000);
	return ptrace(PTRACE_CONT, pid, NULL, NULL);
}

/*
 * The task has no LDT, so that the kernel must load null for selectors of the LDT, even if the CPU
 * has the guest's LDTR.
 */
TEST_F_TIMEOUT(vmload, guest_ldt_is_not_used_by_tasks, TIMEOUT)
{
	struct sleeper vm = { .cpu = self->cpu };
	pthread_t thread;
	int status;
	pid_t pid;
	void *error;

	if (!self->cpu)
		SKIP(return, "only one CPU: the tracer must run on another CPU");
	ASSERT_EQ(0, pin_to_cpu(0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_sleeper, &vm));
	pid = start_task(self->cpu);
	ASSERT_GT(pid, 0);
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	for (int i = 0; i < 100; i++)
		ASSERT_EQ(0, ptrace_write(pid, 8 * i | 7));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	vm.stop = true;
	pthread_join(thread, &error);
	ASSERT_EQ(NULL, error) TH_LOG("%s", (char *)error);
	vm_destroy(&vm.vm);
}

/* Start a task on the CPU, which sends back each byte. */
static pid_t start_echo(int cpu, int to[2], int from[2])
{
	pid_t pid = fork();
	char byte;

	if (pid)
		return pid;
	if (pin_to_cpu(cpu))
		_exit(1);
	close(to[1]);
	while (read(to[0], &byte, 1) == 1 && write(from[1], &byte, 1) == 1)
		;
	_exit(0);
}

static void on_alarm(int sig)
{
}

#define HWCAP2_FSGSBASE	2

/*
 * The vCPU halts at its first exit after the start of KVM_RUN, and a signal ends KVM_RUN without
 * another exit.  A task that ran meanwhile must not have changed the GS base of this thread.
 */
TEST_F_TIMEOUT(vmload, restored_when_signal_ends_halt, TIMEOUT)
{
	static const unsigned char hlt_loop[] = { 0xf4, 0xeb, 0xfd };
	struct itimerval often = { { .tv_usec = 5000 }, { .tv_usec = 5000 } }, never = {};
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct vm vm;
	int to[2], from[2];
	char byte = 0;

	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		SKIP(return, "this CPU lacks FSGSBASE, or the kernel does not enable FSGSBASE");
	ASSERT_EQ(0, pipe(to));
	ASSERT_EQ(0, pipe(from));
	ASSERT_GT(start_echo(self->cpu, to, from), 0);
	ASSERT_EQ(0, vm_create(&vm, 1)) TH_LOG("%s", vm.error);
	vm.stop_on_signal = true;
	memcpy(vm.mem + GUEST_CODE, hlt_loop, sizeof(hlt_loop));
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	for (unsigned long i = 1; i <= 50; i++) {
		unsigned long base = i << 32, found;

		ASSERT_EQ(0, vm_run(&vm, GUEST_PIO, 1)) TH_LOG("%s", vm.error);
		asm volatile("wrgsbase %0" : : "r" (base));
		ASSERT_EQ(1, write(to[1], &byte, 1));
		ASSERT_EQ(1, read(from[0], &byte, 1));
		asm volatile("rdgsbase %0" : "=r" (found));
		ASSERT_EQ(base, found);
	}
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, NULL));
	vm_destroy(&vm);
	close(to[1]);
}

/* With deferral, exits in the kernel execute no VMLOAD and VMSAVE.  Stock counts nothing. */
TEST_F_TIMEOUT(vmload, loads_and_saves_are_counted, TIMEOUT)
{
	bool deferred = kvm_uses_uret() && !access("/sys/module/kvm_amd", F_OK);
	long long loaded = counted(self->cpu, "loaded"), saved = counted(self->cpu, "saved");

	for (unsigned int i = 1; i <= 20; i++)
		ASSERT_EQ(0, regs_vm_step(&self->vm, i, 100)) TH_LOG("%s", self->vm.vm.error);
	loaded = counted(self->cpu, "loaded") - loaded;
	saved = counted(self->cpu, "saved") - saved;
	if (!deferred) {
		ASSERT_EQ(0, loaded);
		return;
	}
	/* Some per step, not one per exit that the kernel handles. */
	ASSERT_GE(loaded, 20);
	ASSERT_LE(loaded, 20 * 10);
	ASSERT_GE(saved, 20);
	ASSERT_LE(saved, 20 * 10);
}

TEST_HARNESS_MAIN
