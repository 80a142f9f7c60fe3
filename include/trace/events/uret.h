/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM uret

#if !defined(_TRACE_URET_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_URET_H

#include <linux/tracepoint.h>

#ifndef _TRACE_URET_ENUMS
#define _TRACE_URET_ENUMS

/**
 * enum uret_fsgs_event - events of the FS and GS of a vCPU, on the current CPU
 * @URET_FSGS_DEFER: the restore was deferred: at a sched-out for a kernel thread, or on SVM before
 *	VMLOAD of a guest's state.  No event if the restore is deferred on this CPU already
 * @URET_FSGS_CANCEL: the vCPU cancelled the deferral
 * @URET_FSGS_RESTORE: the host's FS and GS were restored for another user task
 * @URET_FSGS_FLUSH: the host's FS and GS were restored for a reason other than a user task
 * @URET_FSGS_TAKE: the vCPU, which is on the current CPU now, took FS and GS from another
 *	CPU without an IPI
 */
enum uret_fsgs_event {
	URET_FSGS_DEFER,
	URET_FSGS_CANCEL,
	URET_FSGS_RESTORE,
	URET_FSGS_FLUSH,
	URET_FSGS_TAKE,
};

/**
 * enum uret_svm_event - events of the VMLOAD/VMSAVE state of a vCPU, on the current CPU
 * @URET_SVM_LOAD: VMLOAD of the guest's state is next
 * @URET_SVM_SAVE: VMSAVE of the guest's state
 * @URET_SVM_RESTORE: VMLOAD of the host's state
 */
enum uret_svm_event {
	URET_SVM_LOAD,
	URET_SVM_SAVE,
	URET_SVM_RESTORE,
};

#endif /* _TRACE_URET_ENUMS */

TRACE_DEFINE_ENUM(URET_FSGS_DEFER);
TRACE_DEFINE_ENUM(URET_FSGS_CANCEL);
TRACE_DEFINE_ENUM(URET_FSGS_RESTORE);
TRACE_DEFINE_ENUM(URET_FSGS_FLUSH);
TRACE_DEFINE_ENUM(URET_FSGS_TAKE);
TRACE_DEFINE_ENUM(URET_SVM_LOAD);
TRACE_DEFINE_ENUM(URET_SVM_SAVE);
TRACE_DEFINE_ENUM(URET_SVM_RESTORE);

/*
 * Events of one MSR.  The value of uret_set and uret_elide is the value requested, under the
 * mask; of uret_restore, the host's value.  Preemption is disabled; for uret_restore, interrupts
 * are disabled, too.
 */
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

/* An MSR was set to another value. */
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

/* The notifier fired: the CPU is about to return to user mode, and slots are dirty. */
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

/* An event of the FS and GS of a vCPU, see enum uret_fsgs_event. */
TRACE_EVENT(uret_fsgs,
	TP_PROTO(unsigned int event, const void *fsgs),
	TP_ARGS(event, fsgs),
	TP_STRUCT__entry(
		__field(unsigned int, event)
		__field(const void *, fsgs)
	),
	TP_fast_assign(
		__entry->event = event;
		__entry->fsgs = fsgs;
	),
	TP_printk("%s fsgs=%p",
		  __print_symbolic(__entry->event,
				   { URET_FSGS_DEFER, "defer" },
				   { URET_FSGS_CANCEL, "cancel" },
				   { URET_FSGS_RESTORE, "restore" },
				   { URET_FSGS_FLUSH, "flush" },
				   { URET_FSGS_TAKE, "take" }),
		  __entry->fsgs)
);

/* An event of the VMLOAD/VMSAVE state of a vCPU, see enum uret_svm_event. */
TRACE_EVENT(uret_svm,
	TP_PROTO(unsigned int event, const void *svm),
	TP_ARGS(event, svm),
	TP_STRUCT__entry(
		__field(unsigned int, event)
		__field(const void *, svm)
	),
	TP_fast_assign(
		__entry->event = event;
		__entry->svm = svm;
	),
	TP_printk("%s svm=%p",
		  __print_symbolic(__entry->event,
				   { URET_SVM_LOAD, "load" },
				   { URET_SVM_SAVE, "save" },
				   { URET_SVM_RESTORE, "restore" }),
		  __entry->svm)
);

#endif /* _TRACE_URET_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
