/* SPDX-License-Identifier: MIT */

#include "drivers/pci/regs.h"
#include "kernel/lib/err.h"
#include "tests/pci/common.h"

static struct exerciser *exerciser_on(const struct pci_dev *d)
{
	for (unsigned i = 0; i < exerciser_count; i++)
		if (exercisers[i].dev == d)
			return &exercisers[i];
	return NULL;
}

static bool has_bar(const struct pci_dev *d, bool io)
{
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
		if (d->bar[i].size && d->bar[i].io == io)
			return true;
	return false;
}

/*
 * The bits that this function must implement. The others may be hard-wired either way, and are left
 * alone: on a function that nobody has brought to rest they might do something.
 */
static uint16_t must_stick(const struct pci_dev *d)
{
	const uint16_t command = pci_r16(d->rid, PCI_COMMAND);
	uint16_t bits = 0;

	if (has_bar(d, false))
		bits |= PCI_COMMAND_MEMORY;
	if (has_bar(d, true))
		bits |= PCI_COMMAND_IO;
	/*
	 * Whoever sends messages is a master. A function that firmware left without Bus Master may have
	 * been stopped that way, with its rings still in our memory: it is not let loose.
	 */
	if ((d->cap_msi || d->cap_msix) &&
	    ((command & PCI_COMMAND_MASTER) || d->is_bridge || exerciser_on(d)))
		bits |= PCI_COMMAND_MASTER;
	/* Interrupt Disable came with PCI 2.3, MSI-X and PCI Express after it. */
	if (d->int_pin && (d->cap_pcie || d->cap_msix))
		bits |= PCI_COMMAND_INTX_OFF;
	return bits;
}

static const char *bit_name(uint16_t bit)
{
	return bit == PCI_COMMAND_IO	   ? "I/O Space"
	       : bit == PCI_COMMAND_MEMORY ? "Memory Space"
	       : bit == PCI_COMMAND_MASTER ? "Bus Master"
					   : "Interrupt Disable";
}

static void check_sticks(struct t *t, struct keep *k, const struct pci_dev *d)
{
	const uint16_t bits = must_stick(d);
	const uint16_t old = (uint16_t)keep_reg(k, d->rid, PCI_COMMAND, 2);

	for (unsigned i = 0; i < 16; i++) {
		const uint16_t bit = (uint16_t)BIT(i);
		uint16_t flipped, back;

		if (!(bits & bit))
			continue;
		pci_w16(d->rid, PCI_COMMAND, old ^ bit);
		flipped = pci_r16(d->rid, PCI_COMMAND);
		pci_w16(d->rid, PCI_COMMAND, old);
		back = pci_r16(d->rid, PCI_COMMAND);
		EXPECT_MSG(t, flipped == (old ^ bit), PRIRID " %s %s: got command %04x, expected %04x",
			   RIDARG(d->rid), bit_name(bit), old & bit ? "cleared" : "set", flipped, old ^ bit);
		EXPECT_MSG(t, back == old, PRIRID " %s put back: got command %04x, expected %04x",
			   RIDARG(d->rid), bit_name(bit), back, old);
	}
	keep_restore(k);
}

/* One decode bit, of the function itself or of a bridge above: off, and the BAR is gone. */
static void check_decode(struct t *t, const struct pci_dev *owner, uint16_t bit, const struct pci_dev *d,
			 unsigned bar, const struct sign *s)
{
	const uint16_t on = pci_r16(owner->rid, PCI_COMMAND);

	pci_w16(owner->rid, PCI_COMMAND, on & (uint16_t)~bit);
	EXPECT_MSG(t, !sign_answers(s),
		   PRIRID " BAR%u still answers (%08x at %llx) with %s of " PRIRID " off", RIDARG(d->rid),
		   bar, s->value, (unsigned long long)s->address, bit_name(bit), RIDARG(owner->rid));
	pci_w16(owner->rid, PCI_COMMAND, on);
	EXPECT_MSG(t, sign_answers(s),
		   PRIRID " BAR%u at %llx with %s of " PRIRID " on again: got %08x, expected %08x",
		   RIDARG(d->rid), bar, (unsigned long long)s->address, bit_name(bit), RIDARG(owner->rid),
		   sign_read(s), s->value);
}

