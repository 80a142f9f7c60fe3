// SPDX-License-Identifier: GPL-2.0-only

//! Publishes results: the table in the README, and the report.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report;
use crate::requirements::{requirements, Requirement};
use crate::samples::{find, Measured};

/// A line of the table: a description, the vendor, the scenario, and the classes with titles.
type Line = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const LINES: [Line; 3] = [
    (
        "AMD: an exit that the kernel handles",
        "svm",
        "exit-in-kernel",
        &[
            ("vmload", "VMLOAD"),
            ("vmsave", "VMSAVE"),
            ("rdgsbase", "RDGSBASE"),
            ("wrgsbase", "WRGSBASE"),
        ],
    ),
    (
        "AMD: the guest idles and comes back",
        "svm",
        "guest-idle-guest",
        &[
            ("vmload", "VMLOAD"),
            ("vmsave", "VMSAVE"),
            ("swapgs", "SWAPGS"),
            ("rdgsbase", "RDGSBASE"),
            ("wrgsbase", "WRGSBASE"),
        ],
    ),
    (
        "Intel: the guest idles and comes back",
        "vmx",
        "guest-idle-guest",
        &[
            ("switch wrmsr", "WRMSR"),
            ("switch rdmsr", "RDMSR"),
            ("lgdt", "LGDT"),
        ],
    ),
];

const BEGIN: &str = "<!-- figures: make bench PUBLISH=1 -->\n";
const END: &str = "<!-- end of figures -->\n";

/// The table of the README.
fn table(results: &[Measured]) -> Result<String> {
    let mut text = String::from(
        "| per operation, executed by the kernel | stock KVM | uret |\n|---|---|---|\n",
    );

    for (description, vendor, scenario, classes) in LINES {
        let counts = |mode| {
            let found = find(results, vendor, mode, scenario)
                .with_context(|| format!("{vendor}: {scenario}: not measured"))?;
            let counts = classes
                .iter()
                .map(|(class, _)| found.per_op.get(*class).copied().unwrap_or(0.0));
            anyhow::Ok(
                counts
                    .map(|count| format!("{count:.0}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            )
        };
        let titles: Vec<_> = classes.iter().map(|(_, title)| *title).collect();
        text.push_str(&format!(
            "| {description}: {} | {} | {} |\n",
            titles.join(", "),
            counts("stock")?,
            counts("uret")?
        ));
    }
    Ok(text)
}

/// Returns the text of a README with the table replaced.
fn replaced(readme: &str, table: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("README.md: expected {BEGIN:?}, got none"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("README.md: expected {END:?}, got none"))?;

    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// Writes the report to the folder `results` of the repository `top`, and the table of the README.
pub fn publish(results: &[Measured], requirements: &[Requirement], top: &Path) -> Result<()> {
    let readme = top.join("README.md");
    let text = replaced(&fs::read_to_string(&readme)?, &table(results)?)?;

    report::write(results, requirements, &top.join("results"))?;
    fs::write(readme, text).context("README.md")
}

/// Writes the published report again, after a change of the text of the report.
pub fn again(top: &Path) -> Result<()> {
    let text = fs::read_to_string(top.join("results/results.json")).context("results.json")?;
    let results: Vec<Measured> = serde_json::from_str(&text)?;

    // Only identical runs are published.
    publish(&results, &requirements(&results, true), top)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a change of the report: `make report`.
    #[test]
    fn readme_and_report_are_those_of_the_results() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let copy = std::env::temp_dir().join(format!("uret-publish-{}", std::process::id()));
        let read = |top: &Path, file| fs::read_to_string(top.join(file)).expect(file);

        fs::create_dir_all(copy.join("results")).expect("a folder");
        for file in ["README.md", "results/results.json"] {
            fs::copy(top.join(file), copy.join(file)).expect(file);
        }
        again(&copy).expect("README.md has the marks, and all scenarios are there");
        for file in ["README.md", "results/results.json", "results/report.md"] {
            assert_eq!(read(&copy, file), read(&top, file), "{file}");
        }
        fs::remove_dir_all(copy).expect("a folder");
    }

    #[test]
    fn readme_without_marks_is_an_error() {
        assert!(replaced("text", "").is_err());
        assert_eq!(
            replaced(&format!("a\n{BEGIN}x{END}b\n"), "y\n").unwrap(),
            format!("a\n{BEGIN}y\n{END}b\n")
        );
    }
}
