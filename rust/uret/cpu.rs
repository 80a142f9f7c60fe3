// SPDX-License-Identifier: GPL-2.0

//! The registry's state of one CPU, and the rules by which it changes.
//!
//! This file knows neither notifiers nor real MSRs, so that its rules can be tested with MSRs that
//! fault at will.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// How many slots there are: one per bit of a machine word.
pub(crate) const MAX_SLOTS: usize = kernel::bindings::URET_MAX_SLOTS as usize;

/// Something that happened to an MSR, to be traced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It got another value.
    Set,
    /// It had the value already.
    Elide,
    /// It got the host's value back, at a user return or a drop.
    Restore,
}

/// The MSRs of the CPU that the caller runs on.
pub(crate) trait Hardware {
    /// Reads an MSR.
    fn read(&self, msr: u32) -> Result<u64>;

    /// Writes an MSR. On an error it must have kept its value.
    fn write(&self, msr: u32, value: u64) -> Result;

    /// Told of every event, after it.
    fn event(&self, _event: Event, _slot: usize, _msr: u32, _value: u64) {}
}

/// A counter of one CPU: no other CPU changes it, so a plain increment does.
pub(crate) struct Counter(Atomic<u64>);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub(crate) fn inc(&self) {
        self.0.store(self.get().wrapping_add(1), Relaxed);
    }
}

/// A slot as seen by one CPU.
pub(crate) struct Slot {
    msr: Atomic<u32>,
    host: Atomic<u64>,
    current: Atomic<u64>,
    /// How often [`Cpu::set()`] wrote the MSR.
    pub(crate) written: Counter,
    /// How often [`Cpu::set()`] found the value there already.
    pub(crate) elided: Counter,
    /// How often the host's value was put back.
    pub(crate) restored: Counter,
}

impl Slot {
    const fn new() -> Self {
        Self {
            msr: Atomic::new(0),
            host: Atomic::new(0),
            current: Atomic::new(0),
            written: Counter::new(),
            elided: Counter::new(),
            restored: Counter::new(),
        }
    }

    /// Returns the number of the MSR.
    pub(crate) fn msr(&self) -> u32 {
        self.msr.load(Relaxed)
    }
}

/// The state of one CPU.
///
/// # Invariants
///
/// - `slots[i].current` is what the MSR of slot `i` holds, for every bit `i` of `ready`.
/// - Bit `i` of `dirty` is set exactly if `slots[i].current` and `slots[i].host` differ.
/// - `dirty` is a subset of `ready`.
///
/// They hold whenever preemption is enabled: nothing here is called from interrupts.
pub(crate) struct Cpu {
    /// The slots whose host value is known.
    ready: Atomic<usize>,
    /// The slots that differ from the host.
    dirty: Atomic<usize>,
    slots: [Slot; MAX_SLOTS],
}

impl Cpu {
    pub(crate) const fn new() -> Self {
        // INVARIANT: No slot is ready, and none dirty.
        Self {
            ready: Atomic::new(0),
            dirty: Atomic::new(0),
            slots: [const { Slot::new() }; MAX_SLOTS],
        }
    }

