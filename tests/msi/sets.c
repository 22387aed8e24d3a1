/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/apic/sets.h"
#include "tests/msi/irq_test.h"

#define SETS_MAX 12

static void one_set(struct irq_source *s, struct delivery *d, uint32_t dest, enum irq_delivery delivery, unsigned v)
{
	const struct irq_route r = {
		.dest = dest, .mode = IRQ_LOGICAL, .delivery = delivery, .vector = (uint8_t)d->vector[v]};
	const char *why;
	const int err = irq_source_route(s, 0, &r, &why);

	if (err < 0)
		test_error(d->t, "%s: logical 0x%x: -%s (%s)", irq_source_name(s), dest, err_name(err), why ? why : "");
	if (delivery == IRQ_FIXED)
		dest_due(d, dest, v);
	irq_source_raise(s, 0);
	if (delivery == IRQ_LOWEST)
		dest_one_of(d, dest, v, irq_source_name(s));
	delivery_check(d, "%s, %s to the %u CPUs of 0x%x", irq_source_name(s),
		       delivery == IRQ_LOWEST ? "lowest priority" : "fixed", dest_members(d, dest), dest);
	irq_source_ack(s, 0);
}

/*
 * One message to several CPUs reaches each of them once, and by lowest priority exactly one of them.
 *
 * SDM vol. 3, 11.6.2.2, 11.6.2.4 and 11.11.1; VT-d 9.10 (DM, DLM, RH). Whole clusters and seeded sets of their
 * members: in xAPIC mode by the message itself, in x2APIC mode, whose logical IDs fit no message, through the
 * remapping unit. What reaches nobody, one for all, or all for one, is a wrong reading of the logical ID.
 */
TEST(msi, multicast, "a logical set: exactly the members it names, and exactly one by lowest priority", NEED_EX_IRQ)
{
	struct random random = random_seed(test_seed(t));
	struct delivery *d;
	const char *why = "no device under test with MSI or MSI-X";
	uint32_t sets[SETS_MAX];
	unsigned shown = 0, n;

	if (apic_mode == APIC_X2APIC && !apic_policy.cluster)
		test_skip(t, "%s", apic_policy.why);
	d = delivery_open(t, 2);
	n = dest_sets(d, &random, sets, SETS_MAX);
	FOR_EACH_IRQ_EXERCISER(t, ex)
	for (enum irq_via via = apic_mode == APIC_X2APIC ? IRQ_REMAPPED : IRQ_DIRECT; via < IRQ_VIA_COUNT; via++) {
		struct irq_source *s = irq_source_open(t, ex, via, &why);

		if (!s)
			continue;
		for (unsigned i = 0; i < n; i++) {
			one_set(s, d, sets[i], IRQ_FIXED, 0);
			one_set(s, d, sets[i], IRQ_LOWEST, 1);
		}
		delivery_finish(d, "%s, after all sets", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
	test_note(t, "%u sets of %u CPUs, each fixed and by lowest priority", n, d->cpus);
}
