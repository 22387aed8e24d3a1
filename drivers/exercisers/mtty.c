/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/mtty.h"

#include "kernel/cpu/cpu.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"

/*
 * mtty as an interrupt source: the first port's "transmitter empty". Its configuration space takes no
 * write to the command register and always reads 1, while QEMU acts on what is written: the register
 * is written whole here, never read first.
 */

static uint8_t port_r(void *arg, unsigned reg)
{
	return inb((uint16_t)(*(uint16_t *)arg + reg));
}

static void port_w(void *arg, unsigned reg, uint8_t v)
{
	outb((uint16_t)(*(uint16_t *)arg + reg), v);
}

static void mtty_quiesce(struct exerciser *ex)
{
	struct mtty *m = ex->priv;

	for (unsigned i = 0; i < m->ports; i++)
		mtty_reset(&m->io[i]);
	pci_w16(ex->dev->rid, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_INTX_OFF);
	ex->ready = false;
}

static int mtty_recover(struct exerciser *ex)
{
	struct mtty *m = ex->priv;

	pci_set_command(ex->dev, PCI_COMMAND_IO, 0);
	pci_w16(ex->dev->rid, PCI_COMMAND, PCI_COMMAND_IO);
	mtty_prepare(&m->io[0], MTTY_THRI);
	return mtty_answers(&m->io[0]) ? 0 : -EIO;
}

static int mtty_open(struct exerciser *ex)
{
	struct mtty *m = ex->priv;

	m->ex = ex;
	for (unsigned i = 0; i < MTTY_PORTS_MAX; i++) {
		const struct pci_bar *bar = &ex->dev->bar[i];

		if (!bar->size || !bar->io || !bar->assigned)
			break;
		m->base[i] = (uint16_t)bar->base;
		m->io[i] = (struct mtty_io){port_r, port_w, &m->base[i]};
		m->ports++;
	}
	if (!m->ports) {
		ex->broken = "its I/O BAR has no address";
		return -ENODEV;
	}
	pci_set_command(ex->dev, PCI_COMMAND_IO, 0);
	pci_w16(ex->dev->rid, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_INTX_OFF);
	mtty_reset(&m->io[0]);
	if (!mtty_answers(&m->io[0]))
		return -ENODEV;
	ex->irq_count = 1;
	ex->irq_by_host = true;
	if (!ex->dev->int_pin)
		ex->caps &= ~(uint32_t)(EX_INTX | EX_IRQ);
	return 0;
}

static int mtty_irq_raise(struct exerciser *ex, unsigned index)
{
	struct mtty *m = ex->priv;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	mtty_fire(&m->io[0], MTTY_THRI);
	return 0;
}

static int mtty_irq_ack(struct exerciser *ex, unsigned index)
{
	struct mtty *m = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	mtty_serve(&m->io[0], MTTY_THRI);
	return 0;
}

static int mtty_irq_pending(struct exerciser *ex, unsigned index)
{
	struct mtty *m = ex->priv;

	return index < ex->irq_count ? mtty_due(&m->io[0]) : -EINVAL;
}

const struct exerciser_ops mtty_ops = {
	.name = "mtty",
	.match = (const struct pci_match[]){{.vendor = 0x4348, .device = 0x3253}, {.vendor = 0}},
	.caps = EX_IRQ | EX_INTX,
	.priv_size = sizeof(struct mtty),
	.open = mtty_open,
	.quiesce = mtty_quiesce,
	.recover = mtty_recover,
	.irq_raise = mtty_irq_raise,
	.irq_ack = mtty_irq_ack,
	.irq_pending = mtty_irq_pending,
};

struct mtty *mtty_of(struct exerciser *ex)
{
	return ex->ops == &mtty_ops ? ex->priv : NULL;
}
