// SPDX-License-Identifier: GPL-2.0-only

//! Injects NMIs and machine checks into QEMU at random instants.
//!
//! The handler of an NMI in the machine writes the number of the CPU to a debug console. The
//! handler of the next NMI after a machine check also writes an `M`. The next NMI is injected after
//! all CPUs have handled the last NMI, so that no two NMIs merge in the emulator, and each missing
//! NMI is lost.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use crate::qmp::Qmp;

/// The line that the machine prints when NMIs may start.
pub const READY: &str = "URET-STORM ready";

/// The port of the debug console. The run nmi_stress_test.sh passes the port to the module
/// uret_trap_test.
const PORT: &str = "0x402";

/// The number of NMIs between two machine checks.
const MACHINE_CHECK_EVERY: u64 = 10;

/// Per so many NMIs, at least one machine check must hit a CPU that runs with the guest state
/// loaded.
const LOADED_EVERY: u64 = 5000;

/// A machine check that the kernel survives on an AMD CPU: valid, uncorrected, enabled, signaled
/// and deferred, with a valid RIP. In bank 2, as Linux ignores the first banks of some CPUs.
const MACHINE_CHECK: &str = "2 0xb100100000000000 5 0 0";

/// CR3 of the guests of the selftests, see vm.c.
const GUEST_CR3: u64 = 0x1000;

/// The address of the first module, and the host's TR.
const MODULES: u64 = 0xffff_ffff_a000_0000;
const HOST_TR: u64 = 0x40;
const IF: u64 = 1 << 9;

/// How often to try to inject a machine check into an idle CPU, for each machine check of the second half.
const IDLE_TRIES: usize = 100;

/// The longest gap between two NMIs, in microseconds.
const LONGEST_GAP: u64 = 500;

/// The time limit for one NMI, with all debug checks on a busy machine.
const NMI_TIMEOUT: Duration = Duration::from_secs(60);

/// The NMIs and machine checks to inject.
#[derive(Clone)]
pub struct Storm {
    pub nmis: u64,
    /// Whether some machine checks must hit while the guest state is loaded.
    expect_loaded: bool,
    console: PathBuf,
}

impl Storm {
    pub fn new(nmis: u64, expect_loaded: bool, dir: &Path) -> Self {
        Self {
            nmis,
            expect_loaded,
            console: dir.join("console"),
        }
    }

    /// The arguments of QEMU for the injection.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            "-chardev".to_string(),
            format!(
                "socket,id=storm,path={},server=on,wait=off",
                self.console.display()
            ),
            "-device".to_string(),
            format!("isa-debugcon,iobase={PORT},chardev=storm"),
        ]
    }

    /// Injects all NMIs and machine checks once `ready` returns true. `ready` returns `None` if the
    /// machine has ended. Returns a summary.
    pub fn run(
        &self,
        monitor: &Path,
        cpus: u32,
        ready: impl Fn() -> Option<bool>,
    ) -> Result<String> {
        loop {
            match ready() {
                Some(true) => break,
                Some(false) => thread::sleep(Duration::from_millis(100)),
                None => bail!("expected \"{READY}\" in the output, got none"),
            }
        }
        let mut qmp = Qmp::connect(monitor, NMI_TIMEOUT)?;
        let mut console = UnixStream::connect(&self.console).context("the debug console")?;
        let mut gaps = Gaps::new();
        let (mut injected, mut seen, seed) = (Vec::new(), 0, gaps.seed);

        console.set_read_timeout(Some(NMI_TIMEOUT))?;
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
            let error = |problem: &str| format!("NMI {nmi} of seed {seed}: {problem}");
            let mut missing: Vec<u8> = (0..cpus as u8).collect();
            while !missing.is_empty() {
                match next_byte(&mut console).with_context(|| error(&qmp.lost(&mut console)))? {
                    b'M' => seen += 1,
                    cpu => {
                        let known = missing.iter().position(|other| *other == cpu);
                        missing.remove(known.with_context(|| {
                            error(&format!("expected one of the CPUs {missing:?}, got {cpu}"))
                        })?);
                    }
                }
            }
            // The machine check may arrive after the next NMI. The handler of the NMI after that
            // must have reported the machine check.
            let since = nmi % MACHINE_CHECK_EVERY;
            ensure!(
                since < 3 || seen == injected.len(),
                error(&format!(
                    "expected {} machine checks, got {seen}",
                    injected.len()
                ))
            );
            if since == 0 && nmi + 3 < self.nmis {
                let cpu = nmi / MACHINE_CHECK_EVERY % u64::from(cpus);
                // A busy machine is seldom idle: wait for that.
                let wait_for_idle = self.expect_loaded
                    && nmi >= self.nmis / 2
                    && !injected.contains(&Place::IdleLoaded);
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
        let times = |place| injected.iter().filter(|other| **other == place).count();
        let (loaded, idle) = (times(Place::Loaded), times(Place::IdleLoaded));
        let expected = self.nmis / LOADED_EVERY;
        ensure!(
            !self.expect_loaded || (loaded as u64 >= expected && idle > 0),
            "machine checks with guest state loaded: expected at least {expected}, got {loaded}; on an \
             idle CPU: expected at least 1, got {idle}"
        );
        Ok(format!(
            "{} NMIs on each of {cpus} CPUs and {} machine checks, {} with guest state loaded, {idle} \
             of these on an idle CPU; seed {seed}",
            self.nmis,
            injected.len(),
            loaded + idle
        ))
    }
}

