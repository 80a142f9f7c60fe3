// SPDX-License-Identifier: GPL-2.0

//! uret: MSRs that keep a guest's value until the CPU returns to user mode.
//!
//! See `Documentation/virt/uret` for the design, and `include/linux/uret.h` for the interface.

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

mod abi;
mod cpu;
mod fatal;
mod fsgs;
mod kvm;
mod registry;
mod slots;
mod stats;
mod svm;
mod trace;
mod vmload;
mod vmx;

use fatal::fatal;

module! {
    type: Uret,
    name: "uret",
    authors: ["uret developers"],
    description: "Just-in-time switching of user-mode MSRs",
    license: "GPL",
}

/// The hooks of CPU hotplug and of system sleep, which are C.
struct Hooks;

impl Hooks {
    fn new() -> Result<Self> {
        // SAFETY: May be called once, which the module's initializer does.
        to_result(unsafe { bindings::uret_shim_init() })?;
        Ok(Self)
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        // SAFETY: `uret_shim_init()` has succeeded.
        unsafe { bindings::uret_shim_exit() };
    }
}

/// The module. Its parts go in the order in which they stand here.
#[pin_data]
struct Uret {
    #[pin]
    stats: stats::Stats,
    hooks: Hooks,
    users: registry::Users,
}

impl kernel::InPlaceModule for Uret {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // SAFETY: Called once, before the module's functions can be: users are modules that
            // depend on this one, or, where it is built in, come later.
            users: unsafe { registry::Users::new() }?,
            hooks: Hooks::new()?,
            stats <- stats::Stats::new(),
        })
    }
}
