// SPDX-License-Identifier: GPL-2.0-only
/*
 * A task that loads random values into FS, GS, DS and ES, and checks that the registers keep the
 * values through system calls, preemption, migration, signals, ptrace and fork.
 *
 *	fsgs_task SEED LDT CPUS
 *
 * LDT is 1 for a task with an LDT, or 0.  CPUS is the number of CPUs.  FSGS_FD is a file with a
 * struct fsgs_shared, for the expected values and the result.  Built for 32 and for 64 bits, and
 * with nolibc, which does not use FS and GS.
 */
#include "fsgs.h"
#include "fsgs_desc.h"

#ifdef __x86_64__
#include <asm/prctl.h>
#endif

#define NR_AREAS	8
#define NR_LDT		4
#define SIGUSR1		10
#define USER_DS		0x2b
#define HWCAP2_FSGSBASE	2

#define SA_RESTORER	0x04000000
#define SA_RESTART	0x10000000

/* Memory for bases to point to.  Each area begins with its own address. */
static unsigned long *areas[NR_AREAS];

static volatile struct fsgs_shared *shared;
/* A copy for a child, as a tracer may change the parent after fork(). */
static struct fsgs_shared inherited;
static bool has_ldt, has_fsgsbase, has_port;
static unsigned int nr_cpus;
static unsigned long long random_state;

static unsigned int rnd(unsigned int below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(random_state >> 33) % below;
}

static void fail(const char *name, unsigned long long expected, unsigned long long got)
{
	if (shared->failed)
		return;
	shared->failed = 1;
	snprintf((char *)shared->message, sizeof(shared->message),
		 "%d: %s: expected %lx%08lx, got %lx%08lx (FS %x GS %x)", getpid(), name,
		 (unsigned long)(expected >> 32), (unsigned long)(expected & 0xffffffff),
		 (unsigned long)(got >> 32), (unsigned long)(got & 0xffffffff),
		 shared->expected.fs, shared->expected.gs);
}

#define READ_SELECTOR(reg) ({					\
	unsigned int selector;					\
	asm volatile("movl %%" #reg ", %0" : "=r" (selector));	\
	selector & 0xffff;					\
})

#ifdef __x86_64__
static unsigned long long read_base(bool gs)
{
	unsigned long long base = 0;

	if (!has_fsgsbase || !rnd(4))
		syscall(__NR_arch_prctl, gs ? ARCH_GET_GS : ARCH_GET_FS, &base);
	else if (gs)
		asm volatile("rdgsbase %0" : "=r" (base));
	else
		asm volatile("rdfsbase %0" : "=r" (base));
	return base;
}

static void write_base(bool gs, unsigned long long base)
{
	if (!has_fsgsbase || !rnd(4))
		syscall(__NR_arch_prctl, gs ? ARCH_SET_GS : ARCH_SET_FS, base);
	else if (gs)
		asm volatile("wrgsbase %0" : : "r" (base) : "memory");
	else
		asm volatile("wrfsbase %0" : : "r" (base) : "memory");
}

/* A base in user space, often above 4 GiB. */
static unsigned long long random_base(void)
{
	if (rnd(2))
		return (unsigned long)areas[rnd(NR_AREAS)];
	return (unsigned long long)rnd(0x7fff) << 32 | rnd(0x7fffffff);
}
#else
static void (*vsyscall)(void);

/*
 * Find the fast system call on AMD, which is SYSCALL and uses CSTAR: AMD lacks SYSENTER in long
 * mode.  Not on Intel: SYSRET of Bochs to 32-bit code loads SS with a 16-bit stack segment if an
 * interrupt came before.
 */
static void find_vsyscall(void)
{
	unsigned int eax = 0, ebx, ecx, edx;

	asm volatile("cpuid" : "+a" (eax), "=b" (ebx), "=c" (ecx), "=d" (edx));
	if (ebx == 0x68747541) /* Auth, of AuthenticAMD */
		vsyscall = (void (*)(void))getauxval(32 /* AT_SYSINFO */);
}

static void check_vsyscall(void)
{
	int pid = __NR_getpid;

	if (!vsyscall)
		return;
	asm volatile("call *%1" : "+a" (pid) : "r" (vsyscall) : "memory");
	if (pid != getpid())
		fail("getpid() by the fast system call", getpid(), pid);
}

