// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measures the cost of switches between guests, tasks and the kernel.
 *
 *	switch_perf_test -l			list the scenarios
 *	switch_perf_test -c [-n N] SCENARIO...	for an emulator that counts (see marker.h)
 *	switch_perf_test -t [-n N] [-b BATCHES] SCENARIO...
 *					for a CPU with a TSC
 *
 * -c executes N operations between markers, and prints "COUNT SCENARIO N".
 *
 * -t executes BATCHES pairs of a batch of N and a batch of 2 * N operations, and prints
 * "TICKS SCENARIO OPERATIONS TICKS" for each batch.  The difference between the batches of
 * a pair is the cost of N operations, without the cost of the start and the end.
 *
 * With both options, more batches of two sizes run with tracing enabled.  For each, the
 * output is a line "MSRS SCENARIO OPERATIONS WRITES READS SWITCH-WRITES SWITCH-READS LGDTS",
 * where SWITCH-WRITES and SWITCH-READS count only MSRs that a guest and the host share.  If
 * uret is loaded, a line "URET SCENARIO OPERATIONS WRITTEN ELIDED RESTORED" has the
 * differences of the counters of uret.
 *
 * All tasks are real-time tasks on the last CPU.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <asm/msr-index.h>

#include "switch.h"
#include "common.h"
#include "host.h"
#include "marker.h"

#define TRACING	"/sys/kernel/tracing/"
#define EVENTS	TRACING "events/msr/"

#define HIST	"hist:keys=msr:size=2048"

static void *run_worker(void *arg)
{
	struct worker *worker = arg;
	struct bench *bench = worker->bench;

	set_priority(1);
	pin_to_cpu(bench->cpu);
	host_init();
	if (bench_ready(worker))
		worker->error = worker->vm.error;
	for (;;) {
		pthread_barrier_wait(&bench->barrier);
		pthread_barrier_wait(&bench->barrier);
		if (!bench->operations)
			return NULL;
		if (!worker->error && !worker->work(worker, bench->operations))
			worker->error = host_check();
	}
}

static void start(struct bench *bench, const char *name)
{
	if (bench_setup(bench, name))
		exit(1);
	pthread_barrier_init(&bench->barrier, NULL, bench->nr_workers + 1);
	for (int i = 0; i < bench->nr_workers; i++) {
		bench->workers[i].bench = bench;
		pthread_create(&bench->workers[i].thread, NULL, run_worker, &bench->workers[i]);
	}
	pthread_barrier_wait(&bench->barrier);
}

/* Execute @operations, shared by the workers.  Return when all workers wait for the next batch. */
static void operate(struct bench *bench, const char *name, unsigned long operations)
{
	bench->operations = (operations + bench->nr_marking - 1) / bench->nr_marking;
	pthread_barrier_wait(&bench->barrier);
	pthread_barrier_wait(&bench->barrier);
	for (int i = 0; i < bench->nr_workers; i++)
		if (bench->workers[i].error)
			die("%s: %s", name, bench->workers[i].error);
}

static void stop(struct bench *bench)
{
	bench->operations = 0;
	pthread_barrier_wait(&bench->barrier);
	for (int i = 0; i < bench->nr_workers; i++)
		pthread_join(bench->workers[i].thread, NULL);
	pthread_barrier_destroy(&bench->barrier);
	bench_teardown(bench);
}

static unsigned long long ticks(void)
{
	unsigned int low, high;

	asm volatile("lfence; rdtsc" : "=a" (low), "=d" (high) :: "memory");
	return (unsigned long long)high << 32 | low;
}

/* Return: 0 or -errno. */
static int trace(const char *event, bool on)
{
	char path[96];

	snprintf(path, sizeof(path), EVENTS "%s/trigger", event);
	return write_file(path, on ? HIST : "!" HIST);
}

/* Whether a guest and the host share the MSR.  VM entries and exits access other MSRs. */
static bool is_switched(unsigned long msr)
{
	static const unsigned int msrs[] = {
		MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
		MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_EFER,
		MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
		MSR_TSC_AUX, MSR_IA32_TSX_CTRL,
	};

	for (int i = 0; i < ARRAY_SIZE(msrs); i++)
		if (msrs[i] == msr)
			return true;
	return false;
}

/* Read the number of events: [0] for all MSRs, [1] for MSRs that are switched. */
static void traced(const char *event, unsigned long long hits[2])
{
	unsigned long long msr, count;
	char line[256];
	FILE *file;

	snprintf(line, sizeof(line), EVENTS "%s/hist", event);
	file = fopen(line, "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, " Hits: %llu", &count) == 1)
			hits[0] = count;
		if (sscanf(line, "{ msr: %llu } hitcount: %llu", &msr, &count) == 2 &&
		    is_switched(msr))
			hits[1] += count;
	}
	if (file)
		fclose(file);
}

/* Trace LGDT in switches: only load_fixmap_gdt() executes LGDT there. Return: 0 or -errno. */
static int trace_lgdt(bool on)
{
	int ret;

	if (!on)
		write_file(TRACING "events/uret_bench/lgdt/enable", "0");
	ret = write_file(TRACING "kprobe_events",
			 on ? "p:uret_bench/lgdt load_fixmap_gdt" : "-:uret_bench/lgdt");
	if (!on || ret)
		return ret;
	return write_file(TRACING "events/uret_bench/lgdt/enable", "1");
}

