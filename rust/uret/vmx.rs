// SPDX-License-Identifier: GPL-2.0

//! VMX: which MSRs KVM defers on Intel, and when they change.
//!
//! - A vCPU enters, after having been scheduled in or after KVM_RUN: all that it uses are set, in
//!   one call; those that hold its values already are not written.
//! - Its thread is scheduled out, or leaves KVM_RUN: nothing.
//! - The CPU returns to user mode: what differs from the host is restored.
//!
//! MSR_KERNEL_GS_BASE is not among them: `__switch_to()` of any task looks at it.
//! MSR_CSTAR is for emulation, and never loaded. MSR_EFER is loaded only where the VMCS cannot.

use kernel::{
    bindings,
    prelude::*,
    warn_on, //
};

use crate::{
    kvm,
    registry::{
        self,
        Setter, //
    }, //
};

/// The MSRs, in the order that KVM numbers them.
const MSRS: [u32; 7] = [
    bindings::MSR_SYSCALL_MASK,
    bindings::MSR_LSTAR,
    bindings::MSR_CSTAR,
    bindings::MSR_EFER,
    bindings::MSR_TSC_AUX,
    bindings::MSR_STAR,
    bindings::MSR_IA32_TSX_CTRL,
];

/// Adds them to the registry, and returns how many the CPU has.
pub(crate) fn setup() -> Result<usize> {
    // SAFETY: These matter to user mode only, or are EFER and TSX_CTRL, of which KVM sets only bits
    // that do.
    unsafe { kvm::setup(&MSRS) }
}

/// A vCPU is about to enter.
#[inline]
pub(crate) fn switch_to_guest(setter: &Setter<'_>, values: &bindings::uret_values) {
    // KVM has tried every value when the guest or user space set it.
    let refused = registry::set_values(setter, values).is_err();

    if cfg!(CONFIG_URET_DEBUG) {
        warn_on!(refused);
    }
}
