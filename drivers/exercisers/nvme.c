/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/exerciser.h"
#include "drivers/exercisers/medium.h"
#include "drivers/exercisers/nvme_prp.h"
#include "drivers/exercisers/nvme_regs.h"
#include "drivers/exercisers/parts.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * NVM Express controllers. Queue 0 is the admin queue and interrupts with entry 0. Queue 1 carries the
 * DMA and never interrupts, so that a transfer is no stray interrupt to a test that counts them.
 * Queues 2 and up only interrupt, with entries 1 and up, by a Flush.
 */

#define ENTRIES      64                  /* of each queue */
#define DEPTH        32                  /* transfers in flight */
#define RELEASE_AT   16                  /* completions per head doorbell */
#define IO_QUEUE     1
#define IRQ_QUEUE(i) ((i) ? (i) + 1 : 0) /* the queue that interrupts with entry i */
#define IRQ_MAX      4
#define QUEUES       (IRQ_MAX + 1)
#define TRANSFER_MAX 0x100000u
#define MEDIUM_MAX   0x400000ull         /* of a large disk, only so much is used */

#define COMMAND_DEADLINE SEC(2)          /* 0.3 s were seen beside busy processes */
#define PENDING_DEADLINE MS(50)
#define READY_DEADLINE   SEC(3)
#define RESET_DEADLINE   SEC(1)
#define STUCK_AFTER      MS(2)           /* from then on dma_poll() looks at the status register too */

struct sqe { uint32_t dw[NVME_SQE_SIZE / 4]; };
struct cqe { volatile uint32_t dw[NVME_CQE_SIZE / 4]; };

struct queue {
	uint16_t id;
	bool ien;
	uint16_t vector;
	volatile struct sqe *sq;
	struct cqe *cq;
	gpa_t sq_pa, cq_pa;
	uint32_t tail, head, phase, unreleased, outstanding;
};

/* All that the controller fetches, in one piece. */
struct shared {
	struct { struct sqe sq[ENTRIES]; uint8_t cq[4096]; } queue[QUEUES];
	uint8_t identify[4096];
	uint8_t scratch[4096];               /* takes messages that nobody is to see */
	volatile uint64_t prp[DEPTH][NVME_PRP_LIST_MAX];
};

struct nvme {
	volatile uint8_t *regs;
	struct dma_buf mem;
	struct shared *shared;
	struct queue queue[QUEUES];
	unsigned queues, stride;
	uint32_t nsid, block_size;
	uint64_t blocks, ready_ns;
	uint32_t busy;                       /* slots in flight, a bit each; the slot is the command ID */
	uint32_t tag[DEPTH];
	bool dead;
	struct deadline stuck;
};

static gpa_t shared_pa(const struct nvme *n, const volatile void *p)
{
	return gpa(dma_buf_pa(&n->mem, p));
}

static bool nvme_failed(const struct nvme *n)
{
	const uint32_t csts = mmio_r32(n->regs + NVME_CSTS);

	return csts == ~0u || (csts & NVME_CSTS_CFS) || !(csts & NVME_CSTS_RDY);
}

/* ---- queues ---- */

