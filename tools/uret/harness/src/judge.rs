// SPDX-License-Identifier: GPL-2.0-only

//! Makes test results of what a machine printed.
//!
//! The format is KTAP, see Documentation/dev-tools/ktap.rst in the kernel.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    Skip,
}

/// A test and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub name: String,
    pub verdict: Verdict,
    pub note: String,
}

impl Outcome {
    pub fn new(name: impl Into<String>, verdict: Verdict, note: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict,
            note: note.into(),
        }
    }
}

/// What a command printed between its markers, and its exit status.
pub struct Block<'a> {
    pub lines: Vec<&'a str>,
    pub status: Option<i32>,
}

/// Finds the output of one command.
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
    /// Why it was skipped, if it was.
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

/// The tests in the output of a command that prints KTAP, without those that only sum up others.
///
/// A plan that was not kept, an exit status that the results do not explain, or no test at all,
/// is a failed test.
pub fn ktap(block: &Block<'_>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    // For each indentation, how many tests are still to come, and how many came since the last
    // test of the indentation above.
    let mut plans: BTreeMap<usize, i64> = BTreeMap::new();
    let mut below: BTreeMap<usize, Vec<Verdict>> = BTreeMap::new();
    let mut comments: Vec<&str> = Vec::new();

    for line in &block.lines {
        let text = line.trim_start();
        let indent = line.len() - text.len();

        if let Some(plan) = text.strip_prefix("1..") {
            let number = plan.split(' ').next().unwrap_or("");
            *plans.entry(indent).or_default() += number.parse::<i64>().unwrap_or(0);
            if plan.contains("# SKIP") {
                let reason = plan.split("# SKIP").nth(1).unwrap_or("").trim();
                outcomes.push(Outcome::new("all", Verdict::Skip, reason));
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

        let verdict = match point {
            Point { ok: false, .. } => Verdict::Fail,
            Point { skip: Some(_), .. } => Verdict::Skip,
            _ => Verdict::Pass,
        };
        // Tests that are indented more, since the last one like this, are parts of this one.
        let mut parts = below.split_off(&(point.indent + 1));
        let parts: Vec<Verdict> = parts.values_mut().flat_map(std::mem::take).collect();
        below.entry(point.indent).or_default().push(verdict);
        if !parts.is_empty() {
            if verdict == Verdict::Fail && !parts.contains(&Verdict::Fail) {
                outcomes.push(Outcome::new(point.name, verdict, "no part of it failed"));
            }
            comments.clear();
            continue;
        }
        let note = match (verdict, point.skip) {
            (Verdict::Pass, _) => String::new(),
            (_, Some(why)) => why.to_string(),
            _ => comments[comments.len().saturating_sub(6)..].join("\n"),
        };
        outcomes.push(Outcome::new(point.name, verdict, note));
        comments.clear();
    }

    if plans.values().any(|missing| *missing != 0) {
        outcomes.push(Outcome::new(
            "plan",
            Verdict::Fail,
            "more or fewer tests than planned",
        ));
    }
    let failed = outcomes.iter().any(|it| it.verdict == Verdict::Fail);
    match block.status {
        Some(0 | 4) => {}
        Some(_) if failed => {}
        Some(status) => outcomes.push(Outcome::new(
            "status",
            Verdict::Fail,
            format!("exit status {status}"),
        )),
        None => outcomes.push(Outcome::new("end", Verdict::Fail, "it did not end")),
    }
    if outcomes.is_empty() {
        outcomes.push(Outcome::new("tests", Verdict::Fail, "there were none"));
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

/// Compares two runs of the kernel's selftests: what passes on stock has to pass on uret.
pub fn compare(stock: &BTreeMap<String, i32>, uret: &BTreeMap<String, i32>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = stock
        .iter()
        .map(|(name, stock)| match (stock, uret.get(name)) {
            (0, Some(0)) => Outcome::new(name, Verdict::Pass, ""),
            (0, Some(status)) => Outcome::new(
                name,
                Verdict::Fail,
                format!("passes on stock, exit status {status} on uret"),
            ),
            (_, None) => Outcome::new(name, Verdict::Fail, "was not run on uret"),
            (4, Some(0 | 4)) => Outcome::new(name, Verdict::Skip, "skips on stock"),
            (4, Some(status)) => Outcome::new(
                name,
                Verdict::Fail,
                format!("skips on stock, exit status {status} on uret"),
            ),
            (status, Some(_)) => Outcome::new(
                name,
                Verdict::Skip,
                format!("exit status {status} on stock, too"),
            ),
        })
        .collect();
    if !outcomes.iter().any(|it| it.verdict == Verdict::Pass) {
        outcomes.push(Outcome::new("any", Verdict::Fail, "not one test passed"));
    }
    outcomes
}

/// What the kernel complained about, if anything.
pub fn splat(text: &str) -> Option<Outcome> {
    // On its way to a reboot, and when it dies, the kernel speaks for itself.
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
    (!lines.is_empty()).then(|| Outcome::new("kernel log", Verdict::Fail, lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str, status: i32) -> Vec<(String, Verdict)> {
        let text = format!("noise\nURET-BEGIN x\n{text}\nURET-END x {status}\nnoise\n");
        ktap(&block(&text, "x").unwrap())
            .into_iter()
            .map(|it| (it.name, it.verdict))
            .collect()
    }

    #[test]
    fn flat_results_are_counted() {
        let text = "TAP version 13\n1..4\nok 1 - a\nok 2 b # SKIP why\n# because\nnot ok 3 c\n\
                    ok 4 # SKIP d: why";
        assert_eq!(
            judged(text, 1),
            [
                ("a".into(), Verdict::Pass),
                ("b".into(), Verdict::Skip),
                ("c".into(), Verdict::Fail),
                ("d: why".into(), Verdict::Skip)
            ]
        );
    }

    #[test]
    fn a_suite_is_not_counted_beside_its_cases() {
        let text = "KTAP version 1\n1..2\n    1..1\n    ok 1 a\nok 1 s\n    1..1\n    not ok 1 b\nnot ok 2 t";
        assert_eq!(
            judged(text, 1),
            [("a".into(), Verdict::Pass), ("b".into(), Verdict::Fail)]
        );
    }

    #[test]
    fn a_suite_that_fails_by_itself_is_counted() {
        let text = "1..1\n    1..1\n    ok 1 a\nnot ok 1 s";
        assert!(judged(text, 1).contains(&("s".into(), Verdict::Fail)));
    }

    #[test]
    fn missing_tests_are_a_failure() {
        assert!(judged("1..2\nok 1 a", 0).contains(&("plan".into(), Verdict::Fail)));
        assert!(judged("1..1\nok 1 a\nok 2 b", 0).contains(&("plan".into(), Verdict::Fail)));
    }

    #[test]
    fn nothing_is_a_failure() {
        assert_eq!(judged("", 0), [("tests".into(), Verdict::Fail)]);
        assert!(judged("1..1\nok 1 a", 139).contains(&("status".into(), Verdict::Fail)));
        let block = block("URET-BEGIN x\n1..1\nok 1 a\n", "x").unwrap();
        assert!(ktap(&block).iter().any(|it| it.name == "end"));
    }

    #[test]
    fn what_skips_as_a_whole_is_skipped() {
        assert_eq!(
            judged("1..0 # SKIP no KVM", 4),
            [("all".into(), Verdict::Skip)]
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
        let verdicts: Vec<Verdict> = compare(&stock, &uret)
            .into_iter()
            .map(|it| it.verdict)
            .collect();
        assert_eq!(
            verdicts,
            [
                Verdict::Pass,
                Verdict::Fail,
                Verdict::Skip,
                Verdict::Skip,
                Verdict::Fail,
                Verdict::Fail
            ]
        );
        let nothing = compare(&table(&[]), &uret);
        assert_eq!(nothing[0].verdict, Verdict::Fail);
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
