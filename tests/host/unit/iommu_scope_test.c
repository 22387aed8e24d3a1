/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/entries.c drivers/iommu/iommu.c drivers/iommu/scope.c drivers/pci/alias.c kernel/acpi/dmar.c kernel/acpi/table.c kernel/lib/crc.c
#include "drivers/iommu/amdvi/amdvi.h"
#include "drivers/iommu/virtio/viommu.h"
#include "drivers/iommu/vtd/vtd.h"
#include "kernel/lib/err.h"
#include "tests/host/unit/acpi_bytes.h"

/*
 * Whose DMAR structures are whose, on a made-up machine of two segments: several units, a switch, a bridge to
 * conventional PCI, reserved memory for functions of each kind, and root ports that let ATS pass or do not.
 */
static struct pci_dev gpu, port, up, down, deep, other_port, other, bridge, conventional, seg1_gpu, seg1_port, seg1_dev;
struct pci_dev *pci_devs;

struct pci_dev *pci_find(pci_rid_t rid)
{
	FOR_EACH_PCI(d)
		if (d->rid.v == rid.v)
			return d;
	return NULL;
}

static void add(struct pci_dev *d, unsigned segment, pci_rid_t rid, struct pci_dev *parent, enum pci_port kind,
		unsigned secondary)
{
	*d = (struct pci_dev){.rid = {(uint32_t)segment << 16 | rid.v}, .parent = parent, .port = kind,
			      .is_bridge = secondary != 0, .secondary = (uint8_t)secondary, .next = pci_devs};
	pci_devs = d;
}

static void machine(void)
{
	add(&gpu, 0, pci_rid(0, 2, 0), NULL, PCI_PORT_NONE, 0);
	add(&port, 0, pci_rid(0, 0x1c, 0), NULL, PCI_PORT_ROOT, 1);
	add(&up, 0, pci_rid(1, 0, 0), &port, PCI_PORT_UPSTREAM, 2);
	add(&down, 0, pci_rid(2, 1, 0), &up, PCI_PORT_DOWNSTREAM, 3);
	add(&deep, 0, pci_rid(3, 0, 0), &down, PCI_PORT_NONE, 0);
	add(&other_port, 0, pci_rid(0, 0x1d, 0), NULL, PCI_PORT_ROOT, 4);
	add(&other, 0, pci_rid(4, 0, 0), &other_port, PCI_PORT_NONE, 0);
	add(&bridge, 0, pci_rid(0, 0x1e, 0), NULL, PCI_PORT_TO_PCI, 5);
	add(&conventional, 0, pci_rid(5, 3, 0), &bridge, PCI_PORT_NONE, 0);
	/* The same numbers in another segment. */
	add(&seg1_gpu, 1, pci_rid(0, 2, 0), NULL, PCI_PORT_NONE, 0);
	add(&seg1_port, 1, pci_rid(0, 0x1d, 0), NULL, PCI_PORT_ROOT, 1);
	add(&seg1_dev, 1, pci_rid(1, 0, 0), &seg1_port, PCI_PORT_NONE, 0);
}

/* A structure with its fixed part put; its length is mended by each scope. */
static void scope(struct bytes *b, size_t in, unsigned type, unsigned bus, unsigned len, uint64_t pairs)
{
	put(b, type, 1), put(b, 6 + 2 * len, 1), put(b, 0, 2), put(b, 0, 1), put(b, bus, 1);
	for (unsigned i = len; i-- > 0;)
		put(b, pairs >> (16 * i + 8), 1), put(b, pairs >> (16 * i), 1);
	b->p[in + 2] = (uint8_t)(b->n - in);
	b->p[in + 3] = (uint8_t)((b->n - in) >> 8);
}
static size_t drhd(struct bytes *b, unsigned flags, unsigned segment, uint64_t base)
{
	const size_t at = b->n;

	put(b, 0, 2), put(b, 16, 2), put(b, flags, 1), put(b, 0, 1), put(b, segment, 2), put(b, base, 8);
	return at;
}
static size_t rmrr(struct bytes *b, unsigned segment, uint64_t base, uint64_t limit)
{
	const size_t at = b->n;

	put(b, 1, 2), put(b, 24, 2), put(b, 0, 2), put(b, segment, 2), put(b, base, 8), put(b, limit, 8);
	return at;
}
static size_t atsr(struct bytes *b, unsigned flags, unsigned segment)
{
	const size_t at = b->n;

	put(b, 2, 2), put(b, 8, 2), put(b, flags, 1), put(b, 0, 1), put(b, segment, 2);
	return at;
}

