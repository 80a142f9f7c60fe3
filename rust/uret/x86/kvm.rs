// SPDX-License-Identifier: GPL-2.0

//! KVM's numbers of MSRs, which start from 0, and their slots.
//!
//! One vendor module is loaded at a time, and sets up its MSRs under a lock of KVM.

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

use crate::registry::{
    self,
    slot::MAX_SLOTS,
    slots::Owner, //
};

/// A number that is no slot, for MSRs that are not in the registry.
const NO_SLOT: u32 = MAX_SLOTS as u32;

/// KVM's MSRs in KVM's order, with their slots, or [`NO_SLOT`].
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

/// Adds the MSRs of `list` to the registry, except for MSRs that the CPU does not have.
///
/// Returns the number of MSRs that were added. After an error, the registry has none of these MSRs.
///
/// # Safety
///
/// As for [`registry::add()`], for each MSR.
pub(crate) unsafe fn setup(list: &[u32]) -> Result<usize> {
    let owner = owner();

    registry::check_initialized()?;
    if INDICES.nr.load(Acquire) != 0 {
        return Err(EBUSY);
    }
    let mut nr = 0;

    for &msr in list {
        // SAFETY: The caller guarantees the values of the MSR.
        let added = match unsafe { registry::add(owner, msr) } {
            Err(err) if err == EIO => continue,
            added => added,
        };
        let slot = added.inspect_err(|err| {
            pr_err!("cannot add MSR {msr:#x} for KVM: {err:?}\n");
            destroy();
        })?;
        if let (Some(msr_at), Some(slot_at)) = (INDICES.msrs.get(nr), INDICES.slots.get(nr)) {
            msr_at.store(msr, Relaxed);
            slot_at.store(slot.index() as u32, Relaxed);
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
    if registry::check_initialized().is_ok() {
        registry::del(owner());
    }
}

/// Returns the slot of an MSR by KVM's number, or a number that the registry refuses.
#[inline(always)]
pub(crate) fn slot(index: usize) -> usize {
    let slot = INDICES.slots.get(index);

    slot.map_or(NO_SLOT, |slot| slot.load(Relaxed)) as usize
}

/// Returns an MSR by KVM's number, or 0.
pub(crate) fn msr(index: usize) -> u32 {
    INDICES.msrs.get(index).map_or(0, |msr| msr.load(Relaxed))
}

/// Updates the value of one MSR in the values of a vCPU; `load` says whether the MSR is to be set.
///
/// Does nothing for an MSR that is not in the registry.
pub(crate) fn update(values: &mut Values, index: usize, load: bool, data: u64, mask: u64) {
    let slot = slot(index);

    if let (Some(data_at), Some(mask_at)) = (values.data.get_mut(slot), values.mask.get_mut(slot)) {
        let bit = 1 << slot;

        *data_at = data;
        *mask_at = mask;
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
