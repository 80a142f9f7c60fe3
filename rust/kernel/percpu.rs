// SPDX-License-Identifier: GPL-2.0

//! Static per-CPU variables.
//!
//! [`define_per_cpu!`](crate::define_per_cpu) corresponds to `DEFINE_PER_CPU` of C. The type of the
//! variable must be [`Sync`], because interrupts on this CPU and code on other CPUs may hold
//! references at the same time. Each CPU's copy starts as a bitwise copy of the initial value, so
//! that the initial value must not contain its own address. Relaxed loads and stores of an
//! [`Atomic`](crate::sync::atomic::Atomic) compile to the plain loads and stores that C uses.
//!
//! C header: [`include/linux/percpu-defs.h`](srctree/include/linux/percpu-defs.h)

use core::ops::Deref;

use crate::{
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    preempt::PreemptDisabled,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::NotThreadSafe, //
};

/// A handle to a static per-CPU variable.
///
/// Only [`define_per_cpu!`](crate::define_per_cpu) creates handles.
///
/// # Invariants
///
/// `template` is the address of a static in the section of per-CPU variables.
pub struct PerCpu<T: Sync + 'static> {
    // A pointer, not a reference: with SMP, only the copies of the CPUs are mapped.
    template: *const T,
}

// SAFETY: A handle is only an address, and `T: Sync` allows access to the copies from each CPU.
unsafe impl<T: Sync> Send for PerCpu<T> {}
// SAFETY: A reference to a handle allows no more than a copy of the handle does.
unsafe impl<T: Sync> Sync for PerCpu<T> {}

impl<T: Sync> Clone for PerCpu<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Sync> Copy for PerCpu<T> {}

impl<T: Sync> PerCpu<T> {
    /// Creates a handle from the address of a per-CPU static.
    ///
    /// # Safety
    ///
    /// `template` must be the address of a static in the section of per-CPU variables.
    #[doc(hidden)]
    pub const unsafe fn from_template(template: *const T) -> Self {
        // INVARIANT: The caller guarantees that `template` is the address of such a static.
        Self { template }
    }

    /// Returns the variable of this CPU.
    #[inline]
    pub fn this_cpu<'a>(self, _token: &'a PreemptDisabled) -> ThisCpu<'a, T> {
        // SAFETY: By the type invariants, each possible CPU has a copy, which lives as long as the
        // static. `T: Sync` allows shared references from each CPU.
        let var = unsafe { &*bindings::raw_cpu_ptr(self.template.cast()).cast::<T>() };

        // INVARIANT: The token proves that the caller stays on this CPU for `'a`.
        ThisCpu {
            var,
            _cpu: NotThreadSafe,
        }
    }

    /// Returns the variable of the CPU `cpu`, or [`None`] if that CPU is not possible.
    pub fn cpu(self, cpu: CpuId) -> Option<&'static T> {
        // SAFETY: A `CpuId` is in the range of the mask of CPUs.
        if !unsafe { bindings::cpu_possible(cpu.as_u32()) } {
            return None;
        }

        // SAFETY: By the type invariants, each possible CPU has a copy, which lives as long as the
        // static. `T: Sync` allows shared references from each CPU.
        Some(unsafe { &*bindings::per_cpu_ptr(self.template.cast(), cpu.as_u32()).cast::<T>() })
    }

    /// Iterates over the variables of all possible CPUs.
    pub fn possible_cpus(self) -> impl Iterator<Item = (CpuId, &'static T)> {
        (0..nr_cpu_ids())
            .filter_map(CpuId::from_u32)
            .filter_map(move |cpu| Some((cpu, self.cpu(cpu)?)))
    }
}

/// A reference to a per-CPU variable of the CPU that the holder runs on.
///
/// # Invariants
///
/// For `'a`, the holder runs on the CPU that the variable belongs to, and cannot be preempted.
pub struct ThisCpu<'a, T> {
    var: &'a T,
    _cpu: NotThreadSafe,
}

impl<'a, T> ThisCpu<'a, T> {
    /// Wraps a reference that is known to be to the variable of this CPU.
    ///
    /// # Safety
    ///
    /// `var` must be the copy of the current CPU, and the context must not be preemptible for `'a`.
    #[inline]
    pub unsafe fn assume(var: &'a T) -> Self {
        // INVARIANT: The caller guarantees that `var` is the copy of the current CPU, and that the
        // context is not preemptible for `'a`.
        Self {
            var,
            _cpu: NotThreadSafe,
        }
    }

    /// Returns the token for the context of the holder.
    #[inline]
    pub fn token(&self) -> &PreemptDisabled {
        // SAFETY: By the type invariants, the holder cannot be preempted while `self` exists.
        unsafe { PreemptDisabled::assume_disabled() }
    }
}

