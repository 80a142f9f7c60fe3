// SPDX-License-Identifier: GPL-2.0-only

//! NMIs and machine checks, injected into QEMU at random instants.
//!
//! The machine tells of each NMI that it has handled by a byte for a debug console, the number of the
//! CPU; and in the next NMI, by an `M`, of each machine check. The next one comes after that, so that
//! none merges with another in the emulator, and one that does not come is lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

/// What the machine says when it is ready for them.
pub const READY: &str = "URET-STORM ready";

/// The port of the debug console. The run nmi_stress_test.sh passes the port to the module uret_trap_test.
const PORT: &str = "0x402";

/// A machine check comes after so many NMIs.
const MACHINE_CHECK_EVERY: u64 = 10;

/// For so many NMIs, at least one machine check must hit a CPU that has a guest's state, and runs.
const WINDOW_EVERY: u64 = 5000;

/// One that a kernel survives on an AMD CPU: valid, uncorrected, enabled, signaled, and deferred; RIP
/// is valid. In bank 2, as Linux leaves the first ones alone on some.
const MACHINE_CHECK: &str = "2 0xb100100000000000 5 0 0";

/// What the guests of the selftests have in CR3, see vm.c.
const GUEST_CR3: u64 = 0x1000;

/// Where modules are, KVM among them, and what TR is when it is the host's.
const MODULES: u64 = 0xffff_ffff_a000_0000;
const HOST_TR: u64 = 0x40;
const IF: u64 = 1 << 9;

/// How often to try to inject a machine check into an idle CPU, for each machine check of the second half.
const IDLE_TRIES: usize = 100;

/// The longest gap between two, in microseconds.
const LONGEST_GAP: u64 = 500;

/// How long one may take, under all checks and with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to inject.
#[derive(Clone)]
pub struct Storm {
    pub nmis: u64,
    /// Whether there must be machine checks while a guest's state is in the CPU.
    window: bool,
    qmp: PathBuf,
    console: PathBuf,
}

impl Storm {
    pub fn new(nmis: u64, window: bool, dir: &Path) -> Self {
        Self {
            nmis,
            window,
            qmp: dir.join("qmp"),
            console: dir.join("console"),
        }
    }

