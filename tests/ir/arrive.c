/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/ioapic/remap.h"
#include "tests/ir/ir_test.h"

/* The units that remap, in front of a device that interrupts; else SKIP says why not. */
#define FOR_EACH_REMAPPED(t, ex, s, why)                                                           \
	FOR_EACH_IRQ_EXERCISER(t, ex)                                                              \
		for (struct irq_source *s = irq_source_open(t, ex, IRQ_REMAPPED, &(why)); s;       \
		     irq_source_close(s), s = NULL)

/*
 * Remapping goes on, off and on again, and each time the state is the one that the registers show.
 *
 * VT-d 5.1, 11.4.4.1 (SIRTP, IRE): with it on a remappable message arrives through its entry; with it
 * off that message reaches nobody and a compatibility one arrives as it stands; with it on again the
 * entry that was made before counts again. A second request for what is on changes nothing.
 */
TEST(ir, enable, "remapping is switched on, off and on again, and messages go the way of each", NEED_IR)
{
	struct delivery *d = delivery_open(t, 2);
	const char *why = "no device under test with MSI or MSI-X";
	unsigned shown = 0;

	FOR_EACH_REMAPPED(t, ex, s, why) {
		const unsigned cpu = irq_source_cpu(s, 1);
		struct iommu *u = s->iommu;
		const bool eim = u->remapping_eim;
		const struct irq_route direct = {.dest = cpus[0]->apic_id, .vector = (uint8_t)d->vector[1]};
		struct msi_msg remapped, compat;

		irq_source_aim(s, d, 0, cpu, 0);
		REQUIRE_OK(t, u->ops->irq_message(u, s->irte[0], &remapped));
		REQUIRE_OK(t, msg_compat(&direct, &compat, &why));
		for (unsigned round = 0; round < 2; round++) {
			EXPECT_OK(t, u->ops->ir_enable(u, eim));
			EXPECT(t, u->remapping);
			irq_source_message(s, 0, &remapped);
			irq_expect_one(s, d, 0, cpu, 0);
			u->ops->ir_disable(u);
			ASSERT(t, !u->remapping);
			/*
			 * Its vector field is 0, which no CPU takes. Written anew: QEMU translates an MSI-X
			 * message for KVM when it is unmasked.
			 */
			irq_source_message(s, 0, &remapped);
			ir_expect_nothing(s, d, 0, "by its entry, with remapping off");
			irq_source_message(s, 0, &compat);
			irq_expect_one(s, d, 0, 0, 1);
			ASSERT_OK(t, u->ops->ir_enable(u, eim));
		}
		irq_source_message(s, 0, &remapped);
		irq_expect_one(s, d, 0, cpu, 0);
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}

static void each_cpu(struct irq_source *s, struct delivery *d, enum irq_dest_mode mode)
{
	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		const struct irq_route r = {
			.dest = mode == IRQ_LOGICAL ? apic_logical_id(cpu) : cpus[cpu]->apic_id,
			.mode = mode,
			.vector = (uint8_t)d->vector[cpu % d->vectors],
		};
		const bool wide = cpus[cpu]->apic_id > 254 && !s->iommu->remapping_eim;
		const char *why;
		const int err = irq_source_route(s, 0, &r, &why);

		if (err < 0)
			EXPECT_MSG(d->t, wide, "%s: CPU %u (APIC ID 0x%x): got -%s (%s), expected an entry",
				   irq_source_name(s), cpu, cpus[cpu]->apic_id, err_name(err), why);
		else
			irq_expect_one(s, d, 0, cpu, cpu % d->vectors);
	}
	delivery_finish(d, "%s, after all CPUs", irq_source_name(s));
}

/*
 * Every CPU through the table, by APIC ID.
 *
 * VT-d 5.1.2.2, 9.10: the message names an entry, the entry the CPU and the vector. The entry is
 * rewritten from CPU to CPU, the message stays: what arrives elsewhere came by an entry that the unit
 * had kept.
 */
TEST(ir, msi_physical, "every CPU by its APIC ID, through the table: right CPU, right vector, exactly once", NEED_IR)
{
	struct delivery *d = delivery_open(t, 2);
	const char *why = "no device under test with MSI or MSI-X";
	unsigned shown = 0;

	FOR_EACH_REMAPPED(t, ex, s, why) {
		each_cpu(s, d, IRQ_PHYSICAL);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}

/* All members of one cluster at once, and the same bits in a cluster without members. */
static void whole_cluster(struct irq_source *s, struct delivery *d, unsigned first)
{
	const uint32_t cluster = apic_logical_id(first) & 0xffff0000u;
	struct irq_route r = {.dest = cluster, .mode = IRQ_LOGICAL, .vector = (uint8_t)d->vector[0]};
	const char *why;
	unsigned members = 0;

	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		if ((apic_logical_id(cpu) & 0xffff0000u) == cluster) {
			r.dest |= apic_logical_id(cpu);
			delivery_due(d, cpu, 0, 1);
			members++;
		}
	}
	if (irq_source_route(s, 0, &r, &why) < 0)
		test_error(d->t, "%s: %s", irq_source_name(s), why);
	irq_source_raise(s, 0);
	delivery_check(d, "%s, one message to the %u CPUs of 0x%x", irq_source_name(s), members, r.dest);
	irq_source_ack(s, 0);
}

