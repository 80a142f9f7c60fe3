#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Creates and destroys VMs, adds and removes an MSR, and unloads uret on one CPU, while a task
# that never yields runs on the other CPU.  None of these operations may wait for the other CPU.

. "$(dirname "$(readlink -f "$0")")/lib/functions.sh"

VMS=${VMS:-100}
SERVER=/sys/kernel/debug/sched/fair_server/cpu1/runtime

[ "$(grep -c '^processor' /proc/cpuinfo)" = 2 ] || skip_all "only one CPU, or more than two"
ktap_set_plan 6
mark
unload
taskset -p 1 $$ >/dev/null

# Disable the RT throttling and the fair server, so that no other task runs beside a real-time task.
throttle=$(cat /proc/sys/kernel/sched_rt_runtime_us)
server=$(cat "$SERVER" 2>/dev/null)
mask=$(cat /sys/devices/virtual/workqueue/cpumask)
echo -1 >/proc/sys/kernel/sched_rt_runtime_us
[ -z "$server" ] || echo 0 >"$SERVER"
echo 1 >/sys/devices/virtual/workqueue/cpumask

# Wait until the kernel threads of CPU 1 have been idle for 0.3 s, or for at most 10 s.
settle()
{
	busy='^[0-9]+ \((kworker/1:[^)]*|ksoftirqd/1)\) [RD]'
	quiet=0
	for _ in $(seq 100); do
		sleep 0.1
		quiet=$((quiet + 1))
		! grep -qE "$busy" /proc/[0-9]*/stat || quiet=0
		[ $quiet -lt 3 ] || return 0
	done 2>/dev/null
}

# beside_hog COMMAND...: run the command while hog runs on CPU 1
beside_hog()
{
	# A kernel thread that hog preempts keeps its locks.  do_free_init(), for example, holds the
	# lock of init_mm, which each change of a static key needs.
	settle
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

# create FILE: write the time of the slowest VM to the file, in ns
create()
{
	timeout 200 "$(program create_vms)" "$VMS" >"$1"
}

no_slower_than_twice_stock()
{
	ktap_print_msg "slowest VM: expected at most twice $(cat /tmp/vms-stock) ns as on stock," \
		"got $(cat /tmp/vms-uret) ns"
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
check "stock: create and destroy VMs" beside_hog create /tmp/vms-stock
unload
load_kvm uret=1
check "uret: create and destroy VMs" beside_hog create /tmp/vms-uret
check "uret takes at most twice the time of stock" no_slower_than_twice_stock
unload
check "add and remove an MSR" beside_hog add_and_remove_msr
check "unload uret" beside_hog rmmod uret

echo "$throttle" >/proc/sys/kernel/sched_rt_runtime_us
[ -z "$server" ] || echo "$server" >"$SERVER"
echo "$mask" >/sys/devices/virtual/workqueue/cpumask
check "no splat" no_splat
ktap_finished
