// SPDX-License-Identifier: GPL-2.0

//! The registry: slots of MSRs, their values on each CPU, and the notifier that restores them.
//!
//! On each CPU the notifier is armed exactly while some slot is dirty.

use kernel::{
    bindings,
    define_per_cpu,
    msr::{
        Msr,
        UserMsr, //
    },
    percpu::ThisCpu,
    pr_err_once,
    preempt::{
        in_task,
        preempt_disable,
        PreemptDisabled, //
    },
    prelude::*,
    smp::{
        call_on_cpu,
        cpus_read_lock, //
    },
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    user_return::{
        Callback,
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
    fsgs,
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
pub(crate) static SLOTS: Slots = Slots::new();

kernel::sync::global_lock! {
    // SAFETY: Initialized by `Users::new()`, before anyone can call the registry.
    unsafe(uninit) static CHANGE: Mutex<Hook> = Hook {
        users: 0,
        registration: None,
    };
}

/// What allows the notifiers to be armed, for as long as there are users.
struct Hook {
    users: usize,
    registration: Option<Registration<State>>,
}

/// The beginning and the end of all users.
pub(crate) struct Users(());

impl Users {
    /// # Safety
    ///
    /// May be called once, and before any function of this file.
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: By the safety requirements of this function.
        unsafe { CHANGE.init() };
        Self(())
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        // A user who has not said good-bye must not keep the notifiers of code that goes.
        drop(CHANGE.lock().registration.take());
    }
}

/// Somebody is going to set slots. Until then nothing has to look after them.
pub(crate) fn start() -> Result {
    let mut hook = CHANGE.lock();

    if hook.registration.is_none() {
        hook.registration = Some(Registration::new(STATE)?);
    }
    hook.users += 1;
    Ok(())
}

/// Undoes [`start()`].
///
/// Nobody sets slots any more, but the last values may still be where a vCPU, or its thread when
/// it was killed, has left them, on a CPU that has gone idle. Without the notifier they would get
/// to the next task there.
pub(crate) fn stop() {
    let mut hook = CHANGE.lock();

    hook.users = hook.users.saturating_sub(1);
    if hook.users == 0 {
        restore_everywhere();
        hook.registration = None;
    }
}

/// Restores all slots on every CPU that is online; one that is offline was restored before.
fn restore_everywhere() {
    let cpus = cpus_read_lock();

    for (cpu, _) in STATE.possible_cpus().filter(|(_, it)| it.cpu.dirty() != 0) {
        let _ = call_on_cpu(&cpus, cpu, |token| restore(token, usize::MAX));
    }
}

/// The real MSRs of this CPU.
///
/// Each of the tracepoints on the way is a NOP, and a place where the compiler must have room for
/// a call. Those for whom nobody looks, almost all, have `TRACED` false and do without.
struct ThisCpuMsrs<'a, const TRACED: bool>(&'a PreemptDisabled);

impl<const TRACED: bool> Hardware for ThisCpuMsrs<'_, TRACED> {
    #[inline]
    fn read(&self, msr: u32) -> Result<u64> {
        Msr::new(msr).read_safe(self.0)
    }

    #[inline(always)]
    fn write(&self, msr: u32, value: u64) -> Result {
        // SAFETY: Whoever adds an MSR to the registry promises that the kernel can run with it, see
        // `uret_add()`; the notifier sees to it that the host's value is back in time.
        let msr = unsafe { UserMsr::new(Msr::new(msr)) };

        if TRACED {
            msr.write_safe(self.0, value)
        } else {
            msr.write_safe_untraced(self.0, value)
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

        match restored {
            Ok(()) => this.disarm(),
            Err(err) => cannot_restore(err),
        }
    }
}

fn current() -> usize {
    // SAFETY: It is always safe to ask for the current task.
    unsafe { bindings::get_current() }.addr()
}

/// Arms the notifier, as some slot is dirty.
#[inline(always)]
fn arm(this: &ThisCpu<'_, Notifier<State>>) -> Result {
    if this.ensure_armed()? {
        this.armed_by.store(current(), Relaxed);
    }
    Ok(())
}

/// Arms the notifier if some slot is dirty, and disarms it if none is.
#[inline(always)]
fn update_notifier(this: &ThisCpu<'_, Notifier<State>>) -> Result {
    if this.cpu.dirty() != 0 {
        arm(this)
    } else {
        this.disarm().map(|_| ())
    }
}

/// Restores the slots in the bitmap `which`.
fn restore(token: &PreemptDisabled, which: usize) {
    let this = STATE.this_cpu(token);
    let restored = if trace::restores_are_traced() {
        restore_traced(token, which)
    } else {
        let msrs = &ThisCpuMsrs::<false>(token);

        this.cpu.restore(msrs, which)
    };

    if let Err(err) = restored.and(update_notifier(&this)) {
        cannot_restore(err);
    }
}

