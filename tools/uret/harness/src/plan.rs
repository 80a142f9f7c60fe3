// SPDX-License-Identifier: GPL-2.0-only

//! What is run on which machine, and how it is reported.

use std::path::{Path, PathBuf};
use std::sync::{mpsc, Mutex};
use std::thread;

use anyhow::Result;

use crate::bench::check_plugin;
use crate::judge::{block, compare, ktap, splat, statuses, Block, Outcome, Verdict};
use crate::machine::{Images, Machine, Output, Vehicle, LAST_VM, USUAL_SHIFT};

/// A boot: what it runs, and its time limit in seconds.
struct Boot {
    vehicle: Vehicle,
    run: &'static str,
    limit: u64,
    images: Images,
    /// The number of CPUs and the kernel's options, where they are not the usual ones.
    special: Option<(u32, &'static str)>,
    /// How many NMIs to inject.
    nmis: u64,
    /// Whether everything takes many times as long as usual.
    slow: bool,
}

impl Boot {
    fn machine(&self, work: &Path) -> Machine {
        let mut machine = Machine::new(self.vehicle, self.run, self.limit, work);
        if let Some((cpus, options)) = self.special {
            machine = machine.with(cpus, options);
        }
        if self.slow {
            // With slow instructions, a CPU would handle ticks and nothing else.
            machine.shift = USUAL_SHIFT;
        }
        match self.nmis {
            0 => machine,
            nmis => machine.storming(nmis),
        }
    }

    fn cpus(&self) -> u32 {
        self.special.map_or(self.vehicle.usual_cpus(), |it| it.0)
    }

