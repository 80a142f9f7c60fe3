// SPDX-License-Identifier: GPL-2.0-only
/*
 * The exports and the tracepoints of uret.ko: Rust has no macro for either yet.
 */

#include <linux/export.h>
#include <linux/uret.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include <trace/events/uret.h>

EXPORT_SYMBOL_GPL(uret_add);
EXPORT_SYMBOL_GPL(uret_del);
EXPORT_SYMBOL_GPL(uret_find);
EXPORT_SYMBOL_GPL(uret_set);
EXPORT_SYMBOL_GPL(uret_set_values);
EXPORT_SYMBOL_GPL(uret_get);
EXPORT_SYMBOL_GPL(uret_drop);
EXPORT_SYMBOL_GPL(uret_read_host);
