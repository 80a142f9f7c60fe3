#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Loads and unloads uret, KVM and the samples in different orders, while a VM runs and while
# none runs.

. "$(dirname "$(readlink -f "$0")")/lib/functions.sh"

ktap_set_plan 25
mark
unload || ktap_print_msg "cannot unload KVM: is a VM running?"

runs_a_vm()
{
	start_vm -c 0 && stop_vm
}

# Print the number of slots.  The first line of the file names the columns.
slots()
{
	echo $(($(wc -l <"$URET/slots") - 1))
}

no_slots()
{
	equal "slots" 0 "$(slots)"
}

has_slots()
{
	above "slots" 0 "$(slots)"
}

# fails_with TEXT COMMAND...: expect that the command fails, and that the output has the text
fails_with()
{
	text="$1"
	shift
	"$@" >/tmp/output 2>&1
	status=$?
	[ $status != 0 ] && grep -q "$text" /tmp/output && return 0
	ktap_print_msg "$*: expected a failure and \"$text\", got exit status $status and:"
	sed 's/^/# /' /tmp/output
	return 1
}

nothing_left()
{
	for dir in /sys/kernel/debug/uret*; do
		[ ! -e "$dir" ] || equal "debugfs" "no folder uret*" "$dir" || return 1
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
check "uret leaves nothing in debugfs" nothing_left

check "kvm loads uret" eval 'load_kvm && loaded uret'
check "uret=1 is the default" equal "kvm.uret" Y "$(kvm_uret)"
check "uret has slots" has_slots
check "a VM runs with uret=1" runs_a_vm
check "uret does not unload while kvm is loaded" refused rmmod uret
start_vm -c 0 || ktap_print_msg "cannot start a VM"
check "the vendor module does not unload while a VM runs" refused rmmod "$VENDOR"
check "kvm does not unload while a VM runs" refused rmmod kvm
check "switch_perf_test refuses to run while a VM runs" \
	fails_with "in use" "$(program switch_perf_test)" -c exit-to-user
check "switch_perf_test.sh unloads no module while a VM runs" \
	fails_with "in use" "$(program switch_perf_test.sh)" count
check "the VM has kept its registers" stop_vm
check "unloading the vendor module frees the slots" eval 'rmmod $VENDOR && no_slots'
check "all modules unload" unload
check "switch_perf_test refuses to run without KVM" \
	fails_with "/dev/kvm" "$(program switch_perf_test)" -c exit-to-user

check "kvm loads with uret=0" eval 'load_kvm uret=0 && equal "kvm.uret" N "$(kvm_uret)"'
check "kvm owns slots with uret=0, so that other owners cannot set the MSRs" has_slots
check "uret_bench stock=1 refuses to load while a vendor module uses stock's code" \
	refused modprobe uret_bench stock=1
check "a VM runs with uret=0" eval 'runs_a_vm && unload'
check "uret=2 is refused" refused modprobe kvm uret=2
unload

check "20 reloads of KVM" reload

modprobe uret_sample_tsc_aux
check "kvm does not load when another owner has TSC_AUX" \
	eval 'refused load_kvm && ! loaded $VENDOR'
unload
load_kvm
check "another owner does not load when kvm has TSC_AUX" refused modprobe uret_sample_tsc_aux
unload

modprobe uret_sample_notifier
check "a module with an armed notifier unloads" \
	eval 'echo 1 >/sys/kernel/debug/uret_sample_notifier/armed &&
		rmmod uret_sample_notifier && nothing_left'

check "no splat" no_splat
ktap_finished
