/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_SVM_VMLOAD_H
#define __KVM_X86_SVM_VMLOAD_H

/*
 * The VMLOAD/VMSAVE state stays the guest's after #VMEXIT, until a user task is switched
 * in, or the vCPU's thread returns to user mode: see struct uret_svm, and
 * Documentation/virt/uret/vmload.rst.
 */

#include <linux/cc_platform.h>
#include <linux/cpufeature.h>
#include <linux/efi.h>
#include <linux/sched.h>

#include <asm/cpuid/api.h>
#include <asm/uret_kvm.h>

#include "fsgs.h"
#include "svm.h"
#include "svm_ops.h"
#include "vmenter.h"

#ifdef CONFIG_KVM_URET
extern bool defer_vmload;

static inline __init void svm_vmload_setup(void)
{
	/*
	 * RDGSBASE and WRGSBASE exchange GSBASE.  FRED is untested.  A host that is
	 * an SEV-ES guest needs the stack of #VC.  If only the guest uses 5-level
	 * paging, WRGSBASE may refuse the guest's GSBASE.  The kernel calls
	 * mixed-mode EFI on a stack of one page, which has no room for the frames
	 * of NMIs.
	 */
	if (!kvm_uret_enabled() || !boot_cpu_has(X86_FEATURE_FSGSBASE) ||
	    cpu_feature_enabled(X86_FEATURE_FRED) ||
	    cc_platform_has(CC_ATTR_GUEST_STATE_ENCRYPT) ||
	    (cpuid_ecx(7) & BIT(16) && !pgtable_l5_enabled()) ||
	    (IS_ENABLED(CONFIG_EFI_MIXED) && efi_enabled(EFI_RUNTIME_SERVICES) &&
	     !efi_enabled(EFI_64BIT)))
		defer_vmload = false;
}

static inline int svm_vmload_cpu_init(struct svm_cpu_data *sd, int cpu)
{
	struct page *page = snp_safe_alloc_page_node(cpu_to_node(cpu), GFP_KERNEL);

	if (!page)
		return -ENOMEM;

	sd->host_state = page_address(page);
	return 0;
}

static inline void svm_vmload_cpu_uninit(struct svm_cpu_data *sd)
{
	__free_page(virt_to_page(sd->host_state));
	sd->host_state = NULL;
}

static inline int svm_vmload_cpu_up(struct svm_cpu_data *sd)
{
	return uret_svm_cpu_up(sd->host_state, __sme_page_pa(virt_to_page(sd->host_state)));
}

/* SVM is disabled next, but a vCPU may still be in KVM_RUN. */
static inline void svm_vmload_cpu_down(void)
{
	uret_svm_cpu_down();
}

static inline void svm_vmload_init(struct vcpu_svm *svm)
{
	uret_svm_init(&svm->vmload, &svm->vcpu.arch.fsgs, svm->vmcb01.ptr, svm->vmcb01.pa);
	if (kvm_uret_enabled())
		svm->vmload_entry = SVM_VMLOAD_FIRST;
}

/*
 * Whether VMLOAD and VMSAVE may be deferred, if there is no LDT.  If so, the thread struct
 * holds FS and GS, for the restore.  Selectors that are not null would also need a restore.
 */
static inline bool svm_may_defer_vmload(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (!defer_vmload || is_sev_es_guest(vcpu))
		return false;

	/* Only user mode changes FS and GS, and does not run in KVM_RUN. */
	if (!svm->host_fsgs_saved) {
		current_save_fsgs();
		svm->host_fsgs_saved = true;
	}
	return !(current->thread.fsindex | current->thread.gsindex);
}

static __always_inline bool svm_vmload_deferred(struct vcpu_svm *svm)
{
	return svm->vmload_entry == SVM_VMLOAD_DEFERRED;
}

static inline void svm_vmload_note_ineligible(struct vcpu_svm *svm)
{
	svm->vmload_entry = SVM_VMLOAD_INELIGIBLE;
	uret_svm_note_ineligible();
}

static inline void svm_decide_vmload(struct vcpu_svm *svm)
{
	if (svm_may_defer_vmload(&svm->vcpu))
		svm->vmload_entry = SVM_VMLOAD_DEFERRED;
	else
		svm_vmload_note_ineligible(svm);
}

