// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <asm/msr-index.h>

#include "common.h"
#include "guest.h"
#include "regs_vm.h"

#define CODE	0x10000UL
#define REGS	0x18000UL
#define GDT	0x4000UL	/* as in vm.c */

/* Two LDTs and two TSSs, after the segments of vm.c. */
#define FIRST_LDT	0x30
#define FIRST_TSS	0x50
#define GDT_END		0x70
#define LDT_LIMIT	0xfff
#define TSS_LIMIT	0x6f

/* Mapped by the guest, without memory behind. */
#define MMIO	0x10000000UL

static const struct {
	const char *name;
	uint32_t msr;
} names[GUEST_NR_REGS] = {
	[GUEST_FS_BASE] = { "FS_BASE", MSR_FS_BASE },
	[GUEST_GS_BASE] = { "GS_BASE", MSR_GS_BASE },
	[GUEST_KERNEL_GS_BASE] = { "KERNEL_GS_BASE", MSR_KERNEL_GS_BASE },
	[GUEST_STAR] = { "STAR", MSR_STAR },
	[GUEST_LSTAR] = { "LSTAR", MSR_LSTAR },
	[GUEST_CSTAR] = { "CSTAR", MSR_CSTAR },
	[GUEST_FMASK] = { "FMASK", MSR_SYSCALL_MASK },
	[GUEST_SYSENTER_CS] = { "SYSENTER_CS", MSR_IA32_SYSENTER_CS },
	[GUEST_SYSENTER_ESP] = { "SYSENTER_ESP", MSR_IA32_SYSENTER_ESP },
	[GUEST_SYSENTER_EIP] = { "SYSENTER_EIP", MSR_IA32_SYSENTER_EIP },
	[GUEST_FS] = { "FS" }, [GUEST_GS] = { "GS" },
	[GUEST_LDTR] = { "LDTR" }, [GUEST_TR] = { "TR" },
};

struct some_msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[REGS_NR_MSRS];
};

static int fail(struct regs_vm *vm, const char *call)
{
	snprintf(vm->vm.error, sizeof(vm->vm.error), "%s: %s", call, strerror(errno));
	return -1;
}

static int mismatch(struct regs_vm *vm, const char *source, int reg, uint64_t expected,
		    uint64_t got)
{
	snprintf(vm->vm.error, sizeof(vm->vm.error), "%s: %s: expected %#llx, got %#llx", source,
		 names[reg].name, (unsigned long long)expected, (unsigned long long)got);
	return -1;
}

/* All values are canonical and distinct, also from the values of other sets. */
static uint64_t value_of(unsigned int set, int reg)
{
	uint64_t offset = (uint64_t)set * 0x1010 + reg * 0x10 + 8;

	switch (reg) {
	case GUEST_FS_BASE:
		return MMIO + offset;
	case GUEST_GS_BASE:
	case GUEST_LSTAR:
	case GUEST_CSTAR:
		return 0xffff900000000000ULL + offset;
	case GUEST_KERNEL_GS_BASE:
		return 0x00007e0000000000ULL + offset;
	case GUEST_STAR:
		return 0x0023001000000000ULL + offset;
	case GUEST_FS:
		return set % 2 ? 0x10 : 0x20;
	case GUEST_GS:
		return set % 2 ? 0x20 : 0x10;
	case GUEST_LDTR:
		return FIRST_LDT + set % 2 * 0x10;
	case GUEST_TR:
		return FIRST_TSS + set % 2 * 0x10;
	default:
		return offset & 0xffff;
	}
}

static uint64_t base_of(uint64_t selector)
{
	return 0xffff980000000000ULL + selector * 0x10000;
}

static void set_descriptor(struct regs_vm *vm, int selector, int type, uint64_t limit)
{
	uint64_t *gdt = vm->vm.mem + GDT, base = base_of(selector);

	gdt[selector / 8] = limit | (base & 0xffffff) << 16 | (uint64_t)type << 40 |
			    1ULL << 47 | (base >> 24 & 0xff) << 56;
	gdt[selector / 8 + 1] = base >> 32;
}

/* LTR needs a TSS that is not busy, and marks the TSS as busy. */
static void set_descriptors(struct regs_vm *vm)
{
	for (int i = 0; i < 2; i++) {
		set_descriptor(vm, FIRST_LDT + 0x10 * i, 2, LDT_LIMIT);
		set_descriptor(vm, FIRST_TSS + 0x10 * i, 9, TSS_LIMIT);
	}
}

