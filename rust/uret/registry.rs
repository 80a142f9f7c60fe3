// SPDX-License-Identifier: GPL-2.0

//! The registry: slots of MSRs, their values on each CPU, and the notifier that restores them.
//!
//! On each CPU the notifier is armed while some slot is dirty. Other CPUs reach a CPU by an IPI, so
//! that nothing here waits for a task there.

use kernel::{
    bindings,
    define_per_cpu,
    lazy_fsgs::{
        deferred_on,
        leave_all, //
    },
    msr::Msr,
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
        Notifier,
        Registration, //
    },
    warn_on, //
};

use crate::{
    cpu::{
        Counter,
        Cpu,
        Done,
        Event,
        Hardware,
        PerSlot,
        Slot, //
    },
    fatal,
    slots::{
        Owner,
        Slots, //
    },
    trace, //
};

/// What the registry keeps for each CPU.
pub(crate) struct State {
    pub(crate) cpu: Cpu,
    /// The task that armed the notifier. Only ever compared.
    armed_by: Atomic<usize>,
    /// How often the notifier fired.
    pub(crate) fired: Counter,
    /// How often it did so while another task was current than the one that had armed it.
    pub(crate) fired_other: Counter,
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

/// The slots. Changed under `CHANGE` only.
///
/// Every slot in use was added by [`add()`], whose caller vouches for the values of its MSR.
pub(crate) static SLOTS: Slots = Slots::new();

kernel::sync::global_lock! {
    // SAFETY: Initialized by `Users::new()`, before any code can call the registry.
    unsafe(uninit) static CHANGE: Mutex<Count> = Count {
        users: 0,
        enabled: None,
    };
}

/// Whether `CHANGE` is initialized and the notifiers may be armed. KVM that is built in calls the
/// registry even if that has failed to initialize.
static READY: Atomic<bool> = Atomic::new(false);

/// Returns [`ENODEV`] unless the registry has been initialized.
pub(crate) fn check_ready() -> Result {
    if READY.load(Acquire) {
        Ok(())
    } else {
        Err(ENODEV)
    }
}

/// How many users may set slots, and what has returns to user mode look for the notifier meanwhile.
struct Count {
    users: usize,
    enabled: Option<Enabled>,
}

/// The beginning and the end of all users. It allows the notifiers to be armed.
pub(crate) struct Users {
    _registration: Registration<State>,
}

impl Users {
    /// # Safety
    ///
    /// May be called once, and before any function of this file.
    pub(crate) unsafe fn new() -> Result<Self> {
        // SAFETY: The caller vouches for that.
        unsafe { CHANGE.init() };
        let users = Self {
            _registration: Registration::new(STATE)?,
        };

        READY.store(true, Release);
        Ok(users)
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        READY.store(false, Relaxed);
        // Restore even if a user forgot `stop()`: the callback is about to be unloaded.
        let mut count = CHANGE.lock();

        if count.users != 0 {
            restore_everywhere();
            count.enabled = None;
        }
    }
}

/// Enables the notifier. Must precede the first set.
pub(crate) fn start() {
    let mut count = CHANGE.lock();

    if count.users == 0 {
        count.enabled = Some(Enabled::new());
    }
    count.users += 1;
}

/// Undoes [`start()`].
///
/// No slot is set any more, but the last values may still be where a vCPU, or its thread when it
/// was killed, has left them, on a CPU that has gone idle. Without the notifier the next task there
/// would see them.
pub(crate) fn stop() {
    let mut count = CHANGE.lock();

    count.users = count.users.saturating_sub(1);
    if count.users == 0 {
        restore_everywhere();
        count.enabled = None;
    }
}

/// Restores all slots, FS and GS on every CPU that holds other values than the host's, by an IPI.
///
/// A CPU that is offline has restored them on its way there.
fn restore_everywhere() {
    let holds_others =
        |&(cpu, state): &(_, &Notifier<State>)| state.cpu.dirty() != 0 || deferred_on(cpu);

    for (cpu, _) in STATE.possible_cpus().filter(holds_others) {
        let _ = call_on_cpu(cpu, |irqs| {
            if let Some(not_in_nmi) = NotInNmi::new() {
                leave_all(&not_in_nmi);
                restore_in_ipi(irqs, &not_in_nmi, usize::MAX);
            }
        });
    }
}

/// Proof of the context in which slots may be set.
///
/// # Invariants
///
/// It is task context with preemption disabled, and no callback of a notifier. The [`Users`] exist
/// as long as this.
pub(crate) struct Setter<'a>(&'a PreemptDisabled);

