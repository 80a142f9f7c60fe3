/* SPDX-License-Identifier: GPL-2.0 */
/*
 * uret - MSRs that keep a guest's value until this CPU returns to user mode
 *
 * Some MSRs matter to user mode only: those of SYSCALL, TSC_AUX and others.
 * While a CPU runs the kernel they may hold any value.  uret keeps track of
 * which of them differ from the host's value on each CPU, and puts back
 * exactly those, just before the CPU returns to user mode.
 *
 * A user of the registry
 *
 *  - adds its MSRs with uret_add(), once, and gets a slot for each;
 *  - sets them with uret_set() or uret_set_values() whenever it is about to
 *    need its own values.  They stay until the CPU returns to user mode, or
 *    until the user calls uret_drop(), whichever is first, so that a set must
 *    be repeated whenever a return to user mode may have come between;
 *  - gives everything back with uret_del().
 *
 * An owner is any address that is the caller's alone.  THIS_MODULE will do,
 * but for built-in code, where it is NULL; NULL is refused.
 *
 * A CPU that comes online, or wakes up from a sleep in which it lost power,
 * reads the host's values of all slots; one that goes there puts them back.  The
 * host's values must not change otherwise.
 */
#ifndef _LINUX_URET_H
#define _LINUX_URET_H

#include <linux/bits.h>
#include <linux/types.h>

#include <asm/lazy_fsgs.h>

struct vmcb;

/* Slots are bits of one machine word. */
#define URET_MAX_SLOTS	BITS_PER_LONG

/**
 * struct uret_values - what a user wants its slots to hold
 * @load: the slots that shall be set, as a bitmap
 * @partial: those of them of which only some bits count, see @mask
 * @data: the value of each slot in @load
 * @mask: for the slots in @partial, the bits of @data that count; the others are
 *	the host's
 */
struct uret_values {
	unsigned long load;
	unsigned long partial;
	u64 data[URET_MAX_SLOTS];
	u64 mask[URET_MAX_SLOTS];
};

/**
 * uret_add() - add an MSR to the registry
 * @owner: who will set it
 * @msr: its number
 *
 * The MSR must be one that the kernel does not depend on before it returns to
 * user mode, whatever value, of those that @owner will set, it holds.  It is
 * read and written once, to see whether that faults, and read on every CPU.
 *
 * Until uret_del(), each return to user mode costs a compare and a branch.
 *
 * Context: Task context, without the CPU hotplug lock.  May sleep.
 * Return: The slot, from 0 to URET_MAX_SLOTS - 1, or
 *  * -EIO: reading or writing the MSR faults, on some CPU;
 *  * -ENOSPC: all slots are taken;
 *  * -EEXIST: @owner has added it before;
 *  * -EBUSY: another owner has it;
 *  * -EINVAL: @owner is NULL, or it is one of the bases of FS and GS, which
 *    are switched with each task.
 */
int uret_add(const void *owner, u32 msr);

/**
 * uret_del() - give up all MSRs of an owner
 * @owner: as given to uret_add()
 *
 * Puts the host's values back on every CPU first.  The caller must not set
 * one of its slots at the same time or later.
 *
 * Context: Task context, without the CPU hotplug lock.  May sleep.
 */
void uret_del(const void *owner);

/**
 * uret_find() - find the slot of an MSR
 * @msr: its number
 *
 * Context: Any.
 * Return: The slot, or -ENOENT.
 */
int uret_find(u32 msr);

/**
 * uret_set() - set an MSR of this CPU until it returns to user mode
 * @slot: the slot, as returned by uret_add()
 * @value: the value
 * @mask: the bits of @value that count; the others are the host's
 *
 * Writes the MSR only if its value is another one.  It must read back as written:
 * bits that a CPU ignores have to be 0.
 *
 * Context: Task context with preemption disabled; not from a user-return
 * notifier.
 * Return: 0, or
 *  * -ENXIO: there is no such slot on this CPU;
 *  * -EIO: the CPU refused the value, and the MSR keeps the one it had;
 *  * -EPERM, -EBUSY: the context is wrong; all slots of this CPU have the host's
 *    values again.  That is noticed only when the first of them becomes another
 *    one; CONFIG_URET_DEBUG warns always.
 */
