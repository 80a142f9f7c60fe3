/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM uret

#if !defined(_TRACE_URET_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_URET_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(uret_msr,
	TP_PROTO(unsigned int slot, const u32 *msrs, u64 value),
	TP_ARGS(slot, msrs, value),
	TP_STRUCT__entry(
		__field(unsigned int, slot)
		__field(u32, msr)
		__field(u64, value)
	),
	TP_fast_assign(
		__entry->slot = slot;
		__entry->msr = READ_ONCE(msrs[slot]);
		__entry->value = value;
	),
	TP_printk("slot=%u msr=%#x value=%#llx",
		  __entry->slot, __entry->msr, __entry->value)
);

/* A guest's value was written to an MSR. */
DEFINE_EVENT(uret_msr, uret_set,
	TP_PROTO(unsigned int slot, const u32 *msrs, u64 value),
	TP_ARGS(slot, msrs, value)
);

/* An MSR held the value already, and was not written. */
DEFINE_EVENT(uret_msr, uret_elide,
	TP_PROTO(unsigned int slot, const u32 *msrs, u64 value),
	TP_ARGS(slot, msrs, value)
);

/* The host's value was written to an MSR. */
DEFINE_EVENT(uret_msr, uret_restore,
	TP_PROTO(unsigned int slot, const u32 *msrs, u64 value),
	TP_ARGS(slot, msrs, value)
);

/* A CPU is about to return to user mode, and some MSRs are not the host's. */
TRACE_EVENT(uret_fire,
	TP_PROTO(unsigned long dirty, bool other_task),
	TP_ARGS(dirty, other_task),
	TP_STRUCT__entry(
		__field(unsigned long, dirty)
		__field(bool, other_task)
	),
	TP_fast_assign(
		__entry->dirty = dirty;
		__entry->other_task = other_task;
	),
	TP_printk("dirty=%#lx other_task=%d",
		  __entry->dirty, __entry->other_task)
);

/*
 * What happened to FS, GS and what goes with them of a vCPU, on this CPU:
 * they stay for kernel threads, were given up by the vCPU, were left because
 * another user task came, evicted because the vCPU or the CPU had to go, or taken by
 * the vCPU, which is on this CPU now, from another one.
 */
TRACE_EVENT(uret_fsgs,
	TP_PROTO(unsigned int what, const void *fsgs),
	TP_ARGS(what, fsgs),
	TP_STRUCT__entry(
		__field(unsigned int, what)
		__field(const void *, fsgs)
	),
	TP_fast_assign(
		__entry->what = what;
		__entry->fsgs = fsgs;
	),
	TP_printk("%s fsgs=%p",
		  __print_symbolic(__entry->what, { 0, "stay" }, { 1, "forget" },
				   { 2, "leave" }, { 3, "evict" },
				   { 4, "take" }),
		  __entry->fsgs)
);

/*
 * What VMLOAD loads, of a vCPU, on this CPU: VMLOAD of it comes next, VMSAVE, or
 * VMLOAD of the host's.
 */
TRACE_EVENT(uret_svm,
	TP_PROTO(unsigned int what, const void *svm),
	TP_ARGS(what, svm),
	TP_STRUCT__entry(
		__field(unsigned int, what)
		__field(const void *, svm)
	),
	TP_fast_assign(
		__entry->what = what;
		__entry->svm = svm;
	),
	TP_printk("%s svm=%p",
		  __print_symbolic(__entry->what, { 0, "load" }, { 1, "save" },
				   { 2, "host" }),
		  __entry->svm)
);

#endif /* _TRACE_URET_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
