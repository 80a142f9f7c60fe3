#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What the shell tests of uret share. Sourced by them.

DIR="$(dirname "$(readlink -f "$0")")"
[ -d "$DIR/lib" ] || DIR="$DIR/.."
# shellcheck disable=SC2034 # for those that source this
URET=/sys/kernel/debug/uret
VM_PID=

for helpers in "$DIR/../kselftest/ktap_helpers.sh" "$DIR/ktap_helpers.sh"; do
	[ -e "$helpers" ] && break
done
if [ ! -e "$helpers" ]; then
	echo "1..0 # SKIP ktap_helpers.sh not found"
	exit 4
fi
. "$helpers"

ktap_print_header

skip_all()
{
	ktap_skip_all "$*"
	exit "$KSFT_SKIP"
}

[ "$(id -u)" = 0 ] || skip_all "must be run as root"
[ -d /sys/kernel/debug/kunit ] || mount -t debugfs none /sys/kernel/debug 2>/dev/null

case "$(grep -om1 -E '\<(svm|vmx)\>' /proc/cpuinfo)" in
svm) VENDOR=kvm-amd VENDOR_MODULE=kvm_amd ;;
vmx) VENDOR=kvm-intel VENDOR_MODULE=kvm_intel ;;
*) skip_all "this CPU has neither SVM nor VMX" ;;
esac

# program NAME: prints the path of a program of the selftests, built in place or installed
program()
{
	for path in "$DIR/$1" "$DIR/x86/$1" "$DIR/bench/$1"; do
		[ -x "$path" ] && break
	done
	echo "$path"
}

# check NAME COMMAND...: one test, passed if the command succeeds.
check()
{
	name="$1"
	shift
	if "$@"; then
		ktap_test_pass "$name"
	else
		ktap_test_fail "$name"
	fi
}

# Succeeds if the command fails.
refused()
{
	! "$@" 2>/dev/null
}

loaded()
{
	[ -d "/sys/module/$1" ]
}

# Unloads all of ours.
unload()
{
	for module in uret_trap_test "$VENDOR_MODULE" kvm uret_sample_tsc_aux uret_sample_notifier \
		      uret_kunit uret_msr_kunit uret; do
		loaded "$module" && { rmmod "$module" || return 1; }
	done
	return 0
}

# load_kvm [uret=0|uret=1]
load_kvm()
{
	modprobe kvm "$@" && modprobe "$VENDOR"
}

# Starts a VM in the background that runs until stop_vm.
start_vm()
{
	out="$(mktemp)"
	"$(program run_vm)" "$@" >"$out" 2>&1 &
	VM_PID=$!
	for _ in $(seq 300); do
		grep -q running "$out" && return 0
		[ -d "/proc/$VM_PID" ] || break
		sleep 0.1
	done
	sed 's/^/# /' "$out"
	return 1
}

# Stops it. Succeeds if nobody saw a register that was not its own.
stop_vm()
{
	kill "$VM_PID"
	if wait "$VM_PID"; then
		return 0
	fi
	sed 's/^/# /' "$out"
	return 1
}

# No splat since the mark was made.
mark()
{
	echo "uret-mark" >/dev/kmsg
}

no_splat()
{
	! dmesg | sed -n '/uret-mark/h;//!H;$!d;x;p' |
		grep -E 'BUG|WARNING|Oops|general protection|Call Trace' |
		sed 's/^/# /' | grep .
}

# counted FILE COLUMN: the sum over all CPUs
counted()
{
	awk -v column="$2" '
		NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) at = i }
		NR > 1 { sum += $at }
		END { print sum + 0 }' "$1"
}

# uses Y|N: whether kvm uses uret
uses()
{
	[ "$(cat /sys/module/kvm/parameters/uret)" = "$1" ]
}
