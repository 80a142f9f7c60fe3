// SPDX-License-Identifier: GPL-2.0

//! The registry: slots of MSRs, their values on each CPU, and the notifier that restores them.
//!
//! The notifier of a CPU is armed while a slot is dirty there. One CPU reaches another one by an
//! IPI: nothing here waits for a task.

use kernel::{
    bindings,
    define_per_cpu,
    percpu::ThisCpu,
    preempt::{
        in_task,
        preempt_disable,
        preemptible,
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
    user_return::{
        is_firing,
        Callback,
        Enabled,
        Firing,
        Notifier, //
    },
    warn_on, //
};

use crate::{
    fatal,
    Arch, //
};

pub(crate) mod arch;
pub(crate) mod cpu;
pub(crate) mod hw;
pub(crate) mod slot;
pub(crate) mod slots;
mod trace;

use arch::Arch as _;
use cpu::{
    Counter,
    Counts,
    Cpu,
    SetOutcome, //
};
use hw::{
    Event,
    MsrOps, //
};
use slot::{
    PerSlot,
    Slot,
    SlotMask, //
};
use slots::{
    Owner,
    Slots, //
};

/// The state of the registry on one CPU.
pub(crate) struct State {
    cpu: Cpu,
    /// The address of the task that armed the notifier, for comparison only.
    armed_by: Atomic<usize>,
    /// Calls of the notifier.
    pub(crate) fired: Counter,
    /// Calls of the notifier in another task than the task that armed the notifier.
    pub(crate) fired_other: Counter,
}

impl State {
    /// Returns the dirty slots.
    pub(crate) fn dirty(&self) -> SlotMask {
        self.cpu.dirty()
    }

    /// Returns the number, the MSR and the counters of each initialized slot.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (usize, u32, Counts)> + '_ {
        self.cpu.counts()
    }
}

define_per_cpu! {
    /// The state of each CPU, with its notifier.
    pub(crate) static STATE: Notifier<State> = Notifier::new(State {
        cpu: Cpu::new(),
        armed_by: Atomic::new(0),
        fired: Counter::new(),
        fired_other: Counter::new(),
    });
}

/// The slots. Changes need [`LOCK`].
///
/// [`add()`] has added each slot in use, and the caller of [`add()`] guarantees the values of the
/// MSR.
static SLOTS: Slots = Slots::new();

kernel::sync::global_lock! {
    // SAFETY: Initialized by `Registration::new()`, before any code can call the registry.
    unsafe(uninit) static LOCK: Mutex<Users> = Users {
        nr: 0,
        enabled: None,
    };
}

/// Whether the registry is initialized. Built-in KVM calls the registry even if the initialization
/// has failed.
static INITIALIZED: Atomic<bool> = Atomic::new(false);

/// Returns the slots in use, and the MSR of each.
pub(crate) fn slots() -> impl Iterator<Item = (Slot, u32)> {
    SLOTS.iter()
}

/// Returns the slot of an MSR.
pub(crate) fn find(msr: u32) -> Option<Slot> {
    SLOTS.find(msr)
}

/// Returns [`ENODEV`] unless the registry is initialized.
pub(crate) fn check_initialized() -> Result {
    if INITIALIZED.load(Acquire) {
        Ok(())
    } else {
        Err(ENODEV)
    }
}

/// The users that may set slots. While there is one, returns to user mode look for the notifier.
struct Users {
    nr: usize,
    enabled: Option<Enabled>,
}

/// The registration of the notifier on all CPUs. Exists as long as the registry can be used.
pub(crate) struct Registration {
    _notifier: kernel::user_return::Registration<State>,
}

