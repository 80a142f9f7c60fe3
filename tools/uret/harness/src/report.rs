// SPDX-License-Identifier: GPL-2.0-only

//! Writes results as JSON, as a table, and as a report with plots.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::limits::limit;
use crate::plot;
use crate::requirements::{own_cost, Requirement, STATES};
use crate::samples::{find, Measured};

/// The columns, in this order. Columns without a count are left out.
const CLASSES: &[&str] = &[
    "ticks",
    "instructions",
    "wrmsr",
    "rdmsr",
    "switch wrmsr",
    "switch rdmsr",
    "swapgs",
    "vmrun",
    "vmload",
    "vmsave",
    "lgdt",
    "rdgsbase",
    "wrgsbase",
    "rdfsbase",
    "wrfsbase",
    "lidt",
    "ltr",
    "lldt",
    "clgi",
    "stgi",
    "locked",
    "uret set",
    "uret elided",
    "uret restored",
];

/// The earlier cost of the paths of the registry, before the optimization.
const BEFORE: &str = include_str!("../before.json");

/// Whether a scenario has a row in the table. Others are in plots, or measured with no VM.
fn is_switch(scenario: &str) -> bool {
    !scenario.contains([':', '/']) && scenario != "calibrate"
}

/// The lines for the scenarios that are measured with no VM.
fn without_vm(results: &[Measured], vendor: &str) -> Vec<String> {
    let line = |kind: &str| {
        let counts = STATES.map(|(mode, state)| {
            let found = find(results, vendor, mode, &format!("{kind}/{state}"));
            number(found.and_then(Measured::cost))
        });
        let mut line = format!(
            "{kind}, with no VM: {} with uret absent, loaded, and after VMs ran",
            counts.join(", ")
        );
        let unpatched = format!("{kind}/absent");
        if let Some(result) = find(results, vendor, "unpatched", &unpatched) {
            let _ = write!(line, "; {} without the patches", number(result.cost()));
        }
        line
    };
    ["syscall", "context-switch"].map(line).to_vec()
}

fn vendors(results: &[Measured]) -> Vec<(&str, &str)> {
    let mut all: Vec<(&str, &str)> = results
        .iter()
        .map(|result| (result.vendor.as_str(), result.machine.as_str()))
        .collect();
    all.sort();
    all.dedup();
    all
}

fn scenarios<'a>(results: &'a [Measured], vendor: &str) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    results
        .iter()
        .filter(|result| result.vendor == vendor && seen.insert(&result.scenario))
        .map(|result| result.scenario.as_str())
        .collect()
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_string(),
        Some(value) if (value - value.round()).abs() < 0.005 => format!("{}", value.round()),
        Some(value) => format!("{value:.2}"),
    }
}

/// The modes to compare. "unpatched" only if measured.
fn modes(results: &[Measured]) -> Vec<&'static str> {
    ["unpatched", "stock", "uret"]
        .into_iter()
        .filter(|mode| *mode != "unpatched" || results.iter().any(|result| result.mode == *mode))
        .collect()
}

/// A cell of the table: the counts of all modes, and the limit.
fn cell(results: &[Measured], vendor: &str, scenario: &str, class: &str) -> String {
    let count = |mode| {
        let Some(found) = find(results, vendor, mode, scenario) else {
            return number(None);
        };
        // The plugin omits classes with the count 0. Other machines omit classes that were not
        // counted.
        let missing = (found.machine == "qemu").then_some(0.0);
        let count = number(found.per_op.get(class).copied().or(missing));
        match found.spread {
            Some(spread) if matches!(class, "ticks" | "instructions") && count != "-" => {
                format!("{count}±{spread:.0}")
            }
            _ => count,
        }
    };
    let counts: Vec<String> = modes(results).into_iter().map(count).collect();
    let mut cell = counts.join(" ");
    if let Some(limit) = limit(vendor, scenario, class) {
        let _ = write!(cell, " [{}]", number(Some(limit.count)));
    }
    cell
}

/// The classes that at least one scenario has.
fn classes(results: &[Measured], vendor: &str) -> Vec<&'static str> {
    let counted = |class: &&&str| {
        results
            .iter()
            .filter(|result| result.vendor == vendor && is_switch(&result.scenario))
            .any(|result| {
                result
                    .per_op
                    .get(**class)
                    .is_some_and(|count| *count >= 0.01)
            })
    };
    CLASSES.iter().filter(counted).copied().collect()
}

fn title(vendor: &str, machine: &str) -> String {
    let machine = match machine {
        "qemu" => "QEMU, exact counts",
        "bochs" => "Bochs: instructions of host and guest by the TSC, MSRs by tracepoints",
        _ => "a real machine, ticks of the TSC",
    };
    format!("{} ({machine})", vendor.to_uppercase())
}

/// The rows of the table: a header with the classes, and a row for each kind of switch.
fn rows(results: &[Measured], vendor: &str, corner: &str) -> Vec<Vec<String>> {
    let classes = classes(results, vendor);
    let line = |name: &str, cell: &dyn Fn(&str) -> String| {
        let mut row = vec![name.to_string()];
        row.extend(classes.iter().map(|class| cell(class)));
        row
    };
    let mut rows = vec![line(corner, &|class| class.to_string())];
    rows.extend(
        scenarios(results, vendor)
            .into_iter()
            .filter(|scenario| is_switch(scenario))
            .map(|scenario| line(scenario, &|class| cell(results, vendor, scenario, class))),
    );
    rows
}

