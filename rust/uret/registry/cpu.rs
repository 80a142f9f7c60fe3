// SPDX-License-Identifier: GPL-2.0

//! The state of the registry on one CPU, and the rules that change it.
//!
//! This file knows neither notifiers nor hardware, so that KUnit can test the rules with MSRs that
//! fault on demand.

use kernel::{
    bindings::uret_values as Values,
    percpu::LocalMask,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use super::{
    hw::{
        Event,
        MsrOps, //
    },
    slot::{
        PerSlot,
        Slot,
        SlotMask,
        MAX_SLOTS, //
    }, //
};

/// A counter that one CPU increments, without a locked instruction.
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

/// The counters of one slot on one CPU.
pub(crate) struct Counts {
    /// Sets that wrote the MSR.
    pub(crate) written: u64,
    /// Sets to the value that the MSR held.
    pub(crate) elided: u64,
    /// Restores of the host's value.
    pub(crate) restored: u64,
}

/// The outcome of a set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOutcome {
    /// The MSR held the value, and was not written.
    Elided,
    /// The MSR was set to the host's value: the slot is clean.
    Clean,
    /// The MSR was set to another value: the slot is dirty.
    Dirty,
}

/// The outcomes of several sets.
#[derive(Default)]
struct Outcomes {
    dirty: SlotMask,
    failed: SlotMask,
}

impl Outcomes {
    #[inline(always)]
    fn note(&mut self, slot: Slot, result: Result<SetOutcome>) {
        match result {
            Ok(SetOutcome::Dirty) => self.dirty.add(slot.mask()),
            Ok(SetOutcome::Elided | SetOutcome::Clean) => {}
            Err(_) => self.failed.add(slot.mask()),
        }
    }
}

