/* SPDX-License-Identifier: MIT */
// link: drivers/pci/assign.c drivers/pci/scan.c drivers/pci/cap.c drivers/pci/bar.c kernel/lib/fmt.c

/* Placing what firmware has left: made-up machines, and some hundred random ones. */

#include "kernel/boot.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/random.h"
#include "tests/host/unit/pci_fake.h"

struct boot_info boot_info;
struct cpu_features cpu_features = {.phys_bits = 40};

static void machine(void)
{
	fake_reset();
	boot_info.mem_count = 3;
	boot_info.mem[0] = (struct boot_mem){.base = 0, .size = 0x80000000, .type = BOOT_MEM_RAM};
	boot_info.mem[1] = (struct boot_mem){.base = 0xfeb80000, .size = 0x80000, .type = BOOT_MEM_RESERVED};
	boot_info.mem[2] = (struct boot_mem){.base = 1ull << 32, .size = 0x80000000, .type = BOOT_MEM_RAM};
	fake_ram_end = 0x80000000;
}

static void scan(void)
{
	fake_free_all();
	pci_scan();
}

static bool outside_map(uint64_t base, uint64_t last)
{
	for (unsigned i = 0; i < boot_info.mem_count; i++)
		if (base < boot_info.mem[i].base + boot_info.mem[i].size && boot_info.mem[i].base <= last)
			return false;
	return last < 0xb0000000 || base > 0xbfffffff; /* ECAM */
}

/* Everything that is assigned stands where the registers say, alone, and inside the window above. */
static unsigned validate(void)
{
	unsigned unset = 0;

	FOR_EACH_PCI(d) {
		for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
			const struct pci_bar *b = &d->bar[i];
			const uint64_t last = b->base + b->size - 1;
			uint64_t at, base, limit;
			bool in = !d->parent;

			if (!b->size)
				continue;
			if (!b->assigned) {
				unset++;
				continue;
			}
			at = pci_r32(d->rid, PCI_BAR(i)) & (b->io ? BAR_IO_MASK : BAR_MEM_MASK);
			if (b->is64)
				at |= (uint64_t)pci_r32(d->rid, PCI_BAR(i + 1)) << 32;
			CHECK_EQ(at, b->base);
			CHECK(is_aligned(b->base, b->size) && b->base);
			CHECK(b->io ? last <= 0xffff : outside_map(b->base, last));
			CHECK(b->io || last < 0xfec00000 || b->base > 0xffffffff);
			if (d->parent)
				in = pci_window(d->parent, b->io ? PCI_WINDOW_IO : PCI_WINDOW_MEM, &base,
						&limit) &&
				     base <= b->base && last <= limit;
			CHECK(in);
			FOR_EACH_PCI(o)
				for (unsigned j = 0; j < PCI_BAR_COUNT; j++) {
					const struct pci_bar *c = &o->bar[j];

					if (!c->assigned || c->io != b->io || (o == d && i == j))
						continue;
					CHECK(c->base > last || c->base + c->size - 1 < b->base);
				}
		}
		for (enum pci_window w = PCI_WINDOW_IO; w <= PCI_WINDOW_MEM; w++) {
			uint64_t base, limit, up_base, up_limit;

			if (!pci_window(d, w, &base, &limit))
				continue;
			CHECK(w == PCI_WINDOW_IO || outside_map(base, limit));
			if (d->parent)
				CHECK(pci_window(d->parent, w, &up_base, &up_limit) && up_base <= base &&
				      limit <= up_limit);
			FOR_EACH_PCI(o) {
				uint64_t from, to;

				if (o != d && o->parent == d->parent && pci_window(o, w, &from, &to))
					CHECK(to < base || from > limit);
			}
		}
	}
	return unset;
}

static struct pci_dev *at(unsigned bus, unsigned dev)
{
	return pci_find(pci_rid(bus, dev, 0));
}

static void nothing_to_do(void)
{
	unsigned long writes;
	int f;

	machine();
	f = fake_add(-1, 0, 1, 0, 0x11e81234, 0x00ff00);
	fake_bar(f, 0, 0x100000, 0, 0xfea00000);
	fake_set(f, PCI_ROM_NORMAL, 4, 0);
	fake_writable(f, PCI_ROM_NORMAL, 4, 0xffff0001); /* a ROM without a place is no reason */
	scan();
	writes = fake_writes;
	pci_assign_resources();
	CHECK_EQ(fake_writes, writes);
	CHECK_EQ(validate(), 0);
}

