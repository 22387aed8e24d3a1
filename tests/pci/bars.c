/* SPDX-License-Identifier: MIT */

#include "drivers/pci/bar.h"
#include "drivers/pci/regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/lib/fmt.h"
#include "kernel/mm/mm.h"
#include "tests/pci/common.h"

/* Something that decodes addresses. */
struct claim {
	const struct pci_dev *dev;       /* NULL: not a PCI function */
	const char *what;
	unsigned bar;                    /* with dev; PCI_BAR_COUNT: the ROM */
	uint64_t base, last;
	bool io, live;                   /* live: decoding is on */
	enum pci_window window;          /* of a bridge, if is_window */
	bool is_window;
};

struct claims { unsigned count, max; struct claim *at; };

static void claim_add(struct t *t, struct claims *c, struct claim one)
{
	if (c->count == c->max)
		test_error(t, "more than %u address ranges", c->max);
	c->at[c->count++] = one;
}

static const char *claim_name(const struct claim *c, char *buf, size_t size)
{
	static const char *const window[] = {"I/O window", "memory window", "prefetchable window"};

	if (!c->dev)
		fmt_snprintf(buf, size, "%s", c->what);
	else if (c->is_window)
		fmt_snprintf(buf, size, PRIRID " %s", RIDARG(c->dev->rid), window[c->window]);
	else if (c->bar == PCI_BAR_COUNT)
		fmt_snprintf(buf, size, PRIRID " ROM", RIDARG(c->dev->rid));
	else
		fmt_snprintf(buf, size, PRIRID " BAR%u", RIDARG(c->dev->rid), c->bar);
	return buf;
}

static void collect_bars(struct t *t, struct claims *c, const struct pci_dev *d)
{
	const uint16_t command = pci_r16(d->rid, PCI_COMMAND);

	for (unsigned i = 0; i <= PCI_BAR_COUNT; i++) {
		const bool rom = i == PCI_BAR_COUNT;
		const struct pci_bar *b = rom ? &d->rom : &d->bar[i];
		bool live = command & (b->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);

		if (rom && b->size)
			live = live && (pci_r32(d->rid, bar_rom_offset(d)) & ROM_ENABLE);
		/* A ROM that is off may hold anything: firmware puts it where it is wanted, for a while. */
		if (!b->size || (!live && (rom || !b->assigned)))
			continue;
		claim_add(t, c,
			  (struct claim){.dev = d,
					 .bar = i,
					 .base = b->base,
					 .last = b->base + b->size - 1,
					 .io = b->io,
					 .live = live});
	}
}

