// SPDX-License-Identifier: GPL-2.0
/*
 * The choice between uret and KVM's own code for user-return MSRs, by the parameter kvm.uret.
 */
#include <linux/init.h>
#include <linux/kvm_types.h>
#include <linux/moduleparam.h>

#include "uret.h"

static bool __ro_after_init uret = true;
module_param(uret, bool, 0444);
MODULE_PARM_DESC(uret,
		 "Switch user-return MSRs with uret rather than with KVM's own code (default: Y)");

DEFINE_STATIC_KEY_TRUE(kvm_uret_key);
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvm_uret_key);

void __init kvm_init_uret(void)
{
	if (!uret)
		static_branch_disable(&kvm_uret_key);
}
