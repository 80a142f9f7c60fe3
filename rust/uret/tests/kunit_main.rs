// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the rules, with fake MSRs that fault on demand. `msr_kunit.c` tests the module
//! with the MSRs of the CPU.

use kernel::prelude::*;

#[path = "../registry"]
mod registry {
    pub(crate) mod cpu;
    pub(crate) mod hw;
    pub(crate) mod slot;
    pub(crate) mod slots;
}
#[path = "../x86/deferral.rs"]
mod deferral;
#[path = "../x86/vmload.rs"]
mod vmload;

module! {
    type: Tests,
    name: "uret_kunit",
    authors: ["uret developers"],
    description: "KUnit tests for uret",
    license: "GPL",
}

struct Tests;

impl kernel::Module for Tests {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}

#[kernel::macros::kunit_tests(uret_slots)]
mod slot_tests {
    use super::{
        registry::{
            slot::{
                Slot,
                SlotMask,
                MAX_SLOTS, //
            },
            slots::{
                Owner,
                Slots, //
            },
        },
        *, //
    };

    /// Adds an MSR, and returns the number of the slot.
    fn add(slots: &Slots, owner: Owner, msr: u32) -> Result<usize> {
        slots.add(owner, msr).map(Slot::index)
    }

    fn find(slots: &Slots, msr: u32) -> Option<usize> {
        slots.find(msr).map(Slot::index)
    }

    #[test]
    fn owner_has_an_address() {
        assert!(Owner::new(0).err() == Some(EINVAL));
        assert!(Owner::new(1).is_ok());
    }

    #[test]
    fn slot_is_found_until_removed() -> Result {
        let slots = Slots::new();
        let owner = Owner::new(1)?;

        assert!(find(&slots, 7).is_none());
        assert!(add(&slots, owner, 7) == Ok(0));
        assert!(add(&slots, owner, 8) == Ok(1));
        assert!(find(&slots, 7) == Some(0) && find(&slots, 8) == Some(1));
        assert!(slots.of(owner).0 == 0b11);
        slots.remove(SlotMask(0b01));
        assert!(find(&slots, 7).is_none() && find(&slots, 8) == Some(1));
        assert!(slots.iter().count() == 1);
        // The lowest free slot is used again.
        assert!(add(&slots, owner, 9) == Ok(0));
        Ok(())
    }

    #[test]
    fn second_owner_is_refused() -> Result {
        static UNIQUE: u8 = 1;
        let slots = Slots::new();
        let (first, second) = (Owner::of(&UNIQUE), Owner::new(2)?);

        add(&slots, first, 7)?;
        assert!(add(&slots, first, 7) == Err(EEXIST));
        assert!(add(&slots, second, 7) == Err(EBUSY));
        assert!(add(&slots, second, 8) == Ok(1));
        assert!(slots.of(first).0 == 0b01 && slots.of(second).0 == 0b10);
        Ok(())
    }

    #[test]
    fn full_table_is_an_error() -> Result {
        let slots = Slots::new();
        let owner = Owner::new(1)?;

        for msr in 0..MAX_SLOTS {
            assert!(add(&slots, owner, msr as u32) == Ok(msr));
        }
        assert!(add(&slots, owner, u32::MAX) == Err(ENOSPC));
        assert!(slots.of(owner) == SlotMask::ALL);
        slots.remove(SlotMask(1 << (MAX_SLOTS - 1)));
        assert!(add(&slots, owner, u32::MAX) == Ok(MAX_SLOTS - 1));
        Ok(())
    }
}

#[kernel::macros::kunit_tests(uret_cpu)]
mod cpu_tests {
    use core::cell::Cell;

    use kernel::{
        bindings::uret_values as Values,
        sync::atomic::Atomic, //
    };

    use super::{
        registry::{
            cpu::Cpu,
            hw::{
                Event,
                MsrOps, //
            },
            slot::{
                PerSlot,
                Slot,
                SlotMask,
                MAX_SLOTS, //
            },
        },
        *, //
    };

    const NR: usize = 4;
    const ALL: u64 = u64::MAX;