impl<'a> Setter<'a> {
    /// # Safety
    ///
    /// It must be that context for `'a`, and the caller one for whom slots were added.
    #[inline(always)]
    pub(crate) unsafe fn assume(token: &'a PreemptDisabled) -> Self {
        if cfg!(CONFIG_URET_DEBUG) {
            warn_on!(!in_task());
        }
        // INVARIANT: The caller vouches for the context. Slots are added while the `Users` exist,
        // and who has added some keeps uret.ko.
        Self(token)
    }

    /// Returns a proof for as long as `f` runs, or an error if the context is another one.
    ///
    /// # Errors
    ///
    /// - [`EPERM`] in an interrupt, or with preemption enabled.
    /// - [`EBUSY`] in a callback of a notifier.
    /// - [`ENODEV`] if the registry was not initialized.
    #[inline(always)]
    pub(crate) fn check<R>(f: impl FnOnce(&Setter<'_>) -> Result<R>) -> Result<R> {
        if !in_task() || preemptible() {
            return Err(EPERM);
        }
        // SAFETY: Preemption is disabled, as just checked; or the kernel does not preempt, and `f`
        // does not sleep.
        let token = unsafe { PreemptDisabled::assume_disabled() };

        if is_firing(token) {
            return Err(EBUSY);
        }
        check_ready()?;
        // INVARIANT: Just checked. The drop of the `Users` waits until preemption is enabled.
        f(&Setter(token))
    }
}

/// The real MSRs of this CPU.
///
/// Each of the tracepoints on the way is a NOP, and a place where the compiler must have room for
/// a call. With `TRACED` false, as almost always, there are none.
struct ThisCpuMsrs<'a, const TRACED: bool>(&'a PreemptDisabled);

impl<const TRACED: bool> Hardware for ThisCpuMsrs<'_, TRACED> {
    #[inline]
    fn read(&self, msr: u32) -> Result<u64> {
        Msr::new(msr).read_safe(self.0)
    }

    #[inline(always)]
    unsafe fn write(&self, msr: u32, value: u64) -> Result {
        let msr = Msr::new(msr);

        // SAFETY: The caller vouches for the value.
        unsafe {
            if TRACED {
                msr.write_safe(self.0, value)
            } else {
                msr.write_safe_untraced(self.0, value)
            }
        }
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
fn set_traced(token: &PreemptDisabled, slot: usize, value: u64, mask: u64) -> Result<Done> {
    let msrs = &ThisCpuMsrs::<true>(token);

    STATE.this_cpu(token).cpu.set(msrs, slot, value, mask)
}

/// [`Cpu::set_values()`], traced.
#[cold]
#[inline(never)]
fn set_values_traced(token: &PreemptDisabled, values: &bindings::uret_values) -> Result {
    let msrs = &ThisCpuMsrs::<true>(token);

    STATE.this_cpu(token).cpu.set_values(msrs, values)
}

/// [`Cpu::restore()`], traced.
#[cold]
#[inline(never)]
fn restore_traced(token: &PreemptDisabled, which: usize) -> Result {
    let msrs = &ThisCpuMsrs::<true>(token);

    STATE.this_cpu(token).cpu.restore(msrs, which)
}

/// The same, when the notifier fires.
#[cold]
#[inline(never)]
fn fire_traced(token: &PreemptDisabled, other_task: bool) -> Result {
    trace::fire(STATE.this_cpu(token).cpu.dirty(), other_task);
    restore_traced(token, usize::MAX)
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
            let msrs = &ThisCpuMsrs::<false>(this.token());

            this.cpu.restore(msrs, usize::MAX)
        };

        if restored.is_err() {
            cannot_restore();
        }
        this.disarm();
    }
}

