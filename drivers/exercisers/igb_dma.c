/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/igb.h"
#include "drivers/exercisers/igb_regs.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/time/time.h"

/*
 * DMA by loop-back. A frame is a header of ours and a piece of the transfer; sent to the queue's own address it
 * comes back in, and the receiver is told to put the first 64 bytes aside (SRRCTL, always split), so that exactly
 * the piece is read on one side and written on the other. The device's medium is memory that it keeps in own[]: what
 * it reads goes there, what it writes comes from there.
 *
 * A piece is within one page, for QEMU drops a frame whose descriptor is not of one piece in memory once it is
 * translated (net_tx_pkt_add_raw_fragment_pci()). And it writes a descriptor back as done when its read was
 * blocked: only what came in again counts.
 */

#define HEADER      64u
#define ETHERTYPE   0xb588u                 /* 88b5, for local experiments */
#define RX_COUNT    1024u
#define TX_COUNT    2048u
#define TRANSFER_MAX 0x10000u               /* 17 frames: IGB_DEPTH of them leave room in both rings */
#define MEDIUM      0x20000u
#define FRAME_MAX   (HEADER + PAGE_SIZE + 4)
#define SENT_AFTER  MS(20)
#define BACK_AFTER  US(200)

_Static_assert((IGB_DEPTH * (TRANSFER_MAX / PAGE_SIZE + 1) + 1) * 2 < TX_COUNT, "the rings cannot overflow");
_Static_assert(IGB_PIECE_SMALL * 4 == PAGE_SIZE, "… nor with a transfer of a quarter");

struct desc { volatile uint32_t dw[4]; };

/* All that the device fetches but the transfers' own memory. */
struct igb_shared {
	struct desc rx[RX_COUNT], tx[TX_COUNT];
	uint32_t header[2][HEADER / 4];     /* to itself, and to nobody */
	uint8_t aside[HEADER];
	uint8_t medium[MEDIUM] __attribute__((aligned(4096)));
};

static uint64_t shared_pa(const struct igb_queue *q, const volatile void *p)
{
	return q->pa + (uint64_t)((const volatile uint8_t *)p - (const uint8_t *)q->shared);
}

void igb_queue_address(struct exerciser *ex, const uint32_t address[2], unsigned piece)
{
	struct igb_queue *q = &((struct igb *)ex->priv)->queue;

	q->piece = piece;
	ex->dma_max = TRANSFER_MAX / PAGE_SIZE * piece;
	for (unsigned i = 0; i < ARRAY_SIZE(q->shared->header); i++) {
		uint32_t *h = q->shared->header[i];

		/* Destination, source, type. The second one goes to an address that is nobody's. */
		h[0] = address[0];
		h[1] = (address[1] ^ (i ? 0x8000 : 0)) | address[0] << 16;
		h[2] = address[0] >> 16 | address[1] << 16;
		h[3] = ETHERTYPE;
	}
}

int igb_queue_open(struct exerciser *ex, unsigned rx, unsigned tx)
{
	struct igb_queue *q = &((struct igb *)ex->priv)->queue;
	const int r = exerciser_own(ex, sizeof(struct igb_shared));

	if (r < 0)
		return r;
	q->rx = rx;
	q->tx = tx;
	q->shared = ex->mem.va;
	q->pa = ex->mem.pa.v;
	ex->dma_min = ex->dma_align = 1;
	ex->dma_depth = IGB_DEPTH;
	ex->medium_size = MEDIUM;
	return 0;
}

void igb_queue_stop(struct exerciser *ex)
{
	struct igb *g = ex->priv;

	if (!g->queue.shared)
		return;
	nic_w(&g->nic, g->queue.tx + IGB_Q_CTL, 0);
	nic_w(&g->nic, g->queue.rx + IGB_Q_CTL, 0);
	g->queue.count = 0;
	g->queue.dead = true;
}

static void ring_start(const struct nic *n, unsigned regs, uint64_t pa, size_t size)
{
	nic_w(n, regs + IGB_Q_BAL, (uint32_t)pa);
	nic_w(n, regs + IGB_Q_BAH, (uint32_t)(pa >> 32));
	nic_w(n, regs + IGB_Q_LEN, (uint32_t)size);
	nic_w(n, regs + IGB_Q_HEAD, 0);
	nic_w(n, regs + IGB_Q_TAIL, 0);
	nic_w(n, regs + IGB_Q_CTL, IGB_Q_CTL_ENABLE);
}

static void send(struct igb_queue *q, uint64_t pa, size_t len, size_t payload, uint32_t flags)
{
	struct desc *d = &q->shared->tx[q->tx_tail];

	d->dw[0] = (uint32_t)pa;
	d->dw[1] = (uint32_t)(pa >> 32);
	d->dw[2] = flags | IGB_TXD_DEXT | IGB_TXD_DATA | IGB_TXD_IFCS | FIELD_PREP(IGB_TXD_LEN, (uint32_t)len);
	d->dw[3] = FIELD_PREP(IGB_TXD_PAYLEN, (uint32_t)payload);
	q->tx_tail = (q->tx_tail + 1) % TX_COUNT;
}

