// SPDX-License-Identifier: GPL-2.0-only

//! A plugin for TCG of QEMU that counts the instructions of each CPU between markers.
//!
//! `qemu-system-x86_64 -plugin liburet_plugin.so,out=FILE` writes a [`uret_count::record::Record`]
//! as a line of JSON for each scenario.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;

use anyhow::{anyhow, bail, Context, Result};
use ctor::ctor;
use qemu_plugin::install::{Args, Info, Value};
use qemu_plugin::plugin::{HasCallbacks, Plugin, Register, PLUGIN};
use qemu_plugin::{Instruction, PluginId, TranslationBlock};
use uret_count::classify::{classify, Marker};
use uret_count::count::{Counter, Place, MAX_CPUS};

static COUNTER: Counter = Counter::new();
static OUT: Mutex<Option<File>> = Mutex::new(None);

struct Count;

impl Register for Count {
    fn register(&mut self, _id: PluginId, args: &Args, info: &Info) -> Result<()> {
        let Some(Value::String(path)) = args.parsed.get("out") else {
            bail!("uret_plugin: give it out=FILE");
        };
        let Some(system) = &info.system else {
            bail!("uret_plugin: this is for system emulation");
        };
        if info.target_name != "x86_64" || system.max_vcpus as usize > MAX_CPUS {
            bail!("uret_plugin: this is for x86-64 with at most {MAX_CPUS} CPUs");
        }
        *OUT.lock().unwrap() = Some(File::create(path).with_context(|| path.clone())?);
        Ok(())
    }
}

/// Writes a line of the output. Exits on failure, as results without a record would be wrong.
fn write(line: &str) {
    let mut out = OUT.lock().unwrap();
    if let Err(err) = writeln!(out.as_mut().expect("opened at the start"), "{line}") {
        eprintln!("uret_plugin: cannot write: {err}");
        std::process::exit(1);
    }
}

fn place(insn: &Instruction<'_>) -> Place {
    Place {
        virt: insn.vaddr(),
        phys: insn.haddr(),
    }
}

impl HasCallbacks for Count {
    fn on_translation_block_translate(
        &mut self,
        _id: PluginId,
        tb: TranslationBlock,
    ) -> Result<()> {
        for (i, insn) in tb.instructions().enumerate() {
            let place = place(&insn);
            if i == 0 {
                insn.register_execute_callback(move |cpu| COUNTER.block(cpu as usize, place));
            }
            let code = insn.data();
            if let Some(marker) = Marker::of(&code) {
                insn.register_execute_callback(move |_| {
                    if let Some(record) = COUNTER.mark(marker) {
                        write(&serde_json::to_string(&record).expect("it has no odd keys"));
                    }
                });
                continue;
            }
            let (kind, size) = (classify(&code), code.len() as u64);
            insn.register_execute_callback(move |cpu| {
                COUNTER.execute(cpu as usize, kind, place, size);
            });
        }
        Ok(())
    }
}

impl Plugin for Count {}

#[ctor]
fn init() {
    PLUGIN
        .set(Mutex::new(Box::new(Count)))
        .map_err(|_| anyhow!("there is a plugin already"))
        .unwrap();
}
