// SPDX-License-Identifier: GPL-2.0-only

//! The table of the demonstration: the counts of stock and uret for each kind of switch.

use std::fmt::Write;

use crate::requirements::NOISE;
use crate::results::{Outcome, Status};
use crate::samples::{find, Measured};

/// The columns. Columns without a count are left out.
const CLASSES: [(&str, &str); 7] = [
    ("switch wrmsr", "WRMSR"),
    ("switch rdmsr", "RDMSR"),
    ("vmload", "VMLOAD"),
    ("vmsave", "VMSAVE"),
    ("swapgs", "SWAPGS"),
    ("lgdt", "LGDT"),
    ("lidt", "LIDT"),
];

/// Classes that replace VMLOAD and VMSAVE, and have no columns.
const EXCHANGE: [(&str, &str); 2] = [("rdgsbase", "RDGSBASE"), ("wrgsbase", "WRGSBASE")];

/// A scenario, and the counts of stock and uret by class.
type Row<'a> = (&'a str, Vec<[f64; 2]>);

/// The table of a vendor: the titles of the columns, and a row for each scenario.
pub struct Table<'a> {
    titles: Vec<&'static str>,
    rows: Vec<Row<'a>>,
    /// The number of instructions in [`EXCHANGE`] that uret executes more than stock.
    exchange: f64,
}

impl<'a> Table<'a> {
    /// Takes the counts of a vendor from the results.
    pub fn new(results: &'a [Measured], vendor: &str) -> Self {
        let count = |mode, scenario: &str, class: &str| {
            let found = find(results, vendor, mode, scenario);
            found.and_then(|result| result.per_op.get(class).copied())
        };
        let scenarios = results
            .iter()
            .filter(|result| result.vendor == vendor && result.mode == "uret")
            .map(|result| result.scenario.as_str());
        let row = |scenario, classes: &[(&str, &'static str)]| {
            let cell =
                |class| ["stock", "uret"].map(|mode| count(mode, scenario, class).unwrap_or(0.0));
            (
                scenario,
                classes
                    .iter()
                    .map(|class| cell(class.0))
                    .collect::<Vec<_>>(),
            )
        };
        let exchange = scenarios
            .clone()
            .flat_map(|scenario| row(scenario, &EXCHANGE).1)
            .map(|[stock, uret]| uret - stock)
            .sum();
        let rows: Vec<_> = scenarios.map(|scenario| row(scenario, &CLASSES)).collect();
        let used = |column: &usize| rows.iter().any(|(_, cells)| cells[*column] != [0.0, 0.0]);
        let columns: Vec<usize> = (0..CLASSES.len()).filter(used).collect();

        Self {
            titles: columns.iter().map(|&column| CLASSES[column].1).collect(),
            rows: rows
                .iter()
                .map(|(name, cells)| (*name, columns.iter().map(|&column| cells[column]).collect()))
                .collect(),
            exchange,
        }
    }

    /// The sums of all counts, of stock and of uret.
    pub fn sums(&self) -> [f64; 2] {
        let cells = self.rows.iter().flat_map(|row| &row.1);
        cells.fold([0.0, 0.0], |sum, cell| [sum[0] + cell[0], sum[1] + cell[1]])
    }

    /// The table as text, with a line for the sums.
    pub fn print(&self) -> String {
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
        if self.exchange > 0.0 {
            let titles = EXCHANGE.map(|class| class.1).join(" and ");
            let _ = writeln!(
                text,
                "In exchange, uret executes {:.0} {titles} more.",
                self.exchange
            );
        }
        text
    }
}

/// The counts of uret that are above the counts of stock, except for ignored classes, and for LIDT,
/// which deferral needs.
pub fn above_stock(table: &Table<'_>, ignored: &[&str]) -> Vec<String> {
    let mut all = Vec::new();

    for (scenario, cells) in &table.rows {
        for (title, [stock, uret]) in table.titles.iter().zip(cells) {
            if *title != "LIDT" && !ignored.contains(title) && *uret > stock + NOISE {
                all.push(format!(
                    "{scenario}: {title}: expected at most {stock} as on stock, got {uret}"
                ));
            }
        }
    }
    all
}

/// The result of a run without the plugin, from the counts of MSRs. With built-in KVM, the results
/// lack stock.
pub fn outcome(results: &[Measured]) -> Outcome {
    let (Some(uret), vendor) = (
        results
            .iter()
            .find(|result| result.mode == "uret" && result.scenario == "two-guests-equal"),
        &results[0].vendor,
    ) else {
        return Outcome::new(
            "counts",
            Status::Fail,
            "expected a result of two-guests-equal, got none",
        );
    };
    let has_stock = results.iter().any(|result| result.mode == "stock");
    let mut problems = match has_stock {
        // With CONFIG_URET_DEBUG, uret reads back each MSR.
        true => above_stock(&Table::new(results, vendor), &["RDMSR"]),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::timed;

    /// Two scenarios, with counts of WRMSR for stock and for uret.
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
    fn columns_without_a_count_are_left_out() {
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
