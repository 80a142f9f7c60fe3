// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measures the registry against KVM's own code, for the selftest "switch_perf_test".
 *
 * A write of "COMMAND DIRTY SLOTS TIMES" to debugfs/uret_bench/run runs a command:
 *
 *	equal 0 N TIMES		set N slots to the values that the MSRs hold
 *	new N N TIMES		set N slots to other values
 *	restore K N TIMES	make K of N slots dirty, for the return to user mode
 *	calibrate 0 0 TIMES	execute a known mix of instructions, see calibrate()
 *
 * With stock=1 KVM's own code runs, in a kvm.ko that is loaded with uret=0 and without
 * kvm-amd and kvm-intel. kvm.ko exports that code to the vendor modules only, so that
 * kprobes find the addresses.
 *
 * Only user mode, and entries from user mode, use the MSRs. Preemption is disabled until
 * the host's values are restored, except for "restore": there, the return to user mode
 * restores.
 */

#include <linux/debugfs.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/uaccess.h>
#include <linux/uret.h>
#include <linux/user-return-notifier.h>

#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/ibt.h>
#include <asm/msr.h>
#include <asm/svm.h>

static bool stock;
module_param(stock, bool, 0444);
MODULE_PARM_DESC(stock, "measure KVM's own code instead of uret");

/* See tools/testing/selftests/uret/lib/x86/marker.h. */
#define SAMPLE_STARTS	".byte 0x0f, 0x1f, 0x84, 0x00, 'u', 'r', 't', 'S'\n\t"
#define OPERATION_DONE	".byte 0x0f, 0x1f, 0x84, 0x00, 'u', 'r', 't', 'O'\n\t"

/* KVM_MAX_NR_USER_RETURN_MSRS in msrs.h. */
#define MAX_STOCK_SLOTS	16

/* MSRs that all CPUs have. Emulators accept further MSRs. */
static const u32 real_msrs[] = {
	MSR_SYSCALL_MASK, MSR_LSTAR, MSR_CSTAR, MSR_TSC_AUX, MSR_STAR,
	MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP, MSR_IA32_SYSENTER_CS,
};

#define FIRST_MADE_UP_MSR	0x0bad0000

/* The data of each MSR in KVM, and the values that KVM passes to uret. */
static struct {
	bool load_into_hardware;
	unsigned int slot;
	u64 data;
	u64 mask;
} msrs[URET_MAX_SLOTS];
static struct uret_values values;
static u64 host[URET_MAX_SLOTS];
static unsigned int nr_slots;
static int owner;

static int (*kvm_add)(u32 msr);
static void (*kvm_online)(void);
static int (*kvm_set)(unsigned int slot, u64 value, u64 mask);
static void (*kvm_drop)(void);
static void (*kvm_destroy)(void);

static void *find(const char *symbol)
{
	struct kprobe probe = { .symbol_name = symbol };
	void *address;

	if (register_kprobe(&probe))
		return NULL;
	address = probe.addr;
	unregister_kprobe(&probe);
#ifdef CONFIG_X86_KERNEL_IBT
	/* The address of a kprobe is behind ENDBR, but a call must go to ENDBR. */
	u32 *pad = address - ENDBR_INSN_SIZE;

	if (*pad == gen_endbr() || *pad == gen_endbr_poison())
		address = pad;
#endif
	return address;
}

static int find_stock(void)
{
	if (cpu_feature_enabled(X86_FEATURE_IBT)) {
		pr_err("uret_bench: boot with ibt=off: some functions of KVM have no ENDBR\n");
		return -EPERM;
	}
	/* A loaded vendor module has slots, which remove_slots() would remove. */
	if (find("svm_vcpu_load") || find("vmx_vcpu_load")) {
		pr_err("uret_bench: unload kvm-amd and kvm-intel first\n");
		return -EBUSY;
	}
	kvm_add = find("kvm_add_user_return_msr");
	kvm_online = find("kvm_user_return_msr_cpu_online");
	kvm_set = find("kvm_set_user_return_msr");
	kvm_drop = find("drop_user_return_notifiers");
	kvm_destroy = find("kvm_destroy_user_return_msrs");
	if (kvm_add && kvm_online && kvm_set && kvm_drop && kvm_destroy)
		return 0;
	pr_err("uret_bench: load kvm with uret=0 first\n");
	return -ENOENT;
}

static u32 msr_of(unsigned int index)
{
	if (index < ARRAY_SIZE(real_msrs))
		return real_msrs[index];
	return FIRST_MADE_UP_MSR + index;
}

static void remove_slots(void)
{
	if (stock && nr_slots)
		kvm_destroy();
	if (!stock)
		uret_del(&owner);
	nr_slots = 0;
}

static void online_here(void *unused)
{
	kvm_online();
}

static int add_slots(unsigned int nr)
{
	if (nr == nr_slots)
		return 0;
	if (nr > (stock ? MAX_STOCK_SLOTS : URET_MAX_SLOTS))
		return -ENOSPC;

	remove_slots();
	values.load = 0;
	for (unsigned int i = 0; i < nr; i++) {
		int slot = stock ? kvm_add(msr_of(i)) : uret_add(&owner, msr_of(i));

		if (slot < 0) {
			/* Do not measure fewer slots than requested. */
			remove_slots();
			return slot == -1 ? -EIO : slot;
		}
		msrs[i].load_into_hardware = true;
		msrs[i].slot = slot;
		msrs[i].mask = ~0ULL;
		values.load |= BIT(slot);
		rdmsrq(msr_of(i), host[i]);
		nr_slots = i + 1;
	}
	if (stock)
		on_each_cpu(online_here, NULL, 1);
	return 0;
}

