// SPDX-License-Identifier: GPL-2.0

//! SVM: which MSRs KVM defers on AMD, and when they change.
//!
//! VMLOAD and VMSAVE switch the SYSCALL MSRs at every entry and exit, which leaves TSC_AUX. It
//! changes as the MSRs of VMX do, but not for an SEV-ES guest whose CPU virtualizes it: there
//! #VMEXIT loads the value that KVM, asking the registry, has put into the host save area.

use kernel::{
    bindings,
    preempt::PreemptDisabled,
    prelude::*,
    warn_on, //
};

use crate::{
    kvm,
    registry, //
};

/// The MSRs, in the order that KVM numbers them.
const MSRS: [u32; 1] = [bindings::MSR_TSC_AUX];
const TSC_AUX: usize = 0;

/// Adds them to the registry, and returns how many the CPU has.
pub(crate) fn setup() -> Result<usize> {
    kvm::setup(&MSRS)
}

/// A vCPU is about to enter.
#[inline]
pub(crate) fn switch_to_guest(token: &PreemptDisabled, tsc_aux: u64) {
    // KVM has tried every value when the guest or user space set it.
    let refused = registry::set(token, kvm::slot(TSC_AUX), tsc_aux, u64::MAX).is_err();

    if cfg!(CONFIG_URET_DEBUG) {
        warn_on!(refused);
    }
}
