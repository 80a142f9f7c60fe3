// SPDX-License-Identifier: GPL-2.0-only

//! Measures on both emulated machines, and says whether what must hold does hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{bail, ensure, Context, Result};
use uret_count::record::{self, Record};

use crate::emulator::Emulator;
use crate::machine::{Images, Machine, Output};
use crate::report;
use crate::results::{block, Outcome, Status};
use crate::samples::{counted, find, timed, Measured};

/// What to measure with, and where to.
pub struct Bench {
    pub images: Images,
    /// A kernel without the patches, to compare with.
    pub unpatched: Option<Images>,
    /// The plugin for QEMU.
    pub plugin: PathBuf,
    /// Where the results go.
    pub out: PathBuf,
    pub svm_only: bool,
}

/// The output of a run, if the run has succeeded.
fn lines<'a>(output: &'a Output, run: &str) -> Result<Vec<&'a str>> {
    if let Some(problem) = &output.problem {
        bail!("{problem}");
    }
    let block = block(&output.text, run).context("the bench did not start")?;
    let end = block.lines.len().saturating_sub(5);
    ensure!(
        block.status == Some(0),
        "the bench failed:\n{}",
        block.lines[end..].join("\n")
    );
    Ok(block.lines)
}

/// Counts a run in QEMU. Returns the results, and the records, for comparison with those of another run.
pub fn count(
    images: &Images,
    plugin: &Path,
    (run, cpus): (&str, u32),
    work: &Path,
) -> Result<(Vec<Measured>, Vec<Record>)> {
    fs::create_dir_all(work)?;
    let records = work.join("records.jsonl");
    // All tasks are pinned, and what the load balancer does depends on the phase of the ticks.
    let options = if cpus > 1 { "isolcpus=1" } else { "" };
    let machine = Machine::new(Emulator::Qemu, images, run, work)
        .limited_to(600)
        .with(cpus, options)
        .counting(plugin, &records);
    eprintln!("# svm: counting in QEMU ...");
    let output = machine.run()?;
    let lines = lines(&output, run)?;
    eprintln!("# svm: {} s", output.seconds);
    let records = record::parse(&fs::read_to_string(&records)?).context("the plugin's records")?;
    Ok((counted(&lines, &records, "svm")?, records))
}

/// Measures a run in Bochs.
pub fn time(images: &Images, run: &str, work: &Path) -> Result<Vec<Measured>> {
    let machine = Machine::new(Emulator::Bochs, images, run, work).limited_to(900);
    eprintln!("# vmx: timing in Bochs ...");
    let output = machine.run()?;
    let lines = lines(&output, run)?;
    eprintln!("# vmx: {} s", output.seconds);
    timed(&lines, "vmx", "bochs")
}

/// The runs that count, and their numbers of CPUs.
const ONE_CPU: (&str, u32) = ("bench-count", 1);
const TWO_CPUS: (&str, u32) = ("bench-migrate-count", 2);

/// Whether something that must hold does, and what it is.
pub struct Verdict {
    pub good: bool,
    pub what: String,
}

fn verdict(good: bool, what: impl Into<String>) -> Verdict {
    Verdict {
        good,
        what: what.into(),
    }
}

/// What `calibrate` in rust/uret/uret_bench.c executes.
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

/// Stock's PIO exit on SVM, as an independent count has it.
const PIO: &[(&str, f64)] = &[
    ("vmrun", 1.0),
    ("vmload", 2.0),
    ("vmsave", 2.0),
    ("swapgs", 2.0),
];

fn has(results: &[Measured], mode: &str, scenario: &str, counts: &[(&str, f64)]) -> bool {
    find(results, "svm", mode, scenario).is_some_and(|it| {
        counts
            .iter()
            .all(|(class, count)| it.per_op.get(*class) == Some(count))
    })
}

/// In which mode and state what needs no VM is measured.
pub const STATES: [(&str, &str); 3] = [
    ("stock", "absent"),
    ("uret", "loaded"),
    ("uret", "after-vms"),
];

