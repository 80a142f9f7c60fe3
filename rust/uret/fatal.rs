// SPDX-License-Identifier: GPL-2.0

//! Stops the machine if the host's state cannot be restored.

use kernel::{
    bindings,
    str::CStr, //
};

/// Stops the machine, so that user mode does not run with a guest's values.
///
/// A Rust `panic!` is a `BUG()`, which only ends the current task.
#[cold]
pub(crate) fn fatal(message: &'static CStr) -> ! {
    // SAFETY: Both pointers are to C strings, and the format takes one string.
    unsafe { bindings::panic(c"%s".as_ptr().cast(), message.as_ptr()) }
}
