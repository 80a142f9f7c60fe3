// SPDX-License-Identifier: GPL-2.0

//! User-return notifiers: callbacks that run when a CPU is about to return to user mode.
//!
//! # Vocabulary
//!
//! - A [`Notifier`] is a static per-CPU variable: every CPU has one, with data of its own.
//! - *Armed* is a notifier that the CPU will call. It stays armed, and is called at every return
//!   to user mode, until it is *disarmed*; it belongs to the CPU, not to the task that armed it.
//! - *Firing* is a notifier while its callback runs.
//! - A [`Registration`] allows the notifiers of all CPUs to be armed, for as long as it lives.
//! - [`Enabled`] has returns to user mode look for notifiers, which costs a compare and a branch
//!   for each.
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
//!          drop, which disarms by an IPI to the CPU in question
//! ```
//!
//! [`arm()`](ThisCpu::arm) refuses a notifier that is closed ([`ENODEV`]) or armed ([`EBUSY`]).
//! Both it and [`disarm()`](ThisCpu::disarm) are methods of [`ThisCpu`], so a notifier cannot be
//! armed or disarmed from another CPU, and refuse interrupts ([`EPERM`]).
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
/// The implementing type holds the notifier's data for one CPU.
pub trait Callback: Sync + Sized + 'static {
    /// Called just before this CPU returns to user mode.
    ///
    /// The task that is about to run need not be the one that armed the notifier. The callback
    /// may disarm its own notifier, but no other one. It must not sleep.
    fn user_return(this: &Firing<'_, Self>);
}

/// The notifier whose callback is running on this CPU.
///
/// # Invariants
///
/// The notifier's callback is running, and in task context: from the list of its CPU.
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
    /// Disarms the notifier. That cannot fail here, and needs no checks.
    #[inline]
    pub fn disarm(&self) {
        if self.is_armed() {
            // SAFETY: It is armed, and interrupts are disabled while callbacks run.
            unsafe { self.this.remove() };
        }
    }
}

/// A user-return notifier of one CPU, with the data that its callback works on.
///
/// # Invariants
///
/// - `urn` is in the list of the CPU that the notifier belongs to while `armed` is set, and not
///   otherwise, except in the instant in which [`ThisCpu::arm()`] changes both.
/// - `urn.on_user_return` is [`on_user_return::<T>`] while `open` is set, and while `armed` is.
/// - `armed` changes on the CPU that the notifier belongs to only, or while that CPU is offline.
/// - `open` changes by the owner of the [`Registration`] only. While `claimed` of the first CPU is
///   set, there is one, or it is being dropped.
pub struct Notifier<T: Callback> {
    urn: Opaque<bindings::user_return_notifier>,
    claimed: Atomic<bool>,
    open: Atomic<bool>,
    armed: Atomic<bool>,
    data: T,
}

// SAFETY: `urn` is only touched as the invariants say; the rest is `Sync`.
unsafe impl<T: Callback> Sync for Notifier<T> {}

impl<T: Callback> Notifier<T> {
    /// Makes a closed notifier, for use as the initial value of a per-CPU variable.
    pub const fn new(data: T) -> Self {
        // INVARIANT: It is not open, and `urn` is in no list.
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
    /// Only this CPU can rely on the answer for longer than an instant.
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
    /// Arms the notifier: it is called whenever this CPU returns to user mode, until it is
    /// disarmed.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if it is armed already, or in the callback of another notifier: it would come
    ///   too late for this return.
    /// - [`ENODEV`] if there is no [`Registration`] for it.
    /// - [`EPERM`] in an interrupt.
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
        // SAFETY: Just checked. The drop of the `Registration` that has opened the notifier waits
        // until preemption is enabled.
        unsafe { self.ensure_armed_unchecked() };
        Ok(())
    }

    /// Arms the notifier unless it is armed already, without a check of the context. Returns
    /// whether it was not armed.
    ///
    /// # Safety
    ///
    /// - This must be task context, and not the callback of another notifier.
    /// - There must be a [`Registration`] that is not dropped before preemption is enabled.
    #[inline(always)]
    pub unsafe fn ensure_armed_unchecked(&self) -> bool {
        if self.is_armed() {
            return false;
        }
        // SAFETY: By the type invariants `urn` is initialized, as there is a `Registration`, and in
        // no list. The notifier is a per-CPU static, and leaves the list at the latest when the
        // `Registration` is dropped. Preemption is disabled, and this is not an NMI.
        unsafe { bindings::user_return_notifier_register(self.urn.get()) };
        self.armed.store(true, Relaxed);
        true
    }

    /// Disarms the notifier. Returns whether it was armed.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] in the callback of another notifier, which may come next in the list.
    /// - [`EPERM`] in an interrupt.
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