/// With no VM, the module must cost nothing: the same counts in all states.
fn free_without_vm(results: &[Measured], scenario: &str) -> Verdict {
    let found =
        STATES.map(|(mode, state)| find(results, "svm", mode, &format!("{scenario}/{state}")));
    let good = match found {
        [Some(absent), Some(loaded), Some(after)] => {
            absent.per_op == loaded.per_op && absent.per_op == after.per_op
        }
        _ => false,
    };
    verdict(
        good,
        format!(
            "{scenario} with no VM: the same counts with uret absent, loaded, and after VMs ran"
        ),
    )
}

/// What needs no VM, and how many NOPs it may take more than in a kernel without the patches: one for
/// each static key that it passes.
///
/// The key is one in the exit to user mode, and in two places of `__switch_to()`. Two tasks that yield
/// to each other take two system calls and two context switches.
const NOPS: [(&str, f64); 2] = [("syscall", 1.0), ("context-switch", 2.0 * (1.0 + 2.0))];

/// With no VM, the patches must cost no more than these NOPs.
fn patches_cost_nops(results: &[Measured], scenario: &str, nops: f64) -> Verdict {
    let what = format!("{scenario} with no VM: at most {nops} NOPs more than without the patches");
    let [unpatched, patched] = ["unpatched", "stock"].map(|mode| {
        let found = find(results, "svm", mode, &format!("{scenario}/absent"));
        found.map(|it| &it.per_op)
    });
    let (Some(unpatched), Some(patched)) = (unpatched, patched) else {
        return verdict(false, format!("{what}: not measured"));
    };
    let more: Vec<String> = patched
        .iter()
        .filter_map(|(class, count)| {
            let before = unpatched.get(class).copied().unwrap_or(0.0);
            let allowed = if class == "instructions" { nops } else { 0.0 };
            (*count > before + allowed).then(|| format!("{class} {before} {count}"))
        })
        .collect();
    match more.is_empty() {
        true => verdict(true, what),
        false => verdict(false, format!("{what}, but {}", more.join(", "))),
    }
}

/// The paths of the registry that must take no more instructions than stock's.
const PATHS: &[&str] = &[
    "set-equal:7",
    "set-new:7",
    "restore:1/7",
    "restore:4/7",
    "restore:7/7",
];

/// What of a path is the registry's, rather than a return to user mode that has nothing to restore.
pub fn own_cost(results: &[Measured], platform: &str, mode: &str, path: &str) -> Option<f64> {
    let count = |path: &str| find(results, platform, mode, path)?.cost();
    let rest = match path.starts_with("restore:") {
        true => count("restore:0/7")?,
        false => 0.0,
    };
    Some(count(path)? - rest)
}

fn cheaper(results: &[Measured], path: &str) -> Verdict {
    let [stock, uret] = ["stock", "uret"].map(|mode| own_cost(results, "svm", mode, path));
    match (stock, uret) {
        (Some(stock), Some(uret)) => verdict(
            uret <= stock,
            format!(
                "{path}: {uret} instructions, stock {stock}; the target of half is {}",
                if uret <= stock / 2.0 {
                    "met"
                } else {
                    "not met"
                }
            ),
        ),
        _ => verdict(false, format!("{path}: not measured")),
    }
}

fn no_more_writes(results: &[Measured]) -> Verdict {
    let more: Vec<String> = results
        .iter()
        .filter(|it| it.mode == "uret")
        .filter_map(|uret| {
            let stock = find(results, &uret.platform, "stock", &uret.scenario)?;
            // Ticks of the timer write MSRs as well, now and then.
            (count_of(uret, "wrmsr") > count_of(stock, "wrmsr") + NOISE)
                .then(|| format!("{} {}", uret.platform, uret.scenario))
        })
        .collect();
    let what = "uret executes no more WRMSR than stock in any scenario";
    match more.is_empty() {
        true => verdict(true, what),
        false => verdict(false, format!("{what}, but in {}", more.join(", "))),
    }
}