    /// Fake MSRs 0 to 3, in the slots of the same numbers.
    struct Msrs {
        values: [Cell<u64>; NR],
        reads_fault: Cell<bool>,
        /// The value that each MSR refuses.
        refused: Cell<u64>,
        writes: Cell<u32>,
        sets: Cell<u32>,
        elides: Cell<u32>,
        restores: Cell<u32>,
    }

    impl Msrs {
        fn new() -> Self {
            Self {
                values: [const { Cell::new(100) }; NR],
                reads_fault: Cell::new(false),
                refused: Cell::new(ALL),
                writes: Cell::new(0),
                sets: Cell::new(0),
                elides: Cell::new(0),
                restores: Cell::new(0),
            }
        }

        fn value(&self, msr: usize) -> u64 {
            self.values.get(msr).map_or(0, Cell::get)
        }
    }

    impl MsrOps for Msrs {
        fn read(&self, msr: u32) -> Result<u64> {
            if self.reads_fault.get() {
                return Err(EIO);
            }
            self.values.get(msr as usize).map(Cell::get).ok_or(EIO)
        }

        unsafe fn write(&self, msr: u32, value: u64) -> Result {
            if value == self.refused.get() {
                return Err(EIO);
            }
            self.values.get(msr as usize).ok_or(EIO)?.set(value);
            self.writes.set(self.writes.get() + 1);
            Ok(())
        }

        fn event(&self, event: Event, _slot: Slot, _msrs: &PerSlot<Atomic<u32>>, _value: u64) {
            let events = match event {
                Event::Set => &self.sets,
                Event::Elide => &self.elides,
                Event::Restore => &self.restores,
            };
            events.set(events.get() + 1);
        }
    }

    /// Returns a CPU with slots 0 to 3 initialized, on the heap, as a `Cpu` is large.
    fn cpu(msrs: &Msrs) -> Result<KBox<Cpu>> {
        let cpu = KBox::new(Cpu::new(), GFP_KERNEL)?;

        for slot in 0..NR {
            read_host(&cpu, msrs, slot, slot as u32)?;
        }
        Ok(cpu)
    }

    fn read_host(cpu: &Cpu, msrs: &Msrs, slot: usize, msr: u32) -> Result {
        let slot = Slot::new(slot).ok_or(ENXIO)?;

        // SAFETY: The MSRs are fake.
        unsafe { cpu.read_host(msrs, slot, msr) }
    }

