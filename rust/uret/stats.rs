// SPDX-License-Identifier: GPL-2.0

//! The counters in debugfs, see `Documentation/ABI/testing/debugfs-uret`.

use kernel::{
    debugfs::{
        Dir,
        File,
        Writer, //
    },
    fmt,
    lazy_fsgs::deferred_on,
    prelude::*, //
};

use crate::{
    cpu::Counts,
    fsgs,
    registry::{
        SLOTS,
        STATE, //
    },
    svm, //
};

/// `slots`: the MSRs that were added.
pub(crate) struct SlotList;

impl Writer for SlotList {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "slot msr")?;
        for (slot, msr) in SLOTS.iter() {
            writeln!(f, "{slot} {msr:#x}")?;
        }
        Ok(())
    }
}

/// `counters`: what happened to each MSR on each CPU.
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

/// `cpus`: the state of each CPU and its notifier.
pub(crate) struct Cpus;

impl Writer for Cpus {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu dirty armed fired fired_other deferred")?;
        for (cpu, state) in STATE.possible_cpus() {
            let deferred = u32::from(deferred_on(cpu));
            let (cpu, dirty) = (cpu.as_u32(), state.cpu.dirty());
            let (fired, other) = (state.fired.get(), state.fired_other.get());
            let armed = u32::from(state.is_armed());

            writeln!(f, "{cpu} {dirty:#x} {armed} {fired} {other} {deferred}")?;
        }
        Ok(())
    }
}

/// `fsgs`: what happened to FS and GS of vCPUs on each CPU.
pub(crate) struct FsgsCounts;

impl Writer for FsgsCounts {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu stayed forgotten left evicted taken")?;
        for (cpu, counts) in fsgs::counts().possible_cpus() {
            let (stayed, forgotten) = (counts.stayed.get(), counts.forgotten.get());
            let (left, evicted) = (counts.left.get(), counts.evicted.get());
            let (cpu, taken) = (cpu.as_u32(), counts.taken.get());

            writeln!(f, "{cpu} {stayed} {forgotten} {left} {evicted} {taken}")?;
        }
        Ok(())
    }
}

/// `svm`: what happened on each CPU to what VMLOAD loads.
pub(crate) struct SvmCounts;

impl Writer for SvmCounts {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu admitted loaded saved host refused")?;
        for (cpu, counts) in svm::counts().possible_cpus() {
            let (admitted, loaded) = (counts.admitted.get(), counts.loaded.get());
            let (saved, host) = (counts.saved.get(), counts.to_host.get());
            let (cpu, refused) = (cpu.as_u32(), counts.refused.get());

            writeln!(f, "{cpu} {admitted} {loaded} {saved} {host} {refused}")?;
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