enum { ENDPOINT = 1, BRIDGE = 2 };

static void tables(struct bytes *b)
{
	begin(b, "DMAR");
	put(b, 47, 1), put(b, 0, 1), put_zeros(b, 10);
	scope(b, drhd(b, 0, 0, 0xfed90000), ENDPOINT, 0, 1, 0x0200);
	scope(b, drhd(b, 0, 0, 0xfed91000), BRIDGE, 0, 1, 0x1c00);
	scope(b, drhd(b, 0, 0, 0xfed92000), BRIDGE, 0, 1, 0x1e00);
	drhd(b, 1, 0, 0xfed93000);
	drhd(b, 1, 1, 0xfed94000);
	scope(b, rmrr(b, 0, 0x7b800000, 0x7fffffff), ENDPOINT, 0, 1, 0x0200);
	scope(b, rmrr(b, 0, 0x10000, 0x1ffff), ENDPOINT, 0, 4, 0x1c00000001000000);
	scope(b, rmrr(b, 0, 0x20000, 0x2ffff), ENDPOINT, 0, 2, 0x1e000300);
	scope(b, rmrr(b, 1, 0x30000, 0x3ffff), ENDPOINT, 0, 1, 0x0200);
	scope(b, rmrr(b, 0, 0x40000, 0x4ffff), ENDPOINT, 0, 2, 0x05000300); /* no bridge at 00:05.0 */
	scope(b, atsr(b, 0, 0), BRIDGE, 0, 1, 0x1c00);
	atsr(b, 1, 1);
	seal(b);
}

static const struct dmar *parse(void)
{
	static struct bytes b;
	static struct dmar d;
	struct acpi_error err;

	tables(&b);
	CHECK_EQ(dmar_parse(b.p, b.n, &d, &err), 0);
	CHECK(d.unit_count == 5 && d.rmrr_count == 5 && d.atsr_count == 2 && d.dropped == 0);
	return &d;
}

/* Bit n: unit n names it, as itself or as what is behind a bridge that it names. */
static unsigned units(const struct dmar *d, const struct pci_dev *dev)
{
	unsigned bits = 0;

	for (uint32_t i = 0; i < d->unit_count; i++)
		bits |= (unsigned)dmar_unit_names(&d->unit[i], dev) << i;
	return bits;
}

static unsigned reserved(const struct dmar *d, pci_rid_t rid)
{
	unsigned bits = 0;

	for (uint32_t i = 0; i < d->rmrr_count; i++)
		bits |= (unsigned)dmar_reserved_for(d, i, rid) << i;
	return bits;
}

/* Which unit the driver takes for whose: what a scope names before INCLUDE_PCI_ALL, and never across segments. */
static int probe(struct iommu *u, const struct iommu_desc *d) { (void)u, (void)d; return 0; }
const struct iommu_ops vtd_ops = {.name = "vtd", .probe = probe}, amdvi_ops = {.name = "amdvi", .probe = probe},
		       viommu_ops = {.name = "viommu", .probe = probe};
struct acpi acpi;
bool amdvi_covers(const struct iommu *u, const struct pci_dev *d) { (void)u, (void)d; return false; }
bool amdvi_covers_ioapic(const struct iommu *u, uint8_t id, pci_rid_t *s) { (void)u, (void)id, (void)s; return false; }
bool viommu_covers(const struct iommu *u, const struct pci_dev *d) { (void)u, (void)d; return false; }
struct pci_dev *viommu_nth(unsigned n) { (void)n; return NULL; }
bool deadline_passed(struct deadline d) { (void)d; return true; }
void cpu_relax(void) {}
uint64_t ns_to_tsc(uint64_t ns) { return ns; }

