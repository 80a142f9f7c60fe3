// SPDX-License-Identifier: GPL-2.0

//! x86: MSRs, and KVM's state that is deferred on this architecture.

use kernel::{
    bindings,
    cpu::CpuId,
    lazy_fsgs,
    msr::{
        self,
        Msr, //
    },
    preempt::{
        NotInNmi,
        PreemptDisabled, //
    },
    prelude::*, //
};

use crate::registry::{
    arch::Arch,
    hw::MsrOps, //
};

mod abi;
mod deferral;
pub(crate) mod fsgs;
mod kvm;
pub(crate) mod svm;
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

/// MSRs that `__switch_to()` switches with the task, and GSBASE, which is the kernel's.
const BASES: [u32; 3] = [
    bindings::MSR_FS_BASE,
    bindings::MSR_GS_BASE,
    bindings::MSR_KERNEL_GS_BASE,
];

impl Arch for X86 {
    type Msrs<'a, const TRACED: bool> = CpuMsrs<'a, TRACED>;

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
}
