/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_URET_H
#define _LINUX_URET_H

/*
 * uret - MSRs that keep a guest's value until the CPU returns to user mode
 *
 * Only user mode can observe some MSRs: TSC_AUX, the MSRs of SYSCALL and others.  While a
 * CPU runs the kernel, such an MSR may hold any value.  The registry tracks on each CPU
 * which MSRs differ from the host's value, and restores exactly these MSRs, just before
 * the CPU returns to user mode.
 *
 * API overview:
 *
 *	slot = uret_add(owner, msr);		// once
 *	err = uret_set(slot, value, mask);	// whenever the value is needed
 *	err = uret_set_values(&values);		// the same for several slots
 *	err = uret_get(slot, &value);		// the value of the MSR, without RDMSR
 *	uret_drop(owner);			// restore now
 *	err = uret_read_host(owner);		// after a change of the host's value
 *	slot = uret_find(msr);
 *	uret_del(owner);
 *
 * A set lasts until the CPU returns to user mode, or until uret_drop(): repeat the set
 * whenever a return to user mode may have come between.
 *
 * An owner is an address that is unique to the owner.  THIS_MODULE is such an address,
 * except for built-in code, where THIS_MODULE is NULL.
 *
 * Example:
 *
 *	static int slot;
 *
 *	slot = uret_add(THIS_MODULE, MSR_TSC_AUX);
 *	if (slot < 0)
 *		return slot;
 *
 *	guard(preempt)();
 *	err = uret_set(slot, 42, -1ull);
 *
 * On this CPU, RDTSCP then loads 42 into ECX, until the CPU returns to user mode.  See also
 * virt/uret/samples.
 *
 * The registry reads the host's values on uret_add(), and on each CPU that comes online
 * or resumes from suspend.  The values must not change otherwise.  A CPU that goes offline
 * or is suspended restores the values.
 *
 * A restore does not fail: if an MSR refuses the host's value, the kernel panics.
 */

#include <linux/bits.h>
#include <linux/errno.h>
#include <linux/types.h>

/* Slots are bits of one machine word.  Without uret, there are no slots. */
#if IS_ENABLED(CONFIG_URET)
#define URET_MAX_SLOTS	BITS_PER_LONG
#else
#define URET_MAX_SLOTS	0
#endif

/**
 * struct uret_values - values for several slots; the index of the arrays is the slot
 * @load: bitmap of the slots to set
 * @partial: bitmap of the slots in @load that have a mask
 * @data: the value of each slot in @load
 * @mask: for each slot in @partial, the bits of @data to set; all other bits are set to
 *	the host's
 */
struct uret_values {
	unsigned long load;
	unsigned long partial;
	u64 data[URET_MAX_SLOTS];
	u64 mask[URET_MAX_SLOTS];
};

#if IS_ENABLED(CONFIG_URET)

/**
 * uret_add() - add an MSR to the registry
 * @owner: the owner of the MSR
 * @msr: the number of the MSR
 *
 * The kernel must be able to run with each value that @owner will set.  The registry refuses
 * the bases of FS and GS, which are switched with each task.  To find out whether accesses
 * fault, the registry reads and writes back the MSR on the current CPU, and reads the MSR on
 * each online CPU.
 *
 * Until ten seconds after uret_del(), each return to user mode costs a compare and a branch.
 *
 * Context: Task context, without the CPU hotplug lock.  May sleep.
 * Return: The slot, from 0 to URET_MAX_SLOTS - 1, or
 *  * -EIO: an access faults: a read or write on the current CPU, or a read on another CPU;
 *  * -ENOSPC: all slots are in use;
 *  * -EEXIST: @owner has added the MSR before;
 *  * -EBUSY: another owner has the MSR;
 *  * -EINVAL: @owner is NULL, or the MSR is a base of FS or GS;
 *  * -ENODEV: uret is not in the kernel, or has failed to initialize.
 */
