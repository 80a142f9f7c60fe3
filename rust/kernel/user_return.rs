// SPDX-License-Identifier: GPL-2.0

//! User-return notifiers: callbacks that run when a CPU is about to return to user mode.
//!
//! # Vocabulary
//!
//! - A [`Notifier`] is a static per-CPU variable: each CPU has a notifier, with data.
//! - Each return of a CPU to user mode, in any task, calls the *armed* notifiers of the CPU. A
//!   notifier stays armed until the notifier is *disarmed*.
//! - A notifier is *firing* while the callback runs.
//! - While a [`Registration`] exists, the notifiers of all CPUs can be armed.
//! - While an [`Enabled`] exists, returns to user mode look for notifiers. Each return costs a
//!   compare and a branch.
//!
//! # States of a notifier
//!
//! ```text
//!            Registration::new()         arm()
//!  +--------+  ------------->  +------+  ------>  +-------+  <--+ return to user mode:
//!  | closed |                  | idle |           | armed |     | the callback runs
//!  +--------+  <-------------  +------+  <------  +-------+  ---+
//!      ^       drop                      disarm()     |
//!      +----------------------------------------------+
//!          drop, which disarms by an IPI to the CPU of the notifier
//! ```
//!
//! [`arm()`](ThisCpu::arm) refuses a notifier that is closed ([`ENODEV`]) or armed ([`EBUSY`]).
//! [`arm()`](ThisCpu::arm) and [`disarm()`](ThisCpu::disarm) are methods of [`ThisCpu`], so that
//! only the notifier's CPU can arm or disarm the notifier. In an interrupt, a call that would
//! change the state returns [`EPERM`].
//!
//! # Contexts
//!
//! The callback runs with interrupts disabled and must not sleep.
//!
//! C header: [`include/linux/user-return-notifier.h`](srctree/include/linux/user-return-notifier.h)

use core::ops::Deref;

use crate::{
    container_of,
    cpu::CpuId,
    percpu::{
        PerCpu,
        ThisCpu, //
    },
    preempt::{
        in_task,
        irq_save,
        IrqsDisabled,
        NotInNmi,
        PreemptDisabled, //
    },
    prelude::*,
    smp::{
        call_on_cpu,
        cpus_read_lock, //
    },
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    types::Opaque, //
};

/// The callback of a user-return notifier.
///
/// The implementing type is the data of the notifier of one CPU.
pub trait Callback: Sync + Sized + 'static {
    /// Called just before this CPU returns to user mode.
    ///
    /// Called in task context with interrupts disabled: must not sleep. The task is not
    /// necessarily the task that armed the notifier. The callback may disarm `this`, but no other
    /// notifier.
    fn user_return(this: &Firing<'_, Self>);
}

/// A notifier while the callback is running on this CPU.
///
/// # Invariants
///
/// The callback of the notifier is running in task context on the CPU of the notifier, with
/// interrupts disabled.
pub struct Firing<'a, T: Callback> {
    this: ThisCpu<'a, Notifier<T>>,
}

impl<'a, T: Callback> Deref for Firing<'a, T> {
    type Target = ThisCpu<'a, Notifier<T>>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.this
    }
}

impl<T: Callback> Firing<'_, T> {
    /// Disarms the notifier. Cannot fail, in contrast to [`ThisCpu::disarm()`].
    #[inline]
    pub fn disarm(&self) {
        if self.is_armed() {
            // SAFETY: The notifier is armed. By the type invariants, interrupts are disabled, and
            // the callback that is running is the notifier's own.
            unsafe { self.this.remove() };
        }
    }
}

/// A user-return notifier of one CPU, with the data of the callback.
///
/// # Invariants
///
/// - `urn` is in the list of the notifier's CPU exactly while `armed` is set, except within the
///   functions that change both.
/// - `urn.on_user_return` is [`on_user_return::<T>`] while `open` or `armed` is set.
/// - Only the notifier's CPU changes `armed`, or any CPU while the notifier's CPU is offline.
/// - Only code that creates or drops the [`Registration`] changes `open`. `claimed` of the first
///   CPU is set exactly while a registration exists, is created or is dropped.
pub struct Notifier<T: Callback> {
    urn: Opaque<bindings::user_return_notifier>,
    claimed: Atomic<bool>,
    open: Atomic<bool>,
    armed: Atomic<bool>,
    data: T,
}

