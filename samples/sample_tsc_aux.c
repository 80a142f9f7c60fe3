// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sample: uret without KVM.
 *
 * TSC_AUX is what RDTSCP and RDPID return beside the time: the number of the
 * CPU and of its NUMA node, put there by the kernel for user space.  The kernel
 * itself does not look at it, so it may hold anything until the CPU returns to
 * user mode.  This module lets it.
 *
 * Try it, as root, with debugfs mounted:
 *
 *	# insmod uret.ko; insmod uret_sample_tsc_aux.ko
 *	# cd /sys/kernel/debug/uret_sample_tsc_aux
 *	# echo 4711 > value	TSC_AUX of this CPU is 4711 now, and...
 *	# cat seen		...this is what RDMSR read right after that;
 *	4711			user space never sees it
 *	# grep . ../uret/counters
 */

#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/uret.h>
#include <asm/msr.h>

/* The slot of TSC_AUX, once the registry has given us one. */
static int slot;

static struct dentry *dir;
static u64 seen;

static int value_set(void *data, u64 value)
{
	int ret;

	/* It has 32 bits; some CPUs ignore the others, which would go unnoticed. */
	if (value >> 32)
		return -EINVAL;

	/* An MSR belongs to a CPU: stay here. */
	preempt_disable();

	/*
	 * All bits of the value count.  If TSC_AUX has it already, this does
	 * not write.  If it is not the host's value, uret makes sure that the
	 * host's is back when this CPU returns to user mode: on behalf of this
	 * task, when the write() is done, or of another one before that.
	 */
	ret = uret_set(slot, value, ~0ULL);

	/* What does the CPU say? */
	rdmsrq(MSR_TSC_AUX, seen);

	preempt_enable();

	/* -EIO if the CPU does not take that value; it kept the old one. */
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
	 * The MSR is ours from here on: &slot is an address that nobody else
	 * has.  If KVM has TSC_AUX this is -EBUSY, and KVM gets that error if it
	 * comes second.
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
	/* First nobody sets it any more... */
	debugfs_remove_recursive(dir);
	/* ...then the registry restores what is left, on every CPU. */
	uret_del(&slot);
}
module_exit(sample_exit);

MODULE_AUTHOR("uret developers");
MODULE_DESCRIPTION("Sample: another TSC_AUX while in the kernel");
MODULE_LICENSE("GPL");