static unsigned unit_of(const struct pci_dev *d)
{
	const struct iommu *u = iommu_of(d);

	return u ? (unsigned)(u - iommus) : 99;
}

static void test_units(const struct dmar *d)
{
	acpi.has_dmar = true;
	acpi.dmar = *d;
	iommu_init();
	CHECK_EQ(iommu_count, 5);
	CHECK_EQ(unit_of(&gpu), 0);
	CHECK_EQ(unit_of(&deep), 1);
	CHECK_EQ(unit_of(&conventional), 2);
	CHECK_EQ(unit_of(&other), 3);
	CHECK_EQ(unit_of(&other_port), 3);
	CHECK_EQ(unit_of(&seg1_gpu), 4);
	CHECK_EQ(unit_of(&seg1_dev), 4);
	/* Without the one that takes the rest, nobody does. */
	acpi.dmar.unit[3].include_pci_all = false;
	CHECK_EQ(unit_of(&other), 99);
	CHECK_EQ(unit_of(&gpu), 0);
}

/* Blocks of entries: aligned, whole, and not over the end. */
static void blocks(void)
{
	uint64_t used[2] = {0x0100000000000001ull, ~0ull >> 1};

	CHECK(iommu_free_entries(used, 128, 1) == 1);
	CHECK(iommu_free_entries(used, 128, 2) == 2);
	CHECK(iommu_free_entries(used, 128, 32) == -ENOSPC); /* 0 and 56 are used */
	CHECK(iommu_free_entries(used, 128, 16) == 16);
	used[0] |= 0xffffffffffffull;
	CHECK(iommu_free_entries(used, 128, 8) == 48);
	CHECK(iommu_free_entries(used, 128, 16) == -ENOSPC);
	used[0] = ~0ull;
	CHECK(iommu_free_entries(used, 128, 1) == 127);
	CHECK(iommu_free_entries(used, 128, 2) == -ENOSPC);
	CHECK(iommu_free_entries(used, 64, 1) == -ENOSPC);
}

int main(void)
{
	const struct dmar *d;

	machine();
	d = parse();
	test_units(d);
	CHECK_EQ(units(d, &gpu), 1);
	CHECK_EQ(units(d, &port), 2);
	CHECK_EQ(units(d, &up), 2);
	CHECK_EQ(units(d, &deep), 2);
	CHECK_EQ(units(d, &bridge), 4);
	CHECK_EQ(units(d, &conventional), 4);
	CHECK_EQ(units(d, &other), 0);       /* the one of INCLUDE_PCI_ALL's */
	CHECK_EQ(units(d, &seg1_gpu), 0);    /* not segment 0's unit, which names that number */
	CHECK_EQ(units(d, &seg1_dev), 0);

	CHECK_EQ(reserved(d, gpu.rid), 1);
	CHECK_EQ(reserved(d, deep.rid), 2);
	CHECK_EQ(reserved(d, down.rid), 0);
	/* The unit sees it under the bridge's secondary bus, and under that ID it must reach its memory. */
	CHECK_EQ(reserved(d, pci_requester_id(&conventional)), 4);
	CHECK_EQ(reserved(d, conventional.rid), 0);
	CHECK_EQ(reserved(d, seg1_gpu.rid), 8);
	CHECK_EQ(reserved(d, other.rid), 0);

	CHECK(dmar_ats_allowed(d, &gpu));    /* integrated: there is no port */
	CHECK(dmar_ats_allowed(d, &deep));
	CHECK(!dmar_ats_allowed(d, &other));
	CHECK(!dmar_ats_allowed(d, &conventional));
	CHECK(dmar_ats_allowed(d, &seg1_dev));
	blocks();
	return host_done("iommu_scope");
}
