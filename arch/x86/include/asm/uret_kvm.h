/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_X86_URET_KVM_H
#define _ASM_X86_URET_KVM_H

/*
 * The interface between uret and KVM on x86:
 *
 *  - uret_kvm_*(), uret_vmx_*(), uret_svm_setup() and uret_svm_switch_to_guest() set
 *    the MSRs of vCPUs in the registry.  KVM numbers the MSRs of a vendor module from 0;
 *    the slots have other numbers, as other owners may be first.
 *  - uret_fsgs_*() defer FS and GS of a vCPU while kernel threads run.
 *  - The other functions uret_svm_*() defer the VMLOAD/VMSAVE state of a vCPU.
 *
 * The declarations do not depend on CONFIG_KVM_URET.  Without CONFIG_KVM_URET, KVM's calls
 * are dead code.
 */

#include <linux/types.h>
#include <linux/uret.h>

#include <asm/lazy_fsgs.h>

struct vmcb;

/**
 * struct uret_fsgs - the FS and GS of a vCPU, with the state that KVM switches along
 * @lazy: the deferral.  KVM may set &lazy_fsgs.save after uret_fsgs_init()
 * @to_host: KVM's callback that restores the host's.  Called with interrupts disabled,
 *	possibly in the middle of a context switch
 *
 * While the vCPU's thread is scheduled out for a kernel thread, the registers keep the
 * values that KVM has loaded for the vCPU.  The host's are restored when a user task other
 * than that thread is switched in.
 */
struct uret_fsgs {
	struct lazy_fsgs lazy;
	void (*to_host)(struct uret_fsgs *fsgs);
};

/**
 * enum uret_vmcb_state - the copy of the VMLOAD/VMSAVE state that is current
 * @URET_VMCB_NEEDS_VMLOAD: the copy in the VMCB.  The CPU has an older copy, or none
 * @URET_VMCB_IN_SYNC: both copies
 * @URET_VMCB_NEEDS_VMSAVE: the copy in the CPU, except for GSBASE, which is in the VMCB
 */
enum uret_vmcb_state {
	URET_VMCB_NEEDS_VMLOAD,
	URET_VMCB_IN_SYNC,
	URET_VMCB_NEEDS_VMSAVE,
};

/**
 * enum uret_svm_entry - how a vCPU enters, until the next uret_svm_load() or uret_svm_reenter()
 * @URET_SVM_NEVER: without deferral, always: KVM does not use uret
 * @URET_SVM_FIRST: without deferral: the next exit may be the only one before user space
 * @URET_SVM_INELIGIBLE: without deferral: the vCPU or the thread is ineligible
 * @URET_SVM_DEFERRED: with deferral
 *
 * KVM calls uret_svm_load() and uret_svm_put() only above URET_SVM_FIRST.
 */
enum uret_svm_entry {
	URET_SVM_NEVER,
	URET_SVM_FIRST,
	URET_SVM_INELIGIBLE,
	URET_SVM_DEFERRED,
};

/**
 * struct uret_svm_deferral - the decision whether the VMLOAD/VMSAVE state is deferred
 * @exits: the number of exits that the next uret_svm_load() counts from
 * @entry: how the vCPU enters
 * @fsgs_saved: the thread struct holds FS and GS, and user mode has not run since
 *
 * Only uret writes the fields, in the vCPU's thread.
 */
struct uret_svm_deferral {
	u64 exits;
	enum uret_svm_entry entry;
	bool fsgs_saved;
};

/**
 * struct uret_svm - the VMLOAD/VMSAVE state of a vCPU of SVM
 * @fsgs: the FS and GS of the vCPU
 * @vmcb: the VMCB for VMLOAD and VMSAVE
 * @vmcb_pa: the physical address of @vmcb
 * @state: the copy that is current
 * @loaded: the CPU has the guest state of this vCPU, possibly an older copy, and not the
 *	host's state.  Exceptions use no IST stacks, and user mode must not run
 * @deferral: the decision whether the state is deferred
 *
 * Only uret writes the fields: @state and @loaded on the CPU that has the guest state, in the
 * vCPU's thread or with interrupts disabled.
 *
 * GSBASE is the host's whenever an interrupt or an NMI is possible: the code that enters
 * the guest exchanges GSBASE at VMRUN and #VMEXIT, and keeps the guest's GSBASE in the VMCB.
 */