        // SAFETY: Nothing here sleeps.
        Ok(unsafe { irq_save(|_| self.remove_if_armed()) })
    }

    /// Disarms the notifier in an interrupt, or elsewhere with interrupts disabled. Returns whether
    /// it was armed.
    ///
    /// The callback of another notifier cannot do that; it returns false there.
    #[inline]
    pub fn disarm_irqs_disabled(&self, _irqs: &IrqsDisabled, _not_in_nmi: &NotInNmi) -> bool {
        // SAFETY: Interrupts are disabled.
        !self.another_fires() && unsafe { self.remove_if_armed() }
    }

    /// # Safety
    ///
    /// As for [`remove()`](Self::remove), except that the notifier need not be armed.
    #[inline]
    unsafe fn remove_if_armed(&self) -> bool {
        let armed = self.is_armed();

        if armed {
            // SAFETY: The notifier is armed, and the caller guarantees all else.
            unsafe { self.remove() };
        }
        armed
    }

    /// # Safety
    ///
    /// The notifier must be armed, and interrupts disabled. It must not be the callback of another
    /// notifier.
    #[inline]
    unsafe fn remove(&self) {
        // SAFETY: By the type invariants `urn` is in the list of this CPU.
        unsafe { bindings::user_return_notifier_unregister(self.urn.get()) };
        self.armed.store(false, Relaxed);
    }

    /// Returns whether this is the callback of another notifier.
    #[inline]
    fn another_fires(&self) -> bool {
        let running = running(self.token());

        !running.is_null() && differ(running, self.urn.get())
    }
}

/// Returns the notifier, of Rust or C code, that fires on this CPU, or null.
#[inline]
fn running(_token: &PreemptDisabled) -> *mut bindings::user_return_notifier {
    // SAFETY: Preemption is disabled.
    unsafe { bindings::user_return_notifier_running() }
}

/// Returns whether this is the callback of some notifier.
#[inline]
pub fn is_firing(token: &PreemptDisabled) -> bool {
    !running(token).is_null()
}

/// Out of line: a notifier rarely fires at this point.
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
/// Dropping it disarms them on every CPU, by an IPI to each CPU where one is armed, so that the
/// code of the callback may go away. That may sleep. A module that leaks it must not be unloaded.
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
/// The notifiers of all possible CPUs are open, and the first one is claimed by this object.
pub struct Registration<T: Callback> {
    notifier: PerCpu<Notifier<T>>,
}

impl<T: Callback> Registration<T> {
    /// Allows the notifiers of a per-CPU variable to be armed.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if there is a registration for this variable already.
    pub fn new(notifier: PerCpu<Notifier<T>>) -> Result<Self> {
        // The notifier of the first CPU decides the owner of all.
        let (_, first) = notifier.possible_cpus().next().ok_or(ENODEV)?;
        first
            .claimed
            .cmpxchg(false, true, Acquire)
            .map_err(|_| EBUSY)?;

        for (_, this) in notifier.possible_cpus() {
            // SAFETY: `urn` is valid for writes, and as the notifier is neither open nor armed, no
            // code reads it.
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
        // Arming is over everywhere after this: preemption is off while it lasts.
        // SAFETY: This is task context, and may sleep.
        unsafe { bindings::synchronize_rcu() };

        // A CPU that is offline cannot come back while the lock is held.
        let cpus = cpus_read_lock();
        for (cpu, this) in self
            .notifier
            .possible_cpus()
            .filter(|(_, it)| it.is_armed())
        {
            let notifier = self.notifier;
            let close = move |irqs: &IrqsDisabled| {
                // SAFETY: An IPI interrupts no callback, which runs with interrupts disabled.
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

/// Disarms the notifier of a CPU that is, and stays, offline.
fn close_offline<T: Callback>(cpu: CpuId, this: &'static Notifier<T>) {
    // SAFETY: By the type invariants `urn` is in the list of its CPU, which is offline.
    unsafe {
        bindings::user_return_notifier_unregister_offline(this.urn.get(), cpu.as_u32() as c_int)
    };
    this.armed.store(false, Relaxed);
}

/// Has returns to user mode look for notifiers, for as long as it lives.
///
/// The last one to go takes effect some seconds later.
///
/// # Invariants
///
/// `user_return_notifier_enable()` was called for this object.
pub struct Enabled(());

impl Enabled {
    /// May sleep. The caller must not hold the lock of CPU hotplug.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // SAFETY: This is task context.
        unsafe { bindings::user_return_notifier_enable() };
        // INVARIANT: Just called.
        Self(())
    }
}

impl Drop for Enabled {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this undoes a call.
        unsafe { bindings::user_return_notifier_disable() };
    }
}

/// # Safety
///
/// `urn` must be that of an armed `Notifier<T>` of this CPU, and interrupts must be disabled.
unsafe extern "C" fn on_user_return<T: Callback>(urn: *mut bindings::user_return_notifier) {
    let urn = Opaque::cast_from(urn).cast_mut();
    // SAFETY: By the safety requirements of this function.
    let notifier = unsafe { &*container_of!(urn, Notifier<T>, urn) };
    // INVARIANT: This is called for the notifiers in this CPU's list only, when it returns to user
    // mode.
    let this = Firing {
        // SAFETY: By the safety requirements of this function.
        this: unsafe { ThisCpu::assume(notifier) },
    };

    T::user_return(&this);
}

/// Calls the notifiers that are armed on this CPU, as a return to user mode does.
///
/// For tests of notifiers.
#[cfg(CONFIG_RUST_USER_RETURN_KUNIT_TEST)]
fn fire(_token: &PreemptDisabled) {
    // SAFETY: Nothing here sleeps.
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

    /// The action of a callback besides counting.
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
                    // A second time it does nothing.
                    this.disarm();
                    this.refused.store(this.is_armed(), Relaxed);
                }
                // Any code on this CPU may do so.
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
    fn it_fires_once_per_return_until_disarmed() -> Result {
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

        // The list is last in, first out: `other` comes next when `test` fires.
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
