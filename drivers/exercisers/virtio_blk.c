/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/medium.h"
#include "drivers/exercisers/parts.h"
#include "drivers/virtio/virtio.h"
#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * virtio block devices, modern transport. Queue i interrupts with MSI-X entry i, by a request for the
 * serial number. Queue 0 carries the DMA too; while it does, the device is asked not to interrupt.
 * Without ACCESS_PLATFORM its addresses are guest physical and no IOMMU sees them.
 */

#define QUEUES_MAX   4
#define DEPTH        32
#define SEGMENTS     3                   /* header, data, status */
#define TRANSFER_MAX 0x400000u
#define FRAMES_MAX   1000u               /* QEMU (VIRTQUEUE_MAX_SIZE) stops at a request of 1024 pieces */
#define MEDIUM_MAX   0x400000ull         /* of a large disk, only so much is used */
#define COOKIE_IRQ   0xffffffffu

#define COMMAND_DEADLINE SEC(2)          /* the main loop of a busy host's QEMU */
#define PENDING_DEADLINE MS(50)
#define STUCK_AFTER      MS(2)           /* from then on dma_poll() looks at the device status too */

struct blk_header { uint32_t type, reserved; uint64_t sector; };

/* All that the device fetches, in one piece. */
struct shared {
	uint8_t queue[QUEUES_MAX][VIRTQUEUE_BYTES];
	volatile struct blk_header header[DEPTH];
	volatile uint8_t status[DEPTH];
	volatile struct blk_header id_header;
	uint8_t id[VIRTIO_BLK_ID_SIZE];
	volatile uint8_t id_status;
};

struct blk_queue {
	struct virtqueue vq;
	volatile uint16_t *bell;
	uint32_t irq_outstanding, irq_done;
};

struct blk {
	struct virtio virtio;
	struct dma_buf mem;
	struct shared *shared;
	struct blk_queue queue[QUEUES_MAX];
	uint16_t queues;
	uint32_t busy, done;                 /* slots in flight; of these, completed and not yet told */
	uint32_t tag[DEPTH];
	bool dead;
	struct deadline stuck;
};

static uint64_t shared_pa(const struct blk *b, const volatile void *p)
{
	return dma_buf_pa(&b->mem, p);
}

static bool blk_failed(const struct blk *b)
{
	const uint8_t status = virtio_status(&b->virtio);

	return status == 0xff || (status & VIRTIO_STATUS_NEEDS_RESET) || !(status & VIRTIO_STATUS_DRIVER_OK);
}

/* Takes all that a queue has completed. */
static void reap(struct blk *b, struct blk_queue *q)
{
	uint32_t cookie;
	int r;

	while ((r = virtqueue_take(&q->vq, &cookie, NULL)) != -EAGAIN) {
		if (r < 0)
			continue;            /* of nothing that we asked for; its slot stays busy */
		if (cookie == COOKIE_IRQ)
			q->irq_done++;
		else
			b->done |= BIT(cookie);
	}
}

static int submit(struct blk_queue *q, uint16_t index, const struct virtq_seg seg[SEGMENTS], unsigned out,
		  uint32_t cookie)
{
	const int r = virtqueue_add(&q->vq, seg, out, SEGMENTS - out, cookie);

	if (r < 0)
		return r == -ENOSPC ? -EAGAIN : r;
	if (virtqueue_wants_kick(&q->vq))
		mmio_w16(q->bell, index);
	return 0;
}

