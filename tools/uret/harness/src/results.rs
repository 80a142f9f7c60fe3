// SPDX-License-Identifier: GPL-2.0-only

//! Turns the output of a machine into test results.
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

/// The output of a run between the markers, and the exit status.
pub struct Block<'a> {
    pub lines: Vec<&'a str>,
    pub status: Option<i32>,
}

/// Finds the output of a run.
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

/// A test point: a line with the result of a test.
struct Point<'a> {
    indent: usize,
    ok: bool,
    name: &'a str,
    /// The reason if the test was skipped.
    skip: Option<&'a str>,
}

/// Parses a test point.
fn point(line: &str) -> Option<Point<'_>> {
    let text = line.trim_start();
    let (ok, rest) = match text.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok ")?),
    };
    let number = rest.split(' ').next()?;
    number.parse::<u32>().ok()?;
    let rest = rest[number.len()..].trim_start().trim_start_matches("- ");
    // In C selftests, the name of a skipped test may be part of the directive.
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

/// The tests in KTAP output, without tests that only have subtests.
///
/// A wrong plan, an exit status without a failed test, or no test at all is a failed test.
pub fn ktap(block: &Block<'_>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    // For each indentation, the number of missing tests, and the tests since the last test with
    // less indentation.
    let mut plans: BTreeMap<usize, i64> = BTreeMap::new();
    let mut below: BTreeMap<usize, Vec<Status>> = BTreeMap::new();
    let mut comments: Vec<&str> = Vec::new();
    // The suites of KUnit, by the indentation of their tests.
    let mut suites: BTreeMap<usize, &str> = BTreeMap::new();

    for line in &block.lines {
        let text = line.trim_start();
        let indent = line.len() - text.len();

        if let Some(suite) = text.strip_prefix("# Subtest: ") {
            suites.insert(indent, suite);
            continue;
        }
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
        let name = match suites.get(&point.indent) {
            Some(suite) => format!("{suite}.{}", point.name),
            None => point.name.to_string(),
        };

        let status = match point {
            Point { ok: false, .. } => Status::Fail,
            Point { skip: Some(_), .. } => Status::Skip,
            _ => Status::Pass,
        };
        // Tests with more indentation since the last test of this indentation are subtests of this
        // test.
        suites.split_off(&(point.indent + 1));
        let mut subtests = below.split_off(&(point.indent + 1));
        let subtests: Vec<Status> = subtests.values_mut().flat_map(std::mem::take).collect();
        below.entry(point.indent).or_default().push(status);
        if !subtests.is_empty() {
            if status == Status::Fail && !subtests.contains(&Status::Fail) {
                outcomes.push(Outcome::new(
                    name,
                    status,
                    "expected a failed subtest, got none",
                ));
            }
            comments.clear();
            continue;
        }
        let note = match (status, point.skip) {
            (Status::Pass, _) => String::new(),
            (_, Some(why)) => why.to_string(),
            _ => comments[comments.len().saturating_sub(6)..].join("\n"),
        };
        outcomes.push(Outcome::new(name, status, note));
        comments.clear();
    }

    let missing: i64 = plans.values().map(|missing| missing.abs()).sum();
    if missing != 0 {
        outcomes.push(Outcome::new(
            "plan",
            Status::Fail,
            format!("expected as many tests as planned, got {missing} more or fewer"),
        ));
    }
    let failed = outcomes
        .iter()
        .any(|outcome| outcome.status == Status::Fail);
    match block.status {
        Some(0 | 4) => {}
        Some(_) if failed => {}
        Some(status) => outcomes.push(Outcome::new(
            "status",
            Status::Fail,
            format!("expected exit status 0 or 4, got {status}"),
        )),
        None => outcomes.push(Outcome::new(
            "end",
            Status::Fail,
            "expected a marker URET-END of the run, got none",
        )),
    }
    if outcomes.is_empty() {
        outcomes.push(Outcome::new(
            "tests",
            Status::Fail,
            "expected a test, got none",
        ));
    }
    outcomes
}

/// The exit statuses of selftests by name, from the lines of tools/uret/guest/init. A test that was
/// left out, as the test has passed in an earlier run, counts as passed.
pub fn statuses(block: &Block<'_>) -> BTreeMap<String, i32> {
    let status = |line: &&str| {
        if let Some(name) = line.strip_prefix("PASSED BEFORE ") {
            return Some((name.to_string(), 0));
        }
        let mut words = line.strip_prefix("TEST ")?.split(' ');
        Some((words.next()?.to_string(), words.next()?.parse().ok()?))
    };

    block.lines.iter().filter_map(status).collect()
}

/// The last lines of the output of each failed selftest of a list.
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

