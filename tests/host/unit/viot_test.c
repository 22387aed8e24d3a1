/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/viot.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/unit/acpi_bytes.h"

static struct viot v;
static struct acpi_error err;

static int parse(const uint8_t *p, size_t n)
{
	const int r = viot_parse(p, n, &v, &err);
	uint32_t ep, rid;

	CHECK(v.unit_count <= VIOT_UNIT_MAX && v.range_count <= VIOT_RANGE_MAX);
	CHECK(r == 0 || err.what);
	for (uint32_t i = 0; r == 0 && i < v.range_count; i++) {
		const struct viot_range *g = &v.range[i];

		CHECK(g->unit < v.unit_count);
		CHECK(g->mmio || (g->bdf_first <= g->bdf_last && g->segment_first <= g->segment_last));
		if (!g->mmio)
			CHECK(viot_endpoint(&v, g->unit, (uint32_t)g->segment_last << 16 | g->bdf_last, &ep) &&
			      viot_function(&v, g->unit, g->endpoint, &rid));
	}
	return r;
}

static void start(struct bytes *b, unsigned nodes, unsigned offset)
{
	begin(b, "VIOT");
	put(b, nodes, 2), put(b, offset, 2), put_zeros(b, 8);
}
static void pci_range(struct bytes *b, uint32_t ep, unsigned seg0, unsigned seg1, unsigned bdf0, unsigned bdf1, size_t out)
{
	put(b, 1, 1), put(b, 0, 1), put(b, 24, 2), put(b, ep, 4), put(b, seg0, 2), put(b, seg1, 2);
	put(b, bdf0, 2), put(b, bdf1, 2), put(b, out, 2), put_zeros(b, 6);
}
static void mmio(struct bytes *b, uint32_t ep, uint64_t base, size_t out)
{
	put(b, 2, 1), put(b, 0, 1), put(b, 24, 2), put(b, ep, 4), put(b, base, 8), put(b, out, 2), put_zeros(b, 6);
}
static size_t iommu_pci(struct bytes *b, unsigned seg, unsigned bdf)
{
	const size_t at = b->n;

	put(b, 3, 1), put(b, 0, 1), put(b, 16, 2), put(b, seg, 2), put(b, bdf, 2), put_zeros(b, 8);
	return at;
}
static size_t iommu_mmio(struct bytes *b, uint64_t base)
{
	const size_t at = b->n;

	put(b, 4, 1), put(b, 0, 1), put(b, 16, 2), put_zeros(b, 4), put(b, base, 8);
	return at;
}

/* Two units, one named before it comes; a node of a type to come; segments that lie side by side in the IDs. */
static void build(struct bytes *b)
{
	size_t unit, other;

	start(b, 7, 48);
	unit = iommu_pci(b, 0, 0x0018);
	pci_range(b, 0, 0, 0, 0, 0x03ff, unit);
	other = b->n + 24 + 8 + 24;
	pci_range(b, 0x10000, 1, 3, 0x0100, 0x01ff, other);
	put(b, 9, 1), put(b, 0, 1), put(b, 8, 2), put_zeros(b, 4);
	mmio(b, 0x7000, 0x0a000000, unit);
	CHECK_EQ(iommu_mmio(b, 0x0a003e00), other);
	pci_range(b, 0x4000, 0, 0, 0x4000, 0x40ff, unit);
	seal(b);
}

static void bad(struct bytes *b)
{
	seal(b);
	CHECK_EQ(parse(b->p, b->n), -22);
}