static int start(struct exerciser *ex)
{
	struct blk *b = ex->priv;
	int r;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF, 0);
	r = virtio_reset(&b->virtio);
	if (r < 0)
		return r;
	b->busy = b->done = 0;
	r = virtio_negotiate(&b->virtio, VIRTIO_F_ACCESS_PLATFORM | VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_RO |
						 VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_MQ);
	if (r < 0)
		return r;
	for (uint16_t i = 0; i < b->queues; i++) {
		struct blk_queue *q = &b->queue[i];
		uint16_t size = virtio_queue_max(&b->virtio, i);

		/* A split queue's size is a power of two (2.7). */
		while (size > VIRTQUEUE_MAX)
			size /= 2;
		if (size < SEGMENTS || !is_pow2(size))
			return -ENODEV;
		virtqueue_init(&q->vq, b->shared->queue[i], shared_pa(b, b->shared->queue[i]), size);
		q->irq_outstanding = q->irq_done = 0;
		r = virtio_queue_enable(&b->virtio, i, &q->vq,
					ex->irq_is_msix && i < ex->msix.count ? i : VIRTIO_MSI_NO_VECTOR,
					&q->bell);
		if (r < 0)
			return r;
	}
	virtio_driver_ok(&b->virtio);
	b->dead = false;
	return blk_failed(b) ? -EIO : 0;
}

static void blk_quiesce(struct exerciser *ex)
{
	struct blk *b = ex->priv;

	if (b->virtio.common) {
		(void)virtio_reset(&b->virtio);
		b->busy = b->done = 0;
	}
	exerciser_silence(ex);
}

static int request_id(struct blk *b, uint16_t index)
{
	struct shared *s = b->shared;
	const struct virtq_seg seg[SEGMENTS] = {
		{shared_pa(b, &s->id_header), sizeof(s->id_header)},
		{shared_pa(b, s->id), sizeof(s->id)},
		{shared_pa(b, &s->id_status), 1},
	};

	s->id_header.type = VIRTIO_BLK_T_GET_ID;
	s->id_header.sector = 0;
	return submit(&b->queue[index], index, seg, 1, COOKIE_IRQ);
}

static int wait_id(struct blk *b, struct blk_queue *q, uint32_t count, uint64_t ns)
{
	const struct deadline end = deadline_in(ns);

	for (;;) {
		if (WAIT_UNTIL((reap(b, q), q->irq_done >= count), deadline_min(end, deadline_in(MS(2)))))
			return 0;
		if (blk_failed(b))
			return -EIO;
		if (deadline_passed(end))
			return -ETIMEDOUT;
	}
}

/* Queues to use: what the device has, one without MQ. */
static uint16_t count_queues(const struct exerciser *ex, struct blk *b)
{
	unsigned n = 1;

	if (b->virtio.features & VIRTIO_BLK_F_MQ && b->virtio.device_len >= VIRTIO_BLK_CONFIG_SIZE)
		n = mmio_r16(b->virtio.device + VIRTIO_BLK_NUM_QUEUES);
	n = MIN(n, (unsigned)QUEUES_MAX);
	if (ex->irq_is_msix)
		n = MIN(n, ex->msix.count);
	return (uint16_t)MAX(n, 1u);
}

