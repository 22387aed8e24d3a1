/* SPDX-License-Identifier: MIT */

/*
 * Places what firmware left unplaced. Normally that is nothing, and nothing is touched then.
 *
 * One question is asked again and again: which place, as high as possible, inside what the bridge
 * above forwards, is free of everything that decodes something? High, because what firmware does not
 * tell of (stolen memory, SMRAM) lies low, next to RAM.
 */

#include "drivers/pci/bar.h"
#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/boot.h"
#include "kernel/cpu/cpu.h"

/* Below 4 GiB: up to the I/O APIC, HPET, local APIC and flash. Ports: where PCs keep PCI. */
#define MEM_TOP   0xfec00000ull
#define MEM_FLOOR 0x100000ull
#define IO_TOP    0x10000ull
#define IO_FLOOR  0xc000ull
#define STEP_MAX  65536
#define NEST_MAX  32                     /* bridges below one another that are reckoned with */

struct range { uint64_t base, end; };    /* [base, end) */

static enum pci_window kind_of(const struct pci_bar *b)
{
	return b->io ? PCI_WINDOW_IO : PCI_WINDOW_MEM;
}

static bool is_above(const struct pci_dev *bridge, const struct pci_dev *d)
{
	for (const struct pci_dev *up = d->parent; up; up = up->parent)
		if (up == bridge)
			return true;
	return false;
}

/* If [base, base+size) meets r, moves base below it (or to 0) and says so. */
static bool meets(uint64_t *base, uint64_t size, uint64_t align, uint64_t r_base, uint64_t r_last)
{
	if (*base > r_last || r_base > *base + size - 1)
		return false;
	*base = r_base > size ? align_down(r_base - size, align) : 0;
	return true;
}

/* One pass over all that decodes addresses of this kind. d: for whom a place is sought. */
static bool meets_any(const struct pci_dev *d, bool io, uint64_t *base, uint64_t size, uint64_t align)
{
	uint64_t from, to;

	FOR_EACH_PCI(o) {
		for (unsigned i = 0; i <= 2 * PCI_BAR_COUNT; i++) {
			const struct pci_bar *b = i < PCI_BAR_COUNT	? &o->bar[i]
						  : i < 2 * PCI_BAR_COUNT ? &o->vf_bar[i - PCI_BAR_COUNT]
									  : &o->rom;

			if (b->assigned && b->io == io &&
			    meets(base, size, align, b->base, b->base + b->size - 1))
				return true;
		}
		/* A window takes what it covers, except from those below that bridge. */
		if (!o->is_bridge || is_above(o, d))
			continue;
		for (enum pci_window k = PCI_WINDOW_IO; k <= PCI_WINDOW_PREF; k++)
			if ((k == PCI_WINDOW_IO) == io && pci_window(o, k, &from, &to) &&
			    meets(base, size, align, from, to))
				return true;
	}
	if (io)
		return false;
	for (unsigned i = 0; acpi.has_mcfg && i < acpi.mcfg.count; i++) {
		from = acpi.mcfg.alloc[i].base + ((uint64_t)acpi.mcfg.alloc[i].bus_first << 20);
		to = acpi.mcfg.alloc[i].base + ((uint64_t)acpi.mcfg.alloc[i].bus_last << 20) + 0xfffff;
		if (meets(base, size, align, from, to))
			return true;
	}
	/* RAM, and everything else that firmware tells of. */
	for (unsigned i = 0; i < boot_info.mem_count; i++) {
		const struct boot_mem *m = &boot_info.mem[i];

		if (m->size && meets(base, size, align, m->base, m->base + m->size - 1))
			return true;
	}
	return false;
}

/* What is forwarded to the bus that d is on; an empty range for nothing. */
static struct range forwarded(const struct pci_dev *d, enum pci_window kind)
{
	struct range r = {0, 0};

	if (!d->parent)
		return kind == PCI_WINDOW_IO ? (struct range){IO_FLOOR, IO_TOP}
					     : (struct range){MEM_FLOOR, MEM_TOP};
	if (pci_window(d->parent, kind, &r.base, &r.end))
		r.end++;
	else
		r = (struct range){0, 0};
	return r;
}

static bool find_place(const struct pci_dev *d, struct range r, bool io, uint64_t size, uint64_t align,
		       uint64_t *out)
{
	uint64_t base;

	if (r.end - r.base < size)
		return false;
	base = align_down(r.end - size, align);
	/* Each step that meets something goes below it: the count is only a belt to that. */
	for (unsigned step = 0; step < STEP_MAX && base >= r.base && base; step++) {
		if (!meets_any(d, io, &base, size, align)) {
			*out = base;
			return true;
		}
	}
	return false;
}

/* Above RAM. 36 bits are there on every x86-64; more is claimed by some that cannot reach it. */
static bool find_high(const struct pci_dev *d, uint64_t size, uint64_t *out)
{
	const struct range common = {BIT64(32), BIT64(36)};
	const struct range claimed = {BIT64(36), BIT64(MAX(cpu_features.phys_bits, 36))};

	return find_place(d, common, false, size, size, out) ||
	       find_place(d, claimed, false, size, size, out);
}

