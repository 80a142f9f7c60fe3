// SPDX-License-Identifier: GPL-2.0

//! The C interface, documented in `include/linux/uret.h`, whose prototypes bindgen has checked.
//!
//! All functions are `unsafe`, as `#[export]` wants the types that bindgen gives them.

use kernel::{
    bindings,
    error::from_result,
    preempt::{
        irq_save,
        preempt_disable,
        IrqsDisabled,
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
    registry,
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
    // SAFETY: By the safety requirements of this function.
    unsafe { PreemptDisabled::assume_disabled() }
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
        registry::start()?;
        registry::add(owner, msr).inspect_err(|_| registry::stop())
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
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_set(slot: c_uint, value: u64, mask: u64) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let token = unsafe { callers_token() };

    status(registry::set(token, slot as usize, value, mask))
}

/// # Safety
///
/// Preemption must be disabled, and `values` be valid for reads.
#[export]
unsafe extern "C" fn uret_set_values(values: *const bindings::uret_values) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let (token, values) = unsafe { (callers_token(), &*values) };

    status(registry::set_values(token, values))
}

/// # Safety
///
/// Preemption must be disabled, and `value` be valid for a write.
#[export]
unsafe extern "C" fn uret_get(slot: c_uint, value: *mut u64) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let token = unsafe { callers_token() };

    status(registry::get(token, slot as usize).map(|it| {
        // SAFETY: By the safety requirements of this function.
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
unsafe extern "C" fn uret_kvm_start() -> c_int {
    status(registry::start())
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
    // SAFETY: By the safety requirements of this function.
    unsafe { fsgs::init(fsgs) };
}

/// # Safety
///
/// The thread of `fsgs`' vCPU must be about to be scheduled out, between `uret_kvm_start()` and
/// `uret_kvm_stop()`, with `thread.fsbase` and so on saved, and no LDT. When it is scheduled in on
/// another CPU, `fsgs` must be evicted. `fsgs->to_host` must do what the header says.
#[export]
unsafe extern "C" fn uret_fsgs_stay(fsgs: *mut bindings::uret_fsgs) {
    // SAFETY: By the safety requirements of this function.
    unsafe { Fsgs::from_raw(fsgs).stay(callers_token()) };
}

/// # Safety
///
/// This must be the thread of `fsgs`' vCPU, with preemption disabled until it has put back the
/// host's.
#[export]
unsafe extern "C" fn uret_fsgs_forget(fsgs: *mut bindings::uret_fsgs) {
    // SAFETY: By the safety requirements of this function.
    unsafe { Fsgs::from_raw(fsgs).forget(callers_token()) };
}

/// # Safety
///
/// `fsgs` must be initialized.
#[export]
unsafe extern "C" fn uret_fsgs_evict(fsgs: *mut bindings::uret_fsgs) {
    // SAFETY: By the safety requirements of this function.
    unsafe { Fsgs::from_raw(fsgs) }.evict();
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
    // SAFETY: By the safety requirements of this function.
    let (token, values) = unsafe { (callers_token(), &*values) };

    vmx::switch_to_guest(token, values);
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
    // SAFETY: By the safety requirements of this function.
    let token = unsafe { callers_token() };

    svm::switch_to_guest(token, tsc_aux);
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
    // SAFETY: By the safety requirements of this function.
    unsafe { svm::init(svm, fsgs, vmcb, pa) };
}

/// # Safety
///
/// The caller must stay on this CPU, which has what is the host's, and `vmcb` be a page laid out as
/// a VMCB, at `pa`, that nobody else uses until `uret_svm_cpu_down()`.
#[export]
unsafe extern "C" fn uret_svm_cpu_up(vmcb: *mut bindings::vmcb, pa: c_ulong) -> c_int {
    // SAFETY: By the safety requirements of this function.
    status(unsafe { svm::cpu_up(&preempt_disable(), vmcb, pa) })
}

/// # Safety
///
/// Safe to call in the context that the header names.
#[export]
unsafe extern "C" fn uret_svm_cpu_down() {
    svm::cpu_down(&preempt_disable());
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_enter(svm: *mut bindings::uret_svm) -> bool {
    // SAFETY: By the safety requirements of this function.
    let (irqs, svm) = unsafe { (IrqsDisabled::assume_disabled(), Vmload::from_raw(svm)) };

    svm.enter(irqs)
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_read(svm: *mut bindings::uret_svm) {
    // SAFETY: By the safety requirements of this function.
    irq_save(|irqs| unsafe { Vmload::from_raw(svm) }.read(irqs));
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_write(svm: *mut bindings::uret_svm) {
    // SAFETY: By the safety requirements of this function.
    irq_save(|irqs| unsafe { Vmload::from_raw(svm) }.write(irqs));
}

/// # Safety
///
/// As the header says.
#[export]
unsafe extern "C" fn uret_svm_leave(svm: *mut bindings::uret_svm) {
    // SAFETY: By the safety requirements of this function.
    irq_save(|irqs| unsafe { Vmload::from_raw(svm) }.leave(irqs));
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_svm_refuse() {
    // SAFETY: By the safety requirements of this function.
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
    // SAFETY: By the safety requirements of this function.
    kvm::update(unsafe { &mut *values }, index as usize, load, data, mask);
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_kvm_set(index: c_uint, value: u64, mask: u64) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let token = unsafe { callers_token() };

    status(registry::set(token, kvm::slot(index as usize), value, mask))
}

/// # Safety
///
/// Preemption must be disabled.
#[export]
unsafe extern "C" fn uret_kvm_get(index: c_uint) -> u64 {
    // SAFETY: By the safety requirements of this function.
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
    registry::drop_owner(&preempt_disable(), kvm::owner());
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
    registry::cpu_down(&preempt_disable());
}
