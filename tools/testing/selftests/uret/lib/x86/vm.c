// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <asm/msr-index.h>

#include "common.h"
#include "guest.h"
#include "vm.h"

#define MEM_SIZE	0x200000UL
#define PML4		0x1000UL
#define PDPT		0x2000UL
#define PD		0x3000UL
#define GDT		0x4000UL
#define IDT		0x5000UL
#define STACK		0x20000UL

#define NR_CPUID	256
#define IOAPIC_PIN	5

#define EFLAGS_AC	0x40000ULL
#define EFLAGS_ID	0x200000ULL

static int fail(struct vm *vm, const char *call)
{
	snprintf(vm->error, sizeof(vm->error), "%s: %s", call, strerror(errno));
	return -1;
}

static int mismatch(struct vm *vm, const char *name, uint64_t expected, uint64_t got)
{
	snprintf(vm->error, sizeof(vm->error), "guest: %s: expected %#llx, got %#llx", name,
		 (unsigned long long)expected, (unsigned long long)got);
	return -1;
}

static uint64_t guest_address(const char *label)
{
	return GUEST_CODE + (label - guest_start);
}

static void fill_memory(struct vm *vm)
{
	uint64_t *pml4 = vm->mem + PML4, *pdpt = vm->mem + PDPT;
	uint64_t *pd = vm->mem + PD, *gdt = vm->mem + GDT, *idt = vm->mem + IDT;
	uint64_t irq = guest_address(guest_irq);

	/* The first gigabyte, in large pages that are present and writable. */
	pml4[0] = PDPT | 3;
	pdpt[0] = PD | 3;
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = i << 21 | 0x83;

	/* Two pairs of a code and a data segment, one for each STAR. */
	gdt[1] = 0x00af9b000000ffffULL;
	gdt[2] = 0x00cf93000000ffffULL;
	gdt[3] = gdt[1];
	gdt[4] = gdt[2];

	/* Interrupt gates. */
	for (int vector = GUEST_VECTOR; vector <= GUEST_TURN_VECTOR; vector++)
		idt[2 * vector] = (irq & 0xffff) | 8 << 16 | 0x8e00ULL << 32 |
				  (irq >> 16 & 0xffff) << 48;

	memcpy(vm->mem + GUEST_CODE, guest_start, guest_end - guest_start);
}

static int set_cpuid(struct vm *vm, int kvm_fd)
{
	struct kvm_cpuid2 *cpuid;
	int ret;

	cpuid = calloc(1, sizeof(*cpuid) + NR_CPUID * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return fail(vm, "calloc");
	cpuid->nent = NR_CPUID;
	ret = ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (!ret)
		ret = ioctl(vm->vcpu_fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return ret ? fail(vm, "cpuid") : 0;
}

static int set_sregs(struct vm *vm)
{
	struct kvm_segment code = {
		.limit = ~0U, .selector = 0x08, .type = 11, .present = 1,
		.s = 1, .l = 1, .g = 1,
	};
	struct kvm_segment data = {
		.limit = ~0U, .selector = 0x10, .type = 3, .present = 1,
		.s = 1, .db = 1, .g = 1,
	};
	struct kvm_sregs sregs;

	if (ioctl(vm->vcpu_fd, KVM_GET_SREGS, &sregs))
		return fail(vm, "KVM_GET_SREGS");
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.ss = data;
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 5 * 8 - 1;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0xfff;
	sregs.cr0 = 0x80050033;		/* PG AM WP NE ET MP PE */
	sregs.cr3 = PML4;
	sregs.cr4 = 0x20;		/* PAE */
	sregs.efer = 0x501;		/* LMA LME SCE */
	if (ioctl(vm->vcpu_fd, KVM_SET_SREGS, &sregs))
		return fail(vm, "KVM_SET_SREGS");
	return 0;
}

static int set_msrs(struct vm *vm, int values)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[5];
	} msrs = { .head.nmsrs = 5 };
	uint64_t cs = values == 1 ? 0x08 : 0x18;
	uint64_t mask = values == 1 ? EFLAGS_ID : EFLAGS_AC;
	const char *handler = values == 1 ? guest_syscall_1 : guest_syscall_2;

	vm->tsc_aux = 0x1111 * values;
	vm->kernel_gs_base = 0x11110000ULL * values;
	vm->syscall = (values == 1 ? 1 : 2) | (~mask & (EFLAGS_AC | EFLAGS_ID)) | cs << 32;

	msrs.entries[0] = (struct kvm_msr_entry) {
		.index = MSR_STAR, .data = cs << 32 | 0x10ULL << 48 };
	msrs.entries[1] = (struct kvm_msr_entry) {
		.index = MSR_LSTAR, .data = guest_address(handler) };
	msrs.entries[2] = (struct kvm_msr_entry) {
		.index = MSR_SYSCALL_MASK, .data = mask };
	msrs.entries[3] = (struct kvm_msr_entry) {
		.index = MSR_KERNEL_GS_BASE, .data = vm->kernel_gs_base };
	msrs.entries[4] = (struct kvm_msr_entry) {
		.index = MSR_TSC_AUX, .data = vm->tsc_aux };
	if (ioctl(vm->vcpu_fd, KVM_SET_MSRS, &msrs) != 5)
		return fail(vm, "KVM_SET_MSRS");
	return 0;
}

