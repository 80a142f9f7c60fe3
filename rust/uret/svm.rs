// SPDX-License-Identifier: GPL-2.0

//! SVM: which MSRs KVM defers on AMD, and when they change.
//!
//! Most of them are in the VMLOAD/VMSAVE state, with FS, GS, LDTR and TR. All of it stays the
//! guest's after #VMEXIT:
//!
//! - A vCPU enters: VMLOAD, unless this CPU has the vCPU's state already.
//! - It exits: nothing, until KVM reads a register; then VMSAVE.
//! - Its thread is scheduled out for a kernel thread: nothing, see [`crate::fsgs`]. When the CPU
//!   idles: VMSAVE.
//! - It is scheduled out for a user task, or a user task comes later, or the thread leaves KVM_RUN:
//!   VMSAVE, and VMLOAD of the host's state.
//! - It wakes on another CPU, with its state in the VMCB: VMLOAD there, and VMLOAD of the host's
//!   state on the CPU that it has left, before a user task runs there.
//!
//! The other one is TSC_AUX. It changes as the MSRs of VMX do, but not for an SEV-ES guest whose
//! CPU virtualizes it: there #VMEXIT loads the value that KVM, asking the registry, has put into
//! the host save area.

use kernel::{
    bindings,
    define_per_cpu,
    lazy_fsgs::leave_all,
    percpu::PerCpu,
    pr_err_once,
    preempt::{
        IrqsDisabled,
        NotInNmi,
        PreemptDisabled, //
    },
    prelude::*,
    svm::{
        admit_guest,
        is_shutting_down,
        GuestState,
        HostState, //
    },
    warn_on, //
};

use core::ptr::NonNull;

use crate::{
    cpu::Counter,
    fatal,
    fsgs::Fsgs,
    kvm,
    registry::{
        self,
        Setter, //
    },
    trace,
    vmload::{
        Cpu,
        State,
        Vmcb, //
    }, //
};

/// The MSRs, in the order that KVM numbers them.
///
/// Only TSC_AUX is ever set in the registry. VMLOAD loads the others: another owner would take a
/// guest's values for the host's, and lose its own.
const MSRS: [u32; 8] = [
    bindings::MSR_TSC_AUX,
    bindings::MSR_STAR,
    bindings::MSR_LSTAR,
    bindings::MSR_CSTAR,
    bindings::MSR_SYSCALL_MASK,
    bindings::MSR_IA32_SYSENTER_CS,
    bindings::MSR_IA32_SYSENTER_ESP,
    bindings::MSR_IA32_SYSENTER_EIP,
];
const TSC_AUX: usize = 0;

/// Adds them to the registry, and returns how many the CPU has.
pub(crate) fn setup() -> Result<usize> {
    // SAFETY: These matter to user mode only, and KVM sets TSC_AUX to 32-bit values.
    unsafe { kvm::setup(&MSRS) }
}

/// A vCPU is about to enter.
#[inline]
pub(crate) fn switch_to_guest(setter: &Setter<'_>, tsc_aux: u64) {
    // KVM has tried every value when the guest or user space set it.
    let refused = registry::set(setter, kvm::slot(TSC_AUX), tsc_aux, u64::MAX).is_err();

    if cfg!(CONFIG_URET_DEBUG) {
        warn_on!(refused);
    }
}

/// What happened on one CPU.
pub(crate) struct Counts {
    /// The CPU was prepared for a guest's state.
    pub(crate) admitted: Counter,
    /// VMLOAD of a guest's state.
    pub(crate) loaded: Counter,
    /// VMSAVE of a guest's state.
    pub(crate) saved: Counter,
    /// VMLOAD of the host's state.
    pub(crate) to_host: Counter,
    /// A load of a vCPU that is ineligible for deferral.
    pub(crate) refused: Counter,
}

define_per_cpu! {
    static COUNTS: Counts = Counts {
        admitted: Counter::new(),
        loaded: Counter::new(),
        saved: Counter::new(),
        to_host: Counter::new(),
        refused: Counter::new(),
    };
    static HOST: HostState = HostState::new();
}

/// Returns what happened on each CPU.
pub(crate) fn counts() -> PerCpu<Counts> {
    COUNTS
}

