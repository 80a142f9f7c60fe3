// SPDX-License-Identifier: GPL-2.0

//! Slot numbers, sets of slots, and one value per slot.

use core::num::NonZero;

/// The number of slots: one per bit of a machine word.
pub(crate) const MAX_SLOTS: usize = kernel::bindings::URET_MAX_SLOTS as usize;

/// The number of a slot.
///
/// # Invariants
///
/// It is less than [`MAX_SLOTS`].
#[derive(Clone, Copy)]
pub(crate) struct Slot(usize);

impl Slot {
    /// Returns the slot of a number, if the number is in range.
    #[inline]
    pub(crate) fn new(slot: usize) -> Option<Self> {
        // INVARIANT: Just checked.
        (slot < MAX_SLOTS).then_some(Self(slot))
    }

    /// Returns the number.
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        // The compiler leaves the modulo out where the range is known.
        self.0 % MAX_SLOTS
    }

    /// Returns the set of this slot alone.
    #[inline(always)]
    pub(crate) fn mask(self) -> SlotMask {
        SlotMask(1 << self.index())
    }
}

/// A set of slots.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SlotMask(pub(crate) usize);

impl SlotMask {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(usize::MAX);

    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(crate) fn contains(self, slot: Slot) -> bool {
        self.0 & slot.mask().0 != 0
    }

    /// Returns the slots of both sets.
    #[inline(always)]
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the slots of this set that are not in the other.
    #[inline(always)]
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Adds the slots of the other set.
    #[inline(always)]
    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Iterates over the slots, lowest first.
    #[inline]
    pub(crate) fn iter(self) -> impl Iterator<Item = Slot> {
        let mut word = self.0;

        core::iter::from_fn(move || {
            let bit = NonZero::new(word)?.trailing_zeros() as usize;

            word &= word.wrapping_sub(1);
            // INVARIANT: The number of a bit of a machine word is less than `MAX_SLOTS`.
            Some(Slot(bit))
        })
    }
}

/// One value per slot.
///
/// An array per kind of value needs no arithmetic to find an entry, in contrast to an array of
/// structures, and the first eight slots share a cache line.
pub(crate) struct PerSlot<T>([T; MAX_SLOTS]);

impl<T> PerSlot<T> {
    pub(crate) const fn new(values: [T; MAX_SLOTS]) -> Self {
        Self(values)
    }

    /// Returns the value of one slot.
    #[inline(always)]
    pub(crate) fn at(&self, slot: Slot) -> &T {
        // The compiler sees that a slot is in range.
        &self.0[slot.index()]
    }
}
