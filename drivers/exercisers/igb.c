/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/igb.h"
#include "drivers/exercisers/igb_regs.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

#define CAPS_DMA (EX_DMA_READ | EX_DMA_WRITE | EX_DMA_ANY_LEN | EX_DMA_TIMED | EX_DMA_DEPTH | EX_DMA_COPY)
#define LINK_UP MS(1500)                    /* QEMU's takes 500 ms */

/*
 * Intel 82576, the physical function and a virtual one. Each MSI-X entry by a software-raised extended cause (EICS);
 * the physical function's MSI and INTx by a legacy one (ICS). DMA by loop-back (igb_dma.c).
 *
 * The physical function is always in the mode for virtual machines (MRQC), itself one of them, as the last pool. So it
 * is all the same to it whether virtual functions are on. Whether their causes are messages at all, and their queues
 * on, is its to say: its driver must run.
 */

static bool is_virtual(const struct exerciser *ex)
{
	return ex->ops == &igbvf_ops;
}

/* Its own; those from 10 on are virtual functions'. */
static uint32_t causes(const struct exerciser *ex)
{
	return is_virtual(ex) ? GENMASK(IGBVF_VECTORS - 1, 0) : ~GENMASK(24, IGB_VECTORS);
}

/* Of a virtual function: the physical one, where we have it. */
static struct exerciser *physical(const struct exerciser *ex)
{
	return ex->dev->physfn ? ex->dev->physfn->driver : NULL;
}

/*
 * Which bit of the physical function's EICR an entry is, where that can be read; *n: whose register. QEMU's (10.0, 11.1)
 * virtual functions have what was last acknowledged there in their own (igb_set_vteicr()).
 */
static uint32_t cause(const struct exerciser *ex, unsigned index, struct nic **n)
{
	*n = ex->priv;
	if (!physical(ex))
		return BIT(index);
	*n = physical(ex)->priv;
	return BIT(22 - IGBVF_VECTORS * ex->dev->vf + index);
}

/*
 * Loop-back is on this side of the link, but nothing is received before that is up. Only who does DMA waits for it: the
 * device changes its registers meanwhile, and a reset takes it down.
 */
bool igb_link_up(struct exerciser *ex)
{
	const struct nic *n = physical(ex) ? physical(ex)->priv : ex->priv;

	if (nic_r(n, IGB_STATUS) & IGB_STATUS_LU || (is_virtual(ex) && !physical(ex)))
		return nic_r(n, IGB_STATUS) & IGB_STATUS_LU;
	nic_w(n, IGB_CTRL, nic_r(n, IGB_CTRL) | IGB_CTRL_SLU);
	nic_w(n, IGB_MDIC, IGB_MDIC_WRITE_BMCR | IGB_BMCR_NEGOTIATE);
	return WAIT_FOR(nic_r(n, IGB_STATUS) & IGB_STATUS_LU, LINK_UP);
}

/* ---- start and stop ---- */

void igb_serve(const struct nic *n, unsigned pool)
{
	nic_w(n, IGB_RAL(8 + pool), IGB_ADDRESS_LOW);
	nic_w(n, IGB_RAH(8 + pool), igb_address_high(pool) | IGB_RAH_POOL(pool) | IGB_RAH_AV);
	nic_w(n, IGB_VMOLR(pool), IGB_VMOLR_LPE | IGB_VMOLR_AUPE | IGB_VMOLR_STRCRC | IGB_VMOLR_RLPML);
	nic_w(n, IGB_VFRE, 0xff);
	nic_w(n, IGB_VFTE, 0xff);
}

/* MAC loop-back, and no queue for what is nobody's: nothing from outside comes in. */
static void loop_back(const struct nic *n)
{
	nic_w(n, IGB_MRQC, IGB_MRQC_VMDQ);
	nic_w(n, IGB_VT_CTL, IGB_VT_CTL_NO_DEFAULT);
	nic_w(n, IGB_RLPML, IGB_VMOLR_RLPML);
	igb_serve(n, IGB_POOL);
	nic_w(n, IGB_RCTL, IGB_RCTL_EN | IGB_RCTL_LPE | IGB_RCTL_LBM | IGB_RCTL_SECRC);
	nic_w(n, IGB_TCTL, IGB_TCTL_EN);
}

