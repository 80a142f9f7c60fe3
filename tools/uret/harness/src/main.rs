// SPDX-License-Identifier: GPL-2.0-only

//! Boots the kernel in QEMU (SVM) and Bochs (VMX), and judges the runs by what they print.

mod bench;
mod judge;
mod limits;
mod machine;
mod plan;
mod plot;
mod report;
mod samples;
mod storm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::bench::Bench;
use crate::machine::{Images, Machine, Vehicle};
use crate::plan::Check;

#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What is booted, and where.
#[derive(clap::Args)]
struct Boot {
    /// The kernel image.
    #[arg(long)]
    kernel: PathBuf,
    /// The initramfs.
    #[arg(long)]
    initrd: PathBuf,
    /// Where logs and the emulators' own files go.
    #[arg(long)]
    work: PathBuf,
    #[command(subcommand)]
    command: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Boot the emulated machines.
    Run(Boot),
    /// Make a report of what bench.sh has printed on a real machine.
    Report {
        /// What it has printed.
        file: PathBuf,
        /// Where the results go.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Subcommand)]
enum Run {
    /// Show the demonstration's table for SVM and VMX.
    Demo,
    /// Run the tests, and print a TAP summary.
    Check {
        /// The initramfs that has KVM's selftests for QEMU.
        #[arg(long)]
        kvm_qemu: Option<PathBuf>,
        /// The initramfs that has KVM's selftests for Bochs.
        #[arg(long)]
        kvm_bochs: Option<PathBuf>,
        /// A kernel with KVM built in.
        #[arg(long)]
        builtin: Option<PathBuf>,
        /// The plugin for QEMU, to be tested, too.
        #[arg(long)]
        plugin: Option<PathBuf>,
        /// Run in QEMU only.
        #[arg(long)]
        svm_only: bool,
        /// How many times as long as usual things may take.
        #[arg(long, default_value_t = 1)]
        slow: u64,
    },
    /// Measure in both emulators, and write a report.
    Bench {
        /// The plugin for QEMU.
        #[arg(long)]
        plugin: PathBuf,
        /// Where the results go.
        #[arg(long)]
        out: PathBuf,
        /// A kernel without the patches, to be measured, too.
        #[arg(long, requires = "unpatched_initrd")]
        unpatched_kernel: Option<PathBuf>,
        /// The initramfs with its modules.
        #[arg(long, requires = "unpatched_kernel")]
        unpatched_initrd: Option<PathBuf>,
        /// Measure in QEMU only.
        #[arg(long)]
        svm_only: bool,
    },
    /// Boot to a prompt in QEMU.
    Shell,
    /// Run something once, and print all that the machine says.
    Boot {
        #[arg(long, value_enum, default_value = "qemu")]
        vehicle: Vehicle,
        /// What tools/uret/guest/init knows, separated by commas.
        #[arg(long)]
        run: String,
        /// The time limit, in seconds.
        #[arg(long, default_value_t = 300)]
        limit: u64,
        /// How many CPUs the machine has.
        #[arg(long)]
        cpus: Option<u32>,
        /// What the kernel's command line has besides.
        #[arg(long, default_value = "")]
        options: String,
        /// How many NMIs to inject on each CPU, for storm-uret and storm-stock.
        #[arg(long, default_value_t = 0)]
        nmis: u64,
    },
}

fn run(boot: Boot) -> Result<bool> {
    let images = Images {
        kernel: boot.kernel,
        initrd: boot.initrd,
    };
    match boot.command {
        Run::Demo => plan::demo(&images, &boot.work),
        Run::Check {
            kvm_qemu,
            kvm_bochs,
            builtin,
            plugin,
            svm_only,
            slow,
        } => {
            let check = Check {
                builtin,
                kvm: [(Vehicle::Qemu, kvm_qemu), (Vehicle::Bochs, kvm_bochs)],
                plugin,
                svm_only,
                slow,
            };
            plan::check(&images, check, &boot.work)
        }
        Run::Bench {
            plugin,
            out,
            unpatched_kernel,
            unpatched_initrd,
            svm_only,
        } => {
            let unpatched = unpatched_kernel.zip(unpatched_initrd);
            let bench = Bench {
                images,
                unpatched: unpatched.map(|(kernel, initrd)| Images { kernel, initrd }),
                plugin,
                out,
                svm_only,
            };
            bench::bench(&bench, &boot.work)
        }
        Run::Shell => machine::interactive(&images),
        Run::Boot {
            vehicle,
            run,
            limit,
            cpus,
            options,
            nmis,
        } => {
            let mut machine = Machine::new(vehicle, &run, limit, &boot.work);
            if cpus.is_some() || !options.is_empty() {
                machine = machine.with(cpus.unwrap_or(1), &options);
            }
            if nmis != 0 {
                machine = machine.storming(nmis);
            }
            let output = machine.run(&images)?;
            print!("{}", output.text);
            let storm = output
                .storm
                .map(|it| it.map(|done| eprintln!("injected: {done}")));
            let problems = [output.problem, storm.and_then(Result::err)];
            for problem in problems.iter().flatten() {
                eprintln!("{problem}");
            }
            Ok(problems.iter().all(Option::is_none))
        }
    }
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Run(boot) => run(boot),
        Command::Report { file, out } => bench::hardware(&file, &out),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("harness: {err:#}");
            ExitCode::FAILURE
        }
    }
}