int main(void)
{
	static struct bytes b;
	uint32_t x = 0;
	size_t at;

	build(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK(v.unit_count == 2 && v.range_count == 4 && v.dropped == 0);
	CHECK(!v.unit[0].mmio && v.unit[0].bdf == 0x18 && v.unit[0].offset == 48);
	CHECK(v.unit[1].mmio && v.unit[1].base == 0x0a003e00);
	CHECK(v.range[1].unit == 1 && v.range[2].mmio && v.range[2].base == 0x0a000000 && v.range[2].endpoint == 0x7000);
	/* IDs, both ways; at the ends of a range, and beside them. */
	CHECK(viot_endpoint(&v, 0, 0x03ff, &x) && x == 0x3ff);
	CHECK(!viot_endpoint(&v, 0, 0x0400, &x) && !viot_endpoint(&v, 0, 0x10000, &x));
	CHECK(viot_endpoint(&v, 0, 0x40ff, &x) && x == 0x40ff);
	CHECK(viot_endpoint(&v, 1, 0x10100, &x) && x == 0x10000);
	CHECK(viot_endpoint(&v, 1, 0x301ff, &x) && x == 0x300ff);
	CHECK(!viot_endpoint(&v, 1, 0x10200, &x) && !viot_endpoint(&v, 1, 0x40100, &x) && !viot_endpoint(&v, 1, 0x18, &x));
	CHECK(viot_function(&v, 1, 0x300ff, &x) && x == 0x301ff);
	CHECK(!viot_function(&v, 1, 0x30100, &x) && !viot_function(&v, 1, 0xffff, &x) && !viot_function(&v, 0, 0x400, &x));
	for (uint32_t rid = 0; rid < 0x50000; rid++) {
		uint32_t back;

		for (uint32_t u = 0; u < 2; u++)
			CHECK(!viot_endpoint(&v, u, rid, &x) || (viot_function(&v, u, x, &back) && back == rid));
	}
	damage(&b, parse);

	/* QEMU's nodes may begin later; a table without any is a table. */
	start(&b, 1, 52);
	put_zeros(&b, 4);
	iommu_pci(&b, 0, 8);
	seal(&b);
	CHECK(parse(b.p, b.n) == 0 && v.unit_count == 1);
	start(&b, 0, 48);
	seal(&b);
	CHECK(parse(b.p, b.n) == 0 && v.unit_count == 0);

	/* What does not fit: units with their ranges, and ranges. */
	start(&b, VIOT_UNIT_MAX + 2 + 2, 48);
	for (unsigned i = 0; i < VIOT_UNIT_MAX + 2; i++)
		at = iommu_pci(&b, 0, i);
	pci_range(&b, 0, 0, 0, 0, 1, at);
	pci_range(&b, 0, 0, 0, 0, 1, 48);
	seal(&b);
	CHECK_EQ(parse(b.p, b.n), 0);
	CHECK(v.unit_count == VIOT_UNIT_MAX && v.range_count == 1 && v.dropped == 3);
	start(&b, VIOT_RANGE_MAX + 2, 48);
	at = iommu_pci(&b, 0, 8);
	for (unsigned i = 0; i < VIOT_RANGE_MAX + 1; i++)
		pci_range(&b, 0, 0, 0, i, i, at);
	seal(&b);
	CHECK(parse(b.p, b.n) == 0 && v.range_count == VIOT_RANGE_MAX && v.dropped == 1);

	/* Nodes before the header's end, more than there are, one that names no unit, or a range as its unit. */
	start(&b, 1, 44), iommu_pci(&b, 0, 8), bad(&b);
	start(&b, 1, 0xffff), iommu_pci(&b, 0, 8), bad(&b);
	start(&b, 2, 48), iommu_pci(&b, 0, 8), bad(&b);
	start(&b, 2, 48), iommu_pci(&b, 0, 8), pci_range(&b, 0, 0, 0, 0, 1, 50), bad(&b);
	start(&b, 1, 48), pci_range(&b, 0, 0, 0, 0, 1, 48), bad(&b);
	/* Backwards, too many IDs, no place for registers, a node of no length. */
	start(&b, 2, 48), iommu_pci(&b, 0, 8), pci_range(&b, 0, 0, 0, 2, 1, 48), bad(&b);
	start(&b, 2, 48), iommu_pci(&b, 0, 8), pci_range(&b, 0, 2, 1, 0, 1, 48), bad(&b);
	start(&b, 2, 48), iommu_pci(&b, 0, 8), pci_range(&b, 0xffffff00, 0, 0, 0, 0x100, 48), bad(&b);
	start(&b, 1, 48), iommu_mmio(&b, 0), bad(&b);
	start(&b, 1, 48), iommu_mmio(&b, 0x1002), bad(&b);
	start(&b, 1, 48), put(&b, 7, 1), put_zeros(&b, 7), bad(&b);
	return host_done("viot");
}