static noinline void __svm_vmload_note_reentry(struct vcpu_svm *svm)
{
	svm->exits_before = svm->vcpu.stat.exits - 1;
	svm_decide_vmload(svm);
}

/* The guest is entered again before vcpu_put(), or probably will be. */
static __always_inline void svm_vmload_note_reentry(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (unlikely(svm->vmload_entry == SVM_VMLOAD_FIRST))
		__svm_vmload_note_reentry(svm);
}

static noinline bool __svm_prepare_vmload(struct vcpu_svm *svm)
{
	u64 exits = svm->vcpu.stat.exits - svm->exits_before;

	svm->exits_before = svm->vcpu.stat.exits;
	if (exits <= 1) {
		svm->vmload_entry = SVM_VMLOAD_FIRST;
		svm->host_fsgs_saved = false;
	} else if (!svm->host_fsgs_saved || !svm_vmload_deferred(svm)) {
		svm_decide_vmload(svm);
	}
	/* Else the decision for this KVM_RUN stands. */
	return !svm_vmload_deferred(svm);
}

/*
 * Decide how the guest is entered.  Deferral does not help a vCPU that exits to user space
 * every time: use the eager path for the first exit after vcpu_load() if the previous
 * vcpu_load() had only one.  Returns whether VMLOAD of the host save area follows #VMEXIT.
 *
 * In state FIRST nothing is deferred, and FS and GS of the thread are not saved.
 */
static __always_inline bool svm_prepare_vmload(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	return likely(svm->vmload_entry <= SVM_VMLOAD_FIRST) || __svm_prepare_vmload(svm);
}

static noinline bool __svm_enter_deferred(struct vcpu_svm *svm)
{
	/* Check late: another thread may install an LDT at any time. */
	if (!svm->vmload.loaded && kvm_current_may_have_ldt()) {
		svm_vmload_note_ineligible(svm);
		vmsave(this_cpu_ptr(&svm_data)->save_area_pa);
		return false;
	}

	/* An interrupt may have restored the host's state since. */
	svm->guest_state_loaded = true;
	return uret_svm_enter(&svm->vmload);
}

/*
 * Returns whether VMLOAD of the guest's state must come first, with deferral.  Interrupts
 * are disabled until #VMEXIT, so that the host's state is not restored.
 */
static __always_inline bool svm_enter_deferred(struct vcpu_svm *svm)
{
	return svm_vmload_deferred(svm) &&
	       unlikely(svm->vmload.state != URET_VMCB_NEEDS_VMSAVE) &&
	       __svm_enter_deferred(svm);
}

static noinline void __svm_put_vmload_state(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	svm->host_fsgs_saved &= vcpu->scheduled_out;

	if (svm->vmload.loaded)
		uret_svm_restore(&svm->vmload);
	else
		kvm_fsgs_cancel(vcpu);
}

/* The thread returns to user mode, or another user task is switched in. */
static __always_inline void svm_put_vmload_state(struct kvm_vcpu *vcpu)
{
	if (unlikely(to_svm(vcpu)->vmload_entry > SVM_VMLOAD_FIRST))
		__svm_put_vmload_state(vcpu);
}
#else
static inline void svm_vmload_setup(void) {}

static inline int svm_vmload_cpu_init(struct svm_cpu_data *sd, int cpu)
{
	return 0;
}

static inline void svm_vmload_cpu_uninit(struct svm_cpu_data *sd) {}

static inline int svm_vmload_cpu_up(struct svm_cpu_data *sd)
{
	return 0;
}

static inline void svm_vmload_cpu_down(void) {}
static inline void svm_vmload_init(struct vcpu_svm *svm) {}

static inline void svm_vmload_note_reentry(struct kvm_vcpu *vcpu) {}

static inline bool svm_prepare_vmload(struct kvm_vcpu *vcpu)
{
	return true;
}

static __always_inline bool svm_vmload_deferred(struct vcpu_svm *svm)
{
	return false;
}

static inline bool svm_enter_deferred(struct vcpu_svm *svm)
{
	return false;
}

static inline void svm_put_vmload_state(struct kvm_vcpu *vcpu) {}
#endif

#endif /* __KVM_X86_SVM_VMLOAD_H */