int uret_add(const void *owner, u32 msr);

/**
 * uret_del() - remove all MSRs of an owner
 * @owner: the owner, as passed to uret_add()
 *
 * Restores the host's values first, by an IPI to each CPU where a slot of @owner is dirty.
 * The caller must not set a slot of @owner at the same time or later.
 *
 * Context: Task context, without the CPU hotplug lock.  May sleep.
 */
void uret_del(const void *owner);

/**
 * uret_find() - find the slot of an MSR
 * @msr: the number of the MSR
 *
 * Context: Any.
 * Return: The slot, or -ENOENT.
 */
int uret_find(u32 msr);

/**
 * uret_set() - set an MSR of this CPU until the CPU returns to user mode
 * @slot: the slot, as returned by uret_add()
 * @value: the value
 * @mask: the bits of @value to set; all other bits are set to the host's
 *
 * Writes the MSR only if the MSR holds another value.  The value must read back as
 * written: bits that a CPU ignores must be 0.
 *
 * Without CONFIG_PREEMPT_COUNT, a preemptible caller is not detected.
 *
 * Context: Task context with preemption or interrupts disabled, outside of a user-return
 * notifier.
 * Return: 0, or
 *  * -ENXIO: the slot is not in use, or the CPU lacks the MSR;
 *  * -EIO: the CPU refused the value; the MSR keeps the previous value;
 *  * -EPERM: interrupt context, or the caller is preemptible.  Nothing has changed;
 *  * -EBUSY: a user-return notifier is running.  Nothing has changed;
 *  * -ENODEV: uret is not in the kernel, or has failed to initialize.
 */
int uret_set(unsigned int slot, u64 value, u64 mask);

/**
 * uret_set_values() - set several MSRs of this CPU by one call
 * @values: the slots and the values
 *
 * After an error of one slot, the other slots are set nevertheless.
 *
 * Context: As for uret_set().
 * Return: 0, or an error of one slot, as for uret_set().
 */
int uret_set_values(const struct uret_values *values);

/**
 * uret_get() - get the value that an MSR of this CPU holds, without RDMSR
 * @slot: the slot, as returned by uret_add()
 * @value: set to the value
 *
 * Context: Preemption disabled.
 * Return: 0, or -ENXIO: the CPU has no such slot.
 */
int uret_get(unsigned int slot, u64 *value);

/**
 * uret_drop() - restore the host's values of an owner's MSRs on this CPU
 * @owner: the owner, as passed to uret_add()
 *
 * Does nothing if @owner is NULL or has no slot.
 *
 * Context: Task context in which the caller stays on the CPU, outside of a user-return
 * notifier.
 */
void uret_drop(const void *owner);

/**
 * uret_read_host() - read the host's values of an owner's MSRs on this CPU again
 * @owner: the owner, as passed to uret_add()
 *
 * Context: Any in which the caller stays on the CPU.
 * Return: 0, also without CONFIG_URET, or
 *  * -EBUSY: a slot is dirty, and was not read;
 *  * -EIO: a read faulted.  uret_set() of the slot then returns -ENXIO on this CPU;
 *  * -EINVAL: @owner is NULL.
 */
int uret_read_host(const void *owner);

#else

static inline int uret_add(const void *owner, u32 msr)
{
	return -ENODEV;
}

static inline void uret_del(const void *owner) {}

static inline int uret_find(u32 msr)
{
	return -ENOENT;
}

static inline int uret_set(unsigned int slot, u64 value, u64 mask)
{
	return -ENODEV;
}

static inline int uret_set_values(const struct uret_values *values)
{
	return -ENODEV;
}

static inline int uret_get(unsigned int slot, u64 *value)
{
	return -ENXIO;
}

static inline void uret_drop(const void *owner) {}

static inline int uret_read_host(const void *owner)
{
	return 0;
}

#endif /* CONFIG_URET */

#endif /* _LINUX_URET_H */
