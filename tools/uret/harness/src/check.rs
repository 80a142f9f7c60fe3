// SPDX-License-Identifier: GPL-2.0-only

//! Runs the boots of a check, and prints their results as TAP.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{mpsc, Mutex};
use std::thread;

use anyhow::{ensure, Result};

use crate::bench::check_plugin;
use crate::emulator::Emulator;
use crate::machine::{Images, Output};
use crate::matrix::{self, Boot};
use crate::results::{
    block, compare, ending, expected, is_ktap, ktap, last_lines, splat, statuses, Outcome, Status,
};
use crate::samples::timed;
use crate::table;

/// Programs that print no KTAP.
const NO_KTAP: [&str; 2] = [DEMO, "reboot"];
const DEMO: &str = "demo";

fn counts(lines: &[&str], emulator: Emulator) -> Outcome {
    let vendor = emulator.vendor();
    match timed(lines, vendor, "emulator") {
        Ok(results) => table::outcome(&results),
        Err(err) => Outcome::new("counts", Status::Fail, format!("{err:#}")),
    }
}

/// The results of a boot, with the names of the runs.
fn results(boot: &Boot, output: &Output) -> Vec<(String, Outcome)> {
    let mut all = Vec::new();
    let mut add = |run: &str, outcomes: Vec<Outcome>| {
        all.extend(
            outcomes
                .into_iter()
                .map(|outcome| (run.to_string(), outcome)),
        );
    };
    let fail = |name: &str, note: &str| vec![Outcome::new(name, Status::Fail, note)];

    for run in &boot.runs {
        let Some(found) = block(&output.text, run) else {
            add(
                run,
                fail(
                    "output",
                    "expected a marker URET-BEGIN of the run, got none",
                ),
            );
            continue;
        };
        if matrix::is_list(run) {
            let stock = format!("{}@stock", matrix::program(run));
            if *run != stock {
                let stock = block(&output.text, &stock).map(|block| statuses(&block));
                let mut outcomes = compare(&stock.unwrap_or_default(), &statuses(&found));
                let lines = last_lines(&found);
                for outcome in &mut outcomes {
                    if let (Status::Fail, Some(lines)) = (outcome.status, lines.get(&outcome.name))
                    {
                        outcome.note = format!("{}\n{lines}", outcome.note);
                    }
                }
                add(run, outcomes);
            }
            add(run, vec![ending(&found)]);
        } else if NO_KTAP.contains(&matrix::program(run)) {
            let ended = ending(&found);
            if *run == DEMO && ended.status == Status::Pass {
                add(run, vec![counts(&found.lines, boot.emulator)]);
            }
            add(run, vec![ended]);
        } else if !is_ktap(&found) {
            let last = found.lines.len().saturating_sub(6);
            add(
                run,
                fail(
                    "output",
                    &format!("expected KTAP, got:\n{}", found.lines[last..].join("\n")),
                ),
            );
        } else {
            let outcomes = ktap(&found).into_iter();
            add(
                run,
                outcomes
                    .map(|outcome| expected(outcome, boot.cpus()))
                    .collect(),
            );
        }
    }
    let runs = boot.runs.join(",");
    match &output.storm {
        Some(Ok(_)) => add(
            &runs,
            vec![Outcome::new("no NMI is lost", Status::Pass, "")],
        ),
        Some(Err(err)) => add(&runs, fail("no NMI is lost", err)),
        None => {}
    }
    if let Some(problem) = &output.problem {
        add(&runs, fail("machine", problem));
    }
    add(&runs, splat(&output.text).into_iter().collect());
    all
}

/// Runs the boots, the longest first, and passes each result to `each`. An emulator keeps one CPU
/// busy.
pub fn run_all(
    mut boots: Vec<Boot>,
    images: &Images,
    work: &Path,
    mut each: impl FnMut(&Boot, Result<Output>),
) {
    boots.sort_by_key(|boot| boot.limit);
    let boots = Mutex::new(boots);
    // Unlocks before the boot starts.
    let next = || boots.lock().expect("no boot panics").pop();
    let at_once = thread::available_parallelism().map_or(2, |cpus| cpus.get().clamp(2, 4));
    let (sender, receiver) = mpsc::channel();

    thread::scope(|scope| {
        for _ in 0..at_once {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(boot) = next() {
                    eprintln!("# {}: {} ...", boot.name(), boot.runs.join(","));
                    let output = boot.machine(images, work).run();
                    let _ = sender.send((boot, output));
                }
            });
        }
        drop(sender);
        for (boot, output) in receiver {
            each(&boot, output);
        }
    });
}

/// Prints results as TAP, and counts the results.
struct Tap {
    /// The variables of the command that repeats a run.
    variables: String,
    passed: usize,
    skipped: usize,
    /// The output of each failure.
    failures: Vec<String>,
}

impl Tap {
    fn all(&self) -> usize {
        self.passed + self.failures.len() + self.skipped
    }

    /// Adds the result of a run in a machine. A failure is printed with the log of the machine.
    fn add(&mut self, machine: &str, run: &str, outcome: &Outcome, log: Option<&Output>) {
        let (word, directive) = match outcome.status {
            Status::Pass => ("ok", ""),
            Status::Fail => ("not ok", ""),
            Status::Skip => ("ok", " # SKIP"),
        };
        let name = format!("{machine}: {run}: {}", outcome.name);
        let mut text = format!("{word} {} {name}{directive}\n", self.all() + 1);
        let mut note =
            |line: &str| text.push_str(&format!("#   {}\n", line.trim_start_matches("# ")));

        outcome.note.lines().for_each(&mut note);
        if outcome.status == Status::Fail {
            if let Some(output) = log {
                let line = line_of(&output.text, run, &outcome.name);
                note(&format!("log: {}:{line}", output.log.display()));
            }
            note(&format!(
                "again: make check {}ONLY='{machine}: {run}'",
                self.variables
            ));
        }
        print!("{text}");
        match outcome.status {
            Status::Pass => self.passed += 1,
            Status::Skip => self.skipped += 1,
            Status::Fail => self.failures.push(text),
        }
    }
}

