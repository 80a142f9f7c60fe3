// SPDX-License-Identifier: GPL-2.0

//! Sample: a user-return notifier that counts the returns of a CPU to user mode.
//!
//! Example, as root, with debugfs mounted:
//!
//! ```text
//! # insmod uret_sample_notifier.ko
//! # cd /sys/kernel/debug/uret_sample_notifier
//! # echo 1 > armed        arms the notifier of the CPU that runs this command
//! # cat returns
//! cpu armed returns other_task kernel_thread
//! 0 1 17 12 0
//! 1 0 0 0 0
//! # echo 0 > armed        disarms the notifier, if run on the same CPU
//! ```
//!
//! Each system call, and each interrupt or exception in user mode, ends with a return to user mode,
//! and counts once. Interrupts of kernel mode, kernel threads and the idle task do not count.

use kernel::{
    // Files in debugfs.
    debugfs::{
        Dir,
        File, //
    },
    // A variable with one copy per CPU.
    define_per_cpu,
    fmt,
    // The proof that the task stays on this CPU.
    preempt::preempt_disable,
    prelude::*,
    // Counters that another CPU can read at the same time.
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    uaccess::UserSliceReader,
    // User-return notifiers, which this sample demonstrates.
    user_return::{
        Callback,
        // Makes returns to user mode look for notifiers.
        Enabled,
        // The argument of a callback: the notifier of the current CPU.
        Firing,
        Notifier,
        Registration, //
    }, //
};

module! {
    type: Sample,
    name: "uret_sample_notifier",
    authors: ["uret developers"],
    description: "Sample: count returns to user mode",
    license: "GPL",
}

/// The data of the notifier of one CPU.
struct Returns {
    /// Calls of the notifier.
    all: Atomic<u64>,
    /// Calls of the notifier in another task than the task that armed the notifier.
    other_task: Atomic<u64>,
    /// Calls of the notifier in a kernel thread or the idle task: always 0.
    kernel_thread: Atomic<u64>,
    /// The PID of the task that armed the notifier.
    armed_by: Atomic<i32>,
}

/// Increments a counter. Needs no atomic addition, as no other CPU writes the counter.
fn count(counter: &Atomic<u64>) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

impl Callback for Returns {
    /// Called just before this CPU returns to user mode. Must not sleep.
    ///
    /// Does not disarm the notifier, so that the next return calls the notifier again.
    fn user_return(this: &Firing<'_, Self>) {
        // The current task is not necessarily the task that armed the notifier.
        let task = current!();

        count(&this.all);
        if task.pid() != this.armed_by.load(Relaxed) {
            count(&this.other_task);
        }
        // Only user tasks have an address space of their own.
        if task.mm().is_none() {
            count(&this.kernel_thread);
        }
    }
}

define_per_cpu! {
    /// A notifier for each CPU. Without a `Registration`, the notifiers cannot be armed.
    static RETURNS: Notifier<Returns> = Notifier::new(Returns {
        all: Atomic::new(0),
        other_task: Atomic::new(0),
        kernel_thread: Atomic::new(0),
        armed_by: Atomic::new(0),
    });
}

/// A write of 1 to `armed` arms the notifier of the current CPU; a write of 0 disarms the notifier.
fn write_armed(_: &Armed, input: &mut UserSliceReader) -> Result {
    let mut text = [0; 2];
    input.read_slice_partial(&mut text, 0)?;

    // Until the drop of the token, the task stays on this CPU, and must not sleep.
    let token = preempt_disable();
    // The notifier of this CPU. The notifier of another CPU cannot be armed.
    let returns = RETURNS.this_cpu(&token);

    match text[0] {
        b'1' => {
            // Returns `EBUSY` to the writer if the notifier is armed already.
            returns.arm()?;
            returns.armed_by.store(current!().pid(), Relaxed);
            Ok(())
        }
        b'0' => {
            returns.disarm()?;
            Ok(())
        }
        _ => Err(EINVAL),
    }
}

/// A read of `armed` returns 1 if the notifier of the current CPU is armed, and 0 if not.
fn read_armed(_: &Armed, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let token = preempt_disable();

    writeln!(f, "{}", u32::from(RETURNS.this_cpu(&token).is_armed()))
}

/// A read of `returns` returns the counters of all CPUs.
fn read_returns(_: &Counters, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "cpu armed returns other_task kernel_thread")?;
    for (cpu, returns) in RETURNS.possible_cpus() {
        let (all, other_task) = (returns.all.load(Relaxed), returns.other_task.load(Relaxed));
        let kernel_thread = returns.kernel_thread.load(Relaxed);
        let (cpu, armed) = (cpu.as_u32(), u32::from(returns.is_armed()));

        writeln!(f, "{cpu} {armed} {all} {other_task} {kernel_thread}")?;
    }
    Ok(())
}

/// The data of the two files: empty, as the files access the per-CPU variable.
struct Armed;
struct Counters;

/// The module. An unload drops the fields in this order.
#[pin_data]
struct Sample {
    // First, the files: no task can arm a notifier any more.
    #[pin]
    armed: File<Armed>,
    #[pin]
    returns: File<Counters>,
    _dir: Dir,
    // Then, the registration: disarms each notifier on its CPU, so that the code can be unloaded.
    _registration: Registration<Returns>,
    // Last: returns to user mode need not look for notifiers any more.
    _enabled: Enabled,
}

impl kernel::InPlaceModule for Sample {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let dir = Dir::new(c"uret_sample_notifier");

        try_pin_init!(Self {
            _enabled: Enabled::new(),
            // The notifiers can be armed after this.
            _registration: Registration::new(RETURNS)?,
            returns <- dir.read_callback_file(c"returns", Counters, &read_returns),
            armed <- dir.read_write_callback_file(c"armed", Armed, &read_armed, &write_armed),
            _dir: dir.clone(),
        })
    }
}
