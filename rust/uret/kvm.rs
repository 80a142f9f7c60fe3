// SPDX-License-Identifier: GPL-2.0

//! What both of KVM's vendor modules need: MSRs that are numbered from 0.
//!
//! One vendor module is loaded at a time, and sets its MSRs up while KVM holds its own lock.

use kernel::{
    bindings::uret_values as Values,
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

/// KVM's MSRs in KVM's order, and their slots in the registry.
struct Indices {
    nr: Atomic<usize>,
    msrs: [Atomic<u32>; MAX_SLOTS],
    slots: [Atomic<u32>; MAX_SLOTS],
}

static INDICES: Indices = Indices {
    nr: Atomic::new(0),
    msrs: [const { Atomic::new(0) }; MAX_SLOTS],
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
        if let (Some(its_msr), Some(its_slot)) = (INDICES.msrs.get(nr), INDICES.slots.get(nr)) {
            its_msr.store(msr, Relaxed);
            its_slot.store(slot as u32, Relaxed);
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

/// Returns one of KVM's MSRs, or 0.
pub(crate) fn msr(index: usize) -> u32 {
    INDICES.msrs.get(index).map_or(0, |msr| msr.load(Relaxed))
}

/// Notes in a vCPU's values what one of its MSRs shall be, and whether it shall be set at all.
///
/// What is not in the registry is left out.
pub(crate) fn update(values: &mut Values, index: usize, load: bool, data: u64, mask: u64) {
    let Ok(slot) = slot(index) else {
        return;
    };
    let bit = 1 << slot;

    if let (Some(its_data), Some(its_mask)) = (values.data.get_mut(slot), values.mask.get_mut(slot))
    {
        *its_data = data;
        *its_mask = mask;
        values.load = if load {
            values.load | bit
        } else {
            values.load & !bit
        };
        values.partial = if mask == u64::MAX {
            values.partial & !bit
        } else {
            values.partial | bit
        };
    }
}
