// SPDX-License-Identifier: GPL-2.0

//! FS and GS of vCPUs, which are deferred while kernel threads run: on VMX along with the GDT, on
//! SVM with the whole VMLOAD/VMSAVE state.
//!
//! - The thread of a vCPU is scheduled out for a kernel thread or the idle task: defer.
//! - The CPU idles: on SVM, save the registers to memory.
//! - The thread is scheduled in on the same CPU: nothing; the registers are current.
//! - Another user task is switched in: restore the host's.
//! - The CPU goes down: restore the host's.
//! - The vCPU migrates: if memory has all values, the new CPU takes the values, and the old CPU
//!   restores the host's before a user task runs there. Otherwise the old CPU restores the host's
//!   on an IPI.
//! - The thread is scheduled out for a user task, or leaves KVM_RUN: KVM cancels the deferral, and
//!   restores the host's, as stock KVM does.
//!
//! The MSRs of the vCPU stay set along with FS and GS: only a return to user mode restores MSRs,
//! and before that, another user task is switched in, so that FS and GS are restored, too.
//! Operations that restore MSRs for another reason flush FS and GS first, see [`crate::registry`].

use kernel::{
    bindings,
    define_per_cpu,
    percpu::PerCpu,
    preempt::{
        IrqsDisabled,
        PreemptDisabled, //
    },
    x86::lazy_fsgs::{
        LazyFsgs,
        RestoreTables, //
    }, //
};

use super::trace;
use crate::registry::cpu::Counter;

/// The counters of one CPU.
pub(crate) struct Counts {
    /// The thread of a vCPU was scheduled out, and the restore was deferred.
    pub(crate) deferred: Counter,
    /// A vCPU cancelled the deferral.
    pub(crate) cancelled: Counter,
    /// The host's were restored for another user task.
    pub(crate) restored: Counter,
    /// The host's were restored for another reason.
    pub(crate) flushed: Counter,
    /// A vCPU that came to this CPU took FS and GS from another CPU without an IPI.
    pub(crate) taken: Counter,
}

define_per_cpu! {
    static COUNTS: Counts = Counts {
        deferred: Counter::new(),
        cancelled: Counter::new(),
        restored: Counter::new(),
        flushed: Counter::new(),
        taken: Counter::new(),
    };
}

/// Returns the counters of each CPU.
pub(crate) fn counts() -> PerCpu<Counts> {
    COUNTS
}

/// The FS and GS of one vCPU.
#[derive(Clone, Copy)]
pub(crate) struct Fsgs<'a> {
    raw: *mut bindings::uret_fsgs,
    lazy: &'a LazyFsgs,
}

impl Fsgs<'_> {
    /// # Safety
    ///
    /// `raw` must be initialized by [`init()`], and valid for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut bindings::uret_fsgs) -> Self {
        Self {
            raw,
            // SAFETY: The caller guarantees the pointer.
            lazy: unsafe { LazyFsgs::from_raw(&raw mut (*raw).lazy) },
        }
    }

    /// Returns the deferral, which `__switch_to()` ends when another user task is switched in.
    #[inline]
    pub(crate) fn lazy(&self) -> &LazyFsgs {
        self.lazy
    }

    /// Defers the restore when the current task is scheduled out.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::defer()`], but the restore may be deferred here already.
    #[inline]
    pub(crate) unsafe fn defer(self, token: &PreemptDisabled, saved: bool) {
        COUNTS.this_cpu(token).deferred.inc();
        if !self.lazy.are_here(token) {
            // SAFETY: The caller guarantees the registers. The state is free, as KVM takes FS and
            // GS when the vCPU comes to another CPU.
            unsafe { self.lazy.defer(token, saved, None) };
            trace::fsgs(trace::Fsgs::Defer, self.raw);
        }
    }

    /// Defers the restore along with that of LDTR and TR, as the guest's are about to be loaded.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::defer()`], but the restore may be deferred here already.
    #[inline]
    pub(crate) unsafe fn defer_tables(
        self,
        token: &PreemptDisabled,
        restore_tables: RestoreTables,
    ) {
        // SAFETY: Only the current task can have deferred the restore here. The next statement
        // defers again.
        unsafe { self.cancel(token) };
        // SAFETY: The caller guarantees the registers. The state is free now.
        unsafe { self.lazy.defer(token, false, Some(restore_tables)) };
        trace::fsgs(trace::Fsgs::Defer, self.raw);
    }

    /// Cancels the deferral, if FS and GS are deferred here.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::cancel()`].
    #[inline]
    pub(crate) unsafe fn cancel(self, token: &PreemptDisabled) {
        if self.lazy.are_here(token) {
            COUNTS.this_cpu(token).cancelled.inc();
            // SAFETY: FS and GS are deferred here, and the caller guarantees the registers.
            unsafe { self.lazy.cancel(token) };
            trace::fsgs(trace::Fsgs::Cancel, self.raw);
        }
    }

    /// Takes FS and GS from the CPU where the restore is deferred. Returns true if FS and GS were
    /// taken without a call of KVM's callback `to_host`; false if `to_host` was called, or the
    /// restore is deferred on no CPU.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::take()`].
    #[inline]
    pub(crate) unsafe fn take(self, token: &PreemptDisabled) -> bool {
        // SAFETY: The caller guarantees the context.
        let taken = unsafe { self.lazy.take() };

        if taken {
            COUNTS.this_cpu(token).taken.inc();
            trace::fsgs(trace::Fsgs::Take, self.raw);
        }
        taken
    }
}

/// Initializes the FS and GS of a new vCPU.
///
/// # Safety
///
/// `raw` must be valid for writes.
pub(crate) unsafe fn init(raw: *mut bindings::uret_fsgs) {
    // SAFETY: The caller guarantees the pointer.
    unsafe {
        LazyFsgs::init(&raw mut (*raw).lazy, restore);
        (*raw).to_host = None;
    }
}

/// The callback that restores the host's FS and GS.
///
/// # Safety
///
/// `lazy` must be the field of a `uret_fsgs`, and interrupts must be disabled.
unsafe extern "C" fn restore(lazy: *mut bindings::lazy_fsgs, next: *mut bindings::task_struct) {
    let raw = kernel::container_of!(lazy, bindings::uret_fsgs, lazy);
    // SAFETY: Interrupts are disabled.
    let token = unsafe { IrqsDisabled::assume_disabled() };
    let counts = COUNTS.this_cpu(token);
    // SAFETY: Safe in any context.
    let flushed = next == unsafe { bindings::get_current() };

    if flushed {
        counts.flushed.inc();
    } else {
        counts.restored.inc();
    }
    trace::fsgs(
        if flushed {
            trace::Fsgs::Flush
        } else {
            trace::Fsgs::Restore
        },
        raw,
    );
    // SAFETY: The caller guarantees the pointer, and the context of KVM's callback.
    unsafe {
        if let Some(to_host) = (*raw).to_host {
            to_host(raw);
        }
    }
}
