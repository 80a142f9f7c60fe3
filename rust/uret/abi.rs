// SPDX-License-Identifier: GPL-2.0

//! The C interface of the registry, documented in `include/linux/uret.h`. bindgen checks the
//! prototypes.
//!
//! All functions are `unsafe`, as `#[export]` requires the types that bindgen generates. The header
//! documents the contexts, and the values that a caller must guarantee.

use kernel::{
    bindings,
    error::from_result,
    preempt::{
        preempt_disable,
        PreemptDisabled, //
    },
    prelude::*, //
};

use crate::registry::{
    self,
    slots::Owner,
    Setter, //
};

#[inline]
pub(crate) fn status(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

pub(crate) fn number(result: Result<usize>) -> c_int {
    from_result(|| Ok(result? as c_int))
}

/// # Safety
///
/// Preemption must stay disabled for as long as the token is in use.
#[inline(always)]
pub(crate) unsafe fn callers_token<'a>() -> &'a PreemptDisabled {
    // SAFETY: The caller guarantees that preemption is disabled.
    unsafe { PreemptDisabled::assume_disabled() }
}

/// # Safety
///
/// The kernel must be able to run with each value that `owner` will set `msr` to.
#[export]
unsafe extern "C" fn uret_add(owner: *const c_void, msr: u32) -> c_int {
    number(Owner::new(owner.addr()).and_then(|owner| {
        registry::check_initialized()?;
        registry::get_user();
        // SAFETY: The caller guarantees the values.
        unsafe { registry::add(owner, msr) }
            .map(|slot| slot.index())
            // SAFETY: Undoes `get_user()` above. The slot was not added.
            .inspect_err(|_| unsafe { registry::put_user() })
    }))
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_del(owner: *const c_void) {
    if let Ok(owner) = Owner::new(owner.addr()) {
        for _ in 0..registry::del(owner) {
            // SAFETY: Undoes the `get_user()` of `uret_add()` for a slot that was removed.
            unsafe { registry::put_user() };
        }
    }
}

/// # Safety
///
/// No requirement.
#[export]
unsafe extern "C" fn uret_find(msr: u32) -> c_int {
    let slot = registry::find(msr);

    number(slot.map(|slot| slot.index()).ok_or(ENOENT))
}

/// # Safety
///
/// No requirement: the context is checked.
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
        // SAFETY: The caller guarantees the pointer.
        registry::set_values(setter, unsafe { &*values })
    }))
}

/// # Safety
///
/// Preemption must be disabled, and `value` be valid for a write.
#[export]
unsafe extern "C" fn uret_get(slot: c_uint, value: *mut u64) -> c_int {
    // SAFETY: The caller has disabled preemption.
    let token = unsafe { callers_token() };

    status(registry::get(token, slot as usize).map(|current| {
        // SAFETY: The caller guarantees the pointer.
        unsafe { *value = current }
    }))
}

/// # Safety
///
/// No requirement but the context.
#[export]
unsafe extern "C" fn uret_drop(owner: *const c_void) {
    if let Ok(owner) = Owner::new(owner.addr()) {
        registry::drop_owner(&preempt_disable(), owner);
    }
}

/// # Safety
///
/// No requirement.
#[export]
unsafe extern "C" fn uret_read_host(owner: *const c_void) -> c_int {
    let token = preempt_disable();

    status(Owner::new(owner.addr()).and_then(|owner| registry::read_host(&token, owner)))
}