impl Registration {
    /// # Safety
    ///
    /// Must be called once, and before any other function of this file.
    pub(crate) unsafe fn new() -> Result<Self> {
        // SAFETY: The caller guarantees that this function is called once.
        unsafe { LOCK.init() };
        let registration = Self {
            _notifier: kernel::user_return::Registration::new(STATE)?,
        };

        INITIALIZED.store(true, Release);
        Ok(registration)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        INITIALIZED.store(false, Relaxed);
        // Restore even if a user forgot `put_user()`: the callback is about to be unloaded.
        let mut users = LOCK.lock();

        if users.nr != 0 {
            flush_everywhere();
            users.enabled = None;
        }
    }
}

/// Adds a user, which enables the notifier. Must precede the first set of that user.
pub(crate) fn get_user() {
    let mut users = LOCK.lock();

    if users.nr == 0 {
        users.enabled = Some(Enabled::new());
    }
    users.nr += 1;
}

/// Undoes [`get_user()`].
///
/// An idle CPU may still have the values of a vCPU: restore now, as the notifier will not fire
/// before the next task runs there in user mode.
///
/// # Safety
///
/// Must undo one [`get_user()`]. The user must not set slots any more.
pub(crate) unsafe fn put_user() {
    let mut users = LOCK.lock();

    users.nr = users.nr.saturating_sub(1);
    if users.nr == 0 {
        flush_everywhere();
        users.enabled = None;
    }
}

/// Restores all slots and all deferred state on each CPU that is dirty or defers, by an IPI.
///
/// `cpu_down()` has restored the CPUs that are offline.
fn flush_everywhere() {
    let must_flush = |&(cpu, state): &(_, &Notifier<State>)| {
        !state.cpu.dirty().is_empty() || Arch::is_deferred_on(cpu)
    };

    for (cpu, _) in STATE.possible_cpus().filter(must_flush) {
        let _ = call_on_cpu(cpu, |irqs| {
            if let Some(not_in_nmi) = NotInNmi::new() {
                Arch::flush_deferred(&not_in_nmi);
                restore_in_ipi(irqs, &not_in_nmi, SlotMask::ALL);
            }
        });
    }
}

/// Proof of the context in which slots may be set.
///
/// # Invariants
///
/// The context is task context with preemption disabled, outside of a callback of a notifier. The
/// [`Registration`] outlives this proof.
pub(crate) struct Setter<'a>(&'a PreemptDisabled);

impl<'a> Setter<'a> {
    /// # Safety
    ///
    /// The context must be as the type invariants say for `'a`, and slots must have been added for
    /// the caller.
    #[inline(always)]
    pub(crate) unsafe fn assume(token: &'a PreemptDisabled) -> Self {
        if cfg!(CONFIG_URET_DEBUG) {
            warn_on!(!in_task());
        }
        // INVARIANT: The caller guarantees the context. Slots are added while the `Registration`
        // exists, and an owner of slots keeps uret.ko loaded.
        Self(token)
    }

    /// Checks the context, and calls `f` with a proof of it.
    ///
    /// # Errors
    ///
    /// - [`EPERM`]: interrupt context, or preemption is enabled.
    /// - [`EBUSY`]: a callback of a notifier is running.
    /// - [`ENODEV`]: the registry was not initialized.
    #[inline(always)]
    pub(crate) fn check<R>(f: impl FnOnce(&Setter<'_>) -> Result<R>) -> Result<R> {
        if !in_task() || preemptible() {
            return Err(EPERM);
        }
        // SAFETY: Preemption is disabled, as just checked; or the kernel has no preemption, and `f`
        // does not sleep.
        let token = unsafe { PreemptDisabled::assume_disabled() };

        if is_firing(token) {
            return Err(EBUSY);
        }
        check_initialized()?;
        // INVARIANT: The context was just checked. The drop of the `Registration` waits until
        // preemption is enabled.
        f(&Setter(token))
    }
}

/// The MSRs of the current CPU, with the tracepoints of the registry.
///
/// With `TRACED` false, there are no tracepoints. A tracepoint that is off still costs a NOP, and
/// makes the compiler reserve registers for a call.
struct CpuMsrs<'a, const TRACED: bool>(<Arch as arch::Arch>::Msrs<'a, TRACED>);

