// SPDX-License-Identifier: GPL-2.0

//! SVM: the VMLOAD/VMSAVE state.
//!
//! VMLOAD and VMSAVE access FS, GS, TR, LDTR, KERNEL_GS_BASE, and the MSRs of SYSCALL and SYSENTER.
//! Kernel mode depends on two of these registers: GSBASE is the base of per-CPU variables, and TR
//! leads to the IST stacks. While the CPU has a guest's state, code that enters the guest
//! exchanges GSBASE around VMRUN, and exceptions use no IST stacks.
//!
//! ```text
//!                     prepare_guest_state()
//!  +----------------+  ----------------->  +---------------------------+  VMLOAD, VMRUN, #VMEXIT,
//!  | host's state   |                      | host's or guest's state   |  kernel mode, and VMSAVE
//!  | user mode runs |  <-----------------  | exceptions use no         |  by GuestState::save()
//!  +----------------+       restore()      | IST stacks                |
//!                                          +---------------------------+
//! ```
//!
//! C headers: [`arch/x86/include/asm/svm.h`](srctree/arch/x86/include/asm/svm.h),
//! [`arch/x86/include/asm/desc.h`](srctree/arch/x86/include/asm/desc.h)
//!
//! Reference: AMD64 Architecture Programmer's Manual, Volume 2, "VMSAVE and VMLOAD Instructions".

use core::ptr::NonNull;

