// SPDX-License-Identifier: GPL-2.0-only

//! Computes results from the output of switch_perf_test.sh and the records of the plugin.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};
use uret_count::record::{Record, Summaries};

/// The counts of one operation, by class of instruction.
pub type PerOp = BTreeMap<String, f64>;

/// The costs of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// `svm` or `vmx`.
    pub vendor: String,
    /// `qemu`, `bochs` or `hardware`.
    pub machine: String,
    /// `unpatched`, `stock` or `uret`.
    pub mode: String,
    pub scenario: String,
    /// The number of measured operations.
    pub ops: u64,
    /// The median of the counts of the host.
    pub per_op: PerOp,
    /// The median of the counts of the guest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guest: PerOp,
    /// The mean of the counts of the host, which includes timer ticks and other interruptions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mean: PerOp,
    /// The distance of the quartiles of the ticks, or of the instructions that the TSC counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}

impl Measured {
    /// The cost of an operation: instructions if counted, otherwise ticks.
    pub fn cost(&self) -> Option<f64> {
        let instructions = self.per_op.get("instructions");
        instructions.or_else(|| self.per_op.get("ticks")).copied()
    }
}

/// The classes of traced MSRs that a guest and the host share, by the index in [`Line::Msrs`].
const SWITCHED: [(usize, &str); 2] = [(2, "switch wrmsr"), (3, "switch rdmsr")];

/// A line of switch_perf_test.sh.
enum Line<'a> {
    /// The mode and the state of the following lines.
    State(&'a str, &'a str),
    /// The scenario and the number of operations of the next record of the plugin.
    Count(&'a str, u64),
    /// The scenario, the number of operations, and the ticks of a batch.
    Ticks(&'a str, u64, f64),
    /// The scenario, the number of operations, and the numbers of writes and reads of MSRs, of
    /// writes and reads of MSRs that a guest and the host share, and of LGDTs.
    Msrs(&'a str, u64, [f64; 5]),
    /// The scenario, the number of operations, and the numbers of sets, elisions and restores that
    /// uret has counted.
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
        ["STATE" | "COUNT" | "TICKS" | "MSRS" | "URET", ..] => bail!("expected more words"),
        _ => return Ok(None),
    }))
}

/// The name of a result. With no VM, the results of a scenario depend on the state of the modules.
fn name_of(scenario: &str, state: &str) -> String {
    match state {
        "absent" | "loaded" | "after-vms" => format!("{scenario}/{state}"),
        _ => scenario.to_string(),
    }
}

/// Computes results from the output of `switch_perf_test.sh count` and the records of the plugin.
pub fn counted(lines: &[&str], records: &[Record], vendor: &str) -> Result<Vec<Measured>> {
    let mut records = records.iter();
    let mut results = Vec::new();
    let (mut mode, mut state) = ("", "");
    let mut traced = None;

    for line in lines {
        match parse(line).with_context(|| line.to_string())? {
            Some(Line::State(new_mode, new_state)) => (mode, state) = (new_mode, new_state),
            Some(Line::Count(scenario, ops)) => {
                let record = records.next().ok_or_else(|| {
                    anyhow!("{scenario}: expected a record of the plugin, got none")
                })?;
                ensure!(
                    record.samples as u64 >= ops,
                    "{scenario}: expected at least {ops} samples, got {}",
                    record.samples
                );
                let map =
                    |summaries: &Summaries, value: fn(&uret_count::record::Summary, f64) -> f64| {
                        summaries
                            .iter()
                            .map(|(name, summary)| {
                                (name.clone(), value(summary, record.samples as f64))
                            })
                            .filter(|(_, value)| *value > 0.0)
                            .collect()
                    };
                results.push(Measured {
                    vendor: vendor.to_string(),
                    machine: "qemu".to_string(),
                    mode: mode.to_string(),
                    scenario: name_of(scenario, state),
                    ops: record.samples as u64,
                    per_op: map(&record.host, |summary, _| summary.median as f64),
                    guest: map(&record.guest, |summary, _| summary.median as f64),
                    mean: map(&record.host, |summary, samples| {
                        summary.total as f64 / samples
                    }),
                    spread: None,
                });
            }
            Some(Line::Msrs(scenario, ops, counts)) => {
                // The plugin does not know which MSRs were accessed. Two lines give the difference.
                let last = results
                    .last_mut()
                    .filter(|result: &&mut Measured| result.scenario == name_of(scenario, state))
                    .with_context(|| format!("{line}: expected COUNT of the scenario before"))?;
                match traced.take() {
                    None => traced = Some((ops, counts)),
                    Some((fewer, before)) => {
                        ensure!(ops > fewer, "{line}: expected more than {fewer} operations");
                        for (i, class) in SWITCHED {
                            let count = (counts[i] - before[i]) / (ops - fewer) as f64;
                            last.per_op.insert(class.to_string(), count);
                        }
                    }
                }
            }
            // The plugin has counted all instructions.
            Some(Line::Uret(..)) => {}
            Some(Line::Ticks(..)) => {
                bail!("{line}: expected the output of \"count\", got \"time\"")
            }
            None => {}
        }
    }
    ensure!(
        records.next().is_none(),
        "expected as many records of the plugin as lines COUNT, got more"
    );
    ensure!(!results.is_empty(), "expected a measurement, got none");
    Ok(results)
}