static int create(struct vm *vm, int values, int kvm_fd)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEM_SIZE };

	vm->vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	if (vm->vm_fd < 0)
		return fail(vm, "KVM_CREATE_VM");
	/* Three pages that VMX may need, see KVM_SET_TSS_ADDR in Documentation/virt/kvm/api.rst. */
	if (ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, 0xfffbd000))
		return fail(vm, "KVM_SET_TSS_ADDR");
	if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP))
		return fail(vm, "KVM_CREATE_IRQCHIP");

	vm->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->mem == MAP_FAILED)
		return fail(vm, "mmap");
	region.userspace_addr = (uintptr_t)vm->mem;
	if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
		return fail(vm, "KVM_SET_USER_MEMORY_REGION");
	fill_memory(vm);

	vm->vcpu_fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu_fd < 0)
		return fail(vm, "KVM_CREATE_VCPU");
	vm->run_size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu_fd, 0);
	if (vm->run == MAP_FAILED)
		return fail(vm, "mmap");

	if (set_cpuid(vm, kvm_fd) || set_sregs(vm) || set_msrs(vm, values))
		return -1;
	return 0;
}

int vm_create(struct vm *vm, int values)
{
	int kvm_fd, ret;

	memset(vm, 0, sizeof(*vm));
	vm->vm_fd = -1;
	vm->vcpu_fd = -1;
	vm->turn_fd = -1;
	vm->timer = GUEST_TIMER;
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0)
		return fail(vm, "/dev/kvm");
	ret = create(vm, values, kvm_fd);
	close(kvm_fd);
	if (ret)
		vm_destroy(vm);
	return ret;
}

int vm_turn_fd(struct vm *vm)
{
	struct kvm_ioeventfd port = {
		.addr = GUEST_PORT_TURN,
		.len = 1,
		.flags = KVM_IOEVENTFD_FLAG_PIO,
	};

	if (vm->turn_fd >= 0)
		return vm->turn_fd;
	port.fd = eventfd(0, EFD_CLOEXEC);
	if (port.fd < 0)
		return fail(vm, "eventfd");
	if (ioctl(vm->vm_fd, KVM_IOEVENTFD, &port)) {
		close(port.fd);
		return fail(vm, "KVM_IOEVENTFD");
	}
	vm->turn_fd = port.fd;
	return vm->turn_fd;
}

/* Set up the pin: edge-triggered, to the only CPU, not masked. */
static int set_ioapic(struct vm *vm)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	if (ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &chip))
		return fail(vm, "KVM_GET_IRQCHIP");
	chip.chip.ioapic.redirtbl[IOAPIC_PIN].bits = GUEST_TURN_VECTOR;
	if (ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &chip))
		return fail(vm, "KVM_SET_IRQCHIP");
	return 0;
}

int vm_wake_by(struct vm *vm, int fd, enum vm_irq irq)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} routing = { .head.nr = 1 };
	struct kvm_irqfd irqfd = { .fd = fd };

	if (irq == VM_IRQ_MSI) {
		routing.entry.type = KVM_IRQ_ROUTING_MSI;
		routing.entry.u.msi.address_lo = 0xfee00000;
		routing.entry.u.msi.data = GUEST_TURN_VECTOR;
	} else {
		routing.entry.type = KVM_IRQ_ROUTING_IRQCHIP;
		routing.entry.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		routing.entry.u.irqchip.pin = IOAPIC_PIN;
		if (set_ioapic(vm))
			return -1;
	}
	if (ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, &routing))
		return fail(vm, "KVM_SET_GSI_ROUTING");
	if (ioctl(vm->vm_fd, KVM_IRQFD, &irqfd))
		return fail(vm, "KVM_IRQFD");
	return 0;
}