    /// What QEMU needs for it.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            "-qmp".to_string(),
            format!("unix:{},server=on,wait=off", self.qmp.display()),
            "-chardev".to_string(),
            format!(
                "socket,id=storm,path={},server=on,wait=off",
                self.console.display()
            ),
            "-device".to_string(),
            format!("isa-debugcon,iobase={PORT},chardev=storm"),
        ]
    }

    /// Injects them, once the machine is `ready`, which is false as long as it may become so. Returns
    /// what was done.
    pub fn run(&self, cpus: u32, ready: impl Fn() -> Option<bool>) -> Result<String> {
        loop {
            match ready() {
                Some(true) => break,
                Some(false) => thread::sleep(Duration::from_millis(100)),
                None => bail!("the machine never got ready for NMIs"),
            }
        }
        let mut qmp = Qmp::connect(&self.qmp)?;
        let mut console = UnixStream::connect(&self.console).context("the debug console")?;
        let mut gaps = Gaps::new();
        let (mut injected, mut seen, seed) = (Vec::new(), 0, gaps.seed);

        console.set_read_timeout(Some(PATIENCE))?;
        let start = Instant::now();
        for nmi in 0..self.nmis {
            if nmi % 5000 == 0 && nmi != 0 {
                eprintln!(
                    "# {nmi} of {} NMIs, {} s",
                    self.nmis,
                    start.elapsed().as_secs()
                );
            }
            gaps.wait();
            qmp.nmi()?;
            let lost = |what: &str| format!("NMI {nmi} of seed {seed} {what}");
            let mut missing: Vec<u8> = (0..cpus as u8).collect();
            while !missing.is_empty() {
                match told(&mut console).with_context(|| lost(&qmp.lost(&mut console)))? {
                    b'M' => seen += 1,
                    cpu => {
                        let known = missing.iter().position(|it| *it == cpu);
                        missing.remove(
                            known.with_context(|| lost(&format!("came twice, or as {cpu}")))?,
                        );
                    }
                }
            }
            // It may come after the NMI that it came before, but no later.
            let since = nmi % MACHINE_CHECK_EVERY;
            ensure!(
                since < 3 || seen == injected.len(),
                lost(&format!(
                    "found {seen} machine checks of {}",
                    injected.len()
                ))
            );
            if since == 0 && nmi + 3 < self.nmis {
                let cpu = nmi / MACHINE_CHECK_EVERY % u64::from(cpus);
                // A busy machine is seldom idle: wait for that.
                let wait_for_idle =
                    self.window && nmi >= self.nmis / 2 && !injected.contains(&Place::IdleWindow);
                for _ in 0..if wait_for_idle { IDLE_TRIES } else { 1 } {
                    gaps.wait();
                    let place = qmp.machine_check(cpu, wait_for_idle)?;
                    injected.extend(place);
                    if place.is_some() {
                        break;
                    }
                }
            }
        }
        let times = |place| injected.iter().filter(|it| **it == place).count();
        let (window, idle) = (times(Place::Window), times(Place::IdleWindow));
        ensure!(
            !self.window || (window as u64 >= self.nmis / WINDOW_EVERY && idle > 0),
            "only {window} machine checks while a guest's state was in the CPU, {idle} while idle"
        );
        Ok(format!(
            "{} NMIs on each of {cpus} CPUs and {} machine checks, {} of them while a guest's state \
             was in the CPU, which was idle in {idle}; seed {seed}",
            self.nmis,
            injected.len(),
            window + idle
        ))
    }
}

/// What the machine tells of next.
fn told(console: &mut UnixStream) -> Result<u8> {
    let mut byte = [0];
    console.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Gaps of random length.
struct Gaps {
    seed: u64,
    state: u64,
}

impl Gaps {
    fn new() -> Self {
        let seed = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |it| it.as_nanos() as u64)
            | 1;
        Self { seed, state: seed }
    }

    /// Sleeping would let them come with the clock.
    fn wait(&mut self) {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let (gap, start) = (
            Duration::from_micros(self.state % LONGEST_GAP),
            Instant::now(),
        );
        while start.elapsed() < gap {
            std::hint::spin_loop();
        }
    }
}

/// A register, out of what "info registers" prints.
fn register(registers: &str, name: &str) -> Option<u64> {
    let value = registers.split_once(name)?.1;
    u64::from_str_radix(value.split_whitespace().next()?, 16).ok()
}

/// Where a CPU is, in the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In user mode or in the kernel, with its own state.
    Own,
    /// In the kernel, with a guest's.
    Window,
    /// Likewise, and halted.
    IdleWindow,
}

impl Place {
    /// Returns where a CPU with these registers is, or nothing if it may be in a guest, or on the way
    /// there. Interrupts are enabled on that way, too, but only in KVM.
    fn of(registers: &str) -> Option<Self> {
        let get = |name| register(registers, name);
        let halted = get("HLT=")? == 1;
        let kernel = halted || (get("RFL=")? & IF != 0 && get("RIP=")? < MODULES);

        match get("TR =")? {
            _ if get("CR3=")? == GUEST_CR3 => None,
            _ if get("CPL=")? == 3 => Some(Self::Own),
            _ if !kernel => None,
            HOST_TR => Some(Self::Own),
            _ if halted => Some(Self::IdleWindow),
            _ => Some(Self::Window),
        }
    }
}

