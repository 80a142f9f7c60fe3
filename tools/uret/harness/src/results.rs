// SPDX-License-Identifier: GPL-2.0-only

//! The rules that turn the output of a machine into test results.
//!
//! The format is KTAP, see Documentation/dev-tools/ktap.rst in the kernel.

use std::collections::BTreeMap;

/// The status of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pass,
    Fail,
    Skip,
}

/// The result of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub name: String,
    pub status: Status,
    pub note: String,
}

impl Outcome {
    pub fn new(name: impl Into<String>, status: Status, note: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status,
            note: note.into(),
        }
    }
}

/// The output of a run, between its markers, and the exit status.
pub struct Block<'a> {
    pub lines: Vec<&'a str>,
    pub status: Option<i32>,
}

/// Finds the output of one run.
pub fn block<'a>(text: &'a str, name: &str) -> Option<Block<'a>> {
    let (begin, end) = (format!("URET-BEGIN {name}"), format!("URET-END {name} "));
    let mut lines = text.lines().skip_while(|line| *line != begin).peekable();
    lines.next()?;
    let mut block = Block {
        lines: Vec::new(),
        status: None,
    };
    for line in lines {
        if let Some(status) = line.strip_prefix(&end) {
            block.status = status.trim().parse().ok();
            break;
        }
        block.lines.push(line);
    }
    Some(block)
}

struct Point<'a> {
    indent: usize,
    ok: bool,
    name: &'a str,
    /// Why the test was skipped, if it was.
    skip: Option<&'a str>,
}

fn point(line: &str) -> Option<Point<'_>> {
    let text = line.trim_start();
    let (ok, rest) = match text.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok ")?),
    };
    let number = rest.split(' ').next()?;
    number.parse::<u32>().ok()?;
    let rest = rest[number.len()..].trim_start().trim_start_matches("- ");
    // The name may be missing: a C selftest's may be part of the directive.
    let (name, directive) = match rest.strip_prefix("# ") {
        Some(directive) => (directive.trim_start_matches("SKIP"), directive),
        None => rest.split_once(" # ").unwrap_or((rest, "")),
    };
    Some(Point {
        indent: line.len() - text.len(),
        ok,
        name: name.trim(),
        skip: directive.strip_prefix("SKIP").map(str::trim),
    })
}

/// The tests in KTAP output, without tests that only sum up others.
///
/// A plan that does not match, an exit status that no result explains, or no test at all, is a failed
/// test.
pub fn ktap(block: &Block<'_>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    // For each indentation, the number of tests that are missing, and the tests since the last one of
    // the indentation above.
    let mut plans: BTreeMap<usize, i64> = BTreeMap::new();
    let mut below: BTreeMap<usize, Vec<Status>> = BTreeMap::new();
    let mut comments: Vec<&str> = Vec::new();

    for line in &block.lines {
        let text = line.trim_start();
        let indent = line.len() - text.len();

        if let Some(plan) = text.strip_prefix("1..") {
            let number = plan.split(' ').next().unwrap_or("");
            *plans.entry(indent).or_default() += number.parse::<i64>().unwrap_or(0);
            if plan.contains("# SKIP") {
                let reason = plan.split("# SKIP").nth(1).unwrap_or("").trim();
                outcomes.push(Outcome::new("all", Status::Skip, reason));
            }
            continue;
        }
        let Some(point) = point(line) else {
            if text.starts_with('#') && !text.contains("speed:") {
                comments.push(text);
            }
            continue;
        };
        *plans.entry(point.indent).or_default() -= 1;

        let status = match point {
            Point { ok: false, .. } => Status::Fail,
            Point { skip: Some(_), .. } => Status::Skip,
            _ => Status::Pass,
        };
        // Tests with more indentation, since the last one of this indentation, are parts of this test.
        let mut parts = below.split_off(&(point.indent + 1));
        let parts: Vec<Status> = parts.values_mut().flat_map(std::mem::take).collect();
        below.entry(point.indent).or_default().push(status);
        if !parts.is_empty() {
            if status == Status::Fail && !parts.contains(&Status::Fail) {
                outcomes.push(Outcome::new(point.name, status, "no part of it failed"));
            }
            comments.clear();
            continue;
        }
        let note = match (status, point.skip) {
            (Status::Pass, _) => String::new(),
            (_, Some(why)) => why.to_string(),
            _ => comments[comments.len().saturating_sub(6)..].join("\n"),
        };
        outcomes.push(Outcome::new(point.name, status, note));
        comments.clear();
    }

    if plans.values().any(|missing| *missing != 0) {
        outcomes.push(Outcome::new(
            "plan",
            Status::Fail,
            "more or fewer tests than planned",
        ));
    }
    let failed = outcomes.iter().any(|it| it.status == Status::Fail);
    match block.status {
        Some(0 | 4) => {}
        Some(_) if failed => {}
        Some(status) => outcomes.push(Outcome::new(
            "status",
            Status::Fail,
            format!("exit status {status}"),
        )),
        None => outcomes.push(Outcome::new("end", Status::Fail, "it did not end")),
    }
    if outcomes.is_empty() {
        outcomes.push(Outcome::new("tests", Status::Fail, "there were none"));
    }
    outcomes
}

