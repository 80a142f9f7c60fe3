// SPDX-License-Identifier: GPL-2.0-only
/*
 * Handles NMIs, breakpoints and machine checks from all sources, and checks the state that each
 * has interrupted, for the selftest trap_test.
 *
 * debugfs, in uret_trap_test:
 *
 *	nmis		the number on each CPU, by the place that was interrupted
 *	breakpoints	likewise, of executions of the function @breakpoint, and of
 *			writes to jiffies
 *	machine_checks	the number
 *	bad		the first failed check, if any
 *	use_mm		write "PID CPU": a kernel thread on that CPU calls kthread_use_mm()
 *			with the memory of that process, and ends
 *	deep		write "CPU NR": a kernel thread on that CPU, with little room on its
 *			stack, sends itself NR NMIs while the guest state is loaded
 *
 * This module is in C, as Rust has no abstraction for most of these interfaces.
 */

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/hw_breakpoint.h>
#include <linux/io.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mmu_context.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <linux/sched/mm.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include <asm/apic.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/hardirq.h>
#include <asm/lazy_fsgs.h>
#include <asm/msr.h>
#include <asm/nmi.h>
#include <asm/unwind.h>

static ushort port;
module_param(port, ushort, 0444);
MODULE_PARM_DESC(port, "an I/O port to write a byte to for each NMI and machine check");

static char *breakpoint = "";
module_param(breakpoint, charp, 0444);
MODULE_PARM_DESC(breakpoint, "the function to set a breakpoint on");

/* Never mapped: a read faults on every CPU and in every emulator. */
#define NO_ADDRESS	((const void *)-PAGE_SIZE)

/* Marks the orig_ax of an NMI that raises another NMI. */
#define NESTING		0x6e657374

/* The room on the stack of a deep kernel thread, and the stack that NMI handlers use. */
#define DEEP_ROOM	3072
#define PROFILER_STACK	2560

/* One in NESTED_EVERY NMIs raises another NMI in the handler. */
#define NESTED_EVERY 8

enum place {
	IN_USER,	/* in user mode */
	IN_GUEST,	/* in a guest, or in the code of an entry or exit */
	IN_VCPU_THREAD,	/* in the vCPU's thread, with the guest state loaded */
	IN_IDLE,	/* in the idle task, with the guest state loaded */
	IN_KTHREAD,	/* in another kernel thread, with the guest state loaded */
	IN_KERNEL,	/* in the kernel, with the host's state */
	NR_PLACES,
};

static const char *const places[] = { "user", "guest", "loaded", "idle", "kthread", "kernel" };

struct counts {
	unsigned long nmis[NR_PLACES];
	unsigned long breakpoints[NR_PLACES];
	unsigned long total;
	unsigned long nested;
	unsigned long latched;
	unsigned long machine_checks;
	bool nesting;
};

static DEFINE_PER_CPU(struct counts, counts);

/* The first check that has failed, and the address of the interrupted code. */
static const char *bad;
static unsigned long bad_ip;

static void is_bad(const char *check, struct pt_regs *regs)
{
	if (cmpxchg(&bad, NULL, check))
		return;
	bad_ip = regs->ip;
}

static bool guest_state_is_loaded(void)
{
	return this_cpu_read(lazy_fsgs.lazy) && this_cpu_read(lazy_fsgs.restore_tables);
}

static enum place where(struct pt_regs *regs)
{
	if (user_mode(regs))
		return IN_USER;
	if (current->flags & PF_VCPU)
		return IN_GUEST;
	if (!guest_state_is_loaded())
		return IN_KERNEL;
	if (is_idle_task(current))
		return IN_IDLE;
	return current->flags & PF_KTHREAD ? IN_KTHREAD : IN_VCPU_THREAD;
}

static bool on_interrupt_stack(unsigned long at)
{
	return at - CPU_ENTRY_AREA_BASE < CPU_ENTRY_AREA_MAP_SIZE;
}

