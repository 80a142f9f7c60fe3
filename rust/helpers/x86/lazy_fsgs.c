// SPDX-License-Identifier: GPL-2.0

#if defined(CONFIG_X86_64) && defined(CONFIG_USER_RETURN_NOTIFIER)
#include <asm/lazy_fsgs.h>

__rust_helper bool
rust_helper_lazy_fsgs_are_here(const struct lazy_fsgs *lazy)
{
	return lazy_fsgs_are_here(lazy);
}

__rust_helper bool rust_helper_lazy_fsgs_on_cpu(unsigned int cpu)
{
	return READ_ONCE(per_cpu(lazy_fsgs, cpu).lazy);
}

__rust_helper void rust_helper_lazy_fsgs_defer(struct lazy_fsgs *lazy, bool saved,
					       void (*restore_tables)(void))
{
	lazy_fsgs_defer(lazy, saved, restore_tables);
}

__rust_helper void rust_helper_lazy_fsgs_unsave(void)
{
	lazy_fsgs_unsave();
}

__rust_helper void rust_helper_lazy_fsgs_cancel(struct lazy_fsgs *lazy)
{
	lazy_fsgs_cancel(lazy);
}
#endif