static void clear(const struct exerciser *ex)
{
	struct nic *n = ex->priv;

	if (!is_virtual(ex)) {
		nic_w(n, IGB_IMC, ~0u);
		nic_w(n, IGB_ICR, ~0u);
	}
	nic_w(n, IGB_EIMC, causes(ex));
	nic_w(n, IGB_EICR, causes(ex));
	n->seen &= ~causes(ex);
}

static void igb_quiesce(struct exerciser *ex)
{
	const struct nic *n = ex->priv;

	if (n->regs) {
		clear(ex);
		igb_queue_stop(ex);
	}
	exerciser_silence(ex);
}

/* Somebody else's virtual function: its address is ours, or the one that it has been given. */
static int igbvf_greet(struct exerciser *ex)
{
	uint32_t address[] = {IGB_ADDRESS_LOW, igb_address_high((unsigned)tsc_read() & 0x7f)};
	const int r = igb_greet(ex->priv, address);

	if (r == 0)
		igb_queue_address(ex, address, IGB_PIECE_SMALL);
	return r;
}

static int igb_recover(struct exerciser *ex)
{
	const struct nic *n = ex->priv;
	const unsigned mask = is_virtual(ex) ? IGB_EIMS : IGB_IMS;
	const uint32_t all = is_virtual(ex) ? causes(ex) : IGB_CAUSE;

	if (physical(ex)) {
		const int r = exerciser_start(physical(ex));

		if (r < 0)
			return r;
		/* A reset of this function has its queues off there. */
		igb_serve(physical(ex)->priv, ex->dev->vf);
	} else if (is_virtual(ex) && ((struct igb *)ex->priv)->queue.lost && igbvf_greet(ex) < 0) {
		return -EIO;
	}
	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	clear(ex);
	nic_w(n, IGB_EIAC, 0);
	if (!is_virtual(ex)) {
		nic_w(n, IGB_GPIE, 0);
		for (unsigned i = 0; i < IGB_VECTORS; i++)
			nic_w(n, IGB_EITR(i), 0);
		loop_back(n);
	}
	nic_w(n, mask, all);
	if ((nic_r(n, mask) & all) != all)
		return -EIO;
	return ex->caps & EX_DMA_READ ? igb_queue_start(ex) : 0;
}

static int open_queue(struct exerciser *ex, unsigned rx, unsigned tx, unsigned pool)
{
	const uint32_t address[] = {IGB_ADDRESS_LOW, igb_address_high(pool)};
	const int r = igb_queue_open(ex, rx, tx);

	if (r == 0)
		igb_queue_address(ex, address, PAGE_SIZE);
	return r;
}

/* Does what it sends come back? Tried: the physical function's driver may let it through or not. */
static bool comes_back(struct exerciser *ex)
{
	const struct dma_req out = {.dir = DMA_READ, .addr = {ex->mem.pa.v}, .len = 16};

	return exerciser_dma(ex, &out, MS(500)) == 0;
}

static int igb_open(struct exerciser *ex)
{
	const int r = nic_open(ex);
	const struct nic *n = ex->priv;

	if (r < 0)
		return r;
	nic_w(n, IGB_IMC, ~0u);
	nic_w(n, IGB_CTRL, nic_r(n, IGB_CTRL) | IGB_CTRL_RST);
	delay(MS(3)); /* 4.2.1.6: no access for 3 ms */
	if (!WAIT_FOR(!(nic_r(n, IGB_CTRL) & IGB_CTRL_RST), MS(100)))
		return -ETIMEDOUT;
	nic_counts(ex, IGB_VECTORS);
	return open_queue(ex, IGB_RX(IGB_POOL), IGB_TX(IGB_POOL), IGB_POOL);
}