static void collect_windows(struct t *t, struct claims *c, const struct pci_dev *d)
{
	const uint16_t command = pci_r16(d->rid, PCI_COMMAND);

	for (enum pci_window w = PCI_WINDOW_IO; w <= PCI_WINDOW_PREF; w++) {
		struct claim one = {.dev = d, .is_window = true, .window = w, .io = w == PCI_WINDOW_IO};

		one.live = command & (one.io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
		if (pci_window(d, w, &one.base, &one.last))
			claim_add(t, c, one);
	}
}

/* What is at fixed places, by the tables that say so. */
static void collect_fixed(struct t *t, struct claims *c)
{
	for (unsigned i = 0; acpi.has_madt && i < acpi.madt.ioapic_count; i++)
		claim_add(t, c, (struct claim){.what = "an I/O APIC", .base = acpi.madt.ioapic[i].addr,
					       .last = acpi.madt.ioapic[i].addr + 0xfffull, .live = true});
	/* SDM vol. 3, 11.11.1: writes there are interrupts, whoever makes them. */
	claim_add(t, c, (struct claim){.what = "the interrupt range", .base = MSI_RANGE_FIRST, .last = MSI_RANGE_LAST,
				       .live = true});
	for (unsigned i = 0; acpi.has_dmar && i < acpi.dmar.unit_count; i++)
		claim_add(t, c, (struct claim){.what = "a remapping unit", .base = acpi.dmar.unit[i].base,
					       .last = acpi.dmar.unit[i].base + 0xfff, .live = true});
	for (unsigned i = 0; acpi.has_ivrs && i < acpi.ivrs.unit_count; i++)
		claim_add(t, c, (struct claim){.what = "a remapping unit", .base = acpi.ivrs.unit[i].base,
					       .last = acpi.ivrs.unit[i].base + 0x3fff, .live = true});
	for (unsigned i = 0; acpi.has_mcfg && i < acpi.mcfg.count; i++)
		claim_add(t, c,
			  (struct claim){.what = "ECAM",
					 .live = true,
					 .base = acpi.mcfg.alloc[i].base +
						 ((uint64_t)acpi.mcfg.alloc[i].bus_first << 20),
					 .last = acpi.mcfg.alloc[i].base +
						 ((uint64_t)acpi.mcfg.alloc[i].bus_last << 20) + 0xfffff});
}

/* Is a below b, by way of bridges (or b itself, as a window's owner)? */
static bool below(const struct pci_dev *a, const struct pci_dev *b)
{
	for (; a; a = a->parent)
		if (a == b)
			return true;
	return false;
}

/* Both may rightly decode the same address: a bridge's window holds what is below the bridge. */
static bool related(const struct claim *a, const struct claim *b)
{
	if (!a->dev || !b->dev)
		return !a->dev && !b->dev;
	return (a->is_window && a->dev != b->dev && below(b->dev, a->dev)) ||
	       (b->is_window && a->dev != b->dev && below(a->dev, b->dev));
}

static void check_overlap(struct t *t, const struct claim *a, const struct claim *b)
{
	const bool meet = a->base <= b->last && b->base <= a->last;
	char an[48], bn[48];

	if (a->io != b->io || related(a, b))
		return;
	if (!meet) {
		test_check(t);
		return;
	}
	claim_name(a, an, sizeof(an));
	claim_name(b, bn, sizeof(bn));
	if (a->live && b->live)
		EXPECT_MSG(t, !meet, "%s (%llx-%llx) and %s (%llx-%llx) overlap", an,
			   (unsigned long long)a->base, (unsigned long long)a->last, bn,
			   (unsigned long long)b->base, (unsigned long long)b->last);
	else
		test_note(t, "%s and %s would overlap at %llx if decoding were on", an, bn,
			  (unsigned long long)MAX(a->base, b->base));
}

static bool inside(const struct pci_dev *bridge, enum pci_window w, const struct claim *c)
{
	uint64_t base, limit;

	return pci_window(bridge, w, &base, &limit) && base <= c->base && c->last <= limit;
}

/* Addresses reach a function only through the windows above it. */
static void check_inside(struct t *t, const struct claim *c)
{
	const struct pci_dev *up = c->dev->parent;
	char name[48];
	bool ok;

	if (!up)
		return;
	ok = c->io ? inside(up, PCI_WINDOW_IO, c) :
		     inside(up, PCI_WINDOW_MEM, c) || inside(up, PCI_WINDOW_PREF, c);
	claim_name(c, name, sizeof(name));
	if (ok || c->live)
		EXPECT_MSG(t, ok, "%s (%llx-%llx) is in no window of " PRIRID " above", name,
			   (unsigned long long)c->base, (unsigned long long)c->last, RIDARG(up->rid));
	else
		test_note(t, "%s (%llx-%llx, decoding off) is in no window of " PRIRID " above", name,
			  (unsigned long long)c->base, (unsigned long long)c->last, RIDARG(up->rid));
}

/*
 * Every BAR can be reached, and no address belongs to two.
 *
 * PCI-to-PCI Bridge 1.2, 3.2.5.6 to 3.2.5.10: a bridge forwards what lies in its I/O, memory and
 * prefetchable windows, so a BAR below it must lie in one of them, and the window in one of the
 * bridge above. Two decoders at one address, or a BAR over RAM, ECAM, an I/O APIC or the interrupt
 * range, answer each other's accesses. Firmware that ran out of room, or hot-plugged a function
 * without placing it, breaks it. What has its decoding off only gets a note.
 */
TEST(pci, windows, "each BAR lies inside its bridge's window; none overlaps another or RAM", NEED_PCI)
{
	struct claims c = {.max = 64 + pci_scan_report.functions * (PCI_BAR_COUNT + 1)};
	char name[48];

	c.at = test_alloc(t, c.max * sizeof(*c.at));
	FOR_EACH_PCI(d) {
		collect_bars(t, &c, d);
		if (d->is_bridge)
			collect_windows(t, &c, d);
	}
	if (!c.count)
		test_skip(t, "no function has an address range");
	for (unsigned i = 0; i < c.count; i++) {
		check_inside(t, &c.at[i]);
		if (c.at[i].io)
			continue;
		claim_name(&c.at[i], name, sizeof(name));
		if (c.at[i].live)
			EXPECT_MSG(t, !phys_touches_ram(c.at[i].base, c.at[i].last - c.at[i].base + 1),
				   "%s (%llx-%llx) lies over RAM", name, (unsigned long long)c.at[i].base,
				   (unsigned long long)c.at[i].last);
	}
	collect_fixed(t, &c);
	for (unsigned i = 0; i < c.count; i++)
		for (unsigned j = i + 1; j < c.count; j++)
			check_overlap(t, &c.at[i], &c.at[j]);
}

/* ---- sizes ---- */

/* Does the register take exactly its address bits, whatever is written? */
static void check_pattern(struct t *t, const struct pci_dev *d, unsigned off, uint32_t mask, uint32_t fixed,
			  const char *name)
{
	static const uint32_t pattern[] = {0x00000000, 0x5a5a5a50, 0xa5a5a5a0, 0xfffffff0};

	for (unsigned i = 0; i < ARRAY_SIZE(pattern); i++) {
		const struct bar_probe p = bar_probe(d->rid, off, pattern[i]);
		const uint32_t expected = (pattern[i] & mask) | fixed;

		EXPECT_MSG(t, p.ones == expected, PRIRID " %s: %08x written: got %08x, expected %08x",
			   RIDARG(d->rid), name, pattern[i], p.ones, expected);
	}
}

static bool same_bar(const struct pci_bar *a, const struct pci_bar *b)
{
	return a->base == b->base && a->size == b->size && a->io == b->io && a->is64 == b->is64 &&
	       a->prefetchable == b->prefetchable;
}

static void check_bar(struct t *t, const struct pci_dev *d, unsigned i, const struct bar_probe *p,
		      unsigned count)
{
	const char name[] = {'B', 'A', 'R', (char)('0' + i), 0};
	const uint32_t low_mask = p[i].ones & (p[i].ones & BAR_IO ? BAR_IO_MASK : BAR_MEM_MASK);
	const char *odd;
	struct pci_bar b;

	odd = bar_decode(p[i], i + 1 < count ? &p[i + 1] : NULL, &b);
	EXPECT_MSG(t, !odd, PRIRID " %s (%08x, %08x after ones): %s", RIDARG(d->rid), name, p[i].value,
		   p[i].ones, odd);
	if (odd || !b.size)
		return;
	EXPECT_MSG(t, same_bar(&b, &d->bar[i]),
		   PRIRID " %s: got %llx+%llx, expected %llx+%llx as when it was scanned", RIDARG(d->rid),
		   name, (unsigned long long)b.base, (unsigned long long)b.size,
		   (unsigned long long)d->bar[i].base, (unsigned long long)d->bar[i].size);
	/* PCI 3.0, 6.2.5.1: 16 bytes, 4 for I/O, at the least. */
	EXPECT_MSG(t, b.size >= (b.io ? 4u : 16u), PRIRID " %s: size %llx", RIDARG(d->rid), name,
		   (unsigned long long)b.size);
	check_pattern(t, d, PCI_BAR(i), low_mask, p[i].ones & ~low_mask, name);
	if (b.is64)
		check_pattern(t, d, PCI_BAR(i + 1), p[i + 1].ones, 0, "BAR's upper half");
}

static void size_function(struct t *t, struct keep *k, const struct pci_dev *d)
{
	const unsigned count = bar_count(d), rom = bar_rom_offset(d);
	struct bar_probe p[PCI_BAR_COUNT] = {{0, 0}}, r;
	struct pci_bar b;
	const char *odd;

	keep_reg(k, d->rid, PCI_COMMAND, 2);
	for (unsigned i = 0; i < count; i++)
		keep_reg(k, d->rid, PCI_BAR(i), 4);
	if (rom)
		keep_reg(k, d->rid, rom, 4);
	/* A host bridge may decode RAM by its Memory bit; it is probed as it stands. */
	if ((d->class_code & PCI_CLASS_MASK_SUB) != PCI_CLASS_HOST)
		pci_w16(d->rid, PCI_COMMAND,
			(uint16_t)(pci_r16(d->rid, PCI_COMMAND) & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY)));
	for (unsigned i = 0; i < count; i++)
		p[i] = bar_probe(d->rid, PCI_BAR(i), ~0u);
	for (unsigned i = 0; i < count; i++) {
		check_bar(t, d, i, p, count);
		i += d->bar[i].is64;
	}
	if (rom) {
		r = bar_probe(d->rid, rom, ROM_MASK);
		odd = bar_decode_rom(r, &b);
		EXPECT_MSG(t, !odd, PRIRID " ROM (%08x after ones): %s", RIDARG(d->rid), r.ones, odd);
		EXPECT_MSG(t, b.size <= 0x1000000, PRIRID " ROM: size %llx, above 16 MiB", RIDARG(d->rid),
			   (unsigned long long)b.size);
	}
	for (unsigned i = 0; i < k->count; i++) {
		const unsigned off = k->reg[i].off;
		const uint32_t now = pci_r32(d->rid, off);

		if (off != PCI_COMMAND)
			EXPECT_MSG(t, now == k->reg[i].value,
				   PRIRID " at %02x: got %08x after sizing, expected %08x again",
				   RIDARG(d->rid), off, now, k->reg[i].value);
	}
	keep_restore(k);
}

