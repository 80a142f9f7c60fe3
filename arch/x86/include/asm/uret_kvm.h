/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The interface between uret and KVM on x86.
 *
 * One of KVM's vendor modules is loaded at a time, and numbers its MSRs from 0; the
 * registry may have given those slots to another owner before.
 */
#ifndef _ASM_X86_URET_KVM_H
#define _ASM_X86_URET_KVM_H

#include <linux/types.h>

struct vmcb;

#if IS_ENABLED(CONFIG_URET)

#include <linux/uret.h>

#include <asm/lazy_fsgs.h>

/**
 * struct uret_fsgs - FS, GS and what goes with them of a vCPU
 * @lazy: which task defers them, and where.  KVM sets its @save after uret_fsgs_init()
 * @to_host: KVM's function that restores the host's.  Called with interrupts disabled,
 *	possibly in the middle of a context switch
 *
 * While the vCPU's thread is scheduled out for a kernel thread, they may stay the
 * guest's, or as the vCPU has prepared them.  They are restored when a user task other
 * than that thread is switched in.
 */
struct uret_fsgs {
	struct lazy_fsgs lazy;
	void (*to_host)(struct uret_fsgs *fsgs);
};

/**
 * enum uret_vmcb_state - which copy of the VMLOAD/VMSAVE state is current
 * @URET_VMCB_NEEDS_VMLOAD: the VMCB's; the CPU has none, or an older one
 * @URET_VMCB_IN_SYNC: both
 * @URET_VMCB_NEEDS_VMSAVE: the CPU's, except for GSBASE, which the VMCB has
 */
enum uret_vmcb_state {
	URET_VMCB_NEEDS_VMLOAD,
	URET_VMCB_IN_SYNC,
	URET_VMCB_NEEDS_VMSAVE,
};

/**
 * struct uret_svm - the VMLOAD/VMSAVE state of a vCPU of SVM
 * @fsgs: FS and GS of the vCPU
 * @vmcb: the VMCB that VMLOAD and VMSAVE are performed on
 * @vmcb_pa: its address for these
 * @state: which copy is current
 * @live: the CPU has the state of this vCPU, maybe an older one, rather than the host's.
 *	Its exceptions use no interrupt stacks, and user mode must not run
 *
 * Only uret writes @state and @live.  They change on the CPU where @live is set, in the
 * vCPU's thread or with interrupts disabled.
 *
 * GSBASE is the host's whenever interrupts or NMIs are possible.  The code that enters
 * the guest exchanges it at VMRUN and #VMEXIT, and keeps the guest's in the VMCB.
 */
struct uret_svm {
	struct uret_fsgs *fsgs;
	struct vmcb *vmcb;
	unsigned long vmcb_pa;
	enum uret_vmcb_state state;
	bool live;
};

/**
 * uret_svm_init() - initialize the state of a new vCPU, or of one that is not live
 * @svm: the state to initialize
 * @fsgs: see struct uret_svm
 * @vmcb: see struct uret_svm
 * @vmcb_pa: see struct uret_svm
 */
void uret_svm_init(struct uret_svm *svm, struct uret_fsgs *fsgs,
		   struct vmcb *vmcb, unsigned long vmcb_pa);

/**
 * uret_svm_cpu_up() - save the VMLOAD/VMSAVE state of the host
 * @area: a page laid out as a VMCB, which uret alone uses until uret_svm_cpu_down()
 * @pa: its address for VMLOAD
 *
 * The state must not change until then, except for FS and KERNEL_GS_BASE.
 *
 * Context: On this CPU for good, with SVM enabled there.
 * Return: 0, or -EIO: it is not.
 */
int uret_svm_cpu_up(struct vmcb *area, unsigned long pa);

/**
 * uret_svm_cpu_down() - restore the host's state, if this CPU has a vCPU's
 *
 * Context: On this CPU for good, with SVM still enabled there.  Not NMI.
 */
