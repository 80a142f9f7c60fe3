// SPDX-License-Identifier: GPL-2.0

//! x86 model-specific registers (MSRs) of this CPU.
//!
//! Every access takes a [`PreemptDisabled`] token: an MSR belongs to a CPU, and a value that was
//! read before a migration says nothing about the CPU after it.
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
///     msr::Msr,
///     preempt::preempt_disable, //
/// };
///
/// let tsc = Msr::new(0x10);
/// let token = preempt_disable();
/// assert!(tsc.read(&token) <= tsc.read(&token));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Msr(u32);

impl Msr {
    /// Names an MSR; whether the CPU has it, the first access tells.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Returns the number of the MSR.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
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
    /// The kernel must be able to run on with `value` in this MSR.
    #[inline]
    pub unsafe fn write(self, _token: &PreemptDisabled, value: u64) {
        // SAFETY: By the safety requirements of this function; a fault is handled.
        unsafe { bindings::wrmsrq(self.0, value) };
    }

    /// Writes the MSR, or returns [`EIO`] if that faults; the MSR then keeps its value.
    ///
    /// # Safety
    ///
    /// The kernel must be able to run on with `value` in this MSR.
    #[inline]
    pub unsafe fn write_safe(self, _token: &PreemptDisabled, value: u64) -> Result {
        // SAFETY: By the safety requirements of this function; a fault is handled.
        written(unsafe { bindings::wrmsrq_safe(self.0, value) })
    }
}

/// An MSR that the kernel itself does not depend on while it runs.
///
/// The values of such an MSR matter to user mode, or at the border to it, as those of the SYSCALL
/// MSRs and of TSC_AUX. Writing it is safe as far as the kernel is concerned; that the right value
/// is back before this CPU returns to user mode is what the maker of the object has promised.
///
/// # Invariants
///
/// The kernel can run on with any value in this MSR that is written through an object of this type,
/// until it returns to user mode, and the right value is back by then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserMsr(Msr);

impl UserMsr {
    /// Asserts that an MSR is of this kind.
    ///
    /// # Safety
    ///
    /// - Until it returns to user mode, the kernel must be able to run with any value in this MSR
    ///   that will be written through the returned object.
    /// - Whoever writes through it must see to it that the right value is back by then.
    #[inline]
    pub const unsafe fn new(msr: Msr) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(msr)
    }

    /// Returns the MSR.
    #[inline]
    pub const fn msr(self) -> Msr {
        self.0
    }

    /// Writes the MSR, or returns [`EIO`] if that faults; the MSR then keeps its value.
    #[inline]
    pub fn write_safe(self, token: &PreemptDisabled, value: u64) -> Result {
        // SAFETY: By the type invariants.
        unsafe { self.0.write_safe(token, value) }
    }

    /// As [`write_safe()`](Self::write_safe), but the tracepoint `msr:write_msr` does not see it.
    ///
    /// For loops that have asked [`writes_are_traced()`] before.
    #[inline]
    pub fn write_safe_untraced(self, _token: &PreemptDisabled, value: u64) -> Result {
        // SAFETY: By the type invariants.
        written(unsafe { bindings::msr_write_safe_untraced(self.0 .0, value) })
    }
}

/// Returns whether somebody traces the writes of MSRs. That may change at any time.
#[inline]
pub fn writes_are_traced() -> bool {
    // SAFETY: It is always safe to ask.
    unsafe { bindings::msr_writes_are_traced() }
}

/// Makes a [`Result`] of what a helper that writes returns. Inlined, unlike [`to_result()`].
#[inline]
fn written(error: c_int) -> Result {
    match error {
        0 => Ok(()),
        // They know no other error.
        _ => Err(EIO),
    }
}

#[cfg(CONFIG_RUST_MSR_KUNIT_TEST)]
#[macros::kunit_tests(rust_msr)]
mod tests {
    use super::*;
    use crate::preempt::preempt_disable;

    // STAR holds the selectors of SYSCALL and SYSRET: read by no one in kernel mode.
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
        // SAFETY: Nothing in kernel mode uses STAR, and it is put back before preemption is on.
        let star = unsafe { UserMsr::new(STAR) };

        assert!(star.write_safe(&token, other).is_ok());
        assert!(star.msr().read(&token) == other);
        assert!(star.write_safe_untraced(&token, host).is_ok());
        assert!(star.msr().read(&token) == host);
        assert!(star.write_safe(&token, other).is_ok());
        // SAFETY: This is the value that the kernel had there.
        unsafe { STAR.write(&token, host) };
        assert!(STAR.read(&token) == host);
    }
}