// SAFETY: `urn` is only accessed as the type invariants say, and all other fields are `Sync`.
unsafe impl<T: Callback> Sync for Notifier<T> {}

impl<T: Callback> Notifier<T> {
    /// Creates a closed notifier, for use as the initial value of a per-CPU variable.
    pub const fn new(data: T) -> Self {
        // INVARIANT: The notifier is neither open nor armed, and `urn` is in no list.
        Self {
            urn: Opaque::zeroed(),
            claimed: Atomic::new(false),
            open: Atomic::new(false),
            armed: Atomic::new(false),
            data,
        }
    }

    /// Returns whether the notifier is armed.
    ///
    /// On another CPU than the notifier's, the result may be outdated.
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.armed.load(Relaxed)
    }
}

impl<T: Callback> Deref for Notifier<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T: Callback> ThisCpu<'_, Notifier<T>> {
    /// Arms the notifier: each return of this CPU to user mode calls the callback, until the
    /// notifier is disarmed.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`]: the notifier is armed already; or the callback of another notifier is running,
    ///   so that the notifier would miss this return.
    /// - [`ENODEV`]: the notifier has no [`Registration`].
    /// - [`EPERM`]: the context is an interrupt.
    #[inline]
    pub fn arm(&self) -> Result {
        if self.is_armed() {
            return Err(EBUSY);
        }
        if !self.open.load(Acquire) {
            return Err(ENODEV);
        }
        if !in_task() {
            return Err(EPERM);
        }
        if self.another_fires() {
            return Err(EBUSY);
        }
        // SAFETY: The context was just checked. The notifier is open, so that a `Registration`
        // exists, and its drop waits until preemption is enabled.
        unsafe { self.ensure_armed_unchecked() };
        Ok(())
    }

    /// Arms the notifier unless the notifier is armed already, without a check of the context.
    /// Returns true if the notifier was not armed.
    ///
    /// # Safety
    ///
    /// - The context must be task context, outside of the callback of another notifier.
    /// - A [`Registration`] must exist, and must not be dropped before preemption is enabled.
    #[inline(always)]
    pub unsafe fn ensure_armed_unchecked(&self) -> bool {
        if self.is_armed() {
            return false;
        }
        // SAFETY: The caller guarantees that a `Registration` exists, and that the context is not
        // an NMI. By the type invariants, `urn` is initialized and in no list. The notifier is a
        // per-CPU static, and the drop of the `Registration` removes `urn` from the list.
        // Preemption is disabled.
        unsafe { bindings::user_return_notifier_register(self.urn.get()) };
        self.armed.store(true, Relaxed);
        true
    }

    /// Disarms the notifier. Returns whether the notifier was armed.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`]: the callback of another notifier is running, so that the CPU is walking the
    ///   list.
    /// - [`EPERM`]: the context is an interrupt.
    #[inline]
    pub fn disarm(&self) -> Result<bool> {
        if !self.is_armed() {
            return Ok(false);
        }
        if !in_task() {
            return Err(EPERM);
        }
        if self.another_fires() {
            return Err(EBUSY);
        }

        // SAFETY: The closure does not sleep. Interrupts are disabled in the closure, and no
        // callback of another notifier is running, as just checked.
        Ok(unsafe { irq_save(|_| self.remove_if_armed()) })
    }

    /// Disarms the notifier in any context with interrupts disabled. Returns whether the notifier
    /// was armed.
    ///
    /// In the callback of another notifier, does nothing, and returns false.
    #[inline]
    pub fn disarm_irqs_disabled(&self, _irqs: &IrqsDisabled, _not_in_nmi: &NotInNmi) -> bool {
        // SAFETY: Interrupts are disabled, and no callback of another notifier is running.
        !self.another_fires() && unsafe { self.remove_if_armed() }
    }

    /// # Safety
    ///
    /// As for [`remove()`](Self::remove), except that the notifier need not be armed.
    #[inline]
    unsafe fn remove_if_armed(&self) -> bool {
        let armed = self.is_armed();

        if armed {
            // SAFETY: The notifier is armed. The caller guarantees that interrupts are disabled,
            // outside of the callback of another notifier.
            unsafe { self.remove() };
        }
        armed
    }

    /// # Safety
    ///
    /// The notifier must be armed, and interrupts disabled. The context must not be the callback of
    /// another notifier.
    #[inline]
    unsafe fn remove(&self) {
        // SAFETY: By the type invariants, `urn` is in the list of this CPU.
        unsafe { bindings::user_return_notifier_unregister(self.urn.get()) };
        self.armed.store(false, Relaxed);
    }

    /// Returns whether the callback of another notifier is running on this CPU.
    #[inline]
    fn another_fires(&self) -> bool {
        let running = running(self.token());

        !running.is_null() && differ(running, self.urn.get())
    }
}

