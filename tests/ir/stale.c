/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "tests/ir/ir_test.h"

/* The message by the entry as it was, to (old, vector 0), then as it is, to (new, vector 1). */
static void one_source(struct irq_source *s, struct delivery *d)
{
	const unsigned old = irq_source_cpu(s, 1), new = irq_source_cpu(s, 0);
	const struct irq_route route = {.dest = cpus[new]->apic_id, .vector = (uint8_t)d->vector[1]};
	struct iommu *u = s->iommu;
	struct t *t = d->t;
	uint32_t was_old, was_new;
	bool kept;

	irq_source_aim(s, d, 0, old, 0);
	irq_expect_one(s, d, 0, old, 0);     /* and the unit may have kept it */
	was_old = delivery_count(d, old, 0);
	was_new = delivery_count(d, new, 1);
	REQUIRE_OK(t, u->ops->irq_write(u, s->irte[0], s->ex->rid, &route));
	irq_source_raise(s, 0);
	WAIT_FOR(delivery_count(d, old, 0) != was_old || delivery_count(d, new, 1) != was_new, MS(500));
	kept = delivery_count(d, old, 0) != was_old;
	delivery_due(d, kept ? old : new, kept ? 0 : 1, 1);
	delivery_check(d, "%s, its entry rewritten and not invalidated", irq_source_name(s));
	irq_source_ack(s, 0);
	test_note(t, "%s: before the invalidation the old entry was %s", irq_source_name(s),
		  kept ? "used" : "not used: a forgotten invalidation would not show here");

	ASSERT_OK(t, u->ops->irq_update(u, s->irte[0], s->ex->rid, &route));
	irq_expect_one(s, d, 0, new, 1);
	delivery_finish(d, "%s, at the end", irq_source_name(s));
}

/*
 * Between a change of an entry and its invalidation: which one does the unit use?
 *
 * VT-d 6.1, 6.5.2.7; AMD 48882, 2.4.6: either is right, so that it is told and not judged. Judged is that
 * the interrupt arrives exactly once, by one of the two, and by the new one after the invalidation.
 */
TEST(ir, stale, "between change and invalidation the old entry or the new one is used (told which), then the new",
     NEED_IR)
{
	struct delivery *d = delivery_open(t, 2);
	const char *why = "no device under test with MSI or MSI-X";
	unsigned shown = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex) {
		struct irq_source *s = irq_source_open(t, ex, IRQ_REMAPPED, &why);

		if (!s)
			continue;
		one_source(s, d);
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}
