/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/virtio/decode.c
#include "drivers/iommu/virtio/decode.h"
#include "drivers/iommu/virtio/regs.h"
#include "kernel/lib/err.h"
#include "tests/host/host.h"

static uint8_t buf[512];
static size_t used;

static void put(uint64_t v, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		buf[used++] = (uint8_t)(v >> (8 * i));
}
static void head(unsigned type, unsigned len) { put(type, 2), put(len, 2); }
static void resv(unsigned subtype, uint64_t first, uint64_t last)
{
	head(VIRTIO_IOMMU_PROBE_T_RESV_MEM, 20), put(subtype, 1), put(0x123456, 3), put(first, 8), put(last, 8);
}
static void clear(void)
{
	memset(buf, 0, sizeof(buf));
	used = 0;
}

/* In a block of just that size, so that ASan sees a byte too far. */
static unsigned regions(size_t n, struct iommu_region *out, unsigned max, const char **why)
{
	uint8_t *copy = malloc(n ? n : 1);
	unsigned r;

	memcpy(copy, buf, n);
	*why = NULL;
	r = viommu_regions(copy, n, out, max, why);
	free(copy);
	return r;
}

static void properties(void)
{
	struct iommu_region g[3];
	const char *why;
	size_t all;

	/* One of messages, a type to come, one whose reserved bits are set, one of a subtype to come. */
	clear();
	resv(VIRTIO_IOMMU_RESV_T_MSI, 0xfee00000, 0xfeefffff);
	head(7, 5), put(0x1122334455, 5);
	head(0x8000 | VIRTIO_IOMMU_PROBE_T_RESV_MEM, 20), put(0, 4), put(1, 8), put(2, 8);
	resv(9, 0, ~0ull);
	all = used;
	CHECK_EQ(regions(sizeof(buf), g, 3, &why), 2);
	CHECK(!why && g[0].messages && g[0].first == 0xfee00000 && g[0].last == 0xfeefffff);
	CHECK(!g[1].messages && g[1].first == 0 && g[1].last == ~0ull);
	/* Up to the last byte of the buffer, without the empty property. */
	CHECK_EQ(regions(all, g, 3, &why), 2);
	CHECK(!why);
	for (size_t n = 0; n < all; n++)
		CHECK(regions(n, g, 3, &why) <= 1);
	/* More than there is room for are counted. */
	CHECK_EQ(regions(all, g, 1, &why), 2);

	clear();
	resv(0, 2, 1);
	CHECK(regions(sizeof(buf), g, 3, &why) == 0 && why);
	clear();
	head(VIRTIO_IOMMU_PROBE_T_RESV_MEM, 12), put(0, 4), put(5, 8);
	CHECK(regions(sizeof(buf), g, 3, &why) == 0 && why);
	clear();
	head(3, 0xffff);
	CHECK(regions(sizeof(buf), g, 3, &why) == 0 && why);
}

static bool fault(uint32_t first, uint32_t flags, uint32_t endpoint, uint64_t address, size_t n, struct iommu_fault *f)
{
	uint32_t id = 0;
	bool r;

	clear();
	put(first, 4), put(flags, 4), put(endpoint, 4), put(0xffffffff, 4), put(address, 8);
	r = viommu_fault(buf, n, (1ull << 39) - 1, f, &id);
	CHECK(!r || id == endpoint);
	return r;
}

static void faults(void)
{
	const uint32_t at = VIRTIO_IOMMU_FAULT_F_ADDRESS, w = VIRTIO_IOMMU_FAULT_F_WRITE, r = VIRTIO_IOMMU_FAULT_F_READ;
	struct iommu_fault f;

	/* Too short, and with reserved bits: to be ignored. */
	CHECK(!fault(2, at, 8, 0x1000, VIRTIO_IOMMU_FAULT_SIZE - 1, &f));
	CHECK(!fault(0x102, at, 8, 0x1000, VIRTIO_IOMMU_FAULT_SIZE, &f));
	CHECK(fault(2, at, 8, 0x1000, VIRTIO_IOMMU_FAULT_SIZE, &f));
	CHECK(f.reason == IOMMU_FAULT_NOT_PRESENT && f.iova.v == 0x1000 && f.no_direction && !f.interrupt && !f.overflow);
	CHECK(fault(2, at | w, 8, 0x1000, 24, &f) && f.reason == IOMMU_FAULT_WRITE && f.write && !f.no_direction);
	CHECK(fault(2, at | r, 8, 0x1000, 24, &f) && f.reason == IOMMU_FAULT_READ && !f.write && !f.no_direction);
	CHECK(fault(2, at, 8, 1ull << 39, 24, &f) && f.reason == IOMMU_FAULT_ADDRESS_WIDTH);
	/* Without F_ADDRESS the address says nothing. */
	CHECK(fault(2, 0, 8, 1ull << 39, 24, &f) && f.reason == IOMMU_FAULT_NOT_PRESENT && f.iova.v == 0);
	CHECK(fault(1, at, 8, 0x1000, 24, &f) && f.reason == IOMMU_FAULT_NO_DOMAIN);
	CHECK(fault(0, at, 8, 0x1000, 24, &f) && f.reason == IOMMU_FAULT_OTHER);
	CHECK(fault(77, at | 0xfe00, 8, 0x1000, 24, &f) && f.reason == IOMMU_FAULT_OTHER);
}

int main(void)
{
	properties();
	faults();
	return host_done("viommu decode");
}
