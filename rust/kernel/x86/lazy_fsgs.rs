// SPDX-License-Identifier: GPL-2.0

//! Deferred FS and GS: the restore waits while kernel threads run.
//!
//! A kernel thread uses neither FS nor the GS of user mode, so that a CPU that runs only kernel
//! threads can keep the values of a task, or of the guest of a task. The code that has loaded the
//! values uses this interface; `__switch_to()` calls the code back for the restore.
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
//! - [`flush()`]: deferred to free, by the callback, for another reason.
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

/// FS and GS of a task, with a restore that can be deferred on a CPU.
#[repr(transparent)]
pub struct LazyFsgs(Opaque<bindings::lazy_fsgs>);

// SAFETY: `cpu` is accessed atomically. Only `defer()` writes `task`, and the caller of `defer()`
// guarantees that no CPU has the values. `restore` and `save` do not change while the values are
// deferred.
unsafe impl Sync for LazyFsgs {}

/// The C type of the callback that restores FS and GS of the task that has deferred the restore.
///
/// The second argument is the user task that is switched in, or the current task if another reason
/// requires the restore. Called with interrupts disabled, possibly in the middle of a context
/// switch.
pub type Restore = unsafe extern "C" fn(*mut bindings::lazy_fsgs, *mut bindings::task_struct);

/// The C type of the function that restores LDTR and TR without the task, which may have exited.
///
/// Called in the same context as [`Restore`].
pub type RestoreTables = unsafe extern "C" fn();

impl LazyFsgs {
    /// Creates a reference from a pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a valid `lazy_fsgs` for `'a`. Only functions of the C header may access
    /// the `lazy_fsgs`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::lazy_fsgs) -> &'a Self {
        // SAFETY: The caller guarantees that `ptr` is valid for `'a`; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    /// Initializes a `lazy_fsgs` to the free state. The C code that owns the `lazy_fsgs` may set
    /// `save` afterwards.
    ///
    /// # Safety
    ///
    /// - `ptr` must be valid for writes, and no CPU may have the values.
    /// - `restore` must restore FS and GS, as [`Restore`] says, whenever `restore` is called with
    ///   `ptr`.
    pub unsafe fn init(ptr: *mut bindings::lazy_fsgs, restore: Restore) {
        // SAFETY: The caller guarantees that `ptr` is valid for writes.
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
    /// - `saved`: memory has all values of the registers.
    /// - `restore_tables`: LDTR and TR may be a guest's, and this function restores the host's.
    ///
    /// # Safety
    ///
    /// - The state must be free.
    /// - The current task must be a user task, and the thread struct must hold FS and GS. DS and ES
    ///   must be the task's. Without `restore_tables`, LDTR and TR must be the host's.
    /// - With `restore_tables`, exceptions must use no IST stacks while TR is a guest's.
    /// - `user_return_notifier_enable()` must have been called, and
    ///   `user_return_notifier_disable()` must not be called before all CPUs have restored.
    /// - The deferral must be cancelled, or the values taken, before the `lazy_fsgs` is freed, and
    ///   before the task runs in user mode or exits.
    #[inline]
    pub unsafe fn defer(
        &self,
        _token: &PreemptDisabled,
        saved: bool,
        restore_tables: Option<RestoreTables>,
    ) {
        // SAFETY: The caller guarantees that the state is free, and the registers; preemption is
        // disabled.
        unsafe { bindings::lazy_fsgs_defer(self.0.get(), saved, restore_tables) };
    }

    /// Notes that the registers are about to change, so that memory lacks values.
    ///
    /// # Safety
    ///
    /// The current task must be the task of the values: otherwise another CPU may be taking the
    /// values.
    #[inline]
    pub unsafe fn unsave(&self, token: &PreemptDisabled) {
        if self.are_here(token) {
            // SAFETY: Preemption is disabled, this CPU has these values, and the caller guarantees
            // the task.
            unsafe { bindings::lazy_fsgs_unsave() };
        }
    }

    /// Cancels the deferral: `__switch_to()` switches FS and GS again.
    ///
    /// # Safety
    ///
    /// The current task must have deferred the values on this CPU. The registers must hold FS and
    /// GS of the task, or the caller must load FS and GS of the task before preemption is enabled.
    #[inline]
    pub unsafe fn cancel(&self, _token: &PreemptDisabled) {
        // SAFETY: The caller guarantees that the values are deferred here by the current task;
        // preemption is disabled.
        unsafe { bindings::lazy_fsgs_cancel(self.0.get()) };
    }

    /// Returns the task that deferred the restore.
    ///
    /// # Safety
    ///
    /// The values must be deferred on this CPU, or the current task must be the task of the values,
    /// or the caller must be the callback: otherwise the task may have exited.
    #[inline]
    pub unsafe fn task(&self) -> *mut bindings::task_struct {
        // SAFETY: The pointer is valid. Only `defer()` writes the task.
        unsafe { (*self.0.get()).task }
    }

    /// Takes the values from the CPU that has the values.
    ///
    /// Returns true if the values were taken from another CPU without the callback; false if the
    /// callback was called, or no CPU has the values.
    ///
    /// # Safety
    ///
    /// The current task must be the task of the values, or that task must have exited. Interrupts
    /// must be enabled. After a return of true, the caller must not use the registers of any CPU as
    /// the task's.
    #[inline]
    pub unsafe fn take(&self) -> bool {
        // SAFETY: The pointer is valid. The caller guarantees the task, and that interrupts are
        // enabled.
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
    // SAFETY: The context is not an NMI. The callers of `init()` and `defer()` guarantee the
    // callbacks.
    unsafe { bindings::__restore_lazy_fsgs() };
}