/* Check the IDT against TR, and the stack of the exception against the IDT. */
static void look(struct pt_regs *regs)
{
	struct desc_ptr idt;
	unsigned long tr;
	bool ist;

	store_tr(tr);
	store_idt(&idt);
	ist = idt.address == CPU_ENTRY_AREA_RO_IDT;

	if (ist && tr != GDT_ENTRY_TSS * 8)
		is_bad("the IDT uses IST stacks, but TR is a guest's", regs);
	/* The entry of the first NMI switches stacks, so that a nested NMI may use that stack. */
	if (!ist && on_interrupt_stack((unsigned long)regs) && !on_interrupt_stack(regs->sp))
		is_bad("the CPU has used an IST stack, which the IDT does not do", regs);
	if (user_mode(regs) && (!ist || guest_state_is_loaded()))
		is_bad("user mode runs with a guest's state", regs);
}

/* In the middle of __switch_to(), the stack is not current's, and cannot be walked. */
static bool is_walkable(struct pt_regs *regs)
{
	unsigned long stack = (unsigned long)task_stack_page(current);

	return regs->sp - stack < THREAD_SIZE ||
	       hardirq_count() > HARDIRQ_OFFSET || in_serving_softirq();
}

/*
 * Whether ORC cannot unwind from here, as with stock KVM.  While an entry pushes all
 * registers, a register has the return address; the mov %rax, %rsp that follows has the
 * ORC data of the code before it; and a task that has not run yet returns to the first
 * byte of ret_from_fork_asm(), while the unwinder looks up the byte before that.
 */
static bool is_trackless(unsigned long from, unsigned long to)
{
	static const u8 mov_rax_rsp[] = { 0x48, 0x89, 0xc4 };
	char name[KSYM_SYMBOL_LEN];

	sprint_symbol_no_offset(name, from);
	if (!strcmp(name, "error_entry") || !strcmp(name, "paranoid_entry") ||
	    !memcmp((void *)from, mov_rax_rsp, sizeof(mov_rax_rsp)))
		return true;

	sprint_symbol_no_offset(name, to);
	return !strcmp(name, "ret_from_fork_asm");
}

/* Walk the stack, as a profiler does. */
static void walk(struct pt_regs *regs)
{
	struct unwind_state state;

	if (!is_walkable(regs))
		return;

	for (unwind_start(&state, current, regs, NULL); !unwind_done(&state);
	     unwind_next_frame(&state))
		;
	if (unwind_error(&state) && !is_trackless(regs->ip, state.ip))
		is_bad("the stack cannot be walked", regs);
}

static void tell(u8 event)
{
	if (port)
		outb(event, port);
}

/*
 * Raise an NMI during an NMI: the IRET of a fault unmasks NMIs.  Without interrupt
 * stacks, exc_nmi() latches the second NMI, and calls the handlers again after the first
 * call, with the same registers.
 */
static bool nest(struct counts *mine, struct pt_regs *regs)
{
	u8 value;

	if (mine->total % NESTED_EVERY || x2apic_enabled())
		return false;
	mine->nesting = true;
	regs->orig_ax = NESTING;
	native_apic_mem_write(APIC_ICR, APIC_DEST_SELF | APIC_DM_NMI);
	if (!copy_from_kernel_nofault(&value, NO_ADDRESS, sizeof(value)))
		is_bad("an address that is never mapped can be read", regs);
	return true;
}

/* Only the kernel's counter has all machine checks. */
static void look_for_machine_checks(struct counts *mine)
{
	while (mine->machine_checks != this_cpu_read(irq_stat.counts[IRQ_COUNT_MCE_EXCEPTION])) {
		mine->machine_checks++;
		tell('M');
	}
}

/* Use as much stack as a profiler: for a callchain and its consumer. */
static noinline void use_stack(unsigned int bytes)
{
	volatile u8 some[256];

	some[0] = 1;
	if (bytes > sizeof(some))
		use_stack(bytes - sizeof(some));
	(void)some[0];
}

/* The source of NMIs waits for each report, so that no two NMIs merge. */
static int on_nmi(unsigned int type, struct pt_regs *regs)
{
	struct counts *mine = this_cpu_ptr(&counts);

	look(regs);
	walk(regs);
	use_stack(PROFILER_STACK);
	if (mine->nesting) {
		mine->nesting = false;
		mine->nested++;
		/* An entry sets orig_ax to -1, so that the mark is only left for a latched NMI. */
		if (regs->orig_ax == NESTING && guest_state_is_loaded()) {
			mine->latched++;
			regs->orig_ax = -1;
		}
	} else {
		mine->total++;
		mine->nmis[where(regs)]++;
		if (nest(mine, regs))
			return NMI_HANDLED;
	}
	look_for_machine_checks(mine);
	tell(raw_smp_processor_id());
	return NMI_HANDLED;
}

