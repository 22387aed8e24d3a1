/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/cmdline.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "tests/ir/ir_test.h"

/*
 * What all of these share: the interrupt arrives; it is made wrong in one way; nothing arrives, and
 * the fault record says who, which entry and why; made right again, it arrives.
 */
struct blocked {
	struct irq_source *s;
	struct delivery *d;
	unsigned cpu, message;
	struct msi_msg right;
};

static struct blocked open_blocked(struct irq_source *s, struct delivery *d)
{
	struct blocked b = {.s = s, .d = d, .cpu = irq_source_cpu(s, 1)};
	struct t *t = d->t;

	irq_source_aim(s, d, 0, b.cpu, 0);
	REQUIRE_OK(t, s->iommu->ops->irq_message(s->iommu, s->irte[0], &b.right));
	irq_expect_one(s, d, 0, b.cpu, 0);
	s->iommu->ops->fault_clear(s->iommu);
	return b;
}

bool ir_expect_nothing(struct irq_source *s, struct delivery *d, unsigned index, const char *what)
{
	irq_source_raise(s, index);
	if (!WAIT_FOR(s->ex->ops->irq_pending(s->ex, index) != 0, MS(500)))
		test_error(d->t, "%s %s: the device did not signal: nothing was shown", irq_source_name(s), what);
	irq_window();
	/* A vCPU whose turn on the host had not come has it now: what reached it counts to this step. */
	delivery_fence(d->t);
	irq_source_ack(s, index);
	return delivery_check(d, "%s %s", irq_source_name(s), what);
}

/* Where every source has its own table, an entry of another's and another format are entries not there. */
static enum iommu_reason as_told(const struct iommu *u, enum iommu_reason reason)
{
	const bool as_absent = reason == IOMMU_FAULT_IR_SOURCE || reason == IOMMU_FAULT_IR_COMPAT;

	return u->caps.ir_by_source && as_absent ? IOMMU_FAULT_IR_NOT_PRESENT : reason;
}

static void expect_blocked(struct blocked *b, enum iommu_reason reason, int index, const char *what)
{
	struct irq_source *s = b->s;
	struct t *t = b->d->t;
	const bool tells = irq_source_can_tell(s, b->message);
	struct iommu_fault f;
	bool quiet;

	reason = as_told(s->iommu, reason);
	quiet = ir_expect_nothing(s, b->d, b->message, what);
	/*
	 * What cannot tell that it signalled may be on its way still: a device that signals beside the vCPU. What
	 * then comes late counts to this step. Where something was not blocked already, the absent fault is but a
	 * second symptom.
	 */
	if (iommu_fault_wait(s->iommu, &f, test_has_failed(t) && (tells || !quiet) ? MS(2)
					   : tells || test_has_failed(t)         ? MS(100)
										 : SEC(1)) < 0) {
		if (!tells)
			delivery_check(b->d, "%s %s", irq_source_name(s), what);
		EXPECT_MSG(t, false, "%s %s: fault: got none recorded, expected one", irq_source_name(s), what);
		return;
	}
	EXPECT_MSG(t, f.interrupt, "%s %s: fault: got a DMA's at %llx, expected an interrupt's", irq_source_name(s),
		   what, (unsigned long long)f.iova.v);
	EXPECT_MSG(t, f.rid.v == s->ex->rid.v, "%s %s: fault's source: got " PRIRID ", expected " PRIRID,
		   irq_source_name(s), what, RIDARG(f.rid), RIDARG(s->ex->rid));
	EXPECT_MSG(t, f.reason == reason, "%s %s: fault's reason: got %s (0x%x), expected %s", irq_source_name(s),
		   what, iommu_reason_name(f.reason), f.raw_reason, iommu_reason_name(reason));
	if (index >= 0 && f.ir_index != IR_INDEX_UNKNOWN)
		EXPECT_MSG(t, f.ir_index == IR_INDEX_WIRE(index), "%s %s: fault's index: got %u, expected %u",
			   irq_source_name(s), what, f.ir_index, IR_INDEX_WIRE(index));
	s->iommu->ops->fault_clear(s->iommu);
}

static void close_blocked(struct blocked *b)
{
	irq_source_message(b->s, 0, &b->right);
	irq_expect_one(b->s, b->d, 0, b->cpu, 0);
	delivery_finish(b->d, "%s, at the end", irq_source_name(b->s));
}

static void each(struct t *t, void (*fn)(struct blocked *))
{
	struct delivery *d = delivery_open(t, 2);
	const char *why = "no device under test with MSI or MSI-X";
	unsigned shown = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex) {
		struct irq_source *s = irq_source_open(t, ex, IRQ_REMAPPED, &why);
		struct blocked b;

		if (!s)
			continue;
		b = open_blocked(s, d);
		fn(&b);
		close_blocked(&b);
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}

