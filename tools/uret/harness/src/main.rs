// SPDX-License-Identifier: GPL-2.0-only

//! Boots the kernel in QEMU (SVM) and Bochs (VMX), and checks the output.

mod bench;
mod bochs;
mod check;
mod demo;
mod emulator;
mod limits;
mod machine;
mod matrix;
mod plot;
mod publish;
mod qemu;
mod qmp;
mod report;
mod requirements;
mod results;
mod samples;
mod storm;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::bench::Bench;
use crate::check::Check;
use crate::emulator::Emulator;
use crate::machine::{Images, Machine};

#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The images to boot.
#[derive(clap::Args)]
struct Boot {
    /// The kernel image.
    #[arg(long)]
    kernel: PathBuf,
    /// The initramfs.
    #[arg(long)]
    initrd: PathBuf,
    /// The folder for logs and for the files of the emulators.
    #[arg(long)]
    work: PathBuf,
    #[command(subcommand)]
    command: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Boot the emulated machines.
    Run(Box<Boot>),
    /// Make a report from the output of switch_perf_test.sh on a real machine.
    Report {
        /// The output.
        file: PathBuf,
        /// The folder for the results.
        #[arg(long)]
        out: PathBuf,
    },
    /// Write the published report again, from results/results.json.
    Publish {
        /// The repository.
        top: PathBuf,
    },
}

#[derive(Subcommand)]
enum Run {
    /// Show the demonstration's table for SVM and VMX.
    Demo {
        /// The plugin for QEMU.
        #[arg(long)]
        plugin: PathBuf,
    },
    /// Run the tests, and print a TAP summary.
    Check {
        /// The file config/runs.
        #[arg(long)]
        matrix: PathBuf,
        /// The file with the list of tests, one per line.
        #[arg(long)]
        tests: PathBuf,
        /// Only runs with this text in the name.
        #[arg(long)]
        only: Option<String>,
        /// The initramfs with the KVM selftests for QEMU.
        #[arg(long)]
        kvm_qemu: Option<PathBuf>,
        /// The initramfs with the KVM selftests for Bochs.
        #[arg(long)]
        kvm_bochs: Option<PathBuf>,
        /// A kernel with KVM built in.
        #[arg(long)]
        builtin: Option<PathBuf>,
        /// The plugin for QEMU, to check the counts.
        #[arg(long)]
        plugin: Option<PathBuf>,
        /// Run in QEMU only.
        #[arg(long)]
        svm_only: bool,
        /// The factor of all time limits.
        #[arg(long, default_value_t = 1)]
        slow: u64,
    },
    /// Measure in both emulators, and write a report.
    Bench {
        /// The plugin for QEMU.
        #[arg(long)]
        plugin: PathBuf,
        /// The folder for the results.
        #[arg(long)]
        out: PathBuf,
        /// A kernel without the patches, for comparison.
        #[arg(long, requires = "unpatched_initrd")]
        unpatched_kernel: Option<PathBuf>,
        /// The initramfs with the modules of that kernel.
        #[arg(long, requires = "unpatched_kernel")]
        unpatched_initrd: Option<PathBuf>,
        /// Measure in QEMU only.
        #[arg(long)]
        svm_only: bool,
        /// Publish the results in this repository.
        #[arg(long, conflicts_with = "svm_only")]
        publish: Option<PathBuf>,
    },
    /// Boot to a prompt in QEMU.
    Shell,
    /// Boot once, and print the output of the machine.
    Boot {
        #[arg(long, value_enum, default_value = "qemu")]
        emulator: Emulator,
        /// The runs, see tools/uret/guest/init, separated by commas.
        #[arg(long)]
        run: String,
        /// The time limit, in seconds.
        #[arg(long, default_value_t = 300)]
        limit: u64,
        /// The number of CPUs.
        #[arg(long)]
        cpus: Option<u32>,
        /// Further options for the kernel command line.
        #[arg(long, default_value = "")]
        options: String,
        /// The number of NMIs to inject on each CPU, for nmi_stress_test.sh.
        #[arg(long, default_value_t = 0)]
        nmis: u64,
        /// The clock of QEMU: an instruction takes 2 to the power of SHIFT ns.
        #[arg(long, default_value_t = 3)]
        shift: u32,
    },
}

fn run(boot: Boot) -> Result<bool> {
    let images = Images {
        kernel: boot.kernel,
        initrd: boot.initrd,
    };
    match boot.command {
        Run::Demo { plugin } => demo::demo(&images, &plugin, &boot.work),
        Run::Check {
            matrix,
            tests,
            only,
            kvm_qemu,
            kvm_bochs,
            builtin,
            plugin,
            svm_only,
            slow,
        } => {
            let read = |path: &PathBuf| {
                fs::read_to_string(path).with_context(|| format!("{}", path.display()))
            };
            let check = Check {
                matrix: read(&matrix)?,
                tests: read(&tests)?.lines().map(str::to_string).collect(),
                only,
                builtin,
                kvm: [(Emulator::Qemu, kvm_qemu), (Emulator::Bochs, kvm_bochs)],
                plugin,
                svm_only,
                slow,
            };
            check::check(&images, &check, &boot.work)
        }
        Run::Bench {
            plugin,
            out,
            unpatched_kernel,
            unpatched_initrd,
            svm_only,
            publish,
        } => {
            let unpatched = unpatched_kernel.zip(unpatched_initrd);
            let bench = Bench {
                images,
                unpatched: unpatched.map(|(kernel, initrd)| Images { kernel, initrd }),
                plugin,
                out,
                svm_only,
                publish,
            };
            bench::bench(&bench, &boot.work)
        }
        Run::Shell => qemu::interactive(&images),
        Run::Boot {
            emulator,
            run,
            limit,
            cpus,
            options,
            nmis,
            shift,
        } => {
            let mut machine =
                Machine::new(emulator.operations(), &images, &run, &boot.work).limited_to(limit);
            machine.shift = shift;
            if cpus.is_some() || !options.is_empty() {
                machine = machine.with(cpus.unwrap_or(1), &options);
            }
            if nmis != 0 {
                machine = machine.storming(nmis);
            }
            let output = machine.run()?;
            print!("{}", output.text);
            let storm = output
                .storm
                .map(|result| result.map(|done| eprintln!("injected: {done}")));
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
        Command::Run(boot) => run(*boot),
        Command::Report { file, out } => bench::hardware(&file, &out),
        Command::Publish { top } => publish::again(&top).map(|()| true),
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
