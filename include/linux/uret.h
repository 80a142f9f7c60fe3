/* SPDX-License-Identifier: GPL-2.0 */
/*
 * uret - MSRs that keep a guest's value until this CPU returns to user mode
 *
 * Some MSRs matter to user mode only: those of SYSCALL, TSC_AUX and others.
 * While a CPU runs the kernel they may hold any value.  uret keeps track of
 * which of them differ from the host's value on each CPU, and puts back
 * exactly those, just before the CPU returns to user mode.
 *
 * A user of the registry
 *
 *  - adds its MSRs with uret_add(), once, and gets a slot for each;
 *  - sets them with uret_set() or uret_set_values() whenever it is about to
 *    need its own values.  They stay until the CPU returns to user mode, or
 *    until the user calls uret_drop(), whichever is first, so that a set must
 *    be repeated whenever a return to user mode may have come between;
 *  - gives everything back with uret_del().
 *
 * An owner is any address that is the caller's alone.  THIS_MODULE will do,
 * but for built-in code, where it is NULL; NULL is refused.
 *
 * A CPU that comes online, or wakes up from a sleep in which it lost power,
 * reads the host's values of all slots; one that goes there puts them back.  The
 * host's values must not change otherwise.
 */
#ifndef _LINUX_URET_H
#define _LINUX_URET_H

#include <linux/bits.h>
#include <linux/types.h>

/* Slots are bits of one machine word. */
#define URET_MAX_SLOTS	BITS_PER_LONG

/**
 * struct uret_values - what a user wants its slots to hold
 * @load: the slots that shall be set, as a bitmap
 * @partial: those of them of which only some bits count, see @mask
 * @data: the value of each slot in @load
 * @mask: for the slots in @partial, the bits of @data that count; the others are
 *	the host's
 */
struct uret_values {
	unsigned long load;
	unsigned long partial;
	u64 data[URET_MAX_SLOTS];
	u64 mask[URET_MAX_SLOTS];
};

/**
 * uret_add() - add an MSR to the registry
 * @owner: who will set it
 * @msr: its number
 *
 * The MSR must be one that the kernel does not depend on before it returns to
 * user mode, whatever value, of those that @owner will set, it holds.  It is
 * read and written once, to see whether that faults, and read on every CPU.
 *
 * Until uret_del(), each return to user mode costs a compare and a branch.
 *
 * Context: Task context, without the CPU hotplug lock.  May sleep.
 * Return: The slot, from 0 to URET_MAX_SLOTS - 1, or
 *  * -EIO: reading or writing the MSR faults, on some CPU;
 *  * -ENOSPC: all slots are taken;
 *  * -EEXIST: @owner has added it before;
 *  * -EBUSY: another owner has it;
 *  * -EINVAL: @owner is NULL, or it is one of the bases of FS and GS, which
 *    are switched with each task;
 *  * -ENODEV: uret is built in, and failed to initialize.
 */
int uret_add(const void *owner, u32 msr);

/**
 * uret_del() - give up all MSRs of an owner
 * @owner: as given to uret_add()
 *
 * Restores the host's values first, by an IPI to each CPU that holds others.  The
 * caller must not set one of its slots at the same time or later.
 *
 * Context: Task context, without the CPU hotplug lock.  May sleep.
 */
void uret_del(const void *owner);

/**
 * uret_find() - find the slot of an MSR
 * @msr: its number
 *
 * Context: Any.
 * Return: The slot, or -ENOENT.
 */
int uret_find(u32 msr);

/**
 * uret_set() - set an MSR of this CPU until it returns to user mode
 * @slot: the slot, as returned by uret_add()
 * @value: the value
 * @mask: the bits of @value that count; the others are the host's
 *
 * Writes the MSR only if its value is another one.  It must read back as written:
 * bits that a CPU ignores have to be 0.
 *
 * Context: Task context with preemption disabled; not from a user-return
 * notifier.
 * Return: 0, or
 *  * -ENXIO: there is no such slot on this CPU;
 *  * -EIO: the CPU refused the value, and the MSR keeps the one it had;
 *  * -EPERM: the context is neither, and nothing was touched;
 *  * -EBUSY: a user-return notifier fires, and nothing was touched;
 *  * -ENODEV: uret is built in, and failed to initialize.
 */
int uret_set(unsigned int slot, u64 value, u64 mask);

/**
 * uret_set_values() - set several MSRs of this CPU in one call
 * @values: which ones, and to what
 *
 * One that fails does not keep the others from being set.
 *
 * Context: As uret_set().
 * Return: 0, or an error of one of them, as uret_set().
 */
int uret_set_values(const struct uret_values *values);

/**
 * uret_get() - get what an MSR of this CPU holds, without reading it
 * @slot: the slot, as returned by uret_add()
 * @value: where to put it
 *
 * Context: Preemption disabled.
 * Return: 0, or -ENXIO: there is no such slot on this CPU.
 */
int uret_get(unsigned int slot, u64 *value);

/**
 * uret_drop() - put the host's values back on this CPU, now
 * @owner: whose MSRs, as given to uret_add()
 *
 * Context: Task context; not from a user-return notifier.
 */
void uret_drop(const void *owner);

/**
 * uret_read_host() - read the host's values of this CPU again
 * @owner: of whose MSRs, as given to uret_add()
 *
 * Context: Preemption disabled.
 * Return: 0, or
 *  * -EBUSY: some hold other values than the host's just now; these were not
 *    read;
 *  * -EIO: reading faulted.
 */
int uret_read_host(const void *owner);

/* Between the C and the Rust part of uret.ko. */
int uret_shim_init(void);
void uret_shim_exit(void);
void uret_cpu_up(void);
void uret_cpu_down(void);

#endif /* _LINUX_URET_H */
