# shellcheck shell=sh disable=SC2154
# LAST_VM_VMS is lower with DEBUG=1, which makes the machine slow.
VMS=$LAST_VM_VMS $TESTS/last_vm_test.sh
