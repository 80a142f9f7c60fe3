// SPDX-License-Identifier: GPL-2.0-only

//! QEMU, with SVM.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::emulator::Operations;
use crate::machine::{Images, Machine};

pub struct Qemu;

impl Operations for Qemu {
    fn platform(&self) -> &'static str {
        "svm"
    }

    fn default_cpus(&self) -> u32 {
        2
    }

    fn kernel_options(&self, _cpus: u32) -> &'static str {
        ""
    }

    fn ends_at_reset(&self) -> bool {
        true
    }

    fn slowness(&self) -> u64 {
        1
    }

    fn start(&self, machine: &Machine, serial: &Path) -> Result<Child> {
        let serial = format!("file:{}", serial.display());
        let cmdline = machine.cmdline();
        let mut command = match &machine.counting {
            None => {
                let mut command = command(&machine.images, &cmdline, machine.cpus);
                // The clock counts instructions, of 8 ns each. Otherwise timer interrupts come from
                // another thread: at VMRUN or #VMEXIT, where QEMU changes the same word, one can get
                // lost, and an idle CPU never wakes.
                command.args(["-icount", &format!("shift={},sleep=off", machine.shift)]);
                if let Some(storm) = &machine.storm {
                    command.args(storm.arguments());
                }
                command
            }
            Some((plugin, out)) => {
                let plugin = format!("{},out={}", plugin.display(), out.display());
                // A fixed seed, as two runs must give identical counts.
                let mut command = command(&machine.images, &cmdline, machine.cpus);
                command
                    .args(
                        "-icount shift=0,sleep=off -rtc base=2026-01-01,clock=vm -seed 1"
                            .split(' '),
                    )
                    .args(["-plugin", &plugin]);
                command
            }
        };
        command
            .args(["-display", "none", "-monitor", "none", "-serial", &serial])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(machine.dir.join("qemu.log"))?)
            .spawn()
            .context("cannot start qemu-system-x86_64: run tools/uret/setup/deps.sh")
    }
}

/// The command for a machine, without the devices of a run.
pub fn command(images: &Images, cmdline: &str, cpus: u32) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    // One thread for all CPUs: with a thread for each, a CPU that executes code that another CPU patches
    // (a static key) at times executes the INT3 that was there before, and the kernel dies.
    command
        .args("-accel tcg,thread=single -cpu max -m 4G -no-reboot -net none".split(' '))
        .args(["-smp", &cpus.to_string()])
        .arg("-kernel")
        .arg(&images.kernel)
        .arg("-initrd")
        .arg(&images.initrd)
        .args(["-append", cmdline]);
    command
}