static int igbvf_open(struct exerciser *ex)
{
	const int r = nic_open(ex);

	if (r < 0)
		return r;
	if (!ex->msix.dev)
		return -ENXIO;
	nic_counts(ex, IGBVF_VECTORS);
	if (physical(ex))
		return open_queue(ex, IGBVF_RX, IGBVF_TX, ex->dev->vf);
	/* By vfio it comes to us as an eventfd. */
	ex->irq_by_host = cpu_features.accel != ACCEL_BARE;
	if (igb_queue_open(ex, IGBVF_RX, IGBVF_TX) < 0)
		return -ENOMEM;
	if (igbvf_greet(ex) < 0 || !comes_back(ex)) {
		ex->caps &= ~(uint32_t)CAPS_DMA;
		ex->note = "no DMA: its physical function, which is not ours, does not let its frames come back to it";
	}
	return 0;
}

/* ---- interrupts ---- */

static int igb_irq_raise(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	/* What may be signalled by is looked at each time: MSI-X switched off, the causes are the legacy ones. */
	n->msix = is_virtual(ex) || nic_way(ex) == NIC_MSIX;
	if (!is_virtual(ex) || physical(ex))
		nic_w(is_virtual(ex) ? physical(ex)->priv : n, IGB_GPIE, n->msix ? IGB_GPIE_MULTIPLE_MSIX : 0);
	if (n->msix) {
		nic_w(n, IGB_EIMS, (uint32_t)GENMASK(ex->irq_count - 1, 0));
		nic_w(n, IGB_EICS, BIT(index));
	} else {
		nic_w(n, IGB_ICS, IGB_CAUSE);
	}
	return 0;
}

static int igb_irq_ack(struct exerciser *ex, unsigned index)
{
	const struct nic *n = ex->priv;
	struct nic *teller;
	const uint32_t bit = cause(ex, index, &teller);

	if (index >= ex->irq_count)
		return -EINVAL;
	teller->seen &= ~bit;
	if (n->msix)
		nic_w(n, IGB_EICR, BIT(index));
	else
		nic_w(n, IGB_ICR, IGB_CAUSE);
	(void)nic_r(n, IGB_STATUS); /* it has arrived when this comes back */
	return 0;
}

/* Reading a cause may clear it: what has been seen is kept. The line is told of by the status register. */
static int igb_irq_pending(struct exerciser *ex, unsigned index)
{
	const enum nic_way way = is_virtual(ex) ? NIC_MSIX : nic_way(ex);
	struct nic *n;
	const uint32_t bit = cause(ex, index, &n);

	if (is_virtual(ex) && !physical(ex))
		return -EOPNOTSUPP;
	if (index >= ex->irq_count)
		return -EINVAL;
	if (way == NIC_INTX)
		return (pci_r16(ex->dev->rid, PCI_STATUS) & PCI_STATUS_INTX) != 0;
	if (way == NIC_MSIX)
		n->seen |= nic_r(n, IGB_EICR);
	else
		n->seen |= nic_r(n, IGB_ICR) & IGB_CAUSE ? 1 : 0;
	return (n->seen & bit) != 0;
}

#define OPS(which)                                                                                 \
	.priv_size = sizeof(struct igb), .open = which##_open, .quiesce = igb_quiesce,             \
	.recover = igb_recover,                                                                    \
	.irq_raise = igb_irq_raise, .irq_ack = igb_irq_ack, .irq_pending = igb_irq_pending,        \
	.dma_start = igb_dma_start, .dma_poll = igb_dma_poll

const struct exerciser_ops igb_ops = {
	.name = "igb",
	.match = (const struct pci_match[]){{.vendor = 0x8086, .device = 0x10c9}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSI | EX_MSIX | EX_INTX | EX_IRQ_COUNTED | CAPS_DMA,
	OPS(igb),
};

const struct exerciser_ops igbvf_ops = {
	.name = "igbvf",
	.match = (const struct pci_match[]){{.vendor = 0x8086, .device = 0x10ca}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSIX | EX_IRQ_COUNTED | CAPS_DMA,
	OPS(igbvf),
};
