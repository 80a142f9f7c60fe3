/* SPDX-License-Identifier: GPL-2.0 */
/* The interface between the C part and the Rust part of uret.ko. */
#ifndef _VIRT_URET_INTERNAL_H
#define _VIRT_URET_INTERNAL_H

int uret_hotplug_init(void (*up)(void), void (*down)(void));
void uret_hotplug_exit(void);

#endif /* _VIRT_URET_INTERNAL_H */