/// The exit statuses of selftests by name, as tools/uret/guest/init prints them.
pub fn statuses(block: &Block<'_>) -> BTreeMap<String, i32> {
    block
        .lines
        .iter()
        .filter_map(|line| line.strip_prefix("TEST "))
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.to_string(), words.next()?.parse().ok()?))
        })
        .collect()
}

/// The last lines of each failed selftest of a list.
pub fn last_lines(block: &Block<'_>) -> BTreeMap<String, String> {
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    let mut name = None;

    for line in &block.lines {
        match line.strip_prefix("TEST ") {
            Some(test) => name = test.split(' ').next().map(str::to_string),
            None => {
                if let Some(name) = &name {
                    let text = lines.entry(name.clone()).or_default();
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    lines
}

/// Compares two runs of the kernel's selftests: a test that passes on stock must pass on uret.
///
/// A skipped test keeps its last lines, too.
pub fn compare(stock: &BTreeMap<String, i32>, uret: &BTreeMap<String, i32>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = stock
        .iter()
        .map(|(name, stock)| match (stock, uret.get(name)) {
            (0, Some(0)) => Outcome::new(name, Status::Pass, ""),
            (0, Some(status)) => Outcome::new(
                name,
                Status::Fail,
                format!("passes on stock, exit status {status} on uret"),
            ),
            (_, None) => Outcome::new(name, Status::Fail, "was not run on uret"),
            (4, Some(0 | 4)) => Outcome::new(name, Status::Skip, "skips on stock"),
            (4, Some(status)) => Outcome::new(
                name,
                Status::Fail,
                format!("skips on stock, exit status {status} on uret"),
            ),
            (status, Some(_)) => Outcome::new(
                name,
                Status::Skip,
                format!("exit status {status} on stock, too"),
            ),
        })
        .collect();
    if !outcomes.iter().any(|it| it.status == Status::Pass) {
        outcomes.push(Outcome::new("any", Status::Fail, "not one test passed"));
    }
    outcomes
}

/// Whether a run without KTAP has succeeded.
pub fn ending(block: &Block<'_>) -> Outcome {
    match block.status {
        Some(0) => Outcome::new("exit status", Status::Pass, ""),
        _ => {
            let keep = block.lines.len().saturating_sub(6);
            Outcome::new("exit status", Status::Fail, block.lines[keep..].join("\n"))
        }
    }
}

/// The reasons for which a uret test may skip in the emulators.
const SKIPPED_FOR: [&str; 3] = ["uret=0", "not on VMX", "lets any MSR be read and written"];
/// A further reason on a machine with one CPU.
const ONE_CPU: &str = "only one CPU";

/// Fails a uret test that skips for an unknown reason.
pub fn expected(mut outcome: Outcome, cpus: u32) -> Outcome {
    let text = format!("{} {}", outcome.name, outcome.note);
    let known =
        SKIPPED_FOR.iter().any(|it| text.contains(it)) || (cpus == 1 && text.contains(ONE_CPU));

    if outcome.status == Status::Skip && !known {
        outcome.status = Status::Fail;
    }
    outcome
}

/// The splats in the kernel log, if any.
pub fn splat(text: &str) -> Option<Outcome> {
    // Before a reboot, and in a panic, the kernel prints to the serial line itself.
    let last = match text.contains("Kernel panic") {
        true => text,
        false => text.split_once("URET-END reboot").map_or("", |it| it.1),
    };
    let last = last.lines().filter(|line| {
        ["WARNING:", "BUG:", "Oops", "RIP: ", "Kernel panic"]
            .iter()
            .any(|it| line.contains(it))
    });
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("URET-SPLAT "))
        .chain(last)
        .take(6)
        .collect();
    (!lines.is_empty()).then(|| Outcome::new("kernel log", Status::Fail, lines.join("\n")))
}

/// Whether the output is KTAP.
pub fn is_ktap(block: &Block<'_>) -> bool {
    let header = |line: &&str| {
        line.trim_start().starts_with("TAP version")
            || line.trim_start().starts_with("KTAP version")
    };
    block.lines.iter().any(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, status: i32) -> Vec<(String, Status)> {
        let text = format!("noise\nURET-BEGIN x\n{text}\nURET-END x {status}\nnoise\n");
        ktap(&block(&text, "x").unwrap())
            .into_iter()
            .map(|it| (it.name, it.status))
            .collect()
    }

    #[test]
    fn flat_results_are_counted() {
        let text = "TAP version 13\n1..4\nok 1 - a\nok 2 b # SKIP why\n# because\nnot ok 3 c\n\
                    ok 4 # SKIP d: why";
        assert_eq!(
            parsed(text, 1),
            [
                ("a".into(), Status::Pass),
                ("b".into(), Status::Skip),
                ("c".into(), Status::Fail),
                ("d: why".into(), Status::Skip)
            ]
        );
    }

    #[test]
    fn suite_is_not_counted_beside_cases() {
        let text = "KTAP version 1\n1..2\n    1..1\n    ok 1 a\nok 1 s\n    1..1\n    not ok 1 b\nnot ok 2 t";
        assert_eq!(
            parsed(text, 1),
            [("a".into(), Status::Pass), ("b".into(), Status::Fail)]
        );
    }

    #[test]
    fn failed_suite_without_failed_case_is_counted() {
        let text = "1..1\n    1..1\n    ok 1 a\nnot ok 1 s";
        assert!(parsed(text, 1).contains(&("s".into(), Status::Fail)));
    }

    #[test]
    fn missing_tests_are_a_failure() {
        assert!(parsed("1..2\nok 1 a", 0).contains(&("plan".into(), Status::Fail)));
        assert!(parsed("1..1\nok 1 a\nok 2 b", 0).contains(&("plan".into(), Status::Fail)));
    }

    #[test]
    fn no_test_is_a_failure() {
        assert_eq!(parsed("", 0), [("tests".into(), Status::Fail)]);
        assert!(parsed("1..1\nok 1 a", 139).contains(&("status".into(), Status::Fail)));
        let block = block("URET-BEGIN x\n1..1\nok 1 a\n", "x").unwrap();
        assert!(ktap(&block).iter().any(|it| it.name == "end"));
    }

    #[test]
    fn skipped_program_is_skipped() {
        assert_eq!(
            parsed("1..0 # SKIP no KVM", 4),
            [("all".into(), Status::Skip)]
        );
    }

    #[test]
    fn selftests_are_compared() {
        let table = |rows: &[(&str, i32)]| {
            rows.iter()
                .map(|(name, it)| (name.to_string(), *it))
                .collect::<BTreeMap<_, _>>()
        };
        let stock = table(&[("a", 0), ("b", 0), ("c", 4), ("d", 254), ("e", 0), ("f", 4)]);
        let uret = table(&[("a", 0), ("b", 254), ("c", 4), ("d", 0), ("f", 139)]);
        let statuses: Vec<Status> = compare(&stock, &uret)
            .into_iter()
            .map(|it| it.status)
            .collect();
        assert_eq!(
            statuses,
            [
                Status::Pass,
                Status::Fail,
                Status::Skip,
                Status::Skip,
                Status::Fail,
                Status::Fail
            ]
        );
        let nothing = compare(&table(&[]), &uret);
        assert_eq!(nothing[0].status, Status::Fail);
    }

    #[test]
    fn splats_are_found() {
        assert!(splat("all is well").is_none());
        assert!(splat("URET-SPLAT WARNING: something").is_some());
        let dead = splat("BUG: kernel\nRIP: 0010:f\n[ 1.0] Kernel panic - not syncing").unwrap();
        assert_eq!(dead.note.lines().count(), 3);
        assert!(splat("URET-END reboot 0\n[ 1.0] WARNING: here").is_some());
        assert!(splat("URET-END demo 0\nWARNING: a test's own").is_none());
    }
}
