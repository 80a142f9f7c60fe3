// SPDX-License-Identifier: GPL-2.0

#include <asm/asm.h>
#include <asm/msr.h>

__rust_helper u64 rust_helper_rdmsrq(u32 msr)
{
	u64 value;

	rdmsrq(msr, value);
	return value;
}

__rust_helper void rust_helper_wrmsrq(u32 msr, u64 value)
{
	wrmsrq(msr, value);
}

__rust_helper int rust_helper_rdmsrq_safe(u32 msr, u64 *value)
{
	return rdmsrq_safe(msr, value);
}

__rust_helper int rust_helper_wrmsrq_safe(u32 msr, u64 value)
{
	return wrmsrq_safe(msr, value);
}

/*
 * A fault branches to a label.  Without a fault, this costs no test of an error code,
 * in contrast to wrmsrq_safe().
 */
__rust_helper int rust_helper_msr_write_safe_untraced(u32 msr, u64 value)
{
#ifdef CONFIG_PARAVIRT_XXL
	return wrmsrq_safe(msr, value);
#else
	asm goto("1: wrmsr\n\t"
		 _ASM_EXTABLE(1b, %l[fault])
		 : : "c" (msr), "a" ((u32)value), "d" ((u32)(value >> 32))
		 : "memory" : fault);
	return 0;
fault:
	return -EIO;
#endif
}

__rust_helper bool rust_helper_msr_writes_are_traced(void)
{
	return tracepoint_enabled(write_msr);
}
