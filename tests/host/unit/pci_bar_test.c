/* SPDX-License-Identifier: MIT */
// link: drivers/pci/bar.c

/* What base address registers say, and that sizing leaves no trace. */

#include "drivers/pci/bar.h"
#include "tests/host/unit/pci_fake.h"

static void decode(void)
{
	const struct bar_probe high = {0x00000008, 0xffffffff}, zero = {0, 0};
	struct pci_bar b;

	CHECK(!bar_decode((struct bar_probe){0, 0}, NULL, &b));
	CHECK_EQ(b.size, 0);
	CHECK(!bar_decode((struct bar_probe){0xfea00000, 0xfff00000}, &high, &b)); /* edu */
	CHECK_EQ(b.base, 0xfea00000);
	CHECK_EQ(b.size, 0x100000);
	CHECK(!b.io && !b.is64 && !b.prefetchable);
	CHECK(!bar_decode((struct bar_probe){0xc041, 0xffffffe1}, NULL, &b));
	CHECK(b.io && b.base == 0xc040 && b.size == 0x20);
	CHECK(!bar_decode((struct bar_probe){0xc041, 0x0000ffe1}, NULL, &b)); /* upper half wired to 0 */
	CHECK(b.io && b.size == 0x20);
	CHECK(!bar_decode((struct bar_probe){0x0000000c, 0xffffc00c}, &high, &b));
	CHECK(b.is64 && b.prefetchable && b.base == 0x800000000 && b.size == 0x4000);
	CHECK(!bar_decode((struct bar_probe){0x0000000c, 0x0000000c},
			  &(struct bar_probe){0x10, 0xfffffff0}, &b)); /* 64 GiB */
	CHECK(b.is64 && b.size == 64ull << 30 && b.base == 64ull << 30);

	/* Illegal ones are named, and do not become sizes that somebody would use. */
	CHECK(bar_decode((struct bar_probe){0xfea00000, 0xffb00000}, NULL, &b)); /* a hole in the mask */
	CHECK(bar_decode((struct bar_probe){0xfea00000, 0x7ff00000}, NULL, &b));
	CHECK(bar_decode((struct bar_probe){0x6, 0xfffff006}, &high, &b));       /* type 11b */
	CHECK(bar_decode((struct bar_probe){0x4, 0xfffff004}, NULL, &b));        /* 64-bit, nothing above */
	CHECK(bar_decode((struct bar_probe){0x0, 0xfffff008}, NULL, &b));        /* type bits move */
	CHECK(bar_decode((struct bar_probe){0xc043, 0xffffffe3}, NULL, &b));     /* reserved bit */
	CHECK(bar_decode((struct bar_probe){0x1000, 0}, NULL, &b));
	CHECK(bar_decode((struct bar_probe){0xc, 0xc}, &zero, &b));              /* 64-bit without a size */
	CHECK(bar_decode((struct bar_probe){0x8, 0x8}, NULL, &b));

	CHECK(!bar_decode_rom((struct bar_probe){0xfeb00001, 0xffff0000}, &b));
	CHECK(b.base == 0xfeb00000 && b.size == 0x10000);
	CHECK(!bar_decode_rom((struct bar_probe){0, 0}, &b));
	CHECK_EQ(b.size, 0);
}

static struct pci_dev read_one(int f)
{
	struct pci_dev d = {.rid = {(uint32_t)fakes[f].root << 8 | fakes[f].devfn}};

	d.class_code = pci_r32(d.rid, PCI_CLASS_REVISION) >> 8;
	d.header_type = pci_r8(d.rid, PCI_HEADER_TYPE) & PCI_HEADER_LAYOUT;
	pci_bars_read(&d);
	return d;
}

