#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Migrates a VM between KVM with and without deferred VMLOAD/VMSAVE state.

here="$(dirname "$(readlink -f "$0")")"
# "make install" installs the tests of x86/ in the parent directory.
[ -d "$here/lib" ] || here="$here/.."
. "$here/lib/functions.sh"

STATE="$(mktemp -u)"
LEG=0

# leg URET [DEFER]: load KVM with the parameters, and run the VM there
leg()
{
	LEG=$((LEG + 1))
	unload && load_kvm "$1" "$2" && "$(program vmload_migrate)" "$STATE" $LEG
}

unload
load_kvm uret=1 || skip_all "kvm does not load"
ktap_set_plan 7
mark

check "start with uret=1" leg uret=1
check "from uret=1 to uret=0" leg uret=0
check "from uret=0 to uret=0" leg uret=0
check "from uret=0 to uret=1" leg uret=1
check "from uret=1 to uret=1" leg uret=1
if [ "$VENDOR" = kvm-amd ]; then
	check "from uret=1 to uret=1 without deferral" leg uret=1 defer_vmload=0
else
	ktap_test_skip "from uret=1 to uret=1 without deferral: SVM only"
fi
check "no splat" no_splat

rm -f "$STATE"
unload
ktap_finished
