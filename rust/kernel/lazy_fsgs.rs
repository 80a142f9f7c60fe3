// SPDX-License-Identifier: GPL-2.0

//! Deferred FS and GS: they stay in a CPU while kernel threads run.
//!
//! A kernel thread has no use for FS and the GS of user mode, so a CPU that runs nothing else can
//! keep what a task, or the guest of a task, has left there. This is the interface for the owner of
//! such values; `__switch_to()` does the rest.
//!
//! ```text
//!              defer()
//!  +-----------+  ------->  +----------+
//!  | of no CPU |            | of CPU n |  while kernel threads run there, and the task itself
//!  +-----------+  <-------  +----------+
//!        ^    cancel()          |
//!        +----------------------+
//!         the callback: another user task is switched in on CPU n, or leave_all() there
//!         take(), by the task on another CPU: without a callback if memory has all
//! ```
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

/// FS and GS of a task, whose restore may be deferred on a CPU, with a callback.
#[repr(transparent)]
pub struct LazyFsgs(Opaque<bindings::lazy_fsgs>);

// SAFETY: `cpu` is accessed atomically. `task` is written by `defer()`, whose caller vouches that
// no CPU has them; `leave` and `save` do not change once they are deferred.
unsafe impl Sync for LazyFsgs {}

/// The C type of the callback that restores.
///
/// It restores FS and GS of the task, because another one needs its own. It is called with
/// interrupts disabled, maybe in the middle of a context switch.
pub type Leave = unsafe extern "C" fn(*mut bindings::lazy_fsgs, *mut bindings::task_struct);

/// The C type of the function that restores LDTR and TR without the task.
///
/// It is called as [`Leave`] is.
pub type Restore = unsafe extern "C" fn();

impl LazyFsgs {
    /// Makes a reference from a pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a valid `lazy_fsgs`, that only functions of the C header access, for
    /// `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::lazy_fsgs) -> &'a Self {
        // SAFETY: The caller vouches for the pointer; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    /// Makes a valid `lazy_fsgs`, of no CPU. The C code that owns it may set `save` afterwards.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for writes, and be no CPU's. `leave` must do what [`Leave`] says
    /// whenever it is called with this pointer.
    pub unsafe fn init(ptr: *mut bindings::lazy_fsgs, leave: Leave) {
        // SAFETY: The caller vouches for the pointer.
        unsafe {
            ptr.write(bindings::lazy_fsgs {
                task: core::ptr::null_mut(),
                cpu: -1,
                leave: Some(leave),
                save: None,
            })
        }
    }

    /// Returns whether this CPU has them.
    #[inline]
    pub fn are_here(&self, _token: &PreemptDisabled) -> bool {
        // SAFETY: Preemption is disabled, and the pointer is valid.
        unsafe { bindings::lazy_fsgs_are_here(self.0.get()) }
    }

    /// Defers their restore on this CPU when the current task is scheduled out.
    ///
    /// With `saved`, memory has all that is in the registers. With `restore`, LDTR and TR may hold
    /// a guest's.
    ///
    /// # Safety
    ///
    /// - They must be of no CPU.
    /// - The current task must be a user task whose thread holds its FS and GS. DS and ES must be
    ///   its own, and so must LDTR and TR without `restore`.
    /// - With `restore`, interrupts must use no stacks of the TSS.
    /// - `user_return_notifier_enable()` must have been called, and not undone before all CPUs have
    ///   restored theirs.
    /// - They must be cancelled or taken before they are freed, and before the task runs in user
    ///   mode or exits.
    #[inline]
    pub unsafe fn defer(&self, _token: &PreemptDisabled, saved: bool, restore: Option<Restore>) {
        // SAFETY: The caller vouches for the state; preemption is disabled.
        unsafe { bindings::lazy_fsgs_defer(self.0.get(), saved, restore) };
    }

    /// Notes that the registers are about to change, so that memory does not have all any more.
    #[inline]
    pub fn unsave(&self, token: &PreemptDisabled) {
        if self.are_here(token) {
            // SAFETY: Preemption is disabled. Only the owner of these cares.
            unsafe { bindings::lazy_fsgs_unsave() };
        }
    }

    /// Lets `__switch_to()` switch them again.
    ///
    /// # Safety
    ///
    /// This CPU must have them, and the current task be theirs. The registers must hold FS and GS
    /// of the task, or do so before preemption is enabled again.
    #[inline]
    pub unsafe fn cancel(&self, _token: &PreemptDisabled) {
        // SAFETY: The caller vouches for the state; preemption is disabled.
        unsafe { bindings::lazy_fsgs_cancel(self.0.get()) };
    }

    /// Returns the task that deferred them.
    ///
    /// # Safety
    ///
    /// They must be deferred on this CPU, or the current task be theirs, or this be the callback:
    /// otherwise the task may have exited.
    #[inline]
    pub unsafe fn task(&self) -> *mut bindings::task_struct {
        // SAFETY: The pointer is valid. The task changes when they are deferred only.
        unsafe { (*self.0.get()).task }
    }

    /// Takes them from the CPU that has them. Returns whether that was done without the callback.
    ///
    /// # Safety
    ///
    /// The current task must be theirs, or have exited, and interrupts be enabled. If this returns
    /// true, the caller must not take the registers for theirs any more.
    #[inline]
    pub unsafe fn take(&self) -> bool {
        // SAFETY: The pointer is valid, and the caller vouches for the context.
        unsafe { bindings::lazy_fsgs_take(self.0.get()) }
    }
}

/// Returns whether the registers of a CPU hold values that it has to restore some time.
pub fn deferred_on(cpu: CpuId) -> bool {
    // SAFETY: A `CpuId` is in range.
    unsafe { bindings::lazy_fsgs_on_cpu(cpu.as_u32()) }
}

/// Restores the host's on this CPU, if any task has deferred that.
pub fn leave_all(_not_in_nmi: &NotInNmi) {
    // SAFETY: This is not an NMI. Those who defer vouch for their callbacks.
    unsafe { bindings::__leave_lazy_fsgs() };
}
