/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/ioapic/remap.h"
#include "tests/ir/ir_test.h"

/* Bits of a 32-bit destination that 8-bit ones lack: of an APIC ID, and of a cluster's number. */
static const uint32_t wide_ids[] = {0x100, 0x8000, 0x10000, 0x40000000};
static const uint32_t wide_clusters[] = {0x00100000, 0x08000000};

#define NOBODIES (ARRAY_SIZE(wide_ids) + ARRAY_SIZE(wide_clusters))

static bool somebody_is(const struct delivery *d, uint32_t dest, enum irq_dest_mode mode)
{
	for (unsigned cpu = 0; cpu < d->cpus; cpu++)
		if (mode == IRQ_PHYSICAL ? cpus[cpu]->apic_id == dest
					 : apic_logical_id(cpu) >> 16 == dest >> 16)
			return true;
	return false;
}

static void route(struct irq_source *s, uint32_t dest, enum irq_dest_mode mode, int vector)
{
	const struct irq_route r = {.dest = dest, .mode = mode, .vector = (uint8_t)vector};
	const char *why = NULL;
	const int err = irq_source_route(s, 0, &r, &why);

	if (err < 0)
		test_error(s->t, "%s: destination 0x%x: -%s (%s)", s->name, dest, err_name(err), why ? why : "");
}

/* To a destination that nobody is, by a vector of its own, so that one window serves for all of them. */
static void send(struct irq_source *s, uint32_t dest, enum irq_dest_mode mode, int vector)
{
	route(s, dest, mode, vector);
	irq_source_raise(s, 0);
	if (!WAIT_FOR(s->ex->ops->irq_pending(s->ex, 0) != 0, MS(500)))
		test_error(s->t, "%s: the device did not signal: nothing was shown", irq_source_name(s));
	/* One whose message goes by way of the host must not send two as one, nor this one as the next. */
	irq_vmm_turn();
	if (!irq_source_can_tell(s, 0))
		delivery_window();
	irq_source_ack(s, 0);
}

/* A CPU's ID with a bit that makes it nobody's: whoever cuts it off delivers to that CPU. */
static void nobody(struct irq_source *s, struct delivery *d, unsigned cpu)
{
	for (size_t i = 0; i < ARRAY_SIZE(wide_ids); i++)
		if (!somebody_is(d, cpus[cpu]->apic_id | wide_ids[i], IRQ_PHYSICAL))
			send(s, cpus[cpu]->apic_id | wide_ids[i], IRQ_PHYSICAL, d->vector[i]);
	for (size_t i = 0; i < ARRAY_SIZE(wide_clusters); i++)
		if (!somebody_is(d, apic_logical_id(cpu) | wide_clusters[i], IRQ_LOGICAL))
			send(s, apic_logical_id(cpu) | wide_clusters[i], IRQ_LOGICAL, d->vector[ARRAY_SIZE(wide_ids) + i]);
	irq_window();
	delivery_fence(d->t);
	/* The vectors in this order: IDs with bit 8, 15, 16, 30 added, clusters with bit 4, 11. */
	delivery_check(d, "%s, vectors 0x%x to 0x%x, to IDs above 255 and clusters above 15 that nobody has", irq_source_name(s),
		       (unsigned)d->vector[0], (unsigned)d->vector[NOBODIES - 1]);
}

static unsigned wide_cpus(struct irq_source *s, struct delivery *d)
{
	unsigned n = 0;

	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		if (cpus[cpu]->apic_id < 255)
			continue;
		route(s, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0]);
		irq_expect_one(s, d, 0, cpu, 0);
		if (cpus[cpu]->apic_id >= 256) {
			route(s, apic_logical_id(cpu), IRQ_LOGICAL, d->vector[1]);
			irq_expect_one(s, d, 0, cpu, 1);
		}
		n++;
	}
	return n;
}

/* The same for a pin of the I/O APIC, whose own entry has eight bits. */
static void wide_pin(struct t *t, struct delivery *d)
{
	const char *why;
	struct pin *pin = pit_open(t, &why);
	struct pin_user *p = pin ? pin_remap(t, pin, &why) : NULL;
	const unsigned last = d->cpus - 1;

	if (!p || !p->u->remapping_eim) {
		test_note(t, "no I/O APIC pin: %s", p ? "its unit has no EIM" : why);
		return;
	}
	REQUIRE_OK(t, pin_route(p, cpus[last]->apic_id | 0x10000, IRQ_PHYSICAL, IRQ_FIXED, d->vector[0], &why));
	pit_pulse();
	if (!WAIT_FOR(pit_signalled(), SEC(1)))
		test_error(t, "the PIT never signalled");
	delivery_window();
	delivery_fence(t);
	delivery_check(d, "pin %u to an APIC ID above 255 that nobody has", pin->pin);
	REQUIRE_OK(t, pin_route(p, cpus[last]->apic_id, IRQ_PHYSICAL, IRQ_FIXED, d->vector[0], &why));
	delivery_due(d, last, 0, 1);
	pit_pulse();
	delivery_finish(d, "pin %u to the last CPU (APIC ID 0x%x)", pin->pin, cpus[last]->apic_id);
	pin_release(p);
}

/*
 * Through the remapping unit a destination has all its 32 bits.
 *
 * VT-d 5.1.4 and 9.10 (EIME, DST), AMD-Vi XT (48882, 2.2.5.3): CPUs with APIC IDs of 255 and above are reached by ID
 * and by logical ID, clusters above 15 too. And whether or not there are such: a CPU's ID with one more bit, far up,
 * is nobody's. A VMM that keeps eight bits of it delivers to that CPU instead.
 */
TEST(ir, wide, "32-bit destinations: IDs above 255 and clusters above 15 are reached, and not mistaken for others", NEED_IR,
     NEED_IR_EIM, NEED_X2APIC)
{
	struct delivery *d = delivery_open(t, NOBODIES);
	const char *why = "no device under test with MSI or MSI-X";
	unsigned shown = 0, wide = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex) {
		struct irq_source *s = irq_source_open(t, ex, IRQ_REMAPPED, &why);

		if (!s)
			continue;
		if (!s->iommu->remapping_eim) {
			irq_source_close(s);
			why = "its unit has no EIM";
			continue;
		}
		nobody(s, d, 0);
		nobody(s, d, d->cpus - 1);
		wide = wide_cpus(s, d);
		irq_source_aim(s, d, 0, 0, 0);
		irq_expect_one(s, d, 0, 0, 0);
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
	if (ioapic_count)
		wide_pin(t, d);
	if (wide)
		test_note(t, "%u CPUs with an APIC ID of 255 or more", wide);
	else
		test_note(t, "no CPU has an APIC ID above 254: shown is that such IDs are not mistaken for others");
}