static void queue_reset(struct nvme *n, struct queue *q)
{
	const size_t i = q->id;

	q->sq = n->shared->queue[i].sq;
	q->cq = (struct cqe *)n->shared->queue[i].cq;
	q->sq_pa = shared_pa(n, q->sq);
	q->cq_pa = shared_pa(n, q->cq);
	memset(&n->shared->queue[i], 0, sizeof(n->shared->queue[i]));
	q->tail = q->head = q->unreleased = q->outstanding = 0;
	q->phase = NVME_STATUS_PHASE;
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static volatile uint8_t *doorbell(const struct nvme *n, unsigned qid, bool completion)
{
	return n->regs + NVME_DOORBELLS + (2 * qid + completion) * n->stride;
}

static void queue_submit(struct nvme *n, struct queue *q, const struct sqe *cmd)
{
	for (size_t i = 0; i < ARRAY_SIZE(cmd->dw); i++)
		q->sq[q->tail].dw[i] = cmd->dw[i];
	q->tail = (q->tail + 1) % ENTRIES;
	q->outstanding++;
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the caller's data, too, is in memory before the bell */
	mmio_w32(doorbell(n, q->id, false), q->tail);
}

static bool queue_has(const struct queue *q)
{
	return (q->cq[q->head].dw[NVME_CQE_STATUS] & NVME_STATUS_PHASE) == q->phase;
}

static void queue_release(struct nvme *n, struct queue *q)
{
	if (q->unreleased)
		mmio_w32(doorbell(n, q->id, true), q->head);
	q->unreleased = 0;
}

/* Takes the completion that queue_has(). */
static uint32_t queue_take(struct queue *q, uint32_t *result)
{
	const struct cqe *e = &q->cq[q->head];
	const uint32_t status = e->dw[NVME_CQE_STATUS];

	if (result)
		*result = e->dw[NVME_CQE_RESULT];
	if (++q->head == ENTRIES) {
		q->head = 0;
		q->phase ^= NVME_STATUS_PHASE;
	}
	q->unreleased++;
	if (q->outstanding)
		q->outstanding--;
	return status;
}

/* Waits, looking at the status register from time to time: a failed controller never answers. */
static bool queue_wait(struct nvme *n, struct queue *q, uint64_t ns)
{
	const struct deadline end = deadline_in(ns);

	while (!WAIT_UNTIL(queue_has(q), deadline_min(end, deadline_in(MS(2)))))
		if (deadline_passed(end) || nvme_failed(n))
			return queue_has(q);
	return true;
}

static int admin(struct nvme *n, struct sqe *cmd, uint32_t *result)
{
	struct queue *q = &n->queue[0];
	uint32_t status;

	queue_submit(n, q, cmd);
	if (!queue_wait(n, q, COMMAND_DEADLINE))
		return nvme_failed(n) ? -EIO : -ETIMEDOUT;
	status = queue_take(q, result);
	queue_release(n, q);
	return FIELD_GET(NVME_STATUS_CODE, status) ? -EIO : 0;
}

static void set_u64(struct sqe *cmd, unsigned dw, uint64_t v)
{
	cmd->dw[dw] = (uint32_t)v;
	cmd->dw[dw + 1] = (uint32_t)(v >> 32);
}

static int identify(struct nvme *n, uint32_t cns, uint32_t nsid)
{
	struct sqe cmd = {{NVME_ADMIN_IDENTIFY}};

	memset(n->shared->identify, 0, sizeof(n->shared->identify));
	cmd.dw[NVME_SQE_NSID] = nsid;
	set_u64(&cmd, NVME_SQE_PRP1, shared_pa(n, n->shared->identify).v);
	cmd.dw[NVME_SQE_CDW10] = cns;
	return admin(n, &cmd, NULL);
}

static int create_queue(struct nvme *n, const struct queue *q)
{
	const uint32_t id_size = FIELD_PREP(NVME_QUEUE_QID, (uint32_t)q->id) |
				 FIELD_PREP(NVME_QUEUE_SIZE, ENTRIES - 1);
	struct sqe cq = {{NVME_ADMIN_CREATE_CQ}}, sq = {{NVME_ADMIN_CREATE_SQ}};
	int r;

	set_u64(&cq, NVME_SQE_PRP1, q->cq_pa.v);
	cq.dw[NVME_SQE_CDW10] = id_size;
	cq.dw[NVME_SQE_CDW10 + 1] = NVME_QUEUE_CONTIGUOUS | (q->ien ? NVME_CQ_IEN : 0) |
				    FIELD_PREP(NVME_CQ_VECTOR, (uint32_t)q->vector);
	r = admin(n, &cq, NULL);
	if (r < 0)
		return r;
	set_u64(&sq, NVME_SQE_PRP1, q->sq_pa.v);
	sq.dw[NVME_SQE_CDW10] = id_size;
	sq.dw[NVME_SQE_CDW10 + 1] = NVME_QUEUE_CONTIGUOUS | FIELD_PREP(NVME_SQ_CQID, (uint32_t)q->id);
	return admin(n, &sq, NULL);
}

/* ---- controller ---- */

static int disable(struct nvme *n)
{
	const uint32_t cc = mmio_r32(n->regs + NVME_CC);

	if (cc == ~0u)
		return -EIO;
	mmio_w32(n->regs + NVME_CC, cc & ~NVME_CC_EN);
	if (!WAIT_FOR(!(mmio_r32(n->regs + NVME_CSTS) & NVME_CSTS_RDY), RESET_DEADLINE))
		return -ETIMEDOUT;
	n->busy = 0;
	n->dead = true;
	return 0;
}

static int enable(struct nvme *n)
{
	uint32_t granted = 0;
	int r;

	for (unsigned i = 0; i < n->queues; i++)
		queue_reset(n, &n->queue[i]);
	mmio_w32(n->regs + NVME_AQA, FIELD_PREP(NVME_AQA_ASQS, ENTRIES - 1) |
					     FIELD_PREP(NVME_AQA_ACQS, ENTRIES - 1));
	mmio_w64(n->regs + NVME_ASQ, n->queue[0].sq_pa.v);
	mmio_w64(n->regs + NVME_ACQ, n->queue[0].cq_pa.v);
	/* CSS, MPS and AMS 0: NVM command set, 4 KiB pages, round robin. */
	mmio_w32(n->regs + NVME_CC, NVME_CC_EN | FIELD_PREP(NVME_CC_IOSQES, 6) |
					    FIELD_PREP(NVME_CC_IOCQES, 4));
	if (!WAIT_FOR(mmio_r32(n->regs + NVME_CSTS) & (NVME_CSTS_RDY | NVME_CSTS_CFS), n->ready_ns))
		return -ETIMEDOUT;
	if (nvme_failed(n))
		return -EIO;

	if (n->queues > 1) {
		struct sqe cmd = {{NVME_ADMIN_SET_FEATURES}};
		const uint32_t want = n->queues - 2; /* the admin queue does not count, and is 0's based */

		cmd.dw[NVME_SQE_CDW10] = NVME_FEATURE_QUEUES;
		cmd.dw[NVME_SQE_CDW10 + 1] = want | want << 16;
		r = admin(n, &cmd, &granted);
		if (r < 0)
			return r;
		n->queues = MIN(n->queues, 2 + MIN(granted & 0xffff, granted >> 16));
	}
	for (unsigned i = 1; i < n->queues; i++) {
		r = create_queue(n, &n->queue[i]);
		if (r < 0)
			return r;
	}
	n->busy = 0;
	n->dead = false;
	return 0;
}

/*
 * QEMU counts a vector as used only where MSI-X was on when its queue was made, so it is turned on for
 * that. The admin queue's completions then signal with entry 0: it points at scratch memory meanwhile,
 * as a message is but a write, and nothing stays pending.
 */
static int start(struct exerciser *ex)
{
	struct nvme *n = ex->priv;
	struct msi_msg saved = {0, 0};
	bool masked = true;
	uint16_t control = 0;
	const unsigned at = ex->msix.cap + MSIX_CONTROL;
	int r;

	if (pci_has_vfs(ex->dev) && !n->dead && !nvme_failed(n)) {
		pci_set_command(ex->dev, PCI_COMMAND_MASTER, 0);
		return 0;
	}
	r = disable(n);
	if (r < 0)
		return r;
	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF, 0);
	if (ex->irq_is_msix) {
		const struct msi_msg scratch = {shared_pa(n, n->shared->scratch).v, 0};

		control = pci_r16(ex->dev->rid, at);
		msix_read(&ex->msix, 0, &saved, &masked);
		msix_program(&ex->msix, 0, &scratch);
		msix_mask(&ex->msix, 0, false);
		pci_w16(ex->dev->rid, at, MSIX_ENABLE);
	}
	r = enable(n);
	if (ex->irq_is_msix) {
		/* A read comes back after the messages sent before it. */
		(void)mmio_r32(n->regs + NVME_CSTS);
		msix_mask(&ex->msix, 0, true);
		msix_program(&ex->msix, 0, &saved);
		pci_w16(ex->dev->rid, at, control);
		msix_mask(&ex->msix, 0, masked);
	}
	return r;
}

