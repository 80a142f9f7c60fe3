// SPDX-License-Identifier: GPL-2.0-only
/*
 * Another thread installs an LDT while a vCPU runs: the vCPU's thread has the LDT when
 * KVM_RUN returns.  No other process gets the LDT.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <asm/ldt.h>

#include "kselftest_harness.h"

#include "common.h"
#include "guest.h"
#include "vm.h"

#define TIMEOUT		300
#define ROUNDS		20
/* Exits in one call of vm_run(). */
#define EXITS		5000

/* Selectors of the first and the second entry of the LDT, for user mode. */
#define FIRST		7
#define SECOND		15

static int set_entry(unsigned int entry, bool present)
{
	struct user_desc desc = {
		.entry_number = entry, .limit = 0xfffff, .seg_32bit = 1,
		.limit_in_pages = 1, .seg_not_present = !present, .read_exec_only = !present,
	};

	return syscall(SYS_modify_ldt, 0x11, &desc, sizeof(desc));
}

/* Whether LAR finds a segment that is present. */
static bool is_present(unsigned int selector)
{
	unsigned int rights = 0;
	bool found;

	asm volatile("lar %[selector], %[rights]"
		     : "=@ccz" (found), [rights] "+r" (rights) : [selector] "r" (selector));
	return found && rights & 0x8000;
}

struct editor {
	bool present;
	/* Microseconds, from the start of vm_run(). */
	unsigned int delay;
	volatile bool ready, running, changed;
	/* The times before and after modify_ldt(). */
	long long start, end;
	int pin_ret, ret;
};

/* Changes the second entry while the vCPU runs. */
static void *edit(void *arg)
{
	struct editor *editor = arg;

	editor->pin_ret = pin_to_cpu(0);
	editor->ready = true;
	while (!editor->running)
		sched_yield();
	usleep(editor->delay);
	editor->start = now_ns();
	editor->ret = set_entry(1, editor->present);
	editor->end = now_ns();
	editor->changed = true;
	return NULL;
}

FIXTURE(ldt) {
};

FIXTURE_SETUP(ldt)
{
	int cpu = last_cpu();

	if (!cpu)
		SKIP(return, "only one CPU: a switch to the other thread would put the vCPU");
	ASSERT_EQ(0, pin_to_cpu(cpu));
}

FIXTURE_TEARDOWN(ldt)
{
}

/*
 * change_ldt_in_run() - change the LDT of this process while the vCPU runs, at another time in
 * each round
 * @inside: set to whether the whole change fell into one call of vm_run()
 *
 * Return: NULL, or an error message.
 */
static const char *change_ldt_in_run(struct vm *vm, bool present, int round, bool *inside)
{
	struct editor editor = { .present = present };
	long long start = now_ns(), end;
	pthread_t thread;
	int failed;

	/* Map the memory of the guest, and measure the time of vm_run(). */
	if (vm_run(vm, GUEST_CPUID, EXITS))
		return vm->error;
	editor.delay = (now_ns() - start) / 1000 * (round + 1) / (ROUNDS + 1);

	if (pthread_create(&thread, NULL, edit, &editor))
		return "cannot create a thread";
	while (!editor.ready)
		sched_yield();
	do {
		start = now_ns();
		editor.running = true;
		failed = vm_run(vm, GUEST_CPUID, EXITS);
		end = now_ns();
	} while (!failed && !editor.changed);
	pthread_join(thread, NULL);

	if (failed)
		return vm->error;
	if (editor.pin_ret)
		return "the other thread cannot be pinned";
	if (editor.ret)
		return "modify_ldt() failed";
	*inside = start < editor.start && editor.end < end;
	if (is_present(SECOND) != present)
		return present ? "expected the new entry of the LDT, got none" :
				 "expected no removed entry of the LDT, got one";
	return NULL;
}

/* Exit statuses of a process that installs its first LDT. */
enum { INSIDE, OUTSIDE, FAILED };

static int install_first_ldt(struct __test_metadata *_metadata, int round)
{
	const char *error;
	struct vm vm;
	bool inside;

	if (is_present(SECOND))
		error = "expected no entry of the LDT before modify_ldt(), got one";
	else if (vm_create(&vm, 1))
		error = vm.error;
	else
		error = change_ldt_in_run(&vm, true, round, &inside);
	if (error) {
		TH_LOG("%s, round %d", error, round);
		return FAILED;
	}
	return inside ? INSIDE : OUTSIDE;
}

/* A process installs its first LDT only once: use a new process for each round. */
TEST_F_TIMEOUT(ldt, first_ldt_is_loaded, TIMEOUT)
{
	int nr_inside = 0;

	for (int i = 0; i < ROUNDS; i++) {
		pid_t child = fork();
		int status;

		ASSERT_LE(0, child);
		if (!child)
			_exit(install_first_ldt(_metadata, i));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_TRUE(WIFEXITED(status));
		ASSERT_NE(FAILED, WEXITSTATUS(status));
		nr_inside += WEXITSTATUS(status) == INSIDE;
	}
	ASSERT_LT(0, nr_inside);
}

TEST_F_TIMEOUT(ldt, changed_ldt_is_loaded, TIMEOUT)
{
	int nr_inside = 0;
	struct vm vm;

	ASSERT_EQ(0, vm_create(&vm, 1)) TH_LOG("%s", vm.error);
	ASSERT_EQ(0, set_entry(0, true));
	ASSERT_TRUE(is_present(FIRST));
	for (int i = 0; i < ROUNDS; i++) {
		const char *error;
		bool inside;

		error = change_ldt_in_run(&vm, !(i & 1), i, &inside);
		ASSERT_EQ(NULL, error) TH_LOG("%s, round %d", error, i);
		nr_inside += inside;
	}
	ASSERT_TRUE(is_present(FIRST));
	ASSERT_LT(0, nr_inside);
	vm_destroy(&vm);
}

/*
 * A child without an LDT destroys the VM of a process with an LDT.  Only VMX puts a vCPU
 * then, in nested_vmx_free_vcpu().
 */
TEST_F_TIMEOUT(ldt, no_other_process_gets_the_ldt, TIMEOUT)
{
	int pipe_fds[2], status;
	char byte = 0;
	struct vm vm;
	pid_t child;

	ASSERT_EQ(0, vm_create(&vm, 1)) TH_LOG("%s", vm.error);
	ASSERT_EQ(0, pipe(pipe_fds));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		/* Close the write end, so that the read fails if the parent ends. */
		close(pipe_fds[1]);
		if (read(pipe_fds[0], &byte, 1) != 1)
			_exit(2);
		vm_destroy(&vm);
		_exit(is_present(SECOND));
	}
	ASSERT_EQ(0, set_entry(1, true));
	vm_destroy(&vm);
	ASSERT_EQ(1, write(pipe_fds[1], &byte, 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
}

TEST_HARNESS_MAIN
