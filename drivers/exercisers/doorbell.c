/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/doorbell_regs.h"
#include "drivers/exercisers/exerciser.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"

/*
 * A model's: as many MSI messages as a function can have, each sent as it is rung, if it was granted.
 */

static volatile uint8_t *regs(const struct exerciser *ex) { return ex->priv; }

static void doorbell_quiesce(struct exerciser *ex)
{
	if (ex->priv)
		mmio_w32(regs(ex) + DOORBELL_ACK, ~0u);
	msi_enable(&ex->msi, false);
	pci_set_command(ex->dev, PCI_COMMAND_INTX_OFF, PCI_COMMAND_MASTER);
	ex->ready = false;
}

static int doorbell_recover(struct exerciser *ex)
{
	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	mmio_w32(regs(ex) + DOORBELL_ACK, ~0u);
	return 0;
}

static int doorbell_open(struct exerciser *ex)
{
	if (msi_open(ex->dev, &ex->msi) < 0)
		return -ENODEV;
	ex->priv = (void *)(uintptr_t)pci_bar_map(ex->dev, 0);
	if (!ex->priv)
		return -ENXIO;
	ex->irq_count = ex->msi.count_max;
	/* An irqfd of the host's: it does not see Bus Master. */
	ex->irq_by_host = cpu_features.accel == ACCEL_KVM;
	return mmio_r32(regs(ex) + DOORBELL_ID) == DOORBELL_ID_VALUE ? 0 : -ENODEV;
}

static int doorbell_irq_raise(struct exerciser *ex, unsigned index)
{
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r == 0)
		mmio_w32(regs(ex) + DOORBELL_RING, index);
	return r;
}

static int doorbell_irq_ack(struct exerciser *ex, unsigned index)
{
	mmio_w32(regs(ex) + DOORBELL_ACK, BIT(index));
	return 0;
}

static int doorbell_irq_pending(struct exerciser *ex, unsigned index)
{
	return mmio_r32(regs(ex) + DOORBELL_STATUS) >> index & 1;
}

const struct exerciser_ops doorbell_ops = {
	.name = "doorbell",
	.match = (const struct pci_match[]){{.vendor = 0x1234, .device = 0xbe11}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSI | EX_IRQ_COUNTED,
	.open = doorbell_open,
	.quiesce = doorbell_quiesce,
	.recover = doorbell_recover,
	.irq_raise = doorbell_irq_raise,
	.irq_ack = doorbell_irq_ack,
	.irq_pending = doorbell_irq_pending,
};
