// SPDX-License-Identifier: GPL-2.0

//! What VMLOAD loads, of one vCPU: whether the VMCB and the CPU agree, and by what rules that
//! changes.
//!
//! ```text
//!                     enter() loads                    VMRUN
//!   +--------------+  ------------>  (both have it)  ------->  +--------------+
//!   | needs VMLOAD |                                           | needs VMSAVE |
//!   +--------------+  <------------  +---------+  <----------  +--------------+
//!       ^   ^           write()      | in sync |    read()         |      |
//!       |   |         leave()        +---------+  ---------------->       |
//!       |   |                                     VMRUN                   |
//!       |   +-------------------------------------------------------------+
//!       |     write(), leave(): VMSAVE first
//!       +-- leave(), if the VMCB has changed since
//! ```
//!
//! Besides, it is *live* from the first [`enter()`](State::enter) to the next
//! [`leave()`](State::leave): the CPU does not have the host's.
//!
//! This file knows no real CPU, so that its rules can be tested with one that is made up.

use kernel::prelude::*;

/// Whether the VMCB and the CPU agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vmcb {
    /// The VMCB has it.
    NeedsVmload,
    /// Both have it.
    InSync,
    /// The CPU has it, and the VMCB what it was before.
    NeedsVmsave,
}

/// The CPU that the caller runs on, with interrupts disabled.
pub(crate) trait Cpu {
    /// From now on it may have a guest's.
    fn admit(&self);

    /// Stores what it has into the VMCB, or reports that it cannot.
    fn vmsave(&self) -> Result;

    /// Loads what is the host's.
    fn to_host(&self) -> Result;
}

/// The state of one vCPU.
///
/// # Invariants
///
/// - If it needs VMSAVE, or is in sync, it is live.
/// - As long as it is live, the CPU is one that [`Cpu::admit()`] was called for, and not yet
///   [`Cpu::to_host()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) vmcb: Vmcb,
    pub(crate) live: bool,
}

impl State {
    pub(crate) const NEW: Self = Self {
        vmcb: Vmcb::NeedsVmload,
        live: false,
    };

    /// VMRUN comes next. Returns whether VMLOAD has to come before it.
    pub(crate) fn enter(&mut self, cpu: &impl Cpu) -> bool {
        let load = self.vmcb == Vmcb::NeedsVmload;

        if !self.live {
            cpu.admit();
        }
        // INVARIANT: It is live now, and after VMRUN, before which nobody looks, the CPU has it.
        *self = Self {
            vmcb: Vmcb::NeedsVmsave,
            live: true,
        };
        load
    }

    /// Somebody wants to look at the VMCB.
    pub(crate) fn read(&mut self, cpu: &impl Cpu) -> Result {
        if self.vmcb == Vmcb::NeedsVmsave {
            cpu.vmsave()?;
            self.vmcb = Vmcb::InSync;
        }
        Ok(())
    }

    /// Somebody wants to change the VMCB. It has to be loaded then, whatever the CPU has.
    pub(crate) fn write(&mut self, cpu: &impl Cpu) -> Result {
        let result = self.read(cpu);

        self.vmcb = Vmcb::NeedsVmload;
        result
    }

    /// The CPU shall have the host's.
    ///
    /// # Errors
    ///
    /// What [`Cpu::to_host()`] returns. It is not live any more in any case: if VMLOAD does not
    /// work, as during a reboot, it has not loaded a guest's either. Nor does VMSAVE work then.
    pub(crate) fn leave(&mut self, cpu: &impl Cpu) -> Result {
        if !self.live {
            return Ok(());
        }
        let _ = self.write(cpu);
        let loaded = cpu.to_host();

        // INVARIANT: By `write()` the VMCB is what counts.
        self.live = false;
        loaded
    }
}
