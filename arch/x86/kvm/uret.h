/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ARCH_X86_KVM_URET_H
#define ARCH_X86_KVM_URET_H

#include <linux/jump_label.h>

#include <asm/uret_kvm.h>

#ifdef CONFIG_KVM_URET
DECLARE_STATIC_KEY_TRUE(kvm_uret_key);

/* Whether uret switches the user-return MSRs, rather than KVM's own code. */
static __always_inline bool kvm_uret_enabled(void)
{
	return static_branch_likely(&kvm_uret_key);
}

void kvm_init_uret(void);
#else
static __always_inline bool kvm_uret_enabled(void)
{
	return false;
}

static inline void kvm_init_uret(void) {}
#endif

#endif