    /// Returns the slots that differ from the host, as a bitmap.
    #[inline]
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.load(Relaxed)
    }

    /// Returns a slot whose host value is known, with its bit.
    #[inline]
    fn ready_slot(&self, slot: usize) -> Result<(&Slot, usize)> {
        let entry = self.slots.get(slot).ok_or(ENXIO)?;
        let bit = 1 << slot;

        if self.ready.load(Relaxed) & bit == 0 {
            return Err(ENXIO);
        }
        Ok((entry, bit))
    }

    /// Returns all slots whose host value is known, with their numbers.
    pub(crate) fn ready_slots(&self) -> impl Iterator<Item = (usize, &Slot)> {
        bits(self.ready.load(Relaxed)).filter_map(|slot| Some((slot, self.slots.get(slot)?)))
    }

    /// Reads the host's value of a slot, which becomes ready.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if the slot is dirty: what the MSR holds is not the host's value.
    /// - [`EIO`] if the MSR cannot be read; it is not ready then.
    pub(crate) fn read_host(&self, hw: &impl Hardware, slot: usize, msr: u32) -> Result {
        let entry = self.slots.get(slot).ok_or(ENXIO)?;
        let bit = 1 << slot;

        if self.dirty() & bit != 0 {
            return Err(EBUSY);
        }
        let value = hw
            .read(msr)
            .inspect_err(|_| self.ready.store(self.ready.load(Relaxed) & !bit, Relaxed))?;

        // INVARIANT: The slot holds the host's value, and is not dirty.
        entry.msr.store(msr, Relaxed);
        entry.host.store(value, Relaxed);
        entry.current.store(value, Relaxed);
        self.ready.store(self.ready.load(Relaxed) | bit, Relaxed);
        Ok(())
    }

    /// Sets the bits `mask` of a slot to those of `value`, and the others to the host's.
    ///
    /// # Errors
    ///
    /// - [`ENXIO`] if the slot is not ready.
    /// - [`EIO`] if the MSR does not take the value; nothing has changed then.
    #[inline]
    pub(crate) fn set(&self, hw: &impl Hardware, slot: usize, value: u64, mask: u64) -> Result {
        let (entry, bit) = self.ready_slot(slot)?;
        let host = entry.host.load(Relaxed);
        let value = (value & mask) | (host & !mask);

        if value == entry.current.load(Relaxed) {
            entry.elided.inc();
            hw.event(Event::Elide, slot, entry.msr(), value);
            return Ok(());
        }
        hw.write(entry.msr(), value)?;

        // INVARIANT: The MSR holds `value` now, and `dirty` tells whether that is the host's.
        entry.current.store(value, Relaxed);
        let others = self.dirty() & !bit;
        let dirty = if value == host { others } else { others | bit };
        self.dirty.store(dirty, Relaxed);
        entry.written.inc();
        hw.event(Event::Set, slot, entry.msr(), value);
        Ok(())
    }

    /// Returns what the MSR of a slot holds, or [`ENXIO`] if the slot is not ready.
    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Result<u64> {
        Ok(self.ready_slot(slot)?.0.current.load(Relaxed))
    }

    /// Puts back the host's value of those slots in the bitmap `which` that differ from it.
    ///
    /// # Errors
    ///
    /// [`EIO`] if some MSR does not take the host's value, which it had before. That slot stays
    /// dirty; the others are restored.
    #[inline]
    pub(crate) fn restore(&self, hw: &impl Hardware, which: usize) -> Result {
        let mut result = Ok(());

        for slot in bits(self.dirty() & which) {
            let Some(entry) = self.slots.get(slot) else {
                break;
            };
            let host = entry.host.load(Relaxed);

            if let Err(err) = hw.write(entry.msr(), host) {
                result = Err(err);
                continue;
            }
            // INVARIANT: The MSR holds the host's value now, and is not dirty.
            entry.current.store(host, Relaxed);
            self.dirty.store(self.dirty() & !(1 << slot), Relaxed);
            entry.restored.inc();
            hw.event(Event::Restore, slot, entry.msr(), host);
        }
        result
    }

    /// Forgets those slots in the bitmap `which` that are not dirty, and their counters.
    pub(crate) fn forget(&self, which: usize) {
        let which = which & !self.dirty();

        for slot in bits(which & self.ready.load(Relaxed)) {
            if let Some(entry) = self.slots.get(slot) {
                for counter in [&entry.written, &entry.elided, &entry.restored] {
                    counter.0.store(0, Relaxed);
                }
            }
        }
        self.ready.store(self.ready.load(Relaxed) & !which, Relaxed);
    }
}

/// Iterates over the numbers of the bits that are set in `word`, lowest first.
#[inline]
pub(crate) fn bits(mut word: usize) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        Some(bit)
    })
}
