// SPDX-License-Identifier: GPL-2.0

//! What both of KVM's vendor modules need: MSRs that are numbered from 0.
//!
//! One vendor module is loaded at a time, and sets its MSRs up while KVM holds its own lock.

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    }, //
};

use crate::{
    cpu::MAX_SLOTS,
    registry,
    slots::Owner, //
};

/// The registry's slots of KVM's MSRs, in KVM's order.
struct Indices {
    nr: Atomic<usize>,
    slots: [Atomic<u32>; MAX_SLOTS],
}

static INDICES: Indices = Indices {
    nr: Atomic::new(0),
    slots: [const { Atomic::new(0) }; MAX_SLOTS],
};

/// Returns KVM as an owner of slots.
pub(crate) fn owner() -> Owner {
    Owner::of(&INDICES)
}

/// Adds the MSRs of `list` to the registry, leaving out those that the CPU does not have.
///
/// Returns how many there are. On any other error, there are none.
pub(crate) fn setup(list: &[u32]) -> Result<usize> {
    let owner = owner();

    if INDICES.nr.load(Acquire) != 0 {
        return Err(EBUSY);
    }
    let mut nr = 0;

    for &msr in list {
        let added = match registry::add(owner, msr) {
            Err(err) if err == EIO => continue,
            added => added,
        };
        let slot = added.inspect_err(|err| {
            pr_err!("cannot add MSR {msr:#x} for KVM: {err:?}\n");
            registry::del(owner);
        })?;
        if let Some(entry) = INDICES.slots.get(nr) {
            entry.store(slot as u32, Relaxed);
            nr += 1;
        }
    }
    INDICES.nr.store(nr, Release);
    Ok(nr)
}

/// Undoes [`setup()`].
pub(crate) fn destroy() {
    INDICES.nr.store(0, Release);
    registry::del(owner());
}

/// Returns the slot of one of KVM's MSRs.
#[inline]
pub(crate) fn slot(index: usize) -> Result<usize> {
    if index >= INDICES.nr.load(Acquire) {
        return Err(ENXIO);
    }
    INDICES
        .slots
        .get(index)
        .map(|slot| slot.load(Relaxed) as usize)
        .ok_or(ENXIO)
}

/// Returns KVM's number of an MSR.
pub(crate) fn find(msr: u32) -> Result<usize> {
    let wanted = registry::SLOTS.find(msr).ok_or(ENOENT)?;

    (0..INDICES.nr.load(Acquire))
        .find(|&index| slot(index) == Ok(wanted))
        .ok_or(ENOENT)
}
