// SPDX-License-Identifier: GPL-2.0

//! FS, GS and what goes with them of vCPUs, which stay while kernel threads run.
//!
//! - A vCPU's thread is scheduled out for a kernel thread or the idle task: they stay.
//! - It is scheduled in again on the same CPU: they are right.
//! - Another user task is switched in: the host's are put back first.
//! - The vCPU moves to another CPU, or its CPU goes down: likewise.
//! - The thread is scheduled out for a user task, or leaves KVM_RUN: KVM forgets that they stay,
//!   and puts back the host's, as it always has done.
//!
//! With them stay the MSRs that the vCPU has set: nothing restores these but a return to user mode,
//! before which another user task is switched in, or what evicts both, see [`crate::registry`].

use kernel::{
    bindings,
    define_per_cpu,
    lazy_fsgs::{
        leave_all,
        LazyFsgs, //
    },
    percpu::PerCpu,
    preempt::PreemptDisabled, //
};

use crate::{
    cpu::Counter,
    trace, //
};

/// What happened on one CPU.
pub(crate) struct Counts {
    /// A vCPU's thread was scheduled out, and they stayed.
    pub(crate) stayed: Counter,
    /// A vCPU gave them up.
    pub(crate) forgotten: Counter,
    /// Another user task came.
    pub(crate) left: Counter,
    /// The vCPU, or the CPU, had to go.
    pub(crate) evicted: Counter,
}

define_per_cpu! {
    static COUNTS: Counts = Counts {
        stayed: Counter::new(),
        forgotten: Counter::new(),
        left: Counter::new(),
        evicted: Counter::new(),
    };
}

/// Returns what happened on each CPU.
pub(crate) fn counts() -> PerCpu<Counts> {
    COUNTS
}

/// Those of one vCPU.
#[derive(Clone, Copy)]
pub(crate) struct Fsgs<'a> {
    raw: *mut bindings::uret_fsgs,
    lazy: &'a LazyFsgs,
}

impl Fsgs<'_> {
    /// # Safety
    ///
    /// `raw` must be one that [`init()`] has made, and valid for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut bindings::uret_fsgs) -> Self {
        Self {
            raw,
            // SAFETY: By the safety requirements of this function.
            lazy: unsafe { LazyFsgs::from_raw(&raw mut (*raw).lazy) },
        }
    }

    /// Returns what `__switch_to()` knows of them.
    #[inline]
    pub(crate) fn lazy(&self) -> &LazyFsgs {
        self.lazy
    }

    /// They stay when the current task goes.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::stay()`], but that they may have stayed already.
    #[inline]
    pub(crate) unsafe fn stay(self, token: &PreemptDisabled) {
        COUNTS.this_cpu(token).stayed.inc();
        if !self.lazy.are_here(token) {
            // SAFETY: By the safety requirements of this function. They are of no CPU: KVM evicts
            // them when the vCPU comes to another one.
            unsafe { self.lazy.stay(token, false) };
            trace::fsgs(trace::Fsgs::Stay, self.raw);
        }
    }

    /// The guest's come here, LDTR and TR among them, and stay when the current task goes.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::stay()`], but that they may have stayed here already.
    #[inline]
    pub(crate) unsafe fn admit(self, token: &PreemptDisabled) {
        self.forget(token);
        // SAFETY: By the safety requirements of this function. They are of no CPU now.
        unsafe { self.lazy.stay(token, true) };
        trace::fsgs(trace::Fsgs::Stay, self.raw);
    }

    /// The vCPU gives them up.
    #[inline]
    pub(crate) fn forget(self, token: &PreemptDisabled) {
        if self.lazy.are_here(token) {
            COUNTS.this_cpu(token).forgotten.inc();
            // SAFETY: They are here. KVM calls this on the vCPU's thread, right before it puts back
            // the host's.
            unsafe { self.lazy.forget(token) };
            trace::fsgs(trace::Fsgs::Forget, self.raw);
        }
    }

    /// Puts back the host's, on whatever CPU has them.
    pub(crate) fn evict(self) {
        self.lazy.evict();
    }
}

/// Makes those of a new vCPU.
///
/// # Safety
///
/// `raw` must be valid for writes.
pub(crate) unsafe fn init(raw: *mut bindings::uret_fsgs) {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        LazyFsgs::init(&raw mut (*raw).lazy, leave);
        (*raw).to_host = None;
    }
}

/// Puts back the host's on this CPU, whatever vCPU has left its own here.
pub(crate) fn evict_all(token: &PreemptDisabled) {
    leave_all(token);
}

/// # Safety
///
/// `lazy` must be that of a `uret_fsgs`, and interrupts be disabled.
unsafe extern "C" fn leave(lazy: *mut bindings::lazy_fsgs, next: *mut bindings::task_struct) {
    let raw = kernel::container_of!(lazy, bindings::uret_fsgs, lazy);
    // SAFETY: By the safety requirements of this function.
    let token = unsafe { PreemptDisabled::assume_disabled() };
    let counts = COUNTS.this_cpu(token);
    // SAFETY: It is always safe to ask for the current task.
    let evicted = next == unsafe { bindings::get_current() };

    if evicted {
        counts.evicted.inc();
    } else {
        counts.left.inc();
    }
    trace::fsgs(
        if evicted {
            trace::Fsgs::Evict
        } else {
            trace::Fsgs::Leave
        },
        raw,
    );
    // SAFETY: By the safety requirements of this function; KVM's function may be called here.
    unsafe {
        if let Some(to_host) = (*raw).to_host {
            to_host(raw);
        }
    }
}
