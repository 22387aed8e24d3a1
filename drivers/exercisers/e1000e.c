/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/e1000e_regs.h"
#include "drivers/exercisers/nic_irq.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/time/time.h"

/*
 * Intel 82574, by its line: a legacy cause set by software (ICS). Neither receiver nor transmitter is ever
 * switched on: it does no DMA.
 *
 * Not by messages. QEMU's (10.0, 11.1) throttles to one in 128 us whatever ITR and EITR say, and when that time
 * is over it sends the last one again, its cause acknowledged or cleared by EIAC: each arrives twice
 * (e1000e_intrmgr_on_msix_throttling_timer()). A line that is raised again is the same line.
 */

static void e1000e_quiesce(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	if (n && n->regs) {
		nic_w(n, E1000E_IMC, ~0u);
		nic_w(n, E1000E_ICR, ~0u);
	}
	nic_silence(ex);
}

static int e1000e_recover(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	nic_w(n, E1000E_IMC, ~0u);
	nic_w(n, E1000E_ITR, 0);
	nic_w(n, E1000E_ICR, ~0u);
	nic_w(n, E1000E_IMS, E1000E_CAUSE);
	return nic_r(n, E1000E_IMS) == E1000E_CAUSE ? 0 : -EIO;
}

static int e1000e_open(struct exerciser *ex)
{
	const int r = nic_open(ex);
	struct nic *n = ex->priv;

	if (r < 0)
		return r;
	if (!(ex->caps & EX_INTX))
		return -ENODEV;
	ex->irq_is_msix = false;
	ex->irq_count = 1;
	nic_w(n, E1000E_IMC, ~0u);
	nic_w(n, E1000E_CTRL, nic_r(n, E1000E_CTRL) | E1000E_CTRL_RST);
	delay(MS(1));
	return WAIT_FOR(!(nic_r(n, E1000E_CTRL) & E1000E_CTRL_RST), MS(100)) ? 0 : -ETIMEDOUT;
}

static int e1000e_irq_raise(struct exerciser *ex, unsigned index)
{
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r == 0)
		nic_w(ex->priv, E1000E_ICS, E1000E_CAUSE);
	return r;
}

static int e1000e_irq_ack(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	nic_w(n, E1000E_ICR, E1000E_CAUSE);
	(void)nic_r(n, E1000E_STATUS); /* it has arrived when this comes back */
	return 0;
}

static int e1000e_irq_pending(struct exerciser *ex, unsigned index)
{
	if (index >= ex->irq_count)
		return -EINVAL;
	return (pci_r16(ex->dev->rid, PCI_STATUS) & PCI_STATUS_INTX) != 0;
}

const struct exerciser_ops e1000e_ops = {
	.name = "e1000e",
	.match = (const struct pci_match[]){{.vendor = 0x8086, .device = 0x10d3}, {.vendor = 0}},
	.caps = EX_IRQ | EX_INTX | EX_IRQ_COUNTED,
	.open = e1000e_open,
	.close = nic_close,
	.quiesce = e1000e_quiesce,
	.recover = e1000e_recover,
	.irq_raise = e1000e_irq_raise,
	.irq_ack = e1000e_irq_ack,
	.irq_pending = e1000e_irq_pending,
};
