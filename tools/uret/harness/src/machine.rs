// SPDX-License-Identifier: GPL-2.0-only

//! The emulated machines.
//!
//! Each run has a time limit, which ends the emulator itself, by SIGKILL: Bochs ignores SIGTERM
//! while a guest spins. A run is judged by what came over the serial line, not by the exit status:
//! Bochs ends with a panic of its own when the machine powers off.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use clap::ValueEnum;

use crate::storm::{Storm, READY};

/// The emulators.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Vehicle {
    Qemu,
    Bochs,
}

impl Vehicle {
    /// What it has to virtualize with.
    pub fn platform(self) -> &'static str {
        match self {
            Vehicle::Qemu => "svm",
            Vehicle::Bochs => "vmx",
        }
    }

    /// The default number of CPUs: one in Bochs, which emulates a waiting CPU at full cost.
    pub fn usual_cpus(self) -> u32 {
        match self {
            Vehicle::Qemu => 2,
            Vehicle::Bochs => 1,
        }
    }
}

/// What a machine boots.
#[derive(Clone)]
pub struct Images {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// A run to be.
pub struct Machine {
    vehicle: Vehicle,
    run: String,
    limit: Duration,
    dir: PathBuf,
    cpus: u32,
    /// What the kernel's command line has besides.
    options: String,
    /// The plugin that counts, and its output.
    counting: Option<(PathBuf, PathBuf)>,
    /// NMIs and machine checks.
    storm: Option<Storm>,
    /// QEMU's clock: an instruction takes two to the power of this, in ns.
    pub shift: u32,
}

/// What became of it.
pub struct Output {
    /// All that came over the serial line.
    pub text: String,
    /// Why it did not get to its end.
    pub problem: Option<String>,
    /// What was injected, or why that did not go on.
    pub storm: Option<std::result::Result<String, String>>,
    /// How long it took.
    pub seconds: u64,
}

/// By default, an instruction in QEMU takes 2 to the power of this, in nanoseconds.
pub const USUAL_SHIFT: u32 = 3;

/// The run in which a task spins all the time.
pub const LAST_VM: &str = "last-vm";

const CMDLINE: &str =
    "console=ttyS0 quiet oops=panic panic=-1 suspend.pm_test_delay=1 log_buf_len=2M";

impl Machine {
    /// Prepares a run of `run`, of at most `limit` seconds, with its files in a folder of `work`.
    pub fn new(vehicle: Vehicle, run: &str, limit: u64, work: &Path) -> Self {
        let name = format!("{}-{}", vehicle.platform(), run.replace(',', "+"));
        Self {
            vehicle,
            run: run.to_string(),
            limit: Duration::from_secs(limit),
            dir: work.join(name),
            cpus: vehicle.usual_cpus(),
            options: String::new(),
            counting: None,
            storm: None,
            // Waiting beside a task that spins takes fewer instructions if they are slow.
            shift: if run == LAST_VM { 6 } else { USUAL_SHIFT },
        }
    }

    /// Gives it another number of CPUs, and the kernel's command line more options.
    pub fn with(self, cpus: u32, options: &str) -> Self {
        let mut name = self.dir.into_os_string();
        name.push(format!("-{cpus}{}", options.replace(' ', "+")));
        Self {
            dir: name.into(),
            cpus,
            options: options.to_string(),
            ..self
        }
    }

    fn cmdline(&self) -> String {
        let vehicle = match self.vehicle {
            Vehicle::Qemu => "",
            Vehicle::Bochs if self.cpus == 1 => "tsc=reliable ",
            // A CPU in MWAIT now and then misses that another one has written what it monitors.
            Vehicle::Bochs => "tsc=reliable idle=halt ",
        };
        let storm = self.storm.as_ref().map_or(String::new(), |it| {
            // Otherwise the first CPU alone gets NMIs from outside.
            format!("apic_extnmi=all uret.nmis={} ", it.nmis)
        });
        // Otherwise a thread prints, and the last lines may be lost with the CPU that it is on.
        let console = match self.run.as_str() {
            "reboot" => "earlycon=uart8250,io,0x3f8 keep_bootcon ",
            _ => "",
        };
        format!(
            "{CMDLINE} {vehicle}{storm}{console}{} uret.run={}",
            self.options, self.run
        )
    }

