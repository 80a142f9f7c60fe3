// SPDX-License-Identifier: GPL-2.0

//! x86: access to MSRs, and the state of KVM that is deferred.

use kernel::{
    bindings,
    cpu::CpuId,
    debugfs::Dir,
    preempt::{
        NotInNmi,
        PreemptDisabled, //
    },
    prelude::*,
    x86::{
        lazy_fsgs,
        msr::{
            self,
            Msr, //
        }, //
    }, //
};

use crate::registry::{
    arch::Arch,
    hw::MsrOps, //
};

mod abi;
mod deferral;
mod fsgs;
mod kvm;
mod stats;
mod svm;
mod trace;
mod vmload;
mod vmx;

/// The architecture x86.
pub(crate) struct X86;

/// The MSRs of the current CPU.
pub(crate) struct CpuMsrs<'a, const TRACED: bool>(&'a PreemptDisabled);

impl<const TRACED: bool> MsrOps for CpuMsrs<'_, TRACED> {
    #[inline]
    fn read(&self, msr: u32) -> Result<u64> {
        Msr::new(msr).read_safe(self.0)
    }

    #[inline(always)]
    unsafe fn write(&self, msr: u32, value: u64) -> Result {
        let msr = Msr::new(msr);

        // SAFETY: The caller guarantees the value.
        unsafe {
            if TRACED {
                msr.write_safe(self.0, value)
            } else {
                msr.write_safe_untraced(self.0, value)
            }
        }
    }
}

/// The MSRs that `__switch_to()` switches with the task, and GSBASE, which the kernel uses.
const BASES: [u32; 3] = [
    bindings::MSR_FS_BASE,
    bindings::MSR_GS_BASE,
    bindings::MSR_KERNEL_GS_BASE,
];

impl Arch for X86 {
    type Msrs<'a, const TRACED: bool> = CpuMsrs<'a, TRACED>;
    type Stats = stats::Stats;

    #[inline(always)]
    fn writes_are_traced() -> bool {
        msr::writes_are_traced()
    }

    #[inline(always)]
    fn msrs<const TRACED: bool>(token: &PreemptDisabled) -> CpuMsrs<'_, TRACED> {
        CpuMsrs(token)
    }

    fn is_switched_with_task(msr: u32) -> bool {
        BASES.contains(&msr)
    }

    fn is_deferred_on(cpu: CpuId) -> bool {
        lazy_fsgs::deferred_on(cpu)
    }

    fn flush_deferred(not_in_nmi: &NotInNmi) {
        lazy_fsgs::flush(not_in_nmi);
    }

    fn stats(dir: &Dir) -> impl PinInit<stats::Stats, Error> {
        stats::Stats::new(dir)
    }
}
