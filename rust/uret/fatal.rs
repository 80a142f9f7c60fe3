// SPDX-License-Identifier: GPL-2.0

//! The end of what can be restored.

use kernel::{
    bindings,
    str::CStr, //
};

/// Stops the machine: rather that than user mode with a guest's values.
///
/// A Rust `panic!` is a `BUG()`, which ends the current task only.
#[cold]
pub(crate) fn fatal(message: &'static CStr) -> ! {
    // SAFETY: Both are strings, as the format says.
    unsafe { bindings::panic(c"%s".as_ptr().cast(), message.as_ptr()) }
}
