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

void nic_silence(struct exerciser *ex)
{
	if (ex->msix.dev)
		msix_enable(&ex->msix, false);
	if (ex->msi.dev)
		msi_enable(&ex->msi, false);
	pci_set_command(ex->dev, PCI_COMMAND_INTX_OFF, PCI_COMMAND_MASTER);
	ex->ready = false;
}

int nic_open_sized(struct exerciser *ex, size_t size)
{
	struct nic *n = kzalloc(size);

	ex->priv = n;
	if (!n)
		return -ENOMEM;
	n->regs = pci_bar_map(ex->dev, 0);
	if (!n->regs)
		return -ENXIO;
	if (msix_open(ex->dev, &ex->msix) < 0) {
		ex->msix = (struct msix){.dev = NULL};
		ex->caps &= ~(uint32_t)EX_MSIX;
	}
	if (msi_open(ex->dev, &ex->msi) < 0) {
		ex->msi.dev = NULL;
		ex->caps &= ~(uint32_t)EX_MSI;
	}
	if (!ex->dev->int_pin)
		ex->caps &= ~(uint32_t)EX_INTX;
	ex->irq_is_msix = ex->msix.dev != NULL;
	return 0;
}

void nic_counts(struct exerciser *ex, unsigned entries)
{
	ex->irq_counts[0] = ex->msi.dev ? 1 : 0;
	ex->irq_counts[1] = MIN(ex->msix.count, entries);
	ex->irq_count = ex->irq_is_msix ? ex->irq_counts[1] : 1;
}

void nic_close(struct exerciser *ex)
{
	ex->ops->quiesce(ex);
	if (ex->msix.dev)
		msix_close(&ex->msix);
	ex->msix.dev = NULL;
	kfree(ex->priv);
	ex->priv = NULL;
}
