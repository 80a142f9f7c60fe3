/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest of the uret kselftests: a long-mode program that executes one operation N
 * times, and checks the guest's registers after each.
 *
 *	rdi	the operation, GUEST_*
 *	rsi	N
 *	rbp	the length of GUEST_HLT, in ticks of KVM's APIC bus
 *	r10	not 0: do not check registers, for measurements
 *	r12	the expected TSC_AUX
 *	r13	the expected KERNEL_GS_BASE, which changes after each operation
 *	r14	the expected result of SYSCALL: handler | remaining flags | CS << 32
 *
 * On a mismatch, guest_failed() in vm.c reads the expected and the actual value from registers.
 *
 * The program is copied to address GUEST_CODE, and runs in ring 0.
 */
#include <asm/msr-index.h>

#include "guest.h"
#include "marker.h"

#define X2APIC_EOI	0x80b
#define X2APIC_SVR	0x80f
#define X2APIC_LVTT	0x832
#define X2APIC_TMICT	0x838
#define X2APIC_TDCR	0x83e

/* Flags without an effect in this program.  DF does not work in all emulators. */
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
	movl	$MSR_IA32_APICBASE, %ecx
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
	movl	$MSR_KERNEL_GS_BASE, %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	cmpq	%r13, %rax
	jne	8f
	/* Set another value each time, to detect stale values. */
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
	/* A new TSC_AUX is effective at once ... */
	movb	$GUEST_BAD_TSC_AUX, %bl
	movl	$MSR_TSC_AUX, %ecx
	leal	1(%r12), %eax
	xorl	%edx, %edx
	wrmsr
	rdtscp
	decl	%ecx
	cmpl	%r12d, %ecx
	jne	8f
	movl	$MSR_TSC_AUX, %ecx
	movl	%r12d, %eax
	xorl	%edx, %edx
	wrmsr

	/* ... and a new LSTAR, with the other handler, once SYSCALL is enabled again. */
	movl	$MSR_EFER, %ecx
	rdmsr
	btrl	$_EFER_SCE, %eax
	wrmsr
	movl	$MSR_LSTAR, %ecx
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
	movl	$MSR_EFER, %ecx
	rdmsr
	btsl	$_EFER_SCE, %eax
	wrmsr
	movb	$GUEST_BAD_LSTAR, %bl
	pushfq
	syscall
	popfq
	xorb	%r14b, %r15b
	cmpb	$3, %r15b
	jne	8f
	movl	$MSR_LSTAR, %ecx
	movl	%r8d, %eax
	xorl	%edx, %edx
	wrmsr
	jmp	4b
8:
	movq	%rax, %rdx
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
 * An interrupt that arrives before HLT must end the wait, too: guest_irq skips HLT then.
 * The interrupt shadow of STI does not suffice, as not all emulators keep the shadow across
 * an exit.
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