/// What no trip to the idle task or to another kernel thread may take. "switch" are the MSRs that a
/// guest and the host share; what else an entry reads, like DEBUGCTL, is not about registers that
/// are switched.
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

/// Ticks of the timer, or another task, now and then do something as well.
pub const NOISE: f64 = 0.1;

/// What a VMLOAD or VMSAVE less may cost of other classes: LIDT, and GSBASE's exchange, as VMRUN and
/// #VMEXIT do not, and instructions to keep account.
///
/// VMLOAD takes as long as a WRMSR, and VMSAVE 100 to 200 cycles: see measuring.rst for the sources.
const PRICE_OF_VMLOAD: &[(&str, f64)] = &[
    ("instructions", 25.0),
    ("lidt", 1.0),
    ("rdgsbase", 1.0),
    ("wrgsbase", 1.0),
];

/// How much more of a class uret may take, because it takes less of VMLOAD and VMSAVE.
fn in_exchange(stock: &Measured, uret: &Measured, class: &str) -> f64 {
    let saved: f64 = ["vmload", "vmsave"]
        .iter()
        .map(|class| count_of(stock, class) - count_of(uret, class))
        .sum();
    let price = PRICE_OF_VMLOAD.iter().find(|it| it.0 == class);

    price.map_or(0.0, |it| it.1 * saved.max(0.0))
}

fn count_of(measured: &Measured, class: &str) -> f64 {
    measured.per_op.get(class).copied().unwrap_or(0.0)
}

/// GSBASE is exchanged for each entry of a guest of SVM: read and written twice.
fn for_entries(uret: &Measured, class: &str) -> f64 {
    match class {
        "rdgsbase" | "wrgsbase" => 2.0 * count_of(uret, "vmrun"),
        _ => 0.0,
    }
}

/// What VMLOAD loads stays in the CPU, and an exit to user space takes no more of it than stock.
fn vmload_is_deferred(results: &[Measured]) -> Verdict {
    let what =
        "svm: no VMLOAD and no VMSAVE for exits in the kernel and kernel threads, except for \
                one VMSAVE when the CPU idles, and no more than stock for an exit to user space";
    let none = [
        ("exit-in-kernel", 0.0),
        ("guest-idle-guest", 1.0),
        ("guest-thread-guest", 0.0),
    ]
    .iter()
    .all(|(scenario, saves)| {
        find(results, "svm", "uret", scenario).is_some_and(|it| {
            count_of(it, "vmload") < NOISE && count_of(it, "vmsave") < saves + NOISE
        })
    });
    let [stock, uret] = ["stock", "uret"].map(|mode| find(results, "svm", mode, "exit-to-user"));
    let no_more = stock.zip(uret).is_some_and(|(stock, uret)| {
        ["vmload", "vmsave"]
            .iter()
            .all(|class| count_of(uret, class) <= count_of(stock, class))
    });
    verdict(none && no_more, what)
}

fn transparent(results: &[Measured], platform: &str, scenario: &str) -> Verdict {
    let what = format!("{platform}: {scenario}: uret touches no register that is switched");
    let Some(uret) = find(results, platform, "uret", scenario) else {
        return verdict(false, format!("{what}: not measured"));
    };
    // Without the traced counts there is nothing to judge by.
    let traced = uret.per_op.contains_key("switch rdmsr");
    let touched: Vec<String> = SWITCHING
        .iter()
        .filter_map(|class| Some((class, uret.per_op.get(*class)?)))
        .filter(|it| *it.1 > NOISE + for_entries(uret, it.0))
        .map(|(class, count)| format!("{count:.2} {class}"))
        .collect();
    match (traced, touched.is_empty()) {
        (false, _) => verdict(false, format!("{what}: nothing was traced")),
        (true, true) => verdict(true, what),
        (true, false) => verdict(false, format!("{what}, but {}", touched.join(", "))),
    }
}

