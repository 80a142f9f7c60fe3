/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_X86_LAZY_FSGS_H
#define _ASM_X86_LAZY_FSGS_H

#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/user-return-notifier.h>

/*
 * Whether a task never runs in user mode.  FS and GS of such a task are in the thread
 * struct, and the registers may hold the values of another task.
 */
static __always_inline bool task_is_kernel_only(const struct task_struct *task)
{
	return task->flags & (PF_KTHREAD | PF_USER_WORKER);
}

/* Whether the registers of this CPU hold FS and GS of a task. */
static __always_inline bool task_fsgs_in_cpu(const struct task_struct *task)
{
	return task == current && !task_is_kernel_only(task);
}

/**
 * struct lazy_fsgs - FS and GS with a restore that is deferred while kernel threads run
 * @task: the task that deferred the restore.  The thread struct holds FS and GS of @task;
 *	the registers may hold other values
 * @cpu: the CPU with the values in its registers, or -1
 * @restore: restores the registers of @task, as @next is switched in.  @next is current if
 *	another reason requires the restore.  Called with interrupts disabled, possibly in
 *	the middle of a context switch
 * @save: saves the registers to memory, so that another CPU can take the values without
 *	an IPI.  Called with interrupts disabled, before the CPU idles.  Returns whether
 *	memory has all values.  May be NULL
 *
 * Kernel threads use neither FS nor the GS of user mode.  If @task is scheduled out for a
 * kernel thread, __switch_to() does not change FS and GS until a user task is switched
 * in.  If that task is @task, the registers are current; if not, @restore comes first.
 *
 * DS, ES and LDTR are switched in any case, but with &lazy_fsgs_cpu.restore_tables set LDTR and
 * TR may hold a guest's.  Code that loads or uses LDTR calls restore_lazy_tables() first.
 */
struct lazy_fsgs {
	struct task_struct *task;
	int cpu;
	void (*restore)(struct lazy_fsgs *lazy, struct task_struct *next);
	bool (*save)(struct lazy_fsgs *lazy);
};

/* In &lazy_fsgs_cpu.lazy: another CPU has taken the values of these registers. */
#define LAZY_FSGS_TAKEN		((struct lazy_fsgs *)1)

/**
 * struct lazy_fsgs_cpu - the owner of FS and GS in the registers of a CPU
 * @lazy: the deferred values; NULL: the registers are current's; LAZY_FSGS_TAKEN: no task
 *	needs the values
 * @task: the task of @lazy
 * @saved: memory has all values of the registers
 * @restore_tables: LDTR and TR may hold a guest's, and interrupts use no stacks of the TSS, see
 *	load_idt_noist().  Restores the host's without *@lazy.  NULL if LDTR and TR are the
 *	host's
 *
 * @task changes @lazy to LAZY_FSGS_TAKEN from another CPU, and only while @saved is set.
 * All other changes are made on this CPU.  So *@lazy must not be accessed while @saved is
 * set, unless @task is current or @lazy has been exchanged for NULL.
 */
struct lazy_fsgs_cpu {
	struct lazy_fsgs *lazy;
	struct task_struct *task;
	bool saved;
	void (*restore_tables)(void);
};

DECLARE_PER_CPU(struct lazy_fsgs_cpu, lazy_fsgs);

void __restore_lazy_fsgs(void);
void __save_lazy_fsgs(void);
bool lazy_fsgs_take(struct lazy_fsgs *lazy);

#if defined(CONFIG_X86_64) && defined(CONFIG_USER_RETURN_NOTIFIER)

/**
 * restore_lazy_fsgs() - restore FS and GS of current now
 *
 * A caller that then writes FS or GS must keep preemption disabled until done.
 *
 * Context: Any but NMI.
 */
static __always_inline void restore_lazy_fsgs(void)
{
	if (static_branch_unlikely(&user_return_notifier_key.key))
		__restore_lazy_fsgs();
}

/**
 * restore_lazy_tables() - restore LDTR and TR of this CPU
 *
 * A caller that then writes LDTR, or loads a selector of an LDT, must keep preemption
 * disabled until done.
 *
 * Context: Any but NMI.
 */
static __always_inline void restore_lazy_tables(void)
{
	if (static_branch_unlikely(&user_return_notifier_key.key) &&
	    this_cpu_read(lazy_fsgs.lazy) && this_cpu_read(lazy_fsgs.restore_tables))
		__restore_lazy_fsgs();
}

/* The CPU is about to idle.  Interrupts are disabled. */
static __always_inline void save_lazy_fsgs(void)
{
	if (static_branch_unlikely(&user_return_notifier_key.key) &&
	    this_cpu_read(lazy_fsgs.lazy) && !this_cpu_read(lazy_fsgs.saved))
		__save_lazy_fsgs();
}

/* Whether @lazy is deferred on this CPU.  Preemption is disabled. */
static __always_inline bool lazy_fsgs_are_here(const struct lazy_fsgs *lazy)
{
	return this_cpu_read(lazy_fsgs.lazy) == lazy;
}

/**
 * lazy_fsgs_defer() - defer the restore of FS and GS on this CPU
 * @lazy: the values, with callbacks, and with @cpu -1
 * @saved: memory has all values of the registers
 * @restore_tables: see struct lazy_fsgs_cpu
 *
 * The thread struct of current must hold FS and GS of current.
 *
 * Context: Task context of a user task, with preemption disabled, between
 * user_return_notifier_enable() and user_return_notifier_disable().
 */
static __always_inline void lazy_fsgs_defer(struct lazy_fsgs *lazy, bool saved,
					    void (*restore_tables)(void))
{
	lazy->task = current;
	WRITE_ONCE(lazy->cpu, raw_smp_processor_id());
	this_cpu_write(lazy_fsgs.task, current);
	this_cpu_write(lazy_fsgs.saved, saved);
	this_cpu_write(lazy_fsgs.restore_tables, restore_tables);
	this_cpu_write(lazy_fsgs.lazy, lazy);
}

/* Called by @task before the registers change on this CPU, so that memory lacks values. */
static __always_inline void lazy_fsgs_unsave(void)
{
	this_cpu_write(lazy_fsgs.saved, false);
}

/**
 * lazy_fsgs_cancel() - cancel the deferral: __switch_to() switches FS and GS again
 * @lazy: the values, which are deferred on this CPU by current
 *
 * The registers hold FS and GS of current, or do so before preemption is enabled again.
 *
 * Context: As lazy_fsgs_defer().
 */
static __always_inline void lazy_fsgs_cancel(struct lazy_fsgs *lazy)
{
	this_cpu_write(lazy_fsgs.lazy, NULL);
	WRITE_ONCE(lazy->cpu, -1);
}

#else

static inline void restore_lazy_fsgs(void) {}
static inline void restore_lazy_tables(void) {}
static inline void save_lazy_fsgs(void) {}

#endif

#endif /* _ASM_X86_LAZY_FSGS_H */
