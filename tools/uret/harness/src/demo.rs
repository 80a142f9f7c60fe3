// SPDX-License-Identifier: GPL-2.0-only

//! The demonstration: what stock KVM and uret execute for each kind of switch.

use std::fmt::Write;
use std::path::Path;
use std::thread;

use anyhow::Result;

use crate::bench::{count, time, NOISE};
use crate::machine::Images;
use crate::results::{Outcome, Status};
use crate::samples::{find, Measured};

/// The columns. A column without any count is left out.
const CLASSES: [(&str, &str); 7] = [
    ("switch wrmsr", "WRMSR"),
    ("switch rdmsr", "RDMSR"),
    ("vmload", "VMLOAD"),
    ("vmsave", "VMSAVE"),
    ("swapgs", "SWAPGS"),
    ("lgdt", "LGDT"),
    ("lidt", "LIDT"),
];

/// The counts of an operation, by class.
type Row<'a> = (&'a str, Vec<[f64; 2]>);

/// The table of a platform: its columns, and a row for each scenario.
struct Table<'a> {
    titles: Vec<&'static str>,
    rows: Vec<Row<'a>>,
}

impl<'a> Table<'a> {
    fn new(results: &'a [Measured], platform: &str) -> Self {
        let count = |mode, scenario: &str, class: &str| {
            let found = find(results, platform, mode, scenario);
            found.and_then(|it| it.per_op.get(class).copied())
        };
        let scenarios = results
            .iter()
            .filter(|it| it.platform == platform && it.mode == "uret")
            .map(|it| it.scenario.as_str());
        let row = |scenario, classes: &[(&str, &'static str)]| {
            let cell =
                |class| ["stock", "uret"].map(|mode| count(mode, scenario, class).unwrap_or(0.0));
            (
                scenario,
                classes.iter().map(|it| cell(it.0)).collect::<Vec<_>>(),
            )
        };
        let rows: Vec<_> = scenarios.map(|it| row(it, &CLASSES)).collect();
        let used = |column: &usize| rows.iter().any(|(_, cells)| cells[*column] != [0.0, 0.0]);
        let columns: Vec<usize> = (0..CLASSES.len()).filter(used).collect();

        Self {
            titles: columns.iter().map(|&it| CLASSES[it].1).collect(),
            rows: rows
                .iter()
                .map(|(name, cells)| (*name, columns.iter().map(|&it| cells[it]).collect()))
                .collect(),
        }
    }

    /// The counts of all operations, with stock's code and with uret.
    fn sums(&self) -> [f64; 2] {
        let cells = self.rows.iter().flat_map(|it| &it.1);
        cells.fold([0.0, 0.0], |sum, cell| [sum[0] + cell[0], sum[1] + cell[1]])
    }

    fn print(&self) -> String {
        let mut text = format!("{:<22}", "");
        for title in &self.titles {
            let _ = write!(text, "{title:>14}");
        }
        let _ = write!(text, "\n{:<22}", "per operation");
        for _ in &self.titles {
            text.push_str("   stock  uret");
        }
        text.push('\n');
        for (name, cells) in &self.rows {
            let _ = write!(text, "{name:<22}");
            for [stock, uret] in cells {
                let _ = write!(text, "{:>8.0}{:>6.0}", stock, uret);
            }
            text.push('\n');
        }
        let [stock, uret] = self.sums();
        let _ = writeln!(
            text,
            "For one operation of each kind, stock executes {stock:.0} of these instructions, uret {uret:.0}: {:.0} saved.",
            stock - uret
        );
        text
    }
}

/// Each count of uret that is above the count of stock's code. LIDT goes with deferred VMLOAD.
fn more(table: &Table<'_>) -> Vec<String> {
    let mut all = Vec::new();

    for (scenario, cells) in &table.rows {
        for (title, [stock, uret]) in table.titles.iter().zip(cells) {
            if *title != "LIDT" && *uret > stock + NOISE {
                all.push(format!("{scenario}: {title}: stock {stock}, uret {uret}"));
            }
        }
    }
    all
}

/// The result of a run without the plugin, which counts MSRs. Where KVM is built in, stock's code was not measured.
pub fn outcome(results: &[Measured]) -> Outcome {
    let (Some(uret), platform) = (
        results
            .iter()
            .find(|it| it.mode == "uret" && it.scenario == "two-guests-equal"),
        &results[0].platform,
    ) else {
        return Outcome::new("counts", Status::Fail, "two-guests-equal was not measured");
    };
    let both = results.iter().any(|it| it.mode == "stock");
    let mut problems = match both {
        true => more(&Table::new(results, platform)),
        false => Vec::new(),
    };
    if uret
        .per_op
        .get("uret elided")
        .is_none_or(|count| *count < NOISE)
    {
        problems.push("two-guests-equal: expected elided writes, got none".to_string());
    }
    let status = if problems.is_empty() {
        Status::Pass
    } else {
        Status::Fail
    };
    Outcome::new(
        "uret writes no more than stock, and elides",
        status,
        problems.join("\n"),
    )
}

/// Prints the table of a platform. Returns whether uret saves instructions.
fn show(title: &str, platform: &str, results: Result<Vec<Measured>>) -> bool {
    println!("\n{title}\n");
    let results = match results {
        Ok(results) => results,
        Err(err) => {
            println!("{err:#}");
            return false;
        }
    };
    let table = Table::new(&results, platform);
    let more = more(&table);
    let [stock, uret] = table.sums();
    print!("{}", table.print());
    for line in &more {
        println!("MORE: {line}");
    }
    more.is_empty() && uret < stock
}

/// Shows the demonstration on both emulators.
pub fn demo(images: &Images, plugin: &Path, work: &Path) -> Result<bool> {
    let (svm, vmx) = thread::scope(|scope| {
        let vmx = scope.spawn(|| time(images, "demo", &work.join("vmx-demo")));
        let svm = count(images, plugin, ("demo-count", 1), &work.join("svm-demo"));
        let svm = show(
            "SVM: KVM on an emulated AMD CPU (QEMU)",
            "svm",
            svm.map(|it| it.0),
        );
        let vmx = vmx.join().expect("it does not panic");
        (
            svm,
            show("VMX: KVM on an emulated Intel CPU (Bochs)", "vmx", vmx),
        )
    });
    if !(svm && vmx) {
        println!("\nThe demonstration failed. make check ONLY=demo shows more.");
    }
    Ok(svm && vmx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::timed;

    /// Two scenarios, with counts of WRMSR for stock's code and for uret.
    fn results(counts: [[u32; 2]; 2], elided: u32) -> Vec<Measured> {
        let mut lines = Vec::new();
        for (i, mode) in ["stock", "uret"].into_iter().enumerate() {
            lines.push(format!("STATE {mode} vm"));
            for (j, scenario) in ["exit-to-user", "two-guests-equal"].into_iter().enumerate() {
                for n in [1, 2] {
                    lines.push(format!("TICKS {scenario} {n} {n}"));
                    lines.push(format!("MSRS {scenario} {n} 0 0 {} 0 0", n * counts[j][i]));
                    lines.push(format!("URET {scenario} {n} 0 {} 0", n * elided));
                }
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        timed(&lines, "vmx", "bochs").expect("the lines are complete")
    }

    #[test]
    fn a_table_leaves_out_what_was_not_executed() {
        let results = results([[10, 4], [2, 0]], 1);
        let table = Table::new(&results, "vmx");

        assert_eq!(table.titles, ["WRMSR"]);
        assert_eq!(table.sums(), [12.0, 4.0]);
        assert!(table
            .print()
            .contains("stock executes 12 of these instructions, uret 4: 8 saved"));
        assert!(table
            .print()
            .contains("exit-to-user                10     4"));
    }

    #[test]
    fn more_than_stock_fails() {
        assert_eq!(
            outcome(&results([[10, 10], [2, 2]], 1)).status,
            Status::Pass
        );
        assert_eq!(
            outcome(&results([[10, 11], [2, 0]], 1)).status,
            Status::Fail
        );
        assert_eq!(
            outcome(&results([[10, 10], [2, 2]], 0)).status,
            Status::Fail
        );
    }
}
