// SPDX-License-Identifier: GPL-2.0

#include <linux/smp.h>

__rust_helper void rust_helper_on_each_cpu(smp_call_func_t func, void *info,
					   int wait)
{
	on_each_cpu(func, info, wait);
}