struct uret_svm {
	struct uret_fsgs *fsgs;
	struct vmcb *vmcb;
	unsigned long vmcb_pa;
	enum uret_vmcb_state state;
	bool loaded;
	struct uret_svm_deferral deferral;
};

/**
 * uret_svm_init() - initialize the state of a new vCPU, with no guest state loaded
 * @svm: the state to initialize
 * @fsgs: see struct uret_svm
 * @vmcb: see struct uret_svm
 * @vmcb_pa: see struct uret_svm
 * @uret: whether KVM uses uret
 *
 * Context: Any in which no other code uses @svm.
 */
void uret_svm_init(struct uret_svm *svm, struct uret_fsgs *fsgs,
		   struct vmcb *vmcb, unsigned long vmcb_pa, bool uret);

/**
 * uret_svm_load() - note that KVM loads guest state for the first VMRUN after vcpu_load()
 * @svm: the state of the vCPU
 * @exits: the number of exits of the vCPU
 *
 * Context: The vCPU's thread, preemption disabled.
 * Return: Whether uret_svm_decide() must follow.
 */
bool uret_svm_load(struct uret_svm *svm, u64 exits);

/**
 * uret_svm_decide() - decide how the vCPU enters
 * @svm: the state of the vCPU
 * @allowed: whether the host and the vCPU allow deferral.  If so, the thread struct must hold
 *	FS and GS
 * @null_selectors: whether the selectors of FS and GS in the thread struct are null
 *
 * Context: The vCPU's thread, preemption disabled.
 * Return: Whether the vCPU enters without deferral.
 */
bool uret_svm_decide(struct uret_svm *svm, bool allowed, bool null_selectors);

/**
 * uret_svm_reenter() - note that another VMRUN will probably follow before vcpu_put()
 * @svm: the state of the vCPU
 * @exits: the number of exits of the vCPU
 * @allowed: see uret_svm_decide()
 * @null_selectors: see uret_svm_decide()
 *
 * Decides how the vCPU enters from then on.
 *
 * Context: The vCPU's thread, preemption disabled.
 */
void uret_svm_reenter(struct uret_svm *svm, u64 exits, bool allowed, bool null_selectors);

/**
 * uret_svm_ineligible() - note that the thread of a vCPU has become ineligible
 * @svm: the state of the vCPU.  The guest state must not be loaded
 *
 * Context: The vCPU's thread, preemption disabled.
 */
void uret_svm_ineligible(struct uret_svm *svm);

/**
 * uret_svm_put() - restore the host's state in vcpu_put(), if the guest state is loaded
 * @svm: the state of the vCPU
 * @scheduled_out: the thread is scheduled out, and does not return to user mode
 *
 * Cancels a deferral of FS and GS in any case.
 *
 * Context: The vCPU's thread, preemption disabled.
 */
void uret_svm_put(struct uret_svm *svm, bool scheduled_out);

/**
 * uret_svm_cpu_up() - save the VMLOAD/VMSAVE state of the host
 * @area: a page laid out as a VMCB, that only uret uses until uret_svm_cpu_down()
 * @pa: the physical address of @area
 *
 * The host's state must not change until uret_svm_cpu_down(), except for FS and
 * KERNEL_GS_BASE.
 *
 * Context: Not migratable, with SVM enabled on the CPU.
 * Return: 0, or -EIO: SVM is not enabled.
 */
int uret_svm_cpu_up(struct vmcb *area, unsigned long pa);

/**
 * uret_svm_cpu_down() - restore the host's state, if a guest state is loaded
 *
 * Context: Not migratable, with SVM still enabled on the CPU.  Not NMI.
 */
