// SPDX-License-Identifier: GPL-2.0

//! SVM: the VMLOAD/VMSAVE state.
//!
//! That is FS, GS, TR, LDTR, KERNEL_GS_BASE, and the MSRs of SYSCALL and SYSENTER. Kernel mode
//! depends only on GSBASE, which makes per-CPU variables work, and on TR, where the CPU finds the
//! interrupt stacks. While a guest's state is there, GSBASE has to be exchanged, and exceptions
//! have to do without these stacks.
//!
//! ```text
//!                   admit_guest()
//!  +--------------+  --------->  +------------------------------+  VMLOAD, VMRUN, #VMEXIT,
//!  | the host's   |              | a guest's, or still the      |  kernel mode, and VMSAVE
//!  | user mode    |  <---------  | host's; no interrupt stacks  |  by GuestState::save()
//!  +--------------+   restore()  +------------------------------+
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
/// `vmcb` is valid, and no other code uses its VMLOAD/VMSAVE state at the same time; `pa` is its
/// address, as VMLOAD wants it.
#[derive(Clone, Copy)]
struct Area {
    vmcb: *mut bindings::vmcb,
    pa: usize,
}

impl Area {
    /// VMSAVE. Returns [`EIO`] if SVM is not enabled on this CPU.
    #[inline]
    fn save(&self) -> Result {
        // SAFETY: By the type invariants it may be written.
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
    /// Names its VMCB.
    ///
    /// # Safety
    ///
    /// `vmcb` must be valid, and its address be `pa`, for as long as the object is used. No other
    /// code may use its VMLOAD/VMSAVE state while one of the functions here runs.
    #[inline]
    pub unsafe fn new(vmcb: *mut bindings::vmcb, pa: usize) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(Area { vmcb, pa })
    }

    /// Executes VMSAVE to the VMCB, except for GSBASE, which is the host's in kernel mode: the VMCB
    /// keeps its GSBASE.
    ///
    /// # Errors
    ///
    /// [`EIO`]: SVM is not enabled on this CPU. The VMCB has not changed.
    #[inline]
    pub fn save(&self, _irqs: &IrqsDisabled) -> Result {
        // SAFETY: By the type invariants.
        let gs_base = unsafe { bindings::vmcb_gs_base(self.0.vmcb) };
        let result = self.0.save();

        // SAFETY: By the type invariants.
        unsafe { bindings::vmcb_set_gs_base(self.0.vmcb, gs_base) };
        result
    }
}

/// The VMLOAD/VMSAVE state of the host: a per-CPU variable.
///
/// # Invariants
///
/// As long as [`restore()`](ThisCpu::restore) may be called, `vmcb` is 0, or the address of a page
/// as in [`Area`], with `pa` as its physical address, that has the host's state of the CPU of the
/// variable.
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
            // INVARIANT: By the type invariants.
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
    /// FS, GS and LDTR are saved as null. The other state must not change later, except for the
    /// bases of FS and of the user's GS.
    ///
    /// # Errors
    ///
    /// [`EIO`]: SVM is not enabled on this CPU.
    ///
    /// # Safety
    ///
    /// - `vmcb` must be valid, with the physical address `pa`, and used by no other code, until another
    ///   page is saved or the last call of [`restore()`](Self::restore).
    /// - This CPU must have the host's state.
    pub unsafe fn save(&self, vmcb: *mut bindings::vmcb, pa: usize) -> Result {
        // INVARIANT: By the safety requirements of this function.
        let area = Area { vmcb, pa };

        area.save()?;
        // SAFETY: By the type invariants.
        unsafe { bindings::vmcb_set_null_selectors(vmcb) };
        // INVARIANT: The page has the state of this CPU.
        self.pa.store(pa, Relaxed);
        self.vmcb.store(vmcb.expose_provenance(), Relaxed);
        Ok(())
    }

    /// Restores the state; exceptions use the interrupt stacks again.
    ///
    /// With `task`, the bases of FS and of the user's GS come from the thread struct of that task;
    /// without `task`, the caller loads both afterwards.
    ///
    /// An NMI between the two steps finds the host's TR, and uses no interrupt stack.
    ///
    /// # Errors
    ///
    /// - [`ENXIO`]: no state was saved.
    /// - [`EIO`]: SVM is not enabled on this CPU any more.
    ///
    /// After an error, exceptions still use no interrupt stacks, and user mode must not run. In a
    /// reboot, SVM is disabled after the host's state was restored: that is no error.
    ///
    /// # Safety
    ///
    /// `task` must be alive, and the registers may hold FS and GS of that task, or of no task.
    #[inline]
    pub unsafe fn restore(
        &self,
        _irqs: &IrqsDisabled,
        task: Option<NonNull<bindings::task_struct>>,
    ) -> Result {
        let area = self.area()?;

        if let Some(task) = task {
            // SAFETY: The page is valid by the type invariants, and the caller guarantees the
            // task.
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

/// Lets VMLOAD load a guest's state: exceptions find their stacks without TR from now on.
///
/// # Safety
///
/// [`restore()`](ThisCpu::restore) must be called on this CPU before it runs in user mode. GSBASE
/// must be the host's wherever interrupts or NMIs may come.
#[inline]
pub unsafe fn admit_guest(_irqs: &IrqsDisabled) {
    // SAFETY: Interrupts are disabled; the rest is in the safety requirements of this function.
    unsafe { bindings::load_idt_noist() };
}

/// Returns whether the machine is going down, so that SVM may have been disabled.
pub fn is_shutting_down() -> bool {
    // SAFETY: It is read only, as other code reads it.
    let state = unsafe { (&raw const bindings::system_state).read_volatile() };

    state > bindings::system_states_SYSTEM_RUNNING
        && state != bindings::system_states_SYSTEM_SUSPEND
}
