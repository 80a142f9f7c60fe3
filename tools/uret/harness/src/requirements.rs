// SPDX-License-Identifier: GPL-2.0-only

//! The requirements that the results of a bench must meet.

use std::fmt;

use crate::samples::{find, Measured};

/// A requirement, and the results that do not meet the requirement.
pub struct Requirement {
    pub text: String,
    /// Each with the expected value and the value got.
    pub failures: Vec<String>,
}

impl Requirement {
    fn new(text: impl Into<String>, failures: Vec<String>) -> Self {
        Self {
            text: text.into(),
            failures,
        }
    }

    fn not_measured(text: impl Into<String>) -> Self {
        Self::new(text, vec!["not measured".into()])
    }

    pub fn holds(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holds() {
            true => write!(f, "{}", self.text),
            false => write!(f, "{}, but {}", self.text, self.failures.join(", ")),
        }
    }
}

/// The failure of a count above a limit.
fn above(class: &str, limit: f64, count: f64) -> Option<String> {
    (count > limit).then(|| format!("{class}: expected at most {limit}, got {count}"))
}

/// The instructions of `calibrate` in rust/uret/tests/uret_bench.c.
const CALIBRATION: &[(&str, f64)] = &[
    ("instructions", 25.0),
    ("wrmsr", 2.0),
    ("swapgs", 2.0),
    ("locked", 2.0),
    ("rdmsr", 1.0),
    ("rdfsbase", 1.0),
    ("rdgsbase", 1.0),
    ("wrfsbase", 1.0),
    ("wrgsbase", 1.0),
    ("lgdt", 1.0),
    ("lidt", 1.0),
    ("lldt", 1.0),
    ("vmload", 1.0),
    ("vmsave", 1.0),
    ("stgi", 1.0),
    ("clgi", 1.0),
];

/// The instructions of a PIO exit with stock's code on SVM, counted independently.
const PIO: &[(&str, f64)] = &[
    ("vmrun", 1.0),
    ("vmload", 2.0),
    ("vmsave", 2.0),
    ("swapgs", 2.0),
];

fn has_counts(
    results: &[Measured],
    (mode, scenario): (&str, &str),
    counts: &[(&str, f64)],
    text: &str,
) -> Requirement {
    let Some(result) = find(results, "svm", mode, scenario) else {
        return Requirement::not_measured(text);
    };
    let wrong: Vec<String> = counts
        .iter()
        .filter_map(|(class, count)| match result.per_op.get(*class) {
            Some(got) if got == count => None,
            Some(got) => Some(format!("{class}: expected {count}, got {got}")),
            None => Some(format!("{class}: expected {count}, got none")),
        })
        .collect();
    Requirement::new(text, wrong)
}

/// The modes and states of the measurements with no VM.
pub const STATES: [(&str, &str); 3] = [
    ("stock", "absent"),
    ("uret", "loaded"),
    ("uret", "after-vms"),
];

/// With no VM, the module must cost nothing: all states must have the same counts.
fn free_without_vm(results: &[Measured], scenario: &str) -> Requirement {
    let text = format!(
        "{scenario} with no VM: the same counts with uret absent, loaded, and after VMs ran"
    );
    let [absent, loaded, after] =
        STATES.map(|(mode, state)| find(results, "svm", mode, &format!("{scenario}/{state}")));
    let (Some(absent), Some(loaded), Some(after)) = (absent, loaded, after) else {
        return Requirement::not_measured(text);
    };
    let different = [loaded, after]
        .into_iter()
        .filter(|result| result.per_op != absent.per_op)
        .map(|result| {
            let (expected, got) = (&absent.per_op, &result.per_op);
            format!("{}: expected {expected:?}, got {got:?}", result.scenario)
        })
        .collect();
    Requirement::new(text, different)
}

/// The scenarios with no VM, and the number of NOPs that the patches may add: one for each use of a
/// static key.
///
/// The exit to user mode uses a static key once, and `__switch_to()` uses static keys twice. An
/// operation of two tasks that yield to each other has two system calls and two context switches.
const NOPS: [(&str, f64); 2] = [("syscall", 1.0), ("context-switch", 2.0 * (1.0 + 2.0))];