void uret_svm_cpu_down(void);

/**
 * uret_svm_enter() - prepare for VMRUN
 * @svm: the state of the vCPU
 *
 * The thread struct of the vCPU's thread must hold FS and GS of the thread, with null
 * selectors.  Unless the guest state is loaded, the thread must have no LDT.
 *
 * Context: The vCPU's thread, between uret_kvm_get() and uret_kvm_put(), with interrupts
 * disabled until after #VMEXIT.
 * Return: Whether VMLOAD of the guest state must come first.
 */
bool uret_svm_enter(struct uret_svm *svm);

/**
 * uret_svm_sync() - sync the state to the VMCB, for a read of the VMCB
 * @svm: the state of the vCPU
 *
 * Context: The thread that has the vCPU loaded.
 */
void uret_svm_sync(struct uret_svm *svm);

/**
 * uret_svm_sync_for_write() - sync the state to the VMCB, for a write to the VMCB
 * @svm: the state of the vCPU
 *
 * Makes the copy in the VMCB current: VMLOAD comes before the next VMRUN.
 *
 * Context: The thread that has the vCPU loaded.
 */
void uret_svm_sync_for_write(struct uret_svm *svm);

/**
 * uret_svm_save() - sync the state to the VMCB on a CPU that is about to idle
 * @svm: the state of the vCPU
 *
 * Context: &lazy_fsgs.save.
 * Return: Whether the VMCB has all of the state.
 */
bool uret_svm_save(struct uret_svm *svm);

/**
 * uret_svm_taken() - note that no CPU has the state of the vCPU
 * @svm: the state of the vCPU, which is in the VMCB
 *
 * Context: Any, after uret_fsgs_take() has returned true and before the vCPU runs.
 */
void uret_svm_taken(struct uret_svm *svm);

/**
 * uret_svm_restore() - restore the host's state, if the guest state is loaded
 * @svm: the state of the vCPU
 *
 * Context: The thread that has the vCPU loaded, or &uret_fsgs.to_host.
 */
void uret_svm_restore(struct uret_svm *svm);

/**
 * uret_fsgs_init() - initialize the FS and GS of a new vCPU
 * @fsgs: the FS and GS to initialize
 *
 * Context: Any in which no other code uses @fsgs.
 */
void uret_fsgs_init(struct uret_fsgs *fsgs);

/**
 * uret_fsgs_defer() - defer the restore of FS and GS while kernel threads run
 * @fsgs: the FS and GS of the vCPU.  The thread of the vCPU is about to be scheduled out
 * @saved: memory has all values of the registers.  Ignored if the restore is deferred
 *	here already
 *
 * Context: Preemption disabled.
 */
void uret_fsgs_defer(struct uret_fsgs *fsgs, bool saved);

/**
 * uret_fsgs_cancel() - cancel the deferral on this CPU
 * @fsgs: the FS and GS of the vCPU
 *
 * The caller restores the host's FS and GS.
 *
 * Context: The vCPU's thread, preemption disabled.
 */
void uret_fsgs_cancel(struct uret_fsgs *fsgs);

/**
 * uret_fsgs_take() - take FS and GS from the CPU where the restore is deferred
 * @fsgs: the FS and GS of the vCPU
 *
 * Needs no IPI if memory has all values, and if that CPU is not the current CPU.
 *
 * Context: The vCPU's thread, or the thread that destroys the vCPU, with preemption
 * disabled and interrupts enabled.
 * Return: True if FS and GS were taken without a call of &uret_fsgs.to_host; false if
 * &uret_fsgs.to_host was called, or the restore is deferred on no CPU.
 */
bool uret_fsgs_take(struct uret_fsgs *fsgs);

/**
 * uret_kvm_get() - allow vCPUs to set MSRs, as a VM is created
 *
 * Until uret_kvm_put(), returns to user mode look for notifiers.
 *
 * Context: Task context.  May sleep.
 */
void uret_kvm_get(void);

