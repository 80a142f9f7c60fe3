// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of uret.ko with the MSRs of the CPU, through its C interface.
 *
 * The tests set TSC_AUX, so that KVM must not be loaded: KVM owns TSC_AUX even with
 * uret=0.
 */

#include <kunit/test.h>
#include <linux/bitops.h>
#include <linux/cpu.h>
#include <linux/irq_work.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/user-return-notifier.h>
#include <linux/workqueue.h>
#include <linux/uret.h>
#include <asm/msr.h>

/* The MSR of protection keys for supervisor pages, which the kernel does not use. */
#define MSR_PKRS 0x6e1

static int owner, other_owner;

/* MSRs with a value that the CPU refuses.  Some emulators lack some of these MSRs. */
static const struct {
	u32 msr;
	u64 refused;
} faulting[] = {
	{ MSR_LSTAR, 0x8000000000000000ULL },	/* not canonical */
	{ MSR_CSTAR, 0x8000000000000000ULL },
	{ MSR_PKRS, BIT_ULL(32) },		/* reserved */
	{ MSR_VM_HSAVE_PA, 1 },			/* not aligned */
};

/* MSRs that no CPU has, or that cannot be written. */
static const u32 unusable[] = {
	0x0badbadb, 0x2000, 0xc0001fff, MSR_IA32_VMX_BASIC, MSR_MTRRcap, MSR_IA32_MCG_CAP,
};

static int uret_test_init(struct kunit *test)
{
	int slot = uret_add(&owner, MSR_TSC_AUX);

	if (slot == -EBUSY)
		kunit_skip(test, "unload kvm, which uses TSC_AUX");
	KUNIT_ASSERT_GE(test, slot, 0);
	test->priv = (void *)(long)slot;
	return 0;
}

static void uret_test_exit(struct kunit *test)
{
	uret_del(&owner);
	uret_del(&other_owner);
}

static unsigned int tsc_aux_slot(struct kunit *test)
{
	return (long)test->priv;
}

static u64 hw_tsc_aux(void)
{
	u64 value;

	rdmsrq(MSR_TSC_AUX, value);
	return value;
}

/*
 * A kernel thread never returns to user mode, so that a set lasts until a drop.  Disable
 * preemption, as the thread may migrate, and check the values later, as expectations may
 * sleep.
 */
static void set_writes_and_drop_restores(struct kunit *test)
{
	unsigned int slot = tsc_aux_slot(test);
	u64 got[2] = {}, hw[3], native;
	int ret[4];

	preempt_disable();
	native = hw_tsc_aux();
	ret[0] = uret_set(slot, 4711, ~0ULL);
	hw[0] = hw_tsc_aux();
	ret[1] = uret_get(slot, &got[0]);
	ret[2] = uret_set(slot, 0xff00, 0xff00);
	hw[1] = hw_tsc_aux();
	uret_drop(&owner);
	hw[2] = hw_tsc_aux();
	ret[3] = uret_get(slot, &got[1]);
	preempt_enable();

	for (int i = 0; i < ARRAY_SIZE(ret); i++)
		KUNIT_EXPECT_EQ(test, ret[i], 0);
	KUNIT_EXPECT_EQ(test, hw[0], 4711);
	KUNIT_EXPECT_EQ(test, got[0], 4711);
	KUNIT_EXPECT_EQ(test, hw[1], (native & ~0xff00ULL) | 0xff00);
	KUNIT_EXPECT_EQ(test, hw[2], native);
	KUNIT_EXPECT_EQ(test, got[1], native);
}

static void a_dirty_slot_is_not_read_as_the_hosts(struct kunit *test)
{
	unsigned int slot = tsc_aux_slot(test);
	u64 native, hw;
	int ret[2];

	preempt_disable();
	native = hw_tsc_aux();
	uret_set(slot, 4711, ~0ULL);
	ret[0] = uret_read_host(&owner);
	uret_drop(&owner);
	ret[1] = uret_read_host(&owner);
	hw = hw_tsc_aux();
	preempt_enable();

	KUNIT_EXPECT_EQ(test, ret[0], -EBUSY);
	KUNIT_EXPECT_EQ(test, ret[1], 0);
	KUNIT_EXPECT_EQ(test, hw, native);
}

