// SPDX-License-Identifier: GPL-2.0

//! The decision whether the VMLOAD/VMSAVE state of a vCPU is deferred.
//!
//! Events:
//!
//! - [`load()`](Deferral::load): KVM loads guest state for the first VMRUN after `vcpu_load()`. A
//!   vCPU with a decision to defer that wakes on another CPU is no such event.
//! - [`reenter()`](Deferral::reenter): another VMRUN follows, or probably will, before
//!   `vcpu_put()`.
//! - [`decide()`](Deferral::decide): follows `load()` if `load()` returns true.
//! - [`ineligible()`](Deferral::ineligible): the thread may have an LDT, which another thread can
//!   install at any time.
//! - [`put()`](Deferral::put): `vcpu_put()` restores the host's state.
//!
//! Deferral does not help a vCPU that exits to user space every time. So if there was at most one
//! exit since the last `load()`, the vCPU enters as [`Entry::First`] until `reenter()`.
//!
//! This file knows no hardware, so that KUnit can test the rules.

/// How a vCPU enters. Also `enum uret_svm_entry`; KVM relies on the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Entry {
    /// Without deferral, always.
    Never,
    /// Without deferral: the next exit may be the only one before user space.
    First,
    /// Without deferral: the vCPU or the thread is ineligible.
    Ineligible,
    /// With deferral.
    Deferred,
}

/// Whether a vCPU and the thread of the vCPU are eligible.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// The host and the vCPU allow deferral. If so, the thread struct holds FS and GS.
    pub(crate) allowed: bool,
    /// The selectors of FS and GS in the thread struct are null. Others cannot be restored.
    pub(crate) null_selectors: bool,
}

/// The decision for one vCPU. Also `struct uret_svm_deferral`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Deferral {
    /// The number of exits that the next `load()` counts from.
    pub(crate) exits: u64,
    pub(crate) entry: Entry,
    /// The thread struct holds FS and GS, and user mode has not run since.
    pub(crate) fsgs_saved: bool,
}

impl Deferral {
    /// The decision for a new vCPU, with uret or without.
    pub(crate) const fn new(uret: bool) -> Self {
        Self {
            exits: 0,
            entry: if uret { Entry::First } else { Entry::Never },
            fsgs_saved: false,
        }
    }

    /// Notes a load, and returns whether `decide()` must follow. `exits` is the number of exits of
    /// the vCPU.
    pub(crate) fn load(&mut self, exits: u64) -> bool {
        let since = exits.wrapping_sub(self.exits);

        if matches!(self.entry, Entry::Never | Entry::First) {
            return false;
        }
        self.exits = exits;
        if since <= 1 {
            self.entry = Entry::First;
            self.fsgs_saved = false;
            return false;
        }
        // A decision to defer holds until user mode runs.
        !self.fsgs_saved || self.entry != Entry::Deferred
    }

    /// Notes a reentry, and returns whether the vCPU was found ineligible. `exits` is the number of
    /// exits of the vCPU.
    pub(crate) fn reenter(&mut self, exits: u64, facts: Facts) -> bool {
        if self.entry != Entry::First {
            return false;
        }
        // This exit counts for the next `load()`.
        self.exits = exits.wrapping_sub(1);
        self.decide(facts)
    }

    /// Decides, and returns whether the vCPU is ineligible.
    pub(crate) fn decide(&mut self, facts: Facts) -> bool {
        let eligible = facts.allowed && facts.null_selectors;

        self.fsgs_saved |= facts.allowed;
        self.entry = match eligible {
            true => Entry::Deferred,
            false => Entry::Ineligible,
        };
        !eligible
    }

    /// Revokes a decision to defer.
    pub(crate) fn ineligible(&mut self) {
        self.entry = Entry::Ineligible;
    }

    /// Notes that the host's state is restored: for another task, or for user mode.
    pub(crate) fn put(&mut self, scheduled_out: bool) {
        self.fsgs_saved &= scheduled_out;
    }
}