static void on_breakpoint(struct perf_event *event, struct perf_sample_data *data,
			  struct pt_regs *regs)
{
	this_cpu_inc(counts.breakpoints[where(regs)]);
	look(regs);
	walk(regs);
}

static void show_places(struct seq_file *file, const unsigned long *times)
{
	int i;

	for (i = 0; i < NR_PLACES; i++)
		seq_printf(file, " %lu", times[i]);
}

static void show_names(struct seq_file *file)
{
	int i;

	seq_puts(file, "cpu");
	for (i = 0; i < NR_PLACES; i++)
		seq_printf(file, " %s", places[i]);
}

static int nmis_show(struct seq_file *file, void *unused)
{
	int cpu;

	show_names(file);
	seq_puts(file, " total nested latched\n");
	for_each_possible_cpu(cpu) {
		const struct counts *its = per_cpu_ptr(&counts, cpu);

		seq_printf(file, "%d", cpu);
		show_places(file, its->nmis);
		seq_printf(file, " %lu %lu %lu\n", its->total, its->nested, its->latched);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(nmis);

static int breakpoints_show(struct seq_file *file, void *unused)
{
	int cpu;

	show_names(file);
	seq_puts(file, "\n");
	for_each_possible_cpu(cpu) {
		seq_printf(file, "%d", cpu);
		show_places(file, per_cpu_ptr(&counts, cpu)->breakpoints);
		seq_puts(file, "\n");
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(breakpoints);

static int machine_checks_show(struct seq_file *file, void *unused)
{
	int cpu;

	seq_puts(file, "cpu machine_checks\n");
	for_each_possible_cpu(cpu)
		seq_printf(file, "%d %lu\n", cpu, per_cpu_ptr(&counts, cpu)->machine_checks);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(machine_checks);

static int bad_show(struct seq_file *file, void *unused)
{
	if (bad)
		seq_printf(file, "%s, at %pS\n", bad, (void *)bad_ip);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(bad);

static int use(void *mm)
{
	kthread_use_mm(mm);
	kthread_unuse_mm(mm);
	mmput(mm);
	return 0;
}

static ssize_t use_mm_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct task_struct *task, *thread;
	struct mm_struct *mm = NULL;
	unsigned int cpu;
	char text[32] = "";
	int pid;

	if (len >= sizeof(text) || copy_from_user(text, from, len) ||
	    sscanf(text, "%d %u", &pid, &cpu) != 2 || cpu >= nr_cpu_ids || !cpu_online(cpu))
		return -EINVAL;

	scoped_guard(rcu) {
		task = pid_task(find_vpid(pid), PIDTYPE_PID);
		if (task)
			mm = get_task_mm(task);
	}
	if (!mm)
		return -ESRCH;

	thread = kthread_create(use, mm, "uret_use_mm");
	if (IS_ERR(thread)) {
		mmput(mm);
		return PTR_ERR(thread);
	}
	kthread_bind(thread, cpu);
	wake_up_process(thread);
	return len;
}

struct deep {
	unsigned int cpu;
	unsigned long nr;
	struct completion done;
};

/* With preemption disabled, so that the guest state stays loaded. */
static void send_nmis(struct deep *deep)
{
	unsigned long *taken = this_cpu_ptr(&counts.nmis[IN_KTHREAD]);
	int i;

	guard(preempt)();
	for (i = 0; i < 50 && deep->nr && guest_state_is_loaded(); i++) {
		unsigned long before = READ_ONCE(*taken);

		native_apic_mem_write(APIC_ICR, APIC_DEST_SELF | APIC_DM_NMI);
		while (READ_ONCE(*taken) == before)
			cpu_relax();
		deep->nr--;
	}
}

static noinline void dig(struct deep *deep)
{
	volatile u8 some[128];

	some[0] = 1;
	if (current_stack_pointer - (unsigned long)task_stack_page(current) >
	    DEEP_ROOM + 2 * sizeof(some))
		dig(deep);
	else
		send_nmis(deep);
	(void)some[0];
}

/* The guest state is loaded while the vCPU's thread sleeps and no user task runs here. */
static int go_deep(void *arg)
{
	struct deep *deep = arg;
	unsigned long end = jiffies + 120 * HZ;

	while (deep->nr && time_before(jiffies, end)) {
		dig(deep);
		usleep_range(500, 1000);
	}
	complete(&deep->done);
	return 0;
}

static ssize_t deep_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct deep deep = { .done = COMPLETION_INITIALIZER_ONSTACK(deep.done) };
	struct task_struct *thread;
	char text[32] = "";

	if (len >= sizeof(text) || copy_from_user(text, from, len) ||
	    sscanf(text, "%u %lu", &deep.cpu, &deep.nr) != 2 || deep.cpu >= nr_cpu_ids ||
	    !cpu_online(deep.cpu))
		return -EINVAL;
	if (x2apic_enabled())
		return -EOPNOTSUPP;

	thread = kthread_create(go_deep, &deep, "uret_deep");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	kthread_bind(thread, deep.cpu);
	wake_up_process(thread);
	wait_for_completion(&deep.done);
	return deep.nr ? -ETIMEDOUT : len;
}

static const struct file_operations deep_fops = {
	.owner = THIS_MODULE,
	.write = deep_write,
};

static const struct file_operations use_mm_fops = {
	.owner = THIS_MODULE,
	.write = use_mm_write,
};

/* Returns the address of a function, which a kprobe finds even if it is not exported. */
static unsigned long address_of(const char *function)
{
	struct kprobe probe = { .symbol_name = function };
	unsigned long address;

	if (register_kprobe(&probe))
		return 0;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return address;
}

static struct perf_event *__percpu *function_bp, *__percpu *data_bp;

static void stop_breakpoints(void)
{
	if (!IS_ERR_OR_NULL((void __force *)function_bp))
		unregister_wide_hw_breakpoint(function_bp);
	if (!IS_ERR_OR_NULL((void __force *)data_bp))
		unregister_wide_hw_breakpoint(data_bp);
}

static int start_breakpoints(void)
{
	struct perf_event_attr attr;

	if (!*breakpoint)
		return 0;

	hw_breakpoint_init(&attr);
	attr.bp_addr = address_of(breakpoint);
	attr.bp_type = HW_BREAKPOINT_X;
	attr.bp_len = sizeof(long);
	if (!attr.bp_addr) {
		pr_err("there is no function %s: is KVM loaded?\n", breakpoint);
		return -ENOENT;
	}
	function_bp = register_wide_hw_breakpoint(&attr, on_breakpoint, NULL);
	if (IS_ERR((void __force *)function_bp))
		return PTR_ERR((void __force *)function_bp);

	attr.bp_addr = (unsigned long)&jiffies;
	attr.bp_type = HW_BREAKPOINT_W;
	attr.bp_len = HW_BREAKPOINT_LEN_8;
	data_bp = register_wide_hw_breakpoint(&attr, on_breakpoint, NULL);
	if (IS_ERR((void __force *)data_bp)) {
		stop_breakpoints();
		return PTR_ERR((void __force *)data_bp);
	}
	return 0;
}

static struct dentry *dir;

static int __init trap_test_init(void)
{
	int ret = start_breakpoints();

	if (ret)
		return ret;

	ret = register_nmi_handler(NMI_LOCAL, on_nmi, 0, "uret_trap_test");
	if (ret) {
		stop_breakpoints();
		return ret;
	}

	dir = debugfs_create_dir("uret_trap_test", NULL);
	debugfs_create_file("nmis", 0444, dir, NULL, &nmis_fops);
	debugfs_create_file("breakpoints", 0444, dir, NULL, &breakpoints_fops);
	debugfs_create_file("machine_checks", 0444, dir, NULL, &machine_checks_fops);
	debugfs_create_file("bad", 0444, dir, NULL, &bad_fops);
	debugfs_create_file("use_mm", 0200, dir, NULL, &use_mm_fops);
	debugfs_create_file("deep", 0200, dir, NULL, &deep_fops);
	return 0;
}
module_init(trap_test_init);

static void __exit trap_test_exit(void)
{
	debugfs_remove_recursive(dir);
	unregister_nmi_handler(NMI_LOCAL, "uret_trap_test");
	stop_breakpoints();
}
module_exit(trap_test_exit);

MODULE_DESCRIPTION("Takes NMIs, breakpoints and machine checks, for tests of uret");
MODULE_AUTHOR("uret developers");
MODULE_LICENSE("GPL");
