#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Loading and unloading uret, KVM and the samples in every order, with VMs
# running and without.

. "$(dirname "$(readlink -f "$0")")/lib/functions.sh"

ktap_set_plan 25
mark
unload || ktap_print_msg "cannot unload KVM: is a VM running?"

runs_a_vm()
{
	start_vm -c 0 && stop_vm
}

no_slots()
{
	[ "$(wc -l <"$URET/slots")" = 1 ]
}

# says WORDS COMMAND...: it fails, and says so.
says()
{
	words="$1"
	shift
	if "$@" >/tmp/said 2>&1; then
		return 1
	fi
	grep -q "$words" /tmp/said
}

nothing_left()
{
	for dir in /sys/kernel/debug/uret*; do
		[ -e "$dir" ] && return 1
	done
	return 0
}

reload()
{
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		load_kvm uret=1 && unload && load_kvm uret=0 && unload || return 1
	done
}

check "uret loads and unloads alone" eval 'modprobe uret && no_slots && rmmod uret'
check "nothing is left in debugfs" nothing_left

check "kvm loads uret" eval 'load_kvm && loaded uret'
check "uret=1 is the default" uses Y
check "uret has slots" refused no_slots
check "a VM runs with uret=1" runs_a_vm
check "uret does not unload under kvm" refused rmmod uret
start_vm -c 0 || ktap_print_msg "no VM"
check "the vendor module does not unload under a VM" refused rmmod "$VENDOR_MODULE"
check "kvm does not unload under a VM" refused rmmod kvm
check "nothing is measured under a VM" says "in use" "$(program switch_perf_test)" -c exit-to-user
check "and no module is unloaded for that" says "in use" "$(program switch_perf_test.sh)" count
check "the VM is none the worse for it" stop_vm
check "unloading the vendor module frees the slots" eval 'rmmod $VENDOR_MODULE && no_slots'
check "all of it unloads" unload
check "nothing is measured without KVM" says "/dev/kvm" "$(program switch_perf_test)" -c exit-to-user

check "kvm loads with uret=0" eval 'load_kvm uret=0 && uses N'
check "the slots are taken, so that nobody else sets them" refused no_slots
check "KVM's own code is not measured while a vendor module uses it" \
	refused modprobe uret_bench stock=1
check "a VM runs with uret=0" eval 'runs_a_vm && unload'
check "uret=2 is refused" refused modprobe kvm uret=2
unload

check "20 reloads" reload

modprobe uret_sample_tsc_aux
check "kvm does not load when another owner has TSC_AUX" \
	eval 'refused load_kvm && ! loaded $VENDOR_MODULE'
unload
load_kvm
check "nor another owner when kvm has it" refused modprobe uret_sample_tsc_aux
unload

modprobe uret_sample_notifier
check "a module with an armed notifier unloads" \
	eval 'echo 1 >/sys/kernel/debug/uret_sample_notifier/armed &&
		rmmod uret_sample_notifier && nothing_left'

check "no splat" no_splat
ktap_finished
