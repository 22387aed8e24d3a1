/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/igb_regs.h"
#include "drivers/exercisers/nic_irq.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * Intel 82576: each MSI-X entry by a software-raised extended cause (EICS), MSI and INTx by a legacy one
 * (ICS). Neither receiver nor transmitter is ever switched on: it does no DMA.
 */

static void igb_quiesce(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	if (n && n->regs) {
		nic_w(n, IGB_IMC, ~0u);
		nic_w(n, IGB_EIMC, ~0u);
		nic_w(n, IGB_ICR, ~0u);
		nic_w(n, IGB_EICR, ~0u);
		n->seen = 0;
	}
	nic_silence(ex);
}

static int igb_recover(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	n->seen = 0;
	nic_w(n, IGB_IMC, ~0u);
	nic_w(n, IGB_EIMC, ~0u);
	nic_w(n, IGB_GPIE, 0);
	nic_w(n, IGB_EIAC, 0);
	nic_w(n, IGB_ICR, ~0u);
	nic_w(n, IGB_EICR, ~0u);
	for (unsigned i = 0; i < IGB_VECTORS; i++)
		nic_w(n, IGB_EITR(i), 0);
	nic_w(n, IGB_IMS, IGB_CAUSE);
	return nic_r(n, IGB_IMS) == IGB_CAUSE ? 0 : -EIO;
}

static int igb_open(struct exerciser *ex)
{
	const int r = nic_open(ex);
	struct nic *n = ex->priv;

	if (r < 0)
		return r;
	nic_w(n, IGB_IMC, ~0u);
	nic_w(n, IGB_CTRL, nic_r(n, IGB_CTRL) | IGB_CTRL_RST);
	delay(MS(3)); /* 4.2.1.6: no access for 3 ms */
	if (!WAIT_FOR(!(nic_r(n, IGB_CTRL) & IGB_CTRL_RST), MS(100)))
		return -ETIMEDOUT;
	nic_counts(ex, IGB_VECTORS);
	return 0;
}

static int igb_irq_raise(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	/* What may be signalled by is looked at each time: MSI-X switched off, the causes are the legacy ones. */
	n->msix = nic_way(ex) == NIC_MSIX;
	nic_w(n, IGB_GPIE, n->msix ? IGB_GPIE_MULTIPLE_MSIX : 0);
	if (n->msix) {
		nic_w(n, IGB_EIMS, (uint32_t)GENMASK(ex->irq_count - 1, 0));
		nic_w(n, IGB_EICS, BIT(index));
	} else {
		nic_w(n, IGB_ICS, IGB_CAUSE);
	}
	return 0;
}

static int igb_irq_ack(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	n->seen &= ~BIT(index);
	if (n->msix)
		nic_w(n, IGB_EICR, BIT(index));
	else
		nic_w(n, IGB_ICR, IGB_CAUSE);
	(void)nic_r(n, IGB_STATUS); /* it has arrived when this comes back */
	return 0;
}

/* Reading a cause may clear it: what has been seen is kept. The line is told of by the status register. */
static int igb_irq_pending(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	switch (nic_way(ex)) {
	case NIC_MSIX:
		n->seen |= nic_r(n, IGB_EICR);
		break;
	case NIC_MSI:
		n->seen |= nic_r(n, IGB_ICR) & IGB_CAUSE ? 1 : 0;
		break;
	case NIC_INTX:
		return (pci_r16(ex->dev->rid, PCI_STATUS) & PCI_STATUS_INTX) != 0;
	}
	return n->seen >> index & 1;
}

const struct exerciser_ops igb_ops = {
	.name = "igb",
	.match = (const struct pci_match[]){{.vendor = 0x8086, .device = 0x10c9}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSI | EX_MSIX | EX_INTX | EX_IRQ_COUNTED,
	.open = igb_open,
	.close = nic_close,
	.quiesce = igb_quiesce,
	.recover = igb_recover,
	.irq_raise = igb_irq_raise,
	.irq_ack = igb_irq_ack,
	.irq_pending = igb_irq_pending,
};
