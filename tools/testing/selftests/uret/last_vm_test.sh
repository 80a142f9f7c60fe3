#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# VMs, MSRs and modules come and go on one CPU, while a task that never yields has the
# other one to itself: nothing waits for that CPU.

. "$(dirname "$(readlink -f "$0")")/lib/functions.sh"

VMS=${VMS:-100}
SERVER=/sys/kernel/debug/sched/fair_server/cpu1/runtime

[ "$(grep -c '^processor' /proc/cpuinfo)" = 2 ] || skip_all "only one CPU, or more than two"
ktap_set_plan 6
mark
unload
taskset -p 1 $$ >/dev/null

# No other task gets a share of a CPU that a real-time task uses.
throttle=$(cat /proc/sys/kernel/sched_rt_runtime_us)
server=$(cat "$SERVER" 2>/dev/null)
mask=$(cat /sys/devices/virtual/workqueue/cpumask)
echo -1 >/proc/sys/kernel/sched_rt_runtime_us
[ -z "$server" ] || echo 0 >"$SERVER"
echo 1 >/sys/devices/virtual/workqueue/cpumask

# beside_hog COMMAND...
beside_hog()
{
	"$(program hog)" 1 >/tmp/hog &
	hog=$!
	until grep -q running /tmp/hog; do
		kill -0 "$hog" || return 1
		sleep 0.1
	done
	"$@"
	status=$?
	kill "$hog" || status=1
	wait "$hog" 2>/dev/null
	return $status
}

# create FILE: prints how long the slowest VM took, to FILE
create()
{
	timeout 200 "$(program create_vms)" "$VMS" >"$1"
}

no_slower_than_twice_stock()
{
	ktap_print_msg "the slowest VM took $(cat /tmp/vms-uret) ns, stock $(cat /tmp/vms-stock) ns"
	[ -s /tmp/vms-uret ] && [ -s /tmp/vms-stock ] &&
		[ "$(cat /tmp/vms-uret)" -le $((2 * $(cat /tmp/vms-stock))) ]
}

add_and_remove_msr()
{
	modprobe uret || return 1
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		modprobe uret_sample_tsc_aux &&
			echo 4711 >/sys/kernel/debug/uret_sample_tsc_aux/value &&
			rmmod uret_sample_tsc_aux || return 1
	done
}

load_kvm uret=0 || skip_all "kvm does not load"
check "stock: VMs come and go" beside_hog create /tmp/vms-stock
unload
load_kvm uret=1
check "uret: VMs come and go" beside_hog create /tmp/vms-uret
check "in at most twice the time" no_slower_than_twice_stock
unload
check "an MSR comes and goes" beside_hog add_and_remove_msr
check "uret unloads" beside_hog rmmod uret

echo "$throttle" >/proc/sys/kernel/sched_rt_runtime_us
[ -z "$server" ] || echo "$server" >"$SERVER"
echo "$mask" >/sys/devices/virtual/workqueue/cpumask
check "no splat" no_splat
ktap_finished
