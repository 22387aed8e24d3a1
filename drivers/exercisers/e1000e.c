/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/e1000e_regs.h"
#include "drivers/exercisers/nic_irq.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/time/time.h"

/*
 * Intel 82574: a cause set by software (ICS), by MSI-X each of its five, by MSI and on INTx a legacy one. Neither receiver
 * nor transmitter is ever switched on: it does no DMA.
 *
 * QEMU's (10.0, 11.1) throttles to one message in 128 us even where ITR and EITR are 0, and sends the last one again when
 * that time is over, acknowledged or not (e1000e_intrmgr_on_msix_throttling_timer()). A reset stops its timers and takes
 * back nothing: there each raise ends with one. By MSI-X the entry is masked meanwhile, so that however often it was
 * sent, one is pending. MSI has no mask: there the time is the longest, 16.8 ms, for two writes beside each other (none
 * twice in 240,000 on a busy host; a KVM that emulates every instruction needs longer: none by MSI under KVM). The card
 * itself needs nothing of this.
 */

static bool is_qemu(const struct exerciser *ex)
{
	return ex->dev->subvendor == 0x8086 && ex->dev->subdevice == 0;
}

static void reset(const struct nic *n)
{
	nic_w(n, E1000E_IMC, ~0u);
	nic_w(n, E1000E_ICR, ~0u);
	nic_w(n, E1000E_CTRL, nic_r(n, E1000E_CTRL) | E1000E_CTRL_RST);
}

static void e1000e_quiesce(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	if (n->regs) {
		reset(n);
		n->seen = 0;
	}
	exerciser_silence(ex);
}

static int e1000e_recover(struct exerciser *ex)
{
	struct nic *n = ex->priv;

	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	n->seen = 0;
	nic_w(n, E1000E_IMC, ~0u);
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
	reset(n);
	delay(MS(1));
	if (cpu_features.accel == ACCEL_KVM && is_qemu(ex)) {
		ex->msi.dev = NULL;
		ex->caps &= ~(uint32_t)EX_MSI;
	}
	nic_counts(ex, E1000E_VECTORS);
	return WAIT_FOR(!(nic_r(n, E1000E_CTRL) & E1000E_CTRL_RST), MS(100)) ? 0 : -ETIMEDOUT;
}

/* The cause first, and seen; unmasked it is signalled, and the timer runs. */
static void raise_once(struct exerciser *ex, unsigned index, uint32_t cause)
{
	struct nic *n = ex->priv;
	const uint32_t ctrl = nic_r(n, E1000E_CTRL);
	struct msi_msg msg;
	bool masked = true;

	if (n->msix) {
		msix_read(&ex->msix, index, &msg, &masked);
		msix_mask(&ex->msix, index, true);
	}
	nic_w(n, E1000E_IMC, ~0u);
	nic_w(n, E1000E_ICS, cause);
	n->seen |= nic_r(n, E1000E_ICS) & cause ? BIT(index) : 0;
	irq_disable();
	nic_w(n, E1000E_IMS, cause);
	nic_w(n, E1000E_CTRL, ctrl | E1000E_CTRL_RST);
	irq_enable();
	if (!masked)
		msix_mask(&ex->msix, index, false);
}

static int e1000e_irq_raise(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;
	uint32_t cause;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	n->msix = nic_way(ex) == NIC_MSIX;
	cause = n->msix ? E1000E_QUEUE_CAUSE(index) : E1000E_CAUSE;
	nic_w(n, E1000E_IVAR, E1000E_IVAR_EACH);
	nic_w(n, n->msix ? E1000E_EITR(index) : E1000E_ITR, is_qemu(ex) ? E1000E_ITR_MAX : 0);
	if (is_qemu(ex) && nic_way(ex) != NIC_INTX) {
		raise_once(ex, index, cause);
	} else {
		nic_w(n, E1000E_IMS, cause);
		nic_w(n, E1000E_ICS, cause);
	}
	return 0;
}

static int e1000e_irq_ack(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	n->seen &= ~BIT(index);
	if (is_qemu(ex))
		reset(n);
	else
		nic_w(n, E1000E_ICR, n->msix ? E1000E_QUEUE_CAUSE(index) : E1000E_CAUSE);
	(void)nic_r(n, E1000E_STATUS); /* it has arrived when this comes back */
	return 0;
}

/* Reading a cause may clear it: what has been seen is kept. The line is told of by the status register. */
static int e1000e_irq_pending(struct exerciser *ex, unsigned index)
{
	struct nic *n = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	if (nic_way(ex) == NIC_INTX)
		return (pci_r16(ex->dev->rid, PCI_STATUS) & PCI_STATUS_INTX) != 0;
	n->seen |= nic_r(n, E1000E_ICR) & (n->msix ? E1000E_QUEUE_CAUSE(index) : E1000E_CAUSE) ? BIT(index) : 0;
	return n->seen >> index & 1;
}

const struct exerciser_ops e1000e_ops = {
	.name = "e1000e",
	.match = (const struct pci_match[]){{.vendor = 0x8086, .device = 0x10d3}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSI | EX_MSIX | EX_INTX | EX_IRQ_COUNTED,
	.priv_size = sizeof(struct nic),
	.open = e1000e_open,
	.quiesce = e1000e_quiesce,
	.recover = e1000e_recover,
	.irq_raise = e1000e_irq_raise,
	.irq_ack = e1000e_irq_ack,
	.irq_pending = e1000e_irq_pending,
};