/// Returns the notifier, of Rust or C code, that is firing on this CPU, or null.
#[inline]
fn running(_token: &PreemptDisabled) -> *mut bindings::user_return_notifier {
    // SAFETY: Preemption is disabled.
    unsafe { bindings::user_return_notifier_running() }
}

/// Returns whether the callback of a notifier is running on this CPU.
#[inline]
pub fn is_firing(token: &PreemptDisabled) -> bool {
    !running(token).is_null()
}

/// Compares notifiers. Out of line, as callers rarely find a notifier that is firing.
#[cold]
#[inline(never)]
fn differ(
    running: *mut bindings::user_return_notifier,
    notifier: *mut bindings::user_return_notifier,
) -> bool {
    running != notifier
}

/// Permission to arm the notifiers of a per-CPU variable.
///
/// The drop disarms the notifiers, by an IPI to each CPU with an armed notifier, so that the code
/// of the callback can be unloaded. The drop may sleep. A module that leaks a registration must not
/// be unloaded.
///
/// # Examples
///
/// ```
/// use kernel::{
///     define_per_cpu,
///     preempt::preempt_disable,
///     prelude::*,
///     sync::atomic::{
///         Atomic,
///         Relaxed, //
///     },
///     user_return::{
///         Callback,
///         Enabled,
///         Firing,
///         Notifier,
///         Registration, //
///     }, //
/// };
///
/// /// Counts the returns to user mode of one CPU.
/// struct Returns(Atomic<u64>);
///
/// impl Callback for Returns {
///     fn user_return(this: &Firing<'_, Self>) {
///         this.0.store(this.0.load(Relaxed).wrapping_add(1), Relaxed);
///     }
/// }
///
/// define_per_cpu! {
///     static RETURNS: Notifier<Returns> = Notifier::new(Returns(Atomic::new(0)));
/// }
///
/// let registration = Registration::new(RETURNS)?;
/// let enabled = Enabled::new();
/// {
///     let token = preempt_disable();
///     let returns = RETURNS.this_cpu(&token);
///
///     returns.arm()?;
///     assert_eq!(returns.arm(), Err(EBUSY));
/// }
/// // On any CPU:
/// drop(registration);
/// drop(enabled);
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// The notifiers of all possible CPUs are open, and this object has claimed the first notifier.
pub struct Registration<T: Callback> {
    notifier: PerCpu<Notifier<T>>,
}

impl<T: Callback> Registration<T> {
    /// Allows the notifiers of a per-CPU variable to be armed.
    ///
    /// # Errors
    ///
    /// [`EBUSY`]: the variable has a registration already.
    pub fn new(notifier: PerCpu<Notifier<T>>) -> Result<Self> {
        // Only `claimed` of the first CPU is used, for all CPUs.
        let (_, first) = notifier.possible_cpus().next().ok_or(ENODEV)?;
        first
            .claimed
            .cmpxchg(false, true, Acquire)
            .map_err(|_| EBUSY)?;

        for (_, this) in notifier.possible_cpus() {
            // SAFETY: `urn` is valid for writes. The notifier is neither open nor armed, so that
            // no other code accesses `urn`.
            unsafe { (*this.urn.get()).on_user_return = Some(on_user_return::<T>) };
            this.open.store(true, Release);
        }

        // INVARIANT: All notifiers were just opened.
        Ok(Self { notifier })
    }
}

