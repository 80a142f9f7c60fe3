// SPDX-License-Identifier: GPL-2.0-only

//! Makes results of what switch_perf_test.sh printed, and of what the plugin counted meanwhile.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};
use uret_count::record::{Record, Summaries};

/// Counts of one operation, by class of instruction.
pub type PerOp = BTreeMap<String, f64>;

/// What one scenario costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// `svm` or `vmx`.
    pub platform: String,
    /// `qemu`, `bochs` or `hardware`.
    pub vehicle: String,
    /// `stock` or `uret`.
    pub mode: String,
    pub scenario: String,
    /// How many operations were measured.
    pub ops: u64,
    /// What the host executed for an operation: the median.
    pub per_op: PerOp,
    /// What the guest executed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guest: PerOp,
    /// As `per_op`, but the mean, with timer ticks and whatever else came between.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mean: PerOp,
    /// How far apart the quartiles of the ticks, or of the instructions that they stand for, are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}

impl Measured {
    /// What an operation costs: instructions, or ticks where these are all that is known.
    pub fn cost(&self) -> Option<f64> {
        let instructions = self.per_op.get("instructions");
        instructions.or_else(|| self.per_op.get("ticks")).copied()
    }
}

/// Classes of what tracing tells about MSRs that a guest and the host share, by their place in a
/// line.
const SWITCHED: [(usize, &str); 2] = [(2, "switch wrmsr"), (3, "switch rdmsr")];

/// A line of switch_perf_test.sh.
enum Line<'a> {
    /// What follows is of this mode and state.
    State(&'a str, &'a str),
    /// The next record of the plugin is of this scenario and number of operations.
    Count(&'a str, u64),
    /// So many operations of this scenario took so many ticks.
    Ticks(&'a str, u64, f64),
    /// So many operations of this scenario wrote and read so many MSRs, so many of those that a
    /// guest and the host share, and loaded the GDT so many times.
    Msrs(&'a str, u64, [f64; 5]),
    /// Of so many operations of this scenario uret has counted sets, elisions and restores.
    Uret(&'a str, u64, [f64; 3]),
}

fn parse(line: &str) -> Result<Option<Line<'_>>> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    Ok(Some(match words[..] {
        ["STATE", mode, state] => Line::State(mode, state),
        ["COUNT", scenario, ops] => Line::Count(scenario, ops.parse()?),
        ["TICKS", scenario, ops, ticks] => Line::Ticks(scenario, ops.parse()?, ticks.parse()?),
        ["MSRS", scenario, ops, writes, reads, switch_writes, switch_reads, lgdts] => Line::Msrs(
            scenario,
            ops.parse()?,
            [
                writes.parse()?,
                reads.parse()?,
                switch_writes.parse()?,
                switch_reads.parse()?,
                lgdts.parse()?,
            ],
        ),
        ["URET", scenario, ops, written, elided, restored] => Line::Uret(
            scenario,
            ops.parse()?,
            [written.parse()?, elided.parse()?, restored.parse()?],
        ),
        ["STATE" | "COUNT" | "TICKS" | "MSRS" | "URET", ..] => bail!("words are missing"),
        _ => return Ok(None),
    }))
}

/// With no VM, what is measured depends on the state that the modules are in.
fn name_of(scenario: &str, state: &str) -> String {
    match state {
        "absent" | "loaded" | "after-vms" => format!("{scenario}/{state}"),
        _ => scenario.to_string(),
    }
}

/// Makes results of the output of `switch_perf_test.sh count` and the records of the plugin.
pub fn counted(lines: &[&str], records: &[Record], platform: &str) -> Result<Vec<Measured>> {
    let mut records = records.iter();
    let mut results = Vec::new();
    let (mut mode, mut state) = ("", "");
    let mut traced = None;

    for line in lines {
        match parse(line).with_context(|| line.to_string())? {
            Some(Line::State(new_mode, new_state)) => (mode, state) = (new_mode, new_state),
            Some(Line::Count(scenario, ops)) => {
                let record = records
                    .next()
                    .ok_or_else(|| anyhow!("{scenario}: the plugin has counted nothing"))?;
                ensure!(
                    record.samples as u64 >= ops,
                    "{scenario}: {ops} operations, but {} samples",
                    record.samples
                );
                let map = |it: &Summaries, value: fn(&uret_count::record::Summary, f64) -> f64| {
                    it.iter()
                        .map(|(name, it)| (name.clone(), value(it, record.samples as f64)))
                        .filter(|it| it.1 > 0.0)
                        .collect()
                };
                results.push(Measured {
                    platform: platform.to_string(),
                    vehicle: "qemu".to_string(),
                    mode: mode.to_string(),
                    scenario: name_of(scenario, state),
                    ops: record.samples as u64,
                    per_op: map(&record.host, |it, _| it.median as f64),
                    guest: map(&record.guest, |it, _| it.median as f64),
                    mean: map(&record.host, |it, samples| it.total as f64 / samples),
                    spread: None,
                });
            }
            Some(Line::Msrs(scenario, ops, counts)) => {
                // What the plugin cannot tell: which MSRs these were. There are two lines.
                let last = results
                    .last_mut()
                    .filter(|it: &&mut Measured| it.scenario == name_of(scenario, state))
                    .with_context(|| format!("{line}: what was counted comes first"))?;
                match traced.take() {
                    None => traced = Some((ops, counts)),
                    Some((fewer, before)) => {
                        ensure!(ops > fewer, "{line}: no more operations than before");
                        for (i, class) in SWITCHED {
                            let count = (counts[i] - before[i]) / (ops - fewer) as f64;
                            last.per_op.insert(class.to_string(), count);
                        }
                    }
                }
            }
            // The plugin has told all about these.
            Some(Line::Uret(..)) => {}
            Some(Line::Ticks(..)) => bail!("{line}: not in this mode"),
            None => {}
        }
    }
    ensure!(
        records.next().is_none(),
        "the plugin has counted more than was announced"
    );
    ensure!(!results.is_empty(), "nothing was measured");
    Ok(results)
}

