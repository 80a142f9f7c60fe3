// SPDX-License-Identifier: GPL-2.0-only

//! One boot of an emulated machine.
//!
//! At the time limit, SIGKILL ends the emulator: Bochs ignores SIGTERM while a guest spins. The
//! output of the serial line is the result, not the exit status of the emulator: Bochs ends with a
//! panic when the machine powers off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::storm::{Storm, READY};

/// The operations of an emulator.
pub trait Operations: Sync {
    /// The name of the virtualization extension.
    fn vendor(&self) -> &'static str;

    /// The number of CPUs of a run that needs no other number.
    fn default_cpus(&self) -> u32;

    /// Options for the kernel command line, each with a blank at the end.
    fn kernel_options(&self, cpus: u32) -> &'static str;

    /// Starts the machine, with `serial` as the file of its serial line.
    fn start(&self, machine: &Machine, serial: &Path) -> Result<Child>;

    /// Whether the emulator ends when the machine resets.
    fn ends_at_reset(&self) -> bool;

    /// The factor of the time limits, relative to QEMU.
    fn slowness(&self) -> u64;

    /// Describes a machine that has not ended in time, if the emulator can, and lets the kernel print
    /// the stacks of all CPUs and of blocked tasks.
    fn describe_hang(&self, _machine: &Machine) -> Option<String> {
        None
    }
}

/// The images that a machine boots.
#[derive(Clone)]
pub struct Images {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// The configuration of a boot.
pub struct Machine {
    pub emulator: &'static dyn Operations,
    pub run: String,
    pub images: Images,
    pub limit: Duration,
    /// The folder for the logs and for the files of the emulator.
    pub dir: PathBuf,
    pub cpus: u32,
    /// Further options for the kernel command line.
    pub options: String,
    /// The plugin, and the file for the output of the plugin.
    pub counting: Option<(PathBuf, PathBuf)>,
    /// NMIs and machine checks to inject.
    pub storm: Option<Storm>,
    /// The clock of QEMU: an instruction takes 2 to the power of `shift` ns.
    pub shift: u32,
}

/// The result of a boot.
pub struct Output {
    /// The output of the serial line.
    pub text: String,
    /// The file of that output.
    pub log: PathBuf,
    /// The reason if the machine did not reach the end.
    pub problem: Option<String>,
    /// A summary of the injected NMIs, or the reason for the end of the injection.
    pub storm: Option<std::result::Result<String, String>>,
    /// The duration of the boot.
    pub seconds: u64,
}

/// The options of all boots for the kernel command line.
pub const CMDLINE: &str =
    "console=ttyS0 quiet oops=panic panic=-1 unknown_nmi_panic panic_sys_info=all_bt,blocked_tasks \
     suspend.pm_test_delay=1 log_buf_len=2M";

/// How long the kernel may print after [`Operations::describe_hang()`].
const HANG_PRINT_LIMIT: Duration = Duration::from_secs(60);

/// The first run, and the number of further runs: Bochs and Unix sockets limit the length of a path.
fn dir_name(runs: &str) -> String {
    let mut runs = runs.split(',');
    let first = runs.next().unwrap_or_default();

    match runs.count() {
        0 => first.to_string(),
        others => format!("{first}+{others}"),
    }
}

impl Machine {
    /// Prepares a boot that executes `run`, with all files in a folder of `work`.
    pub fn new(emulator: &'static dyn Operations, images: &Images, run: &str, work: &Path) -> Self {
        Self {
            emulator,
            run: run.to_string(),
            images: images.clone(),
            limit: Duration::from_secs(300),
            dir: work.join(format!("{}-{}", emulator.vendor(), dir_name(run))),
            cpus: emulator.default_cpus(),
            options: String::new(),
            counting: None,
            storm: None,
            shift: 3,
        }
    }

