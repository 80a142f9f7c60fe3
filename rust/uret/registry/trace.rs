// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of the registry, see `include/trace/events/uret.h`.

use kernel::{
    prelude::*,
    sync::atomic::Atomic, //
};

use super::{
    arch::Arch as _,
    hw::Event,
    slot::{
        PerSlot,
        Slot,
        SlotMask, //
    }, //
};
use crate::Arch;

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
}

/// Traces an event of an MSR.
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
pub(crate) fn fire(dirty: SlotMask, other_task: bool) {
    // SAFETY: Safe in any context.
    unsafe { uret_fire(dirty.0, other_task) };
}

/// Whether a tracepoint is enabled. May change at any time.
macro_rules! is_traced {
    ($tracepoint:ident) => {{
        #[cfg(CONFIG_TRACEPOINTS)]
        // SAFETY: The static key of a tracepoint may be queried in any context.
        let traced = unsafe {
            kernel::jump_label::static_branch_unlikely!(
                kernel::bindings::$tracepoint,
                kernel::bindings::tracepoint,
                key
            )
        };
        #[cfg(not(CONFIG_TRACEPOINTS))]
        let traced = false;

        traced
    }};
}

/// Returns whether sets are traced. May change at any time.
#[inline(always)]
pub(crate) fn sets_are_traced() -> bool {
    cfg!(CONFIG_URET_DEBUG)
        || Arch::writes_are_traced()
        || is_traced!(__tracepoint_uret_set)
        || is_traced!(__tracepoint_uret_elide)
}

/// Returns whether restores are traced. May change at any time.
#[inline(always)]
pub(crate) fn restores_are_traced() -> bool {
    cfg!(CONFIG_URET_DEBUG) || Arch::writes_are_traced() || is_traced!(__tracepoint_uret_restore)
}

/// Returns whether the notifier or restores are traced. May change at any time.
#[inline(always)]
pub(crate) fn returns_are_traced() -> bool {
    restores_are_traced() || is_traced!(__tracepoint_uret_fire)
}
