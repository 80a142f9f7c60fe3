/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_SVM_VMLOAD_H
#define __KVM_X86_SVM_VMLOAD_H

/*
 * The VMLOAD/VMSAVE state stays the guest's after #VMEXIT, until a user task is switched
 * in, or the vCPU's thread returns to user mode: see struct uret_svm, and
 * Documentation/virt/uret/vmload.rst.
 */

#include <asm/uret_kvm.h>

#include "fsgs.h"
#include "svm.h"
#include "svm_ops.h"
#include "vmenter.h"

#ifdef CONFIG_KVM_URET
void svm_vmload_setup(void);
int svm_vmload_cpu_init(struct svm_cpu_data *sd, int cpu);
void svm_vmload_cpu_uninit(struct svm_cpu_data *sd);
int svm_vmload_cpu_up(struct svm_cpu_data *sd);
bool __svm_prepare_vmload(struct vcpu_svm *svm);
void __svm_vmload_note_reentry(struct vcpu_svm *svm);

/* SVM is disabled next, but a vCPU may still be in KVM_RUN. */
static inline void svm_vmload_cpu_down(void)
{
	uret_svm_cpu_down();
}

static inline void svm_vmload_init(struct vcpu_svm *svm)
{
	uret_svm_init(&svm->vmload, &svm->vcpu.arch.fsgs, svm->vmcb01.ptr, svm->vmcb01.pa,
		      kvm_uret_enabled());
}

static __always_inline bool svm_vmload_deferred(struct vcpu_svm *svm)
{
	return svm->vmload.deferral.entry == URET_SVM_DEFERRED;
}

/* The guest is entered again before vcpu_put(), or probably will be. */
static __always_inline void svm_vmload_note_reentry(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (unlikely(svm->vmload.deferral.entry == URET_SVM_FIRST))
		__svm_vmload_note_reentry(svm);
}

/*
 * Decide how the guest is entered.  Returns whether VMLOAD of the host save area follows
 * #VMEXIT.
 */
static __always_inline bool svm_prepare_vmload(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	return likely(svm->vmload.deferral.entry <= URET_SVM_FIRST) || __svm_prepare_vmload(svm);
}

static noinline bool __svm_enter_deferred(struct vcpu_svm *svm)
{
	/* Check late: another thread may install an LDT at any time. */
	if (!svm->vmload.loaded && kvm_current_may_have_ldt()) {
		uret_svm_ineligible(&svm->vmload);
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

/* The thread returns to user mode, or another user task is switched in. */
static __always_inline void svm_put_vmload_state(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (unlikely(svm->vmload.deferral.entry > URET_SVM_FIRST))
		uret_svm_put(&svm->vmload, vcpu->scheduled_out);
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