/// The values of batches of N and of 2 N operations.
#[derive(Default)]
struct Batches(BTreeMap<u64, Vec<f64>>);

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

fn quantile(sorted: &[f64], of_four: usize) -> f64 {
    sorted[(sorted.len() - 1) * of_four / 4]
}

impl Batches {
    fn add(&mut self, ops: u64, value: f64) {
        self.0.entry(ops).or_default().push(value);
    }

    /// What an operation adds: the median, and how far apart the quartiles are.
    fn per_op(&self) -> Result<(f64, f64)> {
        let (Some((n, small)), Some((m, large)), 2) = (
            self.0.first_key_value(),
            self.0.last_key_value(),
            self.0.len(),
        ) else {
            bail!("there are not two sizes of batches");
        };
        ensure!(small.len() == large.len() && m > n, "batches are missing");
        let ops = (m - n) as f64;
        let each = sorted(large.iter().zip(small).map(|(m, n)| (m - n) / ops));
        Ok((quantile(&each, 2), quantile(&each, 3) - quantile(&each, 1)))
    }

    fn ops(&self) -> u64 {
        self.0.iter().map(|(ops, it)| ops * it.len() as u64).sum()
    }
}

/// What is known of one scenario in one mode.
#[derive(Default)]
struct Timed {
    ticks: Batches,
    msrs: [Batches; 5],
    uret: [Batches; 3],
}

/// Makes results of the output of `switch_perf_test.sh time`.
///
/// In Bochs, the TSC counts instructions, of host and guest, but goes on while the CPU is idle.
pub fn timed(lines: &[&str], platform: &str, vehicle: &str) -> Result<Vec<Measured>> {
    let mut all: Vec<((String, String), Timed)> = Vec::new();
    let (mut mode, mut state) = ("", "");

    for line in lines {
        let parsed = parse(line).with_context(|| line.to_string())?;
        let (scenario, ops) = match parsed {
            Some(Line::State(new_mode, new_state)) => {
                (mode, state) = (new_mode, new_state);
                continue;
            }
            Some(
                Line::Ticks(scenario, ops, _)
                | Line::Msrs(scenario, ops, _)
                | Line::Uret(scenario, ops, _),
            ) => (scenario, ops),
            Some(Line::Count(..)) => bail!("{line}: not in this mode"),
            None => continue,
        };
        let key = (mode.to_string(), name_of(scenario, state));
        if all.last().is_none_or(|it| it.0 != key) {
            all.push((key, Timed::default()));
        }
        let timed = &mut all.last_mut().expect("there is one now").1;
        match parsed {
            Some(Line::Ticks(_, _, ticks)) => timed.ticks.add(ops, ticks),
            Some(Line::Msrs(_, _, counts)) => {
                for (batches, count) in timed.msrs.iter_mut().zip(counts) {
                    batches.add(ops, count);
                }
            }
            Some(Line::Uret(_, _, counts)) => {
                for (batches, count) in timed.uret.iter_mut().zip(counts) {
                    batches.add(ops, count);
                }
            }
            _ => {}
        }
    }
    ensure!(!all.is_empty(), "nothing was measured");

    let measured = |((mode, scenario), timed): ((String, String), Timed)| {
        let (ticks, spread) = timed.ticks.per_op().with_context(|| scenario.clone())?;
        let unit = match (vehicle, scenario.as_str()) {
            ("bochs", "guest-idle-guest") => "ticks",
            ("bochs", _) => "instructions",
            _ => "ticks",
        };
        let mut per_op = PerOp::from([(unit.to_string(), ticks)]);
        let msrs = ["wrmsr", "rdmsr", SWITCHED[0].1, SWITCHED[1].1, "lgdt"]
            .into_iter()
            .zip(&timed.msrs);
        let uret = ["uret set", "uret elided", "uret restored"]
            .into_iter()
            .zip(&timed.uret);
        for (class, batches) in msrs.chain(uret) {
            if !batches.0.is_empty() {
                per_op.insert(class.to_string(), batches.per_op()?.0);
            }
        }
        Ok(Measured {
            platform: platform.to_string(),
            vehicle: vehicle.to_string(),
            mode,
            scenario,
            ops: timed.ticks.ops(),
            per_op,
            guest: PerOp::new(),
            mean: PerOp::new(),
            spread: Some(spread),
        })
    };
    all.into_iter().map(measured).collect()
}

