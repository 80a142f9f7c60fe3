// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of `include/trace/events/uret.h`.

use kernel::{
    bindings,
    msr::writes_are_traced,
    prelude::*,
    sync::atomic::Atomic, //
};

use crate::cpu::{
    Event,
    PerSlot,
    Slot, //
};

kernel::declare_trace! {
    /// # Safety
    ///
    /// `msrs` must be valid for reads at `slot`.
    unsafe fn uret_set(slot: c_uint, msrs: *const u32, value: u64);

    /// # Safety
    ///
    /// `msrs` must be valid for reads at `slot`.
    unsafe fn uret_elide(slot: c_uint, msrs: *const u32, value: u64);

    /// # Safety
    ///
    /// `msrs` must be valid for reads at `slot`.
    unsafe fn uret_restore(slot: c_uint, msrs: *const u32, value: u64);

    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_fire(dirty: c_ulong, other_task: bool);

    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_fsgs(what: c_uint, fsgs: *const c_void);

    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_svm(what: c_uint, svm: *const c_void);
}

/// What happened to a vCPU's FS and GS, as the tracepoint numbers it.
#[derive(Clone, Copy)]
pub(crate) enum Fsgs {
    /// They stay on the CPU.
    Stay = 0,
    /// The vCPU gave them up.
    Forget = 1,
    /// Another user task came.
    Leave = 2,
    /// The vCPU, or the CPU, had to go.
    Evict = 3,
    /// The vCPU came here, and took them from another CPU without an IPI.
    Take = 4,
}

/// Traces what happened to a vCPU's FS and GS.
#[inline(always)]
pub(crate) fn fsgs(what: Fsgs, fsgs: *const bindings::uret_fsgs) {
    // SAFETY: This is always safe to call.
    unsafe { uret_fsgs(what as c_uint, fsgs.cast()) };
}

/// What happened to what VMLOAD loads, as the tracepoint numbers it.
#[derive(Clone, Copy)]
pub(crate) enum Svm {
    /// VMLOAD of the guest's is next.
    Load = 0,
    /// VMSAVE of the guest's.
    Save = 1,
    /// VMLOAD of the host's.
    Host = 2,
}

/// Traces what happened to what VMLOAD loads, of a vCPU.
#[inline(always)]
pub(crate) fn svm(what: Svm, svm: *const bindings::uret_svm) {
    // SAFETY: This is always safe to call.
    unsafe { uret_svm(what as c_uint, svm.cast()) };
}

/// Traces what happened to an MSR.
#[inline(always)]
pub(crate) fn msr(event: Event, slot: Slot, msrs: &PerSlot<Atomic<u32>>, value: u64) {
    let slot = slot.index() as c_uint;
    let msrs = core::ptr::from_ref(msrs).cast::<u32>();

    // SAFETY: There is an entry for each slot.
    unsafe {
        match event {
            Event::Set => uret_set(slot, msrs, value),
            Event::Elide => uret_elide(slot, msrs, value),
            Event::Restore => uret_restore(slot, msrs, value),
        }
    }
}

/// Traces that the notifier fired.
#[inline(always)]
pub(crate) fn fire(dirty: usize, other_task: bool) {
    // SAFETY: This is always safe to call.
    unsafe { uret_fire(dirty, other_task) };
}

/// Whether somebody looks at a tracepoint. That may change at any time.
macro_rules! is_traced {
    ($tracepoint:ident) => {{
        #[cfg(CONFIG_TRACEPOINTS)]
        // SAFETY: It's always okay to query the static key for a tracepoint.
        let traced = unsafe {
            kernel::jump_label::static_branch_unlikely!(
                bindings::$tracepoint,
                bindings::tracepoint,
                key
            )
        };
        #[cfg(not(CONFIG_TRACEPOINTS))]
        let traced = false;

        traced
    }};
}

/// Returns whether somebody wants to know what sets do to MSRs. That may change at any time.
#[inline(always)]
pub(crate) fn sets_are_traced() -> bool {
    cfg!(CONFIG_URET_DEBUG)
        || writes_are_traced()
        || is_traced!(__tracepoint_uret_set)
        || is_traced!(__tracepoint_uret_elide)
}

/// Returns whether somebody wants to know what restores do to MSRs. That may change at any time.
#[inline(always)]
pub(crate) fn restores_are_traced() -> bool {
    cfg!(CONFIG_URET_DEBUG) || writes_are_traced() || is_traced!(__tracepoint_uret_restore)
}

/// Returns whether somebody wants to know of the notifier, or of restores. That may change at any
/// time.
#[inline(always)]
pub(crate) fn returns_are_traced() -> bool {
    restores_are_traced() || is_traced!(__tracepoint_uret_fire)
}
