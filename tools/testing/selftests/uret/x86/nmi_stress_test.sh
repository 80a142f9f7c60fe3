#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# NMIs and machine checks come from outside while VMs run: see rust/uret/tests/trap_test.c, whose
# module must be loaded, with breakpoints, and tools/uret/harness/src/storm.rs.
#
#	nmi_stress_test.sh N	until each CPU has had N NMIs

here="$(dirname "$(readlink -f "$0")")"
# "make install" leaves out the directory x86.
[ -d "$here/lib" ] || here="$here/.."
. "$here/lib/functions.sh"

N="$1"
TRAPS=/sys/kernel/debug/uret_trap_test
CPUS="$(grep -c '^processor' /proc/cpuinfo)"
# Of each kind there must be so many, for ten thousand NMIs.
SHARE=50

# Waits until all have come. Gives up if none comes for five minutes.
await()
{
	before=-1 idle=0
	while now="$(counted "$TRAPS/nmis" total)" && [ "$now" -lt $((N * CPUS)) ]; do
		# Now the CPUs have much to do, now they are idle for a while.
		[ "$busy" = CONT ] && busy=STOP || busy=CONT
		for pid in $mixed $spinning; do kill -$busy "$pid"; done
		[ "$now" = "$before" ] && idle=$((idle + 1)) || idle=0
		[ $idle -lt 1200 ] || return 1
		before="$now"
		sleep 0.25
	done
}

# enough PLACE
enough()
{
	[ "$(counted "$TRAPS/nmis" "$1")" -ge $((N * CPUS * SHARE / 10000)) ]
}

# A mix of everything, one that mostly sleeps, and a task that never does, on each CPU.
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

# nothing_bad: what was found was what must be there
nothing_bad()
{
	sed 's/^/# /' "$TRAPS/bad"
	[ -z "$(cat "$TRAPS/bad")" ]
}

ktap_set_plan 11
mark
# The kernel warns of handlers that take a millisecond, which it may, emulated.
echo 1000000000 >/sys/kernel/debug/x86/nmi_longest_ns
# Otherwise KVM spends the time that guests sleep in their threads.
echo 0 >/sys/module/kvm/parameters/halt_poll_ns
check "VMs run" start_vms
echo "URET-STORM ready"
check "all NMIs have come" await
check "each VM and its thread have seen their own registers only" stop_vms
sed 's/^/# /' "$TRAPS/nmis" "$TRAPS/breakpoints"
check "NMIs in user mode" enough user
check "NMIs in guests" enough guest
if uses Y; then
	check "NMIs while a guest's state was in the CPU" enough window
	check "NMIs while it was there, and the CPU idle" enough idle
	check "NMIs during NMIs while it was there" \
		eval '[ "$(counted "$TRAPS/nmis" latched)" -ge $((N * CPUS / 50)) ]'
else
	ktap_test_skip "NMIs while a guest's state was in the CPU: uret=0"
	ktap_test_skip "NMIs while it was there, and the CPU idle: uret=0"
	ktap_test_skip "NMIs during NMIs while it was there: uret=0"
fi
check "NMIs during NMIs" eval '[ "$(counted "$TRAPS/nmis" nested)" -ge $((N * CPUS / 10)) ]'
check "the stack could be walked, and IDT and TR were as they must be" nothing_bad
check "no splat" no_splat
ktap_finished
