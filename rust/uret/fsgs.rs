// SPDX-License-Identifier: GPL-2.0

//! FS, GS and what goes with them of vCPUs, which are deferred while kernel threads run.
//!
//! - A vCPU's thread is scheduled out for a kernel thread or the idle task: they are deferred.
//! - The CPU idles: on SVM, memory gets all that is in the registers only.
//! - The thread is scheduled in again on the same CPU: the registers are right.
//! - Another user task is switched in: the host's are restored first.
//! - The CPU goes down: the host's are restored first.
//! - The vCPU moves to another CPU: if memory has all, it takes them, and the CPU that had them
//!   restores the host's before it runs a user task. Otherwise that CPU restores them on an IPI.
//! - The thread is scheduled out for a user task, or leaves KVM_RUN: KVM cancels the deferral, and
//!   restores the host's, as stock KVM does.
//!
//! The MSRs that the vCPU has set stay along with them: only a return to user mode restores these,
//! before which another user task is switched in, or an operation that restores both, see
//! [`crate::registry`].

use kernel::{
    bindings,
    define_per_cpu,
    lazy_fsgs::{
        LazyFsgs,
        Restore, //
    },
    percpu::PerCpu,
    preempt::{
        IrqsDisabled,
        PreemptDisabled, //
    }, //
};

use crate::{
    cpu::Counter,
    trace, //
};

/// What happened on one CPU.
pub(crate) struct Counts {
    /// A vCPU's thread was scheduled out, and they were deferred.
    pub(crate) stayed: Counter,
    /// A vCPU cancelled that.
    pub(crate) forgotten: Counter,
    /// Another user task was switched in.
    pub(crate) left: Counter,
    /// The vCPU, or the CPU, had to go.
    pub(crate) evicted: Counter,
    /// A vCPU came here, and took them from another CPU without an IPI.
    pub(crate) taken: Counter,
}

define_per_cpu! {
    static COUNTS: Counts = Counts {
        stayed: Counter::new(),
        forgotten: Counter::new(),
        left: Counter::new(),
        evicted: Counter::new(),
        taken: Counter::new(),
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

    /// Returns the entry that `__switch_to()` looks at.
    #[inline]
    pub(crate) fn lazy(&self) -> &LazyFsgs {
        self.lazy
    }

    /// Defers their restore when the current task is scheduled out.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::defer()`], but they may be deferred here already.
    #[inline]
    pub(crate) unsafe fn defer(self, token: &PreemptDisabled, saved: bool) {
        COUNTS.this_cpu(token).stayed.inc();
        if !self.lazy.are_here(token) {
            // SAFETY: The caller vouches for the registers. They are of no CPU: KVM takes them when
            // the vCPU comes to another one.
            unsafe { self.lazy.defer(token, saved, None) };
            trace::fsgs(trace::Fsgs::Stay, self.raw);
        }
    }

    /// Defers them with LDTR and TR, as the guest's come here.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::defer()`], but they may be deferred here already.
    #[inline]
    pub(crate) unsafe fn defer_tables(self, token: &PreemptDisabled, restore: Restore) {
        // SAFETY: If they are here, they are the current task's, and deferred again next.
        unsafe { self.cancel(token) };
        // SAFETY: The caller vouches for the registers. They are of no CPU now.
        unsafe { self.lazy.defer(token, false, Some(restore)) };
        trace::fsgs(trace::Fsgs::Stay, self.raw);
    }

    /// Cancels the deferral, if they are here.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::cancel()`].
    #[inline]
    pub(crate) unsafe fn cancel(self, token: &PreemptDisabled) {
        if self.lazy.are_here(token) {
            COUNTS.this_cpu(token).forgotten.inc();
            // SAFETY: They are here, and the caller vouches for the registers.
            unsafe { self.lazy.cancel(token) };
            trace::fsgs(trace::Fsgs::Forget, self.raw);
        }
    }

    /// Takes them from the CPU that has them, if any. Returns whether that was done without a call
    /// of KVM's function `to_host`.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::take()`].
    #[inline]
    pub(crate) unsafe fn take(self, token: &PreemptDisabled) -> bool {
        // SAFETY: The caller vouches for the context.
        let taken = unsafe { self.lazy.take() };

        if taken {
            COUNTS.this_cpu(token).taken.inc();
            trace::fsgs(trace::Fsgs::Take, self.raw);
        }
        taken
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

/// # Safety
///
/// `lazy` must be that of a `uret_fsgs`, and interrupts be disabled.
unsafe extern "C" fn leave(lazy: *mut bindings::lazy_fsgs, next: *mut bindings::task_struct) {
    let raw = kernel::container_of!(lazy, bindings::uret_fsgs, lazy);
    // SAFETY: Interrupts are disabled.
    let token = unsafe { IrqsDisabled::assume_disabled() };
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
    // SAFETY: The caller vouches for the pointer and the context; KVM's function may be called
    // here.
    unsafe {
        if let Some(to_host) = (*raw).to_host {
            to_host(raw);
        }
    }
}