static unsigned long long traced_lgdt(void)
{
	FILE *file = fopen(TRACING "kprobe_profile", "r");
	unsigned long long hits = 0, count;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " lgdt %llu", &count) == 1)
			hits = count;
	if (file)
		fclose(file);
	return hits;
}

/* Add the counters of uret on all CPUs, times @sign. Return: false if uret is not loaded. */
static bool add_counters(long long counts[3], int sign)
{
	FILE *file = fopen(DEBUGFS "uret/counters", "r");
	long long values[3];
	char line[256];

	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*u %*u %*x %lld %lld %lld", &values[0], &values[1],
			   &values[2]) != 3)
			continue;
		for (int i = 0; i < 3; i++)
			counts[i] += sign * values[i];
	}
	fclose(file);
	return true;
}

static int trace_all(bool on)
{
	int ret = trace("write_msr", on);

	if (!ret || !on)
		ret = trace("read_msr", on);
	if (!ret || !on)
		ret = trace_lgdt(on);
	return ret;
}

/* Execute a batch with tracing, and print the counts. Return: whether tracing works. */
static bool trace_batch(struct bench *bench, const char *name, unsigned long operations)
{
	unsigned long long writes[2] = {}, reads[2] = {};
	long long counts[3] = {};
	int ret;

	ret = trace_all(true);
	if (ret) {
		trace_all(false);
		fprintf(stderr,
			"switch_perf_test: no counts of MSRs: %s (CONFIG_HIST_TRIGGERS, CONFIG_KPROBE_EVENTS)\n",
			strerror(-ret));
		return false;
	}
	add_counters(counts, -1);
	operate(bench, name, operations);
	traced("write_msr", writes);
	traced("read_msr", reads);
	printf("MSRS %s %lu %llu %llu %llu %llu %llu\n", name, operations, writes[0], reads[0],
	       writes[1], reads[1], traced_lgdt());
	if (add_counters(counts, 1))
		printf("URET %s %lu %lld %lld %lld\n", name, operations,
		       counts[0], counts[1], counts[2]);
	trace_all(false);
	return true;
}

static void count(struct bench *bench, const char *name, unsigned long operations)
{
	operate(bench, name, 4);
	printf("COUNT %s %lu\n", name, operations);
	fflush(stdout);
	marker('B');
	operate(bench, name, operations);
	marker('E');
	/* Fewer operations suffice, as all are alike. */
	for (int i = 0; i < 2 && trace_batch(bench, name, (operations / 8 + 2) << i); i++)
		;
	fflush(stdout);
}

static void measure_time(struct bench *bench, const char *name, unsigned long operations,
			 int batches)
{
	operate(bench, name, 4);
	for (int i = 0; i < 2 * batches; i++) {
		unsigned long n = operations << (i & 1);
		unsigned long long before = ticks();

		operate(bench, name, n);
		printf("TICKS %s %lu %llu\n", name, n, ticks() - before);
	}
	for (int i = 0; i < 2 * batches && trace_batch(bench, name, operations << (i & 1)); i++)
		;
	fflush(stdout);
}

static void check_machine(void)
{
	static const char *const modules[] = { "kvm_amd", "kvm_intel" };

	if (geteuid())
		die("root is required, for real-time priorities and debugfs");
	for (int i = 0; i < 2; i++) {
		unsigned int users;
		char path[64];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", modules[i]);
		file = fopen(path, "r");
		if (file && fscanf(file, "%u", &users) == 1 && users)
			die("%s is in use: end all VMs first", modules[i]);
		if (file)
			fclose(file);
	}
}

static void __attribute__((noreturn)) usage(void)
{
	fprintf(stderr, "usage: switch_perf_test -l\n"
		"       switch_perf_test -c|-t [-n N] [-b BATCHES] SCENARIO...\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static struct bench bench;
	unsigned long operations = 1000;
	int opt, mode = 0, batches = 11;

	while ((opt = getopt(argc, argv, "lctn:b:")) != -1) {
		switch (opt) {
		case 'l':
			bench_list();
			return 0;
		case 'c':
		case 't':
			mode = opt;
			break;
		case 'n':
			operations = strtoul(optarg, NULL, 0);
			break;
		case 'b':
			batches = atoi(optarg);
			break;
		default:
			usage();
		}
	}
	if (!mode || optind == argc || operations < 2 || batches < 1)
		usage();
	check_machine();
	set_priority(2);
	if (pin_to_cpu(last_cpu()))
		die("cannot pin to CPU %d", last_cpu());
	for (; optind < argc; optind++) {
		memset(&bench, 0, sizeof(bench));
		bench.cpu = last_cpu();
		start(&bench, argv[optind]);
		if (mode == 'c')
			count(&bench, argv[optind], operations);
		else
			measure_time(&bench, argv[optind], operations, batches);
		stop(&bench);
	}
	return 0;
}
