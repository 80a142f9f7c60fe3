// SPDX-License-Identifier: GPL-2.0-only

//! Shows results: as JSON, as a table, and as a report with plots.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::bench::{own_cost, Verdict, STATES};
use crate::limits::limit;
use crate::plot;
use crate::samples::{find, Measured};

/// What is shown, in this order, if there is any of it.
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

/// What the registry cost before it was made cheap, in instructions.
const BEFORE: &str = include_str!("../before.json");

/// Removes what is shown elsewhere: in plots, or what is measured with no VM.
fn is_switch(scenario: &str) -> bool {
    !scenario.contains([':', '/']) && scenario != "calibrate"
}

/// What is measured with no VM: a line for each kind.
fn without_vm(results: &[Measured], platform: &str) -> Vec<String> {
    let line = |kind: &str| {
        let counts = STATES.map(|(mode, state)| {
            let found = find(results, platform, mode, &format!("{kind}/{state}"));
            number(found.and_then(Measured::cost))
        });
        let mut line = format!(
            "{kind}, with no VM: {} with uret absent, loaded, and after VMs ran",
            counts.join(", ")
        );
        let unpatched = format!("{kind}/absent");
        if let Some(it) = find(results, platform, "unpatched", &unpatched) {
            let _ = write!(line, "; {} without the patches", number(it.cost()));
        }
        line
    };
    ["syscall", "context-switch"].map(line).to_vec()
}

fn platforms(results: &[Measured]) -> Vec<(&str, &str)> {
    let mut all: Vec<(&str, &str)> = results
        .iter()
        .map(|it| (it.platform.as_str(), it.vehicle.as_str()))
        .collect();
    all.sort();
    all.dedup();
    all
}

fn scenarios<'a>(results: &'a [Measured], platform: &str) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    results
        .iter()
        .filter(|it| it.platform == platform && seen.insert(&it.scenario))
        .map(|it| it.scenario.as_str())
        .collect()
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_string(),
        Some(it) if (it - it.round()).abs() < 0.005 => format!("{}", it.round()),
        Some(it) => format!("{it:.2}"),
    }
}

/// What is compared: the kernel without the patches only if it was measured.
fn modes(results: &[Measured]) -> Vec<&'static str> {
    ["unpatched", "stock", "uret"]
        .into_iter()
        .filter(|mode| *mode != "unpatched" || results.iter().any(|it| it.mode == *mode))
        .collect()
}

/// A cell: unpatched if there is that, stock, uret, and the limit.
fn cell(results: &[Measured], platform: &str, scenario: &str, class: &str) -> String {
    let count = |mode| {
        let Some(found) = find(results, platform, mode, scenario) else {
            return number(None);
        };
        // The plugin tells all that was executed; elsewhere, what is not told was not counted.
        let rest = (found.vehicle == "qemu").then_some(0.0);
        let count = number(found.per_op.get(class).copied().or(rest));
        match found.spread {
            Some(spread) if matches!(class, "ticks" | "instructions") && count != "-" => {
                format!("{count}±{spread:.0}")
            }
            _ => count,
        }
    };
    let counts: Vec<String> = modes(results).into_iter().map(count).collect();
    let mut cell = counts.join(" ");
    if let Some(limit) = limit(platform, scenario, class) {
        let _ = write!(cell, " [{}]", number(Some(limit.count)));
    }
    cell
}

/// The classes that any of the scenarios has.
fn classes(results: &[Measured], platform: &str) -> Vec<&'static str> {
    let of = |class: &&&str| {
        results
            .iter()
            .filter(|it| it.platform == platform && is_switch(&it.scenario))
            .any(|it| it.per_op.get(**class).is_some_and(|it| *it >= 0.01))
    };
    CLASSES.iter().filter(of).copied().collect()
}

fn title(platform: &str, vehicle: &str) -> String {
    let vehicle = match vehicle {
        "qemu" => "QEMU, exact counts",
        "bochs" => "Bochs: instructions of host and guest by the TSC, MSRs by tracepoints",
        _ => "a real machine, ticks of the TSC",
    };
    format!("{} ({vehicle})", platform.to_uppercase())
}

