// SPDX-License-Identifier: GPL-2.0

//! The VMLOAD/VMSAVE state of one vCPU: which copy is current, and by which rules that changes.
//!
//! ```text
//!                     enter() loads                    VMRUN
//!   +--------------+  ------------>  (both current)  ------->  +--------------+
//!   | needs VMLOAD |                                           | needs VMSAVE |
//!   +--------------+  <------------  +---------+  <----------  +--------------+
//!       ^   ^           write()      | in sync |    read()         |      |
//!       |   |   leave(), taken()     +---------+  ---------------->       |
//!       |   |                                     VMRUN                   |
//!       |   +-------------------------------------------------------------+
//!       |     write(), leave(): VMSAVE first
//!       +-- leave(), taken(), if the VMCB has changed since
//! ```
//!
//! Besides, it is *live* from the first [`enter()`](State::enter) to the next
//! [`leave()`](State::leave) or [`taken()`](State::taken): the CPU does not have the host's. After
//! `taken()` the vCPU is on another CPU, and the one that it left restores the host's by itself.
//!
//! This file knows no hardware, so that its rules can be tested with a CPU that is made up.

use kernel::prelude::*;

/// Which copy is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vmcb {
    /// The VMCB's.
    NeedsVmload,
    /// Both.
    InSync,
    /// The CPU's; the VMCB has an older one.
    NeedsVmsave,
}

/// The CPU that the caller runs on, with interrupts disabled.
pub(crate) trait Cpu {
    /// Prepares for a guest's state.
    ///
    /// # Safety
    ///
    /// [`to_host()`](Self::to_host) must be called before the CPU runs in user mode.
    unsafe fn admit(&self);

    /// Stores the state into the VMCB, or reports that it cannot.
    fn vmsave(&self) -> Result;

    /// Loads the host's state.
    fn to_host(&self) -> Result;
}

/// The state of one vCPU.
///
/// # Invariants
///
/// - If it needs VMSAVE, or is in sync, it is live.
/// - While it is live, [`Cpu::admit()`] was called for the CPU, and [`Cpu::to_host()`] was not
///   since.
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
    ///
    /// # Safety
    ///
    /// [`leave()`](Self::leave) must be called on this CPU before it runs in user mode, or the CPU
    /// restore the host's state after [`taken()`](Self::taken).
    pub(crate) unsafe fn enter(&mut self, cpu: &impl Cpu) -> bool {
        let load = self.vmcb == Vmcb::NeedsVmload;

        if !self.live {
            // SAFETY: The caller vouches for `leave()`, which calls `to_host()`.
            unsafe { cpu.admit() };
        }
        // INVARIANT: It is live now, and the CPU's copy is current after VMRUN, before which no
        // code looks.
        *self = Self {
            vmcb: Vmcb::NeedsVmsave,
            live: true,
        };
        load
    }

    /// Syncs the state to the VMCB, for a read.
    pub(crate) fn read(&mut self, cpu: &impl Cpu) -> Result {
        if self.vmcb == Vmcb::NeedsVmsave {
            cpu.vmsave()?;
            self.vmcb = Vmcb::InSync;
        }
        Ok(())
    }

    /// Syncs the state to the VMCB, and makes the VMCB current, for a write.
    pub(crate) fn write(&mut self, cpu: &impl Cpu) -> Result {
        let result = self.read(cpu);

        self.vmcb = Vmcb::NeedsVmload;
        result
    }

    /// Restores the host's state on the CPU.
    ///
    /// # Errors
    ///
    /// That of [`Cpu::to_host()`]. It is still live then, and the CPU must not run in user mode.
    pub(crate) fn leave(&mut self, cpu: &impl Cpu) -> Result {
        if !self.live {
            return Ok(());
        }
        let _ = self.write(cpu);
        cpu.to_host()?;

        // INVARIANT: By `write()` the VMCB is current.
        self.live = false;
        Ok(())
    }

    /// Another CPU takes the vCPU, whose state is in memory.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if it is not; nothing changes then.
    pub(crate) fn taken(&mut self) -> Result {
        if self.vmcb == Vmcb::NeedsVmsave {
            return Err(EBUSY);
        }
        *self = Self::NEW;
        Ok(())
    }
}