int uret_set(unsigned int slot, u64 value, u64 mask);

/**
 * uret_set_values() - set several MSRs of this CPU in one call
 * @values: which ones, and to what
 *
 * One that fails does not keep the others from being set.
 *
 * Context: As uret_set().
 * Return: 0, or an error of one of them, as uret_set().
 */
int uret_set_values(const struct uret_values *values);

/**
 * uret_get() - get what an MSR of this CPU holds, without reading it
 * @slot: the slot, as returned by uret_add()
 * @value: where to put it
 *
 * Context: Preemption disabled.
 * Return: 0, or -ENXIO: there is no such slot on this CPU.
 */
int uret_get(unsigned int slot, u64 *value);

/**
 * uret_drop() - put the host's values back on this CPU, now
 * @owner: whose MSRs, as given to uret_add()
 *
 * Context: Task context; not from a user-return notifier.
 */
void uret_drop(const void *owner);

/**
 * uret_read_host() - read the host's values of this CPU again
 * @owner: of whose MSRs, as given to uret_add()
 *
 * Context: Preemption disabled.
 * Return: 0, or
 *  * -EBUSY: some hold other values than the host's just now; these were not
 *    read;
 *  * -EIO: reading faulted.
 */
int uret_read_host(const void *owner);

/*
 * For KVM.  One of its vendor modules is loaded at a time, and numbers its
 * MSRs from 0; the registry may have given the slots before to somebody else.
 * Slots are set between uret_kvm_start() and uret_kvm_stop() only, so that
 * nobody pays for looking after them while there is no VM.
 */
int uret_kvm_start(void);
void uret_kvm_stop(void);
int uret_vmx_setup(void);
void uret_vmx_switch_to_guest(const struct uret_values *values);
int uret_svm_setup(void);
void uret_svm_switch_to_guest(u64 tsc_aux);
u32 uret_kvm_msr(unsigned int index);
void uret_kvm_update(struct uret_values *values, unsigned int index, bool load,
		     u64 data, u64 mask);
int uret_kvm_set(unsigned int index, u64 value, u64 mask);
u64 uret_kvm_get(unsigned int index);
int uret_kvm_read_host(void);
void uret_kvm_drop(void);
void uret_kvm_destroy(void);

/**
 * struct uret_fsgs - FS, GS and what goes with them of a vCPU
 * @lazy: whose they are, and where
 * @to_host: KVM's function that puts back the host's.  Called with interrupts
 *	disabled, possibly in the middle of a context switch
 *
 * While the vCPU's thread is scheduled out for a kernel thread, they may stay the
 * guest's, or as the vCPU has prepared them.  They are put back when a task
 * comes that runs in user mode, and other than that thread.
 */
struct uret_fsgs {
	struct lazy_fsgs lazy;
	void (*to_host)(struct uret_fsgs *fsgs);
};

/**
 * enum uret_vmcb_state - whether VMCB and CPU agree about what VMLOAD loads
 * @URET_VMCB_NEEDS_VMLOAD: the VMCB has it; the CPU has not, or has not the newest
 * @URET_VMCB_IN_SYNC: both have it
 * @URET_VMCB_NEEDS_VMSAVE: the CPU has it, but for GSBASE, which the VMCB has
 */
enum uret_vmcb_state {
	URET_VMCB_NEEDS_VMLOAD,
	URET_VMCB_IN_SYNC,
	URET_VMCB_NEEDS_VMSAVE,
};

