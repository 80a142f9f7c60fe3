#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The modules of uret, of the tests and samples of uret, and of KVM.  Sourced.

MODULES="uret_bench uret_trap_test kvm_amd kvm_intel kvm uret_sample_tsc_aux uret_sample_notifier"
MODULES="$MODULES uret_kunit uret_msr_kunit uret"

# The vendor module of KVM for this CPU, or empty.
case "$(grep -om1 -E '\<(svm|vmx)\>' /proc/cpuinfo)" in
svm) VENDOR=kvm-amd ;;
vmx) VENDOR=kvm-intel ;;
*) VENDOR= ;;
esac

# load_kvm [PARAMETER [VENDOR_PARAMETER]]: load KVM with a parameter of kvm and of the vendor module
load_kvm()
{
	modprobe kvm ${1:+"$1"} && modprobe "$VENDOR" ${2:+"$2"}
}

# Unload all modules above.  On failure, $module is the module in use.
unload()
{
	for module in $MODULES; do
		[ ! -d "/sys/module/$module" ] || rmmod "$module" || return 1
	done
}

# load_trap_test PORT: load the module that checks the state at each trap
load_trap_test()
{
	# Disable the warning about NMI handlers that take a millisecond: an emulated CPU is slow.
	echo 1000000000 >/sys/kernel/debug/x86/nmi_longest_ns
	modprobe uret_trap_test breakpoint=kvm_emulate_cpuid port="$1"
}
