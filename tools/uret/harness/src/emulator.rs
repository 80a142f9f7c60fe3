// SPDX-License-Identifier: GPL-2.0-only

//! The list of emulators.

use clap::ValueEnum;

use crate::bochs::Bochs;
use crate::machine::Operations;
use crate::qemu::Qemu;

/// An emulator, and the vendor of its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emulator {
    Qemu,
    Bochs,
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
    pub fn vendor(self) -> &'static str {
        self.operations().vendor()
    }
}
