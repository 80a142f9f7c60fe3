// SPDX-License-Identifier: GPL-2.0-only

//! The demonstration, on both emulators.

use std::path::Path;
use std::thread;

use anyhow::Result;

use crate::bench::{count, time};
use crate::machine::Images;
use crate::samples::Measured;
use crate::table::{above_stock, Table};

/// Prints the table of a vendor. Returns whether uret executes fewer instructions than stock.
fn show(title: &str, vendor: &str, results: Result<Vec<Measured>>) -> bool {
    println!("\n{title}\n");
    let results = match results {
        Ok(results) => results,
        Err(err) => {
            println!("{err:#}");
            return false;
        }
    };
    let table = Table::new(&results, vendor);
    let more = above_stock(&table, &[]);
    let [stock, uret] = table.sums();
    print!("{}", table.print());
    for line in &more {
        println!("MORE: {line}");
    }
    more.is_empty() && uret < stock
}

/// Runs the demonstration on both emulators.
pub fn demo(images: &Images, plugin: &Path, work: &Path) -> Result<bool> {
    let (svm, vmx) = thread::scope(|scope| {
        let vmx = scope.spawn(|| time(images, "demo", &work.join("vmx-demo")));
        let svm = count(images, plugin, ("demo-count", 1), &work.join("svm-demo"));
        let svm = show(
            "SVM: KVM on an emulated AMD CPU (QEMU)",
            "svm",
            svm.map(|(results, _)| results),
        );
        let vmx = vmx.join().expect("the thread does not panic");
        (
            svm,
            show("VMX: KVM on an emulated Intel CPU (Bochs)", "vmx", vmx),
        )
    });
    if !(svm && vmx) {
        println!("\nThe demonstration failed. make check ONLY=demo shows more.");
    }
    Ok(svm && vmx)
}