static void from_scratch(void)
{
	int root, up, down, f;

	machine();
	f = fake_add(-1, 0, 1, 0, 0x11111234, 0x030000);
	fake_bar(f, 0, 0x1000000, 8, 0);
	fake_bar(f, 2, 0x1000, 0, 0);
	f = fake_add(-1, 0, 2, 0, 0x00051b36, 0x00ff00);
	fake_bar(f, 0, 8ull << 30, 0xc, 0);      /* 8 GiB: only above 4 GiB, above the RAM there */
	fake_bar(f, 3, 0x100, BAR_IO, 0);
	root = fake_bridge(-1, 0, 3, 0, 0, 0, 0);
	up = fake_bridge(root, 0, 0, 0, 0, 0, 0);
	down = fake_bridge(up, 0, 0, 0, 0, 0, 0);
	f = fake_add(down, 0, 0, 0, 0x11e81234, 0x00ff00);
	fake_bar(f, 0, 0x400000, 0, 0);
	fake_bar(f, 1, 0x20, BAR_IO, 0);
	down = fake_bridge(up, 0, 1, 0, 0, 0, 0);
	f = fake_add(down, 0, 0, 0, 0x11e81234, 0x00ff00);
	fake_bar(f, 0, 0x100000, 0, 0);
	fake_bar(f, 4, 0x4000, 0xc, 0);
	f = fake_bridge(-1, 0, 4, 0, 0, 0, 0);   /* nothing below: its windows stay closed */
	fake_bar(f, 0, 0x1000, 0, 0);
	scan();
	CHECK(!pci_scan_report.problem);
	pci_assign_resources();
	CHECK_EQ(validate(), 0);
	CHECK(at(0, 2)->bar[0].base >= (1ull << 32) + 0x80000000);
	CHECK(at(0, 2)->bar[0].base + (8ull << 30) <= 1ull << 36);
	CHECK_EQ(pci_r32(at(0, 4)->rid, BRIDGE_MEM), 0);
	CHECK(pci_r16(at(0, 3)->rid, PCI_COMMAND) & PCI_COMMAND_MEMORY);
}

/* What firmware did stays; the rest goes into the holes of its windows, or nowhere. */
static void beside_firmware(void)
{
	uint64_t base;
	int port, f;

	machine();
	port = fake_bridge(-1, 0, 1, 0, 0, 1, 1);
	fake_set(port, BRIDGE_MEM, 4, 0xfe70fe60); /* fe600000-fe7fffff */
	f = fake_add(port, 0, 0, 0, 0x11e81234, 0x00ff00);
	fake_bar(f, 0, 0x100000, 0, 0xfe700000);
	f = fake_add(port, 0, 1, 0, 0x11e81234, 0x00ff00);
	fake_bar(f, 0, 0x80000, 0, 0);
	fake_bar(f, 1, 0x80000, 0, 0);
	fake_bar(f, 2, 0x80000, 0, 0);           /* the window has room for two */
	f = fake_add(-1, 0, 2, 0, 0x11e81234, 0x00ff00);
	fake_bar(f, 0, 0x100000, 0, 0);
	scan();
	pci_assign_resources();
	CHECK_EQ(validate(), 1);
	CHECK_EQ(at(1, 0)->bar[0].base, 0xfe700000);
	CHECK_EQ(pci_r32(at(0, 1)->rid, BRIDGE_MEM), 0xfe70fe60);
	CHECK(at(1, 1)->bar[0].assigned && at(1, 1)->bar[1].assigned && !at(1, 1)->bar[2].assigned);
	CHECK(at(0, 2)->bar[0].base > 0xfe7fffff || at(0, 2)->bar[0].base < 0xfe600000);

	/* A second place for a BAR that has one: never its own, inside the same window. */
	CHECK(!pci_bar_place(at(1, 0), 0, false, &base)); /* full by now */
	CHECK(pci_bar_place(at(0, 2), 0, false, &base) && base != at(0, 2)->bar[0].base);
	CHECK(!pci_bar_place(at(0, 2), 0, true, &base));  /* 32-bit */
	CHECK(!pci_bar_place(at(0, 2), 3, false, &base)); /* not there */
}

static void random_machine(struct random *r)
{
	int bridges[24], bridge_count = 0;

	machine();
	for (unsigned i = 0; i < 30; i++) {
		const int parent = bridge_count && random_below(r, 2) ?
					   bridges[random_below(r, (uint32_t)bridge_count)] : -1;
		int f;

		if (bridge_count < 24 && random_below(r, 3) == 0) {
			f = fake_bridge(parent, 0, i, 0, 0, 0, 0);
			bridges[bridge_count++] = f;
			if (random_below(r, 2))
				fake_bar(f, 0, 0x1000, 0, 0);
			continue;
		}
		f = fake_add(parent, 0, i, 0, 0x11e81234, 0x00ff00);
		for (unsigned b = 0; b < 6; b++) {
			const uint32_t kind = random_below(r, 6);

			if (kind == 0)
				fake_bar(f, b, 4u << random_below(r, 6), BAR_IO, 0);
			else if (kind == 1)
				fake_bar(f, b, 16u << random_below(r, 19), 0, 0);
			else if (kind == 2 && b < 5)
				fake_bar(f, b++, 16u << random_below(r, 18), 0xc, 0);
		}
	}
	scan();
	pci_assign_resources();
	/* Ports may run out behind many bridges (4 KiB each, of 16 KiB); memory does not. */
	(void)validate();
	FOR_EACH_PCI(d)
		for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
			CHECK(!d->bar[i].size || d->bar[i].io || d->bar[i].assigned);
}

int main(void)
{
	struct random r = random_seed(7);

	nothing_to_do();
	from_scratch();
	beside_firmware();
	for (unsigned i = 0; i < 200; i++)
		random_machine(&r);
	fake_free_all();
	return host_done("pci_assign");
}