/// A slot that could not be restored stays dirty, and the notifier armed: the next return to user
/// mode tries again. As the host has had this very value, it is a bug all the same.
#[cold]
fn cannot_restore(err: Error) {
    pr_err_once!("BUG: cannot restore the host's values: {err:?}\n");
}

/// See `uret_set()`.
#[inline(always)]
pub(crate) fn set(token: &PreemptDisabled, slot: usize, value: u64, mask: u64) -> Result {
    if cfg!(CONFIG_URET_DEBUG) {
        warn_on!(!in_task());
    }
    let this = STATE.this_cpu(token);
    let done = if trace::sets_are_traced() {
        set_traced(token, slot, value, mask)
    } else {
        let msrs = &ThisCpuMsrs::<false>(token);

        this.cpu.set(msrs, slot, value, mask)
    };

    match done? {
        Done::Elided => Ok(()),
        Done::Cleaned => or_undo(token, update_notifier(&this)),
        Done::Soiled => or_undo(token, arm(&this)),
    }
}

/// See `uret_set_values()`.
#[inline]
pub(crate) fn set_values(token: &PreemptDisabled, values: &bindings::uret_values) -> Result {
    let this = STATE.this_cpu(token);
    let result = if trace::sets_are_traced() {
        set_values_traced(token, values)
    } else {
        let msrs = &ThisCpuMsrs::<false>(token);

        this.cpu.set_values(msrs, values)
    };

    or_undo(token, update_notifier(&this))?;
    result
}

/// If the notifier could not be brought in line with the slots, nothing may stay dirty.
#[inline(always)]
fn or_undo(token: &PreemptDisabled, result: Result) -> Result {
    result.inspect_err(|_| restore(token, usize::MAX))
}

/// See `uret_get()`.
#[inline]
pub(crate) fn get(token: &PreemptDisabled, slot: usize) -> Result<u64> {
    STATE.this_cpu(token).cpu.get(slot)
}

/// See `uret_drop()`.
///
/// A vCPU whose FS and GS stay here takes it that its MSRs do, too.
pub(crate) fn drop_owner(token: &PreemptDisabled, owner: Owner) {
    fsgs::evict_all(token);
    restore(token, SLOTS.of(owner));
}

/// See `uret_read_host()`.
pub(crate) fn read_host(token: &PreemptDisabled, owner: Owner) -> Result {
    read_host_of(token, SLOTS.of(owner))
}

fn read_host_of(token: &PreemptDisabled, which: usize) -> Result {
    let this = STATE.this_cpu(token);
    let mut result = Ok(());

    for (slot, msr) in SLOTS.iter().filter(|&(slot, _)| which & 1 << slot != 0) {
        result = result.and(this.cpu.read_host(&ThisCpuMsrs::<true>(token), slot, msr));
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

/// This CPU goes offline, or to sleep.
pub(crate) fn cpu_down(token: &PreemptDisabled) {
    fsgs::evict_all(token);
    restore(token, usize::MAX);
}

/// Those of which each task has its own, so that `__switch_to()` switches them, and GSBASE, which
/// is the kernel's.
const BASES: [u32; 3] = [
    bindings::MSR_FS_BASE,
    bindings::MSR_GS_BASE,
    bindings::MSR_KERNEL_GS_BASE,
];

/// See `uret_add()`.
pub(crate) fn add(owner: Owner, msr: u32) -> Result<usize> {
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

/// Writes to an MSR what it has.
fn write_back(msr: u32) -> Result {
    let token = preempt_disable();
    let hw = ThisCpuMsrs::<true>(&token);

    hw.write(msr, hw.read(msr)?)
}

/// Reads the host's values of the slots in the bitmap `which` on every CPU that is online.
fn read_host_everywhere(which: usize) -> Result {
    let cpus = cpus_read_lock();
    let mut result = Ok(());

    for (cpu, _) in STATE.possible_cpus() {
        // One that is offline is left out.
        let _ = call_on_cpu(&cpus, cpu, |token| {
            result = result.and(read_host_of(token, which));
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
fn remove(which: usize) -> u32 {
    if which == 0 {
        return 0;
    }
    let cpus = cpus_read_lock();
    let mut dirty = 0;

    for (cpu, state) in STATE.possible_cpus() {
        let ret = call_on_cpu(&cpus, cpu, |token| {
            let this = STATE.this_cpu(token);

            fsgs::evict_all(token);
            restore(token, which);
            this.cpu.forget(which);
        });
        if ret.is_err() {
            // The CPU is offline, and was restored on its way there.
            state.cpu.forget(which);
        }
        dirty |= state.cpu.dirty();
    }
    // What could not be restored must not be given to somebody else.
    let removed = which & !dirty;

    SLOTS.remove(removed);
    removed.count_ones()
}