    #[test]
    fn unknown_slot_is_an_error() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        for slot in [NR, MAX_SLOTS - 1, MAX_SLOTS, usize::MAX] {
            assert!(cpu.set(&msrs, slot, 1, ALL) == Err(ENXIO));
            assert!(cpu.get(slot) == Err(ENXIO));
        }
        assert!(read_host(&cpu, &msrs, MAX_SLOTS, 0) == Err(ENXIO));
        assert!(msrs.writes.get() == 0);
        Ok(())
    }

    #[test]
    fn set_writes_once() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 1, 5, ALL)?;
        cpu.set(&msrs, 1, 5, ALL)?;
        assert!(msrs.value(1) == 5 && cpu.get(1) == Ok(5));
        assert!(msrs.writes.get() == 1 && msrs.sets.get() == 1 && msrs.elides.get() == 1);
        assert!(cpu.dirty().0 == 0b10);
        Ok(())
    }

    #[test]
    fn host_value_is_clean() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 100, ALL)?;
        assert!(msrs.writes.get() == 0 && cpu.dirty().0 == 0);
        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.set(&msrs, 2, 5, ALL)?;
        assert!(cpu.dirty().0 == 0b101);
        // A set that leaves another slot dirty, and a set that leaves no slot dirty.
        cpu.set(&msrs, 0, 100, ALL)?;
        assert!(cpu.dirty().0 == 0b100);
        cpu.set(&msrs, 2, 100, ALL)?;
        assert!(cpu.dirty().0 == 0);
        cpu.restore(&msrs, SlotMask::ALL)?;
        assert!(msrs.restores.get() == 0);
        Ok(())
    }

    #[test]
    fn bits_outside_mask_are_host_bits() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 0xffff, 0xff00)?;
        assert!(msrs.value(0) == 0xff00 | 100);
        cpu.set(&msrs, 0, 0, 0xff00)?;
        assert!(msrs.value(0) == 100 && cpu.dirty().0 == 0);
        Ok(())
    }

    #[test]
    fn failed_write_changes_nothing() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        msrs.refused.set(6);
        assert!(cpu.set(&msrs, 0, 6, ALL) == Err(EIO));
        assert!(cpu.set(&msrs, 1, 6, ALL) == Err(EIO));
        assert!(cpu.get(0) == Ok(5) && msrs.value(0) == 5);
        assert!(cpu.get(1) == Ok(100) && msrs.value(1) == 100);
        assert!(cpu.dirty().0 == 0b01 && msrs.sets.get() == 1);
        // The next set writes the MSR.
        msrs.refused.set(ALL);
        cpu.set(&msrs, 0, 6, ALL)?;
        assert!(msrs.value(0) == 6);
        Ok(())
    }

    /// Returns values of all bits of some slots, on the heap, as `Values` is large.
    fn values(wanted: &[(usize, u64)]) -> Result<KBox<Values>> {
        let mut values = KBox::new(Values::default(), GFP_KERNEL)?;

        for &(slot, value) in wanted {
            values.load |= 1 << slot;
            values.data[slot] = value;
        }
        Ok(values)
    }

    #[test]
    fn set_values_sets_all_slots() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;
        let mut wanted = values(&[(0, 5), (1, 100), (3, 7)])?;

        // The data of a slot that is not in `load` is ignored.
        wanted.data[2] = 9;
        cpu.set_values(&msrs, &wanted)?;
        assert!(msrs.values.each_ref().map(Cell::get) == [5, 100, 100, 7]);
        assert!(cpu.dirty().0 == 0b1001 && msrs.writes.get() == 2 && msrs.elides.get() == 1);
        // The same values again, then the host's.
        cpu.set_values(&msrs, &wanted)?;
        assert!(msrs.writes.get() == 2 && msrs.elides.get() == 4);
        cpu.set_values(&msrs, &*values(&[(0, 100), (3, 100)])?)?;
        assert!(cpu.dirty().0 == 0 && msrs.writes.get() == 4);
        Ok(())
    }

    #[test]
    fn set_values_honors_masks() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;
        let mut wanted = values(&[(0, 0xffff), (1, 0xffff)])?;

        wanted.partial = 0b01;
        wanted.mask[0] = 0xff00;
        cpu.set_values(&msrs, &wanted)?;
        assert!(msrs.value(0) == 0xff00 | 100 && msrs.value(1) == 0xffff);
        assert!(cpu.dirty().0 == 0b11);
        Ok(())
    }

    #[test]
    fn set_values_continues_after_error() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        msrs.refused.set(6);
        let wanted = values(&[(0, 5), (1, 6), (2, 7)])?;
        assert!(cpu.set_values(&msrs, &wanted) == Err(EIO));
        assert!(msrs.values.each_ref().map(Cell::get) == [5, 100, 7, 100]);
        assert!(cpu.dirty().0 == 0b101 && cpu.get(1) == Ok(100));

        let wanted = values(&[(0, 8), (NR, 8), (MAX_SLOTS - 1, 8)])?;
        assert!(cpu.set_values(&msrs, &wanted) == Err(ENXIO));
        assert!(msrs.value(0) == 8 && cpu.dirty().0 == 0b101);
        Ok(())
    }

    #[test]
    fn restore_writes_dirty_slots_only() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.set(&msrs, 1, 100, ALL)?;
        cpu.set(&msrs, 3, 5, ALL)?;
        msrs.writes.set(0);
        cpu.restore(&msrs, SlotMask::ALL)?;
        assert!(msrs.writes.get() == 2 && msrs.restores.get() == 2);
        for slot in 0..NR {
            assert!(msrs.value(slot) == 100 && cpu.get(slot) == Ok(100));
        }
        assert!(cpu.dirty().0 == 0);
        Ok(())
    }

    #[test]
    fn restore_of_some_slots_keeps_others() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.set(&msrs, 1, 5, ALL)?;
        cpu.restore(&msrs, SlotMask(0b10))?;
        assert!(cpu.dirty().0 == 0b01);
        assert!(msrs.value(0) == 5 && msrs.value(1) == 100);
        Ok(())
    }

    #[test]
    fn failed_restore_stays_dirty() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.set(&msrs, 1, 5, ALL)?;
        msrs.refused.set(100);
        assert!(cpu.restore(&msrs, SlotMask::ALL) == Err(EIO));
        assert!(cpu.dirty().0 == 0b11 && cpu.get(0) == Ok(5));
        msrs.refused.set(ALL);
        cpu.restore(&msrs, SlotMask::ALL)?;
        assert!(cpu.dirty().0 == 0 && msrs.value(1) == 100);
        Ok(())
    }

    #[test]
    fn dirty_slot_is_not_read_as_host_value() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        assert!(read_host(&cpu, &msrs, 0, 0) == Err(EBUSY));
        cpu.restore(&msrs, SlotMask::ALL)?;
        assert!(msrs.value(0) == 100);
        // The host's values change.
        for value in &msrs.values {
            value.set(200);
        }
        read_host(&cpu, &msrs, 0, 0)?;
        assert!(cpu.get(0) == Ok(200) && cpu.dirty().0 == 0);
        Ok(())
    }

    #[test]
    fn faulting_msr_is_not_initialized() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        assert!(read_host(&cpu, &msrs, MAX_SLOTS - 1, 99) == Err(EIO));
        assert!(cpu.set(&msrs, MAX_SLOTS - 1, 1, ALL) == Err(ENXIO));
        msrs.reads_fault.set(true);
        assert!(read_host(&cpu, &msrs, 0, 0) == Err(EIO));
        assert!(cpu.get(0) == Err(ENXIO));
        Ok(())
    }

    #[test]
    fn last_slot_works() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;
        let last = MAX_SLOTS - 1;

        read_host(&cpu, &msrs, last, 3)?;
        cpu.set(&msrs, last, 5, ALL)?;
        assert!(cpu.dirty().0 == 1 << last);
        cpu.restore(&msrs, SlotMask::ALL)?;
        assert!(msrs.value(3) == 100 && cpu.dirty().0 == 0);
        Ok(())
    }

    #[test]
    fn dirty_slot_is_not_forgotten() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.forget(SlotMask::ALL);
        assert!(cpu.get(0) == Ok(5) && cpu.get(1) == Err(ENXIO));
        cpu.restore(&msrs, SlotMask::ALL)?;
        assert!(msrs.value(0) == 100);
        Ok(())
    }

    #[test]
    fn counters_count_each_outcome() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        for value in [5, 5, 6] {
            cpu.set(&msrs, 2, value, ALL)?;
        }
        cpu.restore(&msrs, SlotMask::ALL)?;
        let counts = cpu
            .counts()
            .find(|&(slot, ..)| slot == 2)
            .map(|(_, msr, counts)| (msr, counts.written, counts.elided, counts.restored));
        assert!(counts == Some((2, 2, 1, 1)));
        Ok(())
    }
}

