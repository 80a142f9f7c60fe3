// SPDX-License-Identifier: GPL-2.0

//! SVM: the MSRs that KVM defers on AMD, and the events that change them.
//!
//! All MSRs except TSC_AUX are in the VMLOAD/VMSAVE state, with FS, GS, LDTR and TR. That state
//! stays the guest's after #VMEXIT:
//!
//! - A vCPU enters: VMLOAD, unless this CPU has the current copy of the state.
//! - The vCPU exits: nothing. When KVM reads a register of the state: VMSAVE.
//! - The thread is scheduled out for a kernel thread: nothing, see [`super::fsgs`]. When the CPU
//!   idles: VMSAVE.
//! - The thread is scheduled out for a user task, or leaves KVM_RUN, or another user task is
//!   switched in later: VMSAVE, and VMLOAD of the host's state.
//! - The thread wakes on another CPU, with the state in the VMCB: VMLOAD there. The CPU that the
//!   thread has left executes VMLOAD of the host's state before a user task runs there.
//!
//! TSC_AUX is set like the MSRs of VMX, except for an SEV-ES guest on a CPU that virtualizes
//! TSC_AUX: there, KVM copies the registry's value to the host save area, and #VMEXIT loads TSC_AUX
//! from the host save area.

use kernel::{
    bindings,
    define_per_cpu,
    percpu::PerCpu,
    pr_err_once,
    preempt::{
        IrqsDisabled,
        NotInNmi,
        PreemptDisabled, //
    },
    prelude::*,
    warn_on,
    x86::{
        lazy_fsgs::flush,
        svm::{
            is_shutting_down,
            prepare_guest_state,
            GuestState,
            HostState, //
        }, //
    }, //
};

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use super::{
    deferral::{
        Deferral,
        Entry, //
    },
    fsgs::Fsgs,
    kvm,
    trace,
    vmload::{
        Cpu,
        State,
        Vmcb, //
    }, //
};
use crate::{
    fatal,
    registry::{
        self,
        cpu::Counter,
        Setter, //
    }, //
};

/// The MSRs, in the order of KVM's numbers.
///
/// KVM sets only TSC_AUX in the registry. VMLOAD loads the other MSRs. KVM owns these, too, as
/// another owner would read a guest's value as the host's.
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

/// Adds the MSRs to the registry, and returns the number that the CPU has.
pub(crate) fn setup() -> Result<usize> {
    // SAFETY: Only user mode can observe these MSRs, and KVM sets TSC_AUX to 32-bit values.
    unsafe { kvm::setup(&MSRS) }
}

/// Sets TSC_AUX of a vCPU that is about to enter.
#[inline]
pub(crate) fn switch_to_guest(setter: &Setter<'_>, tsc_aux: u64) {
    // KVM has tried each value when the guest or user space set it.
    let refused = registry::set(setter, kvm::slot(TSC_AUX), tsc_aux, u64::MAX).is_err();

    if cfg!(CONFIG_URET_DEBUG) {
        warn_on!(refused);
    }
}

/// The counters of one CPU.
pub(crate) struct Counts {
    /// Switches from the host's state to a guest's.
    pub(crate) switched_in: Counter,
    /// VMLOAD of a guest's state.
    pub(crate) loaded: Counter,
    /// VMSAVE of a guest's state.
    pub(crate) saved: Counter,
    /// VMLOAD of the host's state.
    pub(crate) restored: Counter,
    /// Loads of a vCPU that is ineligible for deferral.
    pub(crate) ineligible: Counter,
}

define_per_cpu! {
    static COUNTS: Counts = Counts {
        switched_in: Counter::new(),
        loaded: Counter::new(),
        saved: Counter::new(),
        restored: Counter::new(),
        ineligible: Counter::new(),
    };
    static HOST: HostState = HostState::new();
}

/// Returns the counters of each CPU.
pub(crate) fn counts() -> PerCpu<Counts> {
    COUNTS
}

// `State` and `Deferral` are used in place, in `struct uret_svm`.
const _: () = {
    use bindings::{
        uret_svm,
        uret_svm_deferral as Raw, //
    };
    use core::mem::{
        align_of,
        offset_of,
        size_of, //
    };

    let state = offset_of!(uret_svm, state);

    assert!(align_of::<State>() <= align_of::<u32>());
    assert!(state + offset_of!(State, vmcb) == offset_of!(uret_svm, state));
    assert!(state + offset_of!(State, loaded) == offset_of!(uret_svm, loaded));
    assert!(state + size_of::<State>() <= offset_of!(uret_svm, deferral));
    assert!(Vmcb::NeedsVmload as u32 == bindings::uret_vmcb_state_URET_VMCB_NEEDS_VMLOAD);
    assert!(Vmcb::InSync as u32 == bindings::uret_vmcb_state_URET_VMCB_IN_SYNC);
    assert!(Vmcb::NeedsVmsave as u32 == bindings::uret_vmcb_state_URET_VMCB_NEEDS_VMSAVE);

    assert!(size_of::<Deferral>() == size_of::<Raw>());
    assert!(align_of::<Deferral>() == align_of::<Raw>());
    assert!(offset_of!(Deferral, exits) == offset_of!(Raw, exits));
    assert!(offset_of!(Deferral, entry) == offset_of!(Raw, entry));
    assert!(offset_of!(Deferral, fsgs_saved) == offset_of!(Raw, fsgs_saved));
    assert!(Entry::Never as u32 == bindings::uret_svm_entry_URET_SVM_NEVER);
    assert!(Entry::First as u32 == bindings::uret_svm_entry_URET_SVM_FIRST);
    assert!(Entry::Ineligible as u32 == bindings::uret_svm_entry_URET_SVM_INELIGIBLE);
    assert!(Entry::Deferred as u32 == bindings::uret_svm_entry_URET_SVM_DEFERRED);
};