void uret_svm_cpu_down(void);

/**
 * uret_svm_enter() - prepare for VMRUN
 * @svm: the state of the vCPU
 *
 * Between uret_kvm_start() and uret_kvm_stop(), in the vCPU's thread, whose thread
 * struct holds its FS and GS, with null selectors and, unless @svm is live, no LDT.
 *
 * Context: Interrupts disabled until after #VMEXIT.
 * Return: whether VMLOAD of the guest's state has to come first.
 */
bool uret_svm_enter(struct uret_svm *svm);

/**
 * uret_svm_sync() - sync the state to the VMCB, for a read
 * @svm: the state of the vCPU
 *
 * Context: The thread that has the vCPU loaded.
 */
void uret_svm_sync(struct uret_svm *svm);

/**
 * uret_svm_sync_for_write() - sync the state to the VMCB, and make the VMCB current
 * @svm: the state of the vCPU
 *
 * Must precede a write to the VMCB.  The state is loaded before the next VMRUN.
 *
 * Context: The thread that has the vCPU loaded.
 */
void uret_svm_sync_for_write(struct uret_svm *svm);

/**
 * uret_svm_save() - sync the state to the VMCB on a CPU that is about to idle
 * @svm: the state of the vCPU
 *
 * Context: &lazy_fsgs.save.
 * Return: whether the VMCB has all of it.
 */
bool uret_svm_save(struct uret_svm *svm);

/**
 * uret_svm_taken() - note that no CPU has the state of the vCPU
 * @svm: the state of the vCPU, which the VMCB has
 *
 * Context: Any, after uret_fsgs_take() has returned true and before the vCPU runs.
 */
void uret_svm_taken(struct uret_svm *svm);

/**
 * uret_svm_leave() - restore the host's state, if this CPU has the vCPU's
 * @svm: the state of the vCPU
 *
 * Context: The thread that has the vCPU loaded, or &uret_fsgs.to_host.
 */
void uret_svm_leave(struct uret_svm *svm);

/**
 * uret_svm_refuse() - count a load of a vCPU that is ineligible for deferral
 *
 * Context: Not preemptible.
 */
void uret_svm_refuse(void);

/**
 * uret_fsgs_init() - initialize an entry that no CPU has
 * @fsgs: the entry
 */
void uret_fsgs_init(struct uret_fsgs *fsgs);

/**
 * uret_fsgs_defer() - defer the restore of FS and GS while kernel threads run
 * @fsgs: the entry of the vCPU whose thread is about to be scheduled out
 * @saved: memory has all that is in the registers.  Ignored if they are deferred here
 *	already
 *
 * Context: Preemption disabled.
 */
void uret_fsgs_defer(struct uret_fsgs *fsgs, bool saved);

/**
 * uret_fsgs_cancel() - stop deferring on this CPU
 * @fsgs: the entry of the vCPU.  The caller restores the host's
 *
 * Context: The vCPU's thread, preemption disabled.
 */
void uret_fsgs_cancel(struct uret_fsgs *fsgs);

/**
 * uret_fsgs_take() - take FS and GS from the CPU where they are deferred
 * @fsgs: the entry of the vCPU
 *
 * That takes no IPI if memory has all of them and the CPU is another one.
 *
 * Context: The vCPU's thread, or one that destroys the vCPU, with preemption disabled and
 * interrupts enabled.
 * Return: whether they were taken without a call of @to_host.
 */
bool uret_fsgs_take(struct uret_fsgs *fsgs);

#else

struct uret_values {};

#endif /* CONFIG_URET */

/*
 * Without CONFIG_KVM_URET, KVM's calls of these are dead code.
 *
 * Slots are set between uret_kvm_start() and uret_kvm_stop() only, i.e. while a VM
 * exists, so that returns to user mode look for notifiers only then.
 */
void uret_kvm_start(void);
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

#endif /* _ASM_X86_URET_KVM_H */