/// Checks that uret is at or below the baseline in every class. The baseline is the unpatched kernel
/// if measured, stock otherwise. Instructions that replace VMLOAD and VMSAVE are allowed.
fn no_worse(results: &[Measured], platform: &str, scenario: &str) -> Verdict {
    let find = |mode| find(results, platform, mode, scenario);
    let (name, stock) = match find("unpatched") {
        None => ("stock", find("stock")),
        unpatched => ("an unpatched kernel", unpatched),
    };
    let what = format!("{platform}: {scenario}: uret is at or below {name} in every class");
    let (Some(stock), Some(uret)) = (stock, find("uret")) else {
        return verdict(false, format!("{what}: not measured"));
    };
    let worse: Vec<String> = uret
        .per_op
        .iter()
        .filter(|it| !it.0.starts_with("uret "))
        .filter_map(|(class, count)| {
            let stock_count = count_of(stock, class);
            // Time is not exact: how far apart the quartiles are says how much.
            let noise = match class.as_str() {
                "instructions" | "ticks" => {
                    stock.spread.unwrap_or(0.0).max(uret.spread.unwrap_or(0.0))
                }
                _ => NOISE,
            };
            (*count > stock_count + noise + in_exchange(stock, uret, class))
                .then(|| format!("{class} {stock_count} {count}"))
        })
        .collect();
    match worse.is_empty() {
        true => verdict(true, what),
        false => verdict(false, format!("{what}, but {}", worse.join(", "))),
    }
}

/// What a trip away from the guest takes.
fn trips(results: &[Measured], platform: &str) -> Vec<Verdict> {
    let mut all = Vec::new();
    for scenario in ["guest-idle-guest", "guest-thread-guest"] {
        all.push(transparent(results, platform, scenario));
    }
    for scenario in [
        "exit-to-user",
        "guest-idle-guest",
        "guest-thread-guest",
        "guest-user-guest",
        "two-guests-equal",
        "two-guests-different",
    ] {
        all.push(no_worse(results, platform, scenario));
    }
    all
}

/// That what the plugin counts is right.
fn counts_are_right(results: &[Measured]) -> Vec<Verdict> {
    vec![
        verdict(
            has(results, "uret", "calibrate", CALIBRATION),
            "the plugin counts known instructions as what they are",
        ),
        verdict(
            has(results, "stock", "exit-to-user", PIO),
            "stock, exit to user space: 1 VMRUN, 2 VMLOAD, 2 VMSAVE, 2 SWAPGS",
        ),
    ]
}

/// What must hold.
fn verdicts(results: &[Measured], identical: bool) -> Vec<Verdict> {
    let mut all = vec![verdict(identical, "two runs in QEMU give identical counts")];
    all.extend(counts_are_right(results));
    all.extend([
        free_without_vm(results, "syscall"),
        free_without_vm(results, "context-switch"),
        no_more_writes(results),
        vmload_is_deferred(results),
    ]);
    if results.iter().any(|it| it.mode == "unpatched") {
        all.extend(NOPS.map(|(scenario, nops)| patches_cost_nops(results, scenario, nops)));
    }
    all.extend(PATHS.iter().map(|path| cheaper(results, path)));
    all.extend(trips(results, "svm"));
    for scenario in ["migrate-after-idle", "wake-on-other-cpu"] {
        all.push(no_worse(results, "svm", scenario));
    }
    if results.iter().any(|it| it.platform == "vmx") {
        all.extend(trips(results, "vmx"));
    }
    all
}

/// Tests the plugin in a machine.
pub fn check_plugin(images: &Images, plugin: &Path, work: &Path) -> Vec<Outcome> {
    match count(
        images,
        plugin,
        ("count-check", 1),
        &work.join("count-check"),
    ) {
        Ok((results, _)) => counts_are_right(&results)
            .into_iter()
            .map(|it| {
                let status = if it.good { Status::Pass } else { Status::Fail };
                Outcome::new(it.what, status, "")
            })
            .collect(),
        Err(err) => vec![Outcome::new("machine", Status::Fail, format!("{err:#}"))],
    }
}