static void no_trace(void)
{
	uint8_t before[PCI_EXT_CFG_SIZE];
	struct pci_dev d;

	fake_reset();
	fake_add(-1, 0, 2, 0, 0x11111234, 0x030000);
	fake_set(0, PCI_COMMAND, 2, 0x0407);
	fake_bar(0, 0, 0x1000000, 0x8, 0xfd000000);
	fake_bar(0, 1, 0x20, BAR_IO, 0xc040);
	fake_bar(0, 2, 0x4000, 0xc, 0x800000000);
	fake_bar(0, 5, 0x1000, 0, 0);
	fake_set(0, PCI_ROM_NORMAL, 4, 0xfeb00000);
	fake_writable(0, PCI_ROM_NORMAL, 4, 0xffff0001);
	memcpy(before, fakes[0].cfg, sizeof(before));
	d = read_one(0);
	CHECK(memcmp(before, fakes[0].cfg, sizeof(before)) == 0);
	CHECK(d.bar[0].assigned && d.bar[0].size == 0x1000000 && d.bar[0].prefetchable);
	CHECK(d.bar[1].assigned && d.bar[1].io && d.bar[1].size == 0x20);
	CHECK(d.bar[2].assigned && d.bar[2].is64 && d.bar[2].base == 0x800000000);
	CHECK_EQ(d.bar[3].size, 0);
	CHECK_EQ(d.bar[4].size, 0);
	CHECK(!d.bar[5].assigned && d.bar[5].size == 0x1000);
	CHECK(d.rom.size == 0x10000 && d.rom.base == 0xfeb00000);

	/* Left over from a sizing, over RAM: not addresses that somebody assigned. */
	fake_bar(0, 0, 0x1000000, 0x8, 0xff000000);
	fake_bar(0, 5, 0x1000, 0, 0x1000);
	d = read_one(0);
	CHECK(!d.bar[0].assigned && !d.bar[5].assigned);
}

/* A bridge has two BARs; what follows are its bus numbers and windows, which sizing must not touch. */
static void bridge(void)
{
	uint8_t before[PCI_EXT_CFG_SIZE];
	uint64_t base, limit;
	struct pci_dev d;

	fake_reset();
	fake_bridge(-1, 0, 1, 0, 0, 1, 3);
	fake_bar(0, 0, 0x100, 0x4, 0xfe800000);
	fake_set(0, BRIDGE_MEM, 4, 0xfe70fe60);
	fake_set(0, BRIDGE_IO, 2, 0xd1c1);
	fake_set(0, BRIDGE_PREF, 4, 0x0011fff1);
	memcpy(before, fakes[0].cfg, sizeof(before));
	d = read_one(0);
	CHECK(memcmp(before, fakes[0].cfg, sizeof(before)) == 0);
	CHECK(d.bar[0].is64 && d.bar[0].size == 0x100 && d.bar[1].size == 0 && d.bar[2].size == 0);

	CHECK(!pci_window(&d, PCI_WINDOW_MEM, &base, &limit)); /* not known as a bridge */
	d.is_bridge = true;
	CHECK(pci_window(&d, PCI_WINDOW_MEM, &base, &limit));
	CHECK(base == 0xfe600000 && limit == 0xfe7fffff);
	CHECK(pci_window(&d, PCI_WINDOW_IO, &base, &limit));
	CHECK(base == 0xc000 && limit == 0xdfff);
	CHECK(!pci_window(&d, PCI_WINDOW_PREF, &base, &limit)); /* base above limit */
	fake_set(0, BRIDGE_PREF_LIMIT_UPPER, 4, 8);
	fake_set(0, BRIDGE_PREF_BASE_UPPER, 4, 7);
	CHECK(pci_window(&d, PCI_WINDOW_PREF, &base, &limit));
	CHECK(base == 0x7fff00000 && limit == 0x8001fffff);
	fake_set(0, BRIDGE_MEM, 4, 0);                          /* as reset leaves it */
	CHECK(!pci_window(&d, PCI_WINDOW_MEM, &base, &limit));
}

static void command(void)
{
	struct pci_dev up = {.rid = {0x08}, .is_bridge = true}, d = {.rid = {0x0100}, .parent = &up};

	fake_reset();
	fake_bridge(-1, 0, 1, 0, 0, 1, 1);
	fake_add(0, 0, 0, 0, 0x11e81234, 0x00ff00);
	fake_set(1, PCI_STATUS, 2, 0xf900);
	fake_writable(1, PCI_STATUS, 2, 0xffff);
	pci_set_command(&d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF, 0);
	CHECK_EQ(pci_r16(d.rid, PCI_COMMAND), 0x0406);
	CHECK_EQ(pci_r16(up.rid, PCI_COMMAND), 0x0006);  /* opened above, INTx being none of its business */
	pci_set_command(&d, 0, PCI_COMMAND_MEMORY);
	CHECK_EQ(pci_r16(d.rid, PCI_COMMAND), 0x0404);
	CHECK_EQ(pci_r16(up.rid, PCI_COMMAND), 0x0006);  /* others may live below it */
	CHECK_EQ(pci_r16(d.rid, PCI_STATUS), 0xf900);
}

int main(void)
{
	decode();
	no_trace();
	bridge();
	command();
	return host_done("pci_bar");
}
