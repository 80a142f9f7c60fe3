# shellcheck shell=sh disable=SC2154
# With NMIs and machine checks from outside; the module reports each to the harness.
storm()
{
	modprobe uret_trap_test breakpoint=kvm_emulate_cpuid port=0x402 && $TESTS/nmi_stress_test.sh "$(parameter nmis)"
}
with_kvm storm
