// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <asm/prctl.h>

#include "common.h"
#include "host.h"

#define GS_MAGIC 0x5ec7e7ULL

static const struct {
	uint32_t index;
	const char *wrong;
} msrs[] = {
	{ 0xc0000081, "STAR is not the host's" },
	{ 0xc0000082, "LSTAR is not the host's" },
	{ 0xc0000083, "CSTAR is not the host's" },
	{ 0xc0000084, "FMASK is not the host's" },
	{ 0xc0000103, "TSC_AUX is not the host's" },
	{ 0x174, "SYSENTER_CS is not the host's" },
	{ 0x175, "SYSENTER_ESP is not the host's" },
	{ 0x176, "SYSENTER_EIP is not the host's" },
};

/* What they hold, and the file that tells, or -1. */
static __thread uint64_t msr_values[ARRAY_SIZE(msrs)];
static __thread int msr_fd = -1;

static __thread uint64_t gs_area[2];
static __thread uint64_t fs_base;
static __thread pid_t tid;
static __thread unsigned int cpu_and_node;

int host_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

int host_last_cpu(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) - 1;
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
 * The kernel reads them for us, and a vCPU that gets the CPU between our entry
 * and that may leave its values there, as it should.  So nobody else may run.
 */
static const char *read_msrs(uint64_t *values)
{
	struct sched_param old, param = { .sched_priority = 50 };
	int policy = sched_getscheduler(0);
	const char *wrong = NULL;

	if (msr_fd < 0)
		return "there is no /dev/cpu/N/msr: is the module msr loaded?";
	if (sched_getparam(0, &old) || sched_setscheduler(0, SCHED_FIFO, &param))
		return "SCHED_FIFO is refused";
	for (int i = 0; i < ARRAY_SIZE(msrs); i++)
		if (read_msr(i, &values[i]))
			wrong = "the MSRs cannot be read";
	sched_setscheduler(0, policy, &old);
	return wrong;
}

static const char *check_msrs(void)
{
	uint64_t values[ARRAY_SIZE(msrs)];
	const char *wrong = read_msrs(values);

	for (int i = 0; !wrong && i < ARRAY_SIZE(msrs); i++)
		if (values[i] != msr_values[i])
			wrong = msrs[i].wrong;
	return wrong;
}

static void init_msrs(unsigned int cpu)
{
	char path[32];

	if (msr_fd >= 0)
		close(msr_fd);
	snprintf(path, sizeof(path), "/dev/cpu/%u/msr", cpu);
	msr_fd = open(path, O_RDONLY | O_CLOEXEC);
	/* If it cannot be done, host_check() cannot either, and says so. */
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
	uint64_t value = 0;

	if (rdtscp_aux() != cpu_and_node)
		return "TSC_AUX is not the number of this CPU";
	asm volatile("movq %%gs:8, %0" : "=r" (value));
	if (value != GS_MAGIC)
		return "the GS base is not this task's";
	/* Where FS were wrong, fs_base itself would hardly be found. */
	syscall(SYS_arch_prctl, ARCH_GET_FS, &value);
	if (value != fs_base)
		return "the FS base is not this task's";
	/* SYSCALL needs LSTAR, STAR and FMASK; SYSRET STAR. */
	if (syscall(SYS_gettid) != tid)
		return "a system call returned nonsense";
	return check_msrs();
}