/// The state of one CPU.
///
/// # Invariants
///
/// - For every slot in `initialized`, `current` is the value that the MSR holds.
/// - A slot is in `dirty` exactly if its `current` and `host` differ.
/// - `dirty` is a subset of `initialized`.
///
/// The invariants hold whenever preemption is enabled. An interrupt may restore and remove slots
/// while slots of another owner are set, and read the host's value of new slots: each change of
/// `dirty` is one instruction.
pub(crate) struct Cpu {
    /// The slots with a known host value.
    initialized: Atomic<usize>,
    /// The slots with an MSR that differs from the host's value.
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
        // INVARIANT: No slot is initialized or dirty.
        Self {
            initialized: Atomic::new(0),
            dirty: LocalMask::new(),
            msr: PerSlot::new([const { Atomic::new(0) }; MAX_SLOTS]),
            host: PerSlot::new([const { Atomic::new(0) }; MAX_SLOTS]),
            current: PerSlot::new([const { Atomic::new(0) }; MAX_SLOTS]),
            written: PerSlot::new([const { Counter::new() }; MAX_SLOTS]),
            elided: PerSlot::new([const { Counter::new() }; MAX_SLOTS]),
            restored: PerSlot::new([const { Counter::new() }; MAX_SLOTS]),
        }
    }

    /// Returns the dirty slots.
    #[inline]
    pub(crate) fn dirty(&self) -> SlotMask {
        SlotMask(self.dirty.get())
    }

    #[inline(always)]
    fn initialized(&self) -> SlotMask {
        SlotMask(self.initialized.load(Relaxed))
    }

    /// Returns the slot of a number, if the host's value is known.
    #[inline]
    fn initialized_slot(&self, slot: usize) -> Result<Slot> {
        let slot = Slot::new(slot).ok_or(ENXIO)?;

        if !self.initialized().contains(slot) {
            return Err(ENXIO);
        }
        Ok(slot)
    }

    /// Returns all initialized slots, with their MSRs and counters.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (usize, u32, Counts)> + '_ {
        self.initialized().iter().map(|slot| {
            let counts = Counts {
                written: self.written.at(slot).get(),
                elided: self.elided.at(slot).get(),
                restored: self.restored.at(slot).get(),
            };

            (slot.index(), self.msr.at(slot).load(Relaxed), counts)
        })
    }

    /// Reads the host's value of a slot, which becomes initialized.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`]: the slot is dirty, so the MSR does not hold the host's value.
    /// - [`EIO`]: the MSR cannot be read. The slot is not initialized.
    ///
    /// # Safety
    ///
    /// The kernel must be able to run with each value that the slot will be set to, and
    /// [`restore()`](Self::restore) must be called before the CPU returns to user mode.
    pub(crate) unsafe fn read_host(&self, msrs: &impl MsrOps, slot: Slot, msr: u32) -> Result {
        if self.dirty().contains(slot) {
            return Err(EBUSY);
        }
        let value = msrs
            .read(msr)
            .inspect_err(|_| self.set_initialized(slot, false))?;

        // INVARIANT: The MSR holds the host's value, and the slot is not dirty.
        self.msr.at(slot).store(msr, Relaxed);
        self.host.at(slot).store(value, Relaxed);
        self.current.at(slot).store(value, Relaxed);
        self.set_initialized(slot, true);
        Ok(())
    }

    /// Changes the bit of a slot in `initialized`. Atomic, as other CPUs and interrupts change
    /// other bits.
    fn set_initialized(&self, slot: Slot, initialized: bool) {
        if self.initialized().contains(slot) != initialized {
            let bit = slot.mask().0;

            self.initialized
                .add(if initialized { bit } else { bit.wrapping_neg() }, Relaxed);
        }
    }

    /// Sets a slot to `value`. After [`SetOutcome::Dirty`], the caller makes the slot dirty.
    #[inline(always)]
    fn write_slot(&self, msrs: &impl MsrOps, slot: Slot, value: u64) -> Result<SetOutcome> {
        if value == self.current.at(slot).load(Relaxed) {
            self.elided.at(slot).inc();
            msrs.event(Event::Elide, slot, &self.msr, value);
            return Ok(SetOutcome::Elided);
        }
        // SAFETY: The slot is initialized. The caller of `read_host()` guarantees its values.
        unsafe { msrs.write(self.msr.at(slot).load(Relaxed), value) }?;
        self.written.at(slot).inc();
        self.current.at(slot).store(value, Relaxed);
        msrs.event(Event::Set, slot, &self.msr, value);
        if value == self.host.at(slot).load(Relaxed) {
            self.clear_dirty(slot);
            return Ok(SetOutcome::Clean);
        }
        Ok(SetOutcome::Dirty)
    }

    /// Makes a slot clean. Out of line, as a set to the host's value is rare.
    #[cold]
    #[inline(never)]
    fn clear_dirty(&self, slot: Slot) {
        self.dirty.clear(slot.mask().0);
    }

    /// Updates `dirty` after calls of [`write_slot()`](Self::write_slot).
    #[inline(always)]
    fn apply(&self, outcomes: Outcomes) -> Result {
        // INVARIANT: These slots were set to another value than the host's.
        self.dirty.set(outcomes.dirty.0);
        if !outcomes.failed.is_empty() {
            return Err(EIO);
        }
        Ok(())
    }

    /// Returns the bits `mask` of `value`, with the host's in all other bits.
    #[inline(always)]
    fn merged(&self, slot: Slot, value: u64, mask: u64) -> u64 {
        (value & mask) | (self.host.at(slot).load(Relaxed) & !mask)
    }

    /// Sets the bits `mask` of a slot from `value`, and all other bits from the host's value.
    ///
    /// # Errors
    ///
    /// - [`ENXIO`]: the slot is not initialized.
    /// - [`EIO`]: the MSR refuses the value. Nothing has changed.
    #[inline(always)]
    pub(crate) fn set(
        &self,
        msrs: &impl MsrOps,
        slot: usize,
        value: u64,
        mask: u64,
    ) -> Result<SetOutcome> {
        let slot = self.initialized_slot(slot)?;
        let outcome = self.write_slot(msrs, slot, self.merged(slot, value, mask))?;

        if outcome == SetOutcome::Dirty {
            // INVARIANT: The slot was set to another value than the host's.
            self.dirty.set(slot.mask().0);
        }
        Ok(outcome)
    }

    /// Sets several slots.
    ///
    /// # Errors
    ///
    /// As [`set()`](Self::set). After an error of one slot, the other slots are set nevertheless.
    #[inline]
    pub(crate) fn set_values(&self, msrs: &impl MsrOps, values: &Values) -> Result {
        if values.load & (values.partial | !self.initialized().0) != 0 {
            return self.set_values_slow(msrs, values);
        }
        let mut outcomes = Outcomes::default();

        for slot in SlotMask(values.load).iter() {
            outcomes.note(slot, self.write_slot(msrs, slot, values.data[slot.index()]));
        }
        self.apply(outcomes)
    }

    /// As [`set_values()`](Self::set_values), if a slot is not initialized, or has a mask.
    #[cold]
    fn set_values_slow(&self, msrs: &impl MsrOps, values: &Values) -> Result {
        let load = SlotMask(values.load).and(self.initialized());
        let mut outcomes = Outcomes::default();

        for slot in load.iter() {
            let mut value = values.data[slot.index()];

            if SlotMask(values.partial).contains(slot) {
                value = self.merged(slot, value, values.mask[slot.index()]);
            }
            outcomes.note(slot, self.write_slot(msrs, slot, value));
        }
        self.apply(outcomes)?;
        if load.0 != values.load {
            return Err(ENXIO);
        }
        Ok(())
    }

    /// Returns the value that the MSR of a slot holds, or [`ENXIO`] if the slot is not initialized.
    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Result<u64> {
        Ok(self.current.at(self.initialized_slot(slot)?).load(Relaxed))
    }

    /// Restores the host's value of each dirty slot in `slots`.
    ///
    /// # Errors
    ///
    /// [`EIO`]: an MSR refuses the host's value, which it held before. The slot stays dirty; all
    /// others are restored.
    #[inline]
    pub(crate) fn restore(&self, msrs: &impl MsrOps, slots: SlotMask) -> Result {
        let slots = self.dirty().and(slots);
        let mut failed = SlotMask::NONE;

        for slot in slots.iter() {
            let host = self.host.at(slot).load(Relaxed);

            // SAFETY: The slot is initialized: the MSR held this value before.
            if unsafe { msrs.write(self.msr.at(slot).load(Relaxed), host) }.is_err() {
                failed.add(slot.mask());
                continue;
            }
            self.current.at(slot).store(host, Relaxed);
            self.restored.at(slot).inc();
            msrs.event(Event::Restore, slot, &self.msr, host);
        }
        // INVARIANT: Each MSR holds the host's value, except for the slots in `failed`.
        self.dirty.clear(slots.without(failed).0);
        if failed.is_empty() {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Makes each slot of `slots` that is not dirty uninitialized, and resets the counters. Any CPU
    /// may call this while no CPU sets these slots.
    pub(crate) fn forget(&self, slots: SlotMask) {
        for slot in slots.without(self.dirty()).and(self.initialized()).iter() {
            for counters in [&self.written, &self.elided, &self.restored] {
                counters.at(slot).0.store(0, Relaxed);
            }
            self.set_initialized(slot, false);
        }
    }
}
