# shellcheck shell=sh disable=SC2154
# The harness injects NMIs and machine checks. The module reports each to the harness, at the port.
storm()
{
	load_trap_test 0x402 && $TESTS/nmi_stress_test.sh "$(parameter nmis)"
}
with_kvm storm
