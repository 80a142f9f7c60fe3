// SPDX-License-Identifier: GPL-2.0

//! FS and GS that stay on a CPU while kernel threads run.
//!
//! A kernel thread has no use for FS and the user's GS, so a CPU that runs nothing else can keep
//! what a task, or the guest of a task, has left there. Here is what the owner of such values
//! says; `__switch_to()` does the rest.
//!
//! ```text
//!              stay()
//!  +-----------+  ------->  +----------+
//!  | of no CPU |            | of CPU n |  while kernel threads run there, and the task itself
//!  +-----------+  <-------  +----------+
//!        ^     forget()         |
//!        +----------------------+
//!         the callback: a user task other than theirs is switched in, or somebody asks for it
//!         by evict() or leave_all()
//! ```
//!
//! C header: [`arch/x86/include/asm/lazy_fsgs.h`](srctree/arch/x86/include/asm/lazy_fsgs.h)

use crate::{
    preempt::PreemptDisabled,
    types::Opaque, //
};

/// A task's FS and GS, which may stay on a CPU, with a callback.
#[repr(transparent)]
pub struct LazyFsgs(Opaque<bindings::lazy_fsgs>);

// SAFETY: What CPUs change without a lock they change atomically.
unsafe impl Sync for LazyFsgs {}

/// The C type of the callback.
///
/// It puts into FS and GS what the task wants, because another one is about to have its own. It is
/// called with interrupts disabled, maybe in the middle of a context switch, so that it may hardly
/// do anything else.
pub type Leave = unsafe extern "C" fn(*mut bindings::lazy_fsgs, *mut bindings::task_struct);

impl LazyFsgs {
    /// Makes a reference from a pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a valid `lazy_fsgs`, that only functions of the C header access, for
    /// `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::lazy_fsgs) -> &'a Self {
        // SAFETY: By the safety requirements of this function; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    /// Makes a valid `lazy_fsgs`, of no CPU.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for writes, and be no CPU's. `leave` must do what [`Leave`] says
    /// whenever it is called with this pointer.
    pub unsafe fn init(ptr: *mut bindings::lazy_fsgs, leave: Leave) {
        // SAFETY: By the safety requirements of this function.
        unsafe {
            ptr.write(bindings::lazy_fsgs {
                task: core::ptr::null_mut(),
                cpu: -1,
                tables: false,
                leave: Some(leave),
            })
        }
    }

    /// Returns whether this CPU has them.
    #[inline]
    pub fn are_here(&self, _token: &PreemptDisabled) -> bool {
        // SAFETY: Preemption is disabled, and the pointer is valid.
        unsafe { bindings::lazy_fsgs_are_here(self.0.get()) }
    }

    /// Lets them stay on this CPU when the current task goes.
    ///
    /// With `tables`, LDTR and TR stay, too.
    ///
    /// # Safety
    ///
    /// - They must be of no CPU.
    /// - The current task must be a user task, its thread must hold what it wants in FS and GS,
    ///   and DS and ES be what it wants, as well as LDTR and TR without `tables`.
    /// - With `tables`, interrupts must use no stacks of the TSS.
    /// - `user_return_enable()` must have been called, and not undone as long as they stay.
    /// - They must be forgotten or evicted before they are freed, and before the task runs in user
    ///   mode or exits.
    #[inline]
    pub unsafe fn stay(&self, _token: &PreemptDisabled, tables: bool) {
        // SAFETY: By the safety requirements of this function; preemption is disabled.
        unsafe { bindings::lazy_fsgs_stay(self.0.get(), tables) };
    }

    /// Lets them be switched as always again.
    ///
    /// # Safety
    ///
    /// This CPU must have them, and this be the task whose they are. It must have what it wants in
    /// FS and GS, or see to that before preemption is enabled again.
    #[inline]
    pub unsafe fn forget(&self, _token: &PreemptDisabled) {
        // SAFETY: By the safety requirements of this function; preemption is disabled.
        unsafe { bindings::lazy_fsgs_forget(self.0.get()) };
    }

    /// Returns the task whose they are, or were last, or null.
    #[inline]
    pub fn task(&self) -> *mut bindings::task_struct {
        // SAFETY: The pointer is valid. The task changes when they stay, and nobody asks meanwhile.
        unsafe { (*self.0.get()).task }
    }

    /// Leaves them on whatever CPU has them.
    ///
    /// To be called by the task whose they are, with interrupts enabled.
    pub fn evict(&self) {
        // SAFETY: The pointer is valid.
        unsafe { bindings::lazy_fsgs_evict(self.0.get()) };
    }
}

/// Leaves those that this CPU has, whosever they are.
pub fn leave_all(_token: &PreemptDisabled) {
    // SAFETY: It may be called from anywhere but from NMIs, where nobody has the token.
    unsafe { bindings::__leave_lazy_fsgs() };
}
