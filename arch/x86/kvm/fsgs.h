/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ARCH_X86_KVM_FSGS_H
#define ARCH_X86_KVM_FSGS_H

/*
 * Deferral of FS and GS, and of the state that KVM switches with FS and GS, while the thread
 * of a vCPU is scheduled out for kernel threads.
 */

#include <linux/cpufeature.h>
#include <linux/kvm_host.h>

#include "msrs.h"

static inline struct kvm_vcpu *kvm_fsgs_to_vcpu(struct uret_fsgs *fsgs)
{
	return container_of(fsgs, struct kvm_vcpu, arch.fsgs);
}

#ifdef CONFIG_KVM_URET
static inline void kvm_fsgs_init(struct kvm_vcpu *vcpu)
{
	uret_fsgs_init(&vcpu->arch.fsgs);
}

/* The CPU where FS and GS are deferred, or -1. */
static __always_inline int kvm_fsgs_cpu(struct kvm_vcpu *vcpu)
{
	/* Pairs with the release after a restore on another CPU. */
	return smp_load_acquire(&vcpu->arch.fsgs.lazy.cpu);
}

static __always_inline bool kvm_fsgs_deferred(struct kvm_vcpu *vcpu)
{
	return kvm_fsgs_cpu(vcpu) != -1;
}

/* A thread that dies of an oops in KVM_RUN has no mm any more: do not defer. */
static inline bool kvm_current_may_have_ldt(void)
{
	struct mm_struct *mm = current->mm;

#ifdef CONFIG_MODIFY_LDT_SYSCALL
	return unlikely(!mm) || READ_ONCE(mm->context.ldt);
#else
	return unlikely(!mm);
#endif
}

/*
 * Whether the thread, which is about to be scheduled out, may defer.  An LDT would have to
 * be loaded again after each exit.  FRED is untested.
 */
static __always_inline bool kvm_fsgs_may_defer(struct kvm_vcpu *vcpu)
{
	return vcpu->sched_out_to_kthread && kvm_uret_enabled() &&
	       !cpu_feature_enabled(X86_FEATURE_FRED) &&
	       likely(!kvm_current_may_have_ldt());
}

/* @saved: memory has all values, so that another CPU can take the values without an IPI. */
static __always_inline void kvm_fsgs_defer(struct kvm_vcpu *vcpu, bool saved)
{
	uret_fsgs_defer(&vcpu->arch.fsgs, saved);
}

/* Cancel the deferral.  The caller restores the host's. */
static __always_inline void kvm_fsgs_cancel(struct kvm_vcpu *vcpu)
{
	/* If deferred, then on this CPU, so that no other CPU writes lazy.cpu. */
	if (unlikely(data_race(vcpu->arch.fsgs.lazy.cpu) != -1))
		uret_fsgs_cancel(&vcpu->arch.fsgs);
}

/*
 * Take FS and GS from the CPU where the restore is deferred, if any.  Returns true if that
 * was done without a call of @to_host: that CPU then restores the host's without the vCPU.
 * Preemption is disabled.
 */
static inline bool kvm_fsgs_take(struct kvm_vcpu *vcpu)
{
	return uret_fsgs_take(&vcpu->arch.fsgs);
}

/*
 * The thread was scheduled in, possibly on another CPU.  Another thread may have installed
 * an LDT meanwhile: then restore, so that the vCPU prepares the next entry with the LDT.
 * Returns the result of kvm_fsgs_take(), or false.
 */
static __always_inline bool kvm_fsgs_load(struct kvm_vcpu *vcpu, int cpu)
{
	int where = kvm_fsgs_cpu(vcpu);

	return where != -1 && unlikely(where != cpu || kvm_current_may_have_ldt()) &&
	       kvm_fsgs_take(vcpu);
}
#else
static inline void kvm_fsgs_init(struct kvm_vcpu *vcpu) {}

static inline bool kvm_fsgs_deferred(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_fsgs_may_defer(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline void kvm_fsgs_defer(struct kvm_vcpu *vcpu, bool saved) {}
static inline void kvm_fsgs_cancel(struct kvm_vcpu *vcpu) {}
static inline bool kvm_fsgs_take(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_fsgs_load(struct kvm_vcpu *vcpu, int cpu)
{
	return false;
}

#ifndef CONFIG_X86_64
/* 32-bit kernels defer nothing. */
static inline void current_save_fsgs(void) {}
#endif
#endif

#endif