/// The values of batches of N and of 2 * N operations.
#[derive(Default)]
struct Batches(BTreeMap<u64, Vec<f64>>);

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

fn quartile(sorted: &[f64], number: usize) -> f64 {
    sorted[(sorted.len() - 1) * number / 4]
}

impl Batches {
    fn add(&mut self, ops: u64, value: f64) {
        self.0.entry(ops).or_default().push(value);
    }

    /// The cost of an operation: the median, and the distance of the quartiles.
    fn per_op(&self) -> Result<(f64, f64)> {
        let (Some((n, small)), Some((m, large)), 2) = (
            self.0.first_key_value(),
            self.0.last_key_value(),
            self.0.len(),
        ) else {
            bail!("expected two sizes of batches, got {}", self.0.len());
        };
        ensure!(
            small.len() == large.len() && m > n,
            "expected as many batches of {n} as of {m} operations, got {} and {}",
            small.len(),
            large.len()
        );
        let ops = (m - n) as f64;
        let each = sorted(large.iter().zip(small).map(|(m, n)| (m - n) / ops));
        Ok((quartile(&each, 2), quartile(&each, 3) - quartile(&each, 1)))
    }

    fn ops(&self) -> u64 {
        self.0
            .iter()
            .map(|(ops, values)| ops * values.len() as u64)
            .sum()
    }
}

/// The batches of a scenario in a mode.
#[derive(Default)]
struct Timed {
    ticks: Batches,
    msrs: [Batches; 5],
    uret: [Batches; 3],
}

/// Computes results from the output of `switch_perf_test.sh time`.
///
/// In Bochs, the TSC counts instructions of host and guest, and also counts while the CPU is idle.
pub fn timed(lines: &[&str], vendor: &str, machine: &str) -> Result<Vec<Measured>> {
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
            Some(Line::Count(..)) => {
                bail!("{line}: expected the output of \"time\", got \"count\"")
            }
            None => continue,
        };
        let key = (mode.to_string(), name_of(scenario, state));
        if all.last().is_none_or(|last| last.0 != key) {
            all.push((key, Timed::default()));
        }
        let timed = &mut all.last_mut().expect("an entry was pushed").1;
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
    ensure!(!all.is_empty(), "expected a measurement, got none");

    let measured = |((mode, scenario), timed): ((String, String), Timed)| {
        let (ticks, spread) = timed.ticks.per_op().with_context(|| scenario.clone())?;
        let unit = match (machine, scenario.as_str()) {
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
            vendor: vendor.to_string(),
            machine: machine.to_string(),
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

/// Finds the result of a scenario.
pub fn find<'a>(
    results: &'a [Measured],
    vendor: &str,
    mode: &str,
    scenario: &str,
) -> Option<&'a Measured> {
    results.iter().find(|result| {
        result.vendor == vendor && result.mode == mode && result.scenario == scenario
    })
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
    fn records_get_the_names_of_the_lines() {
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
    fn traced_counts_belong_to_the_last_record() {
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
    fn cost_outside_of_operations_is_subtracted() {
        // 500 ticks, and 7 ticks for each operation. One batch was interrupted.
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
    fn missing_batches_are_errors() {
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