impl<T: Callback> Drop for Registration<T> {
    fn drop(&mut self) {
        for (_, this) in self.notifier.possible_cpus() {
            this.open.store(false, Relaxed);
        }
        // Wait for calls that have found the notifier open: preemption is disabled in these calls.
        // SAFETY: The drop runs in task context, and may sleep.
        unsafe { bindings::synchronize_rcu() };

        // No CPU goes online or offline while the lock is held.
        let cpus = cpus_read_lock();
        for (cpu, this) in self
            .notifier
            .possible_cpus()
            .filter(|(_, this)| this.is_armed())
        {
            let notifier = self.notifier;
            let close = move |irqs: &IrqsDisabled| {
                // SAFETY: Interrupts are disabled. Callbacks run with interrupts disabled, so that
                // the IPI has not interrupted a callback.
                unsafe { notifier.this_cpu(irqs).remove_if_armed() };
            };

            if call_on_cpu(cpu, close).is_err() {
                close_offline(cpu, this);
            }
        }
        drop(cpus);

        if let Some((_, first)) = self.notifier.possible_cpus().next() {
            first.claimed.store(false, Release);
        }
    }
}

/// Disarms the armed notifier of a CPU that is, and stays, offline.
fn close_offline<T: Callback>(cpu: CpuId, this: &'static Notifier<T>) {
    // SAFETY: By the type invariants, `urn` is in the list of `cpu`, which is offline.
    unsafe {
        bindings::user_return_notifier_unregister_offline(this.urn.get(), cpu.as_u32() as c_int)
    };
    this.armed.store(false, Relaxed);
}

/// While an object of this type exists, returns to user mode look for notifiers.
///
/// The drop of the last object takes effect ten seconds later.
///
/// # Invariants
///
/// `user_return_notifier_enable()` was called for this object.
pub struct Enabled(());

impl Enabled {
    /// Enables the notifiers. May sleep. The caller must not hold the CPU hotplug lock.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // SAFETY: The caller is in task context.
        unsafe { bindings::user_return_notifier_enable() };
        // INVARIANT: `user_return_notifier_enable()` was just called.
        Self(())
    }
}

impl Drop for Enabled {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, `user_return_notifier_enable()` was called for `self`.
        unsafe { bindings::user_return_notifier_disable() };
    }
}

/// # Safety
///
/// `urn` must be the field of an armed `Notifier<T>` of this CPU, and interrupts must be disabled.
unsafe extern "C" fn on_user_return<T: Callback>(urn: *mut bindings::user_return_notifier) {
    let urn = Opaque::cast_from(urn).cast_mut();
    // SAFETY: The caller guarantees that `urn` is the field of a `Notifier<T>`, which is a static.
    let notifier = unsafe { &*container_of!(urn, Notifier<T>, urn) };
    // INVARIANT: The kernel calls this function in task context, when a CPU returns to user mode,
    // for the notifiers in the list of the CPU.
    let this = Firing {
        // SAFETY: The caller guarantees that the notifier is of this CPU, and that interrupts are
        // disabled.
        this: unsafe { ThisCpu::assume(notifier) },
    };

    T::user_return(&this);
}

/// Calls the notifiers that are armed on this CPU, as a return to user mode does.
///
/// For tests of notifiers.
#[cfg(CONFIG_RUST_USER_RETURN_KUNIT_TEST)]
fn fire(_token: &PreemptDisabled) {
    // SAFETY: The closure does not sleep, and callbacks must not. Interrupts are disabled in the
    // closure, as `call_user_return_notifiers()` requires.
    unsafe {
        irq_save(|_| bindings::call_user_return_notifiers(0));
    }
}

#[cfg(CONFIG_RUST_USER_RETURN_KUNIT_TEST)]
#[macros::kunit_tests(rust_user_return)]
mod tests {
    use super::*;
    use crate::{
        define_per_cpu,
        preempt::preempt_disable, //
    };

    /// The action of a callback, apart from counting the call.
    const COUNT: u32 = 0;
    const DISARM: u32 = 1;
    const DISARM_OTHER: u32 = 2;
    const DISARM_CHECKED: u32 = 3;

    struct Test {
        fired: Atomic<u32>,
        act: Atomic<u32>,
        refused: Atomic<bool>,
    }

    impl Test {
        const fn new() -> Self {
            Self {
                fired: Atomic::new(0),
                act: Atomic::new(COUNT),
                refused: Atomic::new(false),
            }
        }
    }

