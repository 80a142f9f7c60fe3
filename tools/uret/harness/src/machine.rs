// SPDX-License-Identifier: GPL-2.0-only

//! One boot of an emulated machine.
//!
//! At the time limit the emulator is killed by SIGKILL: Bochs ignores SIGTERM while a guest spins. The
//! output of the serial line decides about a run, not the exit status: Bochs ends with a panic when the
//! machine powers off.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::emulator::Emulator;
use crate::qemu;
use crate::storm::{Storm, READY};

/// The images that a machine boots.
#[derive(Clone)]
pub struct Images {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// A machine, before the boot.
pub struct Machine {
    pub emulator: Emulator,
    pub run: String,
    pub images: Images,
    pub limit: Duration,
    /// The folder of the logs, and of the emulator's own files.
    pub dir: PathBuf,
    pub cpus: u32,
    /// Further options for the kernel's command line.
    pub options: String,
    /// The plugin that counts, and its output.
    pub counting: Option<(PathBuf, PathBuf)>,
    /// NMIs and machine checks.
    pub storm: Option<Storm>,
    /// QEMU's clock: the time of an instruction is 2 to the power of this, in ns.
    pub shift: u32,
}

/// The result of a boot.
pub struct Output {
    /// The output of the serial line.
    pub text: String,
    /// The file of that output.
    pub log: PathBuf,
    /// Why the machine did not get to the end.
    pub problem: Option<String>,
    /// The number of NMIs injected, or why the injection stopped.
    pub storm: Option<std::result::Result<String, String>>,
    /// How long the boot took.
    pub seconds: u64,
}

const CMDLINE: &str =
    "console=ttyS0 quiet oops=panic panic=-1 suspend.pm_test_delay=1 log_buf_len=2M";

impl Machine {
    /// Prepares a boot that executes `run`, with its files in a folder of `work`.
    pub fn new(emulator: Emulator, images: &Images, run: &str, work: &Path) -> Self {
        Self {
            emulator,
            run: run.to_string(),
            images: images.clone(),
            limit: Duration::from_secs(300),
            dir: work.join(format!("{}-{}", emulator.platform(), run.replace(',', "+"))),
            cpus: emulator.operations().default_cpus(),
            options: String::new(),
            counting: None,
            storm: None,
            shift: 3,
        }
    }

    /// Sets the number of CPUs, and adds options to the kernel's command line.
    pub fn with(mut self, cpus: u32, options: &str) -> Self {
        let mut name = self.dir.into_os_string();
        name.push(format!("-{cpus}{}", options.replace(' ', "+")));
        self.dir = name.into();
        self.cpus = cpus;
        self.options = options.to_string();
        self
    }

    /// Sets the time limit.
    pub fn limited_to(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Lets QEMU count with a plugin, which writes to `out`. On one CPU, two runs give identical counts.
    pub fn counting(mut self, plugin: &Path, out: &Path) -> Self {
        self.counting = Some((plugin.to_path_buf(), out.to_path_buf()));
        self
    }

    /// Injects so many NMIs on each CPU, with machine checks in between. In QEMU only.
    pub fn storming(mut self, nmis: u64) -> Self {
        self.storm = Some(Storm::new(nmis, self.run.ends_with("@uret"), &self.dir));
        self
    }

    /// The kernel's command line.
    pub fn cmdline(&self) -> String {
        let emulator = self.emulator.operations().kernel_options(self.cpus);
        let storm = self.storm.as_ref().map_or(String::new(), |storm| {
            // Otherwise only the first CPU gets external NMIs.
            format!("apic_extnmi=all uret.nmis={} ", storm.nmis)
        });
        // Otherwise a thread prints, and the last lines may be lost along with its CPU.
        let console = match self.run.as_str() {
            "reboot" => "earlycon=uart8250,io,0x3f8 keep_bootcon ",
            _ => "",
        };
        format!(
            "{CMDLINE} {emulator}{storm}{console}{} uret.run={}",
            self.options, self.run
        )
    }

    fn serial(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    fn printed(&self, text: &str) -> bool {
        fs::read(self.serial()).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
    }

    /// Boots, waits for the end, and returns the output.
    pub fn run(&self) -> Result<Output> {
        let (ended, lost) = (&AtomicBool::new(false), &AtomicBool::new(false));

        thread::scope(|scope| {
            let storm = self.storm.as_ref().map(|storm| {
                scope.spawn(move || {
                    let done = storm.run(self.cpus, || match self.printed(READY) {
                        false if ended.load(Ordering::Relaxed) => None,
                        ready => Some(ready),
                    });
                    lost.store(done.is_err(), Ordering::Relaxed);
                    done
                })
            });
            let output = self.run_until(lost);
            ended.store(true, Ordering::Relaxed);
            let storm = storm.map(|it| it.join().expect("it does not panic"));
            Ok(Output {
                storm: storm.map(|it| it.map_err(|err| format!("{err:#}"))),
                ..output?
            })
        })
    }

    /// Kills the emulator early if an NMI is lost.
    fn run_until(&self, lost: &AtomicBool) -> Result<Output> {
        fs::create_dir_all(&self.dir)?;
        fs::write(self.serial(), "")?;
        let start = Instant::now();
        let emulator = self.emulator.operations();
        let mut child = emulator.start(self, &self.serial())?;
        let mut problem = None;
        while child.try_wait()?.is_none() {
            if !emulator.ends_at_reset() && self.printed("reboot: Restarting system") {
                child.kill()?;
                child.wait()?;
                break;
            }
            if lost.load(Ordering::Relaxed) {
                child.kill()?;
                child.wait()?;
                problem = Some("stopped, as an NMI was lost".to_string());
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
            log: self.serial(),
            problem: problem.map(|it| format!("{it}; see {}", self.serial().display())),
            storm: None,
            seconds: start.elapsed().as_secs(),
        })
    }
}

/// Boots to a prompt on the current terminal.
pub fn interactive(images: &Images) -> Result<bool> {
    let status = qemu::command(images, &format!("{CMDLINE} uret.run=shell"), 2)
        .arg("-nographic")
        .status()
        .context("cannot start qemu-system-x86_64: run tools/uret/setup/deps.sh")?;
    Ok(status.success())
}
