/* SPDX-License-Identifier: MIT */

/* MSI capability: PCI 3.0, 6.8.1. The messages themselves come from kernel/irq/msg.c. */

#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"

static uint16_t control(const struct msi *m)
{
	return pci_r16(m->dev->rid, m->cap + MSI_CONTROL);
}

static void set_control(const struct msi *m, uint16_t v)
{
	pci_w16(m->dev->rid, m->cap + MSI_CONTROL, v);
}

int msi_open(struct pci_dev *dev, struct msi *m)
{
	uint16_t ctrl;

	*m = (struct msi){.dev = dev, .cap = dev->cap_msi};
	if (!m->cap)
		return -ENOENT;
	ctrl = control(m);
	/* 110b and 111b are reserved: such a function gets no more than 32. */
	m->count_max = 1u << MIN(FIELD_GET(MSI_MMC, ctrl), 5);
	m->is64 = ctrl & MSI_64BIT;
	m->maskable = ctrl & MSI_MASKABLE;
	return 0;
}

int msi_program(struct msi *m, const struct msi_msg *msg, unsigned count)
{
	const pci_rid_t rid = m->dev->rid;
	uint16_t ctrl;

	if (!is_pow2(count) || count > m->count_max || (msg->data & (count - 1)))
		return -EINVAL;
	/* What the registers cannot hold would be a message to somewhere else. */
	if ((!m->is64 && msg->addr >> 32) || msg->data >> 16 || (msg->addr & 3))
		return -EINVAL;
	ctrl = (uint16_t)(control(m) & ~(MSI_ENABLE | MSI_MME));
	set_control(m, ctrl);
	pci_w32(rid, m->cap + MSI_ADDR, (uint32_t)msg->addr);
	if (m->is64)
		pci_w32(rid, m->cap + MSI_ADDR_HI, (uint32_t)(msg->addr >> 32));
	pci_w16(rid, m->cap + MSI_DATA(m->is64), (uint16_t)msg->data);
	set_control(m, (uint16_t)(ctrl | FIELD_PREP(MSI_MME, SABOTAGE(msi_one_message) ? 0 : __builtin_ctz(count))));
	return 0;
}

void msi_enable(struct msi *m, bool on)
{
	const uint16_t ctrl = control(m);

	set_control(m, (uint16_t)(on ? ctrl | MSI_ENABLE : ctrl & ~MSI_ENABLE));
}

void msi_mask(struct msi *m, unsigned index, bool masked)
{
	const unsigned at = m->cap + MSI_MASK(m->is64);
	uint32_t mask;

	if (!m->maskable || index >= m->count_max || (SABOTAGE(msi_unmask_lost) && !masked))
		return;
	mask = pci_r32(m->dev->rid, at);
	pci_w32(m->dev->rid, at, masked ? mask | BIT(index) : mask & ~BIT(index));
}

uint32_t msi_pending(struct msi *m)
{
	return m->maskable ? pci_r32(m->dev->rid, m->cap + MSI_PENDING(m->is64)) : 0;
}

void msi_read(struct msi *m, struct msi_msg *msg, bool *enabled)
{
	const pci_rid_t rid = m->dev->rid;

	msg->addr = pci_r32(rid, m->cap + MSI_ADDR);
	if (m->is64)
		msg->addr |= (uint64_t)pci_r32(rid, m->cap + MSI_ADDR_HI) << 32;
	msg->data = pci_r16(rid, m->cap + MSI_DATA(m->is64));
	*enabled = control(m) & MSI_ENABLE;
}
