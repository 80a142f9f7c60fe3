// SPDX-License-Identifier: GPL-2.0-only

//! Measures the costs of switches in both emulators, and checks the requirements.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{bail, ensure, Context, Result};
use uret_count::record::{self, Record};

use crate::bochs::Bochs;
use crate::machine::{Images, Machine, Output};
use crate::publish;
use crate::qemu::Qemu;
use crate::report;
use crate::requirements::{plugin_counts, requirements};
use crate::results::{block, Outcome, Status};
use crate::samples::{counted, timed, Measured};

/// The inputs and outputs of a measurement.
pub struct Bench {
    pub images: Images,
    /// A kernel without the patches, for comparison.
    pub unpatched: Option<Images>,
    /// The plugin for QEMU.
    pub plugin: PathBuf,
    /// The folder for the results.
    pub out: PathBuf,
    pub svm_only: bool,
    /// The repository for published results, or none.
    pub publish: Option<PathBuf>,
}

/// The output of a run, if the run has succeeded.
fn lines<'a>(output: &'a Output, run: &str) -> Result<Vec<&'a str>> {
    if let Some(problem) = &output.problem {
        bail!("{problem}");
    }
    let block = block(&output.text, run).context("expected output of the run, got none")?;
    let end = block.lines.len().saturating_sub(5);
    ensure!(
        block.status == Some(0),
        "expected exit status 0 of the run, got {:?}:\n{}",
        block.status,
        block.lines[end..].join("\n")
    );
    Ok(block.lines)
}

/// Counts a run in QEMU. Returns the results, and the records, for a comparison with another run.
pub fn count(
    images: &Images,
    plugin: &Path,
    (run, cpus): (&str, u32),
    work: &Path,
) -> Result<(Vec<Measured>, Vec<Record>)> {
    fs::create_dir_all(work)?;
    let records = work.join("records.jsonl");
    // All tasks are pinned. Disable the load balancer, which depends on the phase of the ticks.
    let options = if cpus > 1 { "isolcpus=1" } else { "" };
    let machine = Machine::new(&Qemu, images, run, work)
        .limited_to(600)
        .with(cpus, options)
        .counting(plugin, &records);
    eprintln!("# svm: counting in QEMU ...");
    let output = machine.run()?;
    let lines = lines(&output, run)?;
    eprintln!("# svm: {} s", output.seconds);
    let records = record::parse(&fs::read_to_string(&records)?).context("the plugin's records")?;
    Ok((counted(&lines, &records, "svm")?, records))
}

/// Measures the time of a run in Bochs.
pub fn time(images: &Images, run: &str, work: &Path) -> Result<Vec<Measured>> {
    let machine = Machine::new(&Bochs, images, run, work).limited_to(900);
    eprintln!("# vmx: timing in Bochs ...");
    let output = machine.run()?;
    let lines = lines(&output, run)?;
    eprintln!("# vmx: {} s", output.seconds);
    timed(&lines, "vmx", "bochs")
}

/// The runs that count, and their numbers of CPUs.
const ONE_CPU: (&str, u32) = ("bench-count", 1);
const TWO_CPUS: (&str, u32) = ("bench-migrate-count", 2);

/// Checks the counts of the plugin in QEMU.
pub fn check_plugin(images: &Images, plugin: &Path, work: &Path) -> Vec<Outcome> {
    let dir = work.join("count-check");

    match count(images, plugin, ("count-check", 1), &dir) {
        Ok((results, _)) => plugin_counts(&results)
            .into_iter()
            .map(|requirement| match requirement.holds() {
                true => Outcome::new(requirement.text, Status::Pass, ""),
                false => {
                    let failures = requirement.failures.join("\n");
                    let note = format!("{failures}\nthe plugin's records are in {}", dir.display());
                    Outcome::new(requirement.text, Status::Fail, note)
                }
            })
            .collect(),
        Err(err) => vec![Outcome::new("machine", Status::Fail, format!("{err:#}"))],
    }
}

/// Measures, prints a table and the requirements, and writes the results and a report.
pub fn bench(bench: &Bench, work: &Path) -> Result<bool> {
    let unpatched = bench.unpatched.as_ref();
    let (qemu, bochs) = thread::scope(|scope| {
        let bochs = scope.spawn(|| {
            let mut results = Vec::new();
            if !bench.svm_only {
                results.extend(time(&bench.images, "bench-time", &work.join("vmx"))?);
                if let Some(images) = unpatched {
                    results.extend(time(images, "bench-time", &work.join("vmx-unpatched"))?);
                }
            }
            anyhow::Ok(results)
        });
        let count = |images, run, name| count(images, &bench.plugin, run, &work.join(name));
        let qemu = || {
            let (mut results, first) = count(&bench.images, ONE_CPU, "run-1")?;
            let (_, second) = count(&bench.images, ONE_CPU, "run-2")?;
            results.extend(count(&bench.images, TWO_CPUS, "migrate")?.0);
            if let Some(images) = unpatched {
                results.extend(count(images, ONE_CPU, "unpatched")?.0);
                results.extend(count(images, TWO_CPUS, "migrate-unpatched")?.0);
            }
            anyhow::Ok((results, first == second))
        };
        (qemu(), bochs.join().expect("the thread does not panic"))
    });
    let (mut results, identical) = qemu?;
    results.extend(bochs.context("Bochs")?);

    let all = requirements(&results, identical);
    report::write(&results, &all, &bench.out)?;
    print!("{}", report::table(&results));
    for requirement in &all {
        println!(
            "{}: {}",
            if requirement.holds() { "ok" } else { "NOT OK" },
            requirement
        );
    }
    println!("\nThe report is {}.", bench.out.join("report.md").display());
    let good = all.iter().all(|requirement| requirement.holds());
    if let (true, Some(top)) = (good, &bench.publish) {
        publish::publish(&results, &all, top)?;
    }
    Ok(good)
}

/// Makes a report from the output of switch_perf_test.sh on a real machine.
pub fn hardware(file: &Path, out: &Path) -> Result<bool> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines: Vec<&str> = text.lines().collect();
    let vendor = match lines.iter().find_map(|line| line.strip_prefix("MACHINE ")) {
        Some(machine) if machine.starts_with("kvm-amd") => "svm",
        Some(_) => "vmx",
        None => bail!(
            "{}: expected a line MACHINE of switch_perf_test.sh, got none",
            file.display()
        ),
    };
    let results = timed(&lines, vendor, "hardware")?;
    report::write(&results, &[], out)?;
    print!("{}", report::table(&results));
    Ok(true)
}