/**
 * struct uret_svm - what VMLOAD loads, of a vCPU of SVM
 * @fsgs: FS and GS of the vCPU
 * @vmcb: the VMCB that VMLOAD and VMSAVE are performed on
 * @vmcb_pa: its address for these
 * @state: whether that and the CPU agree
 * @live: the CPU has what VMLOAD loads of this vCPU, or an older state of that,
 *	rather than the host's.  Its exceptions use no interrupt stacks, and user
 *	mode must not run
 *
 * For others than uret, @state and @live are to be looked at only.  They change on
 * the CPU where @live is set, in the vCPU's thread or with interrupts disabled.
 *
 * GSBASE is the host's whenever interrupts or NMIs are possible.  Who enters the
 * guest exchanges it at VMRUN and #VMEXIT, and keeps the guest's in the VMCB.
 */
struct uret_svm {
	struct uret_fsgs *fsgs;
	struct vmcb *vmcb;
	unsigned long vmcb_pa;
	enum uret_vmcb_state state;
	bool live;
};

/**
 * uret_svm_init() - initialize that of a new vCPU, or one whose state is not live
 * @svm: what to initialize
 * @fsgs: see struct uret_svm
 * @vmcb: see struct uret_svm
 * @vmcb_pa: see struct uret_svm
 */
void uret_svm_init(struct uret_svm *svm, struct uret_fsgs *fsgs,
		   struct vmcb *vmcb, unsigned long vmcb_pa);

/**
 * uret_svm_cpu_up() - save what VMLOAD loads of the host
 * @area: a page laid out as a VMCB, which uret alone uses until uret_svm_cpu_down()
 * @pa: its address for VMLOAD
 *
 * What is saved must not change until then, but for FS and KERNEL_GS_BASE.
 *
 * Context: On this CPU for good, with SVM enabled there.
 * Return: 0, or -EIO: it is not.
 */
int uret_svm_cpu_up(struct vmcb *area, unsigned long pa);

/**
 * uret_svm_cpu_down() - put back the host's, if a vCPU's is live on this CPU
 *
 * Context: On this CPU for good, with SVM still enabled there.
 */
void uret_svm_cpu_down(void);

/**
 * uret_svm_enter() - prepare for VMRUN
 * @svm: that of the vCPU
 *
 * Between uret_kvm_start() and uret_kvm_stop(), in the vCPU's thread, which has in
 * its thread struct what it wants in FS and GS, null selectors, and, unless @svm is
 * live, no LDT.
 *
 * Context: Interrupts disabled until after #VMEXIT.
 * Return: whether the guest's have to be loaded by VMLOAD first.
 */
bool uret_svm_enter(struct uret_svm *svm);

/**
 * uret_svm_read() - let the VMCB have the newest
 * @svm: that of the vCPU
 *
 * Context: The thread that has the vCPU loaded.
 */
void uret_svm_read(struct uret_svm *svm);

/**
 * uret_svm_write() - let the VMCB have the newest, and count from now on
 * @svm: that of the vCPU
 *
 * To be called before the VMCB is changed.
 *
 * Context: The thread that has the vCPU loaded.
 */
void uret_svm_write(struct uret_svm *svm);

/**
 * uret_svm_leave() - put back the host's, if the vCPU's is live on this CPU
 * @svm: that of the vCPU
 *
 * Context: The thread that has the vCPU loaded, or &uret_fsgs.to_host.
 */
void uret_svm_leave(struct uret_svm *svm);

/**
 * uret_svm_refuse() - count a vCPU for which the host's are loaded after each exit
 *
 * Context: Not preemptible.
 */
void uret_svm_refuse(void);

void uret_fsgs_init(struct uret_fsgs *fsgs);
void uret_fsgs_stay(struct uret_fsgs *fsgs);
void uret_fsgs_forget(struct uret_fsgs *fsgs);
void uret_fsgs_evict(struct uret_fsgs *fsgs);

/* Between the C and the Rust part of uret.ko. */
int uret_shim_init(void);
void uret_shim_exit(void);
void uret_cpu_up(void);
void uret_cpu_down(void);

#endif /* _LINUX_URET_H */
