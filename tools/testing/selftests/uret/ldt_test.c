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

static void change_while_it_runs(struct __test_metadata *_metadata, FIXTURE_DATA(ldt) *self,
				 bool present)
{
	struct editor editor = { .present = present };
	pthread_t thread;
	int runs = 0;

	ASSERT_EQ(0, pthread_create(&thread, NULL, edit, &editor));
	/* The change falls into one of these, if the exits take long enough. */
	do {
		editor.running = true;
		ASSERT_EQ(0, vm_run(&self->vm, GUEST_CPUID, EXITS)) TH_LOG("%s", self->vm.error);
		runs++;
	} while (!editor.changed);
	pthread_join(thread, NULL);
	ASSERT_EQ(0, editor.ret);
	ASSERT_EQ(present, is_present(SECOND)) TH_LOG("after %d runs", runs);
}

TEST_F_TIMEOUT(ldt, the_first_one_is_there, TIMEOUT)
{
	ASSERT_FALSE(is_present(SECOND));
	change_while_it_runs(_metadata, self, true);
}

TEST_F_TIMEOUT(ldt, a_changed_one_is_there, TIMEOUT)
{
	ASSERT_EQ(0, set_entry(0, true));
	ASSERT_TRUE(is_present(FIRST));
	for (int i = 0; i < ROUNDS; i++)
		change_while_it_runs(_metadata, self, !(i & 1));
	ASSERT_TRUE(is_present(FIRST));
}

TEST_HARNESS_MAIN
