// SPDX-License-Identifier: GPL-2.0

#include <linux/user-return-notifier.h>

#ifdef CONFIG_USER_RETURN_NOTIFIER
__rust_helper void
rust_helper_user_return_notifier_arm(struct user_return_notifier *urn)
{
	user_return_notifier_arm(urn);
}

__rust_helper void
rust_helper_user_return_notifier_disarm(struct user_return_notifier *urn)
{
	user_return_notifier_disarm(urn);
}

__rust_helper unsigned long rust_helper_user_return(unsigned long ti_work)
{
	return user_return(ti_work);
}
#endif