static void unknown_slots_are_errors(struct kunit *test)
{
	static const unsigned int slots[] = { URET_MAX_SLOTS - 1, URET_MAX_SLOTS, UINT_MAX };
	u64 value;
	int ret;

	for (int i = 0; i < ARRAY_SIZE(slots); i++) {
		preempt_disable();
		ret = uret_set(slots[i], 1, ~0ULL);
		if (ret == -ENXIO)
			ret = uret_get(slots[i], &value);
		preempt_enable();
		KUNIT_EXPECT_EQ(test, ret, -ENXIO);
	}
}

static void owners_are_told_apart(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, uret_add(NULL, MSR_STAR), -EINVAL);
	KUNIT_EXPECT_EQ(test, uret_add(&owner, MSR_TSC_AUX), -EEXIST);
	KUNIT_EXPECT_EQ(test, uret_add(&other_owner, MSR_TSC_AUX), -EBUSY);
	KUNIT_EXPECT_EQ(test, uret_find(MSR_TSC_AUX), tsc_aux_slot(test));

	/* An owner cannot remove the MSR of another owner. */
	uret_del(&other_owner);
	uret_del(NULL);
	KUNIT_EXPECT_EQ(test, uret_find(MSR_TSC_AUX), tsc_aux_slot(test));

	uret_del(&owner);
	KUNIT_EXPECT_EQ(test, uret_find(MSR_TSC_AUX), -ENOENT);
	KUNIT_EXPECT_GE(test, uret_add(&other_owner, MSR_TSC_AUX), 0);
}

static void an_msr_that_faults_is_refused(struct kunit *test)
{
	bool tried = false;
	u64 value;

	for (int i = 0; i < ARRAY_SIZE(unusable); i++) {
		if (!rdmsrq_safe(unusable[i], &value) && !wrmsrq_safe(unusable[i], value))
			continue;
		tried = true;
		KUNIT_EXPECT_EQ(test, uret_add(&owner, unusable[i]), -EIO);
		KUNIT_EXPECT_EQ(test, uret_find(unusable[i]), -ENOENT);
	}
	if (!tried)
		kunit_skip(test, "this CPU lets any MSR be read and written");
}

static void a_refused_value_changes_nothing(struct kunit *test)
{
	bool tried = false;

	for (int i = 0; i < ARRAY_SIZE(faulting); i++) {
		u64 native, value, hw;
		int slot, ret;

		slot = uret_add(&owner, faulting[i].msr);
		if (slot < 0)
			continue;

		preempt_disable();
		rdmsrq(faulting[i].msr, native);
		ret = uret_set(slot, faulting[i].refused, ~0ULL);
		rdmsrq(faulting[i].msr, hw);
		uret_get(slot, &value);
		uret_drop(&owner);
		preempt_enable();

		/* Some emulators accept the value. */
		if (!ret)
			continue;
		tried = true;
		KUNIT_EXPECT_EQ(test, ret, -EIO);
		KUNIT_EXPECT_EQ(test, hw, native);
		KUNIT_EXPECT_EQ(test, value, native);
	}
	KUNIT_EXPECT_TRUE(test, tried);
}