static void not_present(struct blocked *b)
{
	struct irq_source *s = b->s;
	struct t *t = b->d->t;
	const int index = s->irte[0];

	/* The message stays as it is; what it names is gone. */
	s->irte[0] = -1;
	ASSERT_OK(t, s->iommu->ops->irq_unmap(s->iommu, index));
	expect_blocked(b, IOMMU_FAULT_IR_NOT_PRESENT, index, "its entry not present");
	irq_source_aim(s, b->d, 0, b->cpu, 0);
	REQUIRE_OK(t, s->iommu->ops->irq_message(s->iommu, s->irte[0], &b->right));
}

/*
 * A message that names an entry which is not present is blocked (VT-d 5.1.4.1, reason 22h).
 */
TEST(ir, not_present, "a message to an entry that is not present is blocked, and the fault names both", NEED_IR)
{
	each(t, not_present);
}

static void out_of_range(struct blocked *b)
{
	const int index = (int)b->s->iommu->caps.ir_entries;
	struct msi_msg beyond;

	/*
	 * QEMU translates an MSI-X message for KVM when the entry is unmasked, and aborts when it cannot
	 * (10.0, msix_fire_vector_notifier): nothing that a run of this suite may do by the way.
	 */
	if (cpu_features.accel == ACCEL_KVM && b->s->ex->irq_is_msix && !cmdline.disruptive) {
		test_note(b->d->t, "%s: not tried: QEMU under KVM may abort; allow=disruptive tries it",
			  irq_source_name(b->s));
		return;
	}
	/* The first index that the table does not have; further on would be somebody's memory. */
	if (b->s->iommu->ops->irq_message(b->s->iommu, index, &beyond) < 0)
		test_skip(b->d->t, "the table has every entry that a message can name");
	irq_source_message(b->s, 0, &beyond);
	expect_blocked(b, IOMMU_FAULT_IR_RANGE, index, "its index past the table");
}

/*
 * A message that names an entry past the end of the table is blocked (VT-d 5.1.4.1, reason 21h): what
 * lies behind the table in memory is not an entry.
 */
TEST(ir, out_of_range, "a message to an entry past the end of the table is blocked", NEED_IR)
{
	each(t, out_of_range);
}

static void wrong_source(struct blocked *b)
{
	const struct irq_route route = {.dest = cpus[b->cpu]->apic_id, .vector = (uint8_t)b->d->vector[0]};
	/* Only the function number differs: a check of bus and device alone would let it pass. */
	const pci_rid_t other = {b->s->ex->rid.v ^ 1};
	struct iommu *u = b->s->iommu;
	struct t *t = b->d->t;

	ASSERT_OK(t, u->ops->irq_update(u, b->s->irte[0], other, &route));
	expect_blocked(b, IOMMU_FAULT_IR_SOURCE, b->s->irte[0], "its entry another function's");
	ASSERT_OK(t, u->ops->irq_update(u, b->s->irte[0], b->s->ex->rid, &route));
}

/*
 * An entry serves the function whose it is and no other (VT-d 5.1.3, SVT = 01b; reason 26h). Without
 * this a device that a guest owns could raise any interrupt of the machine.
 */
TEST(ir, wrong_source, "a message to another function's entry is blocked", NEED_IR)
{
	each(t, wrong_source);
}

/* Message k of n is made wrong in two ways; its neighbours arrive, and so does it when it is made right again. */
static void one_of_many(struct irq_source *s, struct delivery *d, const struct irq_route *route, unsigned n, unsigned k)
{
	struct blocked b = {.s = s, .d = d, .message = k};
	const pci_rid_t other = {s->ex->rid.v ^ 1};
	struct iommu *u = s->iommu;
	const int index = s->irte[k];
	char what[64];

	ASSERT_OK(d->t, u->ops->irq_update(u, index, other, &route[k]));
	fmt_snprintf(what, sizeof(what), "message %u of %u, its entry another function's", k, n);
	expect_blocked(&b, IOMMU_FAULT_IR_SOURCE, index, what);
	irq_expect_one(s, d, k ^ 1, irq_source_cpu(s, k ^ 1), k ^ 1);
	ASSERT_OK(d->t, u->ops->irq_update(u, index, s->ex->rid, &route[k]));
	irq_expect_one(s, d, k, irq_source_cpu(s, k), k);

	s->irte[k] = -1;
	ASSERT_OK(d->t, u->ops->irq_unmap(u, index));
	fmt_snprintf(what, sizeof(what), "message %u of %u, its entry not present", k, n);
	expect_blocked(&b, IOMMU_FAULT_IR_NOT_PRESENT, index, what);
	irq_expect_one(s, d, k ^ 1, irq_source_cpu(s, k ^ 1), k ^ 1);
	irq_source_messages(s, route, n);
	irq_expect_one(s, d, k, irq_source_cpu(s, k), k);
}

/*
 * Each of a function's messages is checked by its own entry.
 *
 * VT-d 5.1.2.2 (handle + subhandle), 5.1.4.1; AMD 48882, 2.2.5: a unit that looks at the first entry for all of them
 * blocks too much or too little here, or names the wrong one. The first message, one in the middle, the last.
 */
