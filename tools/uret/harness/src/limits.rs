// SPDX-License-Identifier: GPL-2.0-only

//! The lowest counts possible, so that it is visible how far from them the figures are.

/// A count below which no correct kernel gets, for one operation of a scenario.
pub struct Limit {
    /// `svm`, `vmx`, or `` for both.
    platform: &'static str,
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
        platform: "svm",
        scenarios: &["exit-to-user", "exit-in-kernel"],
        class: "vmrun",
        count: 1.0,
        why: "one exit, one entry",
    },
    Limit {
        platform: "svm",
        scenarios: &["exit-to-user", "guest-user-guest"],
        class: "vmsave",
        count: 1.0,
        why: "user space needs the host's FS, GS, TR and SYSCALL MSRs: the guest's are saved",
    },
    Limit {
        platform: "svm",
        scenarios: &["exit-to-user", "guest-user-guest"],
        class: "vmload",
        count: 2.0,
        why: "the host's state, and the guest's again",
    },
    Limit {
        platform: "svm",
        scenarios: &["two-guests-equal", "two-guests-different"],
        class: "vmsave",
        count: 1.0,
        why: "the other guest's state takes the place of this one's",
    },
    Limit {
        platform: "svm",
        scenarios: &["two-guests-equal", "two-guests-different"],
        class: "vmload",
        count: 1.0,
        why: "the other guest's state takes the place of this one's",
    },
    Limit {
        platform: "svm",
        scenarios: &["exit-in-kernel", "guest-idle-guest", "guest-thread-guest"],
        class: "vmload",
        count: 0.0,
        why: "nothing that runs in between looks at what VMLOAD loads",
    },
    Limit {
        platform: "svm",
        scenarios: &["exit-in-kernel", "guest-thread-guest"],
        class: "vmsave",
        count: 0.0,
        why: "nothing that runs in between looks at what VMLOAD loads",
    },
    Limit {
        platform: "svm",
        scenarios: &["guest-idle-guest"],
        class: "vmsave",
        count: 1.0,
        why: "the vCPU may wake on another CPU, which must not wake this one for its state",
    },
    Limit {
        platform: "svm",
        scenarios: &["exit-to-user", "guest-user-guest"],
        class: "wrmsr",
        count: 2.0,
        why: "TSC_AUX, which VMLOAD does not load: the host's, and the guest's again",
    },
    Limit {
        platform: "svm",
        scenarios: &["two-guests-different"],
        class: "wrmsr",
        count: 1.0,
        why: "the guests' TSC_AUX differ, and VMLOAD does not load it",
    },
    Limit {
        platform: "vmx",
        scenarios: &["exit-to-user", "guest-user-guest"],
        class: "wrmsr",
        count: 8.0,
        why: "STAR, LSTAR, FMASK and TSC_AUX differ: the host's, and the guest's again; \
              KERNEL_GS_BASE can be exchanged by SWAPGS and WRGSBASE",
    },
    Limit {
        platform: "vmx",
        scenarios: &["two-guests-different"],
        class: "wrmsr",
        count: 4.0,
        why:
            "the guests' STAR, LSTAR, FMASK and TSC_AUX differ; KERNEL_GS_BASE can be exchanged by \
              SWAPGS and WRGSBASE",
    },
    Limit {
        platform: "",
        scenarios: IN_KERNEL,
        class: "wrmsr",
        count: 0.0,
        why: "nothing that runs in between, nor the other guest, wants another value",
    },
    Limit {
        platform: "",
        scenarios: SWITCHES,
        class: "rdmsr",
        count: 0.0,
        why: "the kernel knows what it has written, and reads GS bases by RDGSBASE",
    },
    Limit {
        platform: "svm",
        scenarios: SWITCHES,
        class: "lgdt",
        count: 0.0,
        why: "#VMEXIT restores the GDTR",
    },
    Limit {
        platform: "svm",
        scenarios: &["exit-to-user"],
        class: "swapgs",
        count: 2.0,
        why: "the system call KVM_RUN, in and out",
    },
    Limit {
        platform: "svm",
        scenarios: IN_KERNEL,
        class: "swapgs",
        count: 0.0,
        why: "no return to user mode in between",
    },
];

/// Returns the limit of a class in a scenario, if it is known.
pub fn limit(platform: &str, scenario: &str, class: &str) -> Option<&'static Limit> {
    LIMITS.iter().find(|it| {
        (it.platform.is_empty() || it.platform == platform)
            && it.scenarios.contains(&scenario)
            && it.class == class
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_by_platform_and_scenario() {
        assert_eq!(limit("svm", "exit-to-user", "vmload").unwrap().count, 2.0);
        assert!(limit("vmx", "exit-to-user", "vmload").is_none());
        assert_eq!(limit("vmx", "exit-in-kernel", "rdmsr").unwrap().count, 0.0);
    }

    #[test]
    fn no_limit_is_there_twice() {
        for (i, it) in LIMITS.iter().enumerate() {
            for other in &LIMITS[i + 1..] {
                let both = it
                    .scenarios
                    .iter()
                    .any(|name| other.scenarios.contains(name));
                let platform = it.platform == other.platform
                    || it.platform.is_empty()
                    || other.platform.is_empty();
                assert!(
                    !(both && platform && it.class == other.class),
                    "{}: {:?}",
                    it.class,
                    it.scenarios
                );
            }
        }
    }
}