#[kernel::macros::kunit_tests(uret_vmload)]
mod vmload_tests {
    use core::cell::Cell;

    use super::{
        vmload::{
            Cpu,
            State,
            Vmcb, //
        },
        *, //
    };

    /// A fake CPU that counts the calls. With `works` false, SVM is disabled.
    struct Counting {
        switched_in: Cell<u32>,
        saved: Cell<u32>,
        restored: Cell<u32>,
        works: Cell<bool>,
    }

    impl Counting {
        fn new() -> Self {
            Self {
                switched_in: Cell::new(0),
                saved: Cell::new(0),
                restored: Cell::new(0),
                works: Cell::new(true),
            }
        }

        fn counts(&self) -> (u32, u32, u32) {
            (
                self.switched_in.get(),
                self.saved.get(),
                self.restored.get(),
            )
        }

        fn done(&self) -> Result {
            if self.works.get() {
                Ok(())
            } else {
                Err(EIO)
            }
        }
    }

    fn inc(cell: &Cell<u32>) {
        cell.set(cell.get() + 1);
    }

    impl Cpu for Counting {
        unsafe fn switch_in(&self) {
            inc(&self.switched_in);
        }

        unsafe fn vmsave(&self) -> Result {
            inc(&self.saved);
            self.done()
        }

