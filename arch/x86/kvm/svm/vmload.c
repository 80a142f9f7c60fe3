// SPDX-License-Identifier: GPL-2.0
/*
 * Deferred VMLOAD and VMSAVE: setup, and whether a vCPU and its thread are eligible.
 */
#include <linux/cc_platform.h>
#include <linux/cpufeature.h>
#include <linux/efi.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>

#include <asm/cpuid/api.h>
#include <asm/uret_kvm.h>

#include "svm.h"
#include "vmload.h"

static bool __ro_after_init defer_vmload = true;
module_param(defer_vmload, bool, 0444);
MODULE_PARM_DESC(defer_vmload,
		 "Defer VMLOAD and VMSAVE until the CPU returns to user mode or runs another user task.  During deferral, a kernel stack overflow resets the machine without the message of #DF.");

void __init svm_vmload_setup(void)
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

int svm_vmload_cpu_init(struct svm_cpu_data *sd, int cpu)
{
	struct page *page = snp_safe_alloc_page_node(cpu_to_node(cpu), GFP_KERNEL);

	if (!page)
		return -ENOMEM;

	sd->host_state = page_address(page);
	return 0;
}

void svm_vmload_cpu_uninit(struct svm_cpu_data *sd)
{
	__free_page(virt_to_page(sd->host_state));
	sd->host_state = NULL;
}

int svm_vmload_cpu_up(struct svm_cpu_data *sd)
{
	return uret_svm_cpu_up(sd->host_state, __sme_page_pa(virt_to_page(sd->host_state)));
}

static bool svm_allow_vmload(struct vcpu_svm *svm)
{
	return defer_vmload && !is_sev_es_guest(&svm->vcpu);
}

/*
 * Save FS and GS in the thread struct, where the restore finds both: only user mode changes FS and
 * GS, and does not run in KVM_RUN.  Returns whether the selectors are null.
 */
static bool svm_save_fsgs(struct vcpu_svm *svm)
{
	if (!svm->vmload.deferral.fsgs_saved)
		current_save_fsgs();
	return !(current->thread.fsindex | current->thread.gsindex);
}

/* The caller checks for an LDT late. */
bool __svm_prepare_vmload(struct vcpu_svm *svm)
{
	if (!uret_svm_load(&svm->vmload, svm->vcpu.stat.exits))
		return !svm_vmload_deferred(svm);

	if (!svm_allow_vmload(svm))
		return uret_svm_decide(&svm->vmload, false, false);
	return uret_svm_decide(&svm->vmload, true, svm_save_fsgs(svm));
}

void __svm_vmload_note_reentry(struct vcpu_svm *svm)
{
	bool null_selectors;

	if (!svm_allow_vmload(svm)) {
		uret_svm_reenter(&svm->vmload, svm->vcpu.stat.exits, false, false);
		return;
	}
	null_selectors = svm_save_fsgs(svm);
	uret_svm_reenter(&svm->vmload, svm->vcpu.stat.exits, true, null_selectors);
}