    impl Callback for Test {
        fn user_return(this: &Firing<'_, Self>) {
            this.fired.store(this.fired.load(Relaxed) + 1, Relaxed);
            match this.act.load(Relaxed) {
                DISARM => {
                    this.disarm();
                    // The second call does nothing.
                    this.disarm();
                    this.refused.store(this.is_armed(), Relaxed);
                }
                // The checked method is allowed in the notifier's own callback, too.
                DISARM_CHECKED => {
                    let disarmed = TEST.this_cpu(this.token()).disarm() == Ok(true);
                    this.refused.store(!disarmed, Relaxed);
                }
                DISARM_OTHER => {
                    let (other, idle) = (
                        OTHER.this_cpu(this.token()),
                        IDLE_ONE.this_cpu(this.token()),
                    );
                    let refused = other.disarm() == Err(EBUSY) && idle.arm() == Err(EBUSY);
                    this.refused.store(refused, Relaxed);
                }
                _ => {}
            }
        }
    }

    define_per_cpu! {
        static TEST: Notifier<Test> = Notifier::new(Test::new());
        static OTHER: Notifier<Test> = Notifier::new(Test::new());
        static IDLE_ONE: Notifier<Test> = Notifier::new(Test::new());
    }

    #[test]
    fn a_closed_notifier_is_refused() {
        let token = preempt_disable();

        assert!(TEST.this_cpu(&token).arm() == Err(ENODEV));
        assert!(TEST.this_cpu(&token).disarm() == Ok(false));
    }

    #[test]
    fn a_second_registration_is_refused() -> Result {
        let first = Registration::new(TEST)?;

        assert!(Registration::new(TEST).err() == Some(EBUSY));
        drop(first);
        drop(Registration::new(TEST)?);
        Ok(())
    }

    #[test]
    fn a_second_arm_is_refused() -> Result {
        let _registration = Registration::new(TEST)?;
        let token = preempt_disable();
        let test = TEST.this_cpu(&token);

        test.arm()?;
        assert!(test.arm() == Err(EBUSY));
        assert!(test.disarm() == Ok(true));
        assert!(test.disarm() == Ok(false));
        Ok(())
    }

    #[test]
    fn notifier_fires_once_per_return_until_disarmed() -> Result {
        let _enabled = Enabled::new();
        let _registration = Registration::new(TEST)?;
        let token = preempt_disable();
        let test = TEST.this_cpu(&token);
        test.fired.store(0, Relaxed);
        test.act.store(COUNT, Relaxed);

        fire(&token);
        assert!(test.fired.load(Relaxed) == 0);
        test.arm()?;
        fire(&token);
        fire(&token);
        assert!(test.fired.load(Relaxed) == 2);
        for (round, act) in [(3, DISARM), (4, DISARM_CHECKED)] {
            test.act.store(act, Relaxed);
            fire(&token);
            fire(&token);
            assert!(test.fired.load(Relaxed) == round);
            assert!(!test.refused.load(Relaxed));
            assert!(!test.is_armed());
            test.arm()?;
        }
        Ok(())
    }

    #[test]
    fn a_callback_cannot_arm_or_disarm_another() -> Result {
        let _enabled = Enabled::new();
        let _test = Registration::new(TEST)?;
        let _other = Registration::new(OTHER)?;
        let _idle = Registration::new(IDLE_ONE)?;
        let token = preempt_disable();
        let (test, other) = (TEST.this_cpu(&token), OTHER.this_cpu(&token));
        test.act.store(DISARM_OTHER, Relaxed);
        other.fired.store(0, Relaxed);

        // The list is last in, first out: `test` fires first, `other` second.
        other.arm()?;
        test.arm()?;
        fire(&token);
        assert!(test.refused.load(Relaxed));
        assert!(other.fired.load(Relaxed) == 1);
        Ok(())
    }

    #[test]
    fn drop_disarms() -> Result {
        let registration = Registration::new(TEST)?;
        {
            let token = preempt_disable();

            TEST.this_cpu(&token).arm()?;
        }
        drop(registration);
        for (_, test) in TEST.possible_cpus() {
            assert!(!test.is_armed());
        }
        let token = preempt_disable();
        assert!(TEST.this_cpu(&token).arm() == Err(ENODEV));
        Ok(())
    }
}
