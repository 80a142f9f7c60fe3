// SPDX-License-Identifier: GPL-2.0-only

//! The monitor of QEMU.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

/// The arguments of QEMU for a monitor at `path`.
pub fn arguments(path: &Path) -> [String; 2] {
    [
        "-qmp".to_string(),
        format!("unix:{},server=on,wait=off", path.display()),
    ]
}

/// A connection to the monitor of QEMU.
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects. Each answer must come within `timeout`.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self> {
        let writer = UnixStream::connect(path).context("the monitor of QEMU")?;
        writer.set_read_timeout(Some(timeout))?;
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
        ensure!(
            self.reader.read_line(&mut line)? > 0,
            "expected an answer of QEMU, got the end"
        );
        serde_json::from_str(&line).with_context(|| line)
    }

    /// Executes a command and returns the result. Skips events.
    pub fn execute(&mut self, command: &str) -> Result<Value> {
        writeln!(self.writer, "{command}")?;
        loop {
            let mut line = self.line()?;
            if let Some(error) = line.get("error") {
                bail!("{command}: {error}");
            }
            if let Some(value) = line.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Executes a command of the human monitor and returns the output.
    pub fn monitor(&mut self, cpu: u64, command: &str) -> Result<String> {
        let command = serde_json::json!({
            "execute": "human-monitor-command",
            "arguments": { "command-line": command, "cpu-index": cpu },
        });
        let output = self.execute(&command.to_string())?;
        Ok(output.as_str().unwrap_or_default().to_string())
    }

    /// Calls `action` while the machine is stopped. VMRUN and #VMEXIT write to the word of QEMU
    /// that has pending interrupts: an NMI that another thread adds at that instant is lost.
    pub fn stopped<R>(&mut self, action: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.execute(r#"{"execute":"stop"}"#)?;
        let result = action(self)?;
        self.execute(r#"{"execute":"cont"}"#)?;
        Ok(result)
    }

    /// Injects an NMI on each CPU.
    pub fn nmi(&mut self) -> Result<()> {
        self.stopped(|qmp| qmp.execute(r#"{"execute":"inject-nmi"}"#))?;
        Ok(())
    }
}
