// SPDX-License-Identifier: GPL-2.0

//! The access to MSRs that the rules of a CPU need.

use kernel::{
    prelude::*,
    sync::atomic::Atomic, //
};

use super::slot::{
    PerSlot,
    Slot, //
};

/// An event of an MSR, for a tracepoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The MSR was set to another value.
    Set,
    /// The MSR held the value already, and was not written.
    Elide,
    /// The MSR was set to the host's value, at a user return or a drop.
    Restore,
}

/// Access to the MSRs of the current CPU.
pub(crate) trait MsrOps {
    /// Reads an MSR.
    fn read(&self, msr: u32) -> Result<u64>;

    /// Writes an MSR. After an error the MSR must hold its previous value.
    ///
    /// # Safety
    ///
    /// The kernel must be able to run with `value` in the MSR, and the host's value must be
    /// restored before the CPU returns to user mode.
    unsafe fn write(&self, msr: u32, value: u64) -> Result;

    /// Reports an event that has happened. `msrs` has the MSR of `slot`; only an implementation
    /// that traces reads `msrs`.
    fn event(&self, _event: Event, _slot: Slot, _msrs: &PerSlot<Atomic<u32>>, _value: u64) {}
}
