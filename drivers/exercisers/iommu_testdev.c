/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/parts.h"
#include "drivers/exercisers/iommu_testdev_regs.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"

/*
 * QEMU's iommu-testdev: writes a fixed word to an address of ours, all of it inside the read of one
 * register, so that its time is the IOMMU's. It then reads memory back past the IOMMU, where we let it
 * find what it looks for: whether the bytes arrived is the test's to see. Bus Master means nothing to it.
 *
 * The attributes of a transfer (secure, its space) are Arm's. To the units of a PC they must make no
 * difference: every transfer has other ones than the one before.
 */

static const uint32_t attributes[] = {
	0,
	ITD_ATTRS_NONSECURE | ITD_ATTRS_SPACE_VALID,
	ITD_ATTRS_SECURE | ITD_ATTRS_SPACE_VALID,
	ITD_ATTRS_SECURE,
};
/* Secure, in a space that is not. */
#define ATTRS_WRONG (ITD_ATTRS_SECURE | ITD_ATTRS_NONSECURE | ITD_ATTRS_SPACE_VALID)

struct itd {
	volatile uint8_t *regs;
	struct dma_buf copy;         /* what it reads back */
	unsigned transfers;
	bool done;
	struct dma_status status;
};

static uint32_t itd_r32(const struct itd *d, unsigned reg) { return mmio_r32(d->regs + reg); }
static void itd_w32(struct itd *d, unsigned reg, uint32_t v) { mmio_w32(d->regs + reg, v); }

static uint32_t run(struct itd *d, uint64_t addr, size_t len, uint32_t attrs)
{
	itd_w32(d, ITD_GVA_LO, (uint32_t)addr);
	itd_w32(d, ITD_GVA_HI, (uint32_t)(addr >> 32));
	itd_w32(d, ITD_GPA_LO, (uint32_t)d->copy.pa.v);
	itd_w32(d, ITD_GPA_HI, (uint32_t)(d->copy.pa.v >> 32));
	itd_w32(d, ITD_LEN, (uint32_t)len);
	itd_w32(d, ITD_ATTRS, attrs);
	itd_w32(d, ITD_DOORBELL, 1);
	(void)itd_r32(d, ITD_TRIGGER);
	return itd_r32(d, ITD_RESULT);
}

static void itd_quiesce(struct exerciser *ex)
{
	struct itd *d = ex->priv;

	if (d->regs) {
		itd_w32(d, ITD_DOORBELL, 0);
		d->done = false;
	}
	exerciser_silence(ex);
}

static int itd_recover(struct exerciser *ex)
{
	struct itd *d = ex->priv;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF, 0);
	itd_w32(d, ITD_DOORBELL, 0);
	d->done = false;
	return itd_r32(d, ITD_RESULT) == ITD_IDLE ? 0 : -EIO;
}

static int itd_open(struct exerciser *ex)
{
	struct itd *d = ex->priv;
	uint32_t *word;

	if (ex->dev->bar[1].size) {
		ex->broken = "a pci-testdev, which has the same ID and does no DMA";
		return -ENODEV;
	}
	d->regs = pci_bar_map(ex->dev, 0);
	if (!d->regs || ex->dev->bar[0].size < ITD_BAR_SIZE)
		return -ENXIO;
	if (!dma_alloc(&d->copy, PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	word = d->copy.va;
	for (unsigned i = 0; i < PAGE_SIZE / sizeof(*word); i++)
		word[i] = ITD_WORD;
	pci_set_command(ex->dev, PCI_COMMAND_MEMORY, 0);
	itd_w32(d, ITD_DOORBELL, 0);
	if (itd_r32(d, ITD_RESULT) != ITD_IDLE)
		return -ENODEV;
	(void)itd_r32(d, ITD_TRIGGER);
	if (itd_r32(d, ITD_RESULT) != ITD_NOT_ARMED || run(d, d->copy.pa.v, 4, ATTRS_WRONG) != ITD_BAD_ATTRS)
		return -EIO;
	ex->dma_min = ex->dma_align = 1;
	ex->dma_max = PAGE_SIZE;
	ex->dma_depth = 1;
	ex->medium_size = PAGE_SIZE;
	ex->fill = ITD_WORD & 0xff;
	ex->fill_word = ITD_WORD;
	return 0;
}

static int itd_dma_start(struct exerciser *ex, const struct dma_req *req)
{
	struct itd *d = ex->priv;
	uint32_t result;
	int r;

	if (req->dir != DMA_WRITE || !req->len || req->len > ex->dma_max)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	if (d->done)
		return -EAGAIN;
	result = run(d, req->addr.v, req->len, attributes[d->transfers++ % ARRAY_SIZE(attributes)]);
	d->status = (struct dma_status){.tag = req->tag, .error = result == ITD_OK ? 0 : -EIO};
	d->done = true;
	return 0;
}

static int itd_dma_poll(struct exerciser *ex, struct dma_status *status)
{
	struct itd *d = ex->priv;

	if (!d->done)
		return -EAGAIN;
	d->done = false;
	*status = d->status;
	return 0;
}

static int itd_irq_none(struct exerciser *ex, unsigned index)
{
	(void)ex;
	(void)index;
	return -EOPNOTSUPP;
}

const struct exerciser_ops iommu_testdev_ops = {
	.name = "iommu-testdev",
	.match = (const struct pci_match[]){{.vendor = 0x1b36, .device = 0x0005}, {.vendor = 0}},
	.caps = EX_DMA_WRITE | EX_DMA_ANY_LEN | EX_DMA_TIMED,
	.priv_size = sizeof(struct itd),
	.open = itd_open,
	.quiesce = itd_quiesce,
	.recover = itd_recover,
	.irq_raise = itd_irq_none,
	.irq_ack = itd_irq_none,
	.irq_pending = itd_irq_none,
	.dma_start = itd_dma_start,
	.dma_poll = itd_dma_poll,
};
