// SPDX-License-Identifier: GPL-2.0-only
/* A process with a vCPU, whose thread keeps an eye on its FS and GS. */
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

static struct fsgs_claim *claim;
static enum fsgs_vm_kind kind;
static unsigned int seed;
static volatile int ldt_made;
static bool has_fsgsbase;

static unsigned int rnd(unsigned int below)
{
	return rand_r(&seed) % below;
}

static void wrong(const char *what)
{
	if (claim->wrong)
		return;
	claim->wrong = 1;
	snprintf(claim->what, sizeof(claim->what), "vCPU thread %u: %s", claim->tid, what);
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

/* Makes @kind what it is; the LDT comes later. */
static int become_special(void)
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
 * FS is the C library's.  Without FSGSBASE, KVM loses the base behind a selector on
 * VMX, with or without uret: vmx_prepare_switch_to_host() writes what
 * save_base_legacy() has made 0.
 */
static void change_gs(void)
{
	unsigned int selector = 0;

	if (kind == FSGS_VM_LDT && ldt_made && has_fsgsbase)
		selector = LDT_SELECTOR;
	else if (kind == FSGS_VM_TLS && has_fsgsbase && rnd(2))
		selector = FSGS_TLS_SELECTOR;

	claim->changing++;
	if (kind == FSGS_VM_TLS) {
		/* 64-bit code does not care. */
		asm volatile("movl %0, %%ds" : : "r" (rnd(2) * USER_DS) : "memory");
		asm volatile("movl %0, %%es" : : "r" (rnd(2) * USER_DS) : "memory");
	}
	load_gs(selector);
	if (!selector)
		syscall(SYS_arch_prctl, ARCH_SET_GS,
			(unsigned long)rnd(0x7fff) << 32 | rnd(0x7fffffff));
	claim->fs = GET_SELECTOR(fs);
	claim->gs = GET_SELECTOR(gs);
	claim->ds = GET_SELECTOR(ds);
	claim->es = GET_SELECTOR(es);
	claim->fs_base = get_base(ARCH_GET_FS);
	claim->gs_base = get_base(ARCH_GET_GS);
	claim->changing++;
}

/* Whether it has what its kind is about just now. */
static bool is_special(void)
{
	switch (kind) {
	case FSGS_VM_TLS:
		return claim->gs || claim->ds || claim->es;
	case FSGS_VM_LDT:
		return ldt_made;
	default:
		return true;
	}
}

static void check(void)
{
	if (GET_SELECTOR(fs) != claim->fs || GET_SELECTOR(gs) != claim->gs ||
	    GET_SELECTOR(ds) != claim->ds || GET_SELECTOR(es) != claim->es)
		wrong("a selector is not its own");
	if (get_base(ARCH_GET_FS) != claim->fs_base)
		wrong("the FS base is not its own");
	if (get_base(ARCH_GET_GS) != claim->gs_base)
		wrong("the GS base is not its own");
	/* Is the LDT there?  This dies if it is not. */
	if (claim->gs == LDT_SELECTOR)
		load_gs(LDT_SELECTOR);
	if (kind == FSGS_VM_PORT)
		outb(0, FSGS_PORT);
	claim->checks += is_special();
}

static void *vcpu(void *arg)
{
	struct vm vm;
	int fd;

	claim->tid = syscall(SYS_gettid);
	has_fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
	if (become_special()) {
		wrong("it gets no I/O bitmap, or no selector");
		return NULL;
	}
	if (vm_create(&vm, 1 + rnd(2)))
		goto out;
	/* Its APIC has to be on; then a kernel thread wakes it from its turns. */
	if (vm_run(&vm, GUEST_HLT, 1))
		goto out;
	fd = vm_turn_fd(&vm);
	if (fd < 0 || vm_wake_by(&vm, fd, VM_IRQ_WORKER))
		goto out;
	while (claim->command != FSGS_STOP && !claim->wrong) {
		static const int whats[] = {
			GUEST_PIO, GUEST_CPUID, GUEST_HLT, GUEST_TURN, GUEST_WRMSR,
		};
		int what = whats[rnd(ARRAY_SIZE(whats))], most = 100;

		/* With few others about, a CPU stays idle for a while. */
		if (claim->command == FSGS_REST) {
			usleep(rnd(100000));
			what = GUEST_HLT + rnd(2);
		}
		if (what == GUEST_HLT || what == GUEST_TURN)
			most = 20;
		change_gs();
		if (vm_run(&vm, what, 1 + rnd(most)))
			goto out;
		check();
	}
	return NULL;
out:
	wrong(vm.error);
	return NULL;
}

void fsgs_vm(struct fsgs_claim *its_claim, enum fsgs_vm_kind its_kind, unsigned int its_seed)
{
	struct user_desc desc = fsgs_descriptor(0, SEGMENT_BASE);
	pthread_t thread;

	claim = its_claim;
	kind = its_kind;
	seed = its_seed;
	if (pthread_create(&thread, NULL, vcpu, NULL))
		_exit(2);
	/* The other thread is in its guest, or idle, when it gets an LDT. */
	while (*(volatile unsigned int *)&claim->changing < 4 && !claim->wrong)
		usleep(10000);
	usleep(200000 + rnd(400000));
	if (kind == FSGS_VM_LDT) {
		if (syscall(SYS_modify_ldt, 1, &desc, sizeof(desc)))
			wrong("it gets no LDT");
		else
			ldt_made = 1;
	}
	pthread_join(thread, NULL);
	_exit(0);
}