/// Finds what one scenario costs.
pub fn find<'a>(
    results: &'a [Measured],
    platform: &str,
    mode: &str,
    scenario: &str,
) -> Option<&'a Measured> {
    results
        .iter()
        .find(|it| it.platform == platform && it.mode == mode && it.scenario == scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(samples: usize, wrmsr: u64) -> Record {
        let text = format!(
            r#"{{"samples":{samples},"host":{{"wrmsr":{{"median":{wrmsr},"min":0,"max":9,"total":70}}}},"guest":{{}},"cpus":[]}}"#
        );
        uret_count::record::parse(&text).unwrap().remove(0)
    }

    #[test]
    fn records_get_the_names_that_were_announced() {
        let lines = [
            "STATE stock vm",
            "noise",
            "COUNT exit-to-user 10",
            "STATE uret loaded",
            "COUNT syscall 5",
        ];
        let results = counted(&lines, &[record(10, 3), record(7, 0)], "svm").unwrap();
        assert_eq!(results[0].mode, "stock");
        assert_eq!(results[0].scenario, "exit-to-user");
        assert_eq!(results[0].per_op["wrmsr"], 3.0);
        assert_eq!(results[0].mean["wrmsr"], 7.0);
        assert_eq!(results[1].scenario, "syscall/loaded");
        assert!(results[1].per_op.is_empty());
    }

    #[test]
    fn what_was_traced_belongs_to_what_was_counted() {
        let lines = [
            "COUNT a 10",
            "MSRS a 100 205 5 105 0 0",
            "MSRS a 200 405 5 205 50 0",
        ];
        let results = counted(&lines, &[record(10, 3)], "svm").unwrap();
        assert_eq!(results[0].per_op["wrmsr"], 3.0);
        assert_eq!(results[0].per_op["switch wrmsr"], 1.0);
        assert_eq!(results[0].per_op["switch rdmsr"], 0.5);
        assert!(counted(&lines[1..], &[], "svm").is_err());
        let other = ["COUNT a 10", "MSRS b 100 205 5 105 0 0"];
        assert!(counted(&other, &[record(10, 3)], "svm").is_err());
    }

    #[test]
    fn too_few_or_too_many_records_are_errors() {
        let lines = ["COUNT a 10"];
        assert!(counted(&lines, &[], "svm").is_err());
        assert!(counted(&lines, &[record(9, 0)], "svm").is_err());
        assert!(counted(&lines, &[record(10, 0), record(10, 0)], "svm").is_err());
        assert!(counted(&["COUNT a ten"], &[record(10, 0)], "svm").is_err());
        assert!(counted(&["COUNT a"], &[record(10, 0)], "svm").is_err());
        assert!(counted(&["noise"], &[], "svm").is_err());
    }

    #[test]
    fn what_is_not_part_of_an_operation_is_taken_off() {
        // 500 ticks, and 7 for each operation; one batch was disturbed.
        let lines = [
            "STATE uret vm",
            "TICKS a 100 1200",
            "TICKS a 200 1900",
            "TICKS a 100 1200",
            "TICKS a 200 9900",
            "TICKS a 100 1200",
            "TICKS a 200 1900",
            "MSRS a 100 205 5 105 0 0",
            "MSRS a 200 405 5 205 0 100",
            "URET a 100 100 300 7",
            "URET a 200 200 600 7",
        ];
        let results = timed(&lines, "vmx", "bochs").unwrap();
        assert_eq!(results.len(), 1);
        let per_op = &results[0].per_op;
        assert_eq!(per_op["instructions"], 7.0);
        assert_eq!((per_op["wrmsr"], per_op["rdmsr"]), (2.0, 0.0));
        assert_eq!(per_op["switch wrmsr"], 1.0);
        assert_eq!((per_op["switch rdmsr"], per_op["lgdt"]), (0.0, 1.0));
        assert_eq!((per_op["uret set"], per_op["uret elided"]), (1.0, 3.0));
        assert_eq!(per_op["uret restored"], 0.0);
        assert_eq!(results[0].ops, 900);
    }

    #[test]
    fn idle_time_is_not_instructions() {
        let lines = ["TICKS guest-idle-guest 1 10", "TICKS guest-idle-guest 2 20"];
        let results = timed(&lines, "vmx", "bochs").unwrap();
        assert_eq!(results[0].per_op["ticks"], 10.0);
        assert!(!results[0].per_op.contains_key("instructions"));
    }

    #[test]
    fn batches_that_are_missing_are_errors() {
        assert!(timed(&["TICKS a 1 10"], "vmx", "bochs").is_err());
        assert!(timed(
            &["TICKS a 1 10", "TICKS a 2 20", "TICKS a 1 10"],
            "vmx",
            "bochs"
        )
        .is_err());
        assert!(timed(&[], "vmx", "bochs").is_err());
        assert!(timed(&["TICKS a 1 x"], "vmx", "bochs").is_err());
    }
}