        unsafe fn restore_host(&self) -> Result {
            inc(&self.restored);
            self.done()
        }
    }

    fn enter(state: &mut State, cpu: &Counting) -> bool {
        // SAFETY: The fake CPU has no user mode.
        unsafe { state.enter(cpu) }
    }

    #[test]
    fn entries_load_once_and_never_save() {
        let cpu = Counting::new();
        let mut state = State::NEW;

        assert!(enter(&mut state, &cpu));
        for _ in 0..5 {
            assert!(state.vmcb == Vmcb::NeedsVmsave && state.loaded);
            assert!(!enter(&mut state, &cpu));
        }
        assert!(cpu.counts() == (1, 0, 0));
    }

    #[test]
    fn restore_saves_and_restores_host() -> Result {
        let cpu = Counting::new();
        let mut state = State::NEW;

        enter(&mut state, &cpu);
        state.restore(&cpu)?;
        assert!(state == State::NEW && cpu.counts() == (1, 1, 1));
        // The host's state is restored already.
        state.restore(&cpu)?;
        assert!(cpu.counts() == (1, 1, 1));
        assert!(enter(&mut state, &cpu));
        assert!(cpu.counts() == (2, 1, 1));
        Ok(())
    }

    #[test]
    fn sync_saves_once_and_does_not_load() -> Result {
        let cpu = Counting::new();
        let mut state = State::NEW;

        state.sync(&cpu)?;
        assert!(cpu.counts() == (0, 0, 0));
        enter(&mut state, &cpu);
        state.sync(&cpu)?;
        state.sync(&cpu)?;
        assert!(state.vmcb == Vmcb::InSync && cpu.counts() == (1, 1, 0));
        assert!(!enter(&mut state, &cpu));
        state.sync(&cpu)?;
        state.restore(&cpu)?;
        assert!(cpu.counts() == (1, 2, 1));
        Ok(())
    }

    #[test]
    fn sync_for_write_loads_and_does_not_save_again() -> Result {
        let cpu = Counting::new();
        let mut state = State::NEW;

        enter(&mut state, &cpu);
        // VMSAVE must come first, as the write may be of a part of the state only.
        state.sync_for_write(&cpu)?;
        assert!(state.vmcb == Vmcb::NeedsVmload && state.loaded && cpu.counts() == (1, 1, 0));
        state.sync_for_write(&cpu)?;
        state.sync(&cpu)?;
        assert!(cpu.counts() == (1, 1, 0));
        assert!(enter(&mut state, &cpu));
        state.sync_for_write(&cpu)?;
        // A VMSAVE in the restore would overwrite the write.
        state.restore(&cpu)?;
        assert!(state == State::NEW && cpu.counts() == (1, 2, 1));
        Ok(())
    }

    #[test]
    fn failed_restore_stays_loaded() {
        let cpu = Counting::new();
        let mut state = State::NEW;

        enter(&mut state, &cpu);
        cpu.works.set(false);
        assert!(state.sync(&cpu) == Err(EIO));
        assert!(state.vmcb == Vmcb::NeedsVmsave);
        // The guest state must still count as loaded.
        assert!(state.restore(&cpu) == Err(EIO));
        assert!(state.loaded && cpu.counts().2 == 1);
    }

    #[test]
    fn synced_state_is_taken_without_old_cpu() -> Result {
        let cpu = Counting::new();
        let mut state = State::NEW;

        enter(&mut state, &cpu);
        // The VMCB lacks values.
        assert!(state.taken() == Err(EBUSY));
        assert!(state.vmcb == Vmcb::NeedsVmsave && state.loaded);
        state.sync(&cpu)?;
        assert!(state.taken().is_ok() && state == State::NEW);
        assert!(cpu.counts() == (1, 1, 0));
        // The next CPU loads the state. A state with a write to the VMCB is taken, too.
        assert!(enter(&mut state, &cpu));
        state.sync_for_write(&cpu)?;
        assert!(state.taken().is_ok() && state == State::NEW);
        assert!(cpu.counts() == (2, 2, 0));
        Ok(())
    }
}

