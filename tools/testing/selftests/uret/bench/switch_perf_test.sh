#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Measures the cost of switches with uret=0 (stock's code) and with uret=1, and prints the
# counts for the harness in uret's own repository.  On a kernel without the patches, measures
# stock only.
#
#	switch_perf_test.sh count|time [OPERATIONS [BATCHES]]
#	MIGRATE=1 switch_perf_test.sh ...	only the migration of a vCPU, on two CPUs
#	SCENARIOS="..." switch_perf_test.sh ...	only these scenarios, see switch_perf_test -l
#
# Use "count" in an emulator that counts instructions, "time" on a CPU with a TSC.

here=$(dirname "$(readlink -f "$0")")
lib=$here/lib
[ -d "$lib" ] || lib=$here/../lib
. "$lib/modules.sh"
nested=${NESTED:-$here/../../kvm/x86/nested_entry_perf_test}
case $1 in
count) how=-c ;;
time) how=-t ;;
*)
	echo "usage: switch_perf_test.sh count|time [OPERATIONS [BATCHES]]" >&2
	exit 2
	;;
esac
operations=${2:-1000}
batches=${3:-11}

fail()
{
	echo "switch_perf_test.sh: $*" >&2
	exit 1
}

unload_all()
{
	# shellcheck disable=SC2154 # set by unload
	unload || fail "$module is in use: end all VMs"
}

# bench FACTOR SCENARIO...: with -t, execute FACTOR times as many operations, for scenarios that
# take little time
bench()
{
	factor=$1
	[ $how = -t ] || factor=1
	shift
	"$here/switch_perf_test" $how -n $((operations * factor)) -b "$batches" "$@" ||
		fail "a scenario failed in mode $mode, state $state: $*"
}

# load_kvm PARAMETERS [VENDOR]
load_kvm()
{
	# shellcheck disable=SC2086
	modprobe kvm $1 || fail "cannot load kvm: see the kernel's log"
	[ -z "$2" ] || modprobe "$2" || fail "cannot load $2: see the kernel's log"
	# Disable polling, so that a vCPU that halts goes idle.
	echo 0 >/sys/module/kvm/parameters/halt_poll_ns
}

# state MODE STATE: print the mode and the state of the following measurements
state()
{
	mode=$1
	state=$2
	echo "STATE $mode $state"
}

registry()
{
	slots="1 2 4 7"
	# Real CPUs have no further MSRs that uret_bench can use.
	[ $how = -c ] && slots="$slots 8 16 $1"
	for n in $slots; do
		bench 50 "set-equal:$n" "set-new:$n"
	done
	bench 5 restore:0/7 restore:1/7 restore:4/7 restore:7/7
}

guests()
{
	if [ -n "${SCENARIOS:-}" ]; then
		# shellcheck disable=SC2086
		bench 1 $SCENARIOS
		return
	fi
	bench 1 exit-to-user exit-in-kernel guest-idle-guest guest-thread-guest guest-user-guest \
	      two-guests-equal two-guests-different
	bench 10 syscall-beside-vm context-switch-beside-vm
	bench 1 turns:1 turns:2 turns:4 turns:8 turns:16 turns:32 turns:64
	[ ! -x "$nested" ] || "$nested" $how -n "$operations" -b "$batches" ||
		fail "nested entries failed"
}

migration()
{
	bench 1 migrate-after-idle
	[ $how = -t ] || bench 1 wake-on-other-cpu
}

# compare FUNCTION: measure with uret=0 and with uret=1
compare()
{
	for uret in 0 1; do
		load_kvm uret=$uret $VENDOR
		[ $uret = 0 ] && state stock vm || state uret vm
		"$1"
		unload_all
	done
}

# Whether KVM is built in.  If so, the kernel command line sets the parameter uret.
built_in()
{
	[ -d /sys/module/kvm/parameters ] && ! grep -q "^kvm " /proc/modules
}

host()
{
	state "$@"
	# The static key of the notifiers is disabled ten seconds after the last VM was destroyed.
	sleep 11
	bench 10 syscall context-switch
}

[ "$(id -u)" = 0 ] || fail "root is required, to load modules and to read debugfs"
[ -x "$here/switch_perf_test" ] ||
	fail "build the selftests first: make -C tools/testing/selftests TARGETS=uret"
built_in || unload_all
echo "MACHINE $VENDOR $(sed -n '/model name/ { s/.*: //p; q }' /proc/cpuinfo)"

if built_in; then
	[ "$(cat /sys/module/kvm/parameters/uret)" = Y ] && state uret vm || state stock vm
	guests
	exit
fi
load_kvm ""
if [ ! -e /sys/module/kvm/parameters/uret ]; then
	unload_all
	[ -n "${MIGRATE:-}${SCENARIOS:-}" ] || host unpatched absent
	load_kvm "" $VENDOR
	state unpatched vm
	if [ -n "${MIGRATE:-}" ]; then migration; else guests; fi
	unload_all
	exit
fi
unload_all
if [ -n "${MIGRATE:-}" ]; then
	compare migration
	exit
fi
if [ -n "${SCENARIOS:-}" ]; then
	compare guests
	exit
fi

host stock absent
load_kvm uret=0
modprobe uret_bench stock=1 || fail "cannot load uret_bench: see the kernel's log"
state stock registry
registry ""
unload_all
load_kvm uret=0 $VENDOR
state stock vm
guests
unload_all

modprobe uret || fail "cannot load uret: see the kernel's log"
host uret loaded
modprobe uret_bench || fail "cannot load uret_bench: see the kernel's log"
state uret registry
[ $how = -t ] || { [ $VENDOR != kvm-amd ] || bench 1 calibrate; }
registry "32 64"
rmmod uret_bench
load_kvm uret=1 $VENDOR
state uret vm
guests
host uret after-vms
unload_all
