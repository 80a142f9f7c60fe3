// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C part of uret.ko: what Rust has no means for yet.  These are the
 * exports, the tracepoints' definitions, and the hooks of CPU hotplug and of
 * system sleep.
 */

#include <linux/cpuhotplug.h>
#include <linux/export.h>
#include <linux/syscore_ops.h>
#include <linux/uret.h>

#include <asm/uret_kvm.h>

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

EXPORT_SYMBOL_FOR_MODULES(uret_kvm_start, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_stop, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_fsgs_init, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_fsgs_defer, "kvm-intel,kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_fsgs_cancel, "kvm-intel,kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_fsgs_take, "kvm,kvm-intel,kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_vmx_setup, "kvm-intel");
EXPORT_SYMBOL_FOR_MODULES(uret_vmx_switch_to_guest, "kvm-intel");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_setup, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_switch_to_guest, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_init, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_cpu_up, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_cpu_down, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_enter, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_sync, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_sync_for_write, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_save, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_taken, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_leave, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_refuse, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_msr, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_update, "kvm-intel");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_set, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_get, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_read_host, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_drop, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_destroy, "kvm");

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
 * There is no shutdown(): on a forced reboot the other CPUs may be in the middle
 * of setting an MSR, or still return to user mode, and the notifier stays armed.
 */
static const struct syscore_ops uret_syscore_ops = {
	.suspend = uret_suspend,
	.resume = uret_resume,
};

static struct syscore uret_syscore = {
	.ops = &uret_syscore_ops,
};

static int uret_hotplug_state;

int uret_shim_init(void)
{
	int ret;

	/*
	 * There are no slots yet, and none dirty in the end: do not call the
	 * callbacks now, which would wait for a thread on each CPU.
	 */
	ret = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "virt/uret:online",
					uret_online, uret_offline);
	if (ret < 0)
		return ret;

	uret_hotplug_state = ret;
	register_syscore(&uret_syscore);
	return 0;
}

void uret_shim_exit(void)
{
	unregister_syscore(&uret_syscore);
	cpuhp_remove_state_nocalls(uret_hotplug_state);
}