/// The table, for a terminal.
pub fn table(results: &[Measured]) -> String {
    let mut out = String::new();

    for (vendor, machine) in vendors(results) {
        let _ = writeln!(
            out,
            "\n{}, for each operation: {} [limit]\n",
            title(vendor, machine),
            modes(results).join(" ")
        );
        let rows = rows(results, vendor, "");
        let width = |i: usize| {
            rows.iter()
                .map(|row| row[i].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        for row in &rows {
            let line: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(i, (cell, width))| match i {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            let _ = writeln!(out, "{}", line.join("  ").trim_end());
        }
        for line in without_vm(results, vendor) {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

fn markdown_table(out: &mut String, header: &[String], rows: &[Vec<String>]) {
    let _ = writeln!(out, "| {} |", header.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(header.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    let _ = writeln!(out);
}

fn switches(out: &mut String, results: &[Measured], vendor: &str) {
    let corner = format!("per operation: {} \\[limit\\]", modes(results).join(" "));
    let rows = rows(results, vendor, &corner);
    markdown_table(out, &rows[0], &rows[1..]);

    for line in without_vm(results, vendor) {
        let _ = writeln!(out, "- {line}");
    }
    let _ = writeln!(out);

    let mut reasons: Vec<(&str, f64, &str, Vec<&str>)> = Vec::new();
    for row in &rows[1..] {
        let scenario = row[0].as_str();
        for class in classes(results, vendor) {
            let Some(limit) = limit(vendor, scenario, class) else {
                continue;
            };
            let same = |reason: &&mut (&str, f64, &str, Vec<&str>)| {
                (reason.0, reason.1, reason.2) == (class, limit.count, limit.why)
            };
            match reasons.iter_mut().find(same) {
                Some(reason) => reason.3.push(scenario),
                None => reasons.push((class, limit.count, limit.why, vec![scenario])),
            }
        }
    }
    let _ = writeln!(out, "Reasons for the limits:\n");
    for (class, count, why, scenarios) in reasons {
        let _ = writeln!(out, "- {count} {class} ({}): {why}", scenarios.join(", "));
    }
    let _ = writeln!(out);
}

/// Writes the costs of the paths of the registry, and the earlier costs.
fn paths(out: &mut String, results: &[Measured], vendor: &str, machine: &str) -> Result<()> {
    let mut before: Vec<Measured> = serde_json::from_str(BEFORE).context("before.json")?;
    before.retain(|result| result.machine == machine);
    let header = ["path", "stock", "uret before", "uret", "of stock"].map(String::from);
    let rows: Vec<Vec<String>> = scenarios(results, vendor)
        .into_iter()
        .filter(|path| path.starts_with("set-") || path.starts_with("restore:"))
        .filter(|path| *path != "restore:0/7")
        .map(|path| {
            let stock = own_cost(results, vendor, "stock", path);
            let uret = own_cost(results, vendor, "uret", path);
            let before = own_cost(&before, vendor, "uret", path);
            let ratio = match (stock, uret) {
                (Some(stock), Some(uret)) if stock > 0.0 => {
                    format!("{:.0} %", 100.0 * uret / stock)
                }
                _ => "-".to_string(),
            };
            vec![
                path.to_string(),
                number(stock),
                number(before),
                number(uret),
                ratio,
            ]
        })
        .collect();
    if !rows.is_empty() {
        let _ = writeln!(out, "### The registry\n");
        let _ = writeln!(
            out,
            "`set-equal:N` sets N slots to the current values, `set-new:N` sets N slots to other values, and\n\
             `restore:K/N` restores K dirty slots of N, without the cost of a return to user mode that restores\n\
             nothing. Stock has at most 16 slots. With one or two slots, the checks of each call cost more than\n\
             the slots. A restore cannot cost half of stock's: the largest part is the kernel's list of notifiers,\n\
             which stock and uret have in common.\n"
        );
        markdown_table(out, &header, &rows);
    }
    Ok(())
}

/// Writes `results.json`, `report.md` and the plots into a folder.
pub fn write(results: &[Measured], requirements: &[Requirement], dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(
        dir.join("results.json"),
        serde_json::to_string_pretty(results)? + "\n",
    )?;

    let mut out = String::from(
        "# Costs of switches, stock KVM and uret\n\nCounts are medians of all operations. In QEMU, only \
         the host counts.\n\n",
    );
    for (vendor, machine) in vendors(results) {
        let _ = writeln!(out, "## {}\n", title(vendor, machine));
        for plot in plot::draw(results, vendor, dir)? {
            let _ = writeln!(out, "![{}]({})\n", plot.title, plot.file);
        }
        switches(&mut out, results, vendor);
        paths(&mut out, results, vendor, machine)?;
    }
    if !requirements.is_empty() {
        let _ = writeln!(out, "## Requirements\n");
        for requirement in requirements {
            let _ = writeln!(
                out,
                "- {}: {}",
                if requirement.holds() { "yes" } else { "**no**" },
                requirement
            );
        }
    }
    fs::write(dir.join("report.md"), out)?;
    Ok(())
}
