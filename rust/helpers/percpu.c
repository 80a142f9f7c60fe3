// SPDX-License-Identifier: GPL-2.0

#include <linux/cpumask.h>
#include <linux/irqflags.h>
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

/*
 * One instruction, so that an interrupt comes either before or after the change.  this_cpu_or()
 * would need the address of the per-CPU variable, and not that of this CPU's copy.
 */
__rust_helper void rust_helper_local_mask_set(unsigned long *mask, unsigned long bits)
{
#ifdef CONFIG_X86_64
	asm volatile("orq %1, %0" : "+m" (*mask) : "er" (bits) : "memory");
#else
	guard(irqsave)();
	WRITE_ONCE(*mask, *mask | bits);
#endif
}

__rust_helper void rust_helper_local_mask_clear(unsigned long *mask, unsigned long bits)
{
#ifdef CONFIG_X86_64
	asm volatile("andq %1, %0" : "+m" (*mask) : "er" (~bits) : "memory");
#else
	guard(irqsave)();
	WRITE_ONCE(*mask, *mask & ~bits);
#endif
}
