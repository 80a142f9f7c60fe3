// SPDX-License-Identifier: GPL-2.0-only

//! The lowest possible counts, to compare the results with.

/// The lowest count of a class that a correct kernel can have, for one operation of a scenario.
pub struct Limit {
    /// `svm`, `vmx`, or empty for both.
    vendor: &'static str,
    scenarios: &'static [&'static str],
    pub class: &'static str,
    pub count: f64,
    pub why: &'static str,
}

const IN_KERNEL: &[&str] = &[
    "exit-in-kernel",
    "guest-idle-guest",
    "guest-thread-guest",
    "two-guests-equal",
];
/// All switches.
pub const SWITCHES: &[&str] = &[
    "exit-to-user",
    "exit-in-kernel",
    "guest-idle-guest",
    "guest-thread-guest",
    "guest-user-guest",
    "two-guests-equal",
    "two-guests-different",
    "nested-entry",
];

const LIMITS: &[Limit] = &[
    Limit {
        vendor: "svm",
        scenarios: &["exit-to-user", "exit-in-kernel"],
        class: "vmrun",
        count: 1.0,
        why: "one exit, one entry",
    },
    Limit {
        vendor: "svm",
        scenarios: &["exit-to-user", "guest-user-guest"],
        class: "vmsave",
        count: 1.0,
        why: "user space needs the host's FS, GS, TR and SYSCALL MSRs: save the guest's state",
    },
    Limit {
        vendor: "svm",
        scenarios: &["exit-to-user", "guest-user-guest"],
        class: "vmload",
        count: 2.0,
        why: "load the host's state, and the guest's state again",
    },
    Limit {
        vendor: "svm",
        scenarios: &["two-guests-equal", "two-guests-different"],
        class: "vmsave",
        count: 1.0,
        why: "the state of the other guest replaces the state of this guest",
    },
    Limit {
        vendor: "svm",
        scenarios: &["two-guests-equal", "two-guests-different"],
        class: "vmload",
        count: 1.0,
        why: "the state of the other guest replaces the state of this guest",
    },
    Limit {
        vendor: "svm",
        scenarios: &["exit-in-kernel", "guest-idle-guest", "guest-thread-guest"],
        class: "vmload",
        count: 0.0,
        why: "no code that runs in between uses the VMLOAD/VMSAVE state",
    },
    Limit {
        vendor: "svm",
        scenarios: &["exit-in-kernel", "guest-thread-guest"],
        class: "vmsave",
        count: 0.0,
        why: "no code that runs in between uses the VMLOAD/VMSAVE state",
    },
    Limit {
        vendor: "svm",
        scenarios: &["guest-idle-guest"],
        class: "vmsave",
        count: 1.0,
        why: "a vCPU that wakes on another CPU must find the state without an IPI to this CPU",
    },
    Limit {
        vendor: "svm",
        scenarios: &["exit-to-user", "guest-user-guest"],
        class: "wrmsr",
        count: 2.0,
        why: "TSC_AUX, which VMLOAD does not load: the host's value, and the guest's again",
    },
    Limit {
        vendor: "svm",
        scenarios: &["two-guests-different"],
        class: "wrmsr",
        count: 1.0,
        why: "the guests' TSC_AUX differ, and VMLOAD does not load TSC_AUX",
    },
    Limit {
        vendor: "vmx",
        scenarios: &["exit-to-user", "guest-user-guest"],
        class: "wrmsr",
        count: 8.0,
        why: "STAR, LSTAR, FMASK and TSC_AUX differ: the host's values, and the guest's again; \
              SWAPGS and WRGSBASE can exchange KERNEL_GS_BASE",
    },
    Limit {
        vendor: "vmx",
        scenarios: &["two-guests-different"],
        class: "wrmsr",
        count: 4.0,
        why: "the guests' STAR, LSTAR, FMASK and TSC_AUX differ; SWAPGS and WRGSBASE can exchange \
              KERNEL_GS_BASE",
    },
    Limit {
        vendor: "",
        scenarios: IN_KERNEL,
        class: "wrmsr",
        count: 0.0,
        why: "neither the code that runs in between nor the other guest uses another value",
    },
    Limit {
        vendor: "",
        scenarios: SWITCHES,
        class: "rdmsr",
        count: 0.0,
        why: "the kernel has the values in memory, and reads GS bases by RDGSBASE",
    },
    Limit {
        vendor: "svm",
        scenarios: SWITCHES,
        class: "lgdt",
        count: 0.0,
        why: "#VMEXIT restores the GDTR",
    },
    Limit {
        vendor: "svm",
        scenarios: &["exit-to-user"],
        class: "swapgs",
        count: 2.0,
        why: "entry and exit of the system call KVM_RUN",
    },
    Limit {
        vendor: "svm",
        scenarios: IN_KERNEL,
        class: "swapgs",
        count: 0.0,
        why: "no return to user mode in between",
    },
];

/// Returns the limit of a class in a scenario, if any.
pub fn limit(vendor: &str, scenario: &str, class: &str) -> Option<&'static Limit> {
    LIMITS.iter().find(|limit| {
        (limit.vendor.is_empty() || limit.vendor == vendor)
            && limit.scenarios.contains(&scenario)
            && limit.class == class
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_found_by_vendor_and_scenario() {
        assert_eq!(limit("svm", "exit-to-user", "vmload").unwrap().count, 2.0);
        assert!(limit("vmx", "exit-to-user", "vmload").is_none());
        assert_eq!(limit("vmx", "exit-in-kernel", "rdmsr").unwrap().count, 0.0);
    }

    #[test]
    fn limits_are_unique() {
        for (i, limit) in LIMITS.iter().enumerate() {
            for other in &LIMITS[i + 1..] {
                let both = limit
                    .scenarios
                    .iter()
                    .any(|name| other.scenarios.contains(name));
                let vendor = limit.vendor == other.vendor
                    || limit.vendor.is_empty()
                    || other.vendor.is_empty();
                assert!(
                    !(both && vendor && limit.class == other.class),
                    "{}: {:?}",
                    limit.class,
                    limit.scenarios
                );
            }
        }
    }
}