    /// Sets the number of CPUs, and adds options to the kernel command line.
    pub fn with(mut self, cpus: u32, options: &str) -> Self {
        let mut name = self.dir.into_os_string();
        // QEMU splits the path of a socket at these characters.
        name.push(format!("-{cpus}{}", options.replace([' ', '=', ','], "+")));
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

    /// Lets QEMU count with a plugin, which writes to `out`. On one CPU, two runs give identical
    /// counts.
    pub fn counting(mut self, plugin: &Path, out: &Path) -> Self {
        self.counting = Some((plugin.to_path_buf(), out.to_path_buf()));
        self
    }

    /// Injects `nmis` NMIs on each CPU, with machine checks in between. In QEMU only.
    pub fn storming(mut self, nmis: u64) -> Self {
        self.storm = Some(Storm::new(nmis, self.run.ends_with("@uret"), &self.dir));
        self
    }

    /// The kernel command line.
    pub fn cmdline(&self) -> String {
        let emulator = self.emulator.kernel_options(self.cpus);
        let storm = self.storm.as_ref().map_or(String::new(), |storm| {
            // Without apic_extnmi=all, only the first CPU gets external NMIs.
            format!("apic_extnmi=all uret.nmis={} ", storm.nmis)
        });
        // Without earlycon, a thread prints, and the last lines are lost if its CPU stops first.
        let console = match self.run.as_str() {
            "reboot" => "earlycon=uart8250,io,0x3f8 keep_bootcon ",
            _ => "",
        };
        format!(
            "{CMDLINE} {emulator}{storm}{console}{} uret.run={}",
            self.options, self.run
        )
    }

    /// The socket of the monitor of QEMU.
    pub fn monitor(&self) -> PathBuf {
        self.dir.join("qmp")
    }

    fn serial(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    /// Prints which machine runs, every 10 s. Of several machines, one prints.
    fn sign_of_life(&self, elapsed: Duration) {
        static LAST: Mutex<Option<Instant>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);

        if last.get_or_insert_with(Instant::now).elapsed() >= Duration::from_secs(10) {
            *last = Some(Instant::now());
            let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
            eprintln!("# {name}: {} s", elapsed.as_secs());
        }
    }

    fn printed(&self, text: &str) -> bool {
        fs::read(self.serial()).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
    }

    /// Boots the machine, waits for the end, and returns the output.
    pub fn run(&self) -> Result<Output> {
        let (ended, lost) = (&AtomicBool::new(false), &AtomicBool::new(false));

        thread::scope(|scope| {
            let storm = self.storm.as_ref().map(|storm| {
                scope.spawn(move || {
                    let done =
                        storm.run(&self.monitor(), self.cpus, || match self.printed(READY) {
                            false if ended.load(Ordering::Relaxed) => None,
                            ready => Some(ready),
                        });
                    lost.store(done.is_err(), Ordering::Relaxed);
                    done
                })
            });
            let output = self.run_until(lost);
            ended.store(true, Ordering::Relaxed);
            let storm = storm.map(|thread| thread.join().expect("the thread does not panic"));
            Ok(Output {
                storm: storm.map(|result| result.map_err(|err| format!("{err:#}"))),
                ..output?
            })
        })
    }

    /// Ends the emulator at the time limit, and returns what is known about the reason.
    fn end_hung(&self, child: &mut Child) -> Result<String> {
        let description = self.emulator.describe_hang(self);
        let start = Instant::now();

        while description.is_some()
            && child.try_wait()?.is_none()
            && start.elapsed() < HANG_PRINT_LIMIT
        {
            thread::sleep(Duration::from_millis(100));
        }
        child.kill()?;
        child.wait()?;
        Ok(format!(
            "stopped at the time limit of {} s{}",
            self.limit.as_secs(),
            description.map_or(String::new(), |text| format!("\n{text}\n"))
        ))
    }

    /// As [`Self::run()`], but without the injection of NMIs. Kills the emulator when `lost` is
    /// set.
    fn run_until(&self, lost: &AtomicBool) -> Result<Output> {
        fs::create_dir_all(&self.dir)?;
        fs::write(self.serial(), "")?;
        let start = Instant::now();
        let emulator = self.emulator;
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
                problem = Some("stopped: an NMI is lost".to_string());
                break;
            }
            if start.elapsed() > self.limit {
                problem = Some(self.end_hung(&mut child)?);
                break;
            }
            self.sign_of_life(start.elapsed());
            thread::sleep(Duration::from_millis(100));
        }
        let text = String::from_utf8_lossy(&fs::read(self.serial())?).replace('\r', "");
        let end = if self.run == "reboot" {
            "reboot: Restarting system"
        } else {
            "URET-DONE"
        };
        if problem.is_none() && !text.contains(end) {
            problem = Some(format!("expected \"{end}\" in the output, got none"));
        }
        Ok(Output {
            text,
            log: self.serial(),
            problem: problem.map(|text| format!("{text}; see {}", self.serial().display())),
            storm: None,
            seconds: start.elapsed().as_secs(),
        })
    }
}
