// SPDX-License-Identifier: GPL-2.0

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
