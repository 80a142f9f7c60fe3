// SPDX-License-Identifier: GPL-2.0-only
/* A process with a vCPU.  The thread of the vCPU checks its FS and GS after each run. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <asm/prctl.h>

#include "common.h"
#include "fsgs_desc.h"
#include "fsgs_vm.h"
#include "guest.h"
#include "vm.h"

#define LDT_SELECTOR	7
#define SEGMENT_BASE	0x12345000
#define USER_DS		0x2b
#define HWCAP2_FSGSBASE	2

static struct fsgs_shared *shared;
static enum fsgs_vm_kind kind;
static unsigned int seed;
static volatile int ldt_made;
static bool has_fsgsbase;

static unsigned int rnd(unsigned int below)
{
	return rand_r(&seed) % below;
}

static void fail(const char *message)
{
	if (shared->failed)
		return;
	shared->failed = 1;
	snprintf(shared->message, sizeof(shared->message), "vCPU thread %u: %s", shared->tid,
		 message);
}

static void check_one(const char *name, unsigned long long expected, unsigned long long got)
{
	char message[80];

	if (got == expected)
		return;
	snprintf(message, sizeof(message), "%s: expected %#llx, got %#llx", name, expected, got);
	fail(message);
}

static unsigned long get_base(int code)
{
	unsigned long base = 0;

	syscall(SYS_arch_prctl, code, &base);
	return base;
}

static void load_gs(unsigned int selector)
{
	asm volatile("movl %0, %%gs" : : "r" (selector) : "memory");
}

#define GET_SELECTOR(reg) ({					\
	unsigned int selector;					\
	asm volatile("movl %%" #reg ", %0" : "=r" (selector));	\
	selector & 0xffff;					\
})

/* Get the property of @kind, except for the LDT, which the other thread installs later. */
static int set_up_kind(void)
{
	struct user_desc *low;

	if (kind == FSGS_VM_PORT)
		return ioperm(FSGS_PORT, 1, 1);
	if (kind != FSGS_VM_TLS)
		return 0;
	low = mmap(NULL, sizeof(*low), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	return low == MAP_FAILED || fsgs_set_tls(SEGMENT_BASE, low);
}

/*
 * The C library uses FS.  Without FSGSBASE, KVM loses the base of a segment with a selector on
 * VMX, with or without uret: save_base_legacy() sets the base to 0, and
 * vmx_prepare_switch_to_host() writes 0.
 */
static void change_gs(void)
{
	unsigned int selector = 0;

	if (kind == FSGS_VM_LDT && ldt_made && has_fsgsbase)
		selector = LDT_SELECTOR;
	else if (kind == FSGS_VM_TLS && has_fsgsbase && rnd(2))
		selector = FSGS_TLS_SELECTOR;

	shared->changing++;
	if (kind == FSGS_VM_TLS) {
		/* No effect in 64-bit code. */
		asm volatile("movl %0, %%ds" : : "r" (rnd(2) * USER_DS) : "memory");
		asm volatile("movl %0, %%es" : : "r" (rnd(2) * USER_DS) : "memory");
	}
	load_gs(selector);
	if (!selector)
		syscall(SYS_arch_prctl, ARCH_SET_GS,
			(unsigned long)rnd(0x7fff) << 32 | rnd(0x7fffffff));
	shared->expected.fs = GET_SELECTOR(fs);
	shared->expected.gs = GET_SELECTOR(gs);
	shared->expected.ds = GET_SELECTOR(ds);
	shared->expected.es = GET_SELECTOR(es);
	shared->expected.fs_base = get_base(ARCH_GET_FS);
	shared->expected.gs_base = get_base(ARCH_GET_GS);
	shared->changing++;
}

/* Whether the thread has the property of @kind now. */
static bool has_property(void)
{
	switch (kind) {
	case FSGS_VM_TLS:
		return shared->expected.gs || shared->expected.ds || shared->expected.es;
	case FSGS_VM_LDT:
		return ldt_made;
	default:
		return true;
	}
}

static void check(void)
{
	check_one("FS", shared->expected.fs, GET_SELECTOR(fs));
	check_one("GS", shared->expected.gs, GET_SELECTOR(gs));
	check_one("DS", shared->expected.ds, GET_SELECTOR(ds));
	check_one("ES", shared->expected.es, GET_SELECTOR(es));
	check_one("FS base", shared->expected.fs_base, get_base(ARCH_GET_FS));
	check_one("GS base", shared->expected.gs_base, get_base(ARCH_GET_GS));
	/* Without an LDT, this task dies by SIGSEGV. */
	if (shared->expected.gs == LDT_SELECTOR)
		load_gs(LDT_SELECTOR);
	if (kind == FSGS_VM_PORT)
		outb(0, FSGS_PORT);
	shared->checks += has_property();
}

static void *vcpu(void *arg)
{
	struct vm vm;
	int fd;

	shared->tid = syscall(SYS_gettid);
	has_fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
	if (set_up_kind()) {
		fail("cannot get an I/O bitmap or a selector");
		return NULL;
	}
	if (vm_create(&vm, 1 + rnd(2)))
		goto out;
	/* Enable the APIC, so that a kernel thread can wake the guest from GUEST_TURN. */
	if (vm_run(&vm, GUEST_HLT, 1))
		goto out;
	fd = vm_turn_fd(&vm);
	if (fd < 0 || vm_wake_by(&vm, fd, VM_IRQ_WORKER))
		goto out;
	while (shared->command != FSGS_STOP && !shared->failed) {
		static const int ops[] = {
			GUEST_PIO, GUEST_CPUID, GUEST_HLT, GUEST_TURN, GUEST_WRMSR,
		};
		int op = ops[rnd(ARRAY_SIZE(ops))], most = 100;

		/* Leave the CPU idle for some time. */
		if (shared->command == FSGS_REST) {
			usleep(rnd(100000));
			op = GUEST_HLT + rnd(2);
		}
		if (op == GUEST_HLT || op == GUEST_TURN)
			most = 20;
		change_gs();
		if (vm_run(&vm, op, 1 + rnd(most)))
			goto out;
		check();
	}
	return NULL;
out:
	fail(vm.error);
	return NULL;
}

void fsgs_vm(struct fsgs_shared *vm_shared, enum fsgs_vm_kind vm_kind, unsigned int vm_seed)
{
	struct user_desc desc = fsgs_descriptor(0, SEGMENT_BASE);
	pthread_t thread;

	shared = vm_shared;
	kind = vm_kind;
	seed = vm_seed;
	if (pthread_create(&thread, NULL, vcpu, NULL))
		_exit(2);
	/* Install the LDT while the other thread runs its guest, or sleeps. */
	while (*(volatile unsigned int *)&shared->changing < 4 && !shared->failed)
		usleep(10000);
	usleep(200000 + rnd(400000));
	if (kind == FSGS_VM_LDT) {
		if (syscall(SYS_modify_ldt, 1, &desc, sizeof(desc)))
			fail("cannot install an LDT");
		else
			ldt_made = 1;
	}
	pthread_join(thread, NULL);
	_exit(0);
}
