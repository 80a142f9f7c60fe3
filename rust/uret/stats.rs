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
        arch::{
            self,
            Arch as _, //
        },
        slots,
        STATE, //
    },
    table::{
        write_table,
        Column::{
            Decimal,
            Hex, //
        }, //
    },
    Arch, //
};

/// `slots`: the MSR of each slot.
pub(crate) struct SlotList;

impl Writer for SlotList {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = slots().map(|(slot, msr)| [slot.index() as u64, u64::from(msr)]);

        write_table(f, [Decimal("slot"), Hex("msr")], rows)
    }
}

/// `counters`: the counters of each slot on each CPU.
pub(crate) struct Counters;

impl Writer for Counters {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            Decimal("cpu"),
            Decimal("slot"),
            Hex("msr"),
            Decimal("written"),
            Decimal("elided"),
            Decimal("restored"),
        ];
        let rows = STATE.possible_cpus().flat_map(|(cpu, state)| {
            state.counts().map(move |(slot, msr, counts)| {
                [
                    u64::from(cpu.as_u32()),
                    slot as u64,
                    u64::from(msr),
                    counts.written,
                    counts.elided,
                    counts.restored,
                ]
            })
        });

        write_table(f, columns, rows)
    }
}

/// `cpus`: the state and the notifier of each CPU.
pub(crate) struct Cpus;

impl Writer for Cpus {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            Decimal("cpu"),
            Hex("dirty"),
            Decimal("armed"),
            Decimal("fired"),
            Decimal("fired_other"),
            Decimal("deferred"),
        ];
        let rows = STATE.possible_cpus().map(|(cpu, state)| {
            [
                u64::from(cpu.as_u32()),
                state.dirty().0 as u64,
                u64::from(state.is_armed()),
                state.fired.get(),
                state.fired_other.get(),
                u64::from(Arch::is_deferred_on(cpu)),
            ]
        });

        write_table(f, columns, rows)
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
    arch: <Arch as arch::Arch>::Stats,
    dir: Dir,
}

impl Stats {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        let dir = Dir::new(c"uret");

        try_pin_init!(Self {
            slots <- dir.read_only_file(c"slots", SlotList),
            counters <- dir.read_only_file(c"counters", Counters),
            cpus <- dir.read_only_file(c"cpus", Cpus),
            arch <- Arch::stats(&dir),
            dir: dir.clone(),
        })
    }
}
