// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of deferred state, see `include/trace/events/uret.h`.

use kernel::{
    bindings,
    prelude::*, //
};

kernel::declare_trace! {
    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_fsgs(event: c_uint, fsgs: *const c_void);

    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_svm(event: c_uint, svm: *const c_void);
}

/// An event of the FS and GS of a vCPU.
#[derive(Clone, Copy)]
pub(super) enum Fsgs {
    /// The restore was deferred.
    Defer = bindings::uret_fsgs_event_URET_FSGS_DEFER as isize,
    /// The vCPU cancelled the deferral.
    Cancel = bindings::uret_fsgs_event_URET_FSGS_CANCEL as isize,
    /// The host's FS and GS were restored for another user task.
    Restore = bindings::uret_fsgs_event_URET_FSGS_RESTORE as isize,
    /// The host's FS and GS were restored for another reason.
    Flush = bindings::uret_fsgs_event_URET_FSGS_FLUSH as isize,
    /// The vCPU took FS and GS from another CPU without an IPI.
    Take = bindings::uret_fsgs_event_URET_FSGS_TAKE as isize,
}

/// Traces an event of the FS and GS of a vCPU.
#[inline(always)]
pub(super) fn fsgs(event: Fsgs, fsgs: *const bindings::uret_fsgs) {
    // SAFETY: Safe in any context.
    unsafe { uret_fsgs(event as c_uint, fsgs.cast()) };
}

/// An event of the VMLOAD/VMSAVE state of a vCPU.
#[derive(Clone, Copy)]
pub(super) enum Svm {
    /// VMLOAD of the guest's state is next.
    Load = bindings::uret_svm_event_URET_SVM_LOAD as isize,
    /// VMSAVE of the guest's state.
    Save = bindings::uret_svm_event_URET_SVM_SAVE as isize,
    /// VMLOAD of the host's state.
    Restore = bindings::uret_svm_event_URET_SVM_RESTORE as isize,
}

/// Traces an event of the VMLOAD/VMSAVE state of a vCPU.
#[inline(always)]
pub(super) fn svm(event: Svm, svm: *const bindings::uret_svm) {
    // SAFETY: Safe in any context.
    unsafe { uret_svm(event as c_uint, svm.cast()) };
}
