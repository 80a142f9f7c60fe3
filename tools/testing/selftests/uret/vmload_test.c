// SPDX-License-Identifier: GPL-2.0-only
/*
 * What VMLOAD loads is the guest's wherever the newest of it is: in the guest, for
 * KVM, and for user space that saves and restores it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "common.h"
#include "host.h"
#include "regs_vm.h"

/* A kernel with KASAN and lockdep, emulated, takes its time. */
#define TIMEOUT 300

FIXTURE(vmload) {
	int cpu;
	struct regs_vm vm;
};

FIXTURE_SETUP(vmload)
{
	if (access("/dev/kvm", R_OK | W_OK))
		SKIP(return, "no /dev/kvm");
	self->cpu = host_last_cpu();
	ASSERT_EQ(0, host_pin(self->cpu));
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

TEST_F_TIMEOUT(vmload, is_kept_by_a_guest_and_known_to_all, TIMEOUT)
{
	for (unsigned int i = 1; i <= 200; i++) {
		ASSERT_EQ(0, regs_vm_step(&self->vm, i, i % 4 * 5)) TH_LOG("%s", self->vm.vm.error);
		ASSERT_EQ(NULL, host_check()) TH_LOG("%s", host_check());
	}
}

TEST_F_TIMEOUT(vmload, is_found_as_it_was_set_from_outside, TIMEOUT)
{
	for (unsigned int i = 1; i <= 200; i += 2) {
		ASSERT_EQ(0, regs_vm_step(&self->vm, i, 10)) TH_LOG("%s", self->vm.vm.error);
		ASSERT_EQ(0, regs_vm_set(&self->vm, i + 1)) TH_LOG("%s", self->vm.vm.error);
	}
}

TEST_F_TIMEOUT(vmload, is_restored_as_it_was_saved, TIMEOUT)
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

TEST_F_TIMEOUT(vmload, is_reset_when_a_guest_shuts_down, TIMEOUT)
{
	if (access("/sys/module/kvm_amd", F_OK))
		SKIP(return, "KVM keeps it: not on VMX");
	ASSERT_EQ(0, regs_vm_shut_down(&self->vm, 1, 20)) TH_LOG("%s", self->vm.vm.error);
}

/* That this was put to the test at all, and stock is stock. */
TEST_F_TIMEOUT(vmload, is_counted, TIMEOUT)
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
	/* Not for each of the exits that the kernel handles. */
	ASSERT_GE(loaded, 20);
	ASSERT_LE(loaded, 20 * 10);
	ASSERT_GE(saved, 20);
	ASSERT_LE(saved, 20 * 10);
}

TEST_HARNESS_MAIN