static void nvme_quiesce(struct exerciser *ex)
{
	struct nvme *n = ex->priv;

	/* A reset would take its virtual functions off line; they are on only while it does nothing itself. */
	if (n->regs && !pci_has_vfs(ex->dev))
		(void)disable(n);
	exerciser_silence(ex);
}

/* The first namespace with blocks of 512 to 4096 bytes and without metadata. */
static int find_namespace(struct exerciser *ex)
{
	struct nvme *n = ex->priv;
	const uint8_t *id = n->shared->identify;
	uint32_t format, lbads;
	int r = identify(n, NVME_CNS_ACTIVE_LIST, 0);

	if (r < 0)
		return r;
	n->nsid = get_le32(id);
	if (!n->nsid) {
		ex->broken = "it has no namespace";
		return -ENODEV;
	}
	r = identify(n, NVME_CNS_NAMESPACE, n->nsid);
	if (r < 0)
		return r;
	format = FIELD_GET(NVME_FLBAS_LOW, (uint32_t)id[NVME_ID_NS_FLBAS]) |
		 FIELD_GET(NVME_FLBAS_HIGH, (uint32_t)id[NVME_ID_NS_FLBAS]) << 4;
	n->blocks = get_le64(id + NVME_ID_NS_NSZE);
	format = get_le32(id + NVME_ID_NS_LBAF + 4 * format);
	lbads = FIELD_GET(NVME_LBAF_LBADS, format);
	if (lbads < 9 || lbads > 12 || FIELD_GET(NVME_LBAF_MS, format) || !n->blocks) {
		ex->broken = "its namespace has a format that plumb does not use";
		return -ENODEV;
	}
	n->block_size = 1u << lbads;
	return 0;
}

