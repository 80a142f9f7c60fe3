// SPDX-License-Identifier: GPL-2.0

//! uret: MSRs that keep a guest's value until the CPU returns to user mode.
//!
//! See `Documentation/virt/uret` for the design, and `include/linux/uret.h` for the interface.

use kernel::{
    bindings,
    error::to_result,
    preempt::{
        preempt_disable,
        NotInNmi, //
    },
    prelude::*, //
};

mod abi;
mod fatal;
mod registry;
mod stats;
mod table;
mod x86;

use fatal::fatal;
use x86::X86 as Arch;

module! {
    type: Uret,
    name: "uret",
    authors: ["uret developers"],
    description: "Just-in-time switching of guest state",
    license: "GPL",
}

/// The registration of the callbacks for CPU hotplug and system sleep.
struct Hotplug;

impl Hotplug {
    fn new() -> Result<Self> {
        // SAFETY: Only the initializer of the module calls this, once. The contexts of CPU hotplug
        // and of system sleep allow both callbacks.
        to_result(unsafe { bindings::uret_hotplug_init(Some(cpu_up), Some(cpu_down)) })?;
        Ok(Self)
    }
}

impl Drop for Hotplug {
    fn drop(&mut self) {
        // SAFETY: `uret_hotplug_init()` has succeeded.
        unsafe { bindings::uret_hotplug_exit() };
    }
}

extern "C" fn cpu_up() {
    registry::cpu_up(&preempt_disable());
}

extern "C" fn cpu_down() {
    // SAFETY: The callbacks of hotplug and of system sleep do not run in NMIs.
    registry::cpu_down(&preempt_disable(), unsafe { NotInNmi::assume() });
}

/// The module. The fields are dropped in this order.
#[pin_data]
struct Uret {
    #[pin]
    stats: stats::Stats,
    hotplug: Hotplug,
    registration: registry::Registration,
}

impl kernel::InPlaceModule for Uret {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // SAFETY: Called once, before all other functions of the registry: users are modules
            // that depend on this module, or built-in code that is initialized later.
            registration: unsafe { registry::Registration::new() }?,
            hotplug: Hotplug::new()?,
            stats <- stats::Stats::new(),
        })
    }
}