/// A line for each kind of switch, below one that names the classes.
fn rows(results: &[Measured], platform: &str, corner: &str) -> Vec<Vec<String>> {
    let classes = classes(results, platform);
    let line = |name: &str, cell: &dyn Fn(&str) -> String| {
        let mut row = vec![name.to_string()];
        row.extend(classes.iter().map(|it| cell(it)));
        row
    };
    let mut rows = vec![line(corner, &|class| class.to_string())];
    rows.extend(
        scenarios(results, platform)
            .into_iter()
            .filter(|it| is_switch(it))
            .map(|it| line(it, &|class| cell(results, platform, it, class))),
    );
    rows
}

/// A table for a terminal.
pub fn table(results: &[Measured]) -> String {
    let mut out = String::new();

    for (platform, vehicle) in platforms(results) {
        let _ = writeln!(
            out,
            "\n{}, for each operation: {} [limit]\n",
            title(platform, vehicle),
            modes(results).join(" ")
        );
        let rows = rows(results, platform, "");
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
        for line in without_vm(results, platform) {
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

fn switches(out: &mut String, results: &[Measured], platform: &str) {
    let corner = format!("per operation: {} \\[limit\\]", modes(results).join(" "));
    let rows = rows(results, platform, &corner);
    markdown_table(out, &rows[0], &rows[1..]);

    for line in without_vm(results, platform) {
        let _ = writeln!(out, "- {line}");
    }
    let _ = writeln!(out);

    let mut reasons: Vec<(&str, f64, &str, Vec<&str>)> = Vec::new();
    for row in &rows[1..] {
        let scenario = row[0].as_str();
        for class in classes(results, platform) {
            let Some(limit) = limit(platform, scenario, class) else {
                continue;
            };
            let same = |it: &&mut (&str, f64, &str, Vec<&str>)| {
                (it.0, it.1, it.2) == (class, limit.count, limit.why)
            };
            match reasons.iter_mut().find(same) {
                Some(it) => it.3.push(scenario),
                None => reasons.push((class, limit.count, limit.why, vec![scenario])),
            }
        }
    }
    let _ = writeln!(out, "Why it cannot be less:\n");
    for (class, count, why, scenarios) in reasons {
        let _ = writeln!(out, "- {count} {class} ({}): {why}", scenarios.join(", "));
    }
    let _ = writeln!(out);
}

/// The registry's paths, with what they cost before.
fn paths(out: &mut String, results: &[Measured], platform: &str, vehicle: &str) -> Result<()> {
    let mut before: Vec<Measured> = serde_json::from_str(BEFORE).context("before.json")?;
    before.retain(|it| it.vehicle == vehicle);
    let header = ["path", "stock", "uret before", "uret", "of stock"].map(String::from);
    let rows: Vec<Vec<String>> = scenarios(results, platform)
        .into_iter()
        .filter(|it| it.starts_with("set-") || it.starts_with("restore:"))
        .filter(|it| *it != "restore:0/7")
        .map(|path| {
            let stock = own_cost(results, platform, "stock", path);
            let uret = own_cost(results, platform, "uret", path);
            let before = own_cost(&before, platform, "uret", path);
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
            "`set-equal:N` sets N slots to what they hold, `set-new:N` to other values, `restore:K/N` restores K\n\
             dirty slots of N, beyond a return to user mode that restores nothing. Stock has 16 slots at most. Setting one or two\n\
             slots, the checks that come once for each call weigh more than the slots. A restore cannot get to half\n\
             of stock's: of it, the kernel's list of notifiers and its flag of the task, the same for both, are most.\n"
        );
        markdown_table(out, &header, &rows);
    }
    Ok(())
}

/// Writes `results.json`, `report.md` and the plots into a folder.
pub fn write(results: &[Measured], verdicts: &[Verdict], dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(
        dir.join("results.json"),
        serde_json::to_string_pretty(results)? + "\n",
    )?;

    let mut out = String::from(
        "# What switches cost, stock KVM and uret\n\nCounts are medians of all operations; in QEMU, they are \
         those of the host.\n\n",
    );
    for (platform, vehicle) in platforms(results) {
        let _ = writeln!(out, "## {}\n", title(platform, vehicle));
        for plot in plot::draw(results, platform, dir)? {
            let _ = writeln!(out, "![{}]({})\n", plot.title, plot.file);
        }
        switches(&mut out, results, platform);
        paths(&mut out, results, platform, vehicle)?;
    }
    if !verdicts.is_empty() {
        let _ = writeln!(out, "## What must hold\n");
        for it in verdicts {
            let _ = writeln!(
                out,
                "- {}: {}",
                if it.good { "yes" } else { "**no**" },
                it.what
            );
        }
    }
    fs::write(dir.join("report.md"), out)?;
    Ok(())
}
