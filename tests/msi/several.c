/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "tests/msi/irq_test.h"

#define MESSAGES_MAX 32

/* Ours that are neighbours, the first a multiple of n; its place in vector[], or -1. */
static int aligned_run(const struct delivery *d, unsigned n)
{
	for (unsigned i = 0; i + n <= d->vectors; i++)
		if (d->vector[i] % (int)n == 0 && d->vector[i + n - 1] == d->vector[i] + (int)n - 1)
			return (int)i;
	return -1;
}

static void some_messages(struct irq_source *s, struct delivery *d, unsigned n, unsigned cpu)
{
	struct exerciser *ex = s->ex;
	const int first = aligned_run(d, n);
	struct irq_route r = {.dest = cpus[cpu]->apic_id};
	struct msi_msg msg;
	const char *why;

	if (first < 0)
		test_error(d->t, "no %u vectors in a row", n);
	r.vector = (uint8_t)d->vector[first];
	if (msg_compat(&r, &msg, &why) < 0)
		test_error(d->t, "CPU %u: %s", cpu, why);
	irq_source_enable(s, false);
	REQUIRE_OK(d->t, msi_program(&ex->msi, &msg, n));
	for (unsigned i = 0; i < n; i++)
		msi_mask(&ex->msi, i, false);
	irq_source_enable(s, true);
	for (unsigned i = 0; i < n; i++)
		irq_expect_one(s, d, i, cpu, (unsigned)first + i);
	/* And downwards, so that a neighbour's is not this one's by its turn. */
	for (unsigned i = n; i-- > 0;)
		irq_expect_one(s, d, i, cpu, (unsigned)first + i);
	delivery_finish(d, "%s, %u messages", irq_source_name(s), n);
}

/*
 * A function with several messages tells them apart by the low bits of the data.
 *
 * PCI 3.0, 6.8.1.3 and 6.8.1.6: granted n (2 to 32), it writes data + i, and the vector of each is its own. A VMM
 * that grants one whatever Multiple Message Enable says, or sends all by the first, fails here. Without
 * remapping: through it each would need an entry beside the last one's (VT-d 5.1.5.2), which we do not give out.
 */
TEST(msi, multi_message, "2 to 32 messages: each its own vector", NEED_EX_MSI)
{
	struct delivery *d = delivery_open(t, 2 * MESSAGES_MAX - 1);
	unsigned shown = 0;

	/* They are given out in turn: where they began anew in the middle, the next ones are in a row. */
	if (d->vector[d->vectors - 1] < d->vector[0])
		d = delivery_open(t, 2 * MESSAGES_MAX - 1);
	FOR_EACH_IRQ_EXERCISER(t, ex) {
		const char *why;
		struct irq_source *s;

		if (ex->irq_is_msix || ex->irq_count < 2)
			continue;
		s = irq_source_open(t, ex, IRQ_DIRECT, &why);
		for (unsigned n = 2; n <= MIN(ex->irq_count, ex->msi.count_max); n *= 2)
			some_messages(s, d, n, irq_source_cpu(s, n / 2));
		test_note(t, "%s: up to %u of %u messages", irq_source_name(s), ex->irq_count, ex->msi.count_max);
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "no device under test has more than one MSI message (MSI control, bits 3:1)");
}

static void held_and_released(struct irq_source *s, struct delivery *d, unsigned cpu)
{
	struct msi *m = &s->ex->msi;
	const char *who = irq_source_name(s);

	irq_source_aim(s, d, 0, cpu, 0);
	irq_expect_one(s, d, 0, cpu, 0);
	EXPECT_MSG(d->t, !(msi_pending(m) & 1), "%s: pending bit: got 1 before anything was masked", who);

	msi_mask(m, 0, true);
	irq_source_raise(s, 0);
	EXPECT_MSG(d->t, WAIT_FOR(msi_pending(m) & 1, SEC(1)), "%s, masked and raised: pending bit: got 0, expected 1",
		   who);
	delivery_window();
	delivery_check(d, "%s, masked", who);

	delivery_due(d, cpu, 0, 1);
	msi_mask(m, 0, false);
	delivery_check(d, "%s, unmasked again", who);
	EXPECT_MSG(d->t, !(msi_pending(m) & 1), "%s, delivered after unmasking: pending bit: got 1, expected 0", who);
	irq_source_ack(s, 0);
	irq_expect_one(s, d, 0, cpu, 0);
}

/*
 * A masked message is held: the pending bit shows it, nothing arrives; unmasked, it arrives once.
 *
 * PCI 3.0, 6.8.1.7, 6.8.1.8 and 6.8.1.9, for a function whose MSI has Per-Vector Masking. Lost here, a driver that
 * masks while it moves an interrupt hangs; doubled, it sees ghosts.
 */
TEST(msi, mask, "per-vector mask holds, pending bit shows, unmask delivers once", NEED_EX_MSI)
{
	struct delivery *d = delivery_open(t, 1);
	unsigned shown = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex)
	for (enum irq_via via = 0; via < IRQ_VIA_COUNT && !ex->irq_is_msix && ex->msi.maskable; via++) {
		const char *why;
		struct irq_source *s = irq_source_open(t, ex, via, &why);

		if (!s)
			continue;
		held_and_released(s, d, irq_source_cpu(s, 0));
		held_and_released(s, d, irq_source_cpu(s, 1));
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "no device under test has MSI with per-vector masking (MSI control, bit 8)");
}
