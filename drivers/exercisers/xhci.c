/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/parts.h"
#include "drivers/exercisers/xhci_regs.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * An xHCI controller: one interrupt an interrupter, by MSI-X, by MSI (several messages) or on INTx.
 *
 * No event is needed. An interrupter whose dequeue pointer is said to be elsewhere than its enqueue pointer has,
 * to the controller, events to be handled: clearing Event Handler Busy then interrupts anew (xHCI 1.2, 4.17.2).
 * It is halted all the while; its one DMA is the look at the segment table when it is made ready.
 */
#define INTERRUPTERS 16
#define RESET_DEADLINE SEC(1)

struct segment { uint64_t base; uint32_t size, reserved; };

struct shared {
	uint8_t ring[INTERRUPTERS][XHCI_RING_TRBS * XHCI_TRB_SIZE];
	volatile struct segment segment[INTERRUPTERS][4]; /* 64 bytes apart, as the table must be aligned */
};

struct xhci {
	volatile uint8_t *cap, *op, *run;
	struct dma_buf mem;
	struct shared *shared;
};

static uint64_t ring_pa(const struct xhci *x, unsigned n)
{
	return dma_buf_pa(&x->mem, x->shared->ring[n]);
}

static uint64_t table_pa(const struct xhci *x, unsigned n)
{
	return dma_buf_pa(&x->mem, x->shared->segment[n]);
}

static volatile uint8_t *ir(const struct xhci *x, unsigned n) { return x->run + XHCI_IR(n); }

static void write_address(volatile uint8_t *reg, uint64_t v)
{
	mmio_w32(reg, (uint32_t)v);
	mmio_w32(reg + 4, (uint32_t)(v >> 32));
}

/* The low half has EHB and acts: it goes last. */
static void write_dequeue(const struct xhci *x, unsigned n, uint64_t v)
{
	mmio_w32(ir(x, n) + XHCI_ERDP + 4, (uint32_t)(v >> 32));
	mmio_w32(ir(x, n) + XHCI_ERDP, (uint32_t)v);
}

static int reset(const struct xhci *x)
{
	mmio_w32(x->op + XHCI_USBCMD, 0);
	if (!WAIT_FOR(mmio_r32(x->op + XHCI_USBSTS) & XHCI_STS_HALTED, RESET_DEADLINE))
		return -ETIMEDOUT;
	mmio_w32(x->op + XHCI_USBCMD, XHCI_CMD_RESET);
	return WAIT_FOR(!(mmio_r32(x->op + XHCI_USBCMD) & XHCI_CMD_RESET) &&
				!(mmio_r32(x->op + XHCI_USBSTS) & XHCI_STS_NOT_READY),
			RESET_DEADLINE) ? 0 : -ETIMEDOUT;
}

static void xhci_quiesce(struct exerciser *ex)
{
	struct xhci *x = ex->priv;

	if (x->op)
		(void)reset(x);
	exerciser_silence(ex);
}

static int xhci_recover(struct exerciser *ex)
{
	struct xhci *x = ex->priv;
	int r;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	r = reset(x);
	if (r < 0)
		return r;
	for (unsigned n = 0; n < ex->irq_count; n++) {
		x->shared->segment[n][0].base = ring_pa(x, n);
		x->shared->segment[n][0].size = XHCI_RING_TRBS;
		mmio_w32(ir(x, n) + XHCI_IMOD, 0);
		mmio_w32(ir(x, n) + XHCI_ERSTSZ, 1);
		write_dequeue(x, n, ring_pa(x, n));
		write_address(ir(x, n) + XHCI_ERSTBA, table_pa(x, n));
		mmio_w32(ir(x, n) + XHCI_IMAN, XHCI_IMAN_IP | XHCI_IMAN_IE);
	}
	mmio_w32(x->op + XHCI_USBCMD, XHCI_CMD_INTE);
	return mmio_r32(x->op + XHCI_USBCMD) & XHCI_CMD_INTE ? 0 : -EIO;
}

static int xhci_open(struct exerciser *ex)
{
	struct xhci *x = ex->priv;
	unsigned interrupters;

	x->cap = pci_bar_map(ex->dev, 0);
	if (!x->cap)
		return -ENXIO;
	x->op = x->cap + mmio_r8(x->cap + XHCI_CAPLENGTH);
	x->run = x->cap + (mmio_r32(x->cap + XHCI_RTSOFF) & ~31u);
	interrupters = MIN(FIELD_GET(XHCI_MAX_INTRS, mmio_r32(x->cap + XHCI_HCSPARAMS1)), INTERRUPTERS);
	if (!interrupters ||
	    (uint64_t)(x->run - x->cap) + XHCI_IR(interrupters) > ex->dev->bar[0].size)
		return -ENODEV;
	if (exerciser_own(ex, sizeof(struct shared)) < 0)
		return -ENOMEM;
	x->mem = ex->mem;
	x->shared = x->mem.va;
	exerciser_find_irqs(ex);
	ex->irq_counts[0] = MIN(interrupters, ex->msi.count_max);
	ex->irq_counts[1] = MIN(interrupters, ex->msix.count);
	ex->irq_count = MAX(ex->irq_counts[ex->irq_is_msix], 1u);
	return reset(x);
}

static int xhci_irq_raise(struct exerciser *ex, unsigned index)
{
	struct xhci *x = ex->priv;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	/* QEMU (10.0, 11.1) drops the messages of one that was enabled before MSI-X was. */
	mmio_w32(ir(x, index) + XHCI_IMAN, XHCI_IMAN_IE);
	write_dequeue(x, index, (ring_pa(x, index) + XHCI_TRB_SIZE) | XHCI_ERDP_EHB);
	return 0;
}

static int xhci_irq_ack(struct exerciser *ex, unsigned index)
{
	struct xhci *x = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	mmio_w32(x->op + XHCI_USBSTS, XHCI_STS_EINT);
	mmio_w32(ir(x, index) + XHCI_IMAN, XHCI_IMAN_IP | XHCI_IMAN_IE);
	write_dequeue(x, index, ring_pa(x, index) | XHCI_ERDP_EHB);
	(void)mmio_r32(x->op + XHCI_USBSTS);
	return 0;
}

/* Busy from the moment it has interrupted. IP alone would not do: a message clears it (4.17.5). */
static int xhci_irq_pending(struct exerciser *ex, unsigned index)
{
	if (index >= ex->irq_count)
		return -EINVAL;
	return (mmio_r32(ir(ex->priv, index) + XHCI_ERDP) & XHCI_ERDP_EHB) != 0;
}

const struct exerciser_ops xhci_ops = {
	.name = "xhci",
	.match = (const struct pci_match[]){
		{.vendor = 0xffff, .device = 0xffff, .class_code = 0x0c0330, .class_mask = 0xffffff}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSI | EX_MSIX | EX_INTX | EX_IRQ_COUNTED,
	.priv_size = sizeof(struct xhci),
	.open = xhci_open,
	.quiesce = xhci_quiesce,
	.recover = xhci_recover,
	.irq_raise = xhci_irq_raise,
	.irq_ack = xhci_irq_ack,
	.irq_pending = xhci_irq_pending,
};
