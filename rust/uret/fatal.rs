// SPDX-License-Identifier: GPL-2.0

//! The stop of the machine, where the host's state cannot be restored.

use kernel::{
    bindings,
    str::CStr, //
};

/// Stops the machine, so that user mode does not run with a guest's values.
///
/// A Rust `panic!` is a `BUG()`, which only ends the current task.
#[cold]
pub(crate) fn fatal(message: &'static CStr) -> ! {
    // SAFETY: Both are strings, as the format says.
    unsafe { bindings::panic(c"%s".as_ptr().cast(), message.as_ptr()) }
}