int vm_connect_ring(struct vm *const *vms, int nr)
{
	for (int i = 0; i < nr; i++) {
		struct vm *next = vms[(i + 1) % nr];
		int fd = vm_turn_fd(vms[i]);

		if (fd >= 0 && !vm_wake_by(next, fd, VM_IRQ_MSI))
			continue;
		next = fd < 0 ? vms[i] : next;
		memmove(vms[0]->error, next->error, sizeof(next->error));
		return -1;
	}
	return 0;
}

static int guest_failed(struct vm *vm)
{
	uint8_t code = *((uint8_t *)vm->run + vm->run->io.data_offset);
	struct kvm_regs regs;

	if (ioctl(vm->vcpu_fd, KVM_GET_REGS, &regs))
		return fail(vm, "KVM_GET_REGS");
	switch (code) {
	case GUEST_BAD_TSC_AUX:
		return mismatch(vm, "TSC_AUX", regs.r12, regs.rcx);
	case GUEST_BAD_KERNEL_GS_BASE:
		return mismatch(vm, "KERNEL_GS_BASE", regs.r13, regs.rdx);
	case GUEST_BAD_SYSCALL:
		return mismatch(vm, "SYSCALL: handler | flags | CS << 32", regs.r14, regs.r15);
	case GUEST_BAD_LSTAR:
		/* The other handler: 1 for 2, or 2 for 1.  guest.S has XORed r15 with r14. */
		return mismatch(vm, "LSTAR: handler", (regs.r14 & 0xff) ^ 3,
				(regs.r15 ^ regs.r14) & 0xff);
	default:
		snprintf(vm->error, sizeof(vm->error), "guest: unknown failure %u", code);
		return -1;
	}
}

int vm_run(struct vm *vm, int op, uint64_t times)
{
	struct kvm_regs regs = {
		.rip = GUEST_CODE, .rsp = STACK, .rflags = 2,
		.rdi = op, .rsi = times, .rbp = vm->timer, .r10 = vm->lean,
		.r12 = vm->tsc_aux, .r13 = vm->kernel_gs_base, .r14 = vm->syscall,
	};
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };

	/* A vCPU that was stopped while halted would still be halted. */
	if (ioctl(vm->vcpu_fd, KVM_SET_MP_STATE, &runnable))
		return fail(vm, "KVM_SET_MP_STATE");
	if (ioctl(vm->vcpu_fd, KVM_SET_REGS, &regs))
		return fail(vm, "KVM_SET_REGS");

	for (;;) {
		if (ioctl(vm->vcpu_fd, KVM_RUN, 0)) {
			if (errno == EINTR && vm->stop_on_signal)
				return 0;
			if (errno == EINTR)
				continue;
			return fail(vm, "KVM_RUN");
		}
		if (vm->run->exit_reason != KVM_EXIT_IO) {
			snprintf(vm->error, sizeof(vm->error),
				 "expected KVM_EXIT_IO, got exit reason %u", vm->run->exit_reason);
			return -1;
		}
		switch (vm->run->io.port) {
		case GUEST_PORT_OP:
			break;
		case GUEST_PORT_BAD:
			return guest_failed(vm);
		default:
			if (ioctl(vm->vcpu_fd, KVM_GET_REGS, &regs))
				return fail(vm, "KVM_GET_REGS");
			vm->kernel_gs_base = regs.r13;
			return 0;
		}
	}
}

void vm_destroy(struct vm *vm)
{
	/* A mapping of the vCPU holds a reference to the VM. */
	if (vm->run && vm->run != MAP_FAILED)
		munmap(vm->run, vm->run_size);
	if (vm->turn_fd >= 0)
		close(vm->turn_fd);
	if (vm->vcpu_fd >= 0)
		close(vm->vcpu_fd);
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	if (vm->mem && vm->mem != MAP_FAILED)
		munmap(vm->mem, MEM_SIZE);
	vm->run = NULL;
	vm->mem = NULL;
	vm->turn_fd = -1;
	vm->vcpu_fd = -1;
	vm->vm_fd = -1;
}
