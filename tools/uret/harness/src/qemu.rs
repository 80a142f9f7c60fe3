// SPDX-License-Identifier: GPL-2.0-only

//! QEMU, with SVM.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine::{Images, Machine, Operations, CMDLINE};
use crate::qmp::{self, Qmp};

pub struct Qemu;

impl Operations for Qemu {
    fn vendor(&self) -> &'static str {
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

    fn describe_hang(&self, machine: &Machine) -> Option<String> {
        let describe = || -> Result<String> {
            let mut qmp = Qmp::connect(&machine.monitor(), Duration::from_secs(10))?;
            let mut text = qmp.monitor(0, "info registers -a")?;
            for cpu in 0..machine.cpus {
                text += &qmp.monitor(0, &format!("info lapic {cpu}"))?;
            }
            qmp.nmi()?;
            Ok(text.replace('\r', ""))
        };

        Some(describe().unwrap_or_else(|err| format!("the monitor of QEMU: {err:#}")))
    }

    fn start(&self, machine: &Machine, serial: &Path) -> Result<Child> {
        let serial = format!("file:{}", serial.display());
        let cmdline = machine.cmdline();
        let mut command = match &machine.counting {
            None => {
                let mut command = command(&machine.images, &cmdline, machine.cpus);
                // With -icount, the clock counts instructions. Without -icount, timer interrupts
                // come from another thread: VMRUN and #VMEXIT change the same word in QEMU, an
                // interrupt is lost at times, and an idle CPU never wakes up.
                command.args(["-icount", &format!("shift={},sleep=off", machine.shift)]);
                command.args(qmp::arguments(&machine.monitor()));
                if let Some(storm) = &machine.storm {
                    command.args(storm.arguments());
                }
                command
            }
            Some((plugin, out)) => {
                let plugin = format!("{},out={}", plugin.display(), out.display());
                // A fixed clock and seed, as two runs must give identical counts.
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
    // One thread for all CPUs. With a thread for each CPU, a CPU that executes code that another
    // CPU patches (a static key) at times executes the old INT3, and the kernel dies.
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

/// Boots to a prompt on the current terminal.
pub fn interactive(images: &Images) -> Result<bool> {
    let status = command(images, &format!("{CMDLINE} uret.run=shell"), 2)
        .arg("-nographic")
        .status()
        .context("cannot start qemu-system-x86_64: run tools/uret/setup/deps.sh")?;
    Ok(status.success())
}