use crate::{
    percpu::ThisCpu,
    preempt::IrqsDisabled,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// A page laid out as a VMCB.
///
/// # Invariants
///
/// `vmcb` points to a valid page, and no other code accesses the VMLOAD/VMSAVE state in the page at
/// the same time. `pa` is the physical address of the page, as VMLOAD and VMSAVE take it.
#[derive(Clone, Copy)]
struct Area {
    vmcb: *mut bindings::vmcb,
    pa: usize,
}

impl Area {
    /// Executes VMSAVE. Returns [`EIO`] if SVM is not enabled on this CPU.
    #[inline]
    fn save(&self) -> Result {
        // SAFETY: By the type invariants, VMSAVE may write to the page.
        done(unsafe { bindings::vmsave(self.pa) })
    }
}

#[inline]
fn done(good: bool) -> Result {
    if good {
        Ok(())
    } else {
        Err(EIO)
    }
}

/// The VMLOAD/VMSAVE state of a guest.
#[derive(Clone, Copy)]
pub struct GuestState(Area);

impl GuestState {
    /// Creates an object for the state in a VMCB.
    ///
    /// # Safety
    ///
    /// `vmcb` must be valid, with the physical address `pa`, for as long as the object is used. No
    /// other code may access the VMLOAD/VMSAVE state in the VMCB while a method of the object runs.
    #[inline]
    pub unsafe fn new(vmcb: *mut bindings::vmcb, pa: usize) -> Self {
        // INVARIANT: The caller guarantees both addresses, and exclusive access.
        Self(Area { vmcb, pa })
    }

    /// Executes VMSAVE to the VMCB, but keeps GSBASE of the VMCB: in kernel mode, GSBASE of the CPU
    /// is the host's.
    ///
    /// # Errors
    ///
    /// [`EIO`]: SVM is not enabled on this CPU. The VMCB has not changed.
    ///
    /// # Safety
    ///
    /// This CPU must have the guest's state: otherwise the guest would get the host's.
    #[inline]
    pub unsafe fn save(&self, _irqs: &IrqsDisabled) -> Result {
        // SAFETY: By the type invariants of `Area`, the VMCB may be read.
        let gs_base = unsafe { bindings::vmcb_gs_base(self.0.vmcb) };
        let result = self.0.save();

        // SAFETY: By the type invariants of `Area`, the VMCB may be written.
        unsafe { bindings::vmcb_set_gs_base(self.0.vmcb, gs_base) };
        result
    }
}

/// The VMLOAD/VMSAVE state of the host: a per-CPU variable.
///
/// # Invariants
///
/// While [`restore()`](ThisCpu::restore) may be called, `vmcb` is 0; or `vmcb` and `pa` are the
/// addresses of a page as in [`Area`], and the page has the host's state of the variable's CPU.
pub struct HostState {
    vmcb: Atomic<usize>,
    pa: Atomic<usize>,
}

impl HostState {
    /// Creates a variable without a page.
    pub const fn new() -> Self {
        // INVARIANT: `vmcb` is 0.
        Self {
            vmcb: Atomic::new(0),
            pa: Atomic::new(0),
        }
    }

    /// Returns the page, or [`ENXIO`] if there is none.
    #[inline]
    fn area(&self) -> Result<Area> {
        match self.vmcb.load(Relaxed) {
            0 => Err(ENXIO),
            // INVARIANT: By the type invariants, `vmcb` and `pa` are the addresses of a page.
            vmcb => Ok(Area {
                vmcb: core::ptr::with_exposed_provenance_mut(vmcb),
                pa: self.pa.load(Relaxed),
            }),
        }
    }
}

impl Default for HostState {
    fn default() -> Self {
        Self::new()
    }
}

impl ThisCpu<'_, HostState> {
    /// Saves the state of this CPU.
    ///
    /// FS, GS and LDTR are saved as null. The state must not change later, except for the bases of
    /// FS and of the user's GS.
    ///
    /// # Errors
    ///
    /// [`EIO`]: SVM is not enabled on this CPU.
    ///
    /// # Safety
    ///
    /// - `vmcb` must point to a valid page at the physical address `pa`, and no other code may use
    ///   the page, until the next call of this function, or until after the last call of
    ///   [`restore()`](Self::restore).
    /// - This CPU must have the host's state.
    pub unsafe fn save(&self, vmcb: *mut bindings::vmcb, pa: usize) -> Result {
        // INVARIANT: The caller guarantees both addresses, and exclusive access.
        let area = Area { vmcb, pa };

        area.save()?;
        // SAFETY: The caller guarantees that the page may be written.
        unsafe { bindings::vmcb_set_null_selectors(vmcb) };
        // INVARIANT: The page has the host's state of this CPU.
        self.pa.store(pa, Relaxed);
        self.vmcb.store(vmcb.expose_provenance(), Relaxed);
        Ok(())
    }

    /// Restores the state, and then the IDT with IST stacks.
    ///
    /// With `task`, the bases of FS and of the user's GS come from the thread struct of that task;
    /// without `task`, the caller loads both afterwards.
    ///
    /// An NMI between the two steps finds the host's TR, and still uses no IST stack.
    ///
    /// # Errors
    ///
    /// - [`ENXIO`]: no state was saved.
    /// - [`EIO`]: SVM is not enabled on this CPU any more.
    ///
    /// After an error, exceptions still use no IST stacks, and user mode must not run. During
    /// a reboot, the host's state is restored before SVM is disabled, so that a fault of VMLOAD is
    /// no error.
    ///
    /// # Safety
    ///
    /// `task` must be alive, and the registers must not hold FS and GS of another task.
    #[inline]
    pub unsafe fn restore(
        &self,
        _irqs: &IrqsDisabled,
        task: Option<NonNull<bindings::task_struct>>,
    ) -> Result {
        let area = self.area()?;

        if let Some(task) = task {
            // SAFETY: By the type invariants, the page may be written. The caller guarantees that
            // `task` is alive.
            unsafe { bindings::vmcb_set_bases(area.vmcb, task.as_ptr()) };
        }
        // SAFETY: By the type invariants, the page has the host's state of this CPU.
        let loaded = done(unsafe { bindings::vmload(area.pa) });

        if loaded.is_ok() || is_shutting_down() {
            // SAFETY: Interrupts are disabled, and TR is the host's.
            unsafe { bindings::load_current_idt() };
            return Ok(());
        }
        loaded
    }
}

/// Prepares this CPU for a guest's state: loads the IDT that uses no IST stacks.
///
/// # Safety
///
/// [`restore()`](ThisCpu::restore) must be called on this CPU before user mode runs. GSBASE must be
/// the host's whenever an interrupt or an NMI is possible.
#[inline]
pub unsafe fn prepare_guest_state(_irqs: &IrqsDisabled) {
    // SAFETY: Interrupts are disabled. The caller restores the IDT before user mode runs.
    unsafe { bindings::load_idt_noist() };
}

/// Returns whether a shutdown or a reboot is in progress, so that SVM may have been disabled.
pub fn is_shutting_down() -> bool {
    // SAFETY: `system_state` is a valid static. A volatile read of a word does not tear.
    let state = unsafe { (&raw const bindings::system_state).read_volatile() };

    state > bindings::system_states_SYSTEM_RUNNING
        && state != bindings::system_states_SYSTEM_SUSPEND
}