/* The area at the base has the base.  With a null selector, no base is readable. */
static unsigned long long read_base(bool gs)
{
	unsigned long base = 0;

	if (gs && READ_SELECTOR(gs))
		asm volatile("movl %%gs:0, %0" : "=r" (base));
	else if (!gs && READ_SELECTOR(fs))
		asm volatile("movl %%fs:0, %0" : "=r" (base));
	return base;
}
#endif

static void check_one(const char *name, unsigned long long expected, unsigned long long got)
{
	if (got != expected)
		fail(name, expected, got);
}

static void check_fsgs(void)
{
	unsigned long long fs_base, gs_base, expected;
	unsigned int ptrace_writes;

	check_one("FS", shared->expected.fs, READ_SELECTOR(fs));
	check_one("GS", shared->expected.gs, READ_SELECTOR(gs));
	/* The tracer may change the GS base, and the expected GS base, at any time. */
	do {
		ptrace_writes = shared->ptrace_writes;
		fs_base = read_base(false);
		gs_base = read_base(true);
		expected = shared->expected.gs_base;
	} while (ptrace_writes != shared->ptrace_writes);
	check_one("FS base", shared->expected.fs_base, fs_base);
	check_one("GS base", expected, gs_base);
}

static void check(void)
{
	unsigned int aux;

	check_fsgs();
	check_one("DS", shared->expected.ds, READ_SELECTOR(ds));
	check_one("ES", shared->expected.es, READ_SELECTOR(es));
	asm volatile("rdtscp" : "=c" (aux) : : "eax", "edx");
	if (aux >= nr_cpus)
		fail("TSC_AUX, at most", nr_cpus - 1, aux);
	if (shared->gdt_limit) {
		struct {
			unsigned short limit;
			unsigned long base;
		} __attribute__((packed)) gdt;

		asm volatile("sgdt %0" : "=m" (gdt));
		check_one("GDT limit", shared->gdt_limit, gdt.limit);
	}
#ifndef __x86_64__
	check_vsyscall();
#endif
	/* #GP, if the limit of the TSS excludes the I/O bitmap. */
	if (has_port)
		asm volatile("outb %%al, %0" : : "N" (FSGS_PORT), "a" (0));
	shared->checks++;
}

static void on_signal(int nr)
{
	/* During a change, the expected values are unknown. */
	if (!(shared->changing & 1))
		check_fsgs();
	shared->signals++;
}

#ifdef __x86_64__
void restorer(void);
asm(".globl restorer\nrestorer:\n\tmovl $15, %eax\n\tsyscall\n");
#endif

static void handle_signals(void)
{
	struct {
		void (*handler)(int nr);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long long mask;
	} action = { .handler = on_signal, .flags = SA_RESTART };

#ifdef __x86_64__
	action.flags |= SA_RESTORER;
	action.restorer = restorer;
#endif
	if (syscall(__NR_rt_sigaction, SIGUSR1, &action, NULL, sizeof(action.mask)) < 0)
		fail("errno of rt_sigaction()", 0, errno);
}

static void make_areas(void)
{
	for (int i = 0; i < NR_AREAS; i++) {
		/* The base of a descriptor has 32 bits. */
		areas[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | 0x40 /* MAP_32BIT */, -1, 0);
		if (areas[i] == MAP_FAILED)
			exit(2);
		*areas[i] = (unsigned long)areas[i];
	}
}

/* The last entry of the LDT is a flat segment, for DS and ES. */
static void make_descriptors(void)
{
	struct user_desc desc;

	for (int i = 0; has_ldt && i < NR_LDT; i++) {
		desc = fsgs_descriptor(i, i < NR_LDT - 1 ? (unsigned long)areas[i] : 0);
		if (syscall(__NR_modify_ldt, 1, &desc, sizeof(desc)))
			exit(2);
	}
	if (fsgs_set_tls((unsigned long)areas[NR_LDT], (void *)(areas[0] + 1)))
		exit(2);
}

static void set_selector(bool gs, unsigned int selector)
{
	if (gs)
		asm volatile("movl %0, %%gs" : : "r" (selector) : "memory");
	else
		asm volatile("movl %0, %%fs" : : "r" (selector) : "memory");
}

