// SPDX-License-Identifier: GPL-2.0

//! The VMLOAD/VMSAVE state of one vCPU: which copy is current, and the rules that change that.
//!
//! States of the VMCB:
//!
//! - Needs VMLOAD: the copy in the VMCB is current; the CPU has an older copy, or the host's state.
//! - In sync: both copies are current.
//! - Needs VMSAVE: the copy in the CPU is current.
//!
//! Events:
//!
//! - [`enter()`](State::enter): to needs VMSAVE; VMLOAD comes first from needs VMLOAD.
//! - [`sync()`](State::sync): needs VMSAVE to in sync, by VMSAVE.
//! - [`sync_for_write()`](State::sync_for_write): to needs VMLOAD; VMSAVE comes first from needs
//!   VMSAVE.
//! - [`restore()`](State::restore): as `sync_for_write()`, and the CPU gets the host's state.
//! - [`taken()`](State::taken): to needs VMLOAD, on another CPU. The CPU that the vCPU has left
//!   restores the host's state without this state.
//!
//! The guest state is *loaded* from the first `enter()` to the next `restore()` or `taken()`: the
//! CPU does not have the host's state.
//!
//! This file knows no hardware, so that KUnit can test the rules with a fake CPU.

use kernel::prelude::*;

/// The copy that is current. Also `enum uret_vmcb_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Vmcb {
    /// The copy in the VMCB.
    NeedsVmload,
    /// Both copies.
    InSync,
    /// The copy in the CPU.
    NeedsVmsave,
}

/// The current CPU, with interrupts disabled.
pub(crate) trait Cpu {
    /// Prepares the CPU for a guest's state.
    ///
    /// # Safety
    ///
    /// [`restore_host()`](Self::restore_host) must be called before the CPU runs in user mode.
    unsafe fn switch_in(&self);

    /// Executes VMSAVE of the guest's state.
    ///
    /// # Safety
    ///
    /// The guest state must be loaded.
    unsafe fn vmsave(&self) -> Result;

    /// Executes VMLOAD of the host's state.
    ///
    /// # Safety
    ///
    /// The guest state must be loaded.
    unsafe fn restore_host(&self) -> Result;
}

/// The state of one vCPU.
///
/// # Invariants
///
/// - In the states in sync and needs VMSAVE, the guest state is loaded.
/// - While the guest state is loaded, [`Cpu::switch_in()`] was called for the CPU, and
///   [`Cpu::restore_host()`] was not called since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct State {
    pub(crate) vmcb: Vmcb,
    pub(crate) loaded: bool,
}

impl State {
    pub(crate) const NEW: Self = Self {
        vmcb: Vmcb::NeedsVmload,
        loaded: false,
    };

    /// Prepares for VMRUN. Returns whether VMLOAD must come first.
    ///
    /// # Safety
    ///
    /// Before the CPU runs in user mode, [`restore()`](Self::restore) must be called on this CPU,
    /// or, after [`taken()`](Self::taken), the CPU must restore the host's state.
    pub(crate) unsafe fn enter(&mut self, cpu: &impl Cpu) -> bool {
        let load = self.vmcb == Vmcb::NeedsVmload;

        if !self.loaded {
            // SAFETY: The caller guarantees `restore()`, which calls `restore_host()`.
            unsafe { cpu.switch_in() };
        }
        // INVARIANT: The guest state is loaded now. The copy in the CPU is current after VMRUN,
        // and no code uses the state before.
        *self = Self {
            vmcb: Vmcb::NeedsVmsave,
            loaded: true,
        };
        load
    }

    /// Syncs the state to the VMCB, for a read.
    pub(crate) fn sync(&mut self, cpu: &impl Cpu) -> Result {
        if self.vmcb == Vmcb::NeedsVmsave {
            // SAFETY: By the type invariants, the guest state is loaded.
            unsafe { cpu.vmsave() }?;
            self.vmcb = Vmcb::InSync;
        }
        Ok(())
    }

    /// Syncs the state to the VMCB, and makes the VMCB current, for a write.
    pub(crate) fn sync_for_write(&mut self, cpu: &impl Cpu) -> Result {
        let result = self.sync(cpu);

        self.vmcb = Vmcb::NeedsVmload;
        result
    }

    /// Restores the host's state on the CPU.
    ///
    /// # Errors
    ///
    /// The error of [`Cpu::restore_host()`]. The guest state is still loaded then, and the CPU must
    /// not run in user mode.
    pub(crate) fn restore(&mut self, cpu: &impl Cpu) -> Result {
        if !self.loaded {
            return Ok(());
        }
        let _ = self.sync_for_write(cpu);
        // SAFETY: The guest state is loaded, as just checked.
        unsafe { cpu.restore_host() }?;

        // INVARIANT: After `sync_for_write()` the state is needs VMLOAD.
        self.loaded = false;
        Ok(())
    }

    /// Notes that another CPU takes the vCPU. The current copy must be in the VMCB.
    ///
    /// # Errors
    ///
    /// [`EBUSY`]: the copy in the VMCB is not current. Nothing has changed.
    pub(crate) fn taken(&mut self) -> Result {
        if self.vmcb == Vmcb::NeedsVmsave {
            return Err(EBUSY);
        }
        *self = Self::NEW;
        Ok(())
    }
}