/// Measures, prints a table and what must hold, and writes the results and a report.
pub fn bench(bench: &Bench, work: &Path) -> Result<bool> {
    let unpatched = bench.unpatched.as_ref();
    let (qemu, bochs) = thread::scope(|scope| {
        let bochs = scope.spawn(|| {
            let mut results = Vec::new();
            if !bench.svm_only {
                results.extend(time(&bench.images, "bench-time", &work.join("vmx"))?);
                if let Some(images) = unpatched {
                    results.extend(time(images, "bench-time", &work.join("vmx-unpatched"))?);
                }
            }
            anyhow::Ok(results)
        });
        let count = |images, run, name| count(images, &bench.plugin, run, &work.join(name));
        let qemu = || {
            let (mut results, first) = count(&bench.images, ONE_CPU, "run-1")?;
            let (_, second) = count(&bench.images, ONE_CPU, "run-2")?;
            results.extend(count(&bench.images, TWO_CPUS, "migrate")?.0);
            if let Some(images) = unpatched {
                results.extend(count(images, ONE_CPU, "unpatched")?.0);
                results.extend(count(images, TWO_CPUS, "migrate-unpatched")?.0);
            }
            anyhow::Ok((results, first == second))
        };
        (qemu(), bochs.join().expect("it does not panic"))
    });
    let (mut results, identical) = qemu?;
    results.extend(bochs.context("Bochs")?);

    let verdicts = verdicts(&results, identical);
    report::write(&results, &verdicts, &bench.out)?;
    print!("{}", report::table(&results));
    for it in &verdicts {
        println!("{}: {}", if it.good { "ok" } else { "NOT OK" }, it.what);
    }
    println!("\nThe report is {}.", bench.out.join("report.md").display());
    Ok(verdicts.iter().all(|it| it.good))
}

