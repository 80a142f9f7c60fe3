// SPDX-License-Identifier: GPL-2.0

//! The C interface for KVM, documented in `arch/x86/include/asm/uret_kvm.h`. bindgen checks the
//! prototypes.

use kernel::{
    bindings,
    preempt::{
        irq_save,
        preempt_disable,
        IrqsDisabled,
        NotInNmi, //
    },
    prelude::*, //
};

use super::{
    deferral::{
        Deferral,
        Entry,
        Facts, //
    },
    fsgs::{
        self,
        Fsgs, //
    },
    kvm,
    svm::{
        self,
        Vmload, //
    },
    vmx, //
};
use crate::{
    abi::{
        callers_token,
        number,
        status, //
    },
    registry::{
        self,
        Setter, //
    }, //
};

/// # Safety
///
/// The context must be task context with preemption disabled, outside of a callback of a notifier,
/// for as long as the proof is in use.
#[inline(always)]
unsafe fn callers_setter<'a>() -> Setter<'a> {
    // SAFETY: The caller guarantees the context.
    unsafe { Setter::assume(callers_token()) }
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_kvm_get() {
    registry::get_user();
}

/// # Safety
///
/// Must undo a successful `uret_kvm_get()`.
#[export]
unsafe extern "C" fn uret_kvm_put() {
    // SAFETY: Undoes `uret_kvm_get()`, and the VM has no vCPU that sets slots.
    unsafe { registry::put_user() };
}

/// # Safety
///
/// `fsgs` must be valid for writes.
#[export]
unsafe extern "C" fn uret_fsgs_init(fsgs: *mut bindings::uret_fsgs) {
    // SAFETY: The caller guarantees the pointer.
    unsafe { fsgs::init(fsgs) };
}

/// # Safety
///
/// The thread of the vCPU of `fsgs` must be about to be scheduled out, between `uret_kvm_get()` and
/// `uret_kvm_put()`, with FS and GS saved in the thread struct, and without an LDT. When the thread
/// is scheduled in on another CPU, `fsgs` must be taken. The callbacks of `fsgs` must be as the
/// header says.
#[export]
unsafe extern "C" fn uret_fsgs_defer(fsgs: *mut bindings::uret_fsgs, saved: bool) {
    // SAFETY: The caller guarantees the registers.
    unsafe { Fsgs::from_raw(fsgs).defer(callers_token(), saved) };
}

/// # Safety
///
/// The current thread must be the thread of the vCPU of `fsgs`, with preemption disabled until the
/// thread has restored the host's FS and GS.
#[export]
unsafe extern "C" fn uret_fsgs_cancel(fsgs: *mut bindings::uret_fsgs) {
    // SAFETY: The caller guarantees the registers.
    unsafe { Fsgs::from_raw(fsgs).cancel(callers_token()) };
}

/// # Safety
///
/// `fsgs` must be initialized. The current thread must be the thread of the vCPU of `fsgs`, or the
/// last user of `fsgs`, with preemption disabled and interrupts enabled.
#[export]
unsafe extern "C" fn uret_fsgs_take(fsgs: *mut bindings::uret_fsgs) -> bool {
    // SAFETY: The caller guarantees the context.
    unsafe { Fsgs::from_raw(fsgs).take(callers_token()) }
}

/// # Safety
///
/// `msrs` must be valid for reads of `nr` numbers of MSRs. Only user mode may be able to observe
/// these MSRs, or the bits that KVM sets.
#[export]
unsafe extern "C" fn uret_vmx_setup(msrs: *const u32, nr: c_uint) -> c_int {
    // SAFETY: The caller guarantees the list, and that only user mode can observe the MSRs.
    number(unsafe { kvm::setup(core::slice::from_raw_parts(msrs, nr as usize)) })
}

/// # Safety
///
/// Preemption must be disabled, and `values` be valid for reads.
#[export]
unsafe extern "C" fn uret_vmx_switch_to_guest(values: *const bindings::uret_values) {
    // SAFETY: The caller guarantees the pointer and the context.
    let (setter, values) = unsafe { (callers_setter(), &*values) };

    vmx::switch_to_guest(&setter, values);
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_svm_setup() -> c_int {
    number(svm::setup())
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_svm_switch_to_guest(tsc_aux: u64) {
    // SAFETY: The caller guarantees the context.
    svm::switch_to_guest(unsafe { &callers_setter() }, tsc_aux);
}

/// # Safety
///
/// `svm` must be valid for writes. `fsgs` must be initialized, and `vmcb` must be a VMCB at the
/// physical address `pa`; both must outlive `svm`.
#[export]
unsafe extern "C" fn uret_svm_init(
    svm: *mut bindings::uret_svm,
    fsgs: *mut bindings::uret_fsgs,
    vmcb: *mut bindings::vmcb,
    pa: c_ulong,
    uret: bool,
) {
    // SAFETY: The caller guarantees the pointers.
    unsafe { svm::init(svm, fsgs, vmcb, pa, uret) };
}

/// Applies a rule that returns whether the vCPU was found ineligible. Returns whether the vCPU
/// enters without deferral.
///
/// # Safety
///
/// `svm` must be initialized. The caller must be the thread of the vCPU, and have disabled
/// preemption.
#[inline]
unsafe fn apply_rule(
    svm: *mut bindings::uret_svm,
    rule: impl FnOnce(&mut Deferral) -> bool,
) -> bool {
    // SAFETY: The caller guarantees the pointer, and is the thread of the vCPU.
    let (ineligible, entry) =
        unsafe { Vmload::from_raw(svm).with_deferral(|deferral| (rule(deferral), deferral.entry)) };

    if ineligible {
        // SAFETY: The caller has disabled preemption.
        svm::count_ineligible(unsafe { callers_token() });
    }
    entry != Entry::Deferred
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_load(svm: *mut bindings::uret_svm, exits: u64) -> bool {
    // SAFETY: The caller guarantees the pointer, and is the thread of the vCPU.
    unsafe { Vmload::from_raw(svm).with_deferral(|deferral| deferral.load(exits)) }
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_decide(
    svm: *mut bindings::uret_svm,
    allowed: bool,
    null_selectors: bool,
) -> bool {
    let facts = Facts {
        allowed,
        null_selectors,
    };

    // SAFETY: The caller guarantees the pointer and the context.
    unsafe { apply_rule(svm, |deferral| deferral.decide(facts)) }
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_reenter(
    svm: *mut bindings::uret_svm,
    exits: u64,
    allowed: bool,
    null_selectors: bool,
) {
    let facts = Facts {
        allowed,
        null_selectors,
    };

    // SAFETY: The caller guarantees the pointer and the context.
    unsafe { apply_rule(svm, |deferral| deferral.reenter(exits, facts)) };
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_ineligible(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller guarantees the pointer and the context.
    unsafe {
        apply_rule(svm, |deferral| {
            deferral.ineligible();
            true
        })
    };
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_put(svm: *mut bindings::uret_svm, scheduled_out: bool) {
    // SAFETY: The caller guarantees the pointer and the context.
    unsafe {
        Vmload::from_raw(svm).with_deferral(|deferral| deferral.put(scheduled_out));
        uret_svm_restore(svm);
    }
}

/// # Safety
///
/// The caller must stay on this CPU, which must have the host's state. `vmcb` must be a page laid
/// out as a VMCB, at the physical address `pa`, that no other code uses until
/// `uret_svm_cpu_down()`.
#[export]
unsafe extern "C" fn uret_svm_cpu_up(vmcb: *mut bindings::vmcb, pa: c_ulong) -> c_int {
    // SAFETY: The caller guarantees the CPU and the page.
    status(unsafe { svm::cpu_up(&preempt_disable(), vmcb, pa) })
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_svm_cpu_down() {
    // SAFETY: The caller guarantees the context.
    svm::cpu_down(unsafe { NotInNmi::assume() });
}

/// Calls `f` for a vCPU's state with interrupts disabled.
///
/// # Safety
///
/// As for [`Vmload::from_raw()`], and `f` must not sleep.
#[inline]
unsafe fn with_svm<R>(
    svm: *mut bindings::uret_svm,
    f: impl FnOnce(Vmload<'_>, &IrqsDisabled) -> R,
) -> R {
    // SAFETY: The caller guarantees the pointer, and for `f`.
    unsafe { irq_save(|irqs| f(Vmload::from_raw(svm), irqs)) }
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_enter(svm: *mut bindings::uret_svm) -> bool {
    // SAFETY: The caller guarantees the context, and restores the host's state before user mode
    // runs.
    unsafe { Vmload::from_raw(svm).enter(IrqsDisabled::assume_disabled()) }
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_sync(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller guarantees the pointer.
    unsafe { with_svm(svm, |svm, irqs| svm.sync(irqs)) };
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_sync_for_write(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller guarantees the pointer.
    unsafe { with_svm(svm, |svm, irqs| svm.sync_for_write(irqs)) };
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_save(svm: *mut bindings::uret_svm) -> bool {
    // SAFETY: The caller guarantees the pointer, and has disabled interrupts.
    unsafe { Vmload::from_raw(svm).sync(IrqsDisabled::assume_disabled()) }
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_taken(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller guarantees the pointer, and has taken the state.
    unsafe { Vmload::from_raw(svm).taken() };
}

/// # Safety
///
/// `svm` must be initialized; the context must be as the header says.
#[export]
unsafe extern "C" fn uret_svm_restore(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller guarantees the pointer and the context.
    unsafe { with_svm(svm, |svm, irqs| svm.restore(irqs)) };
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_kvm_msr(index: c_uint) -> u32 {
    kvm::msr(index as usize)
}

/// # Safety
///
/// `values` must be valid, and no other code may use the values meanwhile.
#[export]
unsafe extern "C" fn uret_kvm_update(
    values: *mut bindings::uret_values,
    index: c_uint,
    load: bool,
    data: u64,
    mask: u64,
) {
    // SAFETY: The caller guarantees the pointer.
    kvm::update(unsafe { &mut *values }, index as usize, load, data, mask);
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_kvm_set(index: c_uint, value: u64, mask: u64) -> c_int {
    // SAFETY: The caller guarantees the context.
    let setter = unsafe { callers_setter() };

    status(registry::set(
        &setter,
        kvm::slot(index as usize),
        value,
        mask,
    ))
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_kvm_value(index: c_uint) -> u64 {
    // SAFETY: The caller has disabled preemption.
    let token = unsafe { callers_token() };

    registry::get(token, kvm::slot(index as usize)).unwrap_or(0)
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_kvm_read_host() -> c_int {
    status(registry::read_host(&preempt_disable(), kvm::owner()))
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_kvm_drop() {
    // SAFETY: The caller guarantees the context.
    registry::drop_owner_and_deferred(
        &preempt_disable(),
        unsafe { NotInNmi::assume() },
        kvm::owner(),
    );
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_kvm_destroy() {
    kvm::destroy();
}
