/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest of the uret kselftests: a long-mode program that does one kind of
 * thing N times, and after each looks at the registers that only it may have.
 *
 *	rdi	what to do: GUEST_*
 *	rsi	N
 *	rbp	how long GUEST_HLT lasts, in ticks of KVM's APIC bus
 *	r10	not 0: leave the looking out, for measurements
 *	r12	what TSC_AUX should be
 *	r13	what KERNEL_GS_BASE should be; grows
 *	r14	what SYSCALL should lead to: handler | flags left | CS << 32
 *
 * It runs at address GUEST_CODE, to which it is copied, in ring 0.
 */
#include "guest.h"
#include "marker.h"

#define APIC_BASE	0x01b
#define X2APIC_EOI	0x80b
#define X2APIC_SVR	0x80f
#define X2APIC_LVTT	0x832
#define X2APIC_TMICT	0x838
#define X2APIC_TDCR	0x83e
#define KERNEL_GS_BASE	0xc0000102
#define TSC_AUX		0xc0000103
#define LSTAR		0xc0000082
#define EFER		0xc0000080
#define EFER_SCE	0

/* Flags that do nothing here; DF would do, but not in all emulators. */
#define AC_AND_ID	0x240000

	.macro	wrmsr_eax msr, value
	movl	$\msr, %ecx
	movl	\value, %eax
	xorl	%edx, %edx
	wrmsr
	.endm

	.section .rodata
	.globl	guest_start, guest_end, guest_irq, guest_syscall_1, guest_syscall_2
	.code64
guest_start:
	cmpl	$GUEST_HLT, %edi
	jb	1f
	movl	$APIC_BASE, %ecx
	rdmsr
	orl	$0xc00, %eax
	wrmsr
	wrmsr_eax X2APIC_SVR, $0x1ff
	wrmsr_eax X2APIC_TDCR, $0xb
	wrmsr_eax X2APIC_LVTT, $GUEST_VECTOR
1:
	marker	'O'
	testq	%rsi, %rsi
	jz	9f
	cmpl	$GUEST_PIO, %edi
	je	2f
	cmpl	$GUEST_CPUID, %edi
	je	3f
	cmpl	$GUEST_TURN, %edi
	je	6f
	ja	7f
	wrmsr_eax X2APIC_TMICT, %ebp
	call	idle
	jmp	4f
6:	outb	%al, $GUEST_PORT_TURN
	call	idle
	jmp	4f
7:	cmpl	$GUEST_WRMSR, %edi
	je	10f
	call	idle
	outb	%al, $GUEST_PORT_TURN
	jmp	4f
2:	outb	%al, $GUEST_PORT_OP
	jmp	4f
3:	xorl	%eax, %eax
	cpuid
4:
	testq	%r10, %r10
	jnz	5f
	movb	$GUEST_BAD_TSC_AUX, %bl
	rdtscp
	cmpl	%r12d, %ecx
	jne	8f

	movb	$GUEST_BAD_KERNEL_GS_BASE, %bl
	movl	$KERNEL_GS_BASE, %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	cmpq	%r13, %rax
	jne	8f
	/* Another value each time, so that an old one shows. */
	addq	$8, %r13
	movl	%r13d, %eax
	movq	%r13, %rdx
	shrq	$32, %rdx
	wrmsr

	movb	$GUEST_BAD_SYSCALL, %bl
	pushfq
	pushfq
	orq	$AC_AND_ID, (%rsp)
	popfq
	syscall
	popfq
	cmpq	%r14, %r15
	jne	8f
5:
	decq	%rsi
	jmp	1b
10:
	/* What it sets is there at once ... */
	movb	$GUEST_BAD_TSC_AUX, %bl
	movl	$TSC_AUX, %ecx
	leal	1(%r12), %eax
	xorl	%edx, %edx
	wrmsr
	rdtscp
	decl	%ecx
	cmpl	%r12d, %ecx
	jne	8f
	movl	$TSC_AUX, %ecx
	movl	%r12d, %eax
	xorl	%edx, %edx
	wrmsr

	/* ... or when it has a use for it again: the other handler, 1 for 2 or 2 for 1. */
	movl	$EFER, %ecx
	rdmsr
	btrl	$EFER_SCE, %eax
	wrmsr
	movl	$LSTAR, %ecx
	rdmsr
	movl	%eax, %r8d
	leaq	guest_syscall_1(%rip), %r9
	leaq	guest_syscall_2(%rip), %rax
	addq	%r9, %rax
	subq	%r8, %rax
	xorl	%edx, %edx
	wrmsr
	xorl	%eax, %eax
	cpuid
	movl	$EFER, %ecx
	rdmsr
	btsl	$EFER_SCE, %eax
	wrmsr
	movb	$GUEST_BAD_SYSCALL, %bl
	pushfq
	syscall
	popfq
	xorb	%r14b, %r15b
	cmpb	$3, %r15b
	jne	8f
	movl	$LSTAR, %ecx
	movl	%r8d, %eax
	xorl	%edx, %edx
	wrmsr
	jmp	4b
8:
	movq	%rax, %r15
	movb	%bl, %al
	outb	%al, $GUEST_PORT_BAD
9:
	outb	%al, $GUEST_PORT_DONE
	jmp	9b

guest_syscall_1:
	movl	$1, %eax
	jmp	5f
guest_syscall_2:
	movl	$2, %eax
5:
	pushfq
	popq	%r15
	andl	$AC_AND_ID, %r15d
	orq	%rax, %r15
	xorl	%eax, %eax
	movl	%cs, %eax
	shlq	$32, %rax
	orq	%rax, %r15
	jmp	*%rcx

/*
 * An interrupt that comes before the HLT must not let it wait for another one.
 * An exit may end STI's protection against that: not all emulators keep it.
 */
idle:
	sti
idle_hlt:
	hlt
idle_done:
	cli
	ret

guest_irq:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	leaq	idle_hlt(%rip), %rax
	cmpq	%rax, 24(%rsp)
	jne	1f
	leaq	idle_done(%rip), %rax
	movq	%rax, 24(%rsp)
1:
	wrmsr_eax X2APIC_EOI, $0
	popq	%rdx
	popq	%rcx
	popq	%rax
	iretq
guest_end:

	.section .note.GNU-stack, "", @progbits