TEST(ir, multi_message, "of several messages the one whose entry is wrong is blocked, and the fault names its entry", NEED_IR,
     NEED_EX_MSI)
{
	struct irq_route route[32] = {{0}};
	struct delivery *d = delivery_open(t, ARRAY_SIZE(route));
	const char *why = "no device under test has more than one MSI message (MSI control, bits 3:1)";
	unsigned shown = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex) {
		const unsigned n = MIN(ex->irq_count, ex->msi.count_max);
		struct irq_source *s;

		if (ex->irq_is_msix || n < 2)
			continue;
		s = irq_source_open(t, ex, IRQ_REMAPPED, &why);
		if (!s)
			continue;
		for (unsigned i = 0; i < n; i++) {
			route[i].dest = cpus[irq_source_cpu(s, i)]->apic_id;
			route[i].vector = (uint8_t)d->vector[i];
		}
		irq_source_messages(s, route, n);
		s->iommu->ops->fault_clear(s->iommu);
		one_of_many(s, d, route, n, 0);
		one_of_many(s, d, route, n, n / 2);
		one_of_many(s, d, route, n, n - 1);
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}

static void reserved_bits(struct blocked *b)
{
	const struct irq_route route = {.dest = cpus[b->cpu]->apic_id, .vector = (uint8_t)b->d->vector[0]};
	struct irq_source *s = b->s;
	struct iommu *u = s->iommu;
	struct t *t = b->d->t;
	char what[48];

	for (unsigned k = 0;; k++) {
		const int r = u->ops->irq_reserved ? u->ops->irq_reserved(u, s->irte[0], k) : -ERANGE;

		if (r == -ERANGE)
			break;
		REQUIRE_OK(t, r);
		fmt_snprintf(what, sizeof(what), "its entry with reserved field %u set", k);
		expect_blocked(b, IOMMU_FAULT_IR_RESERVED, s->irte[0], what);
		ASSERT_OK(t, u->ops->irq_update(u, s->irte[0], s->ex->rid, &route));
		irq_expect_one(s, b->d, 0, b->cpu, 0);
	}
}

/*
 * An entry that is present and has a reserved bit set is no entry (VT-d 5.1.4.1, reason 24h; AMD 48882, 2.2.5.2):
 * what a later unit means by that bit, this one must not guess. One reserved field after the other, and each
 * time the entry without it, which works.
 */
TEST(ir, reserved_bits, "a message to an entry with a reserved bit set is blocked, one field after the other", NEED_IR)
{
	each(t, reserved_bits);
}

static void compat_blocked(struct blocked *b)
{
	const struct irq_route route = {.dest = cpus[0]->apic_id, .vector = (uint8_t)b->d->vector[1]};
	struct msi_msg compat;
	const char *why;

	if (msg_compat(&route, &compat, &why) < 0)
		test_error(b->d->t, "CPU 0: %s", why);
	irq_source_message(b->s, 0, &compat);
	expect_blocked(b, IOMMU_FAULT_IR_COMPAT, -1, "in compatibility format");
}

/*
 * With remapping on, and compatibility format not asked for, such messages are blocked (VT-d 5.1.4,
 * reason 25h): else every device could still name any CPU and vector.
 */
TEST(ir, compat_blocked, "a message in compatibility format is blocked while remapping is on", NEED_IR)
{
	each(t, compat_blocked);
}

static void change(struct irq_source *s, const struct delivery *d, unsigned cpu, unsigned v, bool all)
{
	const struct irq_route route = {.dest = cpus[cpu]->apic_id, .vector = (uint8_t)d->vector[v]};
	struct iommu *u = s->iommu;

	if (!all || s->irte[0] < 0) {
		irq_source_aim(s, d, 0, cpu, v);
		return;
	}
	REQUIRE_OK(d->t, u->ops->irq_write(u, s->irte[0], s->ex->rid, &route));
	REQUIRE_OK(d->t, u->ops->irq_sync(u));
}

/*
 * A changed entry counts from the moment its invalidation is done.
 *
 * VT-d 6.5.2.7: from CPU to CPU and from vector to vector, the message unchanged; between any two
 * the old destination would show as a stray. It first goes back and forth between two, with an
 * interrupt after each change, so that a cache holds the one that is about to be wrong. Half of the changes are
 * made good by the entry's own invalidation, half by that of all entries.
 */
TEST(ir, update, "an entry changed and invalidated, alone or with all, moves the interrupt at once", NEED_IR)
{
	struct delivery *d = delivery_open(t, 2);
	const char *why = "no device under test with MSI or MSI-X";
	unsigned shown = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex) {
		struct irq_source *s = irq_source_open(t, ex, IRQ_REMAPPED, &why);

		if (!s)
			continue;
		for (unsigned i = 0; i < 16; i++) {
			const unsigned cpu = irq_source_cpu(s, i & 1), v = i >> 1 & 1;

			change(s, d, cpu, v, i & 4);
			irq_expect_one(s, d, 0, cpu, v);
		}
		delivery_finish(d, "%s, after 16 changes", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}