static unsigned check_bars(struct t *t, struct keep *k, struct pci_dev *d)
{
	unsigned seen = 0;

	keep_command(k, d);
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
		const uint16_t bit = d->bar[i].io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
		struct sign s;

		if (!sign_find(d, i, &s))
			continue;
		seen++;
		for (const struct pci_dev *up = d; up; up = up->parent)
			check_decode(t, up, bit, d, i, &s);
	}
	keep_restore(k);
	return seen;
}

static bool intx_status(const struct pci_dev *d)
{
	return pci_r16(d->rid, PCI_STATUS) & PCI_STATUS_INTX;
}

static void quiesce(void *arg)
{
	struct exerciser *ex = arg;

	ex->ops->quiesce(ex);
	ex->ready = false;
}

/* PCI 3.0, 6.2.3: Interrupt Status says that the function wants to, whatever Interrupt Disable says. */
static void check_intx(struct t *t, struct keep *k, struct exerciser *ex)
{
	const bool was_msix = ex->irq_is_msix;
	int r;

	(void)exerciser_use_msix(ex, false);
	keep_command(k, ex->dev);
	pci_set_command(ex->dev, PCI_COMMAND_INTX_OFF, 0);
	EXPECT_MSG(t, !intx_status(ex->dev), PRIRID ": Interrupt Status set at rest", RIDARG(ex->dev->rid));
	r = ex->ops->irq_raise(ex, 0);
	if (r < 0) {
		test_note(t, PRIRID " cannot be told to interrupt: -%s", RIDARG(ex->dev->rid), err_name(r));
	} else {
		EXPECT_MSG(
			t, WAIT_FOR(intx_status(ex->dev), MS(200)),
			PRIRID
			": told to interrupt with Interrupt Disable set: got Interrupt Status 0, expected 1",
			RIDARG(ex->dev->rid));
		ex->ops->irq_ack(ex, 0);
		EXPECT_MSG(t, WAIT_FOR(!intx_status(ex->dev), MS(200)),
			   PRIRID ": acknowledged: got Interrupt Status 1, expected 0", RIDARG(ex->dev->rid));
	}
	quiesce(ex);
	(void)exerciser_use_msix(ex, was_msix);
	keep_restore(k);
}

/*
 * The command register holds what is written, and its bits do what they say.
 *
 * PCI 3.0, 6.2.2. Memory or I/O Space off: the function, or everything below that bridge, answers no
 * access; on again: it does, unchanged. (What is read instead is the root complex's affair, and so
 * is only not the register's value.) Interrupt Disable holds the interrupt back, not its status bit.
 * What Bus Master does is shown by msi.disabled and the DMA tests. A VMM that decodes by its own
 * idea of the BARs, or leaves a device's memory mapped into the guest, fails here.
 */
TEST(pci, command, "Memory, I/O, Bus Master, INTx-disable bits stick and do what they say", NEED_PCI)
{
	struct keep *k = keep_start(t);
	unsigned seen = 0;

	FOR_EACH_PCI(d) {
		struct exerciser *ex = exerciser_on(d);

		check_sticks(t, k, d);
		/* To some devices the loss of Bus Master is a reset. */
		if (ex)
			ex->ready = false;
	}
	FOR_EACH_EXERCISER(t, ex, 0) {
		test_cleanup(t, quiesce, ex);
		seen += check_bars(t, k, ex->dev);
		if ((ex->caps & EX_INTX) && (ex->caps & EX_IRQ))
			check_intx(t, k, ex);
	}
	if (!seen)
		test_note(t, "no device under test: that decoding follows the bits was not looked at");
}
