// SPDX-License-Identifier: GPL-2.0

//! A stand-in for the attribute of KUnit suites: the module is one of tests.

use proc_macro::TokenStream;

/// Compiles a KUnit suite as a module of tests.
#[proc_macro_attribute]
pub fn kunit_tests(_suite: TokenStream, module: TokenStream) -> TokenStream {
    let mut tests: TokenStream = "#[cfg(test)]".parse().expect("an attribute");

    tests.extend(module);
    tests
}
