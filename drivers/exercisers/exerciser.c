/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/exerciser.h"

#include "drivers/exercisers/parts.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/time/time.h"

struct exerciser exercisers[EXERCISER_MAX];
unsigned exerciser_count;

static const struct exerciser_ops *const known[] = {
	&edu_ops, &ivshmem_ops, &nvme_ops, &virtio_blk_ops, &iommu_testdev_ops, &nvidia_ops, &mtty_ops,
	&igb_ops, &igbvf_ops, &e1000e_ops, &virtio_ops, &xhci_ops, &doorbell_ops,
};

/* A device that failed to start so often in a row is left alone from then on. */
#define START_FAILURES_MAX 8

static const struct exerciser_ops *ops_for(const struct pci_dev *dev)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		for (const struct pci_match *m = known[i]->match; m->vendor; m++)
			if (pci_matches(dev, m))
				return known[i];
	return NULL;
}

static const char *open_failure(int err)
{
	switch (-err) {
	case ENODEV:
		return "not usable: it lacks what its ID promises";
	case ENOMEM:
		return "no memory for it";
	case ETIMEDOUT:
		return "it did not answer within the deadline";
	case ENXIO:
		return "a BAR that it needs is not there";
	default:
		return "it reports an error while being set up";
	}
}

static void open_one(struct pci_dev *dev, const struct exerciser_ops *ops)
{
	struct exerciser *ex = &exercisers[exerciser_count++];
	int r;

	*ex = (struct exerciser){
		.ops = ops, .dev = dev, .rid = pci_requester_id(dev), .caps = ops->caps,
		.dma_addr_align = 1, .dma_mask = ~0ull, .fill = -1,
	};
	dev->driver = ex;
	ex->priv = ops->priv_size ? kzalloc(ops->priv_size) : NULL;
	r = ops->priv_size && !ex->priv ? -ENOMEM : ops->open(ex);
	if (r < 0 && !ex->broken)
		ex->broken = open_failure(r);
	if (ex->broken)
		ex->caps = 0;
	ex->failed = r == -EIO || r == -ETIMEDOUT;
}

void exercisers_init(void)
{
	FOR_EACH_PCI(dev) {
		const struct exerciser_ops *ops = dev->driver ? NULL : ops_for(dev);

		if (ops && exerciser_count < EXERCISER_MAX)
			open_one(dev, ops);
	}
	/* After all are open: what one of them waits for (edu's timer) runs while the others open. */
	for (unsigned i = 0; i < exerciser_count; i++) {
		exercisers[i].ops->quiesce(&exercisers[i]);
		exercisers[i].ready = false;
	}
}

void exerciser_find_irqs(struct exerciser *ex)
{
	if (!(ex->caps & EX_MSIX) || msix_open(ex->dev, &ex->msix) < 0) {
		ex->msix = (struct msix){.dev = NULL};
		ex->caps &= ~(uint32_t)EX_MSIX;
	}
	if (!(ex->caps & EX_MSI) || msi_open(ex->dev, &ex->msi) < 0) {
		ex->msi = (struct msi){.dev = NULL};
		ex->caps &= ~(uint32_t)EX_MSI;
	}
	if (!ex->dev->int_pin)
		ex->caps &= ~(uint32_t)EX_INTX;
	ex->irq_is_msix = ex->msix.dev != NULL;
}

void exerciser_silence(struct exerciser *ex)
{
	pci_set_command(ex->dev, PCI_COMMAND_INTX_OFF, PCI_COMMAND_MASTER);
	if (ex->msix.dev)
		msix_enable(&ex->msix, false);
	if (ex->msi.dev)
		msi_enable(&ex->msi, false);
	ex->ready = false;
}

int exerciser_own(struct exerciser *ex, size_t size)
{
	if (!dma_alloc(&ex->mem, size, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	ex->own[0].pa = ex->mem.pa;
	ex->own[0].size = (size_t)align_up(size, PAGE_SIZE);
	ex->own_count = 1;
	return 0;
}

static void close(struct exerciser *ex)
{
	ex->ops->quiesce(ex);
	if (ex->msix.dev)
		msix_close(&ex->msix);
	if (ex->mem.va)
		dma_free(&ex->mem);
	kfree(ex->priv);
}

int exercisers_vfs_on(struct pci_dev *pf, unsigned vfs, const char **why)
{
	struct exerciser *ex = pf->driver;
	int n = 0;

	if (ex && ex->broken)
		ex = NULL;                   /* nobody drives it: the capability alone */
	if (ex && ex->ops->vfs_free)
		n = ex->ops->vfs_free(ex);
	if (n == 0)
		n = pci_sriov_enable(pf, vfs, why);
	FOR_EACH_PCI(d) {
		const struct exerciser_ops *ops = d->physfn == pf ? ops_for(d) : NULL;

		if (!ops || exerciser_count == EXERCISER_MAX)
			continue;
		if (ex && ex->ops->vf_give && ex->ops->vf_give(ex, d->vf) < 0)
			continue;
		open_one(d, ops);
		ops->quiesce(d->driver);
	}
	return n;
}

void exercisers_vfs_off(struct pci_dev *pf)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < exerciser_count; i++) {
		struct exerciser *ex = &exercisers[i];

		if (ex->dev->physfn == pf) {
			close(ex);
			continue;
		}
		exercisers[kept] = *ex;
		ex->dev->driver = &exercisers[kept++];
	}
	exerciser_count = kept;
	pci_sriov_disable(pf);
}

int exerciser_start(struct exerciser *ex)
{
	int r;

	if (ex->broken)
		return -ENODEV;
	if (ex->ready)
		return 0;
	r = ex->ops->recover(ex);
	ex->ready = r == 0;
	if (ex->ready) {
		ex->start_failures = 0;
		return 0;
	}
	ex->ops->quiesce(ex);
	if (++ex->start_failures >= START_FAILURES_MAX) {
		ex->broken = "it does not start any more";
		ex->failed = true;
	}
	return r;
}

int exerciser_use_msix(struct exerciser *ex, bool msix)
{
	if (ex->irq_is_msix == msix)
		return 0;
	if (ex->broken || !ex->irq_counts[0] || !ex->irq_counts[1])
		return -EOPNOTSUPP;
	ex->ops->quiesce(ex);
	ex->ready = false;
	ex->irq_is_msix = msix;
	ex->irq_count = ex->irq_counts[msix];
	return 0;
}

bool exerciser_answers(struct exerciser *ex)
{
	/* A virtual function has no Vendor ID of its own: PCIe 5.0, 9.3.4.1.1. */
	return (ex->dev->physfn || pci_r16(ex->dev->rid, 0) != 0xffff) && (ex->broken || !ex->ops->answers || ex->ops->answers(ex));
}

int exerciser_dma(struct exerciser *ex, const struct dma_req *req, uint64_t ns)
{
	struct dma_status status;
	int r = ex->ops->dma_start ? ex->ops->dma_start(ex, req) : -EOPNOTSUPP;

	if (r < 0)
		return r;
	if (!WAIT_FOR((r = ex->ops->dma_poll(ex, &status)) != -EAGAIN, ns)) {
		/* Whatever it still holds must not move after the caller has reused the memory. */
		ex->ops->quiesce(ex);
		ex->ready = false;
		return -ETIMEDOUT;
	}
	return r < 0 ? r : status.error;
}