static int get_msrs(struct regs_vm *vm, uint64_t *values)
{
	struct some_msrs msrs = { .head.nmsrs = REGS_NR_MSRS };

	for (int i = 0; i < REGS_NR_MSRS; i++)
		msrs.entries[i].index = names[i].msr;
	if (ioctl(vm->vm.vcpu_fd, KVM_GET_MSRS, &msrs) != REGS_NR_MSRS)
		return fail(vm, "KVM_GET_MSRS");
	for (int i = 0; i < REGS_NR_MSRS; i++)
		values[i] = msrs.entries[i].data;
	return 0;
}

static int set_msrs(struct regs_vm *vm, const uint64_t *values)
{
	struct some_msrs msrs = { .head.nmsrs = REGS_NR_MSRS };

	for (int i = 0; i < REGS_NR_MSRS; i++) {
		msrs.entries[i].index = names[i].msr;
		msrs.entries[i].data = values[i];
	}
	if (ioctl(vm->vm.vcpu_fd, KVM_SET_MSRS, &msrs) != REGS_NR_MSRS)
		return fail(vm, "KVM_SET_MSRS");
	return 0;
}

int regs_vm_create(struct regs_vm *vm)
{
	struct kvm_sregs sregs;

	memset(vm, 0, sizeof(*vm));
	if (vm_create(&vm->vm, 1))
		return -1;
	vm->regs = vm->vm.mem + REGS;
	memcpy(vm->vm.mem + CODE, guest_regs_start, guest_regs_end - guest_regs_start);
	set_descriptors(vm);
	if (ioctl(vm->vm.vcpu_fd, KVM_GET_SREGS, &sregs))
		return fail(vm, "KVM_GET_SREGS");
	sregs.gdt.limit = GDT_END - 1;
	if (ioctl(vm->vm.vcpu_fd, KVM_SET_SREGS, &sregs))
		return fail(vm, "KVM_SET_SREGS");
	if (ioctl(vm->vm.vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_SREGS)
		vm->vm.run->kvm_valid_regs = KVM_SYNC_X86_SREGS;
	return 0;
}

static int compare(struct regs_vm *vm, const char *source, const uint64_t *values,
		   const uint64_t *expected)
{
	for (int i = 0; i < GUEST_NR_REGS; i++)
		if (values[i] != expected[i])
			return mismatch(vm, source, i, expected[i], values[i]);
	return 0;
}

static int compare_segment(struct regs_vm *vm, const char *source, int reg,
			   const struct kvm_segment *segment, uint64_t base, uint32_t limit)
{
	if (segment->selector != vm->expected[reg])
		return mismatch(vm, source, reg, vm->expected[reg], segment->selector);
	if (segment->base != base)
		return mismatch(vm, source, reg, base, segment->base);
	if (segment->limit != limit)
		return mismatch(vm, source, reg, limit, segment->limit);
	return 0;
}

static int compare_sregs(struct regs_vm *vm, const char *source, const struct kvm_sregs *sregs)
{
	const uint64_t *expected = vm->expected;

	return compare_segment(vm, source, GUEST_FS, &sregs->fs, expected[GUEST_FS_BASE], ~0U) ||
	       compare_segment(vm, source, GUEST_GS, &sregs->gs, expected[GUEST_GS_BASE], ~0U) ||
	       compare_segment(vm, source, GUEST_LDTR, &sregs->ldt, base_of(expected[GUEST_LDTR]),
			       LDT_LIMIT) ||
	       compare_segment(vm, source, GUEST_TR, &sregs->tr, base_of(expected[GUEST_TR]),
			       TSS_LIMIT) ? -1 : 0;
}

/* Check the values that KVM returns, in kvm_run and by ioctls. */
static int compare_ioctls(struct regs_vm *vm)
{
	const struct kvm_run *run = vm->vm.run;
	uint64_t values[GUEST_NR_REGS];
	struct kvm_sregs sregs;

	if (run->kvm_valid_regs && compare_sregs(vm, "kvm_run", &run->s.regs.sregs))
		return -1;
	if (ioctl(vm->vm.vcpu_fd, KVM_GET_SREGS, &sregs))
		return fail(vm, "KVM_GET_SREGS");
	if (compare_sregs(vm, "KVM_GET_SREGS", &sregs) || get_msrs(vm, values))
		return -1;
	memcpy(values + GUEST_FS, vm->expected + GUEST_FS, 4 * sizeof(*values));
	return compare(vm, "KVM_GET_MSRS", values, vm->expected);
}

static int run(struct regs_vm *vm)
{
	const struct kvm_run *run = vm->vm.run;
	bool emulated = false;

	for (;;) {
		if (ioctl(vm->vm.vcpu_fd, KVM_RUN, 0)) {
			if (errno == EINTR)
				continue;
			return fail(vm, "KVM_RUN");
		}
		if (run->exit_reason == KVM_EXIT_MMIO && !emulated) {
			if (run->mmio.phys_addr != vm->expected[GUEST_FS_BASE])
				return mismatch(vm, "emulation", GUEST_FS_BASE,
						vm->expected[GUEST_FS_BASE], run->mmio.phys_addr);
			emulated = true;
			continue;
		}
		if (run->exit_reason == KVM_EXIT_IO && emulated)
			return 0;
		snprintf(vm->vm.error, sizeof(vm->vm.error), "expected %s, got exit reason %u",
			 emulated ? "KVM_EXIT_IO" : "KVM_EXIT_MMIO", run->exit_reason);
		return -1;
	}
}

static int prepare(struct regs_vm *vm, unsigned int set, unsigned int exits, bool shut_down)
{
	struct kvm_regs regs = {
		.rip = CODE, .rsp = CODE, .rflags = 2, .rdi = REGS, .rsi = exits, .r10 = shut_down,
	};

	set_descriptors(vm);
	for (int i = 0; i < GUEST_NR_REGS; i++)
		vm->expected[i] = value_of(set, i);
	memcpy(vm->regs->set, vm->expected, sizeof(vm->expected));
	vm->known = true;
	if (ioctl(vm->vm.vcpu_fd, KVM_SET_REGS, &regs))
		return fail(vm, "KVM_SET_REGS");
	return 0;
}

int regs_vm_step(struct regs_vm *vm, unsigned int set, unsigned int exits)
{
	uint64_t before[GUEST_NR_REGS];
	bool known = vm->known;

	memcpy(before, vm->expected, sizeof(before));
	if (prepare(vm, set, exits, false))
		return -1;
	if (run(vm) || (known && compare(vm, "guest, at the start", vm->regs->found, before)) ||
	    compare(vm, "guest, after the exits", vm->regs->kept, vm->expected))
		return -1;
	return compare_ioctls(vm);
}

int regs_vm_shut_down(struct regs_vm *vm, unsigned int set, unsigned int exits)
{
	uint64_t msrs[REGS_NR_MSRS];

	if (prepare(vm, set, exits, true))
		return -1;
	if (ioctl(vm->vm.vcpu_fd, KVM_RUN, 0))
		return fail(vm, "KVM_RUN");
	if (vm->vm.run->exit_reason != KVM_EXIT_SHUTDOWN) {
		snprintf(vm->vm.error, sizeof(vm->vm.error),
			 "expected KVM_EXIT_SHUTDOWN, got exit reason %u",
			 vm->vm.run->exit_reason);
		return -1;
	}
	if (get_msrs(vm, msrs))
		return -1;
	for (int i = 0; i < REGS_NR_MSRS; i++)
		if (msrs[i])
			return mismatch(vm, "after a shutdown", i, 0, msrs[i]);
	return 0;
}

static void set_segment(struct kvm_segment *segment, const uint64_t *values, int reg, uint64_t base)
{
	segment->selector = values[reg];
	segment->base = base;
}

int regs_vm_set(struct regs_vm *vm, unsigned int set)
{
	uint64_t *values = vm->expected;
	struct kvm_sregs sregs;

	for (int i = 0; i < GUEST_NR_REGS; i++)
		values[i] = value_of(set, i);
	if (ioctl(vm->vm.vcpu_fd, KVM_GET_SREGS, &sregs))
		return fail(vm, "KVM_GET_SREGS");
	set_segment(&sregs.fs, values, GUEST_FS, values[GUEST_FS_BASE]);
	set_segment(&sregs.gs, values, GUEST_GS, values[GUEST_GS_BASE]);
	set_segment(&sregs.ldt, values, GUEST_LDTR, base_of(values[GUEST_LDTR]));
	set_segment(&sregs.tr, values, GUEST_TR, base_of(values[GUEST_TR]));
	if (ioctl(vm->vm.vcpu_fd, KVM_SET_SREGS, &sregs))
		return fail(vm, "KVM_SET_SREGS");
	return set_msrs(vm, values);
}

int regs_vm_save(struct regs_vm *vm, struct regs_state *state)
{
	memcpy(state->expected, vm->expected, sizeof(state->expected));
	if (ioctl(vm->vm.vcpu_fd, KVM_GET_SREGS, &state->sregs))
		return fail(vm, "KVM_GET_SREGS");
	return get_msrs(vm, state->msrs);
}

int regs_vm_restore(struct regs_vm *vm, const struct regs_state *state)
{
	memcpy(vm->expected, state->expected, sizeof(vm->expected));
	vm->known = true;
	if (ioctl(vm->vm.vcpu_fd, KVM_SET_SREGS, &state->sregs))
		return fail(vm, "KVM_SET_SREGS");
	return set_msrs(vm, state->msrs);
}
