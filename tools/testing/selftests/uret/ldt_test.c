// SPDX-License-Identifier: GPL-2.0-only
/*
 * Another thread installs an LDT while a vCPU runs: the vCPU's thread has it when
 * KVM_RUN returns.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <asm/ldt.h>

#include "kselftest_harness.h"

#include "guest.h"
#include "host.h"
#include "vm.h"

#define TIMEOUT		300
#define ROUNDS		20
#define EXITS		20000

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
	usleep(1000);
	editor->ret |= set_entry(1, editor->present);
	editor->changed = true;
	return NULL;
}

FIXTURE(ldt) {
	int cpu;
	struct vm vm;
};

FIXTURE_SETUP(ldt)
{
	self->cpu = host_last_cpu();
	if (!self->cpu)
		SKIP(return, "only one CPU: the vCPU is put for the other thread");
	ASSERT_EQ(0, host_pin(self->cpu));
	ASSERT_EQ(0, vm_create(&self->vm, 1)) TH_LOG("%s", self->vm.error);
}

FIXTURE_TEARDOWN(ldt)
{
	if (self->cpu)
		vm_destroy(&self->vm);
}

/* Return: NULL, or what is wrong. */
static const char *change_while_it_runs(struct vm *vm, bool present)
{
	struct editor editor = { .present = present };
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

TEST_F_TIMEOUT(ldt, the_first_one_is_there, TIMEOUT)
{
	const char *wrong;

	ASSERT_FALSE(is_present(SECOND));
	wrong = change_while_it_runs(&self->vm, true);
	ASSERT_EQ(NULL, wrong) TH_LOG("%s", wrong);
}

TEST_F_TIMEOUT(ldt, a_changed_one_is_there, TIMEOUT)
{
	ASSERT_EQ(0, set_entry(0, true));
	ASSERT_TRUE(is_present(FIRST));
	for (int i = 0; i < ROUNDS; i++) {
		const char *wrong = change_while_it_runs(&self->vm, !(i & 1));

		ASSERT_EQ(NULL, wrong) TH_LOG("%s, round %d", wrong, i);
	}
	ASSERT_TRUE(is_present(FIRST));
}

TEST_HARNESS_MAIN
