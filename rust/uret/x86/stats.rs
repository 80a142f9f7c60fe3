// SPDX-License-Identifier: GPL-2.0

//! The counters of deferred state in debugfs, see `Documentation/ABI/testing/debugfs-uret`.

use kernel::{
    debugfs::{
        Dir,
        File,
        Writer, //
    },
    fmt,
    prelude::*, //
};

use super::{
    fsgs,
    svm, //
};
use crate::stats::{
    write_table,
    Column::Decimal, //
};

/// `fsgs`: the counters of the FS and GS of vCPUs on each CPU.
pub(crate) struct Fsgs;

impl Writer for Fsgs {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            Decimal("cpu"),
            Decimal("deferred"),
            Decimal("cancelled"),
            Decimal("restored"),
            Decimal("flushed"),
            Decimal("taken"),
        ];
        let rows = fsgs::counts().possible_cpus().map(|(cpu, counts)| {
            [
                u64::from(cpu.as_u32()),
                counts.deferred.get(),
                counts.cancelled.get(),
                counts.restored.get(),
                counts.flushed.get(),
                counts.taken.get(),
            ]
        });

        write_table(f, columns, rows)
    }
}

/// `svm`: the counters of the VMLOAD/VMSAVE state of vCPUs on each CPU.
pub(crate) struct Svm;

impl Writer for Svm {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            Decimal("cpu"),
            Decimal("switched_in"),
            Decimal("loaded"),
            Decimal("saved"),
            Decimal("restored"),
            Decimal("ineligible"),
        ];
        let rows = svm::counts().possible_cpus().map(|(cpu, counts)| {
            [
                u64::from(cpu.as_u32()),
                counts.switched_in.get(),
                counts.loaded.get(),
                counts.saved.get(),
                counts.restored.get(),
                counts.ineligible.get(),
            ]
        });

        write_table(f, columns, rows)
    }
}

/// The files of x86 in the directory `uret`.
#[pin_data]
pub(crate) struct Stats {
    #[pin]
    fsgs: File<Fsgs>,
    #[pin]
    svm: File<Svm>,
}

impl Stats {
    pub(crate) fn new(dir: &Dir) -> impl PinInit<Self, Error> + '_ {
        try_pin_init!(Self {
            fsgs <- dir.read_only_file(c"fsgs", Fsgs),
            svm <- dir.read_only_file(c"svm", Svm),
        })
    }
}
