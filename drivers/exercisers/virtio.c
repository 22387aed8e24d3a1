/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/parts.h"
#include "drivers/virtio/virtio.h"
#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * Any other virtio function, modern transport, as a source of interrupts: a request that has no effect on
 * the device, whose completion interrupts by the MSI-X entry that the queue is given (VIRTIO 1.2, 4.1.4.3), or,
 * while MSI-X is off, on INTx.
 * Which request, depends on the kind; those of which we know none are left alone.
 *
 * An entropy device is a DMA source as well: it writes to any address, any length. Only where its bytes
 * can be foreseen (QEMU: rng-random,filename=/dev/zero): no test could tell others from somebody else's.
 */
struct request {
	uint16_t device;         /* PCI device ID, modern; transitional: */
	uint16_t transitional;
	uint16_t queue, out_len, in_len;
	uint64_t features;       /* that give it the queue */
	const char *kind;
	uint8_t out[24];
};

#define NET_F_CTRL_VQ          BIT64(17)
#define CONSOLE_F_MULTIPORT    BIT64(1)

static const struct request requests[] = {
	/* A control command of a class that there is not: answered with an error (5.1.6.5). */
	{.device = 0x1041, .transitional = 0x1000, .queue = 2, .out_len = 2, .in_len = 1, .kind = "net",
	 .features = NET_F_CTRL_VQ, .out = {0xff}},
	/* Port 0 is told of as ready, once more (5.3.6.2). */
	{.device = 0x1043, .transitional = 0x1003, .queue = 3, .out_len = 8, .kind = "console",
	 .features = CONSOLE_F_MULTIPORT, .out = {0, 0, 0, 0, 0, 0, 1, 0}},
	{.device = 0x1044, .transitional = 0x1005, .queue = 0, .in_len = 16, .kind = "rng"},
	/* A page taken back that was never given: page 0, which nobody uses (5.5.6). */
	{.device = 0x1045, .transitional = 0x1002, .queue = 1, .out_len = 4, .kind = "balloon"},
	/* Task management for a target that there is not (5.6.6.2). */
	{.device = 0x1048, .transitional = 0x1004, .queue = 0, .out_len = 24, .in_len = 1, .kind = "scsi",
	 .out = {[8] = 1, 0xff, 0x40, 0xff}},
	/* GET_DISPLAY_INFO (5.7.6.8). */
	{.device = 0x1050, .queue = 0, .out_len = 24, .in_len = 408, .kind = "gpu", .out = {0x00, 0x01}},
};

#define ENTRIES_MAX 8
#define RNG          0x1044
#define TRANSFER_MAX PAGE_SIZE
#define PROBE_LEN    256u
#define STUCK_AFTER  MS(2)
#define COOKIE_DMA   1u
#define COMMAND_DEADLINE SEC(2)          /* the main loop of a busy host's QEMU */
#define PENDING_DEADLINE MS(50)

/* All that the device fetches, in one piece. */
struct shared {
	uint8_t queue[VIRTQUEUE_BYTES];
	uint8_t out[32], in[512];
};
_Static_assert(PROBE_LEN <= 512, "the probe's bytes go to in[]");

struct vio {
	struct virtio virtio;
	const struct request *request;
	struct dma_buf mem;
	struct shared *shared;
	struct virtqueue vq;
	volatile uint16_t *bell;
	uint32_t outstanding, done;
	struct {                     /* the transfer under way: what is still to be filled */
		bool busy;
		uint64_t addr;
		size_t left;
		uint32_t tag;
		struct deadline stuck;
	} dma;
};

static uint64_t shared_pa(const struct vio *v, const void *p)
{
	return dma_buf_pa(&v->mem, p);
}

static bool failed(const struct vio *v)
{
	const uint8_t status = virtio_status(&v->virtio);

	return status == 0xff || (status & VIRTIO_STATUS_NEEDS_RESET) || !(status & VIRTIO_STATUS_DRIVER_OK);
}

static void vio_quiesce(struct exerciser *ex)
{
	struct vio *v = ex->priv;

	if (v->virtio.common) {
		(void)virtio_reset(&v->virtio);
		v->outstanding = v->done = 0;
		v->dma.busy = false;
	}
	exerciser_silence(ex);
}

static int start(struct exerciser *ex)
{
	struct vio *v = ex->priv;
	uint16_t size;
	int r;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF, 0);
	r = virtio_reset(&v->virtio);
	if (r < 0)
		return r;
	r = virtio_negotiate(&v->virtio, VIRTIO_F_ACCESS_PLATFORM | v->request->features);
	if (r < 0)
		return r;
	if ((v->virtio.features & v->request->features) != v->request->features)
		return -ENODEV;
	size = virtio_queue_max(&v->virtio, v->request->queue);
	while (size > VIRTQUEUE_MAX)
		size /= 2;
	if (size < 2 || !is_pow2(size))
		return -ENODEV;
	virtqueue_init(&v->vq, v->shared->queue, shared_pa(v, v->shared->queue), size);
	v->outstanding = v->done = 0;
	v->dma.busy = false;
	r = virtio_queue_enable(&v->virtio, v->request->queue, &v->vq, 0, &v->bell);
	if (r < 0)
		return r;
	virtio_driver_ok(&v->virtio);
	return failed(v) ? -EIO : 0;
}

