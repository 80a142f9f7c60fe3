// SPDX-License-Identifier: GPL-2.0

//! Which MSR is in which slot, and whose it is.

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    }, //
};

use crate::cpu::{
    bits,
    MAX_SLOTS, //
};

/// Who added an MSR: an address that nobody else has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(usize);

impl Owner {
    /// Makes an owner of an address, or returns [`EINVAL`] if it is 0.
    pub(crate) fn new(address: usize) -> Result<Self> {
        if address == 0 {
            return Err(EINVAL);
        }
        Ok(Self(address))
    }

    /// Makes an owner of something that only that owner has.
    pub(crate) fn of<T>(it: &'static T) -> Self {
        Self(core::ptr::from_ref(it).addr())
    }
}

struct Slot {
    msr: Atomic<u32>,
    owner: Atomic<usize>,
}

/// The slots of all owners.
///
/// Whoever changes it holds a lock of the caller's; anybody may look.
///
/// # Invariants
///
/// `msr` and `owner` of a slot do not change while its bit in `used` is set.
pub(crate) struct Slots {
    used: Atomic<usize>,
    slots: [Slot; MAX_SLOTS],
}

impl Slots {
    pub(crate) const fn new() -> Self {
        Self {
            used: Atomic::new(0),
            slots: [const {
                Slot {
                    msr: Atomic::new(0),
                    owner: Atomic::new(0),
                }
            }; MAX_SLOTS],
        }
    }

    /// Returns the slots in use and their MSRs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        bits(self.used.load(Acquire)).filter_map(|slot| {
            Some((
                slot.index(),
                self.slots.get(slot.index())?.msr.load(Relaxed),
            ))
        })
    }

    /// Returns the slot of an MSR.
    pub(crate) fn find(&self, msr: u32) -> Option<usize> {
        self.iter().find(|&(_, it)| it == msr).map(|(slot, _)| slot)
    }

    /// Returns the slots of an owner, as a bitmap.
    pub(crate) fn of(&self, owner: Owner) -> usize {
        bits(self.used.load(Acquire))
            .map(|slot| slot.index())
            .filter(|&slot| self.owner(slot) == owner.0)
            .fold(0, |all, slot| all | 1 << slot)
    }

    fn owner(&self, slot: usize) -> usize {
        self.slots
            .get(slot)
            .map_or(0, |entry| entry.owner.load(Relaxed))
    }

    /// Gives an MSR a slot.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] if the owner has added it before.
    /// - [`EBUSY`] if it is another owner's.
    /// - [`ENOSPC`] if all slots are in use.
    pub(crate) fn add(&self, owner: Owner, msr: u32) -> Result<usize> {
        if let Some(slot) = self.find(msr) {
            return Err(if self.owner(slot) == owner.0 {
                EEXIST
            } else {
                EBUSY
            });
        }
        let used = self.used.load(Relaxed);
        let slot = (!used).trailing_zeros() as usize;
        let entry = self.slots.get(slot).ok_or(ENOSPC)?;

        entry.msr.store(msr, Relaxed);
        entry.owner.store(owner.0, Relaxed);
        // INVARIANT: Released after the entry is complete.
        self.used.store(used | 1 << slot, Release);
        Ok(slot)
    }

    /// Frees the slots in the bitmap `which`.
    pub(crate) fn remove(&self, which: usize) {
        self.used.store(self.used.load(Relaxed) & !which, Release);
    }
}
