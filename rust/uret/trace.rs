// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of `include/trace/events/uret.h`.

use kernel::prelude::*;

use crate::cpu::Event;

kernel::declare_trace! {
    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_set(slot: c_uint, msr: u32, value: u64);

    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_elide(slot: c_uint, msr: u32, value: u64);

    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_restore(slot: c_uint, msr: u32, value: u64);

    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn uret_fire(dirty: c_ulong, other_task: bool);
}

/// Traces what happened to an MSR.
#[inline(always)]
pub(crate) fn msr(event: Event, slot: usize, msr: u32, value: u64) {
    let slot = slot as c_uint;

    // SAFETY: These are always safe to call.
    unsafe {
        match event {
            Event::Set => uret_set(slot, msr, value),
            Event::Elide => uret_elide(slot, msr, value),
            Event::Restore => uret_restore(slot, msr, value),
        }
    }
}

/// Traces that the notifier fired.
#[inline(always)]
pub(crate) fn fire(dirty: usize, other_task: bool) {
    // SAFETY: This is always safe to call.
    unsafe { uret_fire(dirty, other_task) };
}