static const struct request *request_of(const struct pci_dev *dev)
{
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		if (dev->device == requests[i].device || dev->device == requests[i].transitional)
			return &requests[i];
	return NULL;
}

static int probe_fill(struct exerciser *ex)
{
	const struct vio *v = ex->priv;
	const volatile uint8_t *p = v->shared->in;
	const struct dma_req req = {.dir = DMA_WRITE, .addr = {shared_pa(v, v->shared->in)}, .len = PROBE_LEN};

	/* Twice the same byte throughout, over memory that held others: that is what it writes. */
	for (unsigned round = 0; round < 2; round++) {
		int r;

		memset(v->shared->in, round ? 0x5a : 0xa5, PROBE_LEN);
		r = exerciser_dma(ex, &req, COMMAND_DEADLINE);
		if (r < 0)
			return r;
		for (unsigned i = 0; i < PROBE_LEN; i++) {
			if (p[i] != p[0] || (round && p[0] != (uint8_t)ex->fill)) {
				ex->fill = -1;
				ex->caps &= ~(uint32_t)(EX_DMA_WRITE | EX_DMA_ANY_LEN);
				ex->note = "rng: its bytes are random, so that no check could know them";
				return 0;
			}
		}
		ex->fill = p[0];
	}
	ex->caps |= EX_DMA_TIMED;        /* from a file of one byte: nobody gathers entropy for it */
	return 0;
}

static int vio_open(struct exerciser *ex)
{
	struct vio *v = ex->priv;
	int r;

	v->request = request_of(ex->dev);
	r = v->request ? virtio_open(ex->dev, &v->virtio) : -ENODEV;
	if (r == -ENODEV)
		ex->broken = "a legacy virtio device";
	if (r < 0)
		return r;
	exerciser_find_irqs(ex);
	if (!ex->irq_is_msix) {
		ex->broken = "virtio without MSI-X";
		return -ENODEV;
	}
	if (exerciser_own(ex, sizeof(struct shared)) < 0)
		return -ENOMEM;
	v->mem = ex->mem;
	v->shared = v->mem.va;
	memcpy(v->shared->out, v->request->out, sizeof(v->request->out));
	ex->irq_count = MIN(ex->msix.count, (unsigned)ENTRIES_MAX);
	r = start(ex);
	if (r == -ENODEV)
		ex->broken = "it does not offer the queue that plumb would use";
	ex->ready = r == 0;
	ex->irq_needs_dma = true;
	ex->bypasses_iommu = !(v->virtio.features & VIRTIO_F_ACCESS_PLATFORM);
	ex->note = v->request->kind;
	if (v->request->device != RNG) {
		ex->caps &= ~(uint32_t)(EX_DMA_WRITE | EX_DMA_ANY_LEN);
		return r;
	}
	ex->dma_min = ex->dma_align = ex->dma_depth = 1;
	ex->dma_max = ex->medium_size = TRANSFER_MAX;
	return r < 0 ? r : probe_fill(ex);
}

static bool wait_done(struct vio *v, uint32_t count, uint64_t ns)
{
	const struct deadline end = deadline_in(ns);
	uint32_t cookie;

	while (v->done < count) {
		const int r = virtqueue_take(&v->vq, &cookie, NULL);

		if (r == 0)
			v->done++;
		else if (r != -EAGAIN || failed(v) || deadline_passed(end))
			return false;
	}
	return true;
}

/* The queue is given the entry, and the request. */
static int vio_irq_raise(struct exerciser *ex, unsigned index)
{
	struct vio *v = ex->priv;
	const struct request *q = v->request;
	struct virtq_seg seg[2];
	unsigned out = 0, in = 0;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	mmio_w16(v->virtio.common + VIRTIO_QUEUE_SELECT, q->queue);
	mmio_w16(v->virtio.common + VIRTIO_QUEUE_MSIX_VECTOR, (uint16_t)index);
	if (mmio_r16(v->virtio.common + VIRTIO_QUEUE_MSIX_VECTOR) != index)
		return -EIO;
	if (q->out_len)
		seg[out++] = (struct virtq_seg){shared_pa(v, v->shared->out), q->out_len};
	if (q->in_len)
		seg[out + in++] = (struct virtq_seg){shared_pa(v, v->shared->in), q->in_len};
	virtqueue_interrupts(&v->vq, true);
	r = virtqueue_add(&v->vq, seg, out, in, 0);
	if (r < 0)
		return r == -ENOSPC ? -EAGAIN : r;
	v->outstanding++;
	if (virtqueue_wants_kick(&v->vq))
		mmio_w16(v->bell, q->queue);
	return 0;
}

