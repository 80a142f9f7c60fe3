// SPDX-License-Identifier: GPL-2.0

//! SVM: which MSRs KVM defers on AMD, and when they change.
//!
//! VMLOAD loads most of them, with FS, GS, LDTR and TR. All of it stays the guest's after #VMEXIT:
//!
//! - A vCPU enters: VMLOAD, unless this CPU has the vCPU's already.
//! - It exits: nothing, until somebody asks for a register; then VMSAVE.
//! - Its thread is scheduled out for a kernel thread: nothing, see [`crate::fsgs`].
//! - That, for a user task, or a user task comes later, or the thread leaves KVM_RUN: VMSAVE, and
//!   VMLOAD of the host's.
//!
//! What is left is TSC_AUX. It changes as the MSRs of VMX do, but not for an SEV-ES guest whose CPU
//! virtualizes it: there #VMEXIT loads the value that KVM, asking the registry, has put into the
//! host save area.

use kernel::{
    bindings,
    define_per_cpu,
    percpu::PerCpu,
    pr_err_once,
    preempt::{
        IrqsDisabled,
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

use crate::{
    cpu::Counter,
    fsgs::{
        self,
        Fsgs, //
    },
    kvm,
    registry,
    trace,
    vmload::{
        Cpu,
        State,
        Vmcb, //
    }, //
};

/// The MSRs, in the order that KVM numbers them.
///
/// Only TSC_AUX is ever set in the registry. VMLOAD loads the others: another user of the registry
/// would take a guest's for the host's, and lose its own.
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
    kvm::setup(&MSRS)
}

/// A vCPU is about to enter.
#[inline]
pub(crate) fn switch_to_guest(token: &PreemptDisabled, tsc_aux: u64) {
    // KVM has tried every value when the guest or user space set it.
    let refused = registry::set(token, kvm::slot(TSC_AUX), tsc_aux, u64::MAX).is_err();

    if cfg!(CONFIG_URET_DEBUG) {
        warn_on!(refused);
    }
}

/// What happened on one CPU.
pub(crate) struct Counts {
    /// A guest's came where the host's was.
    pub(crate) admitted: Counter,
    /// VMLOAD of a guest's.
    pub(crate) loaded: Counter,
    /// VMSAVE of a guest's.
    pub(crate) saved: Counter,
    /// VMLOAD of the host's.
    pub(crate) to_host: Counter,
    /// A vCPU whose state cannot stay.
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

/// What VMLOAD loads, of one vCPU.
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
    /// or by the CPU that is to leave it, only.
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

    /// Changes the state.
    #[inline]
    fn change<R>(self, irqs: &IrqsDisabled, f: impl FnOnce(&mut State, &ThisCpu<'_>) -> R) -> R {
        // SAFETY: It is valid, and nobody else uses it while interrupts are disabled.
        let raw = unsafe { &mut *self.raw };
        let mut state = State {
            vmcb: Vmcb::from_raw(raw.state),
            live: raw.live,
        };
        let result = f(&mut state, &ThisCpu { irqs, vmload: self });

        raw.state = state.vmcb.into_raw();
        raw.live = state.live;
        result
    }

    /// VMRUN comes next. Returns whether VMLOAD has to come before it.
    #[inline]
    pub(crate) fn enter(self, irqs: &IrqsDisabled) -> bool {
        let load = self.change(irqs, |state, cpu| state.enter(cpu));

        if load {
            COUNTS.this_cpu(irqs).loaded.inc();
            trace::svm(trace::Svm::Load, self.raw);
        }
        load
    }

    /// Lets the VMCB have the newest.
    #[inline]
    pub(crate) fn read(self, irqs: &IrqsDisabled) {
        let _ = self.change(irqs, |state, cpu| state.read(cpu));
    }

    /// Lets the VMCB have the newest, and be what counts.
    #[inline]
    pub(crate) fn write(self, irqs: &IrqsDisabled) {
        let _ = self.change(irqs, |state, cpu| state.write(cpu));
    }

    /// Puts back the host's, if the guest's are here.
    #[inline]
    pub(crate) fn leave(self, irqs: &IrqsDisabled) {
        self.fsgs.forget(irqs);
        must_be_the_hosts(self.change(irqs, |state, cpu| state.leave(cpu)));
    }
}

/// During a reboot SVM may be disabled already, after this CPU has got what is the host's.
#[cold]
fn cannot_save(_: &Error) {
    if !is_shutting_down() {
        pr_err_once!("BUG: VMSAVE has failed\n");
    }
}

/// Otherwise nothing but SVM itself gives this CPU back what is the host's, and user mode must not
/// run without it.
fn must_be_the_hosts(result: Result) {
    if result.is_err() && !is_shutting_down() {
        panic!("VMLOAD of the host's state has failed");
    }
}

/// Makes that of a new vCPU.
///
/// # Safety
///
/// `raw` must be valid for writes, and the rest as `include/linux/uret.h` says.
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

/// Saves the host's.
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

/// Puts back the host's, as long as that is possible.
pub(crate) fn cpu_down(token: &PreemptDisabled) {
    fsgs::evict_all(token);
}

/// A vCPU's cannot stay.
pub(crate) fn refuse(token: &PreemptDisabled) {
    COUNTS.this_cpu(token).refused.inc();
}

/// This CPU, with a vCPU's thread on it, or what that has left here.
struct ThisCpu<'a> {
    irqs: &'a IrqsDisabled,
    vmload: Vmload<'a>,
}

impl Cpu for ThisCpu<'_> {
    #[inline]
    fn admit(&self) {
        COUNTS.this_cpu(self.irqs).admitted.inc();
        // SAFETY: KVM keeps GSBASE right, and leaves before the thread is scheduled in elsewhere,
        // and before it returns to user mode; `__switch_to()` does so before other tasks do. See
        // `uret_svm_enter()` for the rest.
        unsafe {
            self.vmload.fsgs.admit(self.irqs);
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

        host.restore(self.irqs, self.vmload.fsgs.lazy())
    }
}
