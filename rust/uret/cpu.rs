// SPDX-License-Identifier: GPL-2.0

//! The registry's state of one CPU, and the rules by which it changes.
//!
//! This file knows neither notifiers nor real MSRs, so that its rules can be tested with MSRs that
//! fault at will.

use core::num::NonZero;

use kernel::{
    bindings::uret_values as Values,
    percpu::LocalMask,
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
    ///
    /// # Safety
    ///
    /// The kernel must be able to run with `value` in the MSR, and the host's value be restored
    /// before the CPU returns to user mode.
    unsafe fn write(&self, msr: u32, value: u64) -> Result;

    /// Told of every event, after it. The MSR is `msrs[slot]`, which need not be loaded for that.
    fn event(&self, _event: Event, _slot: Slot, _msrs: &PerSlot<Atomic<u32>>, _value: u64) {}
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

/// What happened to one slot on one CPU.
pub(crate) struct Counts {
    /// How often it was set, and the MSR written.
    pub(crate) written: u64,
    /// How often it was set to the value that it had already.
    pub(crate) elided: u64,
    /// How often the host's value was put back.
    pub(crate) restored: u64,
}

/// Something of each slot.
///
/// An array for each, rather than one of structures, needs no arithmetic to get at an entry, and
/// the first eight slots share a cache line.
pub(crate) struct PerSlot<T>([T; MAX_SLOTS]);

impl<T> PerSlot<T> {
    /// Returns that of one slot.
    #[inline(always)]
    pub(crate) fn at(&self, slot: Slot) -> &T {
        // A slot is in range, which the compiler sees.
        &self.0[slot.index()]
    }
}

/// What a set has done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// Nothing: the MSR had the value already.
    Elided,
    /// The MSR got the host's value, and the slot is clean.
    Cleaned,
    /// The MSR got another value, and the slot is dirty.
    Soiled,
}

/// What sets have done to slots, as bitmaps.
#[derive(Default)]
struct Changes {
    soiled: usize,
    failed: usize,
}

impl Changes {
    #[inline(always)]
    fn note(&mut self, slot: Slot, result: Result<Done>) {
        match result {
            Ok(Done::Soiled) => self.soiled |= slot.bit(),
            Ok(Done::Elided | Done::Cleaned) => {}
            Err(_) => self.failed |= slot.bit(),
        }
    }
}

/// The state of one CPU.
///
/// # Invariants
///
/// - `current[i]` is what the MSR of slot `i` holds, for every bit `i` of `ready`.
/// - Bit `i` of `dirty` is set exactly if `current[i]` and `host[i]` differ.
/// - `dirty` is a subset of `ready`.
///
/// They hold whenever preemption is enabled. An interrupt may restore and remove slots while those
/// of another owner are set, and read the host's value of new ones: it changes `dirty` as a whole.
pub(crate) struct Cpu {
    /// The slots whose host value is known.
    ready: Atomic<usize>,
    /// The slots that differ from the host.
    dirty: LocalMask,
    msr: PerSlot<Atomic<u32>>,
    host: PerSlot<Atomic<u64>>,
    current: PerSlot<Atomic<u64>>,
    written: PerSlot<Counter>,
    elided: PerSlot<Counter>,
    restored: PerSlot<Counter>,
}

impl Cpu {
    pub(crate) const fn new() -> Self {
        // INVARIANT: No slot is ready, and none dirty.
        Self {
            ready: Atomic::new(0),
            dirty: LocalMask::new(),
            msr: PerSlot([const { Atomic::new(0) }; MAX_SLOTS]),
            host: PerSlot([const { Atomic::new(0) }; MAX_SLOTS]),
            current: PerSlot([const { Atomic::new(0) }; MAX_SLOTS]),
            written: PerSlot([const { Counter::new() }; MAX_SLOTS]),
            elided: PerSlot([const { Counter::new() }; MAX_SLOTS]),
            restored: PerSlot([const { Counter::new() }; MAX_SLOTS]),
        }
    }