static int open_controller(struct exerciser *ex, struct nvme *n)
{
	const uint64_t cap = mmio_r64(n->regs + NVME_CAP);

	if (cap == ~0ull || !(cap & NVME_CAP_CSS_NVM) || FIELD_GET(NVME_CAP_MPSMIN, cap) != 0 ||
	    FIELD_GET(NVME_CAP_MQES, cap) < ENTRIES - 1) {
		ex->broken = "its CAP register offers no NVM commands, 4 KiB pages or 64 queue entries";
		return -ENODEV;
	}
	n->stride = 4u << FIELD_GET(NVME_CAP_DSTRD, cap);
	if (NVME_DOORBELLS + 2ull * QUEUES * n->stride > ex->dev->bar[0].size) {
		ex->broken = "its doorbells lie outside its BAR";
		return -ENODEV;
	}
	n->ready_ns = MIN(MS(500) * (FIELD_GET(NVME_CAP_TO, cap) + 1), READY_DEADLINE);

	if (exerciser_own(ex, sizeof(struct shared)) < 0)
		return -ENOMEM;
	n->mem = ex->mem;
	n->shared = n->mem.va;
	exerciser_find_irqs(ex);
	if (!ex->irq_is_msix)
		ex->caps &= ~(uint32_t)(EX_IRQ | EX_IRQ_COUNTED);
	n->queues = 2;
	if (ex->irq_is_msix)
		n->queues = 1 + MIN(ex->msix.count, (unsigned)IRQ_MAX);
	n->queues = MAX(n->queues, 2u);
	for (unsigned i = 0; i < QUEUES; i++) {
		n->queue[i].id = (uint16_t)i;
		n->queue[i].ien = ex->irq_is_msix && i != IO_QUEUE;
		n->queue[i].vector = (uint16_t)(i > IO_QUEUE ? i - 1 : 0);
	}
	return start(ex);
}

static int nvme_open(struct exerciser *ex)
{
	struct nvme *n = ex->priv;
	char serial[NVME_ID_CTRL_SERIAL_LEN];
	unsigned mdts;
	int r;

	n->regs = pci_bar_map(ex->dev, 0);
	if (!n->regs)
		return -ENXIO;
	r = open_controller(ex, n);
	if (r < 0)
		return r;
	ex->ready = true;
	ex->irq_needs_dma = true;
	/* The controller may have granted fewer queues than were asked for. */
	ex->irq_count = ex->irq_is_msix ? n->queues - 1 : 0;

	r = identify(n, NVME_CNS_CONTROLLER, 0);
	if (r < 0)
		return r;
	memcpy(serial, n->shared->identify + NVME_ID_CTRL_SERIAL, sizeof(serial));
	mdts = n->shared->identify[NVME_ID_CTRL_MDTS];
	r = find_namespace(ex);
	if (r < 0)
		return r;

	ex->dma_min = ex->dma_align = n->block_size;
	ex->dma_max = mdts && mdts < 8 ? (size_t)PAGE_SIZE << mdts : TRANSFER_MAX;
	ex->dma_addr_align = 4;
	ex->dma_depth = DEPTH;
	ex->medium_size = n->blocks * n->block_size;
	r = medium_probe(ex, ex->medium_size, serial, sizeof(serial));
	ex->medium_size = MIN(ex->medium_size, MEDIUM_MAX);
	return r;
}

/* ---- virtual functions: secondary controllers, with queues and interrupts that the primary one gives (NVMe 2.0, 8.26) ---- */

static int manage(struct nvme *n, uint32_t action, uint32_t kind, uint32_t controller, uint32_t count)
{
	struct sqe cmd = {{NVME_ADMIN_VIRT_MGMT}};

	cmd.dw[NVME_SQE_CDW10] = FIELD_PREP(NVME_VIRT_ACTION, action) | FIELD_PREP(NVME_VIRT_KIND, kind) |
				 FIELD_PREP(NVME_VIRT_CONTROLLER, controller);
	cmd.dw[NVME_SQE_CDW10 + 1] = count;
	return admin(n, &cmd, NULL);
}

