/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/parts.h"
#include "drivers/exercisers/ivshmem_regs.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * ivshmem-doorbell: the guest rings itself through its own ID, one MSI-X entry for each vector of the
 * device. The ring travels through an eventfd of the host: two rings before the first was delivered
 * are one message, and with MSI-X off it is swallowed. There is no DMA.
 */

struct ivshmem {
	volatile uint8_t *regs;
	uint32_t id;
};

static int ivshmem_recover(struct exerciser *ex)
{
	const struct ivshmem *iv = ex->priv;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	return mmio_r32(iv->regs + IVSHMEM_IV_POSITION) == iv->id ? 0 : -EIO;
}

static int ivshmem_open(struct exerciser *ex)
{
	struct ivshmem *iv = ex->priv;

	exerciser_find_irqs(ex);
	if (!ex->msix.dev) {
		ex->broken = "it has no MSI-X: ivshmem-plain, or no vectors";
		return -ENODEV;
	}
	iv->regs = pci_bar_map(ex->dev, 0);
	if (!iv->regs)
		return -ENXIO;
	iv->id = mmio_r32(iv->regs + IVSHMEM_IV_POSITION);
	if (iv->id > FIELD_GET(IVSHMEM_DOORBELL_PEER, ~0u)) {
		ex->broken = "no ivshmem server has given it an ID";
		return -ENODEV;
	}
	ex->irq_count = ex->msix.count;
	return 0;
}

static int ivshmem_irq_raise(struct exerciser *ex, unsigned index)
{
	const struct ivshmem *iv = ex->priv;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	mmio_w32(iv->regs + IVSHMEM_DOORBELL, FIELD_PREP(IVSHMEM_DOORBELL_PEER, iv->id) |
						      FIELD_PREP(IVSHMEM_DOORBELL_VECTOR, index));
	return 0;
}

/* Nothing to take back: the eventfd was emptied when the message left. */
static int ivshmem_irq_ack(struct exerciser *ex, unsigned index)
{
	return index < ex->irq_count ? 0 : -EINVAL;
}

/*
 * The device keeps no status of its doorbell. Only while the entry is masked does the pending bit say
 * that the ring reached it.
 */
static int ivshmem_irq_pending(struct exerciser *ex, unsigned index)
{
	struct msi_msg msg;
	bool masked;

	if (index >= ex->irq_count)
		return -EINVAL;
	if (msix_pending(&ex->msix, index))
		return 1;
	msix_read(&ex->msix, index, &msg, &masked);
	return masked ? 0 : -EOPNOTSUPP;
}

const struct exerciser_ops ivshmem_ops = {
	.name = "ivshmem",
	.match = (const struct pci_match[]){{.vendor = 0x1af4, .device = 0x1110}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSIX | EX_IRQ_COUNTED,
	.priv_size = sizeof(struct ivshmem),
	.open = ivshmem_open,
	.quiesce = exerciser_silence,
	.recover = ivshmem_recover,
	.irq_raise = ivshmem_irq_raise,
	.irq_ack = ivshmem_irq_ack,
	.irq_pending = ivshmem_irq_pending,
};
