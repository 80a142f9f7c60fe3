// SPDX-License-Identifier: GPL-2.0

//! Deferred FS and GS: the restore waits while kernel threads run.
//!
//! A kernel thread uses neither FS nor the GS of user mode, so that a CPU that runs only kernel
//! threads can keep the values of a task, or of the guest of a task. This is the interface for the
//! owner of such values; `__switch_to()` does the rest.
//!
//! States:
//!
//! - Free: no CPU has the values.
//! - Deferred on CPU n: the registers of CPU n hold the values, while kernel threads or the task
//!   run there.
//!
//! Events:
//!
//! - [`defer()`](LazyFsgs::defer): free to deferred.
//! - [`cancel()`](LazyFsgs::cancel): deferred to free, by the task.
//! - Restore, by the callback: deferred to free, as another user task is switched in on CPU n.
//! - [`flush()`]: the same, as another reason requires the restore.
//! - [`take()`](LazyFsgs::take): deferred to free, by the task on another CPU; without the callback
//!   if memory has all values.
//!
//! C header: [`arch/x86/include/asm/lazy_fsgs.h`](srctree/arch/x86/include/asm/lazy_fsgs.h)

use crate::{
    cpu::CpuId,
    preempt::{
        NotInNmi,
        PreemptDisabled, //
    },
    types::Opaque, //
};

/// The FS and GS of a task, whose restore can be deferred on a CPU.
#[repr(transparent)]
pub struct LazyFsgs(Opaque<bindings::lazy_fsgs>);

// SAFETY: `cpu` is accessed atomically. `defer()` writes `task`, and its caller guarantees that no
// CPU has the values; `restore` and `save` do not change while the values are deferred.
unsafe impl Sync for LazyFsgs {}

/// The C type of the callback that restores FS and GS of the task, for another task.
///
/// Called with interrupts disabled, possibly in the middle of a context switch.
pub type Restore = unsafe extern "C" fn(*mut bindings::lazy_fsgs, *mut bindings::task_struct);

/// The C type of the function that restores LDTR and TR without access to the task.
///
/// Called in the context of [`Restore`].
pub type RestoreTables = unsafe extern "C" fn();

impl LazyFsgs {
    /// Creates a reference from a pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a valid `lazy_fsgs` for `'a`, that only functions of the C header access.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::lazy_fsgs) -> &'a Self {
        // SAFETY: The caller guarantees the pointer; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    /// Initializes a `lazy_fsgs` to the free state. The C code that owns it may set `save`
    /// afterwards.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for writes, and must not be deferred on a CPU. `restore` must do as
    /// [`Restore`] says whenever it is called with this pointer.
    pub unsafe fn init(ptr: *mut bindings::lazy_fsgs, restore: Restore) {
        // SAFETY: The caller guarantees the pointer.
        unsafe {
            ptr.write(bindings::lazy_fsgs {
                task: core::ptr::null_mut(),
                cpu: -1,
                restore: Some(restore),
                save: None,
            })
        }
    }

    /// Returns whether the values are deferred on this CPU.
    #[inline]
    pub fn are_here(&self, _token: &PreemptDisabled) -> bool {
        // SAFETY: Preemption is disabled, and the pointer is valid.
        unsafe { bindings::lazy_fsgs_are_here(self.0.get()) }
    }

    /// Defers the restore on this CPU when the current task is scheduled out.
    ///
    /// With `saved`, memory has all values of the registers. With `restore_tables`, LDTR and TR may
    /// be a guest's.
    ///
    /// # Safety
    ///
    /// - The state must be free.
    /// - The current task must be a user task whose thread struct holds FS and GS. DS and ES must be
    ///   the task's, and without `restore_tables` LDTR and TR must be so, too.
    /// - With `restore_tables`, interrupts must use no stacks of the TSS.
    /// - `user_return_notifier_enable()` must have been called, and must not be undone before all
    ///   CPUs have restored.
    /// - The deferral must be cancelled, or the values taken, before they are freed, and before the
    ///   task runs in user mode or exits.
    #[inline]
    pub unsafe fn defer(
        &self,
        _token: &PreemptDisabled,
        saved: bool,
        restore_tables: Option<RestoreTables>,
    ) {
        // SAFETY: The caller guarantees the state; preemption is disabled.
        unsafe { bindings::lazy_fsgs_defer(self.0.get(), saved, restore_tables) };
    }

    /// Notes that the registers are about to change, so that memory lacks values.
    #[inline]
    pub fn unsave(&self, token: &PreemptDisabled) {
        if self.are_here(token) {
            // SAFETY: Preemption is disabled, and this CPU has these values.
            unsafe { bindings::lazy_fsgs_unsave() };
        }
    }

    /// Cancels the deferral: `__switch_to()` switches FS and GS again.
    ///
    /// # Safety
    ///
    /// The values must be deferred on this CPU by the current task. The registers must hold FS and
    /// GS of the task, or do so before preemption is enabled again.
    #[inline]
    pub unsafe fn cancel(&self, _token: &PreemptDisabled) {
        // SAFETY: The caller guarantees the state; preemption is disabled.
        unsafe { bindings::lazy_fsgs_cancel(self.0.get()) };
    }

    /// Returns the task that deferred the restore.
    ///
    /// # Safety
    ///
    /// The values must be deferred on this CPU, or the current task must be their task, or the
    /// caller must be the callback: otherwise the task may have exited.
    #[inline]
    pub unsafe fn task(&self) -> *mut bindings::task_struct {
        // SAFETY: The pointer is valid. Only `defer()` writes the task.
        unsafe { (*self.0.get()).task }
    }

    /// Takes the values from the CPU that has them. Returns whether that was done without the
    /// callback.
    ///
    /// # Safety
    ///
    /// The current task must be the task of the values, or that task must have exited; interrupts
    /// must be enabled. After a return of true, the registers of no CPU count as the task's.
    #[inline]
    pub unsafe fn take(&self) -> bool {
        // SAFETY: The pointer is valid, and the caller guarantees the context.
        unsafe { bindings::lazy_fsgs_take(self.0.get()) }
    }
}

/// Returns whether a restore is deferred on a CPU.
pub fn deferred_on(cpu: CpuId) -> bool {
    // SAFETY: A `CpuId` is in range.
    unsafe { bindings::lazy_fsgs_on_cpu(cpu.as_u32()) }
}

/// Restores FS and GS of the current task on this CPU, if a restore is deferred.
pub fn flush(_not_in_nmi: &NotInNmi) {
    // SAFETY: This is not an NMI. The caller of `defer()` guarantees the callback.
    unsafe { bindings::__restore_lazy_fsgs() };
}