static int open_device(struct exerciser *ex, struct blk *b)
{
	uint32_t block = VIRTIO_BLK_SECTOR;
	int r = virtio_open(ex->dev, &b->virtio);

	if (r == -ENODEV)
		ex->broken = "a legacy virtio device";
	if (r < 0)
		return r;
	exerciser_find_irqs(ex);
	if (!ex->irq_is_msix)
		ex->caps &= ~(uint32_t)(EX_IRQ | EX_IRQ_COUNTED);
	if (exerciser_own(ex, sizeof(struct shared)) < 0)
		return -ENOMEM;
	b->mem = ex->mem;
	b->shared = b->mem.va;

	/* Once with the one queue that every device has: it tells the features. */
	b->queues = 1;
	r = start(ex);
	if (r < 0)
		return r;
	b->queues = count_queues(ex, b);
	r = start(ex);
	if (r < 0)
		return r;
	ex->ready = true;
	ex->irq_needs_dma = true;
	ex->irq_count = ex->irq_is_msix ? b->queues : 0;
	ex->bypasses_iommu = !(b->virtio.features & VIRTIO_F_ACCESS_PLATFORM);

	if (b->virtio.device_len < VIRTIO_BLK_BLK_SIZE + 4)
		return -ENODEV;
	ex->medium_size = mmio_r32(b->virtio.device + VIRTIO_BLK_CAPACITY) |
			  (uint64_t)mmio_r32(b->virtio.device + VIRTIO_BLK_CAPACITY + 4) << 32;
	ex->medium_size *= VIRTIO_BLK_SECTOR;
	if (b->virtio.features & VIRTIO_BLK_F_BLK_SIZE)
		block = mmio_r32(b->virtio.device + VIRTIO_BLK_BLK_SIZE);
	if (block < VIRTIO_BLK_SECTOR || block > PAGE_SIZE || !is_pow2(block) || ex->medium_size < block) {
		ex->broken = "its block size or capacity is not one that plumb uses";
		return -ENODEV;
	}
	ex->dma_max = TRANSFER_MAX;
	ex->dma_frames = FRAMES_MAX;
	if (b->virtio.features & VIRTIO_BLK_F_SIZE_MAX)
		ex->dma_max =
			MIN(ex->dma_max, mmio_r32(b->virtio.device + VIRTIO_BLK_SIZE_MAX) & ~(block - 1));
	if (ex->dma_max < PAGE_SIZE) {
		ex->broken = "it takes less than a page at a time";
		return -ENODEV;
	}
	ex->dma_min = ex->dma_align = block;
	ex->dma_depth = MIN((unsigned)DEPTH, (unsigned)b->queue[0].vq.size / SEGMENTS);
	if (b->virtio.features & VIRTIO_BLK_F_RO) {
		ex->caps &= ~(uint32_t)EX_DMA_READ;
		ex->note = "the disk is read only";
	}
	return 0;
}

static int blk_open(struct exerciser *ex)
{
	struct blk *b = ex->priv;
	char serial[VIRTIO_BLK_ID_SIZE];
	int r;

	r = open_device(ex, b);
	if (r < 0)
		return r;
	r = request_id(b, 0);
	if (r == 0)
		r = wait_id(b, &b->queue[0], 1, COMMAND_DEADLINE);
	if (r < 0)
		return r;
	b->queue[0].irq_done = 0;
	memcpy(serial, b->shared->id, sizeof(serial));
	r = medium_probe(ex, ex->medium_size, serial, sizeof(serial));
	ex->medium_size = MIN(ex->medium_size, MEDIUM_MAX);
	return r;
}

/* ---- interrupts ---- */

static int blk_irq_raise(struct exerciser *ex, unsigned index)
{
	struct blk *b = ex->priv;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	virtqueue_interrupts(&b->queue[index].vq, true);
	r = request_id(b, (uint16_t)index);
	if (r == 0)
		b->queue[index].irq_outstanding++;
	return r;
}

static int blk_irq_ack(struct exerciser *ex, unsigned index)
{
	struct blk *b = ex->priv;
	struct blk_queue *q;

	if (index >= ex->irq_count)
		return -EINVAL;
	if (!ex->ready)
		return 0;
	q = &b->queue[index];
	if (wait_id(b, q, q->irq_outstanding, COMMAND_DEADLINE) < 0) {
		ex->ready = false;
		return exerciser_start(ex);
	}
	q->irq_outstanding = q->irq_done = 0;
	virtqueue_interrupts(&q->vq, false);
	return 0;
}

/*
 * The used index is written before the message is sent: a new one says that it was, or is about to be.
 * A request that is still under way gets a moment.
 */
static int blk_irq_pending(struct exerciser *ex, unsigned index)
{
	struct blk *b = ex->priv;
	struct blk_queue *q;

	if (index >= ex->irq_count)
		return -EINVAL;
	q = &b->queue[index];
	if (!ex->ready || !q->irq_outstanding)
		return 0;
	return wait_id(b, q, 1, PENDING_DEADLINE) == 0;
}

