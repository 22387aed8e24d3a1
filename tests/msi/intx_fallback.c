/* SPDX-License-Identifier: MIT */

#include "tests/ioapic/intx.h"
#include "tests/msi/irq_test.h"

/* With its message on, the pin aimed and open, nothing may come there: a message replaces the line. */
static void message_not_line(struct t *t, struct delivery *d, struct exerciser *ex, unsigned cpu)
{
	const char *why;
	struct irq_source *s = irq_source_open(t, ex, IRQ_DIRECT, &why);

	pci_set_command(ex->dev, 0, PCI_COMMAND_INTX_OFF);
	irq_source_aim(s, d, 0, cpu, 1);
	irq_expect_one(s, d, 0, cpu, 1);
	irq_expect_one(s, d, 0, cpu, 1);
	irq_window();
	delivery_check(d, "%s, INTx not disabled and its pin open", irq_source_name(s));
	irq_source_close(s);
}

/*
 * Without a message a device uses its line; with one it does not, and back again.
 *
 * PCI 3.0, 6.8.1.3 and 6.8.2.3: while MSI or MSI-X is enabled a function may not use INTx, and Interrupt Disable
 * has nothing to do with it. A driver that falls back must find the line working; one that goes on to messages
 * must not be woken twice. The line's pin stays open all the while.
 */
TEST(msi, intx_fallback, "with MSI off INTx works, with it on the line is quiet, and the reverse", NEED_EX_IRQ, NEED_IOAPIC)
{
	struct delivery *d = delivery_open(t, 2);
	const unsigned cpu = d->cpus > 1 && cpus[1]->apic_id <= 254;
	const char *why = "no device under test with both INTx and MSI or MSI-X";
	unsigned shown = 0;

	/* ioapic.intx and ioapic.level show it; here every device's line would be a storm. */
	if (kvm_emulates())
		test_skip(t, "this KVM delivers a level again before its EOI (docs/kvm.md)");
	FOR_EACH_IRQ_EXERCISER(t, ex) {
		struct intx_line *l;

		if ((ex->caps & (EX_INTX | EX_IRQ_COUNTED)) != (EX_INTX | EX_IRQ_COUNTED) || ex->bars_private)
			continue;
		for (unsigned round = 0; round < 2; round++) {
			l = intx_line_open(t, d, ex, &why);
			if (!l)
				break;
			intx_line_aim(l, cpu, false);
			if (!intx_line_one(l, cpu, l->how))
				break;
			intx_line_close(l);
			/* Closed, it was masked: open again beside the message. */
			intx_line_aim(l, cpu, false);
			message_not_line(t, d, ex, cpu);
			pin_mask(&l->pin, true);
			shown++;
		}
		delivery_finish(d, PRIRID " %s, at the end", RIDARG(ex->dev->rid), ex->ops->name);
	}
	if (!shown)
		test_skip(t, "%s", why);
}