/* Set the slots as before a guest entry, by uret or by KVM's own code. */
static noinline void set_slots(void)
{
	if (!stock) {
		uret_set_values(&values);
		return;
	}
	for (unsigned int i = 0; i < nr_slots; i++) {
		if (msrs[i].load_into_hardware)
			kvm_set(msrs[i].slot, msrs[i].data, msrs[i].mask);
	}
}

static void choose_values(unsigned int dirty, int variant)
{
	for (unsigned int i = 0; i < nr_slots; i++) {
		msrs[i].data = i < dirty ? host[i] ^ (1 + variant) : host[i];
		values.data[msrs[i].slot] = msrs[i].data;
	}
}

static void drop(void)
{
	if (stock)
		kvm_drop();
	else
		uret_drop(&owner);
}

static void set_repeatedly(unsigned int dirty, unsigned long times)
{
	choose_values(dirty, 0);
	preempt_disable();
	set_slots();
	for (unsigned long i = 0; i < times; i++) {
		if (dirty)
			choose_values(dirty, !(i & 1));
		asm volatile(SAMPLE_STARTS ::: "memory");
		set_slots();
		asm volatile(OPERATION_DONE ::: "memory");
	}
	drop();
	preempt_enable();
}

static void make_dirty(unsigned int dirty)
{
	choose_values(dirty, 0);
	preempt_disable();
	set_slots();
	preempt_enable();
	asm volatile(SAMPLE_STARTS ::: "memory");
}

/*
 * 25 instructions for the emulator's plugin to count: 2 each of WRMSR, SWAPGS,
 * LOCK; 1 each of RDMSR, RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE, LGDT, LIDT,
 * LLDT, VMLOAD, VMSAVE, STGI, CLGI.
 */
static int calibrate(unsigned long times)
{
	unsigned long vmcb = get_zeroed_page(GFP_KERNEL);
	unsigned long flags, dummy = 0;
	struct desc_ptr gdt, idt;
	u64 efer;

	if (!vmcb)
		return -ENOMEM;
	local_irq_save(flags);
	rdmsrq(MSR_EFER, efer);
	wrmsrq(MSR_EFER, efer | EFER_SVME);
	native_store_gdt(&gdt);
	store_idt(&idt);
	for (unsigned long i = 0; i < times; i++) {
		asm volatile(SAMPLE_STARTS
			     "movl %[msr], %%ecx\n\t"
			     "rdmsr\n\t"
			     "wrmsr\n\t"
			     "wrmsr\n\t"
			     "swapgs\n\t"
			     "swapgs\n\t"
			     "rdfsbase %%rdx\n\t"
			     "wrfsbase %%rdx\n\t"
			     "rdgsbase %%rdx\n\t"
			     "wrgsbase %%rdx\n\t"
			     "lgdt %[gdt]\n\t"
			     "lidt %[idt]\n\t"
			     "sldt %%edx\n\t"
			     "lldt %%dx\n\t"
			     "lock incq %[dummy]\n\t"
			     "lock btsl $1, %[dummy]\n\t"
			     "movq %[page], %%rax\n\t"
			     "vmsave %%rax\n\t"
			     "vmload %%rax\n\t"
			     "clgi\n\t"
			     "stgi\n\t"
			     "nop\n\t"
			     "nop\n\t"
			     "nop\n\t"
			     "nop\n\t"
			     OPERATION_DONE
			     : [dummy] "+m" (dummy)
			     : [msr] "i" (MSR_TSC_AUX), [gdt] "m" (gdt), [idt] "m" (idt),
			       [page] "r" (__pa(vmcb))
			     : "rax", "rcx", "rdx", "memory", "cc");
	}
	wrmsrq(MSR_EFER, efer);
	local_irq_restore(flags);
	free_page(vmcb);
	return 0;
}

/* All commands use the same slots: run one command at a time. */
static DEFINE_MUTEX(lock);

static int run(const char *command, unsigned int dirty, unsigned int slots, unsigned long times)
{
	int ret;

	guard(mutex)(&lock);
	if (!strcmp(command, "calibrate")) {
		if (!boot_cpu_has(X86_FEATURE_SVM) || !boot_cpu_has(X86_FEATURE_FSGSBASE))
			return -EOPNOTSUPP;
		return calibrate(times);
	}
	ret = add_slots(slots);
	if (ret)
		return ret;
	if (!strcmp(command, "equal") || !strcmp(command, "new"))
		set_repeatedly(dirty, times);
	else if (!strcmp(command, "restore"))
		make_dirty(dirty);
	else
		return -EINVAL;
	return 0;
}

static ssize_t run_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	unsigned int dirty, slots;
	char line[64], command[16];
	unsigned long times;
	int ret;

	if (len >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, buf, len))
		return -EFAULT;
	line[len] = '\0';
	if (sscanf(line, "%15s %u %u %lu", command, &dirty, &slots, &times) != 4 || dirty > slots)
		return -EINVAL;
	ret = run(command, dirty, slots, times);
	return ret ? ret : len;
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.write = run_write,
	.llseek = noop_llseek,
};

static struct dentry *dir;

static int __init uret_bench_init(void)
{
	int ret = stock ? find_stock() : 0;

	if (ret)
		return ret;
	/* KVM does this while a VM exists. */
	user_return_notifier_enable();
	dir = debugfs_create_dir("uret_bench", NULL);
	debugfs_create_file("run", 0200, dir, NULL, &run_fops);
	return 0;
}

static void __exit uret_bench_exit(void)
{
	debugfs_remove(dir);
	preempt_disable();
	drop();
	preempt_enable();
	remove_slots();
	user_return_notifier_disable();
}

module_init(uret_bench_init);
module_exit(uret_bench_exit);

MODULE_AUTHOR("uret developers");
MODULE_DESCRIPTION("Measures uret's registry against KVM's own code");
MODULE_LICENSE("GPL");
