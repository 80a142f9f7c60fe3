// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <asm/prctl.h>
#include <asm/msr-index.h>

#include "common.h"
#include "host.h"

#define GS_MAGIC 0x5ec7e7ULL

static const struct {
	uint32_t index;
	const char *name;
} msrs[] = {
	{ MSR_STAR, "STAR" },
	{ MSR_LSTAR, "LSTAR" },
	{ MSR_CSTAR, "CSTAR" },
	{ MSR_SYSCALL_MASK, "FMASK" },
	{ MSR_TSC_AUX, "TSC_AUX" },
	{ MSR_IA32_SYSENTER_CS, "SYSENTER_CS" },
	{ MSR_IA32_SYSENTER_ESP, "SYSENTER_ESP" },
	{ MSR_IA32_SYSENTER_EIP, "SYSENTER_EIP" },
};

/* The values of host_init(), and an open /dev/cpu/N/msr, or -1. */
static __thread uint64_t msr_values[ARRAY_SIZE(msrs)];
static __thread int msr_fd = -1;

static __thread uint64_t gs_area[2];
static __thread uint64_t fs_base;
static __thread pid_t tid;
static __thread unsigned int cpu_and_node;

/* Not per thread: the caller may print the message after the end of the thread. */
static char message[96];

static const char *mismatch(const char *name, uint64_t expected, uint64_t got)
{
	snprintf(message, sizeof(message), "%s: expected %#llx, got %#llx", name,
		 (unsigned long long)expected, (unsigned long long)got);
	return message;
}

static unsigned int rdtscp_aux(void)
{
	unsigned int eax, edx, ecx;

	asm volatile("rdtscp" : "=a" (eax), "=d" (edx), "=c" (ecx));
	return ecx;
}

static int read_msr(int i, uint64_t *value)
{
	return pread(msr_fd, value, sizeof(*value), msrs[i].index) == sizeof(*value) ? 0 : -1;
}

/*
 * The kernel reads the MSRs in a system call.  A vCPU that preempts this task before the read
 * may leave guest values in the MSRs, which are restored only at the next return to user mode.
 * Use SCHED_FIFO to prevent preemption.
 */
static const char *read_msrs(uint64_t *values)
{
	struct sched_param old, param = { .sched_priority = 50 };
	int policy = sched_getscheduler(0);
	const char *error = NULL;

	if (msr_fd < 0)
		return "cannot open /dev/cpu/N/msr: is the module msr loaded?";
	if (sched_getparam(0, &old) || sched_setscheduler(0, SCHED_FIFO, &param))
		return "cannot set SCHED_FIFO";
	for (int i = 0; i < ARRAY_SIZE(msrs); i++)
		if (read_msr(i, &values[i]))
			error = "cannot read the MSRs";
	sched_setscheduler(0, policy, &old);
	return error;
}

static const char *check_msrs(void)
{
	uint64_t values[ARRAY_SIZE(msrs)];
	const char *error = read_msrs(values);

	for (int i = 0; !error && i < ARRAY_SIZE(msrs); i++)
		if (values[i] != msr_values[i])
			error = mismatch(msrs[i].name, msr_values[i], values[i]);
	return error;
}

static void init_msrs(unsigned int cpu)
{
	char path[32];

	if (msr_fd >= 0)
		close(msr_fd);
	snprintf(path, sizeof(path), "/dev/cpu/%u/msr", cpu);
	msr_fd = open(path, O_RDONLY | O_CLOEXEC);
	/* On failure, host_check() fails, too, and returns a message. */
	read_msrs(msr_values);
}

void host_init(void)
{
	unsigned int cpu = 0, node = 0;

	gs_area[1] = GS_MAGIC;
	syscall(SYS_arch_prctl, ARCH_SET_GS, gs_area);
	syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_base);
	syscall(SYS_getcpu, &cpu, &node, NULL);
	tid = syscall(SYS_gettid);
	cpu_and_node = cpu | node << 12;
	init_msrs(cpu);
}

const char *host_check(void)
{
	uint64_t value = rdtscp_aux();

	if (value != cpu_and_node)
		return mismatch("TSC_AUX by RDTSCP", cpu_and_node, value);
	asm volatile("movq %%gs:8, %0" : "=r" (value));
	if (value != GS_MAGIC)
		return mismatch("the word at %gs:8", GS_MAGIC, value);
	/* With a wrong FS base, the read of fs_base likely faults, as fs_base is relative to FS. */
	syscall(SYS_arch_prctl, ARCH_GET_FS, &value);
	if (value != fs_base)
		return mismatch("FS base", fs_base, value);
	/* SYSCALL uses LSTAR, STAR and FMASK, SYSRET uses STAR. */
	value = syscall(SYS_gettid);
	if (value != tid)
		return mismatch("gettid()", tid, value);
	return check_msrs();
}
