// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_X86_64
#include <asm/lazy_fsgs.h>

#ifdef CONFIG_USER_RETURN_NOTIFIER
__rust_helper bool
rust_helper_lazy_fsgs_are_here(const struct lazy_fsgs *lazy)
{
	return lazy_fsgs_are_here(lazy);
}

__rust_helper void rust_helper_lazy_fsgs_stay(struct lazy_fsgs *lazy, bool tables)
{
	lazy_fsgs_stay(lazy, tables);
}

__rust_helper void rust_helper_lazy_fsgs_forget(struct lazy_fsgs *lazy)
{
	lazy_fsgs_forget(lazy);
}
#endif
#endif