impl<'a, const TRACED: bool> CpuMsrs<'a, TRACED> {
    #[inline(always)]
    fn new(token: &'a PreemptDisabled) -> Self {
        Self(Arch::msrs(token))
    }
}

impl<const TRACED: bool> MsrOps for CpuMsrs<'_, TRACED> {
    #[inline]
    fn read(&self, msr: u32) -> Result<u64> {
        self.0.read(msr)
    }

    #[inline(always)]
    unsafe fn write(&self, msr: u32, value: u64) -> Result {
        // SAFETY: The caller guarantees the value.
        unsafe { self.0.write(msr, value) }
    }

    #[inline(always)]
    fn event(&self, event: Event, slot: Slot, msrs: &PerSlot<Atomic<u32>>, value: u64) {
        if !TRACED {
            return;
        }
        if cfg!(CONFIG_URET_DEBUG) {
            warn_on!(self.read(msrs.at(slot).load(Relaxed)) != Ok(value));
        }
        trace::msr(event, slot, msrs, value);
    }
}

/// [`Cpu::set()`], traced.
#[cold]
#[inline(never)]
fn set_traced(token: &PreemptDisabled, slot: usize, value: u64, mask: u64) -> Result<SetOutcome> {
    let msrs = &CpuMsrs::<true>::new(token);

    STATE.this_cpu(token).cpu.set(msrs, slot, value, mask)
}

/// [`Cpu::set_values()`], traced.
#[cold]
#[inline(never)]
fn set_values_traced(token: &PreemptDisabled, values: &bindings::uret_values) -> Result {
    let msrs = &CpuMsrs::<true>::new(token);

    STATE.this_cpu(token).cpu.set_values(msrs, values)
}

/// [`Cpu::restore()`], traced.
#[cold]
#[inline(never)]
fn restore_traced(token: &PreemptDisabled, slots: SlotMask) -> Result {
    let msrs = &CpuMsrs::<true>::new(token);

    STATE.this_cpu(token).cpu.restore(msrs, slots)
}

/// [`restore_traced()`] of all slots, for the notifier, which is traced as well.
#[cold]
#[inline(never)]
fn fire_traced(token: &PreemptDisabled, other_task: bool) -> Result {
    trace::fire(STATE.this_cpu(token).cpu.dirty(), other_task);
    restore_traced(token, SlotMask::ALL)
}

impl Callback for State {
    #[inline]
    fn user_return(this: &Firing<'_, Self>) {
        let other = this.armed_by.load(Relaxed) != current();

        this.fired.inc();
        if other {
            this.fired_other.inc();
        }
        let restored = if trace::returns_are_traced() {
            fire_traced(this.token(), other)
        } else {
            let msrs = &CpuMsrs::<false>::new(this.token());

            this.cpu.restore(msrs, SlotMask::ALL)
        };

        if restored.is_err() {
            cannot_restore();
        }
        this.disarm();
    }
}

fn current() -> usize {
    // SAFETY: Safe in any context.
    unsafe { bindings::get_current() }.addr()
}

/// Arms the notifier, as a slot is dirty.
#[inline(always)]
fn arm(_setter: &Setter<'_>, this: &ThisCpu<'_, Notifier<State>>) {
    // SAFETY: The type invariants of `Setter` guarantee the context, and a `Registration`.
    if unsafe { this.ensure_armed_unchecked() } {
        this.armed_by.store(current(), Relaxed);
    }
}

/// Arms the notifier if a slot is dirty, and disarms the notifier otherwise.
#[inline(always)]
fn update_notifier(setter: &Setter<'_>, this: &ThisCpu<'_, Notifier<State>>) {
    if !this.cpu.dirty().is_empty() {
        arm(setter, this);
    } else {
        disarm_if_clean(this);
    }
}

