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

/// A number that no slot has, for MSRs that are not in the registry.
const NO_SLOT: u32 = MAX_SLOTS as u32;

/// KVM's MSRs in KVM's order, and their slots in the registry, or [`NO_SLOT`].
struct Indices {
    nr: Atomic<usize>,
    msrs: [Atomic<u32>; MAX_SLOTS],
    slots: [Atomic<u32>; MAX_SLOTS],
}

static INDICES: Indices = Indices {
    nr: Atomic::new(0),
    msrs: [const { Atomic::new(0) }; MAX_SLOTS],
    slots: [const { Atomic::new(NO_SLOT) }; MAX_SLOTS],
};

/// Returns KVM as an owner of slots.
pub(crate) fn owner() -> Owner {
    Owner::of(&INDICES)
}

/// Adds the MSRs of `list` to the registry, leaving out those that the CPU does not have.
///
/// Returns how many there are. On any other error, there are none.
///
/// # Safety
///
/// As for [`registry::add()`], for each of them.
pub(crate) unsafe fn setup(list: &[u32]) -> Result<usize> {
    let owner = owner();

    registry::check_ready()?;
    if INDICES.nr.load(Acquire) != 0 {
        return Err(EBUSY);
    }
    let mut nr = 0;

    for &msr in list {
        // SAFETY: The caller vouches for the MSR.
        let added = match unsafe { registry::add(owner, msr) } {
            Err(err) if err == EIO => continue,
            added => added,
        };
        let slot = added.inspect_err(|err| {
            pr_err!("cannot add MSR {msr:#x} for KVM: {err:?}\n");
            destroy();
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
    for slot in &INDICES.slots {
        slot.store(NO_SLOT, Relaxed);
    }
    if registry::check_ready().is_ok() {
        registry::del(owner());
    }
}

/// Returns the slot of one of KVM's MSRs, or a number that the registry refuses.
#[inline(always)]
pub(crate) fn slot(index: usize) -> usize {
    let slot = INDICES.slots.get(index);

    slot.map_or(NO_SLOT, |slot| slot.load(Relaxed)) as usize
}

/// Returns one of KVM's MSRs, or 0.
pub(crate) fn msr(index: usize) -> u32 {
    INDICES.msrs.get(index).map_or(0, |msr| msr.load(Relaxed))
}

/// Notes in a vCPU's values what one of its MSRs shall be, and whether it shall be set at all.
///
/// What is not in the registry is left out.
pub(crate) fn update(values: &mut Values, index: usize, load: bool, data: u64, mask: u64) {
    let slot = slot(index);

    if let (Some(its_data), Some(its_mask)) = (values.data.get_mut(slot), values.mask.get_mut(slot))
    {
        let bit = 1 << slot;

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
