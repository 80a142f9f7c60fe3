/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest that reports all registers of the VMLOAD/VMSAVE state, sets the registers, executes
 * exits that the kernel handles, and reports the registers again.
 *
 *	rdi	struct guest_regs
 *	rsi	the number of exits
 *	r10	not 0: shut down at the end
 */
#include <asm/msr-index.h>

#include "guest.h"
#include "guest_regs.h"

	/* Store all registers in the array at \offset(%rdi). */
	.macro	report offset
	leaq	msrs(%rip), %r8
	xorl	%r9d, %r9d
1:	movl	(%r8, %r9, 4), %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	movq	%rax, \offset(%rdi, %r9, 8)
	incl	%r9d
	cmpl	$GUEST_NR_MSRS, %r9d
	jb	1b
	xorl	%eax, %eax
	movl	%fs, %eax
	movq	%rax, \offset + 8 * GUEST_FS(%rdi)
	movl	%gs, %eax
	movq	%rax, \offset + 8 * GUEST_GS(%rdi)
	sldtl	%eax
	movq	%rax, \offset + 8 * GUEST_LDTR(%rdi)
	strl	%eax
	movq	%rax, \offset + 8 * GUEST_TR(%rdi)
	.endm

	.section .rodata
	.globl	guest_regs_start, guest_regs_end
	.code64
guest_regs_start:
	report	GUEST_FOUND

	/* The selectors first, as a write to a selector changes the base. */
	movl	GUEST_SET + 8 * GUEST_FS(%rdi), %eax
	movl	%eax, %fs
	movl	GUEST_SET + 8 * GUEST_GS(%rdi), %eax
	movl	%eax, %gs
	lldt	GUEST_SET + 8 * GUEST_LDTR(%rdi)
	ltr	GUEST_SET + 8 * GUEST_TR(%rdi)
	leaq	msrs(%rip), %r8
	xorl	%r9d, %r9d
1:	movl	(%r8, %r9, 4), %ecx
	movl	GUEST_SET(%rdi, %r9, 8), %eax
	movl	GUEST_SET + 4(%rdi, %r9, 8), %edx
	wrmsr
	incl	%r9d
	cmpl	$GUEST_NR_MSRS, %r9d
	jb	1b

2:	testq	%rsi, %rsi
	jz	3f
	xorl	%eax, %eax
	cpuid
	decq	%rsi
	jmp	2b
3:
	report	GUEST_KEPT

	testq	%r10, %r10
	jz	4f
	lidt	no_idt(%rip)
	ud2
4:
	/* No memory is mapped there: KVM emulates the access, and must use the current FS base. */
	movb	%fs:0, %al
5:
	outb	%al, $GUEST_PORT_DONE
	jmp	5b

msrs:
	.long	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE
	.long	MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK
	.long	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP
no_idt:
	.word	0
	.quad	0
guest_regs_end:

	.section .note.GNU-stack, "", @progbits
