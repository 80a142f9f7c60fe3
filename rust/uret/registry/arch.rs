// SPDX-License-Identifier: GPL-2.0

//! The interface of the registry to an architecture.

use kernel::{
    cpu::CpuId,
    debugfs::Dir,
    preempt::{
        NotInNmi,
        PreemptDisabled, //
    },
    prelude::*, //
};

use super::hw::MsrOps;

/// An architecture: its MSRs, and the other state that is deferred along with them.
pub(crate) trait Arch {
    /// The MSRs of the current CPU. With `TRACED` false, accesses have no tracepoints, so that the
    /// compiler need not reserve registers for a call.
    type Msrs<'a, const TRACED: bool>: MsrOps;

    /// The files of the architecture in debugfs.
    type Stats;

    /// Whether writes of MSRs are traced by the architecture. May change at any time.
    fn writes_are_traced() -> bool;

    /// Returns access to the MSRs of the current CPU.
    fn msrs<const TRACED: bool>(token: &PreemptDisabled) -> Self::Msrs<'_, TRACED>;

    /// Whether the MSR is switched with each task, so that the registry must not have it.
    fn is_switched_with_task(msr: u32) -> bool;

    /// Whether state of a vCPU is deferred on the CPU. The slots of the vCPU must stay set then.
    fn is_deferred_on(cpu: CpuId) -> bool;

    /// Restores all deferred state of the current CPU, before slots are restored.
    fn flush_deferred(not_in_nmi: &NotInNmi);

    /// Creates the files of the architecture in the directory `dir` of debugfs.
    fn stats(dir: &Dir) -> impl PinInit<Self::Stats, Error>;
}