fn current() -> usize {
    // SAFETY: It is always safe to ask for the current task.
    unsafe { bindings::get_current() }.addr()
}

/// Arms the notifier, as some slot is dirty.
#[inline(always)]
fn arm(_setter: &Setter<'_>, this: &ThisCpu<'_, Notifier<State>>) {
    // SAFETY: By the type invariants of `Setter`.
    if unsafe { this.ensure_armed_unchecked() } {
        this.armed_by.store(current(), Relaxed);
    }
}

/// Arms the notifier if some slot is dirty, and disarms it if none is.
#[inline(always)]
fn update_notifier(setter: &Setter<'_>, this: &ThisCpu<'_, Notifier<State>>) {
    if this.cpu.dirty() != 0 {
        arm(setter, this);
    } else {
        disarm_if_clean(this);
    }
}

/// Disarms the notifier if no slot is dirty.
#[inline]
fn disarm_if_clean(this: &ThisCpu<'_, Notifier<State>>) {
    if this.cpu.dirty() == 0 {
        // This fails in the callback of another notifier. Then this one fires once more.
        let _ = this.disarm();
    }
}

/// Restores the slots in the bitmap `which`. The notifier stays as it is.
fn restore_slots(token: &PreemptDisabled, which: usize) {
    let restored = if trace::restores_are_traced() {
        restore_traced(token, which)
    } else {
        let msrs = &ThisCpuMsrs::<false>(token);

        STATE.this_cpu(token).cpu.restore(msrs, which)
    };

    if restored.is_err() {
        cannot_restore();
    }
}

/// Restores the slots in the bitmap `which`, in task context.
fn restore(token: &PreemptDisabled, which: usize) {
    restore_slots(token, which);
    disarm_if_clean(&STATE.this_cpu(token));
}

/// Restores the slots in the bitmap `which`, maybe in the middle of a set of others.
///
/// A set makes its slot dirty before it arms the notifier.
fn restore_in_ipi(irqs: &IrqsDisabled, not_in_nmi: &NotInNmi, which: usize) {
    let this = STATE.this_cpu(irqs);

    restore_slots(irqs, which);
    if this.cpu.dirty() == 0 {
        this.disarm_irqs_disabled(irqs, not_in_nmi);
    }
}

/// The host has had this very value, so a refusal is a bug, and user mode must not run.
#[cold]
fn cannot_restore() -> ! {
    fatal(c"uret: cannot restore an MSR of the host")
}