/* The primary controller keeps what cannot be given away; that counts from its next function-level reset on. */
static int nvme_vfs_free(struct exerciser *ex)
{
	struct nvme *n = ex->priv;
	int r = exerciser_start(ex);

	if (r == 0)
		r = identify(n, NVME_CNS_PRIMARY, 0);
	for (uint32_t kind = NVME_VIRT_QUEUES; kind <= NVME_VIRT_VECTORS && r == 0; kind++)
		r = manage(n, NVME_VIRT_PRIMARY, kind, get_le16(n->shared->identify), 0);
	nvme_quiesce(ex);
	if (r == 0)
		r = pci_flr(ex->dev);
	return r < 0 ? r : exerciser_start(ex);
}

static int nvme_vf_give(struct exerciser *ex, unsigned vf)
{
	struct nvme *n = ex->priv;
	const uint8_t *list = n->shared->identify;
	unsigned most[2], id = 0;
	int r = identify(n, NVME_CNS_PRIMARY, 0);

	most[NVME_VIRT_QUEUES] = MIN(get_le16(list + NVME_ID_PRIMARY_VQFRSM), (unsigned)QUEUES);
	most[NVME_VIRT_VECTORS] = MIN(get_le16(list + NVME_ID_PRIMARY_VIFRSM), (unsigned)IRQ_MAX);
	if (r == 0)
		r = identify(n, NVME_CNS_SECONDARY, 0);
	for (unsigned i = 1; i <= MIN((unsigned)list[0], 127u); i++)
		if (get_le16(list + 32 * i + NVME_ID_SECONDARY_VFN) == vf + 1)
			id = get_le16(list + 32 * i);
	if (r == 0 && !id)
		return -ENODEV;          /* the list names no controller for it, and 0 might be the primary one */
	for (uint32_t kind = NVME_VIRT_QUEUES; kind <= NVME_VIRT_VECTORS && r == 0; kind++)
		r = manage(n, NVME_VIRT_ASSIGN, kind, id, most[kind]);
	return r < 0 ? r : manage(n, NVME_VIRT_ONLINE, 0, id, 0);
}

/* ---- interrupts ---- */

static int nvme_irq_raise(struct exerciser *ex, unsigned index)
{
	struct nvme *n = ex->priv;
	struct sqe cmd = {{NVME_NVM_FLUSH}};
	struct queue *q;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	q = &n->queue[IRQ_QUEUE(index)];
	if (q->outstanding >= ENTRIES - 1)
		return -EAGAIN;
	if (index == 0) {
		cmd.dw[0] = NVME_ADMIN_GET_FEATURES;
		cmd.dw[NVME_SQE_CDW10] = NVME_FEATURE_QUEUES;
	} else {
		cmd.dw[NVME_SQE_NSID] = n->nsid;
	}
	queue_submit(n, q, &cmd);
	return 0;
}

static int nvme_irq_ack(struct exerciser *ex, unsigned index)
{
	struct nvme *n = ex->priv;
	struct queue *q;

	if (index >= ex->irq_count)
		return -EINVAL;
	if (!ex->ready)
		return 0;
	q = &n->queue[IRQ_QUEUE(index)];
	while (q->outstanding) {
		if (!queue_wait(n, q, COMMAND_DEADLINE)) {
			ex->ready = false;
			return exerciser_start(ex);
		}
		(void)queue_take(q, NULL);
	}
	queue_release(n, q);
	return 0;
}

/*
 * The completion is written before the message is sent: a new one says that it was, or is about to be.
 * A command that is still under way gets a moment.
 */
static int nvme_irq_pending(struct exerciser *ex, unsigned index)
{
	struct nvme *n = ex->priv;
	struct queue *q;

	if (index >= ex->irq_count)
		return -EINVAL;
	q = &n->queue[IRQ_QUEUE(index)];
	return ex->ready && (queue_has(q) || (q->outstanding && queue_wait(n, q, PENDING_DEADLINE)));
}

/* ---- DMA ---- */

