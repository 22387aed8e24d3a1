/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/msi/irq_test.h"

/* Every CPU in turn as the destination of this source. */
static void each_cpu(struct irq_source *s, struct delivery *d, enum irq_dest_mode mode)
{
	const char *why = NULL;
	unsigned reached = 0, refused = 0;

	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		const struct irq_route r = {
			.dest = mode == IRQ_LOGICAL ? apic_logical_id(cpu) : cpus[cpu]->apic_id,
			.mode = mode,
			.vector = (uint8_t)d->vector[0],
		};
		/* Only a wide ID may be out of reach, and not where 32-bit destinations are on. */
		const bool wide =
			cpus[cpu]->apic_id > 254 && !(s->via == IRQ_REMAPPED && s->iommu->remapping_eim);
		const int err = r.dest ? irq_source_route(s, 0, &r, &why)
				       : mode == IRQ_LOGICAL ? -EOPNOTSUPP : irq_source_route(s, 0, &r, &why);

		if (err < 0) {
			EXPECT_MSG(d->t, wide, "%s: CPU %u (APIC ID 0x%x) cannot be a destination: -%s (%s)",
				   irq_source_name(s), cpu, cpus[cpu]->apic_id, err_name(err), why ? why : "");
			refused++;
			continue;
		}
		irq_expect_one(s, d, 0, cpu, 0);
		reached++;
	}
	delivery_finish(d, "%s, after all CPUs", irq_source_name(s));
	if (refused)
		test_note(d->t, "%s: %u CPUs; %u not: %s", irq_source_name(s), reached, refused,
			  why ? why : "?");
	else
		test_note(d->t, "%s: %u CPUs", irq_source_name(s), reached);
}

/*
 * An MSI, or MSI-X entry 0, that names a CPU's APIC ID arrives at that CPU: right vector, exactly once.
 *
 * SDM vol. 3, 11.11; VT-d 5.1.5.2. Every device that can be told to interrupt; without remapping, and
 * through the remapping unit where one covers the device.
 */
TEST(msi, physical, "every CPU as physical destination: right CPU, right vector, exactly once", NEED_EX_IRQ)
{
	struct delivery *d = delivery_open(t, 1);
	unsigned shown = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex)
		for (enum irq_via via = 0; via < IRQ_VIA_COUNT; via++) {
			const char *why;
			struct irq_source *s = irq_source_open(t, ex, via, &why);

			if (!s)
				continue; /* no unit in front of it: the other way was shown */
			each_cpu(s, d, IRQ_PHYSICAL);
			irq_source_close(s);
			shown++;
		}
	if (!shown)
		test_skip(t, "no device under test with MSI or MSI-X");
}

/*
 * The same by logical destination: in x2APIC mode the 32-bit logical ID, which only a remapping unit
 * with extended interrupt mode can carry (VT-d 5.1.5.2, 5.1.4); in xAPIC mode 8 bits, flat or cluster.
 */