#[kernel::macros::kunit_tests(uret_deferral)]
mod deferral_tests {
    use super::deferral::{
        Deferral,
        Entry,
        Facts, //
    };

    const ELIGIBLE: Facts = Facts {
        allowed: true,
        null_selectors: true,
    };
    const FORBIDDEN: Facts = Facts {
        allowed: false,
        null_selectors: true,
    };
    const SELECTORS: Facts = Facts {
        allowed: true,
        null_selectors: false,
    };

    /// A vCPU with deferral, after `exits` exits.
    fn deferred(exits: u64) -> Deferral {
        let mut vcpu = Deferral::new(true);

        vcpu.reenter(exits, ELIGIBLE);
        vcpu
    }

    #[test]
    fn without_uret_nothing_is_deferred() {
        let mut vcpu = Deferral::new(false);

        assert!(!vcpu.load(1) && !vcpu.reenter(2, ELIGIBLE) && !vcpu.load(9));
        assert!(vcpu == Deferral::new(false));
    }

    #[test]
    fn one_exit_per_load_stays_first() {
        let mut vcpu = Deferral::new(true);

        for exits in 0..5 {
            assert!(!vcpu.load(exits) && vcpu.entry == Entry::First);
            vcpu.put(false);
        }
    }

    #[test]
    fn reentry_decides_once() {
        let mut vcpu = Deferral::new(true);

        assert!(!vcpu.reenter(7, ELIGIBLE));
        assert!(vcpu == deferred(7) && vcpu.entry == Entry::Deferred && vcpu.fsgs_saved);
        assert!(!vcpu.reenter(8, FORBIDDEN) && vcpu.entry == Entry::Deferred);
    }

    #[test]
    fn one_exit_since_the_last_load_returns_to_first() {
        let mut vcpu = deferred(7);

        // Two exits: the exit before the reentry, and another exit.
        assert!(!vcpu.load(8) && vcpu.entry == Entry::Deferred);
        vcpu.put(false);
        assert!(!vcpu.load(9));
        assert!(vcpu.entry == Entry::First && !vcpu.fsgs_saved);
    }

    #[test]
    fn decision_holds_until_user_mode_runs() {
        let mut vcpu = deferred(7);

        vcpu.put(true);
        assert!(!vcpu.load(9) && vcpu.entry == Entry::Deferred);
        vcpu.put(false);
        // User mode may have changed FS and GS.
        assert!(vcpu.load(11) && !vcpu.fsgs_saved);
        assert!(!vcpu.decide(ELIGIBLE));
        assert!(vcpu.entry == Entry::Deferred && vcpu.fsgs_saved);
    }

    #[test]
    fn ineligible_is_decided_at_each_load() {
        let mut vcpu = deferred(7);

        vcpu.ineligible();
        assert!(vcpu.entry == Entry::Ineligible);
        vcpu.put(true);
        assert!(vcpu.load(9));
        vcpu.put(false);
        assert!(vcpu.decide(FORBIDDEN));
        assert!(vcpu.entry == Entry::Ineligible && !vcpu.fsgs_saved);
        assert!(!vcpu.reenter(10, ELIGIBLE) && vcpu.entry == Entry::Ineligible);
        // The thread struct holds the selectors now.
        assert!(vcpu.load(11) && vcpu.decide(SELECTORS));
        assert!(vcpu.entry == Entry::Ineligible && vcpu.fsgs_saved);
        assert!(vcpu.load(13) && !vcpu.decide(ELIGIBLE));
        assert!(vcpu.entry == Entry::Deferred);
    }

    #[test]
    fn count_of_exits_may_wrap() {
        let mut vcpu = deferred(u64::MAX);

        assert!(!vcpu.load(1) && vcpu.entry == Entry::Deferred);
        assert!(!vcpu.load(2) && vcpu.entry == Entry::First);
        assert!(!vcpu.load(0) && vcpu.entry == Entry::First);
    }
}