/// Compares two runs of the kernel's selftests: a test that passes on stock must pass on uret, and
/// a test that skips on stock must skip or pass on uret.
pub fn compare(stock: &BTreeMap<String, i32>, uret: &BTreeMap<String, i32>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = stock
        .iter()
        .map(|(name, stock)| match (stock, uret.get(name)) {
            (0, Some(0)) => Outcome::new(name, Status::Pass, ""),
            (0, Some(status)) => Outcome::new(
                name,
                Status::Fail,
                format!("expected exit status 0 as on stock, got {status} on uret"),
            ),
            (_, None) => Outcome::new(name, Status::Fail, "expected a run on uret, got none"),
            (4, Some(0 | 4)) => Outcome::new(name, Status::Skip, "skips on stock"),
            (4, Some(status)) => Outcome::new(
                name,
                Status::Fail,
                format!("expected exit status 4 as on stock, or 0, got {status} on uret"),
            ),
            (status, Some(_)) => Outcome::new(
                name,
                Status::Skip,
                format!("exit status {status} on stock, too"),
            ),
        })
        .collect();
    if !outcomes
        .iter()
        .any(|outcome| outcome.status == Status::Pass)
    {
        outcomes.push(Outcome::new(
            "any",
            Status::Fail,
            "expected a test that passes, got none",
        ));
    }
    outcomes
}

/// The result of a run without KTAP, which is the exit status.
pub fn ending(block: &Block<'_>) -> Outcome {
    match block.status {
        Some(0) => Outcome::new("exit status", Status::Pass, ""),
        _ => {
            let keep = block.lines.len().saturating_sub(6);
            let got = block
                .status
                .map_or("none".to_string(), |status| status.to_string());
            let lines = block.lines[keep..].join("\n");
            let note = format!("expected exit status 0, got {got}:\n{lines}");
            Outcome::new("exit status", Status::Fail, note)
        }
    }
}

/// Parts of the valid reasons to skip a uret test in the emulators.
const SKIPPED_FOR: [&str; 3] = ["uret=0", "SVM only", "lets any MSR be read and written"];
/// A valid reason on a machine with one CPU.
const ONE_CPU: &str = "only one CPU";

/// Fails a uret test that skips for another reason.
pub fn expected(mut outcome: Outcome, cpus: u32) -> Outcome {
    let text = format!("{} {}", outcome.name, outcome.note);
    let known = SKIPPED_FOR.iter().any(|reason| text.contains(reason))
        || (cpus == 1 && text.contains(ONE_CPU));

    if outcome.status == Status::Skip && !known {
        outcome.status = Status::Fail;
        outcome
            .note
            .push_str("\nexpected a reason in SKIPPED_FOR of tools/uret/harness/src/results.rs");
    }
    outcome
}

/// Strings in the lines of splats. tools/uret/guest/init uses the same file.
const SPLATS: &str = include_str!("../../../testing/selftests/uret/lib/splats");

/// The splats in the kernel log, if any.
pub fn splat(text: &str) -> Option<Outcome> {
    // Before a reboot and in a panic, the kernel prints messages to the serial line.
    let direct = match text.contains("Kernel panic") {
        true => text,
        false => text
            .split_once("URET-END reboot")
            .map_or("", |(_, rest)| rest),
    };
    let direct = direct
        .lines()
        .filter(|line| SPLATS.lines().any(|pattern| line.contains(pattern)));
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("URET-SPLAT "))
        .chain(direct)
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
            .map(|outcome| (outcome.name, outcome.status))
            .collect()
    }

    #[test]
    fn flat_results_are_parsed() {
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
    fn suite_is_no_result_beside_its_cases() {
        let text = "KTAP version 1\n1..2\n    # Subtest: s\n    1..1\n    ok 1 a\nok 1 s\n    1..1\n    not ok 1 b\nnot ok 2 t";
        assert_eq!(
            parsed(text, 1),
            [("s.a".into(), Status::Pass), ("b".into(), Status::Fail)]
        );
    }

    #[test]
    fn failed_suite_without_failed_case_is_a_result() {
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
        assert!(ktap(&block).iter().any(|outcome| outcome.name == "end"));
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
                .map(|(name, status)| (name.to_string(), *status))
                .collect::<BTreeMap<_, _>>()
        };
        let stock = table(&[("a", 0), ("b", 0), ("c", 4), ("d", 254), ("e", 0), ("f", 4)]);
        let uret = table(&[("a", 0), ("b", 254), ("c", 4), ("d", 0), ("f", 139)]);
        let statuses: Vec<Status> = compare(&stock, &uret)
            .into_iter()
            .map(|outcome| outcome.status)
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
    fn test_that_is_left_out_has_passed() {
        let text = "URET-BEGIN x\nPASSED BEFORE a\nTEST b 254 3 s\nlast words\nURET-END x 0\n";
        let statuses = statuses(&block(text, "x").unwrap());
        assert_eq!(
            statuses.into_iter().collect::<Vec<_>>(),
            [("a".to_string(), 0), ("b".to_string(), 254)]
        );
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
