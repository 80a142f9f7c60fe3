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
use crate::table::write_counters;

/// `fsgs`: the counters of the FS and GS of vCPUs on each CPU.
pub(crate) struct Fsgs;

impl Writer for Fsgs {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["deferred", "cancelled", "restored", "flushed", "taken"];

        write_counters(f, names, fsgs::counts(), |counts| {
            [
                &counts.deferred,
                &counts.cancelled,
                &counts.restored,
                &counts.flushed,
                &counts.taken,
            ]
        })
    }
}

/// `svm`: the counters of the VMLOAD/VMSAVE state of vCPUs on each CPU.
pub(crate) struct Svm;

impl Writer for Svm {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["switched_in", "loaded", "saved", "restored", "ineligible"];

        write_counters(f, names, svm::counts(), |counts| {
            [
                &counts.switched_in,
                &counts.loaded,
                &counts.saved,
                &counts.restored,
                &counts.ineligible,
            ]
        })
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
