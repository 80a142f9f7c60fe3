// SPDX-License-Identifier: GPL-2.0-only

//! Publishes results: the table in the README, and the report.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};

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
        &[("vmload", "VMLOAD"), ("vmsave", "VMSAVE")],
    ),
    (
        "AMD: the guest idles and comes back",
        "svm",
        "guest-idle-guest",
        &[
            ("vmload", "VMLOAD"),
            ("vmsave", "VMSAVE"),
            ("swapgs", "SWAPGS"),
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

/// Copies the report from `out` to the folder `results` of the repository `top`, and replaces the
/// table of the README.
pub fn publish(results: &[Measured], out: &Path, top: &Path) -> Result<()> {
    let (folder, readme) = (top.join("results"), top.join("README.md"));
    let text = replaced(&fs::read_to_string(&readme)?, &table(results)?)?;

    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        fs::copy(&path, folder.join(name)).with_context(|| format!("{}", path.display()))?;
    }
    fs::write(readme, text)?;
    ensure!(
        folder.join("report.md").exists(),
        "expected results/report.md, got none"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_has_the_figures_of_the_results() {
        let readme = include_str!("../../../../README.md");
        let results: Vec<Measured> =
            serde_json::from_str(include_str!("../../../../results/results.json"))
                .expect("results.json");

        let table = table(&results).expect("all scenarios are there");
        assert_eq!(
            replaced(readme, &table).expect("README.md has the marks"),
            readme
        );
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