static void many_are_set_in_spite_of_one(struct kunit *test)
{
	unsigned int slot = tsc_aux_slot(test);
	struct uret_values *values = kunit_kzalloc(test, sizeof(*values), GFP_KERNEL);
	u64 hw, skipped, native;
	int ret[4];

	KUNIT_ASSERT_NOT_NULL(test, values);
	preempt_disable();
	native = hw_tsc_aux();
	ret[0] = uret_set_values(values);
	/* A slot that is not initialized, and data of a slot that is not in @load. */
	values->load = BIT(URET_MAX_SLOTS - 1);
	values->data[slot] = 2;
	ret[1] = uret_set_values(values);
	skipped = hw_tsc_aux();
	values->load |= BIT(slot);
	values->data[slot] = 3;
	ret[2] = uret_set_values(values);
	hw = hw_tsc_aux();
	uret_drop(&owner);
	preempt_enable();

	KUNIT_EXPECT_EQ(test, ret[0], 0);
	KUNIT_EXPECT_EQ(test, ret[1], -ENXIO);
	KUNIT_EXPECT_EQ(test, skipped, native);
	KUNIT_EXPECT_EQ(test, ret[2], -ENXIO);
	KUNIT_EXPECT_EQ(test, hw, 3);

	/* With a mask. */
	values->load = BIT(slot);
	values->partial = BIT(slot);
	values->data[slot] = 0xff00;
	values->mask[slot] = 0xff00;
	preempt_disable();
	native = hw_tsc_aux();
	ret[3] = uret_set_values(values);
	hw = hw_tsc_aux();
	uret_drop(&owner);
	preempt_enable();

	KUNIT_EXPECT_EQ(test, ret[3], 0);
	KUNIT_EXPECT_EQ(test, hw, (native & ~0xff00ULL) | 0xff00);
}

struct set_in_irq {
	struct irq_work work;
	int slot;
	int ret;
	bool done;
};

static void set_in_irq(struct irq_work *work)
{
	struct set_in_irq *set = container_of(work, struct set_in_irq, work);

	set->ret = uret_set(set->slot, 4712, ~0ULL);
	WRITE_ONCE(set->done, true);
}

static void a_set_in_a_wrong_context_touches_nothing(struct kunit *test)
{
	struct set_in_irq set = {
		.work = IRQ_WORK_INIT_HARD(set_in_irq),
		.slot = tsc_aux_slot(test),
	};
	u64 hw, value;

	preempt_disable();
	uret_set(set.slot, 4711, ~0ULL);
	irq_work_queue(&set.work);
	while (!READ_ONCE(set.done))
		cpu_relax();
	rdmsrq(MSR_TSC_AUX, hw);
	uret_get(set.slot, &value);
	uret_drop(&owner);
	preempt_enable();
	KUNIT_EXPECT_EQ(test, set.ret, -EPERM);
	KUNIT_EXPECT_EQ(test, hw, 4711);
	KUNIT_EXPECT_EQ(test, value, 4711);

	if (IS_ENABLED(CONFIG_PREEMPTION))
		KUNIT_EXPECT_EQ(test, uret_set(set.slot, 4712, ~0ULL), -EPERM);
}

struct set_in_callback {
	struct user_return_notifier urn;
	int slot;
	int ret;
};

static void set_in_callback(struct user_return_notifier *urn)
{
	struct set_in_callback *set = container_of(urn, struct set_in_callback, urn);

	set->ret = uret_set(set->slot, 4711, ~0ULL);
	user_return_notifier_unregister(urn);
}

/* A notifier armed now would not fire in this return to user mode. */
static void a_set_in_a_callback_is_refused(struct kunit *test)
{
	struct set_in_callback set = {
		.urn.on_user_return = set_in_callback,
		.slot = tsc_aux_slot(test),
	};
	u64 native, hw;
	int ret;

	preempt_disable();
	native = hw_tsc_aux();
	user_return_notifier_register(&set.urn);
	scoped_guard(irqsave)
		call_user_return_notifiers(0);
	hw = hw_tsc_aux();
	/* Outside of the callback, the set is accepted. */
	ret = uret_set(set.slot, 4711, ~0ULL);
	uret_drop(&owner);
	preempt_enable();

	KUNIT_EXPECT_EQ(test, set.ret, -EBUSY);
	KUNIT_EXPECT_EQ(test, hw, native);
	KUNIT_EXPECT_EQ(test, ret, 0);
}