int igb_queue_start(struct exerciser *ex)
{
	struct igb *g = ex->priv;
	const struct nic *n = &g->nic;
	struct igb_queue *q = &g->queue;

	igb_queue_stop(ex);
	nic_w(n, q->rx + IGB_Q_SRRCTL, IGB_SRRCTL_SPLIT_ALWAYS | FIELD_PREP(IGB_SRRCTL_HEADER, HEADER / 64) |
					       FIELD_PREP(IGB_SRRCTL_PACKET, FRAME_MAX / 1024 + 1));
	ring_start(n, q->rx, shared_pa(q, q->shared->rx), sizeof(q->shared->rx));
	ring_start(n, q->tx, shared_pa(q, q->shared->tx), sizeof(q->shared->tx));
	q->rx_tail = q->tx_tail = q->first = 0;
	q->linked = q->dead = q->lost = false;
	/* The end of a frame whose other descriptors were never read may be what it waits for: it gets one. */
	send(q, shared_pa(q, q->shared->header[1]), HEADER, HEADER, IGB_TXD_EOP);
	return WAIT_FOR(nic_r(n, q->rx + IGB_Q_CTL) & nic_r(n, q->tx + IGB_Q_CTL) & IGB_Q_CTL_ENABLE, MS(10)) ? 0 : -EIO;
}

/* One frame from there to there; the last one of a transfer reports that it was sent. */
static void queue_frame(struct igb_queue *q, uint64_t from, uint64_t to, size_t n, bool last)
{
	struct desc *d = &q->shared->rx[q->rx_tail];
	const uint64_t aside = shared_pa(q, q->shared->aside);

	d->dw[0] = (uint32_t)to;
	d->dw[1] = (uint32_t)(to >> 32);
	d->dw[2] = (uint32_t)aside;
	d->dw[3] = (uint32_t)(aside >> 32);
	q->rx_tail = (q->rx_tail + 1) % RX_COUNT;
	send(q, shared_pa(q, q->shared->header[0]), HEADER, HEADER + n, 0);
	send(q, from, n - (SABOTAGE(igb_short) && n > 1), 0, IGB_TXD_EOP | (last ? IGB_TXD_RS : 0));
}

int igb_dma_start(struct exerciser *ex, const struct dma_req *req)
{
	struct igb *g = ex->priv;
	struct igb_queue *q = &g->queue;
	size_t at = 0;
	int r;

	if (!req->len || req->len > ex->dma_max || req->dev_off > MEDIUM - req->len)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	if (!q->linked && !igb_link_up(ex))
		return -EIO;
	q->linked = true;
	if (q->count == IGB_DEPTH)
		return -EAGAIN;
	while (at < req->len) {
		const uint64_t bus = req->addr.v + at, medium = shared_pa(q, q->shared->medium) + req->dev_off + at;
		const size_t n = MIN(req->len - at, q->piece - (size_t)(bus % q->piece));
		const bool read = req->dir == DMA_READ;

		at += n;
		queue_frame(q, read ? bus : medium, read ? medium : bus, n, at == req->len);
	}
	q->job[(q->first + q->count++) % IGB_DEPTH] = (struct igb_job){
		.tag = req->tag, .rx = (q->rx_tail - 1) % RX_COUNT, .tx = (q->tx_tail - 1) % TX_COUNT,
	};
	q->sent = false;
	q->stuck = deadline_in(SENT_AFTER);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	nic_w(&g->nic, q->rx + IGB_Q_TAIL, q->rx_tail);
	nic_w(&g->nic, q->tx + IGB_Q_TAIL, q->tx_tail);
	return 0;
}

int igb_dma_poll(struct exerciser *ex, struct dma_status *status)
{
	struct igb_queue *q = &((struct igb *)ex->priv)->queue;
	const struct igb_job *j = &q->job[q->first];
	uint32_t word;

	if (!q->count)
		return -EAGAIN;
	word = q->shared->rx[j->rx].dw[2];
	if (!(word & IGB_RXD_DD) && !q->dead) {
		/* What was sent is back at once, or was never read: then nothing that follows comes where it should. */
		if (!q->sent && q->shared->tx[j->tx].dw[3] & IGB_TXD_DD) {
			q->sent = true;
			q->stuck = deadline_in(BACK_AFTER);
		}
		if (!deadline_passed(q->stuck))
			return -EAGAIN;
		q->dead = q->lost = true;
		ex->ready = false;
	}
	q->first = (q->first + 1) % IGB_DEPTH;
	q->count--;
	q->sent = false;
	*status = (struct dma_status){
		.tag = j->tag, .error = !q->dead && (word & (IGB_RXD_EOP | IGB_RXD_ERROR)) == IGB_RXD_EOP ? 0 : -EIO,
	};
	return 0;
}
