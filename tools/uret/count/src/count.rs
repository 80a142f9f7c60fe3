// SPDX-License-Identifier: GPL-2.0-only

//! Counts instructions per CPU and per mode, and takes samples at the markers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

use crate::classify::{Class, Kind, Marker, NR_CLASSES};
use crate::record::{Record, Summaries, Summary};

/// The highest number of CPUs.
pub const MAX_CPUS: usize = 64;

const HOST: usize = 0;
const GUEST: usize = 1;

/// The place of an instruction: the virtual address and, as a guest may use the same virtual
/// address, the address in the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub virt: u64,
    pub phys: u64,
}

/// The counters of a CPU. Only the thread of the CPU writes the counters.
struct Cpu {
    counts: [[AtomicU64; NR_CLASSES]; 2],
    /// [`HOST`] or [`GUEST`].
    mode: AtomicUsize,
    /// The place where the host continues after #VMEXIT.
    resume: [AtomicU64; 2],
}

impl Cpu {
    const fn new() -> Self {
        Self {
            counts: [const { [const { AtomicU64::new(0) }; NR_CLASSES] }; 2],
            mode: AtomicUsize::new(HOST),
            resume: [const { AtomicU64::new(0) }; 2],
        }
    }

    fn add(&self, class: Class) {
        let count = &self.counts[self.mode.load(Relaxed)][class as usize];
        count.store(count.load(Relaxed) + 1, Relaxed);
    }
}

type Counts = [[u64; NR_CLASSES]; 2];

/// A scenario in progress.
struct Window {
    begin: Vec<Counts>,
    start: Option<Counts>,
    samples: Vec<Counts>,
}

