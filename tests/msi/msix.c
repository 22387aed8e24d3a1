/* SPDX-License-Identifier: MIT */

#include "tests/msi/irq_test.h"

#define ENTRIES_MAX 16

static unsigned entries(const struct exerciser *ex)
{
	return MIN(ex->irq_count, (unsigned)ENTRIES_MAX);
}

/*
 * Each MSI-X entry has its own vector and its own CPU.
 *
 * PCI 3.0, 6.8.2. All entries (the first 16) are aimed before the first is raised, at CPUs in turn;
 * then once more with each entry on the next CPU. A VMM that looks at entry 0 only, or does not see a
 * table write, delivers to the wrong one.
 */
TEST(msix, vectors, "each entry its own vector and CPU", NEED_EX_MSIX)
{
	struct delivery *d = delivery_open(t, ENTRIES_MAX);

	FOR_EACH_EXERCISER(t, ex, EX_IRQ | EX_MSIX)
		for (enum irq_via via = 0; via < IRQ_VIA_COUNT; via++) {
			const char *why;
			struct irq_source *s = irq_source_open(t, ex, via, &why);

			if (!s)
				continue;
			for (unsigned round = 0; round < 2; round++) {
				for (unsigned i = 0; i < entries(ex); i++)
					irq_source_aim(s, d, i, irq_source_cpu(s, i + round), i);
				for (unsigned i = 0; i < entries(ex); i++)
					irq_expect_one(s, d, i, irq_source_cpu(s, i + round), i);
			}
			delivery_finish(d, "%s, all entries", irq_source_name(s));
			test_note(t, "%s: %u entries of %u", irq_source_name(s), entries(ex), ex->irq_count);
			irq_source_close(s);
		}
}

/* By the entry's own mask bit, or by that of the function. */
static void set_mask(struct exerciser *ex, unsigned index, bool function, bool masked)
{
	if (function)
		msix_function_mask(&ex->msix, masked);
	else
		msix_mask(&ex->msix, index, masked);
}

static void held_and_released(struct irq_source *s, struct delivery *d, unsigned index, bool function)
{
	const char *how = function ? "by the function" : "by its entry";
	struct exerciser *ex = s->ex;
	const unsigned cpu = irq_source_cpu(s, index + 1);

	irq_source_aim(s, d, index, cpu, 0);
	irq_expect_one(s, d, index, cpu, 0);
	EXPECT_MSG(d->t, !msix_pending(&ex->msix, index),
		   "%s, entry %u: pending bit: got 1 before anything was masked", irq_source_name(s), index);

	set_mask(ex, index, function, true);
	irq_source_raise(s, index);
	EXPECT_MSG(d->t, WAIT_FOR(msix_pending(&ex->msix, index), SEC(1)),
		   "%s, entry %u, masked %s and raised: pending bit: got 0, expected 1", irq_source_name(s),
		   index, how);
	irq_window();
	delivery_check(d, "%s, entry %u, masked %s", irq_source_name(s), index, how);

	delivery_due(d, cpu, 0, 1);
	set_mask(ex, index, function, false);
	delivery_check(d, "%s, entry %u, unmasked again %s", irq_source_name(s), index, how);
	EXPECT_MSG(d->t, !msix_pending(&ex->msix, index),
		   "%s, entry %u, delivered after unmasking %s: pending bit: got 1, expected 0",
		   irq_source_name(s), index, how);
	irq_source_ack(s, index);
	irq_expect_one(s, d, index, cpu, 0);
}

/*
 * A masked entry holds its interrupt: the pending bit shows it, nothing arrives; unmasked, it arrives
 * once and the bit is clear. The Function Mask does the same to all entries. PCI 3.0, 6.8.2.9 and
 * 6.8.3.4. Lost here means that a driver hangs, doubled means that it sees ghosts.
 */
TEST(msix, mask_pba,
     "masked: PBA bit set, nothing arrives; unmask: arrives once, bit clear; function mask likewise",
     NEED_EX_MSIX)
{
	struct delivery *d = delivery_open(t, 1);

	FOR_EACH_EXERCISER(t, ex, EX_IRQ | EX_MSIX)
	for (enum irq_via via = 0; via < IRQ_VIA_COUNT; via++) {
		const char *why;
		struct irq_source *s = irq_source_open(t, ex, via, &why);
		const unsigned last = entries(ex) - 1;

		if (!s)
			continue;
		held_and_released(s, d, 0, false);
		if (last)
			held_and_released(s, d, last, false);
		held_and_released(s, d, last, true);
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		irq_source_close(s);
	}
}
