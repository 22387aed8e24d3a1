/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/edu_regs.h"
#include "drivers/exercisers/parts.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * QEMU's edu: one MSI (or INTx) sent inside the register write, and DMA between memory and a buffer of
 * 4 KiB. Each DMA takes a fixed 100 ms of a timer, and "completes" even when the bus refused it: only
 * the data tells.
 */

#define EDU_IRQ_BIT  BIT(1)              /* 0 is the factorial's, 8 the DMA's */
#define EDU_DMA_MS   100
/* QEMU's default for dma_mask: what we count on unless the probe shows more. */
#define EDU_MASK_MIN (BIT64(28) - 1)
/* An address that lies beyond everything, whose low bits are the probe buffer's if edu wraps it. */
#define EDU_PROBE_BIT BIT64(51)

struct edu {
	volatile uint8_t *regs;
	bool busy, probing;
	uint32_t tag;
	struct dma_buf probe;
};

static uint32_t edu_r32(const struct edu *edu, unsigned reg) { return mmio_r32(edu->regs + reg); }
static void edu_w32(struct edu *edu, unsigned reg, uint32_t v) { mmio_w32(edu->regs + reg, v); }

static bool edu_dma_running(const struct edu *edu)
{
	const uint32_t cmd = edu_r32(edu, EDU_DMA_CMD);

	return cmd != ~0u && (cmd & EDU_DMA_RUN);
}

static void edu_dma_run(struct edu *edu, enum dma_dir dir, uint64_t addr, uint64_t off, size_t len)
{
	mmio_w64(edu->regs + EDU_DMA_SRC, dir == DMA_READ ? addr : EDU_BUF + off);
	mmio_w64(edu->regs + EDU_DMA_DST, dir == DMA_READ ? EDU_BUF + off : addr);
	mmio_w64(edu->regs + EDU_DMA_COUNT, len);
	edu_w32(edu, EDU_DMA_CMD, EDU_DMA_RUN | (dir == DMA_WRITE ? EDU_DMA_TO_RAM : 0));
}

/*
 * Does it cut addresses to its dma_mask? One write to a far address tells: cut, it lands in the probe
 * buffer. Started here, looked at in quiesce(), so that nobody waits for the timer more than once.
 */
static void edu_probe_start(struct edu *edu)
{
	if (!dma_alloc(&edu->probe, PAGE_SIZE, PAGE_SIZE, PHYS_BELOW_4G))
		return;
	if (edu->probe.pa.v + PAGE_SIZE - 1 > EDU_MASK_MIN) {
		dma_free(&edu->probe);
		return;
	}
	/* Its buffer starts as zeros and may hold anything by now: any change counts. */
	memset(edu->probe.va, 0xa5, PAGE_SIZE / 2);
	memset((uint8_t *)edu->probe.va + PAGE_SIZE / 2, 0x5a, PAGE_SIZE / 2);
	edu_dma_run(edu, DMA_WRITE, edu->probe.pa.v | EDU_PROBE_BIT, 0, EDU_BUF_SIZE);
	edu->probing = true;
}

static void edu_probe_end(struct exerciser *ex)
{
	struct edu *edu = ex->priv;
	const volatile uint8_t *p = edu->probe.va;
	bool wrapped = false;

	edu->probing = false;
	if (WAIT_FOR(!edu_dma_running(edu), SEC(1))) {
		for (size_t i = 0; i < PAGE_SIZE; i++)
			wrapped |= p[i] != (i < PAGE_SIZE / 2 ? 0xa5 : 0x5a);
		if (!wrapped)
			ex->dma_mask = ~0ull;
		else
			ex->note = "edu drives 28 address bits: dma_mask= not given";
	} else {
		ex->broken = "its DMA never ends";
	}
	dma_free(&edu->probe);
}

static void edu_quiesce(struct exerciser *ex)
{
	struct edu *edu = ex->priv;

	if (edu->regs) {
		if (edu->probing)
			edu_probe_end(ex);
		/* A DMA cannot be called off, but without Bus Master it goes nowhere. */
		pci_set_command(ex->dev, PCI_COMMAND_INTX_OFF, PCI_COMMAND_MASTER);
		if (edu->busy)
			(void)WAIT_FOR(!edu_dma_running(edu), MS(10 * EDU_DMA_MS));
		edu->busy = false;
		edu_w32(edu, EDU_STATUS, 0);
		edu_w32(edu, EDU_IRQ_ACK, ~0u);
	}
	exerciser_silence(ex);
}

