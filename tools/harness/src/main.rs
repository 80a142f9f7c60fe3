// SPDX-License-Identifier: GPL-2.0-only

//! Boots the kernel in QEMU (SVM) and Bochs (VMX), and judges the runs by what they print.

mod judge;
mod machine;
mod plan;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::machine::{Images, Machine, Vehicle};

#[derive(Parser)]
#[command(version, about)]
struct Args {
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
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
        /// Run in QEMU only.
        #[arg(long)]
        svm_only: bool,
        /// How many times as long as usual things may take.
        #[arg(long, default_value_t = 1)]
        slow: u64,
    },
    /// Boot to a prompt in QEMU.
    Shell,
    /// Run something once, and print all that the machine says.
    Boot {
        #[arg(long, value_enum, default_value = "qemu")]
        vehicle: Vehicle,
        /// What tools/init knows, separated by commas.
        #[arg(long)]
        run: String,
        /// The time limit, in seconds.
        #[arg(long, default_value_t = 300)]
        limit: u64,
    },
}

fn run(args: Args) -> Result<bool> {
    let images = Images {
        kernel: args.kernel,
        initrd: args.initrd,
    };
    match args.command {
        Command::Demo => plan::demo(&images, &args.work),
        Command::Check {
            kvm_qemu,
            kvm_bochs,
            svm_only,
            slow,
        } => {
            let kvm = [(Vehicle::Qemu, kvm_qemu), (Vehicle::Bochs, kvm_bochs)];
            plan::check(&images, kvm, svm_only, slow, &args.work)
        }
        Command::Shell => machine::interactive(&images),
        Command::Boot {
            vehicle,
            run,
            limit,
        } => {
            let machine = Machine::new(vehicle, &run, limit, &args.work);
            let output = machine.run(&images)?;
            print!("{}", output.text);
            if let Some(problem) = &output.problem {
                eprintln!("{problem}");
            }
            Ok(output.problem.is_none())
        }
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("harness: {err:#}");
            ExitCode::FAILURE
        }
    }
}
