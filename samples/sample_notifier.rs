// SPDX-License-Identifier: GPL-2.0

//! Sample: a user-return notifier that counts real returns to user mode.
//!
//! Try it, as root, with debugfs mounted:
//!
//! ```text
//! # insmod uret_sample_notifier.ko
//! # cd /sys/kernel/debug/uret_sample_notifier
//! # echo 1 > armed        the CPU that runs this command counts from now on
//! # cat returns
//! cpu armed returns other_task kernel_thread
//! 0 1 17 12 0
//! 1 0 0 0 0
//! # echo 0 > armed        on the same CPU: it stops
//! ```
//!
//! Every system call, every interrupt of user code, every exception in it ends with a return to
//! user mode and counts once. Interrupts of the kernel, kernel threads and the idle task do not.

use kernel::{
    // Reading and writing the files in debugfs.
    debugfs::{
        Dir,
        File, //
    },
    // A variable with one copy per CPU.
    define_per_cpu,
    fmt,
    // The proof that we stay on this CPU.
    preempt::preempt_disable,
    prelude::*,
    // Counters that may be read from another CPU while they change.
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    uaccess::UserSliceReader,
    // What this sample is about.
    user_return::{
        Callback,
        // Has returns to user mode look for notifiers.
        Enabled,
        // What a callback gets: the notifier of the CPU that it runs on.
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

/// The data of one CPU's notifier.
struct Returns {
    /// How often the notifier fired.
    all: Atomic<u64>,
    /// How often it did so on behalf of another task than the one that armed it.
    other_task: Atomic<u64>,
    /// How often it did so for a kernel thread, or the idle task. Never, as it will turn out.
    kernel_thread: Atomic<u64>,
    /// The task that armed it.
    armed_by: Atomic<i32>,
}

/// Adds one. No other CPU writes this counter, so that needs no atomic addition.
fn count(counter: &Atomic<u64>) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

impl Callback for Returns {
    /// Runs just before this CPU returns to user mode. It must not sleep.
    ///
    /// It does not disarm the notifier, so that it will run again for the next return.
    fn user_return(this: &Firing<'_, Self>) {
        // Whoever runs on this CPU now need not be who armed the notifier.
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
    /// One notifier for each CPU. They cannot be armed yet.
    static RETURNS: Notifier<Returns> = Notifier::new(Returns {
        all: Atomic::new(0),
        other_task: Atomic::new(0),
        kernel_thread: Atomic::new(0),
        armed_by: Atomic::new(0),
    });
}

/// Writing 1 to `armed` arms the notifier of the writer's CPU, 0 disarms it.
fn write_armed(_: &Armed, input: &mut UserSliceReader) -> Result {
    let mut text = [0; 2];
    input.read_slice_partial(&mut text, 0)?;

    // From here on this task stays on its CPU, and must not sleep.
    let token = preempt_disable();
    // The notifier of that CPU. There is no way to arm that of another one.
    let returns = RETURNS.this_cpu(&token);

    match text[0] {
        b'1' => {
            // If it is armed already, this is EBUSY, and the writer gets to see it.
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

/// Reading `armed` tells whether the notifier of the reader's CPU is armed.
fn read_armed(_: &Armed, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let token = preempt_disable();

    writeln!(f, "{}", u32::from(RETURNS.this_cpu(&token).is_armed()))
}

/// Reading `returns` shows the counters of all CPUs.
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

/// What the two files work on: nothing but the per-CPU variable.
struct Armed;
struct Counters;

/// The module. When it is unloaded, its fields are dropped in this order.
#[pin_data]
struct Sample {
    // First the files go, so that nobody arms a notifier any more.
    #[pin]
    armed: File<Armed>,
    #[pin]
    returns: File<Counters>,
    _dir: Dir,
    // Then the notifiers are disarmed, each on its own CPU. After that the code may go.
    _registration: Registration<Returns>,
    // Returns to user mode need not look for them any more.
    _enabled: Enabled,
}

impl kernel::InPlaceModule for Sample {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let dir = Dir::new(c"uret_sample_notifier");

        try_pin_init!(Self {
            _enabled: Enabled::new(),
            // From here on the notifiers can be armed.
            _registration: Registration::new(RETURNS)?,
            returns <- dir.read_callback_file(c"returns", Counters, &read_returns),
            armed <- dir.read_write_callback_file(c"armed", Armed, &read_armed, &write_armed),
            _dir: dir.clone(),
        })
    }
}
