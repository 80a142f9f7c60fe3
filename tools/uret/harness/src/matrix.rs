// SPDX-License-Identifier: GPL-2.0-only

//! The boots of a check, from the file config/runs and the list of tests.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use crate::emulator::Emulator;
use crate::machine::{Images, Machine};

/// A boot, with its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    pub emulator: Emulator,
    /// The number of CPUs, or `None` for the default of the emulator.
    pub cpus: Option<u32>,
    /// The time limit, in seconds.
    pub limit: u64,
    pub runs: Vec<String>,
    /// Options for the kernel command line.
    pub options: String,
    /// The number of NMIs to inject on each CPU.
    pub nmis: u64,
    /// See [`Machine::shift`].
    pub shift: Option<u32>,
    /// A special kernel and a special initramfs for this boot.
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
}

impl Boot {
    /// A boot of one emulator with the defaults.
    pub fn new(emulator: Emulator, runs: &str, limit: u64) -> Self {
        Self {
            emulator,
            cpus: None,
            limit: limit * emulator.operations().slowness(),
            runs: runs.split(',').map(str::to_string).collect(),
            options: String::new(),
            nmis: 0,
            shift: None,
            kernel: None,
            initrd: None,
        }
    }

    /// The number of CPUs.
    pub fn cpus(&self) -> u32 {
        self.cpus
            .unwrap_or(self.emulator.operations().default_cpus())
    }

    /// The name of the machine, at the start of the name of each result.
    pub fn name(&self) -> String {
        let vendor = self.emulator.vendor();
        let mut special: Vec<String> = Vec::new();
        match self.cpus {
            Some(1) => special.push("1 CPU".into()),
            Some(cpus) => special.push(format!("{cpus} CPUs")),
            None => {}
        }
        if !self.options.is_empty() {
            special.push(self.options.clone());
        }
        if self.kernel.is_some() {
            special.push("KVM built in".into());
        }
        if special.is_empty() {
            vendor.to_string()
        } else {
            format!("{vendor} ({})", special.join(", "))
        }
    }

    /// The machine to boot.
    pub fn machine(&self, images: &Images, work: &Path) -> Machine {
        let images = Images {
            kernel: self.kernel.as_ref().unwrap_or(&images.kernel).clone(),
            initrd: self.initrd.as_ref().unwrap_or(&images.initrd).clone(),
        };
        let runs = self.runs.join(",");
        let mut machine =
            Machine::new(self.emulator.operations(), &images, &runs, work).limited_to(self.limit);
        if self.cpus.is_some() || !self.options.is_empty() {
            machine = machine.with(self.cpus(), &self.options);
        }
        if self.kernel.is_some() {
            machine.dir.push("builtin");
        }
        if self.nmis != 0 {
            machine = machine.storming(self.nmis);
        }
        if let Some(shift) = self.shift {
            machine.shift = shift;
        }
        machine
    }

    fn parse(line: &str, svm_only: bool, slow: bool) -> Result<Vec<Self>> {
        let mut words = line.split_whitespace();
        let mut word = |name| {
            words
                .next()
                .with_context(|| format!("expected {name}, got none"))
        };
        let (emulators, cpus) = (word("EMULATORS")?, word("CPUS")?);
        let limit = word("SECONDS")?.parse().context("SECONDS")?;
        let runs = word("RUNS")?;
        let emulators: &[Emulator] = match emulators {
            "qemu" => &[Emulator::Qemu],
            "both" if slow => &[Emulator::Qemu],
            "both" | "both!" => &[Emulator::Qemu, Emulator::Bochs],
            other => bail!("EMULATORS: expected qemu, both or both!, got {other}"),
        };
        let mut boots: Vec<Self> = emulators
            .iter()
            .filter(|&&emulator| !svm_only || emulator == Emulator::Qemu)
            .map(|&emulator| Self::new(emulator, runs, limit))
            .collect();
        for option in words {
            for boot in &mut boots {
                match option.split_once('=') {
                    Some(("nmis", nmis)) => boot.nmis = nmis.parse().context("nmis")?,
                    Some(("shift", shift)) => {
                        let shift = shift.parse().context("shift")?;
                        // With a slower clock, a slow machine would only handle ticks.
                        boot.shift = (!slow).then_some(shift);
                    }
                    _ => boot.options = format!("{} {option}", boot.options).trim().to_string(),
                }
            }
        }
        for boot in &mut boots {
            if cpus != "-" {
                boot.cpus = Some(cpus.parse().context("CPUS")?);
            }
        }
        Ok(boots)
    }
}

/// The program of a run.
pub fn program(run: &str) -> &str {
    run.split('@').next().unwrap_or(run)
}

