// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shows what KVM writes to the MSRs that only user mode can observe.
 *
 *	demo run OPERATIONS FILE	measure with kvm as it is loaded, append
 *	demo show FILE			print the table of all that was measured
 *
 * The writes are counted by the kernel's own tracepoint msr:write_msr, in the
 * same way for stock and uret.  A write of the host's value counts as a
 * restore, any other as a set.  What was elided only uret can tell.
 *
 * The tasks are real-time ones on one CPU, start one after the other, and the
 * guests of two take strict turns, so that the scheduler makes no difference
 * between the runs.
 *
 * "show" fails if uret has written more than stock in any scenario, or if one
 * of them is missing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "guest.h"
#include "host.h"
#include "vm.h"

#define EVENT		"/sys/kernel/tracing/events/msr/write_msr/"
#define HIST		"hist:keys=msr,val:size=2048"

static const struct {
	uint32_t index;
	const char *name;
} msrs[] = {
	{ 0xc0000081, "STAR" },
	{ 0xc0000082, "LSTAR" },
	{ 0xc0000084, "FMASK" },
	{ 0xc0000103, "TSC_AUX" },
	{ 0xc0000102, "KERNEL_GS" },
};

#define NR_MSRS		ARRAY_SIZE(msrs)

static const struct scenario {
	const char *name;
	int what;
	/* The values of the guests; the second may be missing. */
	int values[2];
} scenarios[] = {
	{ "exit to user space (PIO)", GUEST_PIO, { 1, 0 } },
	{ "exit in the kernel (CPUID)", GUEST_CPUID, { 1, 0 } },
	{ "guest, idle, guest (HLT)", GUEST_HLT, { 1, 0 } },
	{ "two guests in turn, equal values", GUEST_TURN, { 1, 1 } },
	{ "two guests in turn, different values", GUEST_TURN, { 1, 2 } },
};

struct counts {
	unsigned long long sets[NR_MSRS];
	unsigned long long restores[NR_MSRS];
	unsigned long long elides[NR_MSRS];
};

static int cpu;
static uint64_t host_values[NR_MSRS];

static void read_host_values(void)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		die("%s: %s (CONFIG_X86_MSR)", path, strerror(errno));
	for (int i = 0; i < NR_MSRS; i++)
		if (pread(fd, &host_values[i], 8, msrs[i].index) != 8)
			die("cannot read %s", msrs[i].name);
	close(fd);
}

static void start_counting(void)
{
	int ret = write_file(EVENT "trigger", HIST);

	if (ret)
		die(EVENT "trigger: %s (CONFIG_HIST_TRIGGERS)", strerror(-ret));
}

static void stop_counting(struct counts *counts)
{
	FILE *file = fopen(EVENT "hist", "r");
	unsigned long long msr, value, hits;
	char line[256];

	if (!file)
		die(EVENT "hist: %s", strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "{ msr: %llu, val: %llu } hitcount: %llu",
			   &msr, &value, &hits) != 3)
			continue;
		for (int i = 0; i < NR_MSRS; i++) {
			if (msr != msrs[i].index)
				continue;
			if (value == host_values[i])
				counts->restores[i] += hits;
			else
				counts->sets[i] += hits;
		}
	}
	fclose(file);
	write_file(EVENT "trigger", "!" HIST);
}

/* Adds what uret says it has elided, on all CPUs, times a sign. */
static void add_elides(struct counts *counts, int sign)
{
	FILE *file = fopen(DEBUGFS "uret/counters", "r");
	unsigned long long elided;
	unsigned int msr;
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*u %*u %x %*u %llu", &msr, &elided) != 2)
			continue;
		for (int i = 0; i < NR_MSRS; i++)
			if (msr == msrs[i].index)
				counts->elides[i] += sign * elided;
	}
	if (file)
		fclose(file);
}

struct guest {
	pthread_t thread;
	int what;
	unsigned long operations;
	pthread_barrier_t *ready;
	sem_t start;
	struct vm vm;
	const char *wrong;
};

static void *run_guest(void *arg)
{
	struct guest *guest = arg;

	set_priority(2);
	host_pin(cpu);
	host_init();
	/* This sets the guest up; what is counted starts after it. */
	if (vm_run(&guest->vm, GUEST_HLT, 1))
		guest->wrong = guest->vm.error;
	pthread_barrier_wait(guest->ready);
	sem_wait(&guest->start);
	if (!guest->wrong && vm_run(&guest->vm, guest->what, guest->operations))
		guest->wrong = guest->vm.error;
	if (!guest->wrong)
		guest->wrong = host_check();
	return NULL;
}

static void run_scenario(const struct scenario *scenario, unsigned long operations,
			 struct counts *counts)
{
	struct guest guests[2] = {};
	pthread_barrier_t ready;
	int nr = scenario->values[1] ? 2 : 1;

	pthread_barrier_init(&ready, NULL, nr + 1);
	for (int i = 0; i < nr; i++) {
		guests[i].what = scenario->what + i;
		guests[i].operations = operations / nr;
		guests[i].ready = &ready;
		sem_init(&guests[i].start, 0, 0);
		if (vm_create(&guests[i].vm, scenario->values[i]))
			die("%s", guests[i].vm.error);
	}
	if (nr == 2 && vm_connect_ring((struct vm *[]){ &guests[0].vm, &guests[1].vm }, 2))
		die("%s", guests[0].vm.error);
	for (int i = 0; i < nr; i++)
		pthread_create(&guests[i].thread, NULL, run_guest, &guests[i]);
	pthread_barrier_wait(&ready);
	/* As its priority is lower, it comes here when all of them sleep. */
	set_priority(3);
	start_counting();
	add_elides(counts, -1);
	/* Now it is higher: they start in this order, when this one sleeps. */
	for (int i = 0; i < nr; i++)
		sem_post(&guests[i].start);
	for (int i = 0; i < nr; i++)
		pthread_join(guests[i].thread, NULL);
	add_elides(counts, 1);
	stop_counting(counts);
	set_priority(1);
	for (int i = 0; i < nr; i++) {
		if (guests[i].wrong)
			die("%s: %s", scenario->name, guests[i].wrong);
		vm_destroy(&guests[i].vm);
	}
}