/// The line of a failed test or of a splat in a log, or else the first line of the run.
fn line_of(text: &str, run: &str, test: &str) -> usize {
    let begin = format!("URET-BEGIN {run}");
    let begin = text.lines().position(|line| line == begin);
    let begin = begin.or_else(|| text.lines().position(|line| line.starts_with("URET-SPLAT")));
    let begin = begin.unwrap_or(0);
    // The lines of KUnit lack the name of the suite.
    let test = test.rsplit('.').next().unwrap_or(test);
    let listed = format!("TEST {test} ");
    let failed =
        |line: &&str| (line.contains("not ok") && line.contains(test)) || line.starts_with(&listed);

    let rest = text.lines().skip(begin);
    begin + 1 + rest.clone().position(|line| failed(&line)).unwrap_or(0)
}

/// The parts of a check.
pub struct Check {
    /// The boots: the text of config/runs.
    pub matrix: String,
    /// The tests of the uret kselftests.
    pub tests: Vec<String>,
    /// A part of the names of the runs to select.
    pub only: Option<String>,
    /// A kernel with KVM built in.
    pub builtin: Option<PathBuf>,
    /// The initramfs with the KVM selftests, for each emulator.
    pub kvm: [(Emulator, Option<PathBuf>); 2],
    /// The plugin for QEMU.
    pub plugin: Option<PathBuf>,
    pub svm_only: bool,
    /// The factor of all time limits.
    pub slow: u64,
}

impl Check {
    fn boots(&self) -> Result<Vec<Boot>> {
        let slow = self.slow != 1;
        let mut boots = matrix::boots(&self.matrix, &self.tests, self.svm_only, slow)?;
        for emulator in [Emulator::Qemu, Emulator::Bochs] {
            if let Some(kernel) = &self.builtin {
                boots.push(Boot {
                    kernel: Some(kernel.clone()),
                    ..Boot::new(emulator, "demo,doctests", 60)
                });
            }
        }
        for (emulator, initrd) in &self.kvm {
            if let Some(initrd) = initrd {
                boots.push(Boot {
                    initrd: Some(initrd.clone()),
                    limit: 1800,
                    ..Boot::new(*emulator, "kvm@uret,kvm@stock", 1800)
                });
            }
        }
        for boot in &mut boots {
            // config/runs has the times of a slow machine. Allow twice as much.
            boot.limit *= 2 * self.slow;
        }
        Ok(match &self.only {
            Some(only) => matrix::select(boots, only),
            None => boots,
        })
    }
}

/// Runs the tests. Prints TAP, then all failures again, and at the end `N passed, N failed, N
/// skipped`.
pub fn check(images: &Images, check: &Check, work: &Path) -> Result<bool> {
    let boots = check.boots()?;
    let mut variables = String::new();
    if check.slow != 1 {
        variables.push_str("DEBUG=1 ");
    }
    if let Some(source) = env::var("KSRC").ok().filter(|source| !source.is_empty()) {
        variables.push_str(&format!("KSRC='{source}' "));
    }
    let mut tap = Tap {
        variables,
        passed: 0,
        skipped: 0,
        failures: Vec::new(),
    };
    let plugin = check.plugin.as_ref().filter(|_| {
        let only = check.only.as_deref().unwrap_or("");
        "svm: count-check".contains(only)
    });

    ensure!(
        !boots.is_empty() || plugin.is_some(),
        "expected \"{}\" in the name of a run; see config/runs and the output of make check",
        check.only.as_deref().unwrap_or("")
    );
    println!("TAP version 13");
    if let Some(plugin) = plugin {
        for outcome in check_plugin(images, plugin, work) {
            tap.add("svm", "count-check", &outcome, None);
        }
    }
    run_all(boots, images, work, |boot, output| match output {
        Ok(output) => {
            eprintln!(
                "# {}: {}: {} s",
                boot.name(),
                boot.runs.join(","),
                output.seconds
            );
            for (run, outcome) in results(boot, &output) {
                tap.add(&boot.name(), &run, &outcome, Some(&output));
            }
        }
        Err(err) => {
            let outcome = Outcome::new("machine", Status::Fail, format!("{err:#}"));
            tap.add(&boot.name(), &boot.runs.join(","), &outcome, None);
        }
    });
    println!("1..{}", tap.all());
    if !tap.failures.is_empty() {
        println!("# The failures again:");
        for line in tap.failures.iter().flat_map(|text| text.lines()) {
            println!("# {}", line.trim_start_matches("# "));
        }
    }
    let (passed, failed, skipped) = (tap.passed, tap.failures.len(), tap.skipped);
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0 && passed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_a_failure_is_found() {
        let text =
            "boot\nURET-BEGIN a\nok 1 x\nnot ok 2 y\nURET-END a 1\nURET-BEGIN b\nnot ok 1 y\n";
        assert_eq!(line_of(text, "a", "suite.y"), 4);
        assert_eq!(line_of(text, "b", "y"), 7);
        assert_eq!(line_of(text, "b", "none"), 6);
        let text = "URET-BEGIN kvm\nTEST x 0 1 s\nTEST y 1 1 s\nURET-END kvm 0\nURET-SPLAT BUG\n";
        assert_eq!(line_of(text, "kvm", "y"), 3);
        assert_eq!(line_of(text, "all runs", "no splat"), 5);
    }
}
