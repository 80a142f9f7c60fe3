// SPDX-License-Identifier: GPL-2.0

//! Preemption control, and tokens that prove properties of the current context.
//!
//! - [`PreemptDisabled`]: the context cannot be preempted, and stays on its CPU.
//! - [`IrqsDisabled`]: interrupts are disabled in the CPU. Implies [`PreemptDisabled`].
//! - [`NotInNmi`]: the context is not an NMI.
//!
//! C header: [`include/linux/preempt.h`](srctree/include/linux/preempt.h)

use core::ops::Deref;

use crate::{
    cpu::CpuId,
    types::NotThreadSafe, //
};

/// A token that proves that preemption is disabled.
///
/// While a reference to the token exists, code stays on one CPU and must not sleep.
/// [`preempt_disable()`] returns an owned token; the drop of that token enables preemption.
///
/// # Invariants
///
/// Preemption is disabled for as long as an owned token exists, and for the lifetime of each
/// reference that [`PreemptDisabled::assume_disabled()`] has returned.
///
/// # Examples
///
/// ```
/// use kernel::preempt::preempt_disable;
///
/// let token = preempt_disable();
/// let cpu = token.cpu();
/// // The CPU is the same until the token is dropped.
/// assert_eq!(cpu, token.cpu());
/// ```
pub struct PreemptDisabled(NotThreadSafe);

/// Disables preemption until the returned token is dropped.
///
/// May be called from any context. Calls nest.
#[inline]
#[must_use = "preemption is enabled again when the token is dropped"]
pub fn preempt_disable() -> PreemptDisabled {
    // SAFETY: It is always safe to call `preempt_disable()`.
    unsafe { bindings::preempt_disable() };

    // INVARIANT: Preemption was just disabled, and is only enabled again by `drop`.
    PreemptDisabled(NotThreadSafe)
}

impl Drop for PreemptDisabled {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: An owned token is the result of a call of `preempt_disable()`.
        unsafe { bindings::preempt_enable() };
    }
}

impl PreemptDisabled {
    /// Returns a token for a context that is known to run with preemption disabled.
    ///
    /// # Safety
    ///
    /// The current context must not be preemptible for the whole lifetime `'a`: preemption or
    /// interrupts are disabled, or the context is an interrupt.
    #[inline]
    pub unsafe fn assume_disabled<'a>() -> &'a Self {
        // INVARIANT: The caller guarantees the context of each reference that is returned below.
        const TOKEN: &PreemptDisabled = &PreemptDisabled(NotThreadSafe);

        // SAFETY: It is always safe to call `preemptible()`.
        #[cfg(CONFIG_DEBUG_PREEMPT)]
        crate::warn_on!(unsafe { bindings::preemptible() });

        TOKEN
    }

    /// Returns the CPU that this context runs on.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        CpuId::current()
    }
}

/// A token that proves that interrupts are disabled in the CPU. NMIs are possible.
///
/// In contrast to [`LocalInterruptDisabled`](crate::interrupt::LocalInterruptDisabled), the token
/// proves that in kernels without preemption, too. [`irq_save()`] passes a token to its argument.
///
/// # Invariants
///
/// Interrupts are disabled in the CPU for the lifetime of each reference to a token.
pub struct IrqsDisabled(PreemptDisabled);

impl IrqsDisabled {
    /// Returns a token for a context that is known to run with interrupts disabled.
    ///
    /// # Safety
    ///
    /// Interrupts must be disabled in the CPU for the whole lifetime `'a`.
    #[inline]
    pub unsafe fn assume_disabled<'a>() -> &'a Self {
        // INVARIANT: The caller guarantees the context of each reference that is returned below.
        const TOKEN: &IrqsDisabled = &IrqsDisabled(PreemptDisabled(NotThreadSafe));

        // SAFETY: It is always safe to call `lockdep_assert_irqs_disabled()`.
        unsafe { bindings::lockdep_assert_irqs_disabled() };

        TOKEN
    }
}

impl Deref for IrqsDisabled {
    type Target = PreemptDisabled;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Calls `f` with interrupts disabled.
///
/// # Safety
///
/// `f` must not sleep, as another task would run with interrupts enabled.
#[inline]
pub unsafe fn irq_save<R>(f: impl FnOnce(&IrqsDisabled) -> R) -> R {
    // SAFETY: It is always safe to call `local_irq_save()`.
    let flags = unsafe { bindings::local_irq_save() };
    // SAFETY: Interrupts were just disabled, and `f` does not enable them.
    let result = f(unsafe { IrqsDisabled::assume_disabled() });

    // SAFETY: `flags` was saved above.
    unsafe { bindings::local_irq_restore(flags) };
    result
}

/// A token that proves that the current context is not an NMI.
///
/// An NMI can interrupt code that has disabled preemption and interrupts, and the NMI handler can
/// have tokens of the types above. So these tokens do not protect data from NMI handlers.
///
/// # Invariants
///
/// The context that holds a token, or a reference to a token, is not an NMI.
pub struct NotInNmi(NotThreadSafe);

impl NotInNmi {
    /// Returns a token, or [`None`] in an NMI.
    #[inline]
    pub fn new() -> Option<Self> {
        // SAFETY: It is always safe to call `in_nmi()`.
        if unsafe { bindings::in_nmi() } {
            return None;
        }
        // INVARIANT: Just checked. The type is not `Send`, so that the token stays in this context.
        Some(Self(NotThreadSafe))
    }

    /// Returns a token for a context that is known not to be an NMI.
    ///
    /// # Safety
    ///
    /// The current context must not be an NMI.
    #[inline]
    pub unsafe fn assume<'a>() -> &'a Self {
        // INVARIANT: The caller guarantees the context of each reference that is returned below.
        const TOKEN: &NotInNmi = &NotInNmi(NotThreadSafe);

        TOKEN
    }
}

/// Returns whether the caller runs in task context: not in an interrupt, a softirq or an NMI.
#[inline]
pub fn in_task() -> bool {
    // SAFETY: It is always safe to call `in_task()`.
    unsafe { bindings::in_task() }
}

/// Returns whether the caller can be preempted.
#[inline]
pub fn preemptible() -> bool {
    // SAFETY: It is always safe to call `preemptible()`.
    unsafe { bindings::preemptible() }
}