static void set_segment(bool gs, volatile unsigned int *selector,
			volatile unsigned long long *base)
{
	int kind = rnd(4), entry;

	*selector = 0;
	*base = 0;
	if (kind == 0 && has_ldt) {
		entry = rnd(NR_LDT - 1);
		*selector = entry << 3 | 7;
		*base = (unsigned long)areas[entry];
	} else if (kind == 1) {
		*selector = FSGS_TLS_SELECTOR;
		*base = (unsigned long)areas[NR_LDT];
	}
	set_selector(gs, *selector);
#ifdef __x86_64__
	/* With FSGSBASE, a segment with a selector can have another base than the descriptor. */
	if (kind == 2 || (has_fsgsbase && kind == 1)) {
		*base = random_base();
		write_base(gs, *base);
		/* arch_prctl() clears the selector. */
		*selector = gs ? READ_SELECTOR(gs) : READ_SELECTOR(fs);
	} else if (!*selector) {
		write_base(gs, 0);
	}
#endif
}

static unsigned int data_segment(void)
{
	unsigned int kind = rnd(4);

	if (kind == 0 && has_ldt)
		return (NR_LDT - 1) << 3 | 7;
#ifdef __x86_64__
	if (kind < 3)
		return 0;
#endif
	return USER_DS;
}

static void change(void)
{
	/* Tell fsgs_stress_test and the signal handler that @expected is in flux. */
	shared->changing++;
	set_segment(false, &shared->expected.fs, &shared->expected.fs_base);
	set_segment(true, &shared->expected.gs, &shared->expected.gs_base);
	shared->expected.ds = data_segment();
	asm volatile("movl %0, %%ds" : : "r" (shared->expected.ds) : "memory");
	shared->expected.es = data_segment();
	asm volatile("movl %0, %%es" : : "r" (shared->expected.es) : "memory");
	shared->changing++;
}

static void fork_one(void)
{
	int status = 0;
	pid_t pid;

	inherited = *shared;
	pid = fork();
	if (pid < 0)
		return;
	if (!pid) {
		volatile struct fsgs_shared *shared_with_parent = shared;

		shared = &inherited;
		check();
		/* If the tracer has changed the parent, the expected values are unknown. */
		if (inherited.failed &&
		    shared_with_parent->ptrace_writes == inherited.ptrace_writes &&
		    !shared_with_parent->failed) {
			shared_with_parent->failed = 1;
			memcpy((char *)shared_with_parent->message, inherited.message,
			       sizeof(inherited.message));
		}
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		fail("status of a child", 0, status);
	shared->forks++;
}

static void act(void)
{
	struct timespec time = { .tv_nsec = rnd(2000) * 1000L };
	unsigned long cpus = 1UL << rnd(nr_cpus);

	if (shared->command == FSGS_REST) {
		time.tv_nsec *= 100;
		nanosleep(&time, NULL);
	}
	switch (rnd(16)) {
	case 0:
		sched_yield();
		break;
	case 1 ... 3:
		nanosleep(&time, NULL);
		break;
	case 4:
		/* The CPU may be offline. */
		syscall(__NR_sched_setaffinity, 0, sizeof(cpus), &cpus);
		break;
	case 5:
		if (!rnd(8))
			fork_one();
		break;
	case 6 ... 9:
		getppid();
		break;
	default:
		for (int i = rnd(20000); i; i--)
			asm volatile("");
	}
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	random_state = atoi(argv[1]);
	has_ldt = atoi(argv[2]);
	has_fsgsbase = getauxval(26 /* AT_HWCAP2 */) & HWCAP2_FSGSBASE;
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, FSGS_FD, 0);
	if (shared == MAP_FAILED)
		return 2;
	shared->is_32bit = sizeof(long) == 4;
	shared->tid = getpid();
	has_port = rnd(2);
	if (has_port && syscall(__NR_ioperm, FSGS_PORT, 1, 1))
		return 2;
	nr_cpus = atoi(argv[3]);
	make_areas();
	make_descriptors();
	handle_signals();
#ifndef __x86_64__
	find_vsyscall();
#endif
	while (shared->command != FSGS_STOP && !shared->failed) {
		change();
		for (int i = rnd(32); i >= 0 && !shared->failed; i--) {
			act();
			check();
		}
		if (shared->command == FSGS_CRASH)
			asm volatile("ud2");
	}
	return 0;
}
