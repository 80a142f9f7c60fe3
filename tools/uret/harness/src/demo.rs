// SPDX-License-Identifier: GPL-2.0-only

//! The demonstration.

use std::path::Path;

use anyhow::Result;

use crate::check::run_all;
use crate::emulator::Emulator;
use crate::machine::Images;
use crate::matrix::Boot;
use crate::results::{block, splat};

/// Shows the demonstration on both emulators.
pub fn demo(images: &Images, work: &Path) -> Result<bool> {
    let boots = vec![
        Boot::new(Emulator::Qemu, "demo", 60),
        Boot::new(Emulator::Bochs, "demo", 100),
    ];
    let mut good = true;

    run_all(boots, images, work, |boot, output| {
        let title = match boot.emulator {
            Emulator::Qemu => "SVM: KVM on an emulated AMD CPU (QEMU)",
            Emulator::Bochs => "VMX: KVM on an emulated Intel CPU (Bochs)",
        };
        println!("\n{title}\n");
        match output {
            Ok(output) => {
                let found = block(&output.text, "demo");
                for line in found.iter().flat_map(|it| &it.lines) {
                    println!("{line}");
                }
                if let Some(problem) = &output.problem {
                    println!("{problem}");
                }
                good &= output.problem.is_none() && found.is_some_and(|it| it.status == Some(0));
                if let Some(splat) = splat(&output.text) {
                    println!("{}", splat.note);
                    good = false;
                }
            }
            Err(err) => {
                println!("{err:#}");
                good = false;
            }
        }
    });
    if !good {
        println!("\nThe demonstration failed. make check ONLY=demo shows more.");
    }
    Ok(good)
}