/// All counters, and the samples.
pub struct Counter {
    cpus: [Cpu; MAX_CPUS],
    window: Mutex<Option<Window>>,
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl Counter {
    pub const fn new() -> Self {
        Self {
            cpus: [const { Cpu::new() }; MAX_CPUS],
            window: Mutex::new(None),
        }
    }

    /// Call at the start of each block of instructions. After #VMEXIT, the first instruction of the
    /// host is the instruction after VMRUN, and starts a block.
    pub fn block(&self, cpu: usize, first: Place) {
        let cpu = &self.cpus[cpu];
        if cpu.mode.load(Relaxed) == GUEST
            && cpu.resume[0].load(Relaxed) == first.virt
            && cpu.resume[1].load(Relaxed) == first.phys
        {
            cpu.mode.store(HOST, Relaxed);
        }
    }

    /// Call before a CPU executes an instruction of `size` bytes that is no marker.
    pub fn execute(&self, cpu: usize, kind: Kind, place: Place, size: u64) {
        let cpu = &self.cpus[cpu];
        cpu.add(Class::Instructions);
        if kind.locked {
            cpu.add(Class::Locked);
        }
        if let Some(class) = kind.class {
            cpu.add(class);
        }
        // VMRUN of a guest exits to the host.
        if kind.class == Some(Class::Vmrun) && cpu.mode.load(Relaxed) == HOST {
            cpu.resume[0].store(place.virt + size, Relaxed);
            cpu.resume[1].store(place.phys + size, Relaxed);
            cpu.mode.store(GUEST, Relaxed);
        }
    }

    /// Call at a marker. Returns the record of the scenario at the end.
    pub fn mark(&self, marker: Marker) -> Option<Record> {
        let mut window = self.window.lock().unwrap();
        match marker {
            Marker::Begin => {
                *window = Some(Window {
                    begin: self.per_cpu(),
                    start: None,
                    samples: Vec::new(),
                });
            }
            Marker::Start => {
                if let Some(window) = &mut *window {
                    window.start = Some(self.sum());
                }
            }
            Marker::Operation => {
                if let Some(window) = &mut *window {
                    let now = self.sum();
                    if let Some(start) = window.start {
                        window.samples.push(difference(&now, &start));
                    }
                    window.start = Some(now);
                }
            }
            Marker::End => return window.take().map(|it| self.record(&it)),
        }
        None
    }

    fn per_cpu(&self) -> Vec<Counts> {
        let load = |cpu: &Cpu| {
            [HOST, GUEST].map(|mode| std::array::from_fn(|i| cpu.counts[mode][i].load(Relaxed)))
        };
        self.cpus.iter().map(load).collect()
    }

    fn sum(&self) -> Counts {
        let mut sum = [[0; NR_CLASSES]; 2];
        for cpu in &self.cpus {
            for mode in [HOST, GUEST] {
                for (sum, count) in sum[mode].iter_mut().zip(&cpu.counts[mode]) {
                    *sum += count.load(Relaxed);
                }
            }
        }
        sum
    }

    fn record(&self, window: &Window) -> Record {
        let summaries = |mode: usize| -> Summaries {
            let summary = |class: &Class| {
                let mut samples: Vec<u64> = window
                    .samples
                    .iter()
                    .map(|it| it[mode][*class as usize])
                    .collect();
                (class.name().to_string(), Summary::of(&mut samples))
            };
            let seen = |it: &(String, Summary)| it.1.max > 0;
            Class::ALL.iter().map(summary).filter(seen).collect()
        };
        let total = |(now, begin): (&Counts, &Counts)| {
            let executed = difference(now, begin);
            [HOST, GUEST].map(|mode| executed[mode][Class::Instructions as usize])
        };
        let mut cpus: Vec<[u64; 2]> = self
            .per_cpu()
            .iter()
            .zip(&window.begin)
            .map(total)
            .collect();
        while cpus.last() == Some(&[0, 0]) {
            cpus.pop();
        }
        Record {
            samples: window.samples.len(),
            host: summaries(HOST),
            guest: summaries(GUEST),
            cpus,
        }
    }
}

fn difference(now: &Counts, then: &Counts) -> Counts {
    std::array::from_fn(|mode| std::array::from_fn(|i| now[mode][i] - then[mode][i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::classify;

    const VMRUN: &[u8] = &[0x0f, 0x01, 0xd8];
    const WRMSR: &[u8] = &[0x0f, 0x30];
    const NOP: &[u8] = &[0x90];

    fn run(counter: &Counter, cpu: usize, virt: u64, code: &[u8]) {
        let place = Place { virt, phys: virt };
        counter.block(cpu, place);
        counter.execute(cpu, classify(code), place, code.len() as u64);
    }

    #[test]
    fn samples_are_what_lies_between_markers() {
        let counter = Counter::new();
        run(&counter, 0, 1, WRMSR);
        counter.mark(Marker::Begin);
        run(&counter, 0, 1, WRMSR);
        counter.mark(Marker::Operation);
        for operation in 1..=3 {
            for _ in 0..operation {
                run(&counter, 0, 1, WRMSR);
                run(&counter, 0, 2, NOP);
            }
            counter.mark(Marker::Operation);
        }
        run(&counter, 0, 1, WRMSR);
        let record = counter.mark(Marker::End).unwrap();
        assert_eq!(record.samples, 3);
        let wrmsr = record.host["wrmsr"];
        assert_eq!((wrmsr.median, wrmsr.min, wrmsr.max), (2, 1, 3));
        assert_eq!(record.host["instructions"].total, 12);
        assert_eq!(record.cpus, [[14, 0]]);
        assert!(!record.host.contains_key("rdmsr"));
        assert!(record.guest.is_empty());
    }

    #[test]
    fn start_throws_away_what_came_before() {
        let counter = Counter::new();
        counter.mark(Marker::Begin);
        for _ in 0..5 {
            run(&counter, 0, 1, WRMSR);
            counter.mark(Marker::Start);
            run(&counter, 0, 2, NOP);
            counter.mark(Marker::Operation);
        }
        let record = counter.mark(Marker::End).unwrap();
        // Only the instructions from start to operation count.
        assert_eq!(record.samples, 5);
        assert_eq!(record.host["instructions"].total, 5);
        assert!(!record.host.contains_key("wrmsr"));
    }

    #[test]
    fn a_guest_is_told_from_its_host() {
        let counter = Counter::new();
        counter.mark(Marker::Begin);
        counter.mark(Marker::Start);
        run(&counter, 0, 0x100, VMRUN);
        run(&counter, 0, 0x900, WRMSR);
        // The guest uses the same virtual address in another page, and executes VMRUN.
        counter.block(
            0,
            Place {
                virt: 0x103,
                phys: 0x777,
            },
        );
        run(&counter, 0, 0x200, VMRUN);
        run(&counter, 0, 0x203, NOP);
        run(&counter, 0, 0x103, WRMSR);
        counter.mark(Marker::Operation);
        let record = counter.mark(Marker::End).unwrap();
        assert_eq!(record.host["vmrun"].total, 1);
        assert_eq!(record.host["wrmsr"].total, 1);
        assert_eq!(record.host["instructions"].total, 2);
        assert_eq!(record.guest["vmrun"].total, 1);
        assert_eq!(record.guest["wrmsr"].total, 1);
        assert_eq!(record.guest["instructions"].total, 3);
    }

    #[test]
    fn cpus_have_modes_of_their_own() {
        let counter = Counter::new();
        counter.mark(Marker::Begin);
        counter.mark(Marker::Start);
        run(&counter, 0, 0x100, VMRUN);
        run(&counter, 1, 0x300, WRMSR);
        run(&counter, 0, 0x900, WRMSR);
        counter.mark(Marker::Operation);
        let record = counter.mark(Marker::End).unwrap();
        assert_eq!(record.host["wrmsr"].total, 1);
        assert_eq!(record.guest["wrmsr"].total, 1);
        assert_eq!(record.cpus, [[1, 1], [1, 0]]);
    }

    #[test]
    fn markers_outside_a_scenario_do_nothing() {
        let counter = Counter::new();
        assert!(counter.mark(Marker::End).is_none());
        assert!(counter.mark(Marker::Operation).is_none());
        counter.mark(Marker::Begin);
        assert_eq!(counter.mark(Marker::End).unwrap().samples, 0);
    }
}