/// QEMU's monitor.
struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    fn connect(path: &Path) -> Result<Self> {
        let writer = UnixStream::connect(path).context("QEMU's monitor")?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
        };
        qmp.line()?;
        qmp.execute(r#"{"execute":"qmp_capabilities"}"#)?;
        Ok(qmp)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.reader.read_line(&mut line)? > 0, "QEMU has ended");
        serde_json::from_str(&line).with_context(|| line)
    }

    /// Returns what it returns, past events.
    fn execute(&mut self, command: &str) -> Result<Value> {
        writeln!(self.writer, "{command}")?;
        loop {
            let mut line = self.line()?;
            if let Some(error) = line.get("error") {
                bail!("{command}: {error}");
            }
            if let Some(it) = line.get_mut("return") {
                return Ok(it.take());
            }
        }
    }

    /// A command for people. Returns what it prints.
    fn monitor(&mut self, cpu: u64, command: &str) -> Result<String> {
        let command = serde_json::json!({
            "execute": "human-monitor-command",
            "arguments": { "command-line": command, "cpu-index": cpu },
        });
        let said = self.execute(&command.to_string())?;
        Ok(said.as_str().unwrap_or_default().to_string())
    }

    /// Says what is known of one that has not come: whether NMIs come at all still.
    fn lost(&mut self, console: &mut UnixStream) -> String {
        let another = self.nmi().and_then(|()| told(console));
        let registers = self.monitor(0, "info registers -a");

        format!(
            "was lost; {}; the CPUs:\n{}",
            match another {
                Ok(_) => "another one has come".to_string(),
                Err(err) => format!("another one has not come either, {err:#}"),
            },
            registers.unwrap_or_default()
        )
    }

    /// Does it while the machine stands still, wherever it was. VMRUN and #VMEXIT write to the word
    /// that has what is pending, and an NMI that another thread adds just then may be gone.
    fn stopped<R>(&mut self, what: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.execute(r#"{"execute":"stop"}"#)?;
        let result = what(self)?;
        self.execute(r#"{"execute":"cont"}"#)?;
        Ok(result)
    }

    /// Injects an NMI on each CPU.
    fn nmi(&mut self) -> Result<()> {
        self.stopped(|qmp| qmp.execute(r#"{"execute":"inject-nmi"}"#))?;
        Ok(())
    }

    /// Injects a machine check, unless a guest may get the machine check: QEMU ignores the
    /// intercept of #MC. With `idle`, only if the CPU is idle with guest state loaded. Returns the
    /// place of the CPU.
    fn machine_check(&mut self, cpu: u64, idle: bool) -> Result<Option<Place>> {
        self.stopped(|qmp| {
            let place = Place::of(&qmp.monitor(cpu, "info registers")?)
                .filter(|place| !idle || *place == Place::IdleWindow);
            if place.is_some() {
                let said = qmp.monitor(cpu, &format!("mce {cpu} {MACHINE_CHECK}"))?;
                ensure!(said.is_empty(), "mce: {said}");
            }
            Ok(place)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERS: &str =
        "RIP=ffffffff8157b03f RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n\
         TR =0050 0000000000000000 0000006f 00008300 DPL=0\r\nCR0=80050033 CR2=0 CR3=0000000001001000";

    #[test]
    fn registers_are_found() {
        assert_eq!(register(REGISTERS, "RIP="), Some(0xffff_ffff_8157_b03f));
        assert_eq!(register(REGISTERS, "TR ="), Some(0x50));
        assert_eq!(register(REGISTERS, "CR8="), None);
    }

    #[test]
    fn places_are_told_apart() {
        let of = |from, to| Place::of(&REGISTERS.replace(from, to));

        assert_eq!(of("", ""), Some(Place::Window));
        assert_eq!(of("HLT=0", "HLT=1"), Some(Place::IdleWindow));
        assert_eq!(of("TR =0050", "TR =0040"), Some(Place::Own));
        assert_eq!(of("CPL=0", "CPL=3"), Some(Place::Own));
        assert_eq!(of("CR3=000000000100", "CR3=000000000000"), None);
        assert_eq!(of("RFL=00000246", "RFL=00000046"), None);
        assert_eq!(of("RIP=ffffffff8", "RIP=ffffffffa"), None);
    }
}