static void a_full_table_is_an_error(struct kunit *test)
{
	int added = 1;

	/* A real CPU has fewer such MSRs; some emulators accept any number. */
	for (u32 msr = 0x0bad0000; msr < 0x0bad0100 && added < URET_MAX_SLOTS; msr++) {
		if (uret_add(&other_owner, msr) >= 0)
			added++;
	}
	if (added < URET_MAX_SLOTS)
		kunit_skip(test, "only %d MSRs can be added", added);
	KUNIT_EXPECT_EQ(test, uret_add(&other_owner, MSR_STAR), -ENOSPC);
	uret_del(&other_owner);
	KUNIT_EXPECT_GE(test, uret_add(&other_owner, MSR_STAR), 0);
}

static void del_restores_every_cpu(struct kunit *test)
{
	u64 hw;
	int cpu, ret;

	/* The CPU stays dirty after this thread has migrated. */
	preempt_disable();
	cpu = smp_processor_id();
	ret = uret_set(tsc_aux_slot(test), 4711, ~0ULL);
	preempt_enable();

	uret_del(&owner);
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_ASSERT_EQ(test, rdmsrq_on_cpu(cpu, MSR_TSC_AUX, &hw), 0);
	KUNIT_EXPECT_NE(test, hw, 4711);
}

static long set_4711(void *slot)
{
	int ret;

	preempt_disable();
	ret = uret_set((long)slot, 4711, ~0ULL);
	preempt_enable();
	return ret;
}

/* KVM is not loaded, so that only the callbacks of uret restore and read. */
static void hotplug_restores_and_reads_again(struct kunit *test)
{
	unsigned int cpu = cpumask_last(cpu_online_mask);
	long slot;

	if (!cpu)
		kunit_skip(test, "only one CPU");
	KUNIT_ASSERT_EQ(test, work_on_cpu(cpu, set_4711, test->priv), 0);
	KUNIT_ASSERT_EQ(test, remove_cpu(cpu), 0);

	/* A slot that was not restored is not removed. */
	uret_del(&owner);
	KUNIT_EXPECT_EQ(test, uret_find(MSR_TSC_AUX), -ENOENT);

	/* The CPU is offline, and reads the host's value of this slot when it comes online. */
	slot = uret_add(&owner, MSR_TSC_AUX);
	KUNIT_EXPECT_GE(test, slot, 0);
	KUNIT_ASSERT_EQ(test, add_cpu(cpu), 0);
	KUNIT_EXPECT_EQ(test, work_on_cpu(cpu, set_4711, (void *)slot), 0);
}

static struct kunit_case uret_msr_cases[] = {
	KUNIT_CASE(set_writes_and_drop_restores),
	KUNIT_CASE(a_dirty_slot_is_not_read_as_the_hosts),
	KUNIT_CASE(unknown_slots_are_errors),
	KUNIT_CASE(owners_are_told_apart),
	KUNIT_CASE(an_msr_that_faults_is_refused),
	KUNIT_CASE(a_refused_value_changes_nothing),
	KUNIT_CASE(many_are_set_in_spite_of_one),
	KUNIT_CASE(a_set_in_a_wrong_context_touches_nothing),
	KUNIT_CASE(a_set_in_a_callback_is_refused),
	KUNIT_CASE(a_full_table_is_an_error),
	KUNIT_CASE(del_restores_every_cpu),
	KUNIT_CASE(hotplug_restores_and_reads_again),
	{}
};

static struct kunit_suite uret_msr_suite = {
	.name = "uret_msr",
	.init = uret_test_init,
	.exit = uret_test_exit,
	.test_cases = uret_msr_cases,
};

kunit_test_suite(uret_msr_suite);

MODULE_AUTHOR("uret developers");
MODULE_DESCRIPTION("KUnit tests for uret, with real MSRs");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