    /// Tells its results from others'.
    fn name(&self) -> String {
        let platform = self.vehicle.platform();
        match self.special {
            Some((cpus, options)) => format!("{platform} ({} CPUs {options})", cpus)
                .replace("1 CPUs", "1 CPU")
                .replace(" )", ")"),
            None => platform.to_string(),
        }
    }
}

/// The blocks of output that hold KTAP, by what produces them.
const KTAP: [(&str, &str); 21] = [
    ("kunit", "kunit"),
    ("notifier", "notifier_test"),
    ("tsc_aux", "tsc_aux_test"),
    ("values-uret", "values_test-uret"),
    ("values-stock", "values_test-stock"),
    ("fsgs-uret", "fsgs_test-uret"),
    ("vmload-uret", "vmload_test-uret"),
    ("vmload-stock", "vmload_test-stock"),
    ("migrate", "migrate.sh"),
    ("idle-migration-uret", "idle_migration_test-uret"),
    ("idle-migration-stock", "idle_migration_test-stock"),
    ("ldt-uret", "ldt_test-uret"),
    ("ldt-stock", "ldt_test-stock"),
    ("ldt-eager", "ldt_test-eager"),
    ("last-vm", "last_vm.sh"),
    ("traps-uret", "trap_test-uret"),
    ("traps-stock", "trap_test-stock"),
    ("storm-uret", "storm.sh-uret"),
    ("storm-stock", "storm.sh-stock"),
    ("modules", "modules.sh"),
    ("transitions", "transitions.sh"),
];

const TESTS: &str = "kunit,notifier,tsc_aux,values-uret,values-stock,modules,transitions,demo";
const VMLOAD_TESTS: &str = "vmload-uret,vmload-stock,migrate";
/// These take two CPUs.
const TWO_CPU_TESTS: &str = "idle-migration-stock,idle-migration-uret,ldt-stock,ldt-uret,ldt-eager";
/// These are about SVM, and would take Bochs long.
const TRAPS: &str = "traps-uret,traps-stock";

/// How many NMIs each CPU gets in a storm.
const NMIS: u64 = 2000;

/// KVM's selftests for each vehicle, as an initramfs.
pub type KvmTests = [(Vehicle, Option<PathBuf>); 2];

fn boots(images: &Images, check: &Check) -> Vec<Boot> {
    let boot = |vehicle, run, limit: u64, special| Boot {
        vehicle,
        run,
        // Twice the time of a slow machine.
        limit: 2 * limit * check.slow,
        images: images.clone(),
        special,
        nmis: 0,
        slow: check.slow != 1,
    };
    let vehicles: &[_] = match check.svm_only {
        true => &[(Vehicle::Qemu, 1)],
        false => &[(Vehicle::Qemu, 1), (Vehicle::Bochs, 3)],
    };
    let mut boots = Vec::new();
    for &(vehicle, times) in vehicles {
        // Where everything is slow, Bochs does only what nothing else can.
        if check.slow == 1 || vehicle == Vehicle::Qemu {
            boots.push(boot(vehicle, TESTS, 300 * times, None));
            boots.push(boot(vehicle, VMLOAD_TESTS, 300 * times, None));
            boots.push(boot(vehicle, "reboot", 70 * times, Some((2, ""))));
            boots.push(boot(
                vehicle,
                "x86-stock,x86-uret",
                900 * times,
                Some((2, "")),
            ));
        }
        boots.push(boot(
            vehicle,
            "fsgs-uret,transitions",
            400 * times,
            Some((2, "")),
        ));
        boots.push(boot(
            vehicle,
            "fsgs-uret",
            200 * times,
            Some((1, "nofsgsbase")),
        ));
        boots.push(boot(vehicle, TWO_CPU_TESTS, 400 * times, Some((2, ""))));
        boots.push(boot(vehicle, LAST_VM, 300 * times, Some((2, ""))));
        if let Some(kernel) = &check.builtin {
            let mut boot = boot(vehicle, "builtin", 60 * times, None);
            boot.images.kernel = kernel.clone();
            boots.push(boot);
        }
    }
    boots.push(boot(Vehicle::Qemu, TRAPS, 300, None));
    for (run, cpus) in [("storm-uret", 1), ("storm-uret", 2), ("storm-stock", 2)] {
        boots.push(Boot {
            nmis: NMIS,
            ..boot(Vehicle::Qemu, run, 300, Some((cpus, "")))
        });
    }
    for (vehicle, initrd) in &check.kvm {
        if let Some(initrd) = initrd {
            let mut boot = boot(*vehicle, "kvm-stock,kvm-uret", 1800, None);
            boot.images.initrd = initrd.clone();
            boots.push(boot);
        }
    }
    boots
}

/// Whether something ended well.
fn ending(block: &Block<'_>) -> Outcome {
    match block.status {
        Some(0) => Outcome::new("it ends well", Verdict::Pass, ""),
        _ => {
            let keep = block.lines.len().saturating_sub(6);
            Outcome::new(
                "it ends well",
                Verdict::Fail,
                block.lines[keep..].join("\n"),
            )
        }
    }
}

/// Why a test may be skipped here.
const SKIPPED_FOR: [&str; 3] = ["uret=0", "not on VMX", "lets any MSR be read and written"];
/// A further reason on a machine with one CPU.
const ONE_CPU: &str = "only one CPU";

/// A test of ours that is skipped for any other reason is not what it was.
fn expected(mut outcome: Outcome, cpus: u32) -> Outcome {
    let said = format!("{} {}", outcome.name, outcome.note);
    let known =
        SKIPPED_FOR.iter().any(|it| said.contains(it)) || (cpus == 1 && said.contains(ONE_CPU));

    if outcome.verdict == Verdict::Skip && !known {
        outcome.verdict = Verdict::Fail;
    }
    outcome
}

/// The results of a boot.
fn judge(boot: &Boot, output: &Output) -> Vec<Outcome> {
    let mut all = Vec::new();
    let mut add = |group: &str, outcomes: Vec<Outcome>| {
        for mut outcome in outcomes {
            outcome.name = format!("{}: {group}: {}", boot.name(), outcome.name);
            all.push(outcome);
        }
    };

    for run in boot.run.split(',') {
        let name = KTAP.iter().find(|it| it.0 == run).map_or(run, |it| it.1);
        let Some(found) = block(&output.text, name) else {
            add(
                run,
                vec![Outcome::new("output", Verdict::Fail, "there is none")],
            );
            continue;
        };
        match run {
            "kvm-stock" | "x86-stock" => add(run, vec![ending(&found)]),
            "kvm-uret" | "x86-uret" => {
                let group = &run[..3];
                let stock = block(&output.text, &format!("{group}-stock"));
                let stock = stock.map(|it| statuses(&it)).unwrap_or_default();
                add(group, compare(&stock, &statuses(&found)));
                add(run, vec![ending(&found)]);
            }
            "demo" | "builtin" | "reboot" => add(run, vec![ending(&found)]),
            _ => {
                let outcomes = ktap(&found).into_iter();

                add(run, outcomes.map(|it| expected(it, boot.cpus())).collect());
            }
        }
    }
    if let Some(storm) = &output.storm {
        let (verdict, note) = match storm {
            Ok(_) => (Verdict::Pass, ""),
            Err(err) => (Verdict::Fail, err.as_str()),
        };
        add(boot.run, vec![Outcome::new("none is lost", verdict, note)]);
    }
    if let Some(problem) = &output.problem {
        add(
            boot.run,
            vec![Outcome::new("machine", Verdict::Fail, problem)],
        );
    }
    add(boot.run, splat(&output.text).into_iter().collect());
    all
}

/// Runs the boots, the longest first, and hands over each result as it comes. An emulator keeps one CPU busy.
fn run_all(mut boots: Vec<Boot>, work: &Path, mut each: impl FnMut(&Boot, Result<Output>)) {
    boots.sort_by_key(|it| it.limit);
    let boots = Mutex::new(boots);
    // The lock is free again before a boot starts.
    let next = || boots.lock().expect("no boot panics").pop();
    let at_once = thread::available_parallelism().map_or(2, |it| it.get().clamp(2, 4));
    let (sender, receiver) = mpsc::channel();

    thread::scope(|scope| {
        for _ in 0..at_once {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(boot) = next() {
                    eprintln!("# {}: {} ...", boot.name(), boot.run);
                    let output = boot.machine(work).run(&boot.images);
                    let _ = sender.send((boot, output));
                }
            });
        }
        drop(sender);
        for (boot, output) in receiver {
            each(&boot, output);
        }
    });
}

