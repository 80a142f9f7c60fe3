#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A VM runs while its CPU goes offline, while it is moved about, and while the
# system goes to sleep as far as it can without losing power.

. "$(dirname "$(readlink -f "$0")")/lib/functions.sh"

ktap_set_plan 13
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
	uses Y || return 0
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

# How often the FS and GS of a vCPU left a CPU for another reason than a user task.
moved()
{
	echo $(($(counted "$URET/fsgs" flushed) + $(counted "$URET/fsgs" taken)))
}

# with_idle_vm COMMAND...: does it to a VM that only sleeps and wakes, so that its FS and GS are
# still there, and must be flushed or taken. The guest checks whether its own came with it.
with_idle_vm()
{
	start_vm -i || return 1
	taskset -p $((1 << LAST)) "$VM_PID" >/dev/null
	before=$(moved)
	"$@" && stop_vm || return 1
	uses N || [ "$(moved)" -gt "$before" ]
}

# A vCPU that sleeps does not move: it is the CPU that has to put back what it has of it.
offline_with_sleeping_vm()
{
	# Another task on that CPU, and they are gone already.
	taskset -p 1 $$ >/dev/null
	start_vm -c "$LAST" -s && sleep 0.5 || return 1
	before=$(counted "$URET/fsgs" flushed)
	echo 0 >"$ONLINE" || return 1
	after=$(counted "$URET/fsgs" flushed)
	echo 1 >"$ONLINE" && stop_vm || return 1
	taskset -p $(((1 << CPUS) - 1)) $$ >/dev/null
	uses N || [ "$after" -gt "$before" ]
}

# KVM's worker is a user task that never runs in user mode. When it exits it clears FS and GS, which
# are the sleeping vCPU's on the CPU where it does.
worker_exits_beside_sleeping_vm()
{
	taskset -p 1 $$ >/dev/null
	start_vm -c 0 || return 1
	other=$VM_PID
	worker=$(grep -l '^kvm-nx' /proc/"$other"/task/*/comm | cut -d/ -f5)
	[ -n "$worker" ] && taskset -p $((1 << LAST)) "$worker" >/dev/null || return 1
	start_vm -c "$LAST" -s && sleep 0.5 || return 1
	before=$(counted "$URET/fsgs" flushed)
	kill "$other" && wait "$other" || return 1
	after=$(counted "$URET/fsgs" flushed)
	stop_vm || return 1
	taskset -p $(((1 << CPUS) - 1)) $$ >/dev/null
	uses N || [ "$after" -gt "$before" ]
}

# There is no return to user mode on its CPU, and no VM any more, but its MSRs are there.
last_vm_is_killed()
{
	taskset -p 1 $$ >/dev/null
	start_vm -c "$LAST" -s && sleep 0.5 || return 1
	if clean "$LAST" && uses Y; then
		ktap_print_msg "the vCPU has left nothing on its CPU"
		return 1
	fi
	kill -KILL "$VM_PID"
	wait "$VM_PID"
	clean "$LAST" || return 1
	taskset -p $(((1 << CPUS) - 1)) $$ >/dev/null
}

# Its LDT is lost at the next exit, unless it was noticed.
sleeping_vm_gets_ldt()
{
	taskset -p 1 $$ >/dev/null
	before=$(counted "$URET/fsgs" flushed)
	"$(program run_vm)" -c "$LAST" -l || return 1
	taskset -p $(((1 << CPUS) - 1)) $$ >/dev/null
	uses N || [ "$(counted "$URET/fsgs" flushed)" -gt "$before" ]
}

# With VMLOAD at each exit, LDTR is the host's, so modify_ldt() does not restore FS and GS on
# the CPU of the vCPU. The wake-up of the vCPU does.
sleeping_eager_vm_gets_ldt()
{
	unload && modprobe kvm ${URET_PARAM:-uret=1} && modprobe kvm-amd defer_vmload=0 &&
		sleeping_vm_gets_ldt
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
	for name in "offline and online" "migration" "migration from an idle CPU" \
		    "an idle CPU goes offline" "a sleeping vCPU's CPU goes offline" \
		    "a worker exits beside a sleeping vCPU" "a sleeping vCPU's thread gets an LDT" \
		    "the last VM is killed in its sleep" "a notifier and hotplug"; do
		ktap_test_skip "$name: only one CPU"
	done
else
	start_vm || ktap_print_msg "no VM"
	taskset -p $((1 << LAST)) "$VM_PID" >/dev/null
	check "offline and online" eval 'hotplug && stop_vm'
	start_vm || ktap_print_msg "no VM"
	check "migration" eval 'move && stop_vm'
	check "migration from an idle CPU" with_idle_vm move
	check "an idle CPU goes offline" with_idle_vm hotplug
	check "a sleeping vCPU's CPU goes offline" offline_with_sleeping_vm
	check "a worker exits beside a sleeping vCPU" worker_exits_beside_sleeping_vm
	check "a sleeping vCPU's thread gets an LDT" sleeping_vm_gets_ldt
	check "the last VM is killed in its sleep" last_vm_is_killed
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

eager="a sleeping vCPU's thread gets an LDT, with VMLOAD at each exit"
if [ "$VENDOR" != kvm-amd ]; then
	ktap_test_skip "$eager: not on VMX"
elif [ "$LAST" = 0 ]; then
	ktap_test_skip "$eager: only one CPU"
else
	check "$eager" sleeping_eager_vm_gets_ldt
fi

check "no splat" no_splat
unload
ktap_finished
