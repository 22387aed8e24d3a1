/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/ioapic/source.h"
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
			ir_expect_nothing(s, d, "by its entry, with remapping off");
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

struct pin_user {
	struct iommu *u;
	struct pin *pin;
	int index;
	bool was_on, was_eim;
};

static void pin_user_close(void *arg)
{
	struct pin_user *p = arg;

	if (p->index >= 0)
		p->u->ops->irq_unmap(p->u, p->index);
	if (!p->was_on || p->u->remapping_eim != p->was_eim)
		p->u->ops->ir_disable(p->u);
	if (p->was_on)
		p->u->ops->ir_enable(p->u, p->was_eim);
}

/* Remapping on for the unit that the firmware says is in front of this I/O APIC. NULL: there is none. */
static struct pin_user *pin_remap(struct t *t, struct pin *pin, pci_rid_t *source, const char **why)
{
	struct iommu *u = iommu_of_ioapic(pin->io->id, source);
	struct pin_user *p;

	*why = "no remapping unit names the I/O APIC";
	if (!u || u->broken || !u->caps.interrupt_remapping)
		return NULL;
	p = test_alloc(t, sizeof(*p));
	*p = (struct pin_user){
		.u = u, .pin = pin, .index = -1, .was_on = u->remapping, .was_eim = u->remapping_eim};
	test_cleanup(t, pin_user_close, p);
	if (!u->remapping)
		REQUIRE_OK(t, u->ops->ir_enable(u, u->caps.eim && apic_mode == APIC_X2APIC));
	return p;
}

static void pin_route(struct t *t, struct pin_user *p, pci_rid_t source, unsigned cpu, int vector)
{
	struct irq_route r = p->pin->route;

	r.dest = cpus[cpu]->apic_id;
	r.mode = IRQ_PHYSICAL;
	r.vector = (uint8_t)vector;
	if (p->index < 0)
		REQUIRE_OK(t, p->index = p->u->ops->irq_map(p->u, source, &r, NULL));
	else
		REQUIRE_OK(t, p->u->ops->irq_update(p->u, p->index, source, &r));
	/* The vector stands in the pin's entry too: its EOI is matched by it (VT-d 5.1.5.1). */
	ioapic_rte_write(p->pin->io, p->pin->pin, p->u->ops->irq_rte(p->u, p->index, &r, false));
}

static unsigned pin_each_cpu(struct t *t, struct delivery *d, struct pin *pin, bool level, const char **why)
{
	pci_rid_t source;
	struct pin_user *p = pin_remap(t, pin, &source, why);

	if (!p)
		return 0;
	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		if (cpus[cpu]->apic_id > 254 && !p->u->remapping_eim)
			continue;
		pin_route(t, p, source, cpu, d->vector[0]);
		delivery_due(d, cpu, 0, 1);
		if (level)
			hpet_fire();
		else
			pit_pulse();
		if (!delivery_arrived(d, cpu, 0) && !(level ? hpet_signalled() : pit_signalled()))
			test_error(t, "pin %u: its source never signalled", pin->pin);
		/* Held, it comes again after each EOI: mask it, let go of it, then count. */
		if (level) {
			pin_mask(pin, true);
			hpet_ack();
		}
		delivery_check(d, "pin %u (%s) to CPU %u through entry %d", pin->pin, level ? "level" : "edge",
			       cpu, p->index);
	}
	delivery_finish(d, "pin %u, after all CPUs", pin->pin);
	return 1;
}

/*
 * An I/O APIC pin reaches every CPU through the table.
 *
 * VT-d 5.1.5.1: the pin's entry names one of the table, under the source ID that the DMAR table gives
 * the I/O APIC (8.3.1.1). An unmasked edge of the PIT arrives exactly once.
 */
TEST(ir, ioapic, "an edge on an I/O APIC pin reaches every CPU through the table, exactly once", NEED_IR, NEED_IOAPIC)
{
	struct delivery *d = delivery_open(t, 1);
	const char *why = "";
	struct pin *pin = pit_open(t, &why);
	unsigned shown = pin ? pin_each_cpu(t, d, pin, false, &why) : 0;

	if (!shown)
		test_skip(t, "%s", why);
}