impl Vmcb {
    fn from_raw(raw: bindings::uret_vmcb_state) -> Self {
        match raw {
            bindings::uret_vmcb_state_URET_VMCB_NEEDS_VMSAVE => Self::NeedsVmsave,
            bindings::uret_vmcb_state_URET_VMCB_IN_SYNC => Self::InSync,
            _ => Self::NeedsVmload,
        }
    }

    fn into_raw(self) -> bindings::uret_vmcb_state {
        match self {
            Self::NeedsVmload => bindings::uret_vmcb_state_URET_VMCB_NEEDS_VMLOAD,
            Self::InSync => bindings::uret_vmcb_state_URET_VMCB_IN_SYNC,
            Self::NeedsVmsave => bindings::uret_vmcb_state_URET_VMCB_NEEDS_VMSAVE,
        }
    }
}

/// The VMLOAD/VMSAVE state of one vCPU.
#[derive(Clone, Copy)]
pub(crate) struct Vmload<'a> {
    raw: *mut bindings::uret_svm,
    fsgs: Fsgs<'a>,
    guest: GuestState,
}

impl Vmload<'_> {
    /// # Safety
    ///
    /// `raw` must be one that [`init()`] has made, valid for `'a`, and used by the vCPU's thread,
    /// or by the CPU that has its state, only.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut bindings::uret_svm) -> Self {
        // SAFETY: By the safety requirements of this function.
        unsafe {
            Self {
                raw,
                fsgs: Fsgs::from_raw((*raw).fsgs),
                guest: GuestState::new((*raw).vmcb, (*raw).vmcb_pa as usize),
            }
        }
    }

    /// Changes the state by a rule, on this CPU.
    #[inline]
    fn change<R>(self, irqs: &IrqsDisabled, f: impl FnOnce(&mut State, &ThisCpu<'_>) -> R) -> R {
        let cpu = ThisCpu { irqs, vmload: self };

        // SAFETY: No other code uses it while interrupts are disabled.
        unsafe { self.change_unlocked(|state| f(state, &cpu)) }
    }

    /// # Safety
    ///
    /// No other code may use the state meanwhile.
    #[inline]
    unsafe fn change_unlocked<R>(self, f: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: It is valid, and the caller vouches that this is the only reference.
        let raw = unsafe { &mut *self.raw };
        let mut state = State {
            vmcb: Vmcb::from_raw(raw.state),
            live: raw.live,
        };
        let result = f(&mut state);

        raw.state = state.vmcb.into_raw();
        raw.live = state.live;
        result
    }

    /// VMRUN comes next. Returns whether VMLOAD has to come before it.
    ///
    /// # Safety
    ///
    /// As `uret_svm_enter()`: GSBASE must be exchanged around VMRUN, the thread struct must hold FS
    /// and GS, and the thread must leave, or be taken, before it runs in user mode.
    #[inline]
    pub(crate) unsafe fn enter(self, irqs: &IrqsDisabled) -> bool {
        // Memory does not have all after VMRUN.
        self.fsgs.lazy().unsave(irqs);
        // SAFETY: The caller leaves; `__switch_to()` does before other user tasks run.
        let load = self.change(irqs, |state, cpu| unsafe { state.enter(cpu) });

        if load {
            COUNTS.this_cpu(irqs).loaded.inc();
            trace::svm(trace::Svm::Load, self.raw);
        }
        load
    }

    /// Syncs the state to the VMCB. Returns whether the VMCB has all of it.
    #[inline]
    pub(crate) fn sync(self, irqs: &IrqsDisabled) -> bool {
        self.change(irqs, |state, cpu| state.read(cpu)).is_ok()
    }

    /// Syncs the state to the VMCB, and makes the VMCB current.
    #[inline]
    pub(crate) fn sync_for_write(self, irqs: &IrqsDisabled) {
        let _ = self.change(irqs, |state, cpu| state.write(cpu));
    }

    /// Notes that no CPU has the state.
    ///
    /// # Safety
    ///
    /// It must have been taken from the CPU that had it.
    #[inline]
    pub(crate) unsafe fn taken(self) {
        // SAFETY: It is of no CPU, and the vCPU does not run.
        let refused = unsafe { self.change_unlocked(State::taken) }.is_err();

        // It is marked as saved only when it is.
        warn_on!(refused);
    }

    /// Restores the host's state, if this CPU has the guest's.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::cancel()`](kernel::lazy_fsgs::LazyFsgs::cancel), unless this is the
    /// callback.
    #[inline]
    pub(crate) unsafe fn leave(self, irqs: &IrqsDisabled) {
        // SAFETY: The caller vouches for the context.
        unsafe { self.fsgs.cancel(irqs) };
        must_be_the_hosts(self.change(irqs, |state, cpu| state.leave(cpu)));
    }
}

