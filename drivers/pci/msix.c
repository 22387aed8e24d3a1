/* SPDX-License-Identifier: MIT */

/* MSI-X capability, table and pending bits: PCI 3.0, 6.8.2. */

#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/mm/mm.h"

/* A BAR up to this size is mapped whole, for all who want it; of a larger one only what is needed. */
#define MAP_WHOLE 0x1000000u

static uint16_t control(const struct msix *m)
{
	return pci_r16(m->dev->rid, m->cap + MSIX_CONTROL);
}

static void set_control(const struct msix *m, uint16_t v)
{
	pci_w16(m->dev->rid, m->cap + MSIX_CONTROL, v);
}

/* Maps size bytes at the place that a table or PBA register names. */
static volatile uint8_t *map_part(struct pci_dev *dev, uint32_t where, size_t size)
{
	const unsigned bir = FIELD_GET(MSIX_BIR, where);
	const uint32_t off = where & MSIX_OFFSET;
	const struct pci_bar *b;
	volatile uint8_t *va;

	if (bir >= PCI_BAR_COUNT)
		return NULL;
	b = &dev->bar[bir];
	if (b->io || !b->assigned || off > b->size || size > b->size - off)
		return NULL;
	if (b->size > MAP_WHOLE) {
		pci_set_command(dev, PCI_COMMAND_MEMORY, 0);
		return mmio_map(gpa(b->base + off), size);
	}
	va = pci_bar_map(dev, bir);
	return va ? va + off : NULL;
}

int msix_open(struct pci_dev *dev, struct msix *m)
{
	*m = (struct msix){.dev = dev, .cap = dev->cap_msix};
	if (!m->cap)
		return -ENOENT;
	m->count = (control(m) & MSIX_SIZE) + 1u;
	m->table = map_part(dev, pci_r32(dev->rid, m->cap + MSIX_TABLE),
			    (size_t)m->count * MSIX_ENTRY_SIZE);
	/* The pending bits come in whole quadwords. */
	m->pba = map_part(dev, pci_r32(dev->rid, m->cap + MSIX_PBA), (m->count + 63) / 64 * 8);
	return m->table && m->pba ? 0 : -ENXIO;
}

bool msix_table_at(const struct pci_dev *dev, unsigned *bar, uint64_t *offset)
{
	const uint32_t at = dev->cap_msix ? pci_r32(dev->rid, dev->cap_msix + MSIX_TABLE) : 0;

	*bar = FIELD_GET(MSIX_BIR, at);
	*offset = at & MSIX_OFFSET;
	return dev->cap_msix;
}

void msix_close(struct msix *m)
{
	m->table = m->pba = NULL;
	m->count = 0;
}

static volatile uint8_t *entry(const struct msix *m, unsigned index)
{
	return m->table + (size_t)index * MSIX_ENTRY_SIZE;
}

/* Only 32-bit accesses: every function takes them (6.8.2); 64-bit ones are the function's choice. */
static void set_entry_control(const struct msix *m, unsigned index, uint32_t v)
{
	mmio_w32(entry(m, index) + MSIX_ENTRY_CTRL, v);
	(void)mmio_r32(entry(m, index) + MSIX_ENTRY_CTRL); /* posted writes have arrived */
}

int msix_program(struct msix *m, unsigned index, const struct msi_msg *msg)
{
	volatile uint8_t *e;
	uint32_t ctrl;

	if (index >= m->count || (msg->addr & 3))
		return -EINVAL;
	e = entry(m, index);
	/* Address and data may change only while the entry is masked (6.8.2.6). */
	ctrl = mmio_r32(e + MSIX_ENTRY_CTRL);
	if (!(ctrl & MSIX_ENTRY_MASKED))
		set_entry_control(m, index, ctrl | MSIX_ENTRY_MASKED);
	mmio_w32(e + MSIX_ENTRY_ADDR, (uint32_t)msg->addr);
	mmio_w32(e + MSIX_ENTRY_ADDR_HI, (uint32_t)(msg->addr >> 32));
	mmio_w32(e + MSIX_ENTRY_DATA, msg->data);
	set_entry_control(m, index, ctrl);
	return 0;
}

void msix_mask(struct msix *m, unsigned index, bool masked)
{
	uint32_t ctrl;

	if (index >= m->count)
		return;
	ctrl = mmio_r32(entry(m, index) + MSIX_ENTRY_CTRL);
	set_entry_control(m, index, masked ? ctrl | MSIX_ENTRY_MASKED : ctrl & ~MSIX_ENTRY_MASKED);
}

void msix_enable(struct msix *m, bool on)
{
	const uint16_t ctrl = control(m);

	set_control(m, (uint16_t)(on ? ctrl | MSIX_ENABLE : ctrl & ~MSIX_ENABLE));
}

bool msix_enabled(const struct msix *m) { return control(m) & MSIX_ENABLE; }

void msix_function_mask(struct msix *m, bool masked)
{
	const uint16_t ctrl = control(m);

	if (SABOTAGE(msix_unmask_lost) && !masked)
		return;
	set_control(m, (uint16_t)(masked ? ctrl | MSIX_FUNCTION_MASK : ctrl & ~MSIX_FUNCTION_MASK));
}

bool msix_pending(struct msix *m, unsigned index)
{
	return index < m->count && (mmio_r32(m->pba + index / 32 * 4) & BIT(index % 32));
}

void msix_read(struct msix *m, unsigned index, struct msi_msg *msg, bool *masked)
{
	volatile uint8_t *e;

	*msg = (struct msi_msg){0, 0};
	*masked = true;
	if (index >= m->count)
		return;
	e = entry(m, index);
	msg->addr = mmio_r32(e + MSIX_ENTRY_ADDR) |
		    (uint64_t)mmio_r32(e + MSIX_ENTRY_ADDR_HI) << 32;
	msg->data = mmio_r32(e + MSIX_ENTRY_DATA);
	*masked = mmio_r32(e + MSIX_ENTRY_CTRL) & MSIX_ENTRY_MASKED;
}
