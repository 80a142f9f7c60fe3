// SPDX-License-Identifier: GPL-2.0-only

//! The emulators, behind one trait.

use std::path::Path;
use std::process::Child;

use anyhow::Result;
use clap::ValueEnum;

use crate::bochs::Bochs;
use crate::machine::Machine;
use crate::qemu::Qemu;

/// An emulator, and the vendor of its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emulator {
    Qemu,
    Bochs,
}

/// The operations of an emulator.
pub trait Operations {
    /// The name of the virtualization extension.
    fn platform(&self) -> &'static str;

    /// The number of CPUs, unless a run needs another one.
    fn default_cpus(&self) -> u32;

    /// Options for the kernel's command line, each with a blank behind.
    fn kernel_options(&self, cpus: u32) -> &'static str;

    /// Starts the machine, with `serial` as the file of its serial line.
    fn start(&self, machine: &Machine, serial: &Path) -> Result<Child>;

    /// Whether the emulator ends when the machine resets.
    fn ends_at_reset(&self) -> bool;

    /// How many times as long as QEMU the emulator may take.
    fn slowness(&self) -> u64;
}

impl Emulator {
    /// Returns the operations.
    pub fn operations(self) -> &'static dyn Operations {
        match self {
            Emulator::Qemu => &Qemu,
            Emulator::Bochs => &Bochs,
        }
    }

    /// The name of the virtualization extension.
    pub fn platform(self) -> &'static str {
        self.operations().platform()
    }
}
