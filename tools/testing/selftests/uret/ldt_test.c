// SPDX-License-Identifier: GPL-2.0-only
/*
 * Another thread installs an LDT while a vCPU runs: the vCPU's thread has the LDT when
 * KVM_RUN returns.  No other process gets the LDT.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <asm/ldt.h>

#include "kselftest_harness.h"

#include "guest.h"
#include "host.h"
#include "vm.h"

#define TIMEOUT		300
#define ROUNDS		20
/* Of the guest, in one call of KVM_RUN. */
#define EXITS		10000

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

/* Whether LAR finds a segment, and the segment is present. */
static bool is_present(unsigned int selector)
{
	unsigned int rights = 0;
	bool found;

	asm volatile("lar %[selector], %[rights]"
		     : "=@ccz" (found), [rights] "+r" (rights) : [selector] "r" (selector));
	return found && rights & 0x8000;
}

struct editor {
	int cpu;
	bool present;
	/* Microseconds, from the call of KVM_RUN. */
	unsigned int delay;
	volatile bool running, changed;
	int ret;
};

/* Changes the second entry while the vCPU runs. */
static void *edit(void *arg)
{
	struct editor *editor = arg;

	editor->ret = host_pin(editor->cpu);
	while (!editor->running)
		sched_yield();
	usleep(editor->delay);
	editor->ret |= set_entry(1, editor->present);
	editor->changed = true;
	return NULL;
}

FIXTURE(ldt) {
};

FIXTURE_SETUP(ldt)
{
	int cpu = host_last_cpu();

	if (!cpu)
		SKIP(return, "only one CPU: the vCPU is put for the other thread");
	ASSERT_EQ(0, host_pin(cpu));
}

FIXTURE_TEARDOWN(ldt)
{
}

/*
 * The delay grows with @round, as the first exit comes late in an emulator.
 *
 * Return: NULL, or what is wrong.
 */
static const char *change_while_it_runs(struct vm *vm, bool present, int round)
{
	struct editor editor = { .present = present, .delay = 1000 + 250 * round };
	pthread_t thread;

	if (pthread_create(&thread, NULL, edit, &editor))
		return "no thread";
	/* The change falls into one of these, if the exits take long enough. */
	do {
		editor.running = true;
		if (vm_run(vm, GUEST_CPUID, EXITS))
			return vm->error;
	} while (!editor.changed);
	pthread_join(thread, NULL);
	if (editor.ret)
		return "modify_ldt() failed";
	if (is_present(SECOND) != present)
		return present ? "a new entry is not there" : "an entry is there that was removed";
	return NULL;
}

/* Return: NULL, or what is wrong. */
static const char *get_the_first_one(struct vm *vm, int round)
{
	if (is_present(SECOND))
		return "an entry is there that was never set";
	if (vm_create(vm, 1))
		return vm->error;
	return change_while_it_runs(vm, true, round);
}

/* A process has one chance. */
TEST_F_TIMEOUT(ldt, the_first_one_is_there, TIMEOUT)
{
	for (int i = 0; i < ROUNDS; i++) {
		pid_t child = fork();
		int status;

		ASSERT_LE(0, child);
		if (!child) {
			struct vm vm;
			const char *wrong = get_the_first_one(&vm, i);

			if (wrong)
				TH_LOG("%s, round %d", wrong, i);
			_exit(wrong ? 1 : 0);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(0, status);
	}
}

TEST_F_TIMEOUT(ldt, a_changed_one_is_there, TIMEOUT)
{
	struct vm vm;

	ASSERT_EQ(0, vm_create(&vm, 1)) TH_LOG("%s", vm.error);
	ASSERT_EQ(0, set_entry(0, true));
	ASSERT_TRUE(is_present(FIRST));
	for (int i = 0; i < ROUNDS; i++) {
		const char *wrong = change_while_it_runs(&vm, !(i & 1), i);

		ASSERT_EQ(NULL, wrong) TH_LOG("%s, round %d", wrong, i);
	}
	ASSERT_TRUE(is_present(FIRST));
	vm_destroy(&vm);
}

/* Here the last file descriptor of the VM is that of a process without an LDT. */
TEST_F_TIMEOUT(ldt, is_not_that_of_the_process_that_created_the_vm, TIMEOUT)
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