/// Makes a report of what switch_perf_test.sh has printed on a real machine.
pub fn hardware(file: &Path, out: &Path) -> Result<bool> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines: Vec<&str> = text.lines().collect();
    let platform = match lines.iter().find_map(|it| it.strip_prefix("MACHINE ")) {
        Some(it) if it.starts_with("kvm-amd") => "svm",
        Some(_) => "vmx",
        None => bail!(
            "{}: this is not the output of switch_perf_test.sh",
            file.display()
        ),
    };
    let results = timed(&lines, platform, "hardware")?;
    report::write(&results, &[], out)?;
    print!("{}", report::table(&results));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::PerOp;

    fn measured(mode: &str, scenario: &str, counts: &[(&str, f64)]) -> Measured {
        Measured {
            platform: "svm".into(),
            vehicle: "qemu".into(),
            mode: mode.into(),
            scenario: scenario.into(),
            ops: 1,
            per_op: counts
                .iter()
                .map(|(name, it)| (name.to_string(), *it))
                .collect(),
            guest: PerOp::new(),
            mean: PerOp::new(),
            spread: None,
        }
    }

    #[test]
    fn a_class_that_is_miscounted_fails_the_calibration() {
        let good = [measured("uret", "calibrate", CALIBRATION)];
        assert!(has(&good, "uret", "calibrate", CALIBRATION));
        for i in 0..CALIBRATION.len() {
            let mut counts = CALIBRATION.to_vec();
            counts[i].1 += 1.0;
            let wrong = [measured("uret", "calibrate", &counts)];
            assert!(
                !has(&wrong, "uret", "calibrate", CALIBRATION),
                "{}",
                counts[i].0
            );
            counts.remove(i);
            let missing = [measured("uret", "calibrate", &counts)];
            assert!(!has(&missing, "uret", "calibrate", CALIBRATION));
        }
    }

    #[test]
    fn a_module_that_costs_something_is_noticed() {
        let states = |counts: [f64; 3]| {
            STATES
                .iter()
                .zip(counts)
                .map(|((mode, state), it)| {
                    measured(mode, &format!("syscall/{state}"), &[("instructions", it)])
                })
                .collect::<Vec<_>>()
        };
        assert!(free_without_vm(&states([9.0, 9.0, 9.0]), "syscall").good);
        assert!(!free_without_vm(&states([9.0, 10.0, 9.0]), "syscall").good);
        assert!(!free_without_vm(&states([9.0, 9.0, 10.0]), "syscall").good);
        assert!(!free_without_vm(&states([9.0, 9.0, 9.0])[..2], "syscall").good);
    }

    #[test]
    fn patches_that_cost_more_than_nops_are_noticed() {
        let good = |before: &[(&str, f64)], after: &[(&str, f64)]| {
            let results = [
                measured("unpatched", "syscall/absent", before),
                measured("stock", "syscall/absent", after),
            ];
            patches_cost_nops(&results, "syscall", 1.0).good
        };
        assert!(good(&[("instructions", 9.0)], &[("instructions", 10.0)]));
        assert!(!good(&[("instructions", 9.0)], &[("instructions", 11.0)]));
        assert!(!good(
            &[("instructions", 9.0)],
            &[("instructions", 9.0), ("locked", 1.0)]
        ));
        assert!(!patches_cost_nops(&[], "syscall", 1.0).good);
    }

    #[test]
    fn more_writes_than_stock_are_noticed() {
        let both = |stock: f64, uret: f64| {
            [("stock", stock), ("uret", uret)]
                .map(|(mode, it)| measured(mode, "a", &[("wrmsr", it)]))
        };
        assert!(no_more_writes(&both(2.0, 2.0)).good);
        assert!(!no_more_writes(&both(2.0, 3.0)).good);
        assert!(!no_more_writes(&[measured("stock", "a", &[]), both(0.0, 1.0)[1].clone()]).good);
    }

    #[test]
    fn a_register_that_is_touched_is_noticed() {
        let trip =
            |counts: &[(&str, f64)]| transparent(&[measured("uret", "a", counts)], "svm", "a").good;
        assert!(trip(&[
            ("switch rdmsr", 0.0),
            ("rdmsr", 3.0),
            ("lgdt", 0.01)
        ]));
        assert!(!trip(&[("switch rdmsr", 1.0)]));
        assert!(!trip(&[("switch rdmsr", 0.0), ("swapgs", 2.0)]));
        assert!(!trip(&[("rdmsr", 3.0)]));
        assert!(!transparent(&[], "svm", "a").good);
    }

    #[test]
    fn a_class_that_is_above_stock_is_noticed() {
        let worse = |stock: &[(&str, f64)], uret: &[(&str, f64)]| {
            !no_worse(
                &[measured("stock", "a", stock), measured("uret", "a", uret)],
                "svm",
                "a",
            )
            .good
        };
        assert!(!worse(&[("instructions", 9.0)], &[("instructions", 9.0)]));
        assert!(worse(&[("instructions", 9.0)], &[("instructions", 10.0)]));
        assert!(worse(&[], &[("locked", 1.0)]));
        // The unpatched kernel is the baseline if measured.
        let judged = |uret: f64| {
            let results = [
                measured("unpatched", "a", &[("instructions", 900.0)]),
                measured("stock", "a", &[("instructions", 950.0)]),
                measured("uret", "a", &[("instructions", uret)]),
            ];
            no_worse(&results, "svm", "a").good
        };
        assert!(judged(900.0) && !judged(901.0));
        assert!(!worse(&[], &[("uret set", 1.0)]));
        assert!(!no_worse(&[measured("uret", "a", &[])], "svm", "a").good);
    }

    #[test]
    fn what_a_return_costs_anyway_is_not_the_registrys() {
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
        assert!(cheaper(&results, "restore:7/7").good);
        assert!(cheaper(&results, "restore:7/7").what.ends_with("is met"));
        assert!(!cheaper(&results, "restore:1/7").good);
    }
}