/*
 * Every CPU by its x2APIC logical ID, and all of a cluster by one message.
 *
 * VT-d 5.1.4 (EIM), 9.10 (DM = 1); SDM vol. 3, 11.12.10: a 32-bit logical ID has the cluster in its
 * upper half and a bit a CPU in the lower.
 */
TEST(ir, msi_cluster, "every CPU by its x2APIC logical ID through the table, and a whole cluster by one message",
     NEED_IR, NEED_IR_EIM, NEED_X2APIC)
{
	struct delivery *d = delivery_open(t, 2);
	const char *why = "no device under test with MSI or MSI-X";
	unsigned shown = 0;

	FOR_EACH_REMAPPED(t, ex, s, why) {
		each_cpu(s, d, IRQ_LOGICAL);
		for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
			bool first = true;

			for (unsigned k = 0; k < cpu; k++)
				first &= apic_logical_id(k) >> 16 != apic_logical_id(cpu) >> 16;
			if (first)
				whole_cluster(s, d, cpu);
		}
		delivery_finish(d, "%s, after all clusters", irq_source_name(s));
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}

/* ---- I/O APIC pins ---- */

static void send_eoi(void *arg)
{
	(void)arg;
	apic_eoi();
}

/* Taken and in service: device served, EOI, and the line is free again. */
static void end_level(struct delivery *d, struct pin_user *p, unsigned cpu)
{
	EXPECT_MSG(d->t, pin_remote_irr(p->pin), "pin %u, level in service on CPU %u: remote IRR: got 0, expected 1",
		   p->pin->pin, cpu);
	level_ack();
	REQUIRE_OK(d->t, cpu_call(cpu, send_eoi, NULL, SEC(1)));
	/* Where the entry's index stands for the vector no broadcast names it: as drivers do (AMD 48882, 2.2.5). */
	if (pin_eoi_vector(p) != d->vector[0])
		ioapic_eoi(p->pin->io, pin_eoi_vector(p));
	/* Said, then ended by hand: the next CPU's is a question of its own. */
	if (!EXPECT_MSG(d->t, !pin_remote_irr(p->pin),
			"pin %u, level ended on CPU %u: remote IRR: got 1, expected 0", p->pin->pin, cpu))
		ioapic_eoi(p->pin->io, pin_eoi_vector(p));
}

static bool pin_each_cpu(struct delivery *d, struct pin *pin, const char **why)
{
	const bool level = pin->route.level;
	struct pin_user *p = pin_remap(d->t, pin, why);

	if (!p)
		return false;
	irq_set_manual_eoi(d->vector[0], level);
	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		if (cpus[cpu]->apic_id > 254 && !p->u->remapping_eim)
			continue;
		REQUIRE_OK(d->t,
			   pin_route(p, cpus[cpu]->apic_id, IRQ_PHYSICAL, IRQ_FIXED, d->vector[0], why));
		delivery_due(d, cpu, 0, 1);
		if (level)
			level_fire();
		else
			pit_pulse();
		if (!delivery_arrived(d, cpu, 0) && !(level ? level_signalled() : pit_signalled()))
			test_error(d->t, "pin %u: its source never signalled", pin->pin);
		if (delivery_check(d, "pin %u (%s) to CPU %u through entry %d", pin->pin,
				   level ? "level" : "edge", cpu, p->index) &&
		    level)
			end_level(d, p, cpu);
	}
	delivery_finish(d, "pin %u, after all CPUs", pin->pin);
	pin_release(p);
	irq_set_manual_eoi(d->vector[0], false);
	return true;
}

/*
 * An I/O APIC pin reaches every CPU through the table.
 *
 * VT-d 5.1.5.1: the pin's entry names one of the table, under the source ID that the DMAR table gives
 * the I/O APIC (8.3.1.1). An edge of the PIT arrives exactly once; a level of the HPET once for each EOI,
 * with Remote IRR set meanwhile.
 */
TEST(ir, ioapic, "an edge and a level on I/O APIC pins reach every CPU through the table, exactly once", NEED_IR,
     NEED_IOAPIC)
{
	struct delivery *d = delivery_open(t, 1);
	const char *why = "";
	struct pin *pin = pit_open(t, &why);
	unsigned shown = pin && pin_each_cpu(d, pin, &why);

	pin = kvm_emulates() ? NULL : level_open(t, &why);
	shown += pin && pin_each_cpu(d, pin, &why);
	if (!shown)
		test_skip(t, "%s", why);
}
