#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A VM moves between a KVM that defers what VMLOAD loads, and one that does not.

here="$(dirname "$(readlink -f "$0")")"
# "make install" leaves out the directory x86.
[ -d "$here/lib" ] || here="$here/.."
. "$here/lib/functions.sh"

STATE="$(mktemp -u)"
LEG=0

# leg PARAMETER...: kvm is loaded with it, and the VM runs there for a while
leg()
{
	LEG=$((LEG + 1))
	unload && load_kvm "$1" "$2" && "$(program vmload_migrate)" "$STATE" $LEG
}

# load_kvm URET [DEFER]: with a parameter that only SVM has
load_kvm()
{
	modprobe kvm "$1" && modprobe "$VENDOR" ${2:+"$2"}
}

unload
load_kvm uret=1 || skip_all "kvm does not load"
ktap_set_plan 7
mark

check "it starts with uret=1" leg uret=1
check "from uret=1 to uret=0" leg uret=0
check "from uret=0 to uret=0" leg uret=0
check "from uret=0 to uret=1" leg uret=1
check "from uret=1 to uret=1" leg uret=1
if [ "$VENDOR" = kvm-amd ]; then
	check "from uret=1 to uret=1 without deferral" leg uret=1 defer_vmload=0
else
	ktap_test_skip "from uret=1 to uret=1 without deferral: not on VMX"
fi
check "no splat" no_splat

rm -f "$STATE"
unload
ktap_finished
