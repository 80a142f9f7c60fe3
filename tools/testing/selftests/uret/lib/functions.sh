#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Common functions of the shell tests of uret.  Sourced.

DIR="$(dirname "$(readlink -f "$0")")"
[ -d "$DIR/lib" ] || DIR="$DIR/.."
# shellcheck disable=SC2034 # for the tests
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
. "$DIR/lib/modules.sh"

ktap_print_header

skip_all()
{
	ktap_skip_all "$*"
	exit "$KSFT_SKIP"
}

[ "$(id -u)" = 0 ] || skip_all "must be run as root"
[ -d /sys/kernel/debug/kunit ] || mount -t debugfs none /sys/kernel/debug 2>/dev/null

[ -n "$VENDOR" ] || skip_all "this CPU has neither SVM nor VMX"

# program NAME: print the path of a program of the selftests, built in place or installed
program()
{
	for path in "$DIR/$1" "$DIR/x86/$1" "$DIR/bench/$1"; do
		[ -x "$path" ] && break
	done
	echo "$path"
}

# check NAME COMMAND...: one test, which passes if the command succeeds
check()
{
	name="$1"
	shift
	"$@"
	status=$?
	if [ $status = 0 ]; then
		ktap_test_pass "$name"
	else
		ktap_print_msg "$*: expected exit status 0, got $status"
		ktap_test_fail "$name"
	fi
}

# equal NAME EXPECTED GOT
equal()
{
	[ "$2" = "$3" ] && return 0
	ktap_print_msg "$1: expected $2, got $3"
	return 1
}

# above NAME LIMIT GOT
above()
{
	[ "$3" -gt "$2" ] && return 0
	ktap_print_msg "$1: expected more than $2, got $3"
	return 1
}

# at_least NAME LIMIT GOT
at_least()
{
	[ "$3" -ge "$2" ] && return 0
	ktap_print_msg "$1: expected at least $2, got $3"
	return 1
}

# refused COMMAND...: expect that the command fails
refused()
{
	"$@" 2>/dev/null || return 0
	ktap_print_msg "$*: expected a failure, got success"
	return 1
}

loaded()
{
	[ -d "/sys/module/$(echo "$1" | tr - _)" ]
}

# start_vm OPTION...: start run_vm in the background, which runs until stop_vm
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

# Stop the VM.  Fail if the guest or run_vm found a wrong value in a register.
stop_vm()
{
	kill "$VM_PID"
	if wait "$VM_PID"; then
		return 0
	fi
	sed 's/^/# /' "$out"
	return 1
}

# Mark the position in the kernel log where no_splat starts.
mark()
{
	echo "uret-mark" >/dev/kmsg
}

# Expect no splat in the kernel log since mark.
no_splat()
{
	! dmesg | sed -n '/uret-mark/h;//!H;$!d;x;p' |
		grep -Ff "$DIR/lib/splats" |
		sed 's/^/# /' | grep .
}

# counted FILE COLUMN: print the sum of the column over all CPUs
counted()
{
	awk -v column="$2" '
		NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) at = i }
		NR > 1 { sum += $at }
		END { print sum + 0 }' "$1"
}

# Print the parameter uret of kvm, Y or N.
kvm_uret()
{
	cat /sys/module/kvm/parameters/uret
}

# uses Y|N: whether kvm uses uret
uses()
{
	[ "$(kvm_uret)" = "$1" ]
}