static int nvme_dma_start(struct exerciser *ex, const struct dma_req *req)
{
	struct nvme *n = ex->priv;
	struct sqe cmd = {{0}};
	uint64_t prp1, prp2, lba;
	unsigned slot;
	int r;

	if (req->len < ex->dma_min || req->len > ex->dma_max ||
	    (req->len | req->dev_off) & (ex->dma_align - 1) || req->dev_off > ex->medium_size ||
	    req->len > ex->medium_size - req->dev_off)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	slot = (unsigned)__builtin_ctzll(~(uint64_t)n->busy);
	if (slot >= DEPTH)
		return -EAGAIN;
	r = nvme_prp_build(req->addr.v, req->len, shared_pa(n, n->shared->prp[slot]).v,
			   n->shared->prp[slot], &prp1, &prp2);
	if (r < 0)
		return r;
	if (SABOTAGE(nvme_32_bits))
		prp1 = (uint32_t)prp1;
	lba = req->dev_off / n->block_size;
	cmd.dw[0] = (req->dir == DMA_READ ? NVME_NVM_WRITE : NVME_NVM_READ) |
		    FIELD_PREP(NVME_CMD_CID, slot);
	cmd.dw[NVME_SQE_NSID] = n->nsid;
	set_u64(&cmd, NVME_SQE_PRP1, prp1);
	set_u64(&cmd, NVME_SQE_PRP2, prp2);
	set_u64(&cmd, NVME_SQE_CDW10, lba);
	cmd.dw[NVME_SQE_CDW10 + 2] = (uint32_t)(req->len / n->block_size) - 1;
	n->tag[slot] = req->tag;
	n->busy |= BIT(slot);
	n->stuck = deadline_in(STUCK_AFTER);
	queue_submit(n, &n->queue[IO_QUEUE], &cmd);
	return 0;
}

/* Nothing came for a while: after a failure nothing will. */
static int poll_stuck(struct exerciser *ex, struct nvme *n, struct dma_status *status)
{
	unsigned slot;

	if (!n->busy)
		return -EAGAIN;
	if (!n->dead) {
		if (!deadline_passed(n->stuck))
			return -EAGAIN;
		n->stuck = deadline_in(STUCK_AFTER);
		if (!nvme_failed(n) || queue_has(&n->queue[IO_QUEUE]))
			return -EAGAIN;
		n->dead = true;
		ex->ready = false;
	}
	slot = (unsigned)__builtin_ctz(n->busy);
	n->busy &= ~BIT(slot);
	*status = (struct dma_status){.tag = n->tag[slot], .error = -EIO};
	return 0;
}

static int nvme_dma_poll(struct exerciser *ex, struct dma_status *status)
{
	struct nvme *n = ex->priv;
	struct queue *q = &n->queue[IO_QUEUE];
	uint32_t word, slot;

	if (n->dead || !queue_has(q))
		return poll_stuck(ex, n, status);
	word = queue_take(q, NULL);
	slot = FIELD_GET(NVME_STATUS_CID, word);
	if (q->unreleased >= RELEASE_AT)
		queue_release(n, q);
	n->stuck = deadline_in(STUCK_AFTER);
	if (slot >= DEPTH || !(n->busy & BIT(slot)))
		return -EIO;                 /* a completion of nothing that we asked for */
	n->busy &= ~BIT(slot);
	*status = (struct dma_status){
		.tag = n->tag[slot],
		.error = FIELD_GET(NVME_STATUS_CODE, word) ? -EIO : 0,
	};
	return 0;
}

static bool nvme_answers(struct exerciser *ex)
{
	const struct nvme *n = ex->priv;
	const uint32_t version = mmio_r32(n->regs + NVME_VS);

	return version != 0 && version != ~0u;
}

const struct exerciser_ops nvme_ops = {
	.name = "nvme",
	.match = (const struct pci_match[]){
		{.vendor = 0xffff, .device = 0xffff, .class_code = 0x010802, .class_mask = 0xffffff},
		{.vendor = 0},
	},
	.caps = EX_IRQ | EX_MSIX | EX_IRQ_COUNTED | EX_DMA_READ | EX_DMA_WRITE | EX_DMA_TIMED |
		EX_DMA_DEPTH | EX_DMA_COPY,
	.priv_size = sizeof(struct nvme),
	.open = nvme_open,
	.quiesce = nvme_quiesce,
	.recover = start,
	.irq_raise = nvme_irq_raise,
	.irq_ack = nvme_irq_ack,
	.irq_pending = nvme_irq_pending,
	.vfs_free = nvme_vfs_free,
	.vf_give = nvme_vf_give,
	.dma_start = nvme_dma_start,
	.dma_poll = nvme_dma_poll,
	.answers = nvme_answers,
};