/* ---- DMA ---- */

static int blk_dma_start(struct exerciser *ex, const struct dma_req *req)
{
	struct blk *b = ex->priv;
	struct virtq_seg seg[SEGMENTS];
	unsigned slot;
	int r;

	if (req->len < ex->dma_min || req->len > ex->dma_max ||
	    (req->len | req->dev_off) & (ex->dma_align - 1) || req->dev_off > ex->medium_size ||
	    req->len > ex->medium_size - req->dev_off)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	slot = (unsigned)__builtin_ctzll(~(uint64_t)b->busy);
	if (slot >= ex->dma_depth)
		return -EAGAIN;
	b->shared->header[slot].type = req->dir == DMA_READ ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	b->shared->header[slot].sector = req->dev_off / VIRTIO_BLK_SECTOR;
	b->shared->status[slot] = 0xff;
	seg[0] = (struct virtq_seg){shared_pa(b, &b->shared->header[slot]), sizeof(struct blk_header)};
	seg[1] = (struct virtq_seg){req->addr.v, (uint32_t)req->len};
	if (SABOTAGE(blk_short_transfer) && req->len > PAGE_SIZE)
		seg[1].len -= VIRTIO_BLK_SECTOR;
	seg[2] = (struct virtq_seg){shared_pa(b, &b->shared->status[slot]), 1};
	b->tag[slot] = req->tag;
	b->stuck = deadline_in(STUCK_AFTER);
	r = submit(&b->queue[0], 0, seg, req->dir == DMA_READ ? 2 : 1, slot);
	if (r == 0)
		b->busy |= BIT(slot);
	return r;
}

/* Nothing came for a while: after a failure nothing will. */
static void look_stuck(struct exerciser *ex, struct blk *b)
{
	if (!b->busy || (!b->dead && !deadline_passed(b->stuck)))
		return;
	b->stuck = deadline_in(STUCK_AFTER);
	if (!b->dead && !blk_failed(b))
		return;
	reap(b, &b->queue[0]);
	b->dead = true;
	ex->ready = false;
	b->done |= b->busy;                  /* their status is still ff: failed */
}

static int blk_dma_poll(struct exerciser *ex, struct dma_status *status)
{
	struct blk *b = ex->priv;
	unsigned slot;

	if (!b->done) {
		reap(b, &b->queue[0]);
		if (b->done)
			b->stuck = deadline_in(STUCK_AFTER);
		else
			look_stuck(ex, b);
	}
	b->done &= b->busy;
	if (!b->done)
		return -EAGAIN;
	slot = (unsigned)__builtin_ctz(b->done);
	b->busy &= ~BIT(slot);
	b->done &= ~BIT(slot);
	*status = (struct dma_status){
		.tag = b->tag[slot],
		.error = b->shared->status[slot] == VIRTIO_BLK_S_OK ? 0 : -EIO,
	};
	return 0;
}

const struct exerciser_ops virtio_blk_ops = {
	.name = "virtio-blk",
	.match =
		(const struct pci_match[]){
			{.vendor = VIRTIO_VENDOR, .device = 0x1042},
			{.vendor = VIRTIO_VENDOR,
			 .device = 0x1001}, /* transitional: may have the modern structures */
			{.vendor = 0},
		},
	.caps = EX_IRQ | EX_MSIX | EX_IRQ_COUNTED | EX_DMA_READ | EX_DMA_WRITE | EX_DMA_TIMED | EX_DMA_DEPTH |
		EX_DMA_COPY,
	.priv_size = sizeof(struct blk),
	.open = blk_open,
	.quiesce = blk_quiesce,
	.recover = start,
	.irq_raise = blk_irq_raise,
	.irq_ack = blk_irq_ack,
	.irq_pending = blk_irq_pending,
	.dma_start = blk_dma_start,
	.dma_poll = blk_dma_poll,
};
