#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# NMIs and machine checks while VMs run.  A harness in uret's own repository injects both from
# outside.  The module uret_trap_test must be loaded, with a breakpoint.
#
#	nmi_stress_test.sh N	run until each CPU has had N NMIs

here="$(dirname "$(readlink -f "$0")")"
# "make install" installs the tests of x86/ in the parent directory.
[ -d "$here/lib" ] || here="$here/.."
. "$here/lib/functions.sh"

N="$1"
TRAPS=/sys/kernel/debug/uret_trap_test
CPUS="$(grep -c '^processor' /proc/cpuinfo)"
# The minimum of NMIs in each place, per 10000 NMIs.
SHARE=50

# Wait until all NMIs have arrived. Give up if no NMI arrives for five minutes.
await()
{
	before=-1 idle=0
	while now="$(counted "$TRAPS/nmis" total)" && [ "$now" -lt $((N * CPUS)) ]; do
		# Alternate between busy and idle CPUs.
		[ "$busy" = CONT ] && busy=STOP || busy=CONT
		for pid in $mixed $spinning; do kill -$busy "$pid"; done
		[ "$now" = "$before" ] && idle=$((idle + 1)) || idle=0
		[ $idle -lt 1200 ] || { at_least "NMIs" $((N * CPUS)) "$now"; return 1; }
		before="$now"
		sleep 0.25
	done
}

# nmis COLUMN MINIMUM
nmis()
{
	at_least "NMIs, $1" "$2" "$(counted "$TRAPS/nmis" "$1")"
}

# On each CPU, a VM with all operations, a VM that mostly sleeps, and a task that never sleeps.
start_vms()
{
	vms="" mixed="" spinning="" busy=CONT
	for cpu in $(seq 0 $((CPUS - 1))); do
		for kind in "" -I; do
			start_vm -c "$cpu" $kind || return 1
			vms="$vms $VM_PID:$out"
			[ -n "$kind" ] || mixed="$mixed $VM_PID"
		done
		taskset $((1 << cpu)) sh -c 'while :; do :; done' &
		spinning="$spinning $!"
	done
}

stop_vms()
{
	result=0
	for vm in $vms; do
		VM_PID="${vm%%:*}" out="${vm#*:}"
		kill -CONT "$VM_PID"
		stop_vm || result=1
	done
	for pid in $spinning; do kill -KILL "$pid"; done
	return $result
}

# Expect no failed check of the module.
no_failed_check()
{
	[ -z "$(cat "$TRAPS/bad")" ] && return 0
	sed 's/^/# expected no failed check, got: /' "$TRAPS/bad"
	return 1
}

ktap_set_plan 11
mark
# Disable polling, so that the CPU of a halted vCPU goes idle.
echo 0 >/sys/module/kvm/parameters/halt_poll_ns
check "VMs run" start_vms
echo "URET-STORM ready"
check "all NMIs have arrived" await
check "VMs and their threads have kept their registers" stop_vms
sed 's/^/# /' "$TRAPS/nmis" "$TRAPS/breakpoints"
minimum=$((N * CPUS * SHARE / 10000))
check "NMIs in user mode" nmis user $minimum
check "NMIs in guests" nmis guest $minimum
if uses Y; then
	# The columns of the module for NMIs with the guest state loaded are "loaded" and "idle".
	check "NMIs with guest state loaded" nmis loaded $minimum
	check "NMIs with guest state loaded, on an idle CPU" nmis idle $minimum
	check "NMIs during NMIs with guest state loaded" nmis latched $((N * CPUS / 50))
else
	ktap_test_skip "NMIs with guest state loaded: uret=0"
	ktap_test_skip "NMIs with guest state loaded, on an idle CPU: uret=0"
	ktap_test_skip "NMIs during NMIs with guest state loaded: uret=0"
fi
check "NMIs during NMIs" nmis nested $((N * CPUS / 10))
check "the module has found the stack, the IDT and TR as expected" no_failed_check
check "no splat" no_splat
ktap_finished
