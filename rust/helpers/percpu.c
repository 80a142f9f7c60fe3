// SPDX-License-Identifier: GPL-2.0

#include <linux/cpumask.h>
#include <linux/percpu.h>

__rust_helper void *rust_helper_raw_cpu_ptr(const void *ptr)
{
	return raw_cpu_ptr((const void __percpu __force *)ptr);
}

__rust_helper void *rust_helper_per_cpu_ptr(const void *ptr, unsigned int cpu)
{
	return per_cpu_ptr((const void __percpu __force *)ptr, cpu);
}

__rust_helper bool rust_helper_cpu_possible(unsigned int cpu)
{
	return cpu_possible(cpu);
}