    /// Lets QEMU count with a plugin, which writes to `out`. On one CPU, two runs give the same.
    pub fn counting(self, plugin: &Path, out: &Path) -> Self {
        Self {
            counting: Some((plugin.to_path_buf(), out.to_path_buf())),
            ..self
        }
    }

    fn serial(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    fn said(&self, what: &str) -> bool {
        fs::read(self.serial()).is_ok_and(|text| String::from_utf8_lossy(&text).contains(what))
    }

    /// Injects so many NMIs on each CPU, with machine checks in between. In QEMU only.
    pub fn storming(self, nmis: u64) -> Self {
        Self {
            storm: Some(Storm::new(nmis, self.run == "storm-uret", &self.dir)),
            ..self
        }
    }

    /// Boots, waits for the end, and returns what was said.
    pub fn run(&self, images: &Images) -> Result<Output> {
        let (ended, lost) = (&AtomicBool::new(false), &AtomicBool::new(false));

        thread::scope(|scope| {
            let storm = self.storm.as_ref().map(|storm| {
                scope.spawn(move || {
                    let done = storm.run(self.cpus, || match self.said(READY) {
                        false if ended.load(Ordering::Relaxed) => None,
                        ready => Some(ready),
                    });
                    lost.store(done.is_err(), Ordering::Relaxed);
                    done
                })
            });
            let output = self.run_until(images, lost);
            ended.store(true, Ordering::Relaxed);
            let storm = storm.map(|it| it.join().expect("it does not panic"));
            Ok(Output {
                storm: storm.map(|it| it.map_err(|err| format!("{err:#}"))),
                ..output?
            })
        })
    }

    /// Stops when there is no point any more in going on.
    fn run_until(&self, images: &Images, lost: &AtomicBool) -> Result<Output> {
        fs::create_dir_all(&self.dir)?;
        fs::write(self.serial(), "")?;
        let start = Instant::now();
        let mut child = match self.vehicle {
            Vehicle::Qemu => self.qemu(images)?,
            Vehicle::Bochs => self.bochs(images)?,
        };
        let mut problem = None;
        while child.try_wait()?.is_none() {
            // Bochs does not come back from a reset.
            if self.vehicle == Vehicle::Bochs && self.said("reboot: Restarting system") {
                child.kill()?;
                child.wait()?;
                break;
            }
            if lost.load(Ordering::Relaxed) {
                child.kill()?;
                child.wait()?;
                problem = Some("stopped, as it would wait for what was lost".to_string());
                break;
            }
            if start.elapsed() > self.limit {
                child.kill()?;
                child.wait()?;
                problem = Some(format!(
                    "stopped at the time limit of {} s",
                    self.limit.as_secs()
                ));
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let text = String::from_utf8_lossy(&fs::read(self.serial())?).replace('\r', "");
        let end = if self.run == "reboot" {
            "reboot: Restarting system"
        } else {
            "URET-DONE"
        };
        if problem.is_none() && !text.contains(end) {
            problem = Some("the machine stopped before the end".to_string());
        }
        Ok(Output {
            text,
            problem: problem.map(|it| format!("{it}; see {}", self.serial().display())),
            storm: None,
            seconds: start.elapsed().as_secs(),
        })
    }

    fn qemu(&self, images: &Images) -> Result<Child> {
        let serial = format!("file:{}", self.serial().display());
        let cmdline = self.cmdline();
        let mut command = match &self.counting {
            None => {
                let mut command = qemu_command(images, &cmdline, self.cpus);
                // Instructions, of 8 ns each, are the clock. Otherwise the timers' interrupts come
                // from another thread, and if that happens while this one is at VMRUN or #VMEXIT,
                // where QEMU changes the same word, one gets lost, and an idle CPU never wakes.
                command.args(["-icount", &format!("shift={},sleep=off", self.shift)]);
                if let Some(storm) = &self.storm {
                    command.args(storm.arguments());
                }
                command
            }
            Some((plugin, out)) => {
                let plugin = format!("{},out={}", plugin.display(), out.display());
                // And nothing is random.
                let mut command = qemu_command(images, &cmdline, self.cpus);
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
            .stderr(fs::File::create(self.dir.join("qemu.log"))?)
            .spawn()
            .context("cannot start qemu-system-x86_64: run tools/uret/setup/deps.sh")
    }

    fn bochs(&self, images: &Images) -> Result<Child> {
        let cd = self.make_cd(images)?;
        let rc = self.dir.join("bochsrc");
        let commands = self.dir.join("commands");
        fs::write(&rc, bochsrc(&cd, &self.serial(), self.cpus))?;
        // The debugger stops at its prompt first.
        fs::write(&commands, "c\n")?;

        // It has no display that does without a terminal.
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
            let mut said = Vec::new();
            let mut buffer = [0; 4096];
            let mut screen = None;

            while let Ok(n @ 1..) = pty.read(&mut buffer) {
                if screen.is_none() {
                    said.extend_from_slice(&buffer[..n]);
                    screen = screen_of(&String::from_utf8_lossy(&said)).map(drain);
                }
            }
        });
        Ok(child)
    }

    /// Makes a CD that boots the kernel.
    fn make_cd(&self, images: &Images) -> Result<PathBuf> {
        let tree = self.dir.join("cd");
        let iso = self.dir.join("cd.iso");
        fs::create_dir_all(&tree)?;
        for (from, to) in [
            (Path::new("/usr/lib/ISOLINUX/isolinux.bin"), "isolinux.bin"),
            (
                Path::new("/usr/lib/syslinux/modules/bios/ldlinux.c32"),
                "ldlinux.c32",
            ),
            (&images.kernel, "kernel"),
            (&images.initrd, "initrd"),
        ] {
            fs::copy(from, tree.join(to)).with_context(|| format!("{}", from.display()))?;
        }
        let cmdline = self.cmdline();
        fs::write(
            tree.join("isolinux.cfg"),
            format!(
                "default l\nprompt 0\nlabel l\n kernel kernel\n append initrd=initrd {cmdline}\n"
            ),
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
}

/// The terminal that Bochs draws its screen on, out of what it says.
fn screen_of(said: &str) -> Option<PathBuf> {
    let (path, _) = said
        .split_once("connected to screen \"")?
        .1
        .split_once('"')?;

    Some(path.into())
}

/// Reads what Bochs draws. When the terminal is full, after some minutes, it would wait for that.
fn drain(screen: PathBuf) {
    thread::spawn(move || {
        let mut options = fs::OpenOptions::new();
        // Not as the terminal that we are controlled by.
        let file = options.read(true).custom_flags(libc::O_NOCTTY).open(screen);
        let mut buffer = [0; 4096];

        // It ends when Bochs does.
        if let Ok(mut file) = file {
            while matches!(file.read(&mut buffer), Ok(n) if n > 0) {}
        }
    });
}

fn qemu_command(images: &Images, cmdline: &str, cpus: u32) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    // One thread for both CPUs: with one for each, a CPU that is being sent past code that is patched
    // (a static key) now and then executes the INT3 that stood there before, and the kernel dies.
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

/// See the file FACTS.md for why it is so; logging makes KVM many times slower.
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

/// Boots to a prompt on this terminal.
pub fn interactive(images: &Images) -> Result<bool> {
    let status = qemu_command(images, &format!("{CMDLINE} uret.run=shell"), 2)
        .arg("-nographic")
        .status()
        .context("cannot start qemu-system-x86_64: run tools/uret/setup/deps.sh")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_of_bochs_is_found() {
        let said = "Bochs connected to screen \"/dev/pts/7\"\r\n";
        assert_eq!(screen_of(said), Some("/dev/pts/7".into()));
        assert_eq!(screen_of(&said[..30]), None);
    }
}