/// The VMLOAD/VMSAVE state of one vCPU.
///
/// # Invariants
///
/// `raw` is initialized by [`init()`], and valid for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Vmload<'a> {
    raw: *mut bindings::uret_svm,
    lifetime: PhantomData<&'a bindings::uret_svm>,
}

impl<'a> Vmload<'a> {
    /// # Safety
    ///
    /// `raw` must be initialized by [`init()`], and valid for `'a`. Only the thread of the vCPU, or
    /// the CPU that has the state, may use the state.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut bindings::uret_svm) -> Self {
        // INVARIANT: The caller guarantees the pointer.
        Self {
            raw,
            lifetime: PhantomData,
        }
    }

    /// Returns the FS and GS of the vCPU.
    #[inline]
    fn fsgs(self) -> Fsgs<'a> {
        // SAFETY: By the invariant, the pointers are valid, and do not change.
        unsafe { Fsgs::from_raw((*self.raw).fsgs) }
    }

    /// Returns the state in the VMCB.
    #[inline]
    fn guest(self) -> GuestState {
        // SAFETY: By the invariant, the pointers are valid, and do not change.
        unsafe { GuestState::new((*self.raw).vmcb, (*self.raw).vmcb_pa as usize) }
    }

    /// Applies a rule to the state, on this CPU.
    #[inline]
    fn change<R>(self, irqs: &IrqsDisabled, f: impl FnOnce(&mut State, &ThisCpu<'_>) -> R) -> R {
        let cpu = ThisCpu { irqs, vmload: self };

        // SAFETY: No other code uses the state while interrupts are disabled.
        unsafe { self.change_unlocked(|state| f(state, &cpu)) }
    }

    /// # Safety
    ///
    /// No other code may use the state during the call.
    #[inline]
    unsafe fn change_unlocked<R>(self, f: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: The pointer is valid, the layout is the same, and only `init()` and rules write
        // the fields. The caller guarantees that this is the only reference.
        f(unsafe { &mut *(&raw mut (*self.raw).state).cast::<State>() })
    }

    /// Applies a rule to the decision whether the state is deferred.
    ///
    /// # Safety
    ///
    /// The current thread must be the thread of the vCPU.
    #[inline]
    pub(crate) unsafe fn with_deferral<R>(self, f: impl FnOnce(&mut Deferral) -> R) -> R {
        // SAFETY: The pointer is valid, the layout is the same, and only `init()` and rules write
        // the field. No other thread uses the field.
        f(unsafe { &mut *(&raw mut (*self.raw).deferral).cast::<Deferral>() })
    }

    /// Prepares for VMRUN. Returns whether VMLOAD must come first.
    ///
    /// # Safety
    ///
    /// As for `uret_svm_enter()`: the caller must exchange GSBASE around VMRUN, the thread struct
    /// must hold FS and GS, and the state must be restored or taken before the thread runs in user
    /// mode. The current thread must be the thread of the vCPU.
    #[inline]
    pub(crate) unsafe fn enter(self, irqs: &IrqsDisabled) -> bool {
        // SAFETY: The current thread is the thread of the vCPU. Memory lacks values after VMRUN.
        unsafe { self.fsgs().lazy().unsave(irqs) };
        // SAFETY: The caller restores the host's state before the thread runs in user mode, and
        // `__switch_to()` before other user tasks run.
        let load = self.change(irqs, |state, cpu| unsafe { state.enter(cpu) });

        if load {
            COUNTS.this_cpu(irqs).loaded.inc();
            trace::svm(trace::Svm::Load, self.raw);
        }
        load
    }

    /// Syncs the state to the VMCB. Returns whether the VMCB has all of the state.
    #[inline]
    pub(crate) fn sync(self, irqs: &IrqsDisabled) -> bool {
        self.change(irqs, |state, cpu| state.sync(cpu)).is_ok()
    }

    /// Syncs the state to the VMCB, and makes the VMCB current.
    #[inline]
    pub(crate) fn sync_for_write(self, irqs: &IrqsDisabled) {
        let _ = self.change(irqs, |state, cpu| state.sync_for_write(cpu));
    }

    /// Notes that no CPU has the state.
    ///
    /// # Safety
    ///
    /// The state must have been taken from the CPU that had the state.
    #[inline]
    pub(crate) unsafe fn taken(self) {
        // SAFETY: The caller guarantees that no CPU has the state, and the vCPU does not run.
        let refused = unsafe { self.change_unlocked(State::taken) }.is_err();

        // Only a state in the VMCB is marked as saved.
        warn_on!(refused);
    }

    /// Restores the host's state, if this CPU has the guest's.
    ///
    /// # Safety
    ///
    /// As for [`LazyFsgs::cancel()`](kernel::x86::lazy_fsgs::LazyFsgs::cancel), unless the caller
    /// is the callback.
    #[inline]
    pub(crate) unsafe fn restore(self, irqs: &IrqsDisabled) {
        // SAFETY: The caller guarantees the context.
        unsafe { self.fsgs().cancel(irqs) };
        stop_unless_restored(self.change(irqs, |state, cpu| state.restore(cpu)));
    }
}