/// Prints results as TAP, and counts them.
#[derive(Default)]
struct Tap {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tap {
    fn all(&self) -> usize {
        self.passed + self.failed + self.skipped
    }

    fn add(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            let (word, directive, count) = match outcome.verdict {
                Verdict::Pass => ("ok", "", &mut self.passed),
                Verdict::Fail => ("not ok", "", &mut self.failed),
                Verdict::Skip => ("ok", " # SKIP", &mut self.skipped),
            };
            *count += 1;
            println!("{word} {} {}{directive}", self.all(), outcome.name);
            for line in outcome.note.lines() {
                println!("#   {}", line.trim_start_matches("# "));
            }
        }
    }
}

/// What to test besides the usual.
pub struct Check {
    /// A kernel with KVM built in.
    pub builtin: Option<PathBuf>,
    pub kvm: KvmTests,
    /// The plugin for QEMU that counts.
    pub plugin: Option<PathBuf>,
    pub svm_only: bool,
    pub slow: u64,
}

/// Runs the tests. Prints TAP and a last line `N passed, N failed, N skipped`.
pub fn check(images: &Images, check: Check, work: &Path) -> Result<bool> {
    let mut tap = Tap::default();

    println!("TAP version 13");
    if let Some(plugin) = &check.plugin {
        tap.add(check_plugin(images, plugin, work));
    }
    let boots = boots(images, &check);
    run_all(boots, work, |boot, output| {
        tap.add(match output {
            Ok(output) => {
                eprintln!("# {}: {}: {} s", boot.name(), boot.run, output.seconds);
                judge(boot, &output)
            }
            Err(err) => vec![Outcome::new(boot.run, Verdict::Fail, format!("{err:#}"))],
        });
    });
    println!("1..{}", tap.all());
    let Tap {
        passed,
        failed,
        skipped,
    } = tap;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0 && passed > 0)
}

/// Shows the demonstration on both machines.
pub fn demo(images: &Images, work: &Path) -> Result<bool> {
    let boots = [(Vehicle::Qemu, 60), (Vehicle::Bochs, 300)]
        .map(|(vehicle, limit)| Boot {
            vehicle,
            run: "demo",
            limit,
            images: images.clone(),
            special: None,
            nmis: 0,
            slow: false,
        })
        .into();
    let mut good = true;

    run_all(boots, work, |boot, output| {
        let title = match boot.vehicle {
            Vehicle::Qemu => "SVM: KVM on an emulated AMD CPU (QEMU)",
            Vehicle::Bochs => "VMX: KVM on an emulated Intel CPU (Bochs)",
        };
        println!("\n{title}\n");
        match output {
            Ok(output) => {
                let found = block(&output.text, "demo");
                for line in found.iter().flat_map(|it| &it.lines) {
                    println!("{line}");
                }
                if let Some(problem) = &output.problem {
                    println!("{problem}");
                }
                good &= output.problem.is_none() && found.is_some_and(|it| it.status == Some(0));
                if let Some(splat) = splat(&output.text) {
                    println!("{}", splat.note);
                    good = false;
                }
            }
            Err(err) => {
                println!("{err:#}");
                good = false;
            }
        }
    });
    if !good {
        println!("\nThe demonstration failed.");
    }
    Ok(good)
}
