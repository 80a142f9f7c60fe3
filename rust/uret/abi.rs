// SPDX-License-Identifier: GPL-2.0

//! The C interface, documented in `include/linux/uret.h` and `arch/x86/include/asm/uret_kvm.h`,
//! whose prototypes bindgen has checked.
//!
//! All functions are `unsafe`, as `#[export]` wants the types that bindgen gives them.

use kernel::{
    bindings,
    error::from_result,
    preempt::{
        irq_save,
        preempt_disable,
        IrqsDisabled,
        NotInNmi,
        PreemptDisabled, //
    },
    prelude::*, //
};

use crate::{
    fsgs::{
        self,
        Fsgs, //
    },
    kvm,
    registry::{
        self,
        Setter, //
    },
    slots::Owner,
    svm::{
        self,
        Vmload, //
    },
    vmx, //
};

/// # Safety
///
/// The caller must have disabled preemption, as the header says, for as long as it uses the token.
#[inline(always)]
unsafe fn callers_token<'a>() -> &'a PreemptDisabled {
    // SAFETY: The caller vouches for that.
    unsafe { PreemptDisabled::assume_disabled() }
}

/// # Safety
///
/// The caller must be in task context with preemption disabled, as the header says, for as long as
/// it uses the proof, and no callback of a notifier.
#[inline(always)]
unsafe fn callers_setter<'a>() -> Setter<'a> {
    // SAFETY: The caller vouches for the context.
    unsafe { Setter::assume(callers_token()) }
}