    /// Returns the slots that differ from the host, as a bitmap.
    #[inline]
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.get()
    }

    /// Returns a slot if its host value is known.
    #[inline]
    fn ready_slot(&self, slot: usize) -> Result<Slot> {
        let slot = Slot::new(slot).ok_or(ENXIO)?;

        if self.ready.load(Relaxed) & slot.bit() == 0 {
            return Err(ENXIO);
        }
        Ok(slot)
    }

    /// Returns all slots whose host value is known, with their MSRs and what happened to them.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (usize, u32, Counts)> + '_ {
        bits(self.ready.load(Relaxed)).map(|slot| {
            let counts = Counts {
                written: self.written.at(slot).get(),
                elided: self.elided.at(slot).get(),
                restored: self.restored.at(slot).get(),
            };

            (slot.index(), self.msr.at(slot).load(Relaxed), counts)
        })
    }

    /// Reads the host's value of a slot, which becomes ready.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if the slot is dirty: what the MSR holds is not the host's value.
    /// - [`EIO`] if the MSR cannot be read; it is not ready then.
    ///
    /// # Safety
    ///
    /// The kernel must be able to run with any value in the MSR that the slot will be set to, and
    /// [`restore()`](Self::restore) be called before the CPU returns to user mode.
    pub(crate) unsafe fn read_host(&self, hw: &impl Hardware, slot: usize, msr: u32) -> Result {
        let slot = Slot::new(slot).ok_or(ENXIO)?;

        if self.dirty() & slot.bit() != 0 {
            return Err(EBUSY);
        }
        let value = hw
            .read(msr)
            .inspect_err(|_| self.change_ready(slot, false))?;

        // INVARIANT: The slot holds the host's value, and is not dirty.
        self.msr.at(slot).store(msr, Relaxed);
        self.host.at(slot).store(value, Relaxed);
        self.current.at(slot).store(value, Relaxed);
        self.change_ready(slot, true);
        Ok(())
    }

    /// Other CPUs change other bits of `ready`, and interrupts do.
    fn change_ready(&self, slot: Slot, ready: bool) {
        if (self.ready.load(Relaxed) & slot.bit() != 0) != ready {
            let bit = slot.bit();

            self.ready
                .add(if ready { bit } else { bit.wrapping_neg() }, Relaxed);
        }
    }

    /// Sets a slot to `value`. If that soils it, the caller makes it dirty.
    #[inline(always)]
    fn put(&self, hw: &impl Hardware, slot: Slot, value: u64) -> Result<Done> {
        if value == self.current.at(slot).load(Relaxed) {
            self.elided.at(slot).inc();
            hw.event(Event::Elide, slot, &self.msr, value);
            return Ok(Done::Elided);
        }
        // SAFETY: The slot is ready, and the caller of `read_host()` vouches for its values.
        unsafe { hw.write(self.msr.at(slot).load(Relaxed), value) }?;
        self.written.at(slot).inc();
        self.current.at(slot).store(value, Relaxed);
        hw.event(Event::Set, slot, &self.msr, value);
        if value == self.host.at(slot).load(Relaxed) {
            self.clean(slot);
            return Ok(Done::Cleaned);
        }
        Ok(Done::Soiled)
    }

    /// A slot got the host's value by a set. That is rare, and the compiler is to know it.
    #[cold]
    #[inline(never)]
    fn clean(&self, slot: Slot) {
        self.dirty.clear(slot.bit());
    }

    /// Brings `dirty` in line with what [`Cpu::put()`] has done.
    #[inline(always)]
    fn apply(&self, changes: Changes) -> Result {
        // INVARIANT: These were written, and did not get the host's value.
        self.dirty.set(changes.soiled);
        if changes.failed != 0 {
            return Err(EIO);
        }
        Ok(())
    }

    /// Returns `value` with the bits outside of `mask` as the host has them.
    #[inline(always)]
    fn merged(&self, slot: Slot, value: u64, mask: u64) -> u64 {
        (value & mask) | (self.host.at(slot).load(Relaxed) & !mask)
    }

    /// Sets the bits `mask` of a slot to those of `value`, and the others to the host's.
    ///
    /// # Errors
    ///
    /// - [`ENXIO`] if the slot is not ready.
    /// - [`EIO`] if the MSR does not take the value; nothing has changed then.
    #[inline(always)]
    pub(crate) fn set(
        &self,
        hw: &impl Hardware,
        slot: usize,
        value: u64,
        mask: u64,
    ) -> Result<Done> {
        let slot = self.ready_slot(slot)?;
        let done = self.put(hw, slot, self.merged(slot, value, mask))?;

        if done == Done::Soiled {
            // INVARIANT: It was written, and did not get the host's value.
            self.dirty.set(slot.bit());
        }
        Ok(done)
    }

    /// Sets many slots.
    ///
    /// # Errors
    ///
    /// As [`Cpu::set()`]. One that fails does not keep the others from being set.
    #[inline]
    pub(crate) fn set_values(&self, hw: &impl Hardware, values: &Values) -> Result {
        if values.load & (values.partial | !self.ready.load(Relaxed)) != 0 {
            return self.set_odd_values(hw, values);
        }
        let mut changes = Changes::default();

        for slot in bits(values.load) {
            changes.note(slot, self.put(hw, slot, values.data[slot.index()]));
        }
        self.apply(changes)
    }

    /// Sets many slots, of which some are not there, or get some bits only, as on few CPUs.
    #[cold]
    fn set_odd_values(&self, hw: &impl Hardware, values: &Values) -> Result {
        let load = values.load & self.ready.load(Relaxed);
        let mut changes = Changes::default();

        for slot in bits(load) {
            let mut value = values.data[slot.index()];

            if values.partial & slot.bit() != 0 {
                value = self.merged(slot, value, values.mask[slot.index()]);
            }
            changes.note(slot, self.put(hw, slot, value));
        }
        self.apply(changes)?;
        if load != values.load {
            return Err(ENXIO);
        }
        Ok(())
    }

    /// Returns what the MSR of a slot holds, or [`ENXIO`] if the slot is not ready.
    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Result<u64> {
        Ok(self.current.at(self.ready_slot(slot)?).load(Relaxed))
    }

    /// Puts back the host's value of those slots in the bitmap `which` that differ from it.
    ///
    /// # Errors
    ///
    /// [`EIO`] if some MSR does not take the host's value, which it had before. That slot stays
    /// dirty; the others are restored.
    #[inline]
    pub(crate) fn restore(&self, hw: &impl Hardware, which: usize) -> Result {
        let which = self.dirty() & which;
        let mut failed = 0;

        for slot in bits(which) {
            let host = self.host.at(slot).load(Relaxed);

            // SAFETY: The slot is ready, and had this value when it became so.
            if unsafe { hw.write(self.msr.at(slot).load(Relaxed), host) }.is_err() {
                failed |= slot.bit();
                continue;
            }
            self.current.at(slot).store(host, Relaxed);
            self.restored.at(slot).inc();
            hw.event(Event::Restore, slot, &self.msr, host);
        }
        // INVARIANT: All but those that failed hold the host's value now.
        self.dirty.clear(which & !failed);
        if failed == 0 {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Forgets those slots in the bitmap `which` that are not dirty, and their counters. Any CPU
    /// may call this, if none sets these slots.
    pub(crate) fn forget(&self, which: usize) {
        for slot in bits(which & !self.dirty() & self.ready.load(Relaxed)) {
            for counters in [&self.written, &self.elided, &self.restored] {
                counters.at(slot).0.store(0, Relaxed);
            }
            self.change_ready(slot, false);
        }
    }
}

/// The number of a slot.
///
/// # Invariants
///
/// It is less than [`MAX_SLOTS`].
#[derive(Clone, Copy)]
pub(crate) struct Slot(usize);

impl Slot {
    #[inline]
    fn new(slot: usize) -> Option<Self> {
        // INVARIANT: Just checked.
        (slot < MAX_SLOTS).then_some(Self(slot))
    }

    /// Returns the number.
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        // This costs nothing where the compiler knows it anyway.
        self.0 % MAX_SLOTS
    }

    #[inline(always)]
    fn bit(self) -> usize {
        1 << self.index()
    }
}

/// Iterates over the slots whose bits are set in `word`, lowest first.
#[inline]
pub(crate) fn bits(mut word: usize) -> impl Iterator<Item = Slot> {
    core::iter::from_fn(move || {
        let bit = NonZero::new(word)?.trailing_zeros() as usize;

        word &= word.wrapping_sub(1);
        // INVARIANT: A machine word has no more bits.
        Some(Slot(bit))
    })
}
