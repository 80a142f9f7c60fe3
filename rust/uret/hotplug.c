// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU hotplug and system sleep: Rust has no abstraction for either yet.
 */

#include <linux/cpuhotplug.h>
#include <linux/syscore_ops.h>

#include "internal.h"

static void (*uret_cpu_up)(void);
static void (*uret_cpu_down)(void);

static int uret_online(unsigned int cpu)
{
	uret_cpu_up();
	return 0;
}

static int uret_offline(unsigned int cpu)
{
	uret_cpu_down();
	return 0;
}

static int uret_suspend(void *data)
{
	uret_cpu_down();
	return 0;
}

static void uret_resume(void *data)
{
	uret_cpu_up();
}

/*
 * There is no shutdown(): during a forced reboot, other CPUs may still set slots and
 * return to user mode, so that the notifiers must stay armed.
 */
static const struct syscore_ops uret_syscore_ops = {
	.suspend = uret_suspend,
	.resume = uret_resume,
};

static struct syscore uret_syscore = {
	.ops = &uret_syscore_ops,
};

static int uret_hotplug_state;

/**
 * uret_hotplug_init() - register callbacks for CPU hotplug and system sleep
 * @up: called on a CPU that comes online or wakes up
 * @down: called on a CPU that is about to go offline or to sleep
 *
 * Does not call @up for CPUs that are online already, as there is no slot yet, and as
 * cpuhp_setup_state() would wait for the hotplug thread of each CPU.
 *
 * Context: Task context.  May sleep.
 * Return: 0, or the error of cpuhp_setup_state_nocalls().
 */
int uret_hotplug_init(void (*up)(void), void (*down)(void))
{
	int ret;

	uret_cpu_up = up;
	uret_cpu_down = down;
	ret = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "virt/uret:online",
					uret_online, uret_offline);
	if (ret < 0)
		return ret;

	uret_hotplug_state = ret;
	register_syscore(&uret_syscore);
	return 0;
}

/**
 * uret_hotplug_exit() - unregister the callbacks
 *
 * Does not call @down, as no slot is dirty any more.
 *
 * Context: Task context.  May sleep.
 */
void uret_hotplug_exit(void)
{
	unregister_syscore(&uret_syscore);
	cpuhp_remove_state_nocalls(uret_hotplug_state);
}
