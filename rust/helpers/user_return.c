// SPDX-License-Identifier: GPL-2.0

#include <linux/user-return-notifier.h>

#ifdef CONFIG_USER_RETURN_NOTIFIER
__rust_helper void
rust_helper_user_return_notifier_register(struct user_return_notifier *urn)
{
	user_return_notifier_register(urn);
}

__rust_helper void
rust_helper_user_return_notifier_unregister(struct user_return_notifier *urn)
{
	user_return_notifier_unregister(urn);
}

__rust_helper void
rust_helper_user_return_notifier_unregister_offline(struct user_return_notifier *urn, int cpu)
{
	user_return_notifier_unregister_offline(urn, cpu);
}

__rust_helper struct user_return_notifier *rust_helper_user_return_notifier_running(void)
{
	return user_return_notifier_running();
}

__rust_helper unsigned long rust_helper_call_user_return_notifiers(unsigned long ti_work)
{
	return call_user_return_notifiers(ti_work);
}
#endif
