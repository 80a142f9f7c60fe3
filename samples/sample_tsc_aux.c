// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sample: uret without KVM.
 *
 * RDTSCP and RDPID return the MSR TSC_AUX, where the kernel stores the numbers of
 * the CPU and of the NUMA node for user space.  Kernel mode does not use TSC_AUX,
 * so that the MSR can hold any value until the CPU returns to user mode.  This
 * module sets TSC_AUX to other values.
 *
 * Example, as root, with debugfs mounted:
 *
 *	# insmod uret.ko; insmod uret_sample_tsc_aux.ko
 *	# cd /sys/kernel/debug/uret_sample_tsc_aux
 *	# echo 4711 > value	sets TSC_AUX of this CPU, and reads it by RDMSR
 *	# cat seen		the value that RDMSR has returned
 *	4711
 *	# grep . ../uret/counters
 *
 * User space never observes 4711: the return to user mode restores the host's value.
 */

#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/uret.h>
#include <asm/msr.h>

/* The slot of TSC_AUX in the registry.  The address is the owner. */
static int slot;

static struct dentry *dir;
static u64 seen;

static int value_set(void *data, u64 value)
{
	int ret;

	/* TSC_AUX has 32 bits.  Some CPUs ignore the other bits without a fault. */
	if (value >> 32)
		return -EINVAL;

	/* Each CPU has a TSC_AUX: do not migrate. */
	preempt_disable();

	/*
	 * Set all bits.  uret does not write the MSR if TSC_AUX holds the value
	 * already.  If the value is not the host's, uret restores the host's
	 * value when this CPU next returns to user mode, in this task or in
	 * another task.
	 */
	ret = uret_set(slot, value, ~0ULL);

	/* Read the MSR itself, to show the effect of uret_set(). */
	rdmsrq(MSR_TSC_AUX, seen);

	preempt_enable();

	/* -EIO if the CPU refuses the value: TSC_AUX then keeps the previous value. */
	return ret;
}
DEFINE_DEBUGFS_ATTRIBUTE(value_fops, NULL, value_set, "%llu\n");

static int seen_get(void *data, u64 *value)
{
	*value = seen;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(seen_fops, seen_get, NULL, "%llu\n");

static int __init sample_init(void)
{
	/*
	 * The owner is any unique address, here &slot.  An MSR has one owner:
	 * -EBUSY if KVM has added TSC_AUX before, and KVM gets -EBUSY if this
	 * module has.
	 */
	slot = uret_add(&slot, MSR_TSC_AUX);
	if (slot < 0)
		return slot;

	dir = debugfs_create_dir("uret_sample_tsc_aux", NULL);
	debugfs_create_file_unsafe("value", 0200, dir, NULL, &value_fops);
	debugfs_create_file_unsafe("seen", 0400, dir, NULL, &seen_fops);
	return 0;
}
module_init(sample_init);

static void __exit sample_exit(void)
{
	/* First, the files: no task can set the slot any more. */
	debugfs_remove_recursive(dir);
	/* Then, the slot: restores the host's value on each dirty CPU. */
	uret_del(&slot);
}
module_exit(sample_exit);

MODULE_AUTHOR("uret developers");
MODULE_DESCRIPTION("Sample: another TSC_AUX while in the kernel");
MODULE_LICENSE("GPL");