/// Reads the next byte of the machine.
fn next_byte(console: &mut UnixStream) -> Result<u8> {
    let mut byte = [0];
    console.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Gaps of random length between NMIs.
struct Gaps {
    seed: u64,
    state: u64,
}

impl Gaps {
    fn new() -> Self {
        let seed = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |time| time.as_nanos() as u64)
            | 1;
        Self { seed, state: seed }
    }

    /// Spins for a random time. With a sleep, the NMIs would be aligned with the clock.
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

/// Finds a register in the output of "info registers".
fn register(registers: &str, name: &str) -> Option<u64> {
    let value = registers.split_once(name)?.1;
    u64::from_str_radix(value.split_whitespace().next()?, 16).ok()
}

/// The place of a CPU in the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In user mode or in the kernel, with the host's state.
    Host,
    /// In the kernel, with the guest state loaded.
    Loaded,
    /// In the kernel, with the guest state loaded, and halted.
    IdleLoaded,
}

impl Place {
    /// Returns the place of a CPU with these registers, or `None` if the CPU may be in a guest, or
    /// on the way into or out of a guest. On that way, interrupts are disabled, or the CPU runs in
    /// KVM.
    fn of(registers: &str) -> Option<Self> {
        let get = |name| register(registers, name);
        let halted = get("HLT=")? == 1;
        let kernel = halted || (get("RFL=")? & IF != 0 && get("RIP=")? < MODULES);

        match get("TR =")? {
            _ if get("CR3=")? == GUEST_CR3 => None,
            _ if get("CPL=")? == 3 => Some(Self::Host),
            _ if !kernel => None,
            HOST_TR => Some(Self::Host),
            _ if halted => Some(Self::IdleLoaded),
            _ => Some(Self::Loaded),
        }
    }
}

/// The injection.
impl Qmp {
    /// Describes a lost NMI: whether another NMI still arrives, and the registers.
    fn lost(&mut self, console: &mut UnixStream) -> String {
        let another = self.nmi().and_then(|()| next_byte(console));
        let registers = self.monitor(0, "info registers -a");

        format!(
            "lost; {}; the CPUs:\n{}",
            match another {
                Ok(_) => "another NMI has arrived".to_string(),
                Err(err) => format!("another NMI has not arrived either, {err:#}"),
            },
            registers.unwrap_or_default()
        )
    }

    /// Injects a machine check, unless a guest may get the machine check: QEMU ignores the
    /// intercept of #MC. With `idle`, only if the CPU is idle with guest state loaded. Returns the
    /// place of the CPU.
    fn machine_check(&mut self, cpu: u64, idle: bool) -> Result<Option<Place>> {
        self.stopped(|qmp| {
            let place = Place::of(&qmp.monitor(cpu, "info registers")?)
                .filter(|place| !idle || *place == Place::IdleLoaded);
            if place.is_some() {
                let output = qmp.monitor(cpu, &format!("mce {cpu} {MACHINE_CHECK}"))?;
                ensure!(output.is_empty(), "mce: expected no output, got {output}");
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
    fn place_is_found_by_registers() {
        let of = |from, to| Place::of(&REGISTERS.replace(from, to));

        assert_eq!(of("", ""), Some(Place::Loaded));
        assert_eq!(of("HLT=0", "HLT=1"), Some(Place::IdleLoaded));
        assert_eq!(of("TR =0050", "TR =0040"), Some(Place::Host));
        assert_eq!(of("CPL=0", "CPL=3"), Some(Place::Host));
        assert_eq!(of("CR3=000000000100", "CR3=000000000000"), None);
        assert_eq!(of("RFL=00000246", "RFL=00000046"), None);
        assert_eq!(of("RIP=ffffffff8", "RIP=ffffffffa"), None);
    }
}