impl<T> Deref for ThisCpu<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.var
    }
}

/// A bitmap that one CPU changes, in task context and in interrupts, and that any CPU reads.
///
/// A change is atomic with regard to interrupts on that CPU, without a locked instruction.
pub struct LocalMask(Atomic<usize>);

impl LocalMask {
    /// Creates an empty bitmap.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Returns the bits.
    #[inline(always)]
    pub fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Sets bits.
    #[inline(always)]
    pub fn set(&self, bits: usize) {
        // SAFETY: The pointer is valid, and the store of a word does not tear.
        unsafe { bindings::local_mask_set(self.0.as_ptr().cast(), bits) };
    }

    /// Clears bits.
    #[inline(always)]
    pub fn clear(&self, bits: usize) {
        // SAFETY: The pointer is valid, and the store of a word does not tear.
        unsafe { bindings::local_mask_clear(self.0.as_ptr().cast(), bits) };
    }
}

impl Default for LocalMask {
    fn default() -> Self {
        Self::new()
    }
}

/// Defines static per-CPU variables, like `DEFINE_PER_CPU` in C.
///
/// Each name becomes a constant of the type [`PerCpu`](crate::percpu::PerCpu).
///
/// # Examples
///
/// ```
/// use kernel::{
///     define_per_cpu,
///     preempt::preempt_disable,
///     sync::atomic::{
///         Atomic,
///         Relaxed, //
///     }, //
/// };
///
/// define_per_cpu! {
///     /// A counter, which a CPU increments without a locked instruction.
///     static HITS: Atomic<u64> = Atomic::new(0);
/// }
///
/// let token = preempt_disable();
/// let hits = HITS.this_cpu(&token);
/// hits.store(hits.load(Relaxed).wrapping_add(1), Relaxed);
/// assert_eq!(hits.load(Relaxed), 1);
/// ```
#[macro_export]
macro_rules! define_per_cpu {
    ($($(#[$attr:meta])* $vis:vis static $name:ident: $ty:ty = $init:expr;)*) => {$(
        $(#[$attr])*
        $vis const $name: $crate::percpu::PerCpu<$ty> = {
            // Outside of the scope of the static, which the initial value must not refer to.
            const fn initial() -> $ty {
                $init
            }

            {
                // Without SMP, the static itself is the only copy.
                #[cfg_attr(CONFIG_SMP, link_section = ".data..percpu")]
                static TEMPLATE: $ty = initial();

                // SAFETY: `TEMPLATE` is a static in the section of per-CPU variables.
                unsafe { $crate::percpu::PerCpu::from_template(&raw const TEMPLATE) }
            }
        };
    )*};
}

#[cfg(CONFIG_RUST_PERCPU_KUNIT_TEST)]
#[macros::kunit_tests(rust_percpu)]
mod tests {
    use crate::{
        preempt::preempt_disable,
        sync::atomic::{
            Atomic,
            Relaxed, //
        }, //
    };

    #[test]
    fn bits_are_set_and_cleared() {
        let mask = super::LocalMask::new();

        for (set, clear, result) in [(0b11, 0, 0b11), (0b10, 0b01, 0b10), (0, 0b111, 0)] {
            mask.set(set);
            mask.clear(clear);
            assert_eq!(mask.get(), result);
        }
        mask.set(1 << (usize::BITS - 1));
        assert_eq!(mask.get(), 1 << (usize::BITS - 1));
    }

    define_per_cpu! {
        static INITIAL: Atomic<u64> = Atomic::new(42);
        static NUMBER: Atomic<u64> = Atomic::new(0);
    }

    #[test]
    fn every_copy_has_the_initial_value() {
        for (_, var) in INITIAL.possible_cpus() {
            assert_eq!(var.load(Relaxed), 42);
        }
    }

    #[test]
    fn copies_are_distinct() {
        for (cpu, var) in NUMBER.possible_cpus() {
            var.store(u64::from(cpu.as_u32()), Relaxed);
        }
        for (cpu, var) in NUMBER.possible_cpus() {
            assert_eq!(var.load(Relaxed), u64::from(cpu.as_u32()));
        }
    }

    #[test]
    fn this_cpu_is_the_copy_of_this_cpu() {
        let token = preempt_disable();
        let this = NUMBER.this_cpu(&token);

        this.store(u64::MAX, Relaxed);
        let remote = NUMBER.cpu(token.cpu()).map(|var| var.load(Relaxed));
        assert!(remote == Some(u64::MAX));
        assert!(core::ptr::from_ref(this.token()) != core::ptr::null());
    }
}