/// Disarms the notifier if no slot is dirty.
#[inline]
fn disarm_if_clean(this: &ThisCpu<'_, Notifier<State>>) {
    if this.cpu.dirty().is_empty() {
        // Fails in the callback of another notifier: this notifier then fires with no dirty slot.
        let _ = this.disarm();
    }
}

/// Restores the dirty slots in `slots`. Does not change the notifier.
fn restore_slots(token: &PreemptDisabled, slots: SlotMask) {
    let restored = if trace::restores_are_traced() {
        restore_traced(token, slots)
    } else {
        let msrs = &CpuMsrs::<false>::new(token);

        STATE.this_cpu(token).cpu.restore(msrs, slots)
    };

    if restored.is_err() {
        cannot_restore();
    }
}

/// Restores the dirty slots in `slots`, in task context.
fn restore(token: &PreemptDisabled, slots: SlotMask) {
    restore_slots(token, slots);
    disarm_if_clean(&STATE.this_cpu(token));
}

/// Restores the dirty slots in `slots`, in an IPI that may interrupt a set of another slot.
///
/// A set first makes the slot dirty, and then arms the notifier. So the notifier is armed after
/// the set, even if the IPI comes in between.
fn restore_in_ipi(irqs: &IrqsDisabled, not_in_nmi: &NotInNmi, slots: SlotMask) {
    let this = STATE.this_cpu(irqs);

    restore_slots(irqs, slots);
    if this.cpu.dirty().is_empty() {
        this.disarm_irqs_disabled(irqs, not_in_nmi);
    }
}

/// Stops the machine, as user mode must not run with a guest's value. An MSR refuses the host's
/// value, which the MSR held before: this is a bug.
#[cold]
fn cannot_restore() -> ! {
    fatal(c"uret: cannot restore an MSR of the host")
}

/// See `uret_set()`.
#[inline(always)]
pub(crate) fn set(setter: &Setter<'_>, slot: usize, value: u64, mask: u64) -> Result {
    let token = setter.0;
    let this = STATE.this_cpu(token);
    let outcome = if trace::sets_are_traced() {
        set_traced(token, slot, value, mask)
    } else {
        let msrs = &CpuMsrs::<false>::new(token);

        this.cpu.set(msrs, slot, value, mask)
    };

    match outcome? {
        SetOutcome::Elided => {}
        SetOutcome::Clean => disarm_if_clean(&this),
        SetOutcome::Dirty => arm(setter, &this),
    }
    Ok(())
}

/// See `uret_set_values()`.
#[inline]
pub(crate) fn set_values(setter: &Setter<'_>, values: &bindings::uret_values) -> Result {
    let token = setter.0;
    let this = STATE.this_cpu(token);
    let result = if trace::sets_are_traced() {
        set_values_traced(token, values)
    } else {
        let msrs = &CpuMsrs::<false>::new(token);

        this.cpu.set_values(msrs, values)
    };

    update_notifier(setter, &this);
    result
}

/// See `uret_get()`.
#[inline]
pub(crate) fn get(token: &PreemptDisabled, slot: usize) -> Result<u64> {
    STATE.this_cpu(token).cpu.get(slot)
}

/// See `uret_drop()`.
pub(crate) fn drop_owner(token: &PreemptDisabled, owner: Owner) {
    restore(token, SLOTS.of(owner));
}

/// As [`drop_owner()`], for an owner with deferred state. Flushes the deferred state first, as the
/// owner does not set the slots of a vCPU again while the state of the vCPU is deferred.
pub(crate) fn drop_owner_and_deferred(
    token: &PreemptDisabled,
    not_in_nmi: &NotInNmi,
    owner: Owner,
) {
    Arch::flush_deferred(not_in_nmi);
    drop_owner(token, owner);
}

/// Restores all state, as the CPU is about to go offline or to sleep.
pub(crate) fn cpu_down(token: &PreemptDisabled, not_in_nmi: &NotInNmi) {
    Arch::flush_deferred(not_in_nmi);
    restore(token, SlotMask::ALL);
}

