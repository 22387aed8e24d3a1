/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/igb_regs.h"
#include "drivers/exercisers/nic_irq.h"
#include "kernel/lib/err.h"

/*
 * A virtual function of the Intel 82576, as a guest has it: three MSI-X entries, each raised by software. The
 * registers stand where the physical function's do (8.27); whether causes are messages at all is that one's to
 * say, so its driver must run. No INTx, no MSI, and no queue is switched on: it does no DMA.
 */

static void igbvf_quiesce(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	if (n && n->regs) {
		nic_w(n, IGB_EIMC, IGBVF_CAUSES);
		nic_w(n, IGB_EICR, IGBVF_CAUSES);
		n->seen = 0;
	}
	nic_silence(ex);
}

static int igbvf_recover(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	n->seen = 0;
	nic_w(n, IGB_EIMC, IGBVF_CAUSES);
	nic_w(n, IGB_EIAC, 0);
	nic_w(n, IGB_EICR, IGBVF_CAUSES);
	nic_w(n, IGB_EIMS, IGBVF_CAUSES);
	return (nic_r(n, IGB_EIMS) & IGBVF_CAUSES) == IGBVF_CAUSES ? 0 : -EIO;
}

static int igbvf_open(struct exerciser *ex)
{
	const int r = nic_open(ex);

	if (r < 0)
		return r;
	if (!ex->msix.dev)
		return -ENXIO;
	nic_counts(ex, IGBVF_VECTORS);
	return 0;
}

static int igbvf_irq_raise(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	nic_w(n, IGB_EIMS, IGBVF_CAUSES);
	nic_w(n, IGB_EICS, BIT(index));
	return 0;
}

static int igbvf_irq_ack(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	n->seen &= ~BIT(index);
	nic_w(n, IGB_EICR, BIT(index));
	(void)nic_r(n, IGB_STATUS); /* it has arrived when this comes back */
	return 0;
}

/* Reading a cause may clear it: what has been seen is kept. */
static int igbvf_irq_pending(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	n->seen |= nic_r(n, IGB_EICR);
	return n->seen >> index & 1;
}

const struct exerciser_ops igbvf_ops = {
	.name = "igbvf",
	.match = (const struct pci_match[]){{.vendor = 0x8086, .device = 0x10ca}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSIX | EX_IRQ_COUNTED,
	.open = igbvf_open,
	.close = nic_close,
	.quiesce = igbvf_quiesce,
	.recover = igbvf_recover,
	.irq_raise = igbvf_irq_raise,
	.irq_ack = igbvf_irq_ack,
	.irq_pending = igbvf_irq_pending,
};
