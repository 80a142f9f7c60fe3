// SPDX-License-Identifier: GPL-2.0

//! x86 model-specific registers (MSRs) of this CPU.
//!
//! Each access takes a [`PreemptDisabled`] token: each CPU has MSRs of its own, and a migration
//! between two accesses would access different MSRs.
//!
//! C header: [`arch/x86/include/asm/msr.h`](srctree/arch/x86/include/asm/msr.h)

use crate::{
    error::to_result,
    preempt::PreemptDisabled,
    prelude::*, //
};

/// The number of an MSR, as in `arch/x86/include/asm/msr-index.h`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     preempt::preempt_disable,
///     x86::msr::Msr, //
/// };
///
/// let tsc = Msr::new(0x10);
/// let token = preempt_disable();
/// assert!(tsc.read(&token) <= tsc.read(&token));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Msr(u32);

impl Msr {
    /// Creates an MSR from its number. If the CPU does not have the MSR, accesses fault.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Reads the MSR. If that faults, the kernel warns once and this returns 0.
    #[inline]
    pub fn read(self, _token: &PreemptDisabled) -> u64 {
        // SAFETY: Reading an MSR changes no memory, and a fault is handled.
        unsafe { bindings::rdmsrq(self.0) }
    }

    /// Reads the MSR, or returns [`EIO`] if that faults.
    #[inline]
    pub fn read_safe(self, _token: &PreemptDisabled) -> Result<u64> {
        let mut value = 0;

        // SAFETY: `value` is valid for a write, and a fault is handled.
        to_result(unsafe { bindings::rdmsrq_safe(self.0, &mut value) })?;
        Ok(value)
    }

    /// Writes the MSR. If that faults, the kernel warns once and the MSR keeps its value.
    ///
    /// # Safety
    ///
    /// The kernel must be able to run with `value` in the MSR. If user mode must not run with
    /// `value`, the caller must write another value before the CPU returns to user mode.
    #[inline]
    pub unsafe fn write(self, _token: &PreemptDisabled, value: u64) {
        // SAFETY: The caller guarantees that the kernel can run with `value`; a fault is handled.
        unsafe { bindings::wrmsrq(self.0, value) };
    }

    /// Writes the MSR, or returns [`EIO`] if that faults; the MSR then keeps its value.
    ///
    /// # Safety
    ///
    /// As for [`write()`](Self::write).
    #[inline]
    pub unsafe fn write_safe(self, _token: &PreemptDisabled, value: u64) -> Result {
        // SAFETY: The caller guarantees that the kernel can run with `value`; a fault is handled.
        written(unsafe { bindings::wrmsrq_safe(self.0, value) })
    }

    /// As [`write_safe()`](Self::write_safe), but without the tracepoint `msr:write_msr`.
    ///
    /// For callers that have checked [`writes_are_traced()`].
    ///
    /// # Safety
    ///
    /// As for [`write_safe()`](Self::write_safe).
    #[inline]
    pub unsafe fn write_safe_untraced(self, _token: &PreemptDisabled, value: u64) -> Result {
        // SAFETY: The caller guarantees that the kernel can run with `value`; a fault is handled.
        written(unsafe { bindings::msr_write_safe_untraced(self.0, value) })
    }
}

/// Returns whether the tracepoint of MSR writes is enabled. That may change at any time.
#[inline]
pub fn writes_are_traced() -> bool {
    // SAFETY: The static key of a tracepoint may be queried in any context.
    unsafe { bindings::msr_writes_are_traced() }
}

/// Converts the return value of a helper to a [`Result`]. Inlined, unlike [`to_result()`].
#[inline]
fn written(error: c_int) -> Result {
    match error {
        0 => Ok(()),
        // The helpers return no other error.
        _ => Err(EIO),
    }
}

#[cfg(CONFIG_RUST_MSR_KUNIT_TEST)]
#[macros::kunit_tests(rust_msr)]
mod tests {
    use super::*;
    use crate::preempt::preempt_disable;

    // STAR holds the selectors of SYSCALL and SYSRET. Kernel mode does not use STAR.
    const STAR: Msr = Msr::new(0xc000_0081);
    const TSC: Msr = Msr::new(0x10);

    #[test]
    fn both_forms_of_read_agree() {
        let token = preempt_disable();

        assert!(STAR.read_safe(&token) == Ok(STAR.read(&token)));
    }

    #[test]
    fn the_tsc_advances() {
        let token = preempt_disable();
        let first = TSC.read(&token);

        assert!(TSC.read(&token) >= first);
    }

    #[test]
    fn a_write_is_read_back() {
        let token = preempt_disable();
        let host = STAR.read(&token);
        let other = host ^ (1 << 51);

        // SAFETY: Kernel mode does not use STAR, and `host` is restored below.
        let written = unsafe { STAR.write_safe(&token, other) };
        assert!(written.is_ok() && STAR.read(&token) == other);
        // SAFETY: `host` is the kernel's value of STAR.
        let written = unsafe { STAR.write_safe_untraced(&token, host) };
        assert!(written.is_ok() && STAR.read(&token) == host);
        // SAFETY: Kernel mode does not use STAR, and `host` is restored below.
        let written = unsafe { STAR.write_safe(&token, other) };
        assert!(written.is_ok());
        // SAFETY: `host` is the kernel's value of STAR.
        unsafe { STAR.write(&token, host) };
        assert!(STAR.read(&token) == host);
    }
}
