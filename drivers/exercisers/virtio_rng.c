/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/exerciser.h"
#include "drivers/virtio/virtio.h"
#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * virtio entropy devices (VIRTIO 1.2, 5.4): one queue of buffers to fill, the smallest device that writes
 * memory, at any address and length. Of use only where its bytes can be foreseen: QEMU with
 * rng-random,filename=/dev/zero. Elsewhere no test could tell them from what somebody else wrote.
 */

#define TRANSFER_MAX PAGE_SIZE
#define PROBE_LEN    256u
#define STUCK_AFTER  MS(2)
#define DEADLINE     SEC(1)

struct rng {
	struct virtio virtio;
	struct virtqueue vq;
	volatile uint16_t *bell;
	struct dma_buf mem;          /* the queue, and a page for the probe */
	bool busy;
	uint64_t addr;               /* of what is still to be filled */
	size_t left;
	uint32_t tag;
	struct deadline stuck;
};

static bool failed(const struct rng *g)
{
	const uint8_t status = virtio_status(&g->virtio);

	return status == 0xff || (status & VIRTIO_STATUS_NEEDS_RESET) || !(status & VIRTIO_STATUS_DRIVER_OK);
}

static int submit(struct rng *g)
{
	const struct virtq_seg seg = {g->addr, (uint32_t)g->left};
	const int r = virtqueue_add(&g->vq, &seg, 0, 1, 0);

	if (r == 0 && virtqueue_wants_kick(&g->vq))
		mmio_w16(g->bell, 0);
	return r;
}

static int rng_recover(struct exerciser *ex)
{
	struct rng *g = ex->priv;
	uint16_t size;
	int r;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF, 0);
	g->busy = false;
	r = virtio_reset(&g->virtio);
	if (r == 0)
		r = virtio_negotiate(&g->virtio, VIRTIO_F_ACCESS_PLATFORM);
	if (r < 0)
		return r;
	size = virtio_queue_max(&g->virtio, 0);
	while (size > VIRTQUEUE_MAX)
		size /= 2;
	if (!is_pow2(size))
		return -ENODEV;
	virtqueue_init(&g->vq, g->mem.va, g->mem.pa.v, size);
	r = virtio_queue_enable(&g->virtio, 0, &g->vq, VIRTIO_MSI_NO_VECTOR, &g->bell);
	if (r < 0)
		return r;
	virtio_driver_ok(&g->virtio);
	return failed(g) ? -EIO : 0;
}

static void rng_quiesce(struct exerciser *ex)
{
	struct rng *g = ex->priv;

	if (g && g->virtio.common) {
		(void)virtio_reset(&g->virtio);
		g->busy = false;
	}
	pci_set_command(ex->dev, PCI_COMMAND_INTX_OFF, PCI_COMMAND_MASTER);
	ex->ready = false;
}

static void rng_close(struct exerciser *ex)
{
	struct rng *g = ex->priv;

	rng_quiesce(ex);
	if (g && g->mem.va)
		dma_free(&g->mem);
	kfree(g);
	ex->priv = NULL;
}

/* Twice the same byte throughout, over memory that held others: that is what it writes. */
static int probe_fill(struct exerciser *ex)
{
	const struct rng *g = ex->priv;
	uint8_t *p = (uint8_t *)g->mem.va + VIRTQUEUE_BYTES;
	const struct dma_req req = {.dir = DMA_WRITE, .addr = {g->mem.pa.v + VIRTQUEUE_BYTES}, .len = PROBE_LEN};

	for (unsigned round = 0; round < 2; round++) {
		int r;

		memset(p, round ? 0x5a : 0xa5, PROBE_LEN);
		r = exerciser_dma(ex, &req, DEADLINE);
		if (r < 0)
			return r;
		for (unsigned i = 0; i < PROBE_LEN; i++) {
			if (p[i] != p[0] || (round && p[0] != (uint8_t)ex->fill)) {
				ex->fill = -1;
				ex->caps &= ~(uint32_t)EX_DMA_WRITE;
				ex->note = "its bytes are random, so that no check could know them";
				return 0;
			}
		}
		ex->fill = p[0];
	}
	return 0;
}

static int rng_open(struct exerciser *ex)
{
	struct rng *g = kzalloc(sizeof(*g));
	int r;

	ex->priv = g;
	if (!g)
		return -ENOMEM;
	r = virtio_open(ex->dev, &g->virtio);
	if (r == -ENODEV)
		ex->broken = "a legacy virtio device";
	if (r < 0)
		return r;
	if (!dma_alloc(&g->mem, VIRTQUEUE_BYTES + PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	ex->own[0].pa = g->mem.pa;
	ex->own[0].size = VIRTQUEUE_BYTES;
	ex->own_count = 1;
	ex->dma_min = ex->dma_align = ex->dma_depth = 1;
	ex->dma_max = TRANSFER_MAX;
	ex->medium_size = TRANSFER_MAX;
	r = rng_recover(ex);
	if (r < 0)
		return r;
	ex->ready = true;
	ex->bypasses_iommu = !(g->virtio.features & VIRTIO_F_ACCESS_PLATFORM);
	return probe_fill(ex);
}

static int rng_dma_start(struct exerciser *ex, const struct dma_req *req)
{
	struct rng *g = ex->priv;
	int r;

	if (req->dir != DMA_WRITE || !req->len || req->len > ex->dma_max)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	if (g->busy)
		return -EAGAIN;
	g->addr = req->addr.v;
	g->left = req->len;
	g->tag = req->tag;
	g->stuck = deadline_in(STUCK_AFTER);
	r = submit(g);
	g->busy = r == 0;
	return r;
}

static int end(struct rng *g, struct dma_status *status, int error)
{
	g->busy = false;
	*status = (struct dma_status){.tag = g->tag, .error = error};
	return 0;
}

/* It may fill less than the buffer (5.4.6.1): the rest is asked for again. */
static int rng_dma_poll(struct exerciser *ex, struct dma_status *status)
{
	struct rng *g = ex->priv;
	uint32_t cookie, written = 0;
	int r;

	if (!g->busy)
		return -EAGAIN;
	r = virtqueue_take(&g->vq, &cookie, &written);
	if (r == -EAGAIN) {
		if (!deadline_passed(g->stuck))
			return r;
		g->stuck = deadline_in(STUCK_AFTER);
		if (!failed(g))
			return r;
		ex->ready = false;
		return end(g, status, -EIO);
	}
	if (r < 0 || written == 0 || written > g->left)
		return end(g, status, -EIO);
	g->addr += written;
	g->left -= written;
	if (g->left == 0)
		return end(g, status, 0);
	g->stuck = deadline_in(STUCK_AFTER);
	return submit(g) < 0 ? end(g, status, -EIO) : -EAGAIN;
}

static int rng_irq_none(struct exerciser *ex, unsigned index)
{
	(void)ex;
	(void)index;
	return -EOPNOTSUPP;
}

const struct exerciser_ops virtio_rng_ops = {
	.name = "virtio-rng",
	.match =
		(const struct pci_match[]){
			{.vendor = VIRTIO_VENDOR, .device = 0x1044},
			{.vendor = VIRTIO_VENDOR, .device = 0x1005}, /* transitional */
			{.vendor = 0},
		},
	.caps = EX_DMA_WRITE | EX_DMA_ANY_LEN,
	.open = rng_open,
	.close = rng_close,
	.quiesce = rng_quiesce,
	.recover = rng_recover,
	.irq_raise = rng_irq_none,
	.irq_ack = rng_irq_none,
	.irq_pending = rng_irq_none,
	.dma_start = rng_dma_start,
	.dma_poll = rng_dma_poll,
};