static int edu_recover(struct exerciser *ex)
{
	struct edu *edu = ex->priv;

	if (edu->busy && !WAIT_FOR(!edu_dma_running(edu), MS(10 * EDU_DMA_MS)))
		return -ETIMEDOUT;
	edu->busy = false;
	edu_w32(edu, EDU_STATUS, 0);
	edu_w32(edu, EDU_IRQ_ACK, ~0u);
	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	return 0;
}

static int edu_open(struct exerciser *ex)
{
	struct edu *edu = ex->priv;

	edu->regs = pci_bar_map(ex->dev, 0);
	if (!edu->regs)
		return -ENXIO;
	edu_w32(edu, EDU_LIVENESS, 0x12345678);
	if ((edu_r32(edu, EDU_ID) & EDU_ID_MASK) != EDU_ID_VALUE ||
	    edu_r32(edu, EDU_LIVENESS) != ~0x12345678u)
		return -ENODEV;

	exerciser_find_irqs(ex);
	ex->irq_count = 1;
	ex->dma_min = 1;
	ex->dma_max = EDU_BUF_SIZE;
	ex->dma_align = 1;
	ex->dma_ms = EDU_DMA_MS;
	ex->dma_depth = 1;
	ex->medium_size = EDU_BUF_SIZE;
	ex->dma_mask = EDU_MASK_MIN;
	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF, 0);
	edu_probe_start(edu);
	return 0;
}

static int edu_irq_raise(struct exerciser *ex, unsigned index)
{
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	edu_w32(ex->priv, EDU_IRQ_RAISE, EDU_IRQ_BIT);
	return 0;
}

static int edu_irq_ack(struct exerciser *ex, unsigned index)
{
	if (index >= ex->irq_count)
		return -EINVAL;
	edu_w32(ex->priv, EDU_IRQ_ACK, EDU_IRQ_BIT);
	return 0;
}

static int edu_irq_pending(struct exerciser *ex, unsigned index)
{
	if (index >= ex->irq_count)
		return -EINVAL;
	return (edu_r32(ex->priv, EDU_IRQ_STATUS) & EDU_IRQ_BIT) != 0;
}

static int edu_dma_start(struct exerciser *ex, const struct dma_req *req)
{
	struct edu *edu = ex->priv;
	int r;

	/* The device checks nothing: past its buffer it reads and writes the VMM's memory. */
	if (!req->len || req->len > EDU_BUF_SIZE || req->dev_off > EDU_BUF_SIZE - req->len)
		return -EINVAL;
	if (req->addr.v & ~ex->dma_mask || (req->addr.v + req->len - 1) & ~ex->dma_mask)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	if (edu->busy || edu_dma_running(edu))
		return -EAGAIN;
	edu->tag = req->tag;
	edu->busy = true;
	edu_dma_run(edu, req->dir, req->addr.v, req->dev_off, req->len);
	return 0;
}

static int edu_dma_poll(struct exerciser *ex, struct dma_status *status)
{
	struct edu *edu = ex->priv;

	if (!edu->busy || edu_dma_running(edu))
		return -EAGAIN;
	edu->busy = false;
	*status = (struct dma_status){.tag = edu->tag};
	return 0;
}

static bool edu_answers(struct exerciser *ex)
{
	return (edu_r32(ex->priv, EDU_ID) & EDU_ID_MASK) == EDU_ID_VALUE;
}

const struct exerciser_ops edu_ops = {
	.name = "edu",
	.match = (const struct pci_match[]){{.vendor = 0x1234, .device = 0x11e8}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSI | EX_INTX | EX_IRQ_COUNTED | EX_DMA_READ | EX_DMA_WRITE |
		EX_DMA_ANY_LEN | EX_DMA_COPY,
	.priv_size = sizeof(struct edu),
	.open = edu_open,
	.quiesce = edu_quiesce,
	.recover = edu_recover,
	.irq_raise = edu_irq_raise,
	.irq_ack = edu_irq_ack,
	.irq_pending = edu_irq_pending,
	.dma_start = edu_dma_start,
	.dma_poll = edu_dma_poll,
	.answers = edu_answers,
};