/// During a reboot SVM may be disabled already, after this CPU has restored the host's state.
#[cold]
fn cannot_save(_: &Error) {
    if !is_shutting_down() {
        pr_err_once!("BUG: VMSAVE has failed\n");
    }
}

/// User mode must not run, and no exception use an interrupt stack, with a guest's TR.
fn must_be_the_hosts(result: Result) {
    if result.is_err() {
        fatal(c"uret: cannot load the host's VMLOAD/VMSAVE state");
    }
}

/// Restores the host's state after another CPU has taken the vCPU whose state this CPU has.
///
/// # Safety
///
/// Interrupts must be disabled, and the caller load the bases of FS and GS afterwards.
unsafe extern "C" fn restore_after_take() {
    // SAFETY: The caller vouches for that.
    let irqs = unsafe { IrqsDisabled::assume_disabled() };

    COUNTS.this_cpu(irqs).to_host.inc();
    trace::svm(trace::Svm::Host, core::ptr::null());
    // SAFETY: The caller loads FS and GS.
    must_be_the_hosts(unsafe { HOST.this_cpu(irqs).restore(irqs, None) });
}

/// Makes that of a new vCPU.
///
/// # Safety
///
/// `raw` must be valid for writes, and the rest as `arch/x86/include/asm/uret_kvm.h` says.
pub(crate) unsafe fn init(
    raw: *mut bindings::uret_svm,
    fsgs: *mut bindings::uret_fsgs,
    vmcb: *mut bindings::vmcb,
    vmcb_pa: c_ulong,
) {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        raw.write(bindings::uret_svm {
            fsgs,
            vmcb,
            vmcb_pa,
            state: State::NEW.vmcb.into_raw(),
            live: State::NEW.live,
        })
    }
}

/// Saves the host's state.
///
/// # Safety
///
/// As for [`kernel::percpu::ThisCpu::<HostState>::save()`].
pub(crate) unsafe fn cpu_up(
    token: &PreemptDisabled,
    vmcb: *mut bindings::vmcb,
    pa: usize,
) -> Result {
    // SAFETY: By the safety requirements of this function.
    unsafe { HOST.this_cpu(token).save(vmcb, pa) }
}

/// Restores the host's state, as long as that is possible.
pub(crate) fn cpu_down(not_in_nmi: &NotInNmi) {
    leave_all(not_in_nmi);
}

/// A vCPU is ineligible for deferral.
pub(crate) fn refuse(token: &PreemptDisabled) {
    COUNTS.this_cpu(token).refused.inc();
}

/// This CPU, with a vCPU's thread on it, or the state that it has left here.
struct ThisCpu<'a> {
    irqs: &'a IrqsDisabled,
    vmload: Vmload<'a>,
}

impl Cpu for ThisCpu<'_> {
    #[inline]
    unsafe fn admit(&self) {
        COUNTS.this_cpu(self.irqs).admitted.inc();
        // SAFETY: KVM exchanges GSBASE, and leaves before the thread returns to user mode;
        // `__switch_to()` does before other user tasks run, and so does a CPU whose vCPU was taken.
        // See `uret_svm_enter()` for the rest.
        unsafe {
            self.vmload.fsgs.defer_tables(self.irqs, restore_after_take);
            admit_guest(self.irqs);
        }
    }

    #[inline]
    fn vmsave(&self) -> Result {
        COUNTS.this_cpu(self.irqs).saved.inc();
        trace::svm(trace::Svm::Save, self.vmload.raw);
        self.vmload.guest.save(self.irqs).inspect_err(cannot_save)
    }

    #[inline]
    fn to_host(&self) -> Result {
        COUNTS.this_cpu(self.irqs).to_host.inc();
        trace::svm(trace::Svm::Host, self.vmload.raw);
        let host = HOST.this_cpu(self.irqs);

        // SAFETY: A vCPU whose state is live has a thread that is in KVM_RUN.
        unsafe { host.restore(self.irqs, NonNull::new(self.vmload.fsgs.lazy().task())) }
    }
}
