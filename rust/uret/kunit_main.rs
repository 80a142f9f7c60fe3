// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the registry's rules, with MSRs that are made up: hardware does not fault at
//! will. `msr_kunit.c` tests the module with the MSRs of the CPU.

use kernel::prelude::*;

#[path = "cpu.rs"]
mod cpu;
#[path = "slots.rs"]
mod slots;
#[path = "vmload.rs"]
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
        cpu::MAX_SLOTS,
        slots::{
            Owner,
            Slots, //
        },
        *, //
    };

    #[test]
    fn an_owner_is_somebody() {
        assert!(Owner::new(0).err() == Some(EINVAL));
        assert!(Owner::new(1).is_ok());
    }

    #[test]
    fn a_slot_is_found_until_it_is_removed() -> Result {
        let slots = Slots::new();
        let owner = Owner::new(1)?;

        assert!(slots.find(7).is_none());
        assert!(slots.add(owner, 7) == Ok(0));
        assert!(slots.add(owner, 8) == Ok(1));
        assert!(slots.find(7) == Some(0) && slots.find(8) == Some(1));
        assert!(slots.of(owner) == 0b11);
        slots.remove(0b01);
        assert!(slots.find(7).is_none() && slots.find(8) == Some(1));
        assert!(slots.iter().count() == 1);
        // The lowest free slot is used again.
        assert!(slots.add(owner, 9) == Ok(0));
        Ok(())
    }

    #[test]
    fn a_second_owner_is_refused() -> Result {
        static SOMEBODY: u8 = 1;
        let slots = Slots::new();
        let (first, second) = (Owner::of(&SOMEBODY), Owner::new(2)?);

        slots.add(first, 7)?;
        assert!(slots.add(first, 7) == Err(EEXIST));
        assert!(slots.add(second, 7) == Err(EBUSY));
        assert!(slots.add(second, 8) == Ok(1));
        assert!(slots.of(first) == 0b01 && slots.of(second) == 0b10);
        Ok(())
    }

    #[test]
    fn a_full_table_is_an_error() -> Result {
        let slots = Slots::new();
        let owner = Owner::new(1)?;

        for msr in 0..MAX_SLOTS {
            assert!(slots.add(owner, msr as u32) == Ok(msr));
        }
        assert!(slots.add(owner, u32::MAX) == Err(ENOSPC));
        assert!(slots.of(owner) == usize::MAX);
        slots.remove(1 << (MAX_SLOTS - 1));
        assert!(slots.add(owner, u32::MAX) == Ok(MAX_SLOTS - 1));
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
        cpu::{
            Cpu,
            Event,
            Hardware,
            PerSlot,
            Slot,
            MAX_SLOTS, //
        },
        *, //
    };

    const NR: usize = 4;
    const ALL: u64 = u64::MAX;

    /// MSRs 0 to 3, which are in the slots of the same numbers, and one in the last slot.
    struct Msrs {
        values: [Cell<u64>; NR],
        reads_fault: Cell<bool>,
        /// The value that no MSR takes.
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

    impl Hardware for Msrs {
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

    /// A CPU whose slots 0 to 3 are ready. It is large, so it does not go on the stack.
    fn cpu(msrs: &Msrs) -> Result<KBox<Cpu>> {
        let cpu = KBox::new(Cpu::new(), GFP_KERNEL)?;

        for slot in 0..NR {
            read_host(&cpu, msrs, slot, slot as u32)?;
        }
        Ok(cpu)
    }

    fn read_host(cpu: &Cpu, msrs: &Msrs, slot: usize, msr: u32) -> Result {
        // SAFETY: No kernel depends on these MSRs.
        unsafe { cpu.read_host(msrs, slot, msr) }
    }

    #[test]
    fn an_unknown_slot_is_an_error() -> Result {
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
    fn a_set_writes_once() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 1, 5, ALL)?;
        cpu.set(&msrs, 1, 5, ALL)?;
        assert!(msrs.value(1) == 5 && cpu.get(1) == Ok(5));
        assert!(msrs.writes.get() == 1 && msrs.sets.get() == 1 && msrs.elides.get() == 1);
        assert!(cpu.dirty() == 0b10);
        Ok(())
    }

    #[test]
    fn the_host_value_is_not_dirty() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 100, ALL)?;
        assert!(msrs.writes.get() == 0 && cpu.dirty() == 0);
        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.set(&msrs, 2, 5, ALL)?;
        assert!(cpu.dirty() == 0b101);
        // A set that makes the bitmap smaller, and one that makes it empty.
        cpu.set(&msrs, 0, 100, ALL)?;
        assert!(cpu.dirty() == 0b100);
        cpu.set(&msrs, 2, 100, ALL)?;
        assert!(cpu.dirty() == 0);
        cpu.restore(&msrs, usize::MAX)?;
        assert!(msrs.restores.get() == 0);
        Ok(())
    }

    #[test]
    fn bits_outside_of_the_mask_are_the_hosts() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 0xffff, 0xff00)?;
        assert!(msrs.value(0) == 0xff00 | 100);
        cpu.set(&msrs, 0, 0, 0xff00)?;
        assert!(msrs.value(0) == 100 && cpu.dirty() == 0);
        Ok(())
    }

    #[test]
    fn a_failed_write_changes_nothing() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        msrs.refused.set(6);
        assert!(cpu.set(&msrs, 0, 6, ALL) == Err(EIO));
        assert!(cpu.set(&msrs, 1, 6, ALL) == Err(EIO));
        assert!(cpu.get(0) == Ok(5) && msrs.value(0) == 5);
        assert!(cpu.get(1) == Ok(100) && msrs.value(1) == 100);
        assert!(cpu.dirty() == 0b01 && msrs.sets.get() == 1);
        // The next one is not taken for the failed one.
        msrs.refused.set(ALL);
        cpu.set(&msrs, 0, 6, ALL)?;
        assert!(msrs.value(0) == 6);
        Ok(())
    }

    /// Values for some slots, all bits of them. They are large, so they do not go on the stack.
    fn values(wanted: &[(usize, u64)]) -> Result<KBox<Values>> {
        let mut values = KBox::new(Values::default(), GFP_KERNEL)?;

        for &(slot, value) in wanted {
            values.load |= 1 << slot;
            values.data[slot] = value;
        }
        Ok(values)
    }

    #[test]
    fn many_are_set_at_once() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;
        let mut wanted = values(&[(0, 5), (1, 100), (3, 7)])?;

        // What is not to be loaded does not matter.
        wanted.data[2] = 9;
        cpu.set_values(&msrs, &wanted)?;
        assert!(msrs.values.each_ref().map(Cell::get) == [5, 100, 100, 7]);
        assert!(cpu.dirty() == 0b1001 && msrs.writes.get() == 2 && msrs.elides.get() == 1);
        // The same again, and then the host's.
        cpu.set_values(&msrs, &wanted)?;
        assert!(msrs.writes.get() == 2 && msrs.elides.get() == 4);
        cpu.set_values(&msrs, &*values(&[(0, 100), (3, 100)])?)?;
        assert!(cpu.dirty() == 0 && msrs.writes.get() == 4);
        Ok(())
    }

    #[test]
    fn some_bits_of_many_are_set() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;
        let mut wanted = values(&[(0, 0xffff), (1, 0xffff)])?;

        wanted.partial = 0b01;
        wanted.mask[0] = 0xff00;
        cpu.set_values(&msrs, &wanted)?;
        assert!(msrs.value(0) == 0xff00 | 100 && msrs.value(1) == 0xffff);
        assert!(cpu.dirty() == 0b11);
        Ok(())
    }

    #[test]
    fn one_of_many_may_fail() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        msrs.refused.set(6);
        let wanted = values(&[(0, 5), (1, 6), (2, 7)])?;
        assert!(cpu.set_values(&msrs, &wanted) == Err(EIO));
        assert!(msrs.values.each_ref().map(Cell::get) == [5, 100, 7, 100]);
        assert!(cpu.dirty() == 0b101 && cpu.get(1) == Ok(100));

        let wanted = values(&[(0, 8), (NR, 8), (MAX_SLOTS - 1, 8)])?;
        assert!(cpu.set_values(&msrs, &wanted) == Err(ENXIO));
        assert!(msrs.value(0) == 8 && cpu.dirty() == 0b101);
        Ok(())
    }

    #[test]
    fn a_restore_touches_dirty_slots_only() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.set(&msrs, 1, 100, ALL)?;
        cpu.set(&msrs, 3, 5, ALL)?;
        msrs.writes.set(0);
        cpu.restore(&msrs, usize::MAX)?;
        assert!(msrs.writes.get() == 2 && msrs.restores.get() == 2);
        for slot in 0..NR {
            assert!(msrs.value(slot) == 100 && cpu.get(slot) == Ok(100));
        }
        assert!(cpu.dirty() == 0);
        Ok(())
    }

    #[test]
    fn a_drop_leaves_the_others() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.set(&msrs, 1, 5, ALL)?;
        cpu.restore(&msrs, 0b10)?;
        assert!(cpu.dirty() == 0b01);
        assert!(msrs.value(0) == 5 && msrs.value(1) == 100);
        Ok(())
    }

    #[test]
    fn a_failed_restore_stays_dirty() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.set(&msrs, 1, 5, ALL)?;
        msrs.refused.set(100);
        assert!(cpu.restore(&msrs, usize::MAX) == Err(EIO));
        assert!(cpu.dirty() == 0b11 && cpu.get(0) == Ok(5));
        msrs.refused.set(ALL);
        cpu.restore(&msrs, usize::MAX)?;
        assert!(cpu.dirty() == 0 && msrs.value(1) == 100);
        Ok(())
    }

    #[test]
    fn a_guests_value_is_not_taken_for_the_hosts() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        assert!(read_host(&cpu, &msrs, 0, 0) == Err(EBUSY));
        cpu.restore(&msrs, usize::MAX)?;
        assert!(msrs.value(0) == 100);
        // The host has changed its mind.
        for value in &msrs.values {
            value.set(200);
        }
        read_host(&cpu, &msrs, 0, 0)?;
        assert!(cpu.get(0) == Ok(200) && cpu.dirty() == 0);
        Ok(())
    }

    #[test]
    fn an_msr_that_faults_is_not_ready() -> Result {
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
    fn the_last_slot_works() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;
        let last = MAX_SLOTS - 1;

        read_host(&cpu, &msrs, last, 3)?;
        cpu.set(&msrs, last, 5, ALL)?;
        assert!(cpu.dirty() == 1 << last);
        cpu.restore(&msrs, usize::MAX)?;
        assert!(msrs.value(3) == 100 && cpu.dirty() == 0);
        Ok(())
    }

    #[test]
    fn what_is_dirty_is_not_forgotten() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        cpu.set(&msrs, 0, 5, ALL)?;
        cpu.forget(usize::MAX);
        assert!(cpu.get(0) == Ok(5) && cpu.get(1) == Err(ENXIO));
        cpu.restore(&msrs, usize::MAX)?;
        assert!(msrs.value(0) == 100);
        Ok(())
    }

    #[test]
    fn counters_tell_what_happened() -> Result {
        let msrs = Msrs::new();
        let cpu = cpu(&msrs)?;

        for value in [5, 5, 6] {
            cpu.set(&msrs, 2, value, ALL)?;
        }
        cpu.restore(&msrs, usize::MAX)?;
        let counts = cpu
            .counts()
            .find(|it| it.0 == 2)
            .map(|(_, msr, it)| (msr, it.written, it.elided, it.restored));
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

    /// A CPU that counts what it is asked for, and may have lost SVM.
    struct Counting {
        admitted: Cell<u32>,
        saved: Cell<u32>,
        to_host: Cell<u32>,
        works: Cell<bool>,
    }

    impl Counting {
        fn new() -> Self {
            Self {
                admitted: Cell::new(0),
                saved: Cell::new(0),
                to_host: Cell::new(0),
                works: Cell::new(true),
            }
        }

        fn counts(&self) -> (u32, u32, u32) {
            (self.admitted.get(), self.saved.get(), self.to_host.get())
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
        unsafe fn admit(&self) {
            inc(&self.admitted);
        }

        fn vmsave(&self) -> Result {
            inc(&self.saved);
            self.done()
        }

        fn to_host(&self) -> Result {
            inc(&self.to_host);
            self.done()
        }
    }

    fn enter(state: &mut State, cpu: &Counting) -> bool {
        // SAFETY: That CPU has no user mode.
        unsafe { state.enter(cpu) }
    }

    #[test]
    fn many_entries_load_once_and_save_never() {
        let cpu = Counting::new();
        let mut state = State::NEW;

        assert!(enter(&mut state, &cpu));
        for _ in 0..5 {
            assert!(state.vmcb == Vmcb::NeedsVmsave && state.live);
            assert!(!enter(&mut state, &cpu));
        }
        assert!(cpu.counts() == (1, 0, 0));
    }

    #[test]
    fn leaving_saves_and_puts_back_the_host() -> Result {
        let cpu = Counting::new();
        let mut state = State::NEW;

        enter(&mut state, &cpu);
        state.leave(&cpu)?;
        assert!(state == State::NEW && cpu.counts() == (1, 1, 1));
        // There is nothing to be left any more.
        state.leave(&cpu)?;
        assert!(cpu.counts() == (1, 1, 1));
        assert!(enter(&mut state, &cpu));
        assert!(cpu.counts() == (2, 1, 1));
        Ok(())
    }

    #[test]
    fn what_was_read_is_neither_saved_again_nor_loaded() -> Result {
        let cpu = Counting::new();
        let mut state = State::NEW;

        state.read(&cpu)?;
        assert!(cpu.counts() == (0, 0, 0));
        enter(&mut state, &cpu);
        state.read(&cpu)?;
        state.read(&cpu)?;
        assert!(state.vmcb == Vmcb::InSync && cpu.counts() == (1, 1, 0));
        assert!(!enter(&mut state, &cpu));
        state.read(&cpu)?;
        state.leave(&cpu)?;
        assert!(cpu.counts() == (1, 2, 1));
        Ok(())
    }

    #[test]
    fn what_was_written_is_loaded_and_not_overwritten() -> Result {
        let cpu = Counting::new();
        let mut state = State::NEW;

        enter(&mut state, &cpu);
        // The rest of it must be right, too.
        state.write(&cpu)?;
        assert!(state.vmcb == Vmcb::NeedsVmload && state.live && cpu.counts() == (1, 1, 0));
        state.write(&cpu)?;
        state.read(&cpu)?;
        assert!(cpu.counts() == (1, 1, 0));
        assert!(enter(&mut state, &cpu));
        state.write(&cpu)?;
        // VMSAVE here would undo what was written.
        state.leave(&cpu)?;
        assert!(state == State::NEW && cpu.counts() == (1, 2, 1));
        Ok(())
    }

    #[test]
    fn without_svm_it_stays_live() {
        let cpu = Counting::new();
        let mut state = State::NEW;

        enter(&mut state, &cpu);
        cpu.works.set(false);
        assert!(state.read(&cpu) == Err(EIO));
        assert!(state.vmcb == Vmcb::NeedsVmsave);
        // The CPU must not be taken for one that has the host's state.
        assert!(state.leave(&cpu) == Err(EIO));
        assert!(state.live && cpu.counts().2 == 1);
    }

    #[test]
    fn what_is_in_memory_is_taken_without_the_cpu() -> Result {
        let cpu = Counting::new();
        let mut state = State::NEW;

        enter(&mut state, &cpu);
        // It is not.
        assert!(state.taken() == Err(EBUSY));
        assert!(state.vmcb == Vmcb::NeedsVmsave && state.live);
        state.read(&cpu)?;
        assert!(state.taken().is_ok() && state == State::NEW);
        assert!(cpu.counts() == (1, 1, 0));
        // The next CPU loads it, and what was written is not lost either.
        assert!(enter(&mut state, &cpu));
        state.write(&cpu)?;
        assert!(state.taken().is_ok() && state == State::NEW);
        assert!(cpu.counts() == (2, 2, 0));
        Ok(())
    }
}