static int vio_irq_ack(struct exerciser *ex, unsigned index)
{
	struct vio *v = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	if (!ex->ready)
		return 0;
	if (!wait_done(v, v->outstanding, COMMAND_DEADLINE)) {
		ex->ready = false;
		return exerciser_start(ex);
	}
	v->outstanding = v->done = 0;
	virtqueue_interrupts(&v->vq, false);
	(void)virtio_isr(&v->virtio);
	return 0;
}

/* The used index is written before the message is sent: a new one says that it was, or is about to be. */
static int vio_irq_pending(struct exerciser *ex, unsigned index)
{
	struct vio *v = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	if (!msix_enabled(&ex->msix) && !(pci_r16(ex->dev->rid, PCI_COMMAND) & PCI_COMMAND_INTX_OFF))
		return (pci_r16(ex->dev->rid, PCI_STATUS) & PCI_STATUS_INTX) != 0;
	return ex->ready && v->outstanding && wait_done(v, 1, PENDING_DEADLINE);
}

/* ---- DMA, of an entropy device (5.4) ---- */

static int submit(struct vio *v)
{
	const struct virtq_seg seg = {v->dma.addr, (uint32_t)v->dma.left};
	const int r = virtqueue_add(&v->vq, &seg, 0, 1, COOKIE_DMA);

	v->dma.stuck = deadline_in(STUCK_AFTER);
	if (r == 0 && virtqueue_wants_kick(&v->vq))
		mmio_w16(v->bell, v->request->queue);
	return r;
}

static int vio_dma_start(struct exerciser *ex, const struct dma_req *req)
{
	struct vio *v = ex->priv;
	int r;

	if (req->dir != DMA_WRITE || !req->len || req->len > ex->dma_max)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	if (v->dma.busy || v->outstanding)
		return -EAGAIN;
	v->dma.addr = req->addr.v;
	v->dma.left = req->len;
	v->dma.tag = req->tag;
	r = submit(v);
	v->dma.busy = r == 0;
	return r;
}

static int end(struct vio *v, struct dma_status *status, int error)
{
	v->dma.busy = false;
	*status = (struct dma_status){.tag = v->dma.tag, .error = error};
	return 0;
}

/* It may fill less than the buffer (5.4.6.1): the rest is asked for again. */
static int vio_dma_poll(struct exerciser *ex, struct dma_status *status)
{
	struct vio *v = ex->priv;
	uint32_t cookie = 0, written = 0;
	int r;

	if (!v->dma.busy)
		return -EAGAIN;
	r = virtqueue_take(&v->vq, &cookie, &written);
	if (r == -EAGAIN) {
		if (!deadline_passed(v->dma.stuck))
			return r;
		v->dma.stuck = deadline_in(STUCK_AFTER);
		if (!failed(v))
			return r;
		ex->ready = false;           /* blocked on its way to the buffer or the ring */
		return end(v, status, -EIO);
	}
	if (r < 0 || cookie != COOKIE_DMA || written == 0 || written > v->dma.left)
		return end(v, status, -EIO);
	v->dma.addr += written;
	v->dma.left -= written;
	if (v->dma.left == 0)
		return end(v, status, 0);
	return submit(v) < 0 ? end(v, status, -EIO) : -EAGAIN;
}

#define VIRTIO_MATCH(id) {.vendor = 0x1af4, .device = id, .class_code = 0, .class_mask = 0}

const struct exerciser_ops virtio_ops = {
	.name = "virtio",
	.match = (const struct pci_match[]){
		VIRTIO_MATCH(0x1041), VIRTIO_MATCH(0x1000), VIRTIO_MATCH(0x1043), VIRTIO_MATCH(0x1003),
		VIRTIO_MATCH(0x1044), VIRTIO_MATCH(0x1005), VIRTIO_MATCH(0x1045), VIRTIO_MATCH(0x1002),
		VIRTIO_MATCH(0x1048), VIRTIO_MATCH(0x1004), VIRTIO_MATCH(0x1050), {.vendor = 0}},
	.caps = EX_IRQ | EX_MSIX | EX_INTX | EX_IRQ_COUNTED | EX_DMA_WRITE | EX_DMA_ANY_LEN,
	.priv_size = sizeof(struct vio),
	.open = vio_open,
	.quiesce = vio_quiesce,
	.recover = start,
	.irq_raise = vio_irq_raise,
	.irq_ack = vio_irq_ack,
	.irq_pending = vio_irq_pending,
	.dma_start = vio_dma_start,
	.dma_poll = vio_dma_poll,
};