#[inline]
fn status(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

fn number(result: Result<usize>) -> c_int {
    from_result(|| Ok(result? as c_int))
}

/// # Safety
///
/// The kernel must be able to run with what `owner` will set `msr` to.
#[export]
unsafe extern "C" fn uret_add(owner: *const c_void, msr: u32) -> c_int {
    number(Owner::new(owner.addr()).and_then(|owner| {
        registry::check_ready()?;
        registry::start();
        // SAFETY: The caller vouches for the values.
        unsafe { registry::add(owner, msr) }.inspect_err(|_| registry::stop())
    }))
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_del(owner: *const c_void) {
    if let Ok(owner) = Owner::new(owner.addr()) {
        for _ in 0..registry::del(owner) {
            registry::stop();
        }
    }
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_find(msr: u32) -> c_int {
    number(registry::SLOTS.find(msr).ok_or(ENOENT))
}

/// # Safety
///
/// Safe to call in any context.
#[export]
unsafe extern "C" fn uret_set(slot: c_uint, value: u64, mask: u64) -> c_int {
    status(Setter::check(|setter| {
        registry::set(setter, slot as usize, value, mask)
    }))
}

/// # Safety
///
/// `values` must be valid for reads.
#[export]
unsafe extern "C" fn uret_set_values(values: *const bindings::uret_values) -> c_int {
    status(Setter::check(|setter| {
        // SAFETY: The caller vouches for the pointer.
        registry::set_values(setter, unsafe { &*values })
    }))
}

/// # Safety
///
/// Preemption must be disabled, and `value` be valid for a write.
#[export]
unsafe extern "C" fn uret_get(slot: c_uint, value: *mut u64) -> c_int {
    // SAFETY: The caller vouches for that.
    let token = unsafe { callers_token() };

    status(registry::get(token, slot as usize).map(|it| {
        // SAFETY: The caller vouches for that.
        unsafe { *value = it }
    }))
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_drop(owner: *const c_void) {
    if let Ok(owner) = Owner::new(owner.addr()) {
        registry::drop_owner(&preempt_disable(), owner);
    }
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_read_host(owner: *const c_void) -> c_int {
    let token = preempt_disable();

    status(Owner::new(owner.addr()).and_then(|owner| registry::read_host(&token, owner)))
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_kvm_start() {
    registry::start();
}

/// # Safety
///
/// Must undo a successful `uret_kvm_start()`.
#[export]
unsafe extern "C" fn uret_kvm_stop() {
    registry::stop();
}

/// # Safety
///
/// `fsgs` must be valid for writes.
#[export]
unsafe extern "C" fn uret_fsgs_init(fsgs: *mut bindings::uret_fsgs) {
    // SAFETY: The caller vouches for that.
    unsafe { fsgs::init(fsgs) };
}

/// # Safety
///
/// The thread of `fsgs`' vCPU must be about to be scheduled out, between `uret_kvm_start()` and
/// `uret_kvm_stop()`, with `thread.fsbase` and so on saved, and no LDT. When it is scheduled in on
/// another CPU, `fsgs` must be taken. The functions of `fsgs` must do what the header says.
#[export]
unsafe extern "C" fn uret_fsgs_defer(fsgs: *mut bindings::uret_fsgs, saved: bool) {
    // SAFETY: The caller vouches for the registers.
    unsafe { Fsgs::from_raw(fsgs).defer(callers_token(), saved) };
}

/// # Safety
///
/// This must be the thread of `fsgs`' vCPU, with preemption disabled until it has restored the
/// host's.
#[export]
unsafe extern "C" fn uret_fsgs_cancel(fsgs: *mut bindings::uret_fsgs) {
    // SAFETY: The caller vouches for the registers.
    unsafe { Fsgs::from_raw(fsgs).cancel(callers_token()) };
}

/// # Safety
///
/// `fsgs` must be initialized, and the current thread be that of its vCPU, or the last to use it,
/// with preemption disabled and interrupts enabled.
#[export]
unsafe extern "C" fn uret_fsgs_take(fsgs: *mut bindings::uret_fsgs) -> bool {
    // SAFETY: The caller vouches for the context.
    unsafe { Fsgs::from_raw(fsgs).take(callers_token()) }
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_vmx_setup() -> c_int {
    number(vmx::setup())
}

/// # Safety
///
/// Preemption must be disabled, and `values` be valid for reads.
#[export]
unsafe extern "C" fn uret_vmx_switch_to_guest(values: *const bindings::uret_values) {
    // SAFETY: The caller vouches for the pointer and the context.
    let (setter, values) = unsafe { (callers_setter(), &*values) };

    vmx::switch_to_guest(&setter, values);
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_svm_setup() -> c_int {
    number(svm::setup())
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_svm_switch_to_guest(tsc_aux: u64) {
    // SAFETY: The caller vouches for the context.
    svm::switch_to_guest(unsafe { &callers_setter() }, tsc_aux);
}

/// # Safety
///
/// `svm` must be valid for writes, `fsgs` be initialized, `vmcb` be a VMCB, at `pa`, and both
/// outlive `svm`.
#[export]
unsafe extern "C" fn uret_svm_init(
    svm: *mut bindings::uret_svm,
    fsgs: *mut bindings::uret_fsgs,
    vmcb: *mut bindings::vmcb,
    pa: c_ulong,
) {
    // SAFETY: The caller vouches for that.
    unsafe { svm::init(svm, fsgs, vmcb, pa) };
}

/// # Safety
///
/// The caller must stay on this CPU, which has what is the host's, and `vmcb` be a page laid out as
/// a VMCB, at `pa`, that nobody else uses until `uret_svm_cpu_down()`.
#[export]
unsafe extern "C" fn uret_svm_cpu_up(vmcb: *mut bindings::vmcb, pa: c_ulong) -> c_int {
    // SAFETY: The caller vouches for that.
    status(unsafe { svm::cpu_up(&preempt_disable(), vmcb, pa) })
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_svm_cpu_down() {
    // SAFETY: The caller vouches for the context.
    svm::cpu_down(unsafe { NotInNmi::assume() });
}

/// Calls `f` for a vCPU's state with interrupts disabled.
///
/// # Safety
///
/// As [`Vmload::from_raw()`], and `f` must not sleep.
#[inline]
unsafe fn with_svm<R>(
    svm: *mut bindings::uret_svm,
    f: impl FnOnce(Vmload<'_>, &IrqsDisabled) -> R,
) -> R {
    // SAFETY: The caller vouches for the pointer, and for `f`.
    unsafe { irq_save(|irqs| f(Vmload::from_raw(svm), irqs)) }
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_enter(svm: *mut bindings::uret_svm) -> bool {
    // SAFETY: The caller vouches for the context, and leaves in time.
    unsafe { Vmload::from_raw(svm).enter(IrqsDisabled::assume_disabled()) }
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_sync(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller vouches for the pointer.
    unsafe { with_svm(svm, |svm, irqs| svm.sync(irqs)) };
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_sync_for_write(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller vouches for the pointer.
    unsafe { with_svm(svm, |svm, irqs| svm.sync_for_write(irqs)) };
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_save(svm: *mut bindings::uret_svm) -> bool {
    // SAFETY: The caller vouches for the pointer, and has disabled interrupts.
    unsafe { Vmload::from_raw(svm).sync(IrqsDisabled::assume_disabled()) }
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_taken(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller vouches for the pointer, and has taken it.
    unsafe { Vmload::from_raw(svm).taken() };
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_leave(svm: *mut bindings::uret_svm) {
    // SAFETY: The caller vouches for the pointer and the context.
    unsafe { with_svm(svm, |svm, irqs| svm.leave(irqs)) };
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_svm_refuse() {
    // SAFETY: The caller vouches for that.
    svm::refuse(unsafe { callers_token() });
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_kvm_msr(index: c_uint) -> u32 {
    kvm::msr(index as usize)
}

/// # Safety
///
/// `values` must be valid, and nobody else use it meanwhile.
#[export]
unsafe extern "C" fn uret_kvm_update(
    values: *mut bindings::uret_values,
    index: c_uint,
    load: bool,
    data: u64,
    mask: u64,
) {
    // SAFETY: The caller vouches for that.
    kvm::update(unsafe { &mut *values }, index as usize, load, data, mask);
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_kvm_set(index: c_uint, value: u64, mask: u64) -> c_int {
    // SAFETY: The caller vouches for the context.
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
unsafe extern "C" fn uret_kvm_get(index: c_uint) -> u64 {
    // SAFETY: The caller vouches for that.
    let token = unsafe { callers_token() };

    registry::get(token, kvm::slot(index as usize)).unwrap_or(0)
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_kvm_read_host() -> c_int {
    status(registry::read_host(&preempt_disable(), kvm::owner()))
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_kvm_drop() {
    // SAFETY: The caller vouches for the context.
    registry::drop_kvm(
        &preempt_disable(),
        unsafe { NotInNmi::assume() },
        kvm::owner(),
    );
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_kvm_destroy() {
    kvm::destroy();
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_cpu_up() {
    registry::cpu_up(&preempt_disable());
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_cpu_down() {
    // SAFETY: The caller vouches for the context.
    registry::cpu_down(&preempt_disable(), unsafe { NotInNmi::assume() });
}