/// With no VM, the patches must cost no more than [`NOPS`].
fn patches_cost_nops(results: &[Measured], scenario: &str, nops: f64) -> Requirement {
    let text = format!(
        "{scenario} with no VM: at most {nops} more instructions (NOPs) than without the patches"
    );
    let [unpatched, patched] = ["unpatched", "stock"].map(|mode| {
        let found = find(results, "svm", mode, &format!("{scenario}/absent"));
        found.map(|result| &result.per_op)
    });
    let (Some(unpatched), Some(patched)) = (unpatched, patched) else {
        return Requirement::not_measured(text);
    };
    let more: Vec<String> = patched
        .iter()
        .filter_map(|(class, count)| {
            let before = unpatched.get(class).copied().unwrap_or(0.0);
            let allowed = if class == "instructions" { nops } else { 0.0 };
            above(class, before + allowed, *count)
        })
        .collect();
    Requirement::new(text, more)
}

/// The paths of the registry that must take no more instructions than stock's.
const PATHS: &[&str] = &[
    "set-equal:7",
    "set-new:7",
    "restore:1/7",
    "restore:4/7",
    "restore:7/7",
];

/// The cost of a path without the cost of a return to user mode that restores nothing.
pub fn own_cost(results: &[Measured], vendor: &str, mode: &str, path: &str) -> Option<f64> {
    let count = |path: &str| find(results, vendor, mode, path)?.cost();
    let plain_return = match path.starts_with("restore:") {
        true => count("restore:0/7")?,
        false => 0.0,
    };
    Some(count(path)? - plain_return)
}

fn cheaper(results: &[Measured], path: &str) -> Requirement {
    let [stock, uret] = ["stock", "uret"].map(|mode| own_cost(results, "svm", mode, path));
    let (Some(stock), Some(uret)) = (stock, uret) else {
        return Requirement::not_measured(path);
    };
    let met = if uret <= stock / 2.0 {
        "met"
    } else {
        "not met"
    };
    let text =
        format!("{path}: {uret} instructions, stock {stock}; the target of half of stock is {met}");
    Requirement::new(text, Vec::from_iter(above("instructions", stock, uret)))
}

fn no_more_writes(results: &[Measured]) -> Requirement {
    let more: Vec<String> = results
        .iter()
        .filter(|result| result.mode == "uret")
        .filter_map(|uret| {
            let stock = find(results, &uret.vendor, "stock", &uret.scenario)?;
            // Timer ticks write MSRs, too.
            let name = format!("{} {}", uret.vendor, uret.scenario);
            above(
                &name,
                count_of(stock, "wrmsr") + NOISE,
                count_of(uret, "wrmsr"),
            )
        })
        .collect();
    let text = "uret executes no more WRMSR than stock in any scenario";
    Requirement::new(text, more)
}

/// Classes that a switch to the idle task or to a kernel thread must not execute. "switch" counts
/// the MSRs that a guest and the host share, and not other MSRs that an entry reads, like DEBUGCTL.
const SWITCHING: &[&str] = &[
    "switch wrmsr",
    "switch rdmsr",
    "wrmsr",
    "lgdt",
    "swapgs",
    "rdgsbase",
    "wrgsbase",
    "rdfsbase",
    "wrfsbase",
];

/// Counts that timer ticks or other tasks add.
pub const NOISE: f64 = 0.1;

/// Instructions that may replace each VMLOAD or VMSAVE saved: LIDT, the exchange of the GS base,
/// which VMRUN and #VMEXIT do not do, and instructions that maintain the state.
///
/// VMLOAD takes as long as WRMSR, and VMSAVE takes 100 to 200 cycles: see measuring.rst for
/// sources.
const COST_OF_DEFERRAL: &[(&str, f64)] = &[
    ("instructions", 25.0),
    ("lidt", 1.0),
    ("rdgsbase", 1.0),
    ("wrgsbase", 1.0),
];

/// The count of a class that uret may add in exchange for fewer VMLOAD and VMSAVE.
fn allowed_in_exchange(stock: &Measured, uret: &Measured, class: &str) -> f64 {
    let saved: f64 = ["vmload", "vmsave"]
        .iter()
        .map(|class| count_of(stock, class) - count_of(uret, class))
        .sum();
    let cost = COST_OF_DEFERRAL.iter().find(|cost| cost.0 == class);

    cost.map_or(0.0, |cost| cost.1 * saved.max(0.0))
}

