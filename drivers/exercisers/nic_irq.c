/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/nic_irq.h"

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"

enum nic_way nic_way(struct exerciser *ex)
{
	struct msi_msg msg;
	bool on = false;

	if (ex->msix.dev && msix_enabled(&ex->msix))
		return NIC_MSIX;
	if (ex->msi.dev)
		msi_read(&ex->msi, &msg, &on);
	return on ? NIC_MSI : NIC_INTX;
}

int nic_open(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	n->regs = pci_bar_map(ex->dev, 0);
	if (!n->regs)
		return -ENXIO;
	exerciser_find_irqs(ex);
	return 0;
}

void nic_counts(struct exerciser *ex, unsigned entries)
{
	ex->irq_counts[0] = ex->msi.dev ? 1 : 0;
	ex->irq_counts[1] = MIN(ex->msix.count, entries);
	ex->irq_count = ex->irq_is_msix ? ex->irq_counts[1] : 1;
}