/// Reports an error of VMSAVE. During a reboot SVM may be disabled, after this CPU has restored the
/// host's state.
#[cold]
fn cannot_save(_: &Error) {
    if !is_shutting_down() {
        pr_err_once!("BUG: VMSAVE has failed\n");
    }
}

/// Stops the machine if the CPU still has a guest's TR: user mode must not run, and exceptions must
/// not use IST stacks.
fn stop_unless_restored(result: Result) {
    if result.is_err() {
        fatal(c"uret: cannot load the host's VMLOAD/VMSAVE state");
    }
}

/// Restores the host's state, if another CPU has taken the vCPU, and this CPU still has the state.
///
/// # Safety
///
/// Interrupts must be disabled, and the caller must load the bases of FS and GS afterwards.
unsafe extern "C" fn restore_after_take() {
    // SAFETY: The caller has disabled interrupts.
    let irqs = unsafe { IrqsDisabled::assume_disabled() };

    COUNTS.this_cpu(irqs).restored.inc();
    trace::svm(trace::Svm::Restore, core::ptr::null());
    // SAFETY: The caller loads FS and GS.
    stop_unless_restored(unsafe { HOST.this_cpu(irqs).restore(irqs, None) });
}

/// Initializes the state of a new vCPU.
///
/// # Safety
///
/// `raw` must be valid for writes, and the other arguments must be as
/// `arch/x86/include/asm/uret_kvm.h` says.
pub(crate) unsafe fn init(
    raw: *mut bindings::uret_svm,
    fsgs: *mut bindings::uret_fsgs,
    vmcb: *mut bindings::vmcb,
    vmcb_pa: c_ulong,
    uret: bool,
) {
    let Deferral {
        exits,
        entry,
        fsgs_saved,
    } = Deferral::new(uret);

    // SAFETY: The caller guarantees the pointer.
    unsafe {
        raw.write(bindings::uret_svm {
            fsgs,
            vmcb,
            vmcb_pa,
            state: State::NEW.vmcb as u32,
            loaded: State::NEW.loaded,
            deferral: bindings::uret_svm_deferral {
                exits,
                entry: entry as u32,
                fsgs_saved,
            },
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
    // SAFETY: The caller guarantees the page and the state of the CPU.
    unsafe { HOST.this_cpu(token).save(vmcb, pa) }
}

/// Restores the host's state while SVM is still enabled.
pub(crate) fn cpu_down(not_in_nmi: &NotInNmi) {
    flush(not_in_nmi);
}

/// Counts a load of a vCPU that is ineligible for deferral.
pub(crate) fn count_ineligible(token: &PreemptDisabled) {
    COUNTS.this_cpu(token).ineligible.inc();
}

/// The current CPU, with the thread or the state of a vCPU.
struct ThisCpu<'a> {
    irqs: &'a IrqsDisabled,
    vmload: Vmload<'a>,
}

impl Cpu for ThisCpu<'_> {
    #[inline]
    unsafe fn switch_in(&self) {
        COUNTS.this_cpu(self.irqs).switched_in.inc();
        // SAFETY: KVM exchanges GSBASE, and restores the host's state before the thread returns to
        // user mode. `__switch_to()` restores before other user tasks run, also after the vCPU was
        // taken from this CPU. The caller of `uret_svm_enter()` guarantees all other requirements.
        unsafe {
            self.vmload
                .fsgs()
                .defer_tables(self.irqs, restore_after_take);
            prepare_guest_state(self.irqs);
        }
    }

    #[inline]
    unsafe fn vmsave(&self) -> Result {
        COUNTS.this_cpu(self.irqs).saved.inc();
        trace::svm(trace::Svm::Save, self.vmload.raw);
        // SAFETY: The caller guarantees that this CPU has the guest's state.
        unsafe { self.vmload.guest().save(self.irqs) }.inspect_err(cannot_save)
    }

    #[inline]
    unsafe fn restore_host(&self) -> Result {
        COUNTS.this_cpu(self.irqs).restored.inc();
        trace::svm(trace::Svm::Restore, self.vmload.raw);
        let host = HOST.this_cpu(self.irqs);

        // SAFETY: The caller guarantees that the guest state is loaded, so that the thread of the
        // vCPU is in KVM_RUN, and alive.
        unsafe { host.restore(self.irqs, NonNull::new(self.vmload.fsgs().lazy().task())) }
    }
}
