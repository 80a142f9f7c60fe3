#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Tests transitions while a VM runs or sleeps: the CPU goes offline, the VM migrates, the VM is
# killed, and the system suspends as far as pm_test allows.

. "$(dirname "$(readlink -f "$0")")/lib/functions.sh"

ktap_set_plan 13
mark
unload
load_kvm uret=1 || skip_all "kvm does not load"
modprobe uret_sample_notifier

CPUS=$(getconf _NPROCESSORS_ONLN 2>/dev/null || grep -c '^processor' /proc/cpuinfo)
LAST=$((CPUS - 1))
ONLINE=/sys/devices/system/cpu/cpu$LAST/online

# is_clean CPU: whether no slot of the CPU is dirty, and the notifier is not armed
is_clean()
{
	grep -q "^$1 0x0 0 " "$URET/cpus"
}

# clean CPU: expect that the CPU is clean
clean()
{
	is_clean "$1" && return 0
	ktap_print_msg "uret/cpus: expected \"$1 0x0 0 ...\", got \"$(grep "^$1 " "$URET/cpus")\""
	return 1
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
	# The notifier is still armed: arming fails, and disarming succeeds.
	refused taskset $((1 << LAST)) sh -c "echo 1 >$files/armed" &&
		taskset $((1 << LAST)) sh -c "echo 0 >$files/armed"
}

# Print how often FS and GS of vCPUs were flushed from a CPU or taken by another CPU.
moved()
{
	echo $(($(counted "$URET/fsgs" flushed) + $(counted "$URET/fsgs" taken)))
}

# with_idle_vm COMMAND...: run the command beside a VM that only sleeps and wakes.  The CPU of the
# vCPU runs no user task, so that FS and GS are still deferred there when the vCPU migrates, and
# must be flushed or taken.  The guest checks its registers.
with_idle_vm()
{
	start_vm -i || return 1
	taskset -p $((1 << LAST)) "$VM_PID" >/dev/null
	before=$(moved)
	"$@" && stop_vm || return 1
	above "FS and GS flushed or taken" "$before" "$(moved)"
}

# A sleeping vCPU does not migrate when its CPU goes offline: the CPU must flush FS and GS.
offline_with_sleeping_vm()
{
	# If this shell ran on that CPU, the switch to the shell would restore FS and GS.
	taskset -p 1 $$ >/dev/null
	start_vm -c "$LAST" -s && sleep 0.5 || return 1
	before=$(counted "$URET/fsgs" flushed)
	echo 0 >"$ONLINE" || return 1
	after=$(counted "$URET/fsgs" flushed)
	echo 1 >"$ONLINE" && stop_vm || return 1
	taskset -p $(((1 << CPUS) - 1)) $$ >/dev/null
	above "FS and GS flushed" "$before" "$after"
}

# The worker of KVM is a user task that never runs in user mode, so that the switch to the worker
# does not restore FS and GS.  The exit of the worker clears FS and GS, while FS and GS of the
# sleeping vCPU are deferred on that CPU.
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
	above "FS and GS flushed" "$before" "$after"
}

# No task returns to user mode on the CPU of the vCPU: the destruction of the last VM must restore
# the MSRs of that CPU.
last_vm_is_killed()
{
	taskset -p 1 $$ >/dev/null
	start_vm -c "$LAST" -s && sleep 0.5 || return 1
	if is_clean "$LAST"; then
		ktap_print_msg "CPU $LAST: expected a dirty slot, got none"
		return 1
	fi
	kill -KILL "$VM_PID"
	wait "$VM_PID"
	clean "$LAST" || return 1
	taskset -p $(((1 << CPUS) - 1)) $$ >/dev/null
}

# KVM must notice the new LDT of the thread of the vCPU, or the next VM exit loses the LDT.
sleeping_vm_gets_ldt()
{
	taskset -p 1 $$ >/dev/null
	before=$(counted "$URET/fsgs" flushed)
	"$(program run_vm)" -c "$LAST" -l || return 1
	taskset -p $(((1 << CPUS) - 1)) $$ >/dev/null
	above "FS and GS flushed" "$before" "$(counted "$URET/fsgs" flushed)"
}

# With VMLOAD at each exit, the CPU of the vCPU has the host's LDTR, so that modify_ldt() does not
# restore FS and GS there. The wake-up of the vCPU does.
sleeping_eager_vm_gets_ldt()
{
	unload && load_kvm uret=1 defer_vmload=0 &&
		sleeping_vm_gets_ldt
}

# suspend_up_to LEVEL: suspend up to a level, see Documentation/power/basic-pm-debugging.rst
suspend_up_to()
{
	suspended=1
	echo "$1" >/sys/power/pm_test && echo mem >/sys/power/state && suspended=0
	echo none >/sys/power/pm_test
	return $suspended
}

if [ "$LAST" = 0 ]; then
	for name in "offline and online" "migration" "migration from an idle CPU" \
		    "an idle CPU goes offline" "a sleeping vCPU's CPU goes offline" \
		    "a worker exits beside a sleeping vCPU" "a sleeping vCPU's thread gets an LDT" \
		    "the last VM is killed while the vCPU sleeps" \
		    "an armed notifier survives hotplug"; do
		ktap_test_skip "$name: only one CPU"
	done
else
	start_vm || ktap_print_msg "cannot start a VM"
	taskset -p $((1 << LAST)) "$VM_PID" >/dev/null
	check "offline and online" eval 'hotplug && stop_vm'
	start_vm || ktap_print_msg "cannot start a VM"
	check "migration" eval 'move && stop_vm'
	check "migration from an idle CPU" with_idle_vm move
	check "an idle CPU goes offline" with_idle_vm hotplug
	check "a sleeping vCPU's CPU goes offline" offline_with_sleeping_vm
	check "a worker exits beside a sleeping vCPU" worker_exits_beside_sleeping_vm
	check "a sleeping vCPU's thread gets an LDT" sleeping_vm_gets_ldt
	check "the last VM is killed while the vCPU sleeps" last_vm_is_killed
	check "an armed notifier survives hotplug" armed_notifier_survives_hotplug
fi

if grep -q core /sys/power/pm_test 2>/dev/null && grep -q mem /sys/power/state; then
	start_vm -c 0 || ktap_print_msg "cannot start a VM"
	check "suspend, up to the devices" suspend_up_to devices
	check "suspend, up to the last CPU" eval 'suspend_up_to core && stop_vm'
else
	ktap_test_skip "suspend, up to the devices: not in this kernel"
	ktap_test_skip "suspend, up to the last CPU: not in this kernel"
fi

eager="a sleeping vCPU's thread gets an LDT, with VMLOAD at each exit"
if [ "$VENDOR" != kvm-amd ]; then
	ktap_test_skip "$eager: SVM only"
elif [ "$LAST" = 0 ]; then
	ktap_test_skip "$eager: only one CPU"
else
	check "$eager" sleeping_eager_vm_gets_ldt
fi

check "no splat" no_splat
unload
ktap_finished
