// SPDX-License-Identifier: GPL-2.0

//! Running code on other CPUs.
//!
//! C header: [`include/linux/smp.h`](srctree/include/linux/smp.h)

use crate::{
    cpu::CpuId,
    error::to_result,
    preempt::IrqsDisabled,
    prelude::*,
    types::NotThreadSafe, //
};

/// A guard that keeps CPUs from going online or offline.
///
/// # Invariants
///
/// The CPU hotplug lock is held for reading for as long as an object of this type exists.
pub struct CpusReadGuard(NotThreadSafe);

/// Keeps CPUs from going online or offline until the returned guard is dropped. May sleep.
#[must_use = "the lock is released when the guard is dropped"]
pub fn cpus_read_lock() -> CpusReadGuard {
    // SAFETY: It is always safe to call `cpus_read_lock()`.
    unsafe { bindings::cpus_read_lock() };

    // INVARIANT: The lock was just taken, and is only released by `drop`.
    CpusReadGuard(NotThreadSafe)
}

impl Drop for CpusReadGuard {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the lock is held.
        unsafe { bindings::cpus_read_unlock() };
    }
}

/// Runs `f` on the CPU `cpu` by an IPI, with interrupts disabled, and waits for the return of `f`.
///
/// Does not wait for tasks on `cpu`, and sends no IPI if `cpu` is the current CPU. Must be called
/// in task context with interrupts enabled.
///
/// # Errors
///
/// [`ENXIO`]: the CPU is offline. `f` was not called.
pub fn call_on_cpu<F>(cpu: CpuId, f: F) -> Result
where
    F: FnOnce(&IrqsDisabled) + Send,
{
    /// # Safety
    ///
    /// `arg` must point to an `Option<F>` that no other code accesses, and interrupts must be
    /// disabled.
    unsafe extern "C" fn call<F: FnOnce(&IrqsDisabled)>(arg: *mut c_void) {
        // SAFETY: The caller guarantees that `arg` points to an `Option<F>`, and exclusive access.
        let f = unsafe { &mut *arg.cast::<Option<F>>() };

        if let Some(f) = f.take() {
            // SAFETY: The caller guarantees that interrupts are disabled.
            f(unsafe { IrqsDisabled::assume_disabled() });
        }
    }

    let mut f = Some(f);
    let arg = (&raw mut f).cast();

    // SAFETY: `arg` points to an `Option<F>`, which is not accessed here before `call::<F>` has
    // returned. `call::<F>` runs with interrupts disabled. `F: Send` allows the call on another
    // CPU.
    to_result(unsafe {
        bindings::smp_call_function_single(cpu.as_u32() as c_int, Some(call::<F>), arg, true)
    })
}

#[cfg(CONFIG_RUST_PERCPU_KUNIT_TEST)]
#[macros::kunit_tests(rust_smp)]
mod tests {
    use super::*;
    use crate::cpu::nr_cpu_ids;

    #[test]
    fn call_runs_on_the_given_cpu() {
        let _cpus = cpus_read_lock();
        let mut ran = 0;

        for cpu in (0..nr_cpu_ids()).filter_map(CpuId::from_u32) {
            let mut on = None;
            if call_on_cpu(cpu, |irqs| on = Some(irqs.cpu())).is_ok() {
                assert!(on == Some(cpu));
                ran += 1;
            }
        }
        assert!(ran > 0);
    }
}
