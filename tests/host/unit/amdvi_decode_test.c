/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/amdvi/decode.c
#include "drivers/iommu/amdvi/decode.h"
#include "tests/host/host.h"

/*
 * Event log entries, which no hypervisor at hand fills in as 48882 says. Those marked are what Linux has
 * printed of real units (flags are bits 59:48).
 */
static uint64_t event(unsigned code, unsigned device, unsigned domain, unsigned flags)
{
	return (uint64_t)code << 60 | (uint64_t)flags << 48 | (uint64_t)domain << 32 | device;
}

/* Domain 3 has tables of three levels, 6 of six, the others none. */
static unsigned levels(const void *ctx, uint16_t domain)
{
	CHECK(ctx == (const void *)&levels);
	return domain == 3 || domain == 6 ? domain : domain == 0x5e ? 4 : 0;
}

static struct iommu_fault decode(uint64_t lo, uint64_t hi)
{
	struct iommu_fault f;

	memset(&f, 0xaa, sizeof(f));
	amdvi_decode(lo, hi, levels, (const void *)&levels, &f);
	CHECK_EQ(f.raw_reason, lo >> 48);
	CHECK_EQ(f.rid.v, lo & 0xffff);
	CHECK(!f.overflow);
	return f;
}

enum { I = 8, PR = 0x10, RW = 0x20, PE = 0x40, RZ = 0x80, GN = 1 };

static void memory(unsigned domain, unsigned flags, uint64_t at, bool write, enum iommu_reason reason)
{
	const struct iommu_fault f = decode(event(2, 0x4200, domain, flags), at);

	CHECK_EQ(f.reason, reason);
	CHECK_EQ(f.iova.v, at);
	CHECK_EQ(f.write, write);
	CHECK(!f.interrupt && !f.has_pasid);
}

static void interrupt(unsigned code, unsigned flags, uint64_t at, uint32_t index, enum iommu_reason reason)
{
	const struct iommu_fault f = decode(event(code, 0x00a0, 0x5e, flags | I), at);

	CHECK_EQ(f.reason, reason);
	CHECK_EQ(f.ir_index, index);
	CHECK(f.interrupt && !f.write && !f.has_pasid);
}

int main(void)
{
	struct iommu_fault f;

	memory(3, 0, 0x1000, false, IOMMU_FAULT_NOT_PRESENT);             /* real: 0x0000 */
	memory(3, RW, 0x92050da0, true, IOMMU_FAULT_NOT_PRESENT);         /* real: 0x0020 */
	memory(3, PR | RW, 0x10000e000, true, IOMMU_FAULT_WRITE);         /* real: 0x0030, without PE */
	memory(3, PR | RW | PE, 0x10000e000, true, IOMMU_FAULT_WRITE);
	memory(3, PR | PE, 0x10000e000, false, IOMMU_FAULT_READ);
	memory(3, PR | RZ, 0x1000, false, IOMMU_FAULT_RESERVED_BITS);
	memory(0, 0, 0x1000, false, IOMMU_FAULT_NO_DOMAIN);
	memory(0, RW, 0xfdeaf000, true, IOMMU_FAULT_NO_DOMAIN);           /* real: domain 0x0000, 0x0020 */
	memory(3, RW, (1ull << 39) - 1, true, IOMMU_FAULT_NOT_PRESENT);
	memory(3, RW, 1ull << 39, true, IOMMU_FAULT_ADDRESS_WIDTH);
	memory(6, RW, -1ull, true, IOMMU_FAULT_NOT_PRESENT);
	memory(7, RW, -1ull, true, IOMMU_FAULT_NOT_PRESENT);

	interrupt(2, 0, 0xfffffffdf8030000, 3, IOMMU_FAULT_IR_NOT_PRESENT);   /* real */
	interrupt(2, 0, 0xfffffffdf8000000, 0, IOMMU_FAULT_IR_NOT_PRESENT);   /* real */
	interrupt(2, 0, 0xfdf8ff0000, 255, IOMMU_FAULT_IR_NOT_PRESENT);
	interrupt(2, 0, 0xfdf8000004, 256, IOMMU_FAULT_IR_RANGE);
	interrupt(2, 0, 0xfdf8ff0104, 511, IOMMU_FAULT_IR_RANGE);
	interrupt(2, 0, 0xfee00000, IR_INDEX_UNKNOWN, IOMMU_FAULT_IR_NOT_PRESENT);
	interrupt(2, PR | RZ, 0xfdf8010000, 1, IOMMU_FAULT_IR_RESERVED);
	interrupt(2, PR, 0xfdf8010000, 1, IOMMU_FAULT_OTHER);
	interrupt(1, 0, 0xfffffffdf8140000, 0x14, IOMMU_FAULT_IR_RESERVED);   /* real */
	interrupt(3, 0, 0xfdf8010000, 1, IOMMU_FAULT_IR_TABLE);
	interrupt(2, RW, 0xfdf8010000, 1, IOMMU_FAULT_IR_NOT_PRESENT);

	f = decode(event(2, 0x4200, 0x2345, GN | RW) | 1ull << 16, 0x5000);
	CHECK(f.has_pasid && f.pasid == 0x12345 && f.write && f.reason == IOMMU_FAULT_NOT_PRESENT);
	CHECK_EQ(decode(event(1, 0x4200, 0, RW), 0x5000).reason, IOMMU_FAULT_RESERVED_BITS);
	CHECK_EQ(decode(event(3, 0x4200, 0, 0), 0x5000).reason, IOMMU_FAULT_TABLE);
	CHECK_EQ(decode(event(4, 0x4200, 3, 0), 0x5000).reason, IOMMU_FAULT_TABLE);
	f = decode(event(8, 0x0001, 0, 0xa00), 0xfffffffdf8140200);            /* real */
	CHECK(f.reason == IOMMU_FAULT_BLOCKED && !f.interrupt && f.iova.v == 0xfffffffdf8140200);
	for (unsigned code = 5; code < 16; code++) {
		f = decode(event(code, 0, 0, 0), 0x1230);
		CHECK_EQ(f.reason, code == 8 ? IOMMU_FAULT_BLOCKED : IOMMU_FAULT_OTHER);
		CHECK(!f.interrupt && !f.write && !f.has_pasid && f.iova.v == 0x1230);
	}
	return host_done("amdvi_decode");
}