/// See `uret_read_host()`.
pub(crate) fn read_host(token: &PreemptDisabled, owner: Owner) -> Result {
    read_host_of(token, SLOTS.of(owner))
}

fn read_host_of(token: &PreemptDisabled, slots: SlotMask) -> Result {
    let this = STATE.this_cpu(token);
    let mut result = Ok(());

    for (slot, msr) in SLOTS.iter().filter(|&(slot, _)| slots.contains(slot)) {
        // SAFETY: The slot is in use, and the notifier restores the MSR.
        let read = unsafe { this.cpu.read_host(&CpuMsrs::<true>::new(token), slot, msr) };

        result = result.and(read);
    }
    result
}

/// Reads the host's values, as the CPU comes online or wakes up.
///
/// A slot may have been set after `cpu_down()`, and the MSR has lost the value meanwhile: restore
/// first. If an MSR cannot be read on this CPU, the slot is not initialized, and cannot be set
/// here.
pub(crate) fn cpu_up(token: &PreemptDisabled) {
    restore(token, SlotMask::ALL);
    let _ = read_host_of(token, SlotMask::ALL);
}

/// See `uret_add()`.
///
/// # Safety
///
/// The kernel must be able to run with each value that the owner will set the MSR to.
pub(crate) unsafe fn add(owner: Owner, msr: u32) -> Result<Slot> {
    if Arch::is_switched_with_task(msr) {
        return Err(EINVAL);
    }
    let _lock = LOCK.lock();

    // First, before the MSR is accessed: the MSR of another owner may hold a guest's value.
    let slot = SLOTS.add(owner, msr)?;

    // A CPU that comes online later reads the host's value in `cpu_up()`.
    write_back(msr)
        .and_then(|()| read_host_everywhere(slot.mask()))
        .inspect_err(|_| {
            remove(slot.mask());
        })
        .map(|()| slot)
}

/// Reads an MSR, and writes the value back, to find out whether reads or writes fault.
fn write_back(msr: u32) -> Result {
    let token = preempt_disable();
    let msrs = CpuMsrs::<true>::new(&token);
    let value = msrs.read(msr)?;

    // SAFETY: The MSR holds this value already.
    unsafe { msrs.write(msr, value) }
}

/// Reads the host's values of `slots` on each CPU that is online.
fn read_host_everywhere(slots: SlotMask) -> Result {
    let mut result = Ok(());

    for (cpu, _) in STATE.possible_cpus() {
        // Fails for a CPU that is offline.
        let _ = call_on_cpu(cpu, |irqs| {
            result = result.and(read_host_of(irqs, slots));
        });
    }
    result
}

/// See `uret_del()`. Returns the number of slots removed.
pub(crate) fn del(owner: Owner) -> u32 {
    let _lock = LOCK.lock();

    remove(SLOTS.of(owner))
}

/// Removes slots, under the lock, and returns their number.
///
/// No deferred state relies on the slots: KVM is not the owner, or no VM exists.
fn remove(slots: SlotMask) -> u32 {
    if slots.is_empty() {
        return 0;
    }
    let cpus = cpus_read_lock();
    let mut dirty = SlotMask::NONE;

    for (cpu, state) in STATE.possible_cpus() {
        if !state.cpu.dirty().and(slots).is_empty() {
            let _ = call_on_cpu(cpu, |irqs| {
                if let Some(not_in_nmi) = NotInNmi::new() {
                    restore_in_ipi(irqs, &not_in_nmi, slots);
                }
            });
        }
        // `cpu_down()` has restored the CPUs that are offline.
        state.cpu.forget(slots);
        dirty.add(state.cpu.dirty());
    }
    drop(cpus);
    // Another owner must not get a slot that could not be restored.
    let removed = slots.without(dirty);

    SLOTS.remove(removed);
    removed.0.count_ones()
}
