// SPDX-License-Identifier: GPL-2.0

//! VMX: the MSRs that KVM defers on Intel, and the events that change them.
//!
//! - A vCPU enters, after `vcpu_load()` without deferred FS and GS: all MSRs that the vCPU uses are
//!   set by one call, which writes only MSRs that hold another value.
//! - The thread of the vCPU is scheduled out, or leaves KVM_RUN: nothing.
//! - The CPU returns to user mode: each MSR that differs from the host's value is restored.
//!
//! MSR_KERNEL_GS_BASE is not in the registry, as `__switch_to()` uses it. MSR_CSTAR is never
//! loaded, as KVM only emulates the MSR. MSR_EFER is loaded only if the VMCS cannot switch EFER.

use kernel::{
    bindings,
    warn_on, //
};

use crate::registry::{
    self,
    Setter, //
};

/// Sets the MSRs of a vCPU that is about to enter.
#[inline]
pub(crate) fn switch_to_guest(setter: &Setter<'_>, values: &bindings::uret_values) {
    // KVM has tried each value when the guest or user space set it.
    let refused = registry::set_values(setter, values).is_err();

    if cfg!(CONFIG_URET_DEBUG) {
        warn_on!(refused);
    }
}