fn count_of(measured: &Measured, class: &str) -> f64 {
    measured.per_op.get(class).copied().unwrap_or(0.0)
}

/// The count of a class for entries of guests: on SVM, each entry exchanges the GS base, with two
/// reads and two writes.
fn count_of_entries(uret: &Measured, class: &str) -> f64 {
    match class {
        "rdgsbase" | "wrgsbase" => 2.0 * count_of(uret, "vmrun"),
        _ => 0.0,
    }
}

/// VMLOAD and VMSAVE are deferred, and an exit to user space executes no more of both than stock.
fn vmload_is_deferred(results: &[Measured]) -> Requirement {
    let text =
        "svm: no VMLOAD and no VMSAVE for exits in the kernel and kernel threads, except for \
                one VMSAVE when the CPU idles, and no more than stock for an exit to user space";
    let find = |mode, scenario| find(results, "svm", mode, scenario);
    let Some(stock) = find("stock", "exit-to-user") else {
        return Requirement::not_measured(text);
    };
    let stock = |class| count_of(stock, class);
    let limits = [
        ("exit-in-kernel", 0.0, 0.0),
        ("guest-idle-guest", 0.0, 1.0),
        ("guest-thread-guest", 0.0, 0.0),
        ("exit-to-user", stock("vmload"), stock("vmsave")),
    ];
    let mut more = Vec::new();
    for (scenario, vmload, vmsave) in limits {
        let Some(uret) = find("uret", scenario) else {
            return Requirement::not_measured(text);
        };
        for (class, limit) in [("vmload", vmload), ("vmsave", vmsave)] {
            more.extend(above(
                &format!("{scenario} {class}"),
                limit,
                count_of(uret, class),
            ));
        }
    }
    Requirement::new(text, more)
}

/// A switch to the idle task or to a kernel thread must not access registers that are switched.
fn no_register_is_switched(results: &[Measured], vendor: &str, scenario: &str) -> Requirement {
    let text = format!("{vendor}: {scenario}: uret accesses no register that is switched");
    let Some(uret) = find(results, vendor, "uret", scenario) else {
        return Requirement::not_measured(text);
    };
    // Without traced counts, the absence of an access proves nothing.
    let traced = uret.per_op.contains_key("switch rdmsr");
    let accessed: Vec<String> = SWITCHING
        .iter()
        .filter_map(|class| Some((class, uret.per_op.get(*class)?)))
        .filter(|(class, count)| **count > NOISE + count_of_entries(uret, class))
        .map(|(class, count)| format!("{class}: expected 0, got {count:.2}"))
        .collect();
    match traced {
        true => Requirement::new(text, accessed),
        false => Requirement::new(text, vec!["nothing was traced".into()]),
    }
}

/// Checks that uret is at or below the baseline in every class. The baseline is the unpatched
/// kernel if measured, otherwise stock. Instructions that replace VMLOAD and VMSAVE are allowed.
fn no_worse(results: &[Measured], vendor: &str, scenario: &str) -> Requirement {
    let find = |mode| find(results, vendor, mode, scenario);
    let (name, stock) = match find("unpatched") {
        None => ("stock", find("stock")),
        unpatched => ("an unpatched kernel", unpatched),
    };
    let exchange = match vendor {
        "svm" => {
            ", except for 25 instructions, 1 LIDT, 1 RDGSBASE and 1 WRGSBASE for each VMLOAD or \
             VMSAVE less"
        }
        _ => "",
    };
    let text = format!("{vendor}: {scenario}: uret is at or below {name} in every class{exchange}");
    let (Some(stock), Some(uret)) = (stock, find("uret")) else {
        return Requirement::not_measured(text);
    };
    let worse: Vec<String> = uret
        .per_op
        .iter()
        .filter(|(class, _)| !class.starts_with("uret "))
        .filter_map(|(class, count)| {
            let stock_count = count_of(stock, class);
            // Times vary: allow the distance of the quartiles.
            let noise = match class.as_str() {
                "instructions" | "ticks" => {
                    stock.spread.unwrap_or(0.0).max(uret.spread.unwrap_or(0.0))
                }
                _ => NOISE,
            };
            let limit = stock_count + noise + allowed_in_exchange(stock, uret, class);
            above(class, limit, *count)
        })
        .collect();
    Requirement::new(text, worse)
}

