// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measures nested VM-Enters from L1 to L2, and VM-Exits from L2 to L1.
 *
 *	nested_entry_perf_test [-c|-t] [-n N] [-b BATCHES]
 *
 * The options and the output are those of
 * tools/testing/selftests/uret/bench/switch_perf_test.c, for a scenario "nested-entry".
 * L2 executes hypercalls in a loop, and each hypercall exits to L1. L1 enables MSR
 * bitmaps, which KVM merges with the bitmaps of L0.
 */
#include <sched.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "vmx.h"
#include "svm_util.h"
#include "../uret/lib/x86/marker.h"

#define NAME "nested-entry"

static void l2_guest_code(void)
{
	for (;;)
		asm volatile("vmcall");
}

static void l1_svm_code(struct svm_test_data *svm, u64 n, u64 bitmap)
{
	generic_svm_setup(svm, l2_guest_code);
	/* Intercept MSRs, as hypervisors do, so that KVM merges the bitmaps. */
	svm->vmcb->control.intercept |= BIT_ULL(INTERCEPT_MSR_PROT);
	svm->vmcb->control.msrpm_base_pa = bitmap;
	for (;;) {
		for (u64 i = 0; i <= n; i++) {
			marker('O');
			run_guest(svm->vmcb, svm->vmcb_gpa);
			GUEST_ASSERT_EQ(svm->vmcb->control.exit_code, SVM_EXIT_VMMCALL);
		}
		GUEST_SYNC(0);
	}
}

static void l1_vmx_code(struct vmx_pages *vmx, u64 n, u64 bitmap)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_guest_code);
	GUEST_ASSERT(!vmwrite(MSR_BITMAP, bitmap));
	GUEST_ASSERT(!vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			      vmreadz(CPU_BASED_VM_EXEC_CONTROL) | CPU_BASED_USE_MSR_BITMAPS));
	GUEST_ASSERT(!vmlaunch());
	for (;;) {
		for (u64 i = 0; i <= n; i++) {
			marker('O');
			GUEST_ASSERT(!vmresume());
		}
		GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_VMCALL);
		GUEST_SYNC(0);
	}
}

static void l1_guest_code(void *data, u64 n, u64 bitmap)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		l1_vmx_code(data, n, bitmap);
	else
		l1_svm_code(data, n, bitmap);
}

static struct kvm_vcpu *create(u64 n)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, l1_guest_code);
	/* An empty bitmap: L2 may access all MSRs.  SVM needs two pages, VMX one. */
	gva_t bitmap = vm_alloc_pages(vm, 2);
	gva_t nested;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		vcpu_alloc_vmx(vm, &nested);
	else
		vcpu_alloc_svm(vm, &nested);
	memset(addr_gva2hva(vm, bitmap), 0, 2 * getpagesize());
	vcpu_args_set(vcpu, 3, nested, n, addr_gva2gpa(vm, bitmap));
	return vcpu;
}

static u64 operate(struct kvm_vcpu *vcpu)
{
	u64 before = rdtsc();
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	case UCALL_SYNC:
		break;
	default:
		TEST_FAIL("unexpected ucall %lu", uc.cmd);
	}
	return rdtsc() - before;
}

int main(int argc, char *argv[])
{
	struct sched_param param = { .sched_priority = 1 };
	int opt, batches = 3;
	bool count = false;
	u64 n = 100;

	while ((opt = getopt(argc, argv, "ctn:b:")) != -1) {
		switch (opt) {
		case 'c':
			count = true;
			break;
		case 't':
			break;
		case 'n':
			n = atoi_positive("Number of operations", optarg);
			break;
		case 'b':
			batches = atoi_positive("Number of batches", optarg);
			break;
		default:
			TEST_FAIL("usage: %s [-c|-t] [-n N] [-b BATCHES]", argv[0]);
		}
	}
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM) || kvm_cpu_has(X86_FEATURE_VMX));
	sched_setscheduler(0, SCHED_FIFO, &param);

	if (count) {
		struct kvm_vcpu *vcpu = create(n);

		operate(vcpu);
		printf("COUNT " NAME " %lu\n", n);
		fflush(stdout);
		marker('B');
		operate(vcpu);
		marker('E');
		kvm_vm_free(vcpu->vm);
		return 0;
	}
	for (int factor = 1; factor <= 2; factor++) {
		struct kvm_vcpu *vcpu = create(n * factor);

		operate(vcpu);
		for (int i = 0; i < batches; i++)
			printf("TICKS " NAME " %lu %lu\n", n * factor, operate(vcpu));
		kvm_vm_free(vcpu->vm);
	}
	return 0;
}
