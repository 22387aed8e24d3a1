/* SPDX-License-Identifier: MIT */

#include "drivers/pci/bar.h"

#include "drivers/pci/regs.h"
#include "kernel/mm/mm.h"

/* A mask of address bits is some ones with nothing but zeroes below, and nothing but ones above. */
static const char *set_size(struct pci_bar *b, uint64_t mask, uint64_t all)
{
	if (!mask)
		return "no address bit can be set";
	b->size = mask & (~mask + 1);    /* the lowest address bit that can be set */
	return (mask | (b->size - 1)) == all ? NULL : "the size is not a power of two";
}

const char *bar_decode(struct bar_probe lo, const struct bar_probe *hi, struct pci_bar *out)
{
	const uint32_t kind = (lo.value | lo.ones) & BAR_IO ? BAR_IO | BIT(1) : ~BAR_MEM_MASK;
	uint32_t mask;

	*out = (struct pci_bar){.size = 0};
	if (lo.ones == 0)
		return lo.value ? "it holds a value but keeps none" : NULL;
	if ((lo.value ^ lo.ones) & kind)
		return "its type bits can be written";
	if (lo.ones & BAR_IO) {
		const char *odd;

		out->io = true;
		out->base = lo.value & BAR_IO_MASK;
		mask = lo.ones & BAR_IO_MASK;
		/* The upper half may be hard-wired to 0: x86 has 64 KiB of ports. */
		odd = set_size(out, mask, mask >> 16 ? 0xffffffff : 0xffff);
		return lo.ones & BIT(1) ? "reserved bit 1 of an I/O BAR is set" : odd;
	}
	out->base = lo.value & BAR_MEM_MASK;
	out->prefetchable = lo.ones & BAR_MEM_PREFETCH;
	mask = lo.ones & BAR_MEM_MASK;
	switch (FIELD_GET(BAR_MEM_TYPE, lo.ones)) {
	case BAR_MEM_64:
		if (!hi)
			return "a 64-bit BAR in the last register";
		out->is64 = true;
		out->base |= (uint64_t)hi->value << 32;
		return set_size(out, (uint64_t)hi->ones << 32 | mask, ~0ull);
	case BAR_MEM_32:
	case BAR_MEM_1M:
		return set_size(out, mask, 0xffffffff);
	default:
		return "the memory type is the reserved one, 11b";
	}
}

const char *bar_decode_rom(struct bar_probe p, struct pci_bar *out)
{
	*out = (struct pci_bar){.base = p.value & ROM_MASK};
	return p.ones & ROM_MASK ? set_size(out, p.ones & ROM_MASK, 0xffffffff) : NULL;
}

unsigned bar_count(const struct pci_dev *d)
{
	switch (d->header_type) {
	case PCI_HEADER_NORMAL:
		return 6;
	case PCI_HEADER_BRIDGE:
		return 2;
	case PCI_HEADER_CARDBUS:
		return 1;
	default:
		return 0;
	}
}

unsigned bar_rom_offset(const struct pci_dev *d)
{
	return d->header_type == PCI_HEADER_NORMAL   ? PCI_ROM_NORMAL
	       : d->header_type == PCI_HEADER_BRIDGE ? PCI_ROM_BRIDGE
						     : 0;
}

struct bar_probe bar_probe(pci_rid_t rid, unsigned off, uint32_t ones)
{
	struct bar_probe p = {.value = pci_r32(rid, off)};

	pci_w32(rid, off, ones);
	p.ones = pci_r32(rid, off);
	if (p.ones != p.value)
		pci_w32(rid, off, p.value);
	return p;
}

/*
 * Does the base look like an address that somebody gave it? 0 is what reset leaves, all ones what a
 * sizing leaves that was not undone.
 */
static bool looks_assigned(const struct pci_bar *b)
{
	const uint64_t last = b->base + b->size - 1;
	const uint64_t top = b->io ? 0xffff : b->is64 ? ~0ull : 0xffffffff;

	if (!b->size || !b->base || !is_aligned(b->base, b->size) || last < b->base || last > top)
		return false;
	if (last == top && !b->io)
		return false;
	return b->io || !phys_touches_ram(b->base, b->size);
}