/// The requirements for switches from a guest to other tasks, and back.
fn switches(results: &[Measured], vendor: &str) -> Vec<Requirement> {
    let mut all = Vec::new();
    for scenario in ["guest-idle-guest", "guest-thread-guest"] {
        all.push(no_register_is_switched(results, vendor, scenario));
    }
    for scenario in [
        "exit-to-user",
        "guest-idle-guest",
        "guest-thread-guest",
        "guest-user-guest",
        "two-guests-equal",
        "two-guests-different",
    ] {
        all.push(no_worse(results, vendor, scenario));
    }
    all
}

/// Checks the counts of the plugin.
pub fn plugin_counts(results: &[Measured]) -> Vec<Requirement> {
    vec![
        has_counts(
            results,
            ("uret", "calibrate"),
            CALIBRATION,
            "the plugin counts a known sequence of instructions exactly",
        ),
        has_counts(
            results,
            ("stock", "exit-to-user"),
            PIO,
            "stock, exit to user space: 1 VMRUN, 2 VMLOAD, 2 VMSAVE, 2 SWAPGS",
        ),
    ]
}

/// All requirements.
pub fn requirements(results: &[Measured], identical: bool) -> Vec<Requirement> {
    let differ = (!identical).then(|| "the counts differ".into());
    let mut all = vec![Requirement::new(
        "two runs in QEMU give identical counts",
        Vec::from_iter(differ),
    )];
    all.extend(plugin_counts(results));
    all.extend([
        free_without_vm(results, "syscall"),
        free_without_vm(results, "context-switch"),
        no_more_writes(results),
        vmload_is_deferred(results),
    ]);
    if results.iter().any(|result| result.mode == "unpatched") {
        all.extend(NOPS.map(|(scenario, nops)| patches_cost_nops(results, scenario, nops)));
    }
    all.extend(PATHS.iter().map(|path| cheaper(results, path)));
    all.extend(switches(results, "svm"));
    for scenario in ["migrate-after-idle", "wake-on-other-cpu"] {
        all.push(no_worse(results, "svm", scenario));
    }
    if results.iter().any(|result| result.vendor == "vmx") {
        all.extend(switches(results, "vmx"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::PerOp;

    fn measured(mode: &str, scenario: &str, counts: &[(&str, f64)]) -> Measured {
        Measured {
            vendor: "svm".into(),
            machine: "qemu".into(),
            mode: mode.into(),
            scenario: scenario.into(),
            ops: 1,
            per_op: counts
                .iter()
                .map(|(name, count)| (name.to_string(), *count))
                .collect(),
            guest: PerOp::new(),
            mean: PerOp::new(),
            spread: None,
        }
    }

    #[test]
    fn miscounted_class_fails_the_calibration() {
        let holds = |results: &[Measured]| {
            has_counts(results, ("uret", "calibrate"), CALIBRATION, "").holds()
        };
        let good = [measured("uret", "calibrate", CALIBRATION)];
        assert!(holds(&good));
        for i in 0..CALIBRATION.len() {
            let mut counts = CALIBRATION.to_vec();
            counts[i].1 += 1.0;
            let wrong = [measured("uret", "calibrate", &counts)];
            assert!(!holds(&wrong), "{}", counts[i].0);
            counts.remove(i);
            let missing = [measured("uret", "calibrate", &counts)];
            assert!(!holds(&missing));
        }
    }

    #[test]
    fn module_with_a_cost_fails() {
        let states = |counts: [f64; 3]| {
            STATES
                .iter()
                .zip(counts)
                .map(|((mode, state), count)| {
                    measured(
                        mode,
                        &format!("syscall/{state}"),
                        &[("instructions", count)],
                    )
                })
                .collect::<Vec<_>>()
        };
        assert!(free_without_vm(&states([9.0, 9.0, 9.0]), "syscall").holds());
        assert!(!free_without_vm(&states([9.0, 10.0, 9.0]), "syscall").holds());
        assert!(!free_without_vm(&states([9.0, 9.0, 10.0]), "syscall").holds());
        assert!(!free_without_vm(&states([9.0, 9.0, 9.0])[..2], "syscall").holds());
    }

    #[test]
    fn patches_that_cost_more_than_nops_fail() {
        let holds = |before: &[(&str, f64)], after: &[(&str, f64)]| {
            let results = [
                measured("unpatched", "syscall/absent", before),
                measured("stock", "syscall/absent", after),
            ];
            patches_cost_nops(&results, "syscall", 1.0).holds()
        };
        assert!(holds(&[("instructions", 9.0)], &[("instructions", 10.0)]));
        assert!(!holds(&[("instructions", 9.0)], &[("instructions", 11.0)]));
        assert!(!holds(
            &[("instructions", 9.0)],
            &[("instructions", 9.0), ("locked", 1.0)]
        ));
        assert!(!patches_cost_nops(&[], "syscall", 1.0).holds());
    }

    #[test]
    fn more_writes_than_stock_fail() {
        let both = |stock: f64, uret: f64| {
            [("stock", stock), ("uret", uret)]
                .map(|(mode, count)| measured(mode, "a", &[("wrmsr", count)]))
        };
        assert!(no_more_writes(&both(2.0, 2.0)).holds());
        assert!(!no_more_writes(&both(2.0, 3.0)).holds());
        assert!(!no_more_writes(&[measured("stock", "a", &[]), both(0.0, 1.0)[1].clone()]).holds());
    }

    #[test]
    fn access_of_a_switched_register_fails() {
        let holds = |counts: &[(&str, f64)]| {
            no_register_is_switched(&[measured("uret", "a", counts)], "svm", "a").holds()
        };
        assert!(holds(&[
            ("switch rdmsr", 0.0),
            ("rdmsr", 3.0),
            ("lgdt", 0.01)
        ]));
        assert!(!holds(&[("switch rdmsr", 1.0)]));
        assert!(!holds(&[("switch rdmsr", 0.0), ("swapgs", 2.0)]));
        assert!(!holds(&[("rdmsr", 3.0)]));
        assert!(!no_register_is_switched(&[], "svm", "a").holds());
    }

    #[test]
    fn class_above_the_baseline_fails() {
        let worse = |stock: &[(&str, f64)], uret: &[(&str, f64)]| {
            !no_worse(
                &[measured("stock", "a", stock), measured("uret", "a", uret)],
                "svm",
                "a",
            )
            .holds()
        };
        assert!(!worse(&[("instructions", 9.0)], &[("instructions", 9.0)]));
        assert!(worse(&[("instructions", 9.0)], &[("instructions", 10.0)]));
        assert!(worse(&[], &[("locked", 1.0)]));
        // The unpatched kernel is the baseline if measured.
        let holds_with_unpatched = |uret: f64| {
            let results = [
                measured("unpatched", "a", &[("instructions", 900.0)]),
                measured("stock", "a", &[("instructions", 950.0)]),
                measured("uret", "a", &[("instructions", uret)]),
            ];
            no_worse(&results, "svm", "a").holds()
        };
        assert!(holds_with_unpatched(900.0) && !holds_with_unpatched(901.0));
        assert!(!worse(&[], &[("uret set", 1.0)]));
        assert!(!no_worse(&[measured("uret", "a", &[])], "svm", "a").holds());
    }

    #[test]
    fn cost_of_a_plain_return_is_subtracted() {
        let results = [
            measured("stock", "restore:0/7", &[("instructions", 40.0)]),
            measured("stock", "restore:7/7", &[("instructions", 140.0)]),
            measured("uret", "restore:0/7", &[("instructions", 40.0)]),
            measured("uret", "restore:7/7", &[("instructions", 90.0)]),
        ];
        assert_eq!(
            own_cost(&results, "svm", "stock", "restore:7/7"),
            Some(100.0)
        );
        assert!(cheaper(&results, "restore:7/7").holds());
        assert!(cheaper(&results, "restore:7/7").text.ends_with("is met"));
        assert!(!cheaper(&results, "restore:1/7").holds());
    }
}
