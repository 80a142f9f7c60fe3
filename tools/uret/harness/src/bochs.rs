// SPDX-License-Identifier: GPL-2.0-only

//! Bochs, with VMX.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use anyhow::{bail, Context, Result};

use crate::machine::{Machine, Operations};

pub struct Bochs;

impl Operations for Bochs {
    fn vendor(&self) -> &'static str {
        "vmx"
    }

    /// In Bochs, a CPU that waits costs as much as a CPU that works.
    fn default_cpus(&self) -> u32 {
        1
    }

    fn kernel_options(&self, cpus: u32) -> &'static str {
        match cpus {
            1 => "tsc=reliable ",
            // No MWAIT: at times, a CPU in MWAIT misses the write to the monitored address.
            _ => "tsc=reliable idle=halt ",
        }
    }

    fn ends_at_reset(&self) -> bool {
        false
    }

    fn slowness(&self) -> u64 {
        3
    }

    fn start(&self, machine: &Machine, serial: &Path) -> Result<Child> {
        let cd = make_cd(machine)?;
        let rc = machine.dir.join("bochsrc");
        let commands = machine.dir.join("commands");
        fs::write(&rc, bochsrc(&cd, serial, machine.cpus))?;
        // Let the debugger continue from its first prompt.
        fs::write(&commands, "c\n")?;

        // All displays of Bochs need a terminal.
        let (mut pty, pts) = pty_process::blocking::open()?;
        let child = pty_process::blocking::Command::new("bochs")
            .arg("-q")
            .arg("-f")
            .arg(&rc)
            .arg("-rc")
            .arg(&commands)
            .env("TERM", "xterm")
            .spawn(pts)
            .context("cannot start bochs: run tools/uret/setup/deps.sh")?;
        thread::spawn(move || {
            let mut output = Vec::new();
            let mut buffer = [0; 4096];
            let mut screen = None;

            while let Ok(n @ 1..) = pty.read(&mut buffer) {
                if screen.is_none() {
                    output.extend_from_slice(&buffer[..n]);
                    screen = screen_of(&String::from_utf8_lossy(&output)).map(drain);
                }
            }
        });
        Ok(child)
    }
}

/// Creates a CD that boots the kernel.
fn make_cd(machine: &Machine) -> Result<PathBuf> {
    let tree = machine.dir.join("cd");
    let iso = machine.dir.join("cd.iso");
    fs::create_dir_all(&tree)?;
    for (from, to) in [
        (Path::new("/usr/lib/ISOLINUX/isolinux.bin"), "isolinux.bin"),
        (
            Path::new("/usr/lib/syslinux/modules/bios/ldlinux.c32"),
            "ldlinux.c32",
        ),
        (&machine.images.kernel, "kernel"),
        (&machine.images.initrd, "initrd"),
    ] {
        fs::copy(from, tree.join(to)).with_context(|| format!("{}", from.display()))?;
    }
    let cmdline = machine.cmdline();
    fs::write(
        tree.join("isolinux.cfg"),
        format!("default l\nprompt 0\nlabel l\n kernel kernel\n append initrd=initrd {cmdline}\n"),
    )?;
    let output = Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-o"])
        .arg(&iso)
        .args("-b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4".split(' '))
        .arg("-boot-info-table")
        .arg(&tree)
        .output()
        .context("cannot run xorriso: run tools/uret/setup/deps.sh")?;
    if !output.status.success() {
        bail!("xorriso: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(iso)
}

/// Finds the path of the terminal for the screen in the output of Bochs.
fn screen_of(output: &str) -> Option<PathBuf> {
    let (path, _) = output
        .split_once("connected to screen \"")?
        .1
        .split_once('"')?;

    Some(path.into())
}

/// Reads the screen, as Bochs waits once the terminal is full, after some minutes.
fn drain(screen: PathBuf) {
    thread::spawn(move || {
        let mut options = fs::OpenOptions::new();
        // Do not make the terminal the controlling terminal.
        let file = options.read(true).custom_flags(libc::O_NOCTTY).open(screen);
        let mut buffer = [0; 4096];

        // Ends along with Bochs.
        if let Ok(mut file) = file {
            while matches!(file.read(&mut buffer), Ok(n) if n > 0) {}
        }
    });
}

/// The configuration: a CPU with VMX, EPT and unrestricted guests. Logging is disabled, as KVM is
/// many times slower with logging.
fn bochsrc(cd: &Path, serial: &Path, cpus: u32) -> String {
    format!(
        "cpu: model=corei7_haswell_4770, count={cpus}, ips=50000000, ignore_bad_msrs=1\n\
         memory: guest=2048, host=2048\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
         display_library: term\n\
         ata0-master: type=cdrom, path=\"{}\", status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, mode=file, dev=\"{}\"\n\
         clock: sync=none\n\
         log: /dev/null\n\
         debugger_log: /dev/null\n\
         panic: action=fatal\n\
         error: action=ignore\n\
         info: action=ignore\n\
         debug: action=ignore\n",
        cd.display(),
        serial.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_is_found() {
        let output = "Bochs connected to screen \"/dev/pts/7\"\r\n";
        assert_eq!(screen_of(output), Some("/dev/pts/7".into()));
        assert_eq!(screen_of(&output[..30]), None);
    }
}