void pci_bars_read(struct pci_dev *d)
{
	const unsigned count = bar_count(d), rom = bar_rom_offset(d);
	const uint16_t command = pci_r16(d->rid, PCI_COMMAND);
	const uint16_t quiet = (uint16_t)(command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
	/* A host bridge may decode RAM by the same bit. It is sized as it stands, as others do too. */
	const bool stop = (d->class_code & PCI_CLASS_MASK_SUB) != PCI_CLASS_HOST && quiet != command;
	struct bar_probe p[PCI_BAR_COUNT], r = {0, 0};

	/* While it is off, an all-ones BAR cannot answer in somebody else's place. */
	if (stop)
		pci_w16(d->rid, PCI_COMMAND, quiet);
	for (unsigned i = 0; i < count; i++)
		p[i] = bar_probe(d->rid, PCI_BAR(i), ~0u);
	if (rom)
		r = bar_probe(d->rid, rom, ROM_MASK);
	if (stop)
		pci_w16(d->rid, PCI_COMMAND, command);

	for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
		d->bar[i] = (struct pci_bar){.size = 0};
		if (i >= count)
			continue;
		bar_decode(p[i], i + 1 < count ? &p[i + 1] : NULL, &d->bar[i]);
		d->bar[i].assigned = looks_assigned(&d->bar[i]);
		if (d->bar[i].is64)
			d->bar[++i] = (struct pci_bar){.size = 0}; /* its upper half */
	}
	bar_decode_rom(r, &d->rom);
	d->rom.assigned = looks_assigned(&d->rom);
}

volatile void *pci_bar_map(struct pci_dev *d, unsigned bar)
{
	const struct pci_bar *b;

	if (bar >= PCI_BAR_COUNT)
		return NULL;
	b = &d->bar[bar];
	if (!b->size || b->io || !b->assigned)
		return NULL;
	pci_set_command(d, PCI_COMMAND_MEMORY, 0);
	return mmio_map(gpa(b->base), b->size);
}

bool pci_decodes_memory(const struct pci_dev *d)
{
	/* A virtual function's is VF MSE, of the physical one. */
	return d->physfn || pci_r16(d->rid, PCI_COMMAND) & PCI_COMMAND_MEMORY;
}

void pci_set_command(struct pci_dev *d, uint16_t set, uint16_t clear)
{
	const uint16_t forwarded = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	const uint16_t old = pci_r16(d->rid, PCI_COMMAND);
	const uint16_t new = (uint16_t)((old | set) & ~clear);

	/* A bridge forwards downwards by its decode bits, and upwards (DMA, MSI) by its Bus Master. */
	for (struct pci_dev *up = d->parent; up; up = up->parent) {
		const uint16_t was = pci_r16(up->rid, PCI_COMMAND);
		const uint16_t needed = (uint16_t)(was | (set & forwarded));

		if (needed != was)
			pci_w16(up->rid, PCI_COMMAND, needed);
	}
	/* The status half has bits that writing 1 clears: only the command half is written. */
	if (new != old)
		pci_w16(d->rid, PCI_COMMAND, new);
}

bool pci_window(const struct pci_dev *d, enum pci_window kind, uint64_t *base, uint64_t *limit)
{
	uint32_t w;

	if (!d->is_bridge)
		return false;
	switch (kind) {
	case PCI_WINDOW_IO:
		w = pci_r16(d->rid, BRIDGE_IO);
		*base = (w & 0xf0) << 8;
		*limit = (w & 0xf000) | 0xfff;
		if ((w & 0x0f) == 1) {
			const uint32_t upper = pci_r32(d->rid, BRIDGE_IO_UPPER);

			*base |= (uint64_t)(upper & 0xffff) << 16;
			*limit |= upper & 0xffff0000;
		}
		break;
	case PCI_WINDOW_MEM:
	case PCI_WINDOW_PREF:
	default:
		w = pci_r32(d->rid, kind == PCI_WINDOW_MEM ? BRIDGE_MEM : BRIDGE_PREF);
		*base = (uint64_t)(w & 0xfff0) << 16;
		*limit = (w & 0xfff00000) | 0xfffff;
		if (kind == PCI_WINDOW_PREF && (w & 0x0f) == 1) {
			*base |= (uint64_t)pci_r32(d->rid, BRIDGE_PREF_BASE_UPPER) << 32;
			*limit |= (uint64_t)pci_r32(d->rid, BRIDGE_PREF_LIMIT_UPPER) << 32;
		}
		break;
	}
	/* Base above limit closes it. At 0 it is as reset left it, and would cover legacy addresses. */
	return *base != 0 && *base <= *limit;
}