/// See `uret_set()`.
#[inline(always)]
pub(crate) fn set(setter: &Setter<'_>, slot: usize, value: u64, mask: u64) -> Result {
    let token = setter.0;
    let this = STATE.this_cpu(token);
    let done = if trace::sets_are_traced() {
        set_traced(token, slot, value, mask)
    } else {
        let msrs = &ThisCpuMsrs::<false>(token);

        this.cpu.set(msrs, slot, value, mask)
    };

    match done? {
        Done::Elided => {}
        Done::Cleaned => disarm_if_clean(&this),
        Done::Soiled => arm(setter, &this),
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
        let msrs = &ThisCpuMsrs::<false>(token);

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

/// KVM's [`drop_owner()`].
///
/// A vCPU whose FS and GS are deferred here relies on its MSRs being loaded, too.
pub(crate) fn drop_kvm(token: &PreemptDisabled, not_in_nmi: &NotInNmi, owner: Owner) {
    leave_all(not_in_nmi);
    drop_owner(token, owner);
}

/// This CPU goes offline, or to sleep.
pub(crate) fn cpu_down(token: &PreemptDisabled, not_in_nmi: &NotInNmi) {
    leave_all(not_in_nmi);
    restore(token, usize::MAX);
}

/// See `uret_read_host()`.
pub(crate) fn read_host(token: &PreemptDisabled, owner: Owner) -> Result {
    read_host_of(token, SLOTS.of(owner))
}

fn read_host_of(token: &PreemptDisabled, which: usize) -> Result {
    let this = STATE.this_cpu(token);
    let mut result = Ok(());

    for (slot, msr) in SLOTS.iter().filter(|&(slot, _)| which & 1 << slot != 0) {
        // SAFETY: The slot is in use, and the notifier restores it.
        let read = unsafe { this.cpu.read_host(&ThisCpuMsrs::<true>(token), slot, msr) };

        result = result.and(read);
    }
    result
}

/// This CPU comes online, or wakes up.
///
/// It may have gone down after something was set for the last time: what the registry remembers
/// then is not what the MSRs hold now. An MSR that cannot be read here cannot be set here either.
pub(crate) fn cpu_up(token: &PreemptDisabled) {
    restore(token, usize::MAX);
    let _ = read_host_of(token, usize::MAX);
}

/// MSRs that `__switch_to()` switches with the task, and GSBASE, which is the kernel's.
const BASES: [u32; 3] = [
    bindings::MSR_FS_BASE,
    bindings::MSR_GS_BASE,
    bindings::MSR_KERNEL_GS_BASE,
];

/// See `uret_add()`.
///
/// # Safety
///
/// The kernel must be able to run with any value in the MSR that the owner will set.
pub(crate) unsafe fn add(owner: Owner, msr: u32) -> Result<usize> {
    if BASES.contains(&msr) {
        return Err(EINVAL);
    }
    let _lock = CHANGE.lock();

    // Before it is touched: another owner's may hold a guest's value.
    let slot = SLOTS.add(owner, msr)?;

    // A CPU that comes online later finds the slot by itself.
    write_back(msr)
        .and_then(|()| read_host_everywhere(1 << slot))
        .inspect_err(|_| {
            remove(1 << slot);
        })
        .map(|()| slot)
}

/// Writes to an MSR the value that it has.
fn write_back(msr: u32) -> Result {
    let token = preempt_disable();
    let hw = ThisCpuMsrs::<true>(&token);
    let value = hw.read(msr)?;

    // SAFETY: The kernel runs with this value.
    unsafe { hw.write(msr, value) }
}

/// Reads the host's values of the slots in the bitmap `which` on every CPU that is online.
fn read_host_everywhere(which: usize) -> Result {
    let mut result = Ok(());

    for (cpu, _) in STATE.possible_cpus() {
        // One that is offline is left out.
        let _ = call_on_cpu(cpu, |irqs| {
            result = result.and(read_host_of(irqs, which));
        });
    }
    result
}

/// See `uret_del()`. Returns how many slots were removed.
pub(crate) fn del(owner: Owner) -> u32 {
    let _lock = CHANGE.lock();

    remove(SLOTS.of(owner))
}

/// Removes the slots in the bitmap `which`, under the lock, and returns how many that were.
///
/// No FS and GS depend on them: they are not KVM's, or no VM exists.
fn remove(which: usize) -> u32 {
    if which == 0 {
        return 0;
    }
    let cpus = cpus_read_lock();
    let mut dirty = 0;

    for (cpu, state) in STATE.possible_cpus() {
        if state.cpu.dirty() & which != 0 {
            let _ = call_on_cpu(cpu, |irqs| {
                if let Some(not_in_nmi) = NotInNmi::new() {
                    restore_in_ipi(irqs, &not_in_nmi, which);
                }
            });
        }
        // One that is offline was restored on its way there.
        state.cpu.forget(which);
        dirty |= state.cpu.dirty();
    }
    drop(cpus);
    // A slot that could not be restored must not be given to another owner.
    let removed = which & !dirty;

    SLOTS.remove(removed);
    removed.count_ones()
}
