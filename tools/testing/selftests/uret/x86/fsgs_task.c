// SPDX-License-Identifier: GPL-2.0-only
/*
 * A task that has random values in FS and GS, and DS and ES, and sees to it
 * that it keeps them, whatever it does and whatever happens to it.
 *
 *	fsgs_task SEED LDT CPUS
 *
 * LDT says whether it has one, CPUS how many CPUs there are. What it has in its
 * registers, and what was wrong, is in a struct fsgs_claim in the file behind
 * FSGS_FD. It needs FS and GS for itself, so there is no libc but nolibc, which
 * uses neither; and it is built for 32 and for 64 bits.
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

/* Where a base may point: each begins with its own address. */
static unsigned long *areas[NR_AREAS];

static volatile struct fsgs_claim *claim;
/* What a child has inherited; a tracer may have changed its parent since. */
static struct fsgs_claim inherited;
static bool has_ldt, has_fsgsbase, has_port;
static unsigned int nr_cpus;
static unsigned long long random_state;

static unsigned int rnd(unsigned int below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(random_state >> 33) % below;
}

static void wrong(const char *what, unsigned long long is, unsigned long long expected)
{
	if (claim->wrong)
		return;
	claim->wrong = 1;
	snprintf((char *)claim->what, sizeof(claim->what),
		 "%d: %s is %lx%08lx, not %lx%08lx (fs %x gs %x)", getpid(), what,
		 (unsigned long)(is >> 32), (unsigned long)(is & 0xffffffff),
		 (unsigned long)(expected >> 32), (unsigned long)(expected & 0xffffffff),
		 claim->fs, claim->gs);
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

/* Any that user space may have, of which the upper half is of interest. */
static unsigned long long random_base(void)
{
	if (rnd(2))
		return (unsigned long)areas[rnd(NR_AREAS)];
	return (unsigned long long)rnd(0x7fff) << 32 | rnd(0x7fffffff);
}
#else
static void (*vsyscall)(void);

/*
 * The fast way into the kernel: SYSCALL on AMD, which CSTAR is for.  SYSENTER is not
 * valid in long mode there.  Not on Intel: Bochs' SYSRET to 32-bit code leaves SS a
 * 16-bit stack if an interrupt came before.
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
		wrong("a fast system call's result", pid, getpid());
}

/* Only what is there can tell; where the selector is null, nothing is. */
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

static void check_one(const char *what, unsigned long long is, unsigned long long expected)
{
	if (is != expected)
		wrong(what, is, expected);
}

static void check_fsgs(void)
{
	unsigned long long fs_base, gs_base, expected;
	unsigned int pokes;

	check_one("FS", READ_SELECTOR(fs), claim->fs);
	check_one("GS", READ_SELECTOR(gs), claim->gs);
	/* A tracer may change this one, and the claim, at any time. */
	do {
		pokes = claim->pokes;
		fs_base = read_base(false);
		gs_base = read_base(true);
		expected = claim->gs_base;
	} while (pokes != claim->pokes);
	check_one("the FS base", fs_base, claim->fs_base);
	check_one("the GS base", gs_base, expected);
}

static void check(void)
{
	unsigned int aux;

	check_fsgs();
	check_one("DS", READ_SELECTOR(ds), claim->ds);
	check_one("ES", READ_SELECTOR(es), claim->es);
	asm volatile("rdtscp" : "=c" (aux) : : "eax", "edx");
	if (aux >= nr_cpus)
		wrong("TSC_AUX", aux, nr_cpus - 1);
	if (claim->gdt_limit) {
		struct {
			unsigned short limit;
			unsigned long base;
		} __attribute__((packed)) gdt;

		asm volatile("sgdt %0" : "=m" (gdt));
		check_one("the GDT's limit", gdt.limit, claim->gdt_limit);
	}
#ifndef __x86_64__
	check_vsyscall();
#endif
	/* A #GP if the TSS is cut off before the bitmap. */
	if (has_port)
		asm volatile("outb %%al, %0" : : "N" (FSGS_PORT), "a" (0));
	claim->checks++;
}

static void on_signal(int nr)
{
	/* In the middle of a change nobody knows. */
	if (!(claim->changing & 1))
		check_fsgs();
	claim->signals++;
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
		wrong("rt_sigaction", errno, 0);
}

static void make_areas(void)
{
	for (int i = 0; i < NR_AREAS; i++) {
		/* A descriptor's base has 32 bits. */
		areas[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | 0x40 /* MAP_32BIT */, -1, 0);
		if (areas[i] == MAP_FAILED)
			exit(2);
		*areas[i] = (unsigned long)areas[i];
	}
}

/* The last entry of the LDT is a flat one, for DS and ES. */
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
	/* Without the instructions, a selector implies its base. */
	if (kind == 2 || (has_fsgsbase && kind == 1)) {
		*base = random_base();
		write_base(gs, *base);
		/* arch_prctl() makes the selector null. */
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
	/* fsgs_stress_test may look at any time, and a signal come. */
	claim->changing++;
	set_segment(false, &claim->fs, &claim->fs_base);
	set_segment(true, &claim->gs, &claim->gs_base);
	claim->ds = data_segment();
	asm volatile("movl %0, %%ds" : : "r" (claim->ds) : "memory");
	claim->es = data_segment();
	asm volatile("movl %0, %%es" : : "r" (claim->es) : "memory");
	claim->changing++;
}

static void fork_one(void)
{
	int status = 0;
	pid_t pid;

	inherited = *claim;
	pid = fork();
	if (pid < 0)
		return;
	if (!pid) {
		volatile struct fsgs_claim *parents = claim;

		claim = &inherited;
		check();
		if (inherited.wrong && parents->pokes == inherited.pokes) {
			claim = parents;
			wrong(inherited.what, 0, 0);
		}
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		wrong("a child's status", status, 0);
	claim->forks++;
}

static void act(void)
{
	struct timespec time = { .tv_nsec = rnd(2000) * 1000L };
	unsigned long cpus = 1UL << rnd(nr_cpus);

	if (claim->command == FSGS_REST) {
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
		/* Which may be offline just now. */
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
	claim = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, FSGS_FD, 0);
	if (claim == MAP_FAILED)
		return 2;
	claim->is_32bit = sizeof(long) == 4;
	claim->tid = getpid();
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
	while (claim->command != FSGS_STOP && !claim->wrong) {
		change();
		for (int i = rnd(32); i >= 0 && !claim->wrong; i--) {
			act();
			check();
		}
		if (claim->command == FSGS_CRASH)
			asm volatile("ud2");
	}
	return 0;
}