static void run(unsigned long operations, const char *path)
{
	bool uret = kvm_uses_uret();
	FILE *file = fopen(path, "a");

	if (!file)
		die("%s: %s", path, strerror(errno));
	if (access("/dev/kvm", R_OK | W_OK))
		die("/dev/kvm: %s: load kvm-amd or kvm-intel, as root", strerror(errno));
	cpu = host_last_cpu();
	if (host_pin(cpu))
		die("cannot pin to CPU %d", cpu);
	set_priority(1);
	host_init();
	read_host_values();

	for (int s = 0; s < ARRAY_SIZE(scenarios); s++) {
		struct counts counts = {};

		fprintf(stderr, "demo: %s: %s, %lu times\n",
			uret ? "uret" : "stock", scenarios[s].name, operations);
		run_scenario(&scenarios[s], operations, &counts);
		if (host_check())
			die("%s: afterwards %s", scenarios[s].name, host_check());
		for (int i = 0; i < NR_MSRS; i++)
			fprintf(file, "%d %d %lu %d %llu %llu %llu\n", uret, s, operations, i,
				counts.sets[i], counts.restores[i], counts.elides[i]);
	}
	fclose(file);
	printf("SYSCALL, RDTSCP, the FS and GS bases and the MSRs are the host's own: ok\n");
}

struct measured {
	unsigned long operations;
	struct counts counts;
};

static void print_line(const struct measured *it, int uret)
{
	unsigned long long restores = 0;

	printf("  %-6s", uret ? "uret" : "stock");
	for (int i = 0; i < NR_MSRS; i++) {
		char cell[64], elided[24] = "-";

		/* KERNEL_GS_BASE is not in a slot: it is counted as a whole. */
		if (uret && msrs[i].index != 0xc0000102)
			snprintf(elided, sizeof(elided), "%llu", it->counts.elides[i]);
		snprintf(cell, sizeof(cell), "%llu/%s",
			 it->counts.sets[i] + it->counts.restores[i], elided);
		printf(" %13s", cell);
		restores += msrs[i].index == 0xc0000102 ? 0 : it->counts.restores[i];
	}
	printf(" %9llu\n", restores);
}

static unsigned long long all_writes(const struct measured *it)
{
	unsigned long long sum = 0;

	for (int i = 0; i < NR_MSRS; i++)
		sum += it->counts.sets[i] + it->counts.restores[i];
	return sum;
}

static unsigned long long all_elides(const struct measured *it)
{
	unsigned long long sum = 0;

	for (int i = 0; i < NR_MSRS; i++)
		sum += it->counts.elides[i];
	return sum;
}

/* A KVM that is built in has but one of the two in a boot. */
static int show_uret(const struct measured *table)
{
	unsigned long long elides = 0;

	for (int s = 0; s < ARRAY_SIZE(scenarios); s++) {
		printf("%s, %lu times\n", scenarios[s].name, table[s].operations);
		print_line(&table[s], true);
		elides += all_elides(&table[s]);
	}
	if (!elides) {
		printf("uret has elided nothing\n");
		return 1;
	}
	printf("uret elides writes: ok\n");
	return 0;
}

static int show(const char *path)
{
	static struct measured table[2][ARRAY_SIZE(scenarios)];
	FILE *file = fopen(path, "r");
	unsigned long long sets, restores, elides;
	unsigned long operations;
	int uret, s, i, bad = 0;

	if (!file)
		die("%s: %s", path, strerror(errno));
	while (fscanf(file, "%d %d %lu %d %llu %llu %llu", &uret, &s, &operations, &i,
		      &sets, &restores, &elides) == 7) {
		struct measured *it;

		if (uret < 0 || uret > 1 || s < 0 || s >= ARRAY_SIZE(scenarios) ||
		    i < 0 || i >= NR_MSRS)
			die("%s: nonsense", path);
		it = &table[uret][s];
		it->operations = operations;
		it->counts.sets[i] = sets;
		it->counts.restores[i] = restores;
		it->counts.elides[i] = elides;
	}
	fclose(file);

	printf("MSR writes / writes elided, and restores at user return\n  %-6s", "");
	for (i = 0; i < NR_MSRS; i++)
		printf(" %13s", msrs[i].name);
	printf(" %9s\n", "restored");
	if (!table[0][0].operations && table[1][0].operations)
		return show_uret(table[1]);
	for (s = 0; s < ARRAY_SIZE(scenarios); s++) {
		printf("%s, %lu times\n", scenarios[s].name, table[0][s].operations);
		for (uret = 0; uret < 2; uret++) {
			if (!table[uret][s].operations) {
				printf("  %s was not measured\n", uret ? "uret" : "stock");
				bad = 1;
				continue;
			}
			print_line(&table[uret][s], uret);
		}
		if (all_writes(&table[1][s]) > all_writes(&table[0][s])) {
			printf("  uret writes MORE than stock here\n");
			bad = 1;
		}
	}
	if (!bad)
		printf("uret writes no more than stock in any scenario: ok\n");
	return bad;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "run") && strtoul(argv[2], NULL, 0) > 1) {
		run(strtoul(argv[2], NULL, 0), argv[3]);
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "show"))
		return show(argv[2]);
	fprintf(stderr, "usage: demo run OPERATIONS FILE | demo show FILE\n");
	return 2;
}
