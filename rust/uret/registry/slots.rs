// SPDX-License-Identifier: GPL-2.0

//! The table of slots: the MSR and the owner of each.

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    }, //
};

use super::slot::{
    Slot,
    SlotMask,
    MAX_SLOTS, //
};

/// The owner of an MSR: an address that is unique to the owner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(usize);

impl Owner {
    /// Returns the owner of an address, or [`EINVAL`] if the address is 0.
    pub(crate) fn new(address: usize) -> Result<Self> {
        if address == 0 {
            return Err(EINVAL);
        }
        Ok(Self(address))
    }

    /// Returns the owner of the address of a static that only the owner has.
    pub(crate) fn of<T>(unique: &'static T) -> Self {
        Self(core::ptr::from_ref(unique).addr())
    }
}

struct Entry {
    msr: Atomic<u32>,
    owner: Atomic<usize>,
}

/// The slots of all owners.
///
/// The caller must have a lock for changes. Any context may read.
///
/// # Invariants
///
/// `msr` and `owner` of a slot do not change while the slot is in `used`.
pub(crate) struct Slots {
    used: Atomic<usize>,
    entries: [Entry; MAX_SLOTS],
}

impl Slots {
    pub(crate) const fn new() -> Self {
        Self {
            used: Atomic::new(0),
            entries: [const {
                Entry {
                    msr: Atomic::new(0),
                    owner: Atomic::new(0),
                }
            }; MAX_SLOTS],
        }
    }

    fn used(&self) -> SlotMask {
        SlotMask(self.used.load(Acquire))
    }

    fn entry(&self, slot: Slot) -> &Entry {
        // The compiler sees that a slot is in range.
        &self.entries[slot.index()]
    }

    /// Returns the slots in use and their MSRs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, u32)> + '_ {
        self.used()
            .iter()
            .map(|slot| (slot, self.entry(slot).msr.load(Relaxed)))
    }

    /// Returns the slot of an MSR.
    pub(crate) fn find(&self, msr: u32) -> Option<Slot> {
        self.iter()
            .find(|&(_, other)| other == msr)
            .map(|(slot, _)| slot)
    }

    /// Returns the slots of an owner.
    pub(crate) fn of(&self, owner: Owner) -> SlotMask {
        let mut slots = SlotMask::NONE;

        for slot in self.used().iter().filter(|&slot| self.is_of(slot, owner)) {
            slots.add(slot.mask());
        }
        slots
    }

    fn is_of(&self, slot: Slot, owner: Owner) -> bool {
        self.entry(slot).owner.load(Relaxed) == owner.0
    }

    /// Gives an MSR a slot.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`]: the owner has added the MSR before.
    /// - [`EBUSY`]: another owner has the MSR.
    /// - [`ENOSPC`]: all slots are in use.
    pub(crate) fn add(&self, owner: Owner, msr: u32) -> Result<Slot> {
        if let Some(slot) = self.find(msr) {
            return Err(if self.is_of(slot, owner) {
                EEXIST
            } else {
                EBUSY
            });
        }
        let slot = Slot::new((!self.used().0).trailing_zeros() as usize).ok_or(ENOSPC)?;
        let entry = self.entry(slot);

        entry.msr.store(msr, Relaxed);
        entry.owner.store(owner.0, Relaxed);
        // INVARIANT: The entry is complete before the slot is in `used`, by the release.
        self.used.store(self.used().0 | slot.mask().0, Release);
        Ok(slot)
    }

    /// Frees slots.
    pub(crate) fn remove(&self, slots: SlotMask) {
        self.used.store(self.used().without(slots).0, Release);
    }
}