/// The boots of `matrix`, and boots for all `tests` without a line in `matrix`.
pub fn boots(matrix: &str, tests: &[String], svm_only: bool, slow: bool) -> Result<Vec<Boot>> {
    let mut boots = Vec::new();
    for (number, line) in matrix.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parsed = Boot::parse(line, svm_only, slow)
            .with_context(|| format!("config/runs, line {}", number + 1))?;
        boots.extend(parsed);
    }
    for test in tests {
        let named = |boot: &Boot| boot.runs.iter().any(|run| program(run) == test);
        if !boots.iter().any(named) {
            let line = format!("both - 300 {test}@uret,{test}@stock");
            boots.extend(Boot::parse(&line, svm_only, slow)?);
        }
    }
    Ok(boots)
}

/// Whether a run executes a list of selftests. The results are compared with the results on stock.
pub fn is_list(run: &str) -> bool {
    matches!(program(run), "kvm" | "x86")
}

/// Keeps the runs with `only` in the name, or in the name of a result.
pub fn select(boots: Vec<Boot>, only: &str) -> Vec<Boot> {
    boots
        .into_iter()
        .filter_map(|mut boot| {
            let name = boot.name();
            // The name of a failure of the machine has all runs.
            if boot.runs.len() > 1 && only.starts_with(&format!("{name}: {}", boot.runs.join(",")))
            {
                return Some(boot);
            }
            let wanted = |run: &str| {
                format!("{name}: {run}").contains(only)
                    || only.starts_with(&format!("{name}: {run}: "))
            };
            // Keep both runs of a list, as the results are compared.
            let list = boot.runs.iter().any(|run| is_list(run) && wanted(run));
            boot.runs
                .retain(|run| wanted(run) || (list && is_list(run)));
            (!boot.runs.is_empty()).then_some(boot)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATRIX: &str =
        "# comment\nboth\t-\t300\ta_test@uret,demo\nboth!\t2\t70\tx86@stock,x86@uret\n\
                          qemu 1 10 nmi_stress_test.sh@uret nmis=5 shift=6 nofsgsbase\n";

    fn names(boots: &[Boot]) -> Vec<String> {
        let name = |boot: &Boot| format!("{}: {}", boot.name(), boot.runs.join(","));
        boots.iter().map(name).collect()
    }

    #[test]
    fn matrix_is_parsed() {
        let boots = boots(MATRIX, &[], false, false).unwrap();

        assert_eq!(
            names(&boots),
            [
                "svm: a_test@uret,demo",
                "vmx: a_test@uret,demo",
                "svm (2 CPUs): x86@stock,x86@uret",
                "vmx (2 CPUs): x86@stock,x86@uret",
                "svm (1 CPU, nofsgsbase): nmi_stress_test.sh@uret",
            ]
        );
        assert_eq!((boots[0].limit, boots[1].limit), (300, 900));
        assert_eq!((boots[4].nmis, boots[4].shift), (5, Some(6)));
    }

    #[test]
    fn boots_have_distinct_folders() {
        let matrix = include_str!("../../config/runs");
        let images = Images {
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
        };
        let boots = boots(matrix, &[], false, false).unwrap();
        let mut dirs: Vec<_> = boots
            .iter()
            .map(|boot| boot.machine(&images, Path::new("/")).dir)
            .collect();

        dirs.sort();
        dirs.dedup();
        assert_eq!(dirs.len(), boots.len());
    }

    #[test]
    fn slow_machines_boot_less() {
        let slow = boots(MATRIX, &[], false, true).unwrap();
        assert_eq!(slow.len(), 4);
        assert!(slow.iter().all(|boot| boot.shift.is_none()));
        let svm = boots(MATRIX, &[], true, false).unwrap();
        assert!(svm.iter().all(|boot| boot.emulator == Emulator::Qemu));
    }

    #[test]
    fn new_test_runs_in_both_modes_on_both_emulators() {
        let tests = ["a_test".to_string(), "new_test".to_string()];
        let boots = boots(MATRIX, &tests, false, false).unwrap();

        assert_eq!(
            names(&boots)[5..],
            [
                "svm: new_test@uret,new_test@stock",
                "vmx: new_test@uret,new_test@stock"
            ]
        );
    }

    #[test]
    fn wrong_line_is_an_error() {
        for line in [
            "both - x a",
            "both 2 300",
            "all - 300 a",
            "qemu - 300 a nmis=x",
        ] {
            assert!(boots(line, &[], false, false).is_err(), "{line}");
        }
    }

    #[test]
    fn runs_are_selected_by_name() {
        let all = boots(MATRIX, &[], false, false).unwrap();

        assert_eq!(
            names(&select(all.clone(), "vmx: a_test")),
            ["vmx: a_test@uret"]
        );
        assert_eq!(
            names(&select(all.clone(), "svm: a_test@uret: one of its tests")),
            ["svm: a_test@uret"]
        );
        assert_eq!(
            names(&select(all.clone(), "svm (2 CPUs): x86@uret")),
            ["svm (2 CPUs): x86@stock,x86@uret"]
        );
        let whole = select(all.clone(), "vmx: a_test@uret,demo");
        assert_eq!(names(&whole), ["vmx: a_test@uret,demo"]);
        assert!(select(all, "nothing").is_empty());
    }
}
