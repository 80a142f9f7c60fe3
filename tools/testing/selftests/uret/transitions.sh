#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A VM runs while its CPU goes offline, while it is moved about, and while the
# system goes to sleep as far as it can without losing power.

. "$(dirname "$(readlink -f "$0")")/functions.sh"

ktap_set_plan 6
mark
unload
load_kvm ${URET_PARAM:-uret=1} || skip_all "kvm does not load"
modprobe uret_sample_notifier

CPUS=$(getconf _NPROCESSORS_ONLN 2>/dev/null || grep -c '^processor' /proc/cpuinfo)
LAST=$((CPUS - 1))
ONLINE=/sys/devices/system/cpu/cpu$LAST/online

# clean CPU: nothing is left of the guest's values there
clean()
{
	[ -e "$URET/cpus" ] || return 0
	grep -q "^$1 0x0 0 " "$URET/cpus"
}

hotplug()
{
	for _ in 1 2 3 4 5; do
		echo 0 >"$ONLINE" && clean "$LAST" || return 1
		sleep 0.2
		echo 1 >"$ONLINE" || return 1
		taskset -p $((1 << LAST)) "$VM_PID" >/dev/null || return 1
		sleep 0.2
	done
}

move()
{
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		taskset -p 1 "$VM_PID" >/dev/null && sleep 0.1 &&
			taskset -p $((1 << LAST)) "$VM_PID" >/dev/null && sleep 0.1 || return 1
	done
}

armed_notifier_survives_hotplug()
{
	files=/sys/kernel/debug/uret_sample_notifier
	taskset $((1 << LAST)) sh -c "echo 1 >$files/armed" || return 1
	echo 0 >"$ONLINE" && echo 1 >"$ONLINE" || return 1
	# It is still in the list: to arm it again is refused, to disarm it is not.
	refused taskset $((1 << LAST)) sh -c "echo 1 >$files/armed" &&
		taskset $((1 << LAST)) sh -c "echo 0 >$files/armed"
}

# sleep_as_far_as LEVEL: see Documentation/power/basic-pm-debugging.rst
sleep_as_far_as()
{
	slept=1
	echo "$1" >/sys/power/pm_test && echo mem >/sys/power/state && slept=0
	echo none >/sys/power/pm_test
	return $slept
}

if [ "$LAST" = 0 ]; then
	for name in "offline and online" "migration" "a notifier and hotplug"; do
		ktap_test_skip "$name: only one CPU"
	done
else
	start_vm || ktap_print_msg "no VM"
	taskset -p $((1 << LAST)) "$VM_PID" >/dev/null
	check "offline and online" eval 'hotplug && stop_vm'
	start_vm || ktap_print_msg "no VM"
	check "migration" eval 'move && stop_vm'
	check "a notifier and hotplug" armed_notifier_survives_hotplug
fi

if grep -q core /sys/power/pm_test 2>/dev/null && grep -q mem /sys/power/state; then
	start_vm -c 0 || ktap_print_msg "no VM"
	check "sleep, up to the devices" sleep_as_far_as devices
	check "sleep, up to the last CPU" eval 'sleep_as_far_as core && stop_vm'
else
	ktap_test_skip "sleep, up to the devices: not in this kernel"
	ktap_test_skip "sleep, up to the last CPU: not in this kernel"
fi

check "no splat" no_splat
unload
ktap_finished