TEST(msi, cluster, "every CPU as logical destination: x2APIC cluster through remapping, or xAPIC flat/cluster",
     NEED_EX_IRQ)
{
	struct delivery *d;
	const char *why = "no device under test with MSI or MSI-X";
	unsigned shown = 0;

	if (apic_mode == APIC_X2APIC && !apic_policy.cluster)
		test_skip(t, "%s", apic_policy.why);
	d = delivery_open(t, 1);
	FOR_EACH_IRQ_EXERCISER(t, ex)
	for (enum irq_via via = apic_mode == APIC_X2APIC ? IRQ_REMAPPED : IRQ_DIRECT; via < IRQ_VIA_COUNT;
	     via++) {
		struct irq_source *s = irq_source_open(t, ex, via, &why);

		if (!s)
			continue;
		each_cpu(s, d, IRQ_LOGICAL);
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}

/*
 * A device that keeps no status of its signal rings through the host: it may be seen late. Masked, and rung
 * once more, its pending bit shows that all before it are through. That one is due when unmasked.
 */
static void ring_masked(struct irq_source *s, struct delivery *d)
{
	msix_mask(&s->ex->msix, 0, true);
	irq_source_ack(s, 0);
	irq_source_raise(s, 0);
	if (!WAIT_FOR(msix_pending(&s->ex->msix, 0), SEC(1)))
		test_error(d->t, "%s: masked and raised, and no pending bit: the device did not signal",
			   irq_source_name(s));
}

static void unmask_one(struct irq_source *s, struct delivery *d, unsigned cpu)
{
	delivery_due(d, cpu, 0, 1);
	msix_mask(&s->ex->msix, 0, false);
	delivery_check(d, "%s, unmasked", irq_source_name(s));
	irq_source_ack(s, 0);
}

static void without_enable(struct irq_source *s, struct delivery *d, unsigned cpu)
{
	const bool tells = irq_source_can_tell(s, 0);
	const bool msix = s->ex->irq_is_msix;

	irq_source_enable(s, false);
	irq_expect_none(s, d, 0, "while its Enable bit is off");
	if (msix)
		msix_mask(&s->ex->msix, 0, true);
	irq_source_enable(s, true);
	if (!tells)
		ring_masked(s, d);
	/* What a function shows as pending, then, was raised: nothing says that it has to forget it. */
	if (!tells || (msix && msix_pending(&s->ex->msix, 0)))
		unmask_one(s, d, cpu);
	else if (msix)
		msix_mask(&s->ex->msix, 0, false);
	irq_expect_one(s, d, 0, cpu, 0);
}

static void without_master(struct irq_source *s, struct delivery *d, unsigned cpu)
{
	struct exerciser *ex = s->ex;

	if (ex->irq_needs_dma) {
		test_note(d->t, "%s: not tried without Bus Master, for raising fetches its command by DMA",
			  irq_source_name(s));
		return;
	}
	if (ex->irq_by_host) {
		test_note(d->t, "%s: not tried without Bus Master, for the host sends its messages",
			  irq_source_name(s));
		return;
	}
	pci_set_command(ex->dev, 0, PCI_COMMAND_MASTER);
	if (irq_source_can_tell(s, 0)) {
		irq_expect_none(s, d, 0, "while Bus Master is off");
		pci_set_command(ex->dev, PCI_COMMAND_MASTER, 0);
	} else {
		irq_source_raise(s, 0);
		irq_window();
		ring_masked(s, d);
		delivery_fence(d->t);
		if (delivery_count(d, cpu, 0) == d->due[cpu] + 1) {
			delivery_due(d, cpu, 0, 1);
			test_finding(d->t, "PLB003",
				     "the VMM hands the device's eventfd to the host's kernel, which does "
				     "not see Bus Master",
				     "do not rely on Bus Master to silence this device: mask its entries",
				     "1 of 1 raised arrived", "%s interrupts although Bus Master is off",
				     irq_source_name(s));
		}
		pci_set_command(ex->dev, PCI_COMMAND_MASTER, 0);
		unmask_one(s, d, cpu);
	}
	irq_expect_one(s, d, 0, cpu, 0);
}

/*
 * A device whose MSI is off, or that may not master the bus, sends nothing; put on again, it does.
 *
 * PCI 3.0, 6.8.1.3 and 6.8.2.3 (Enable bits), 6.2.2 (Bus Master: a message is a memory write). A VMM that
 * injects from its device model without looking at either bit passes every other test. Of a device
 * that keeps no status of its signal (its interrupt is an eventfd of the host's, and no write of its own)
 * Bus Master is told, not judged.
 */
TEST(msi, disabled, "MSI enable off, Bus Master off: nothing arrives, and it does again after", NEED_EX_IRQ)
{
	struct delivery *d = delivery_open(t, 1);
	unsigned shown = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex) {
		const char *why;
		struct irq_source *s = irq_source_open(t, ex, IRQ_DIRECT, &why);
		const unsigned cpu = irq_source_cpu(s, d->cpus - 1);

		irq_source_aim(s, d, 0, cpu, 0);
		irq_expect_one(s, d, 0, cpu, 0);
		if (!irq_source_can_tell(s, 0) && !ex->irq_is_msix) {
			test_note(t, "%s: the device cannot tell whether it signalled, and has no pending bit",
				  irq_source_name(s));
			irq_source_close(s);
			continue;
		}
		without_enable(s, d, cpu);
		without_master(s, d, cpu);
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "no device under test with MSI or MSI-X");
}