/*
 * BARs size as they should: a power of two, legal type bits, and the value put back stands again.
 *
 * PCI 3.0, 6.2.5.1: the address bits that can be set say the size; the low bits say the kind and
 * cannot be written. Other patterns than all ones must show the same bits, each on its own: a VMM
 * that recognises only the write of all ones, or keeps a BAR that is not the one it shows, passes
 * the usual sizing and fails here.
 */
TEST(pci, bar_sizing, "sizes are powers of two, type bits legal, values restored", NEED_PCI)
{
	struct keep *k = keep_start(t);

	FOR_EACH_PCI(d) {
		size_function(t, k, d);
		if (bar_count(d) == 0)
			test_note(t, PRIRID ": header type %u has no BARs that we know", RIDARG(d->rid),
				  d->header_type);
	}
}

/* ---- moving ---- */

static void move_to(const struct pci_dev *d, unsigned i, uint64_t base)
{
	const uint16_t command = pci_r16(d->rid, PCI_COMMAND);

	/* Halfway through, a 64-bit BAR stands somewhere else: nothing may decode it then. */
	pci_w16(d->rid, PCI_COMMAND, (uint16_t)(command & ~PCI_COMMAND_MEMORY));
	pci_w32(d->rid, PCI_BAR(i), (uint32_t)base);
	if (d->bar[i].is64)
		pci_w32(d->rid, PCI_BAR(i + 1), (uint32_t)(base >> 32));
	pci_w16(d->rid, PCI_COMMAND, command);
}

