// SPDX-License-Identifier: GPL-2.0

//! The counters in debugfs, see `Documentation/ABI/testing/debugfs-uret`.

use kernel::{
    debugfs::{
        Dir,
        File,
        Writer, //
    },
    fmt,
    prelude::*, //
};

use crate::{
    registry::{
        arch::Arch as _,
        cpu::Counts,
        SLOTS,
        STATE, //
    },
    x86::{
        fsgs,
        svm, //
    },
    Arch, //
};

/// `slots`: the MSR of each slot.
pub(crate) struct SlotList;

impl Writer for SlotList {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "slot msr")?;
        for (slot, msr) in SLOTS.iter() {
            writeln!(f, "{} {msr:#x}", slot.index())?;
        }
        Ok(())
    }
}

/// `counters`: the counters of each slot on each CPU.
pub(crate) struct Counters;

impl Writer for Counters {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu slot msr written elided restored")?;
        for (cpu, state) in STATE.possible_cpus() {
            let cpu = cpu.as_u32();

            for (slot, msr, counts) in state.cpu.counts() {
                let Counts {
                    written,
                    elided,
                    restored,
                } = counts;

                writeln!(f, "{cpu} {slot} {msr:#x} {written} {elided} {restored}")?;
            }
        }
        Ok(())
    }
}

/// `cpus`: the state and the notifier of each CPU.
pub(crate) struct Cpus;

impl Writer for Cpus {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu dirty armed fired fired_other deferred")?;
        for (cpu, state) in STATE.possible_cpus() {
            let deferred = u32::from(Arch::is_deferred_on(cpu));
            let (cpu, dirty) = (cpu.as_u32(), state.cpu.dirty().0);
            let (fired, other) = (state.fired.get(), state.fired_other.get());
            let armed = u32::from(state.is_armed());

            writeln!(f, "{cpu} {dirty:#x} {armed} {fired} {other} {deferred}")?;
        }
        Ok(())
    }
}

/// `fsgs`: the counters of the FS and GS of vCPUs on each CPU.
pub(crate) struct FsgsCounts;

impl Writer for FsgsCounts {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu deferred cancelled restored flushed taken")?;
        for (cpu, counts) in fsgs::counts().possible_cpus() {
            let (deferred, cancelled) = (counts.deferred.get(), counts.cancelled.get());
            let (restored, flushed) = (counts.restored.get(), counts.flushed.get());
            let (cpu, taken) = (cpu.as_u32(), counts.taken.get());

            writeln!(
                f,
                "{cpu} {deferred} {cancelled} {restored} {flushed} {taken}"
            )?;
        }
        Ok(())
    }
}

/// `svm`: the counters of the VMLOAD/VMSAVE state of vCPUs on each CPU.
pub(crate) struct SvmCounts;

impl Writer for SvmCounts {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu switched_in loaded saved restored ineligible")?;
        for (cpu, counts) in svm::counts().possible_cpus() {
            let (switched_in, loaded) = (counts.switched_in.get(), counts.loaded.get());
            let (saved, restored) = (counts.saved.get(), counts.restored.get());
            let (cpu, ineligible) = (cpu.as_u32(), counts.ineligible.get());

            writeln!(
                f,
                "{cpu} {switched_in} {loaded} {saved} {restored} {ineligible}"
            )?;
        }
        Ok(())
    }
}

/// The directory `uret` in debugfs.
#[pin_data]
pub(crate) struct Stats {
    #[pin]
    slots: File<SlotList>,
    #[pin]
    counters: File<Counters>,
    #[pin]
    cpus: File<Cpus>,
    #[pin]
    fsgs: File<FsgsCounts>,
    #[pin]
    svm: File<SvmCounts>,
    dir: Dir,
}

impl Stats {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        let dir = Dir::new(c"uret");

        try_pin_init!(Self {
            slots <- dir.read_only_file(c"slots", SlotList),
            counters <- dir.read_only_file(c"counters", Counters),
            cpus <- dir.read_only_file(c"cpus", Cpus),
            fsgs <- dir.read_only_file(c"fsgs", FsgsCounts),
            svm <- dir.read_only_file(c"svm", SvmCounts),
            dir: dir.clone(),
        })
    }
}