bool pci_bar_place(const struct pci_dev *d, unsigned bar, bool high, uint64_t *base)
{
	const struct pci_bar *b = &d->bar[bar];

	if (!b->size || (high && (b->io || !b->is64 || d->parent)))
		return false;
	return high ? find_high(d, b->size, base)
		    : find_place(d, forwarded(d, kind_of(b)), b->io, b->size, b->size, base);
}

bool pci_range_place(const struct pci_dev *d, uint64_t size, uint64_t align, uint64_t *base)
{
	return find_place(d, forwarded(d, PCI_WINDOW_MEM), false, size, align, base);
}

static void write_bar(struct pci_dev *d, unsigned i, uint64_t base)
{
	const uint16_t command = pci_r16(d->rid, PCI_COMMAND);

	pci_w16(d->rid, PCI_COMMAND, (uint16_t)(command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY)));
	pci_w32(d->rid, PCI_BAR(i), (uint32_t)base);
	if (d->bar[i].is64)
		pci_w32(d->rid, PCI_BAR(i + 1), (uint32_t)(base >> 32));
	pci_w16(d->rid, PCI_COMMAND, command);
	d->bar[i].base = base;
	d->bar[i].assigned = true;
}

static bool needs(const struct pci_bar *b)
{
	return b->size && !b->assigned;
}

/*
 * Bytes of one kind that the functions below a bridge still need, and the largest alignment among
 * them. BARs are powers of two and are placed from the largest to the smallest, which leaves no gaps;
 * windows of bridges in between come first and may leave one each, up to their alignment.
 */
static uint64_t need_below(const struct pci_dev *bridge, enum pci_window kind, uint64_t *largest,
			   unsigned depth)
{
	const uint64_t grain = kind == PCI_WINDOW_IO ? BRIDGE_IO_GRAIN : BRIDGE_MEM_GRAIN;
	uint64_t sum = 0, below, align, base, limit;

	*largest = grain;
	FOR_EACH_PCI(d) {
		if (d->parent != bridge)
			continue;
		for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
			if (!needs(&d->bar[i]) || kind_of(&d->bar[i]) != kind)
				continue;
			sum += d->bar[i].size;
			*largest = MAX(*largest, d->bar[i].size);
		}
		if (!d->is_bridge || depth == NEST_MAX || pci_window(d, kind, &base, &limit))
			continue;
		below = need_below(d, kind, &align, depth + 1);
		if (below)
			sum += align_up(below, grain) + (align > grain ? align : 0);
		*largest = MAX(*largest, align);
	}
	return sum;
}

static void open_window(struct pci_dev *d, enum pci_window kind, uint64_t base, uint64_t last)
{
	if (kind == PCI_WINDOW_IO) {
		pci_w16(d->rid, BRIDGE_IO, (uint16_t)((base >> 8 & 0xf0) | (last & 0xf000)));
		pci_w32(d->rid, BRIDGE_IO_UPPER, (uint32_t)(base >> 16) | (uint32_t)(last & 0xffff0000));
	} else {
		pci_w32(d->rid, BRIDGE_MEM, (uint32_t)(base >> 16 & 0xfff0) | (uint32_t)(last & 0xfff00000));
	}
	pci_w16(d->rid, PCI_COMMAND,
		(uint16_t)(pci_r16(d->rid, PCI_COMMAND) |
			   (kind == PCI_WINDOW_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)));
}

/* Bridges whose window is closed although something below needs it. Parents come first in the list. */
static void place_windows(enum pci_window kind)
{
	const uint64_t grain = kind == PCI_WINDOW_IO ? BRIDGE_IO_GRAIN : BRIDGE_MEM_GRAIN;

	FOR_EACH_PCI(d) {
		uint64_t size, largest, base, limit;

		if (!d->is_bridge || pci_window(d, kind, &base, &limit))
			continue;
		size = align_up(need_below(d, kind, &largest, 0), grain);
		if (size && find_place(d, forwarded(d, kind), kind == PCI_WINDOW_IO, size, largest, &base))
			open_window(d, kind, base, base + size - 1);
	}
}

/* Largest first, so that small ones do not break up what large ones need. */
static void place_bars(enum pci_window kind)
{
	for (unsigned bit = 46; bit >= 2; bit--) {
		FOR_EACH_PCI(d) {
			for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
				struct pci_bar *b = &d->bar[i];
				uint64_t base;

				if (!needs(b) || b->size != BIT64(bit) || kind_of(b) != kind)
					continue;
				if (pci_bar_place(d, i, false, &base) || pci_bar_place(d, i, true, &base))
					write_bar(d, i, base);
			}
		}
	}
}

void pci_assign_resources(void)
{
	for (enum pci_window kind = PCI_WINDOW_IO; kind <= PCI_WINDOW_MEM; kind++) {
		bool any = false;

		FOR_EACH_PCI(d)
			for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
				any |= needs(&d->bar[i]) && kind_of(&d->bar[i]) == kind;
		if (!any)
			continue;
		place_windows(kind);
		place_bars(kind);
	}
}