static void move_bar(struct t *t, struct keep *k, struct pci_dev *d, unsigned i, bool high, unsigned *moved)
{
	struct sign here, there;
	uint64_t base;

	keep_command(k, d);
	keep_reg(k, d->rid, PCI_BAR(i), 4);
	if (d->bar[i].is64)
		keep_reg(k, d->rid, PCI_BAR(i + 1), 4);
	if (sign_find(d, i, &here) && pci_bar_place(d, i, high, &base)) {
		there = here;
		there.address = base + (here.address - d->bar[i].base);
		EXPECT_MSG(t, !sign_answers(&there),
			   PRIRID " BAR%u: answers at %llx before it was moved there", RIDARG(d->rid), i,
			   (unsigned long long)base);
		move_to(d, i, base);
		EXPECT_MSG(t, sign_answers(&there), PRIRID " BAR%u at %llx: got %08x, expected %08x",
			   RIDARG(d->rid), i, (unsigned long long)base, sign_read(&there), there.value);
		EXPECT_MSG(t, !sign_answers(&here), PRIRID " BAR%u moved to %llx: still answers at %llx",
			   RIDARG(d->rid), i, (unsigned long long)base, (unsigned long long)d->bar[i].base);
		move_to(d, i, d->bar[i].base);
		EXPECT_MSG(t, sign_answers(&here), PRIRID " BAR%u back at %llx: got %08x, expected %08x",
			   RIDARG(d->rid), i, (unsigned long long)d->bar[i].base, sign_read(&here),
			   here.value);
		EXPECT_MSG(t, !sign_answers(&there), PRIRID " BAR%u moved back: still answers at %llx",
			   RIDARG(d->rid), i, (unsigned long long)base);
		++*moved;
	}
	keep_restore(k);
}

/*
 * A BAR that is moved answers at the new place, and no more at the old.
 *
 * PCI 3.0, 6.2.5: the BAR alone says where the function decodes. A VMM keeps a map of its own beside
 * it: stale after a move, it leaves the device at the old place, at both, or at none; above 4 GiB it
 * may lose the upper half. The device is at rest and recognised by a register that it shows; below a
 * bridge the new place is inside the bridge's window.
 */
TEST(pci, bar_move, "a BAR that is moved answers at the new place and no more at the old", NEED_PCI)
{
	struct keep *k = keep_start(t);
	unsigned moved = 0, high = 0;

	FOR_EACH_EXERCISER(t, ex, 0) {
		for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
			const struct pci_bar *b = &ex->dev->bar[i];

			/* A virtual function has no BARs of its own. */
			if (!b->size || b->io || !b->assigned || ex->dev->physfn)
				continue;
			move_bar(t, k, ex->dev, i, false, &moved);
			if (b->is64 && !ex->dev->parent)
				move_bar(t, k, ex->dev, i, true, &high);
		}
	}
	if (moved + high == 0)
		test_skip(t, "no device under test has a BAR that can be recognised and has room to move");
	test_note(t, "%u moved below 4 GiB, %u above", moved, high);
}
