// SPDX-License-Identifier: GPL-2.0

//! A stand-in for the parts of the kernel crate that the rule files use, for tests on the host.
//!
//! For one thread only. In the kernel, KUnit runs the same tests with the real crate.

pub use uret_unit_macros as macros;

/// `kernel::prelude`.
pub mod prelude {
    pub use crate::{
        error::{code::*, Error, Result},
        module, KBox, ThisModule, GFP_KERNEL,
    };
}

/// `kernel::error`.
pub mod error {
    /// An error number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(i32);

    /// `kernel::error::Result`.
    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    /// The error numbers.
    pub mod code {
        use super::Error;

        pub const ENOENT: Error = Error(2);
        pub const EIO: Error = Error(5);
        pub const ENXIO: Error = Error(6);
        pub const EBUSY: Error = Error(16);
        pub const EEXIST: Error = Error(17);
        pub const EINVAL: Error = Error(22);
        pub const ENOSPC: Error = Error(28);
    }
}

/// `kernel::ThisModule`.
pub struct ThisModule;

/// `kernel::Module`.
pub trait Module: Sized {
    /// Initializes the module.
    fn init(module: &'static ThisModule) -> error::Result<Self>;
}

/// `kernel::module!`, which declares nothing here.
#[macro_export]
macro_rules! module {
    ($($tokens:tt)*) => {};
}

/// `kernel::alloc::flags::GFP_KERNEL`.
pub const GFP_KERNEL: () = ();

/// `kernel::alloc::KBox`.
pub struct KBox<T>(Box<T>);

impl<T> KBox<T> {
    /// Allocates memory for `value`; the flags have no effect.
    pub fn new(value: T, _flags: ()) -> error::Result<Self> {
        Ok(Self(Box::new(value)))
    }
}

impl<T> core::ops::Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> core::ops::DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// `kernel::sync::atomic`.
pub mod sync {
    pub mod atomic {
        use core::cell::Cell;

        pub struct Acquire;
        pub struct Relaxed;
        pub struct Release;

        /// An atomic variable, for one thread: the orderings have no effect.
        pub struct Atomic<T>(Cell<T>);

        impl<T: Copy> Atomic<T> {
            pub const fn new(value: T) -> Self {
                Self(Cell::new(value))
            }

            pub fn load<O>(&self, _ordering: O) -> T {
                self.0.get()
            }

            pub fn store<O>(&self, value: T, _ordering: O) {
                self.0.set(value);
            }
        }

        impl Atomic<usize> {
            pub fn add<O>(&self, value: usize, _ordering: O) {
                self.0.set(self.0.get().wrapping_add(value));
            }
        }
    }
}

/// `kernel::percpu`.
pub mod percpu {
    use core::cell::Cell;

    /// A bitmap of a CPU, for one thread.
    pub struct LocalMask(Cell<usize>);

    impl LocalMask {
        #[allow(clippy::new_without_default)]
        pub const fn new() -> Self {
            Self(Cell::new(0))
        }

        pub fn get(&self) -> usize {
            self.0.get()
        }

        pub fn set(&self, bits: usize) {
            self.0.set(self.0.get() | bits);
        }

        pub fn clear(&self, bits: usize) {
            self.0.set(self.0.get() & !bits);
        }
    }
}

/// The types of `include/linux/uret.h`.
pub mod bindings {
    pub const URET_MAX_SLOTS: u32 = usize::BITS;

    /// `struct uret_values`.
    #[allow(non_camel_case_types)]
    pub struct uret_values {
        pub load: usize,
        pub partial: usize,
        pub data: [u64; URET_MAX_SLOTS as usize],
        pub mask: [u64; URET_MAX_SLOTS as usize],
    }

    impl Default for uret_values {
        fn default() -> Self {
            Self {
                load: 0,
                partial: 0,
                data: [0; URET_MAX_SLOTS as usize],
                mask: [0; URET_MAX_SLOTS as usize],
            }
        }
    }
}