/**
 * uret_kvm_put() - undo uret_kvm_get(), as a VM is destroyed
 *
 * The call for the last VM, if no other owner has an MSR, restores the host's MSRs, FS and
 * GS, by an IPI to each CPU with values of a guest.  Otherwise the notifiers stay enabled.
 *
 * Context: Task context.  May sleep.
 */
void uret_kvm_put(void);

/**
 * uret_vmx_setup() - add the MSRs of VMX to the registry, except for MSRs that the CPU lacks
 * @msrs: the MSRs, in the order of KVM's numbers.  Only user mode can observe these MSRs, or
 *	the bits of the MSRs that KVM sets
 * @nr: the number of @msrs
 *
 * Context: Task context.  May sleep.
 * Return: The number of MSRs that were added, or an error as for uret_add().
 */
int uret_vmx_setup(const u32 *msrs, unsigned int nr);

/**
 * uret_vmx_switch_to_guest() - set all MSRs of a vCPU of VMX
 * @values: the values of the vCPU, see uret_kvm_update()
 *
 * An MSR that refuses the value keeps the previous value; CONFIG_URET_DEBUG warns.
 *
 * Context: The vCPU's thread, with preemption disabled.
 */
void uret_vmx_switch_to_guest(const struct uret_values *values);

/**
 * uret_svm_setup() - add the MSRs of SVM to the registry
 *
 * Context: Task context.  May sleep.
 * Return: The number of MSRs, or an error as for uret_add().
 */
int uret_svm_setup(void);

/**
 * uret_svm_switch_to_guest() - set the MSRs of a vCPU of SVM
 * @tsc_aux: the guest's TSC_AUX
 *
 * An MSR that refuses the value keeps the previous value; CONFIG_URET_DEBUG warns.
 *
 * Context: The vCPU's thread, with preemption disabled.
 */
void uret_svm_switch_to_guest(u64 tsc_aux);

/**
 * uret_kvm_msr() - get an MSR by KVM's number
 * @index: KVM's number
 *
 * Context: Any.
 * Return: The number of the MSR, or 0 if there is none.
 */
u32 uret_kvm_msr(unsigned int index);

/**
 * uret_kvm_update() - update one MSR in the values of a vCPU
 * @values: the values of the vCPU
 * @index: KVM's number of the MSR
 * @load: whether the MSR is to be set
 * @data: the value
 * @mask: the bits of @data to set; all other bits are set to the host's
 *
 * Context: Any in which no other code uses @values.
 */
void uret_kvm_update(struct uret_values *values, unsigned int index, bool load,
		     u64 data, u64 mask);

/**
 * uret_kvm_set() - set an MSR by KVM's number
 * @index: KVM's number of the MSR
 * @value: the value
 * @mask: the bits of @value to set; all other bits are set to the host's
 *
 * Context: Task context with preemption disabled, outside of a user-return notifier.
 * Return: 0, or an error as for uret_set().
 */
int uret_kvm_set(unsigned int index, u64 value, u64 mask);

/**
 * uret_kvm_value() - get the value that an MSR of this CPU holds, without RDMSR
 * @index: KVM's number of the MSR
 *
 * Context: Preemption disabled.
 * Return: The value, or 0 if there is no such MSR.
 */
u64 uret_kvm_value(unsigned int index);

/**
 * uret_kvm_read_host() - read the host's values of KVM's MSRs on this CPU again
 *
 * Context: Not migratable.
 * Return: 0, or an error as for uret_read_host().
 */
int uret_kvm_read_host(void);

/**
 * uret_kvm_drop() - restore the host's values of KVM's MSRs, and FS and GS, on this CPU
 *
 * Context: Any but NMI and a user-return notifier.
 */
void uret_kvm_drop(void);

/**
 * uret_kvm_destroy() - remove KVM's MSRs from the registry
 *
 * Context: Task context.  May sleep.
 */
void uret_kvm_destroy(void);

#endif /* _ASM_X86_URET_KVM_H */
