/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/amdvi/decode.h"

#include "drivers/iommu/amdvi/regs.h"

static uint32_t interrupt_index(uint64_t address)
{
	if (FIELD_GET(HT_INT_PREFIX, address) != HT_INT)
		return IR_INDEX_UNKNOWN;
	return (uint32_t)(FIELD_GET(HT_INT_MT, address) << 8 | FIELD_GET(HT_INT_VECTOR, address));
}

/* Without PR nothing was enabled there, or there is no such entry: the index tells. */
static enum iommu_reason interrupt_reason(uint64_t lo, uint32_t index)
{
	if (lo & EVENT_RZ)
		return IOMMU_FAULT_IR_RESERVED;
	if (lo & EVENT_PR)
		return IOMMU_FAULT_OTHER;
	return index != IR_INDEX_UNKNOWN && index >= BIT(AMDVI_IRT_LOG2) ? IOMMU_FAULT_IR_RANGE :
									   IOMMU_FAULT_IR_NOT_PRESENT;
}

/* Domain 0 is nobody's. An address past what the domain's tables reach is "not present" to the unit. */
static enum iommu_reason page_reason(uint64_t lo, uint64_t address, unsigned levels)
{

	if (lo & EVENT_RZ)
		return IOMMU_FAULT_RESERVED_BITS;
	if (!(lo & EVENT_GN) && FIELD_GET(EVENT_DOMAINID, lo) == 0)
		return IOMMU_FAULT_NO_DOMAIN;
	if (levels && levels < 6 && address >> (12 + 9 * levels))
		return IOMMU_FAULT_ADDRESS_WIDTH;
	if (!(lo & EVENT_PR))
		return IOMMU_FAULT_NOT_PRESENT;
	/* PE says "no permission", but there are units that never set it. */
	return lo & EVENT_RW ? IOMMU_FAULT_WRITE : IOMMU_FAULT_READ;
}

void amdvi_decode(uint64_t lo, uint64_t hi, unsigned (*levels)(const void *, uint16_t), const void *ctx,
		  struct iommu_fault *f)
{
	const unsigned code = (unsigned)FIELD_GET(EVENT_CODE, lo);

	/* raw_reason: code in 15:12, flags in 11:0, as Linux prints them. */
	*f = (struct iommu_fault){
		.rid = {(uint32_t)FIELD_GET(EVENT_DEVICEID, lo)},
		.iova = iova(hi),
		.reason = IOMMU_FAULT_OTHER,
		.raw_reason = (uint32_t)(lo >> 48),
	};
	switch (code) {
	case ILLEGAL_DEV_TABLE_ENTRY:
		f->reason = IOMMU_FAULT_RESERVED_BITS;
		break;
	case IO_PAGE_FAULT:
		f->reason = page_reason(lo, hi, levels(ctx, (uint16_t)FIELD_GET(EVENT_DOMAINID, lo)));
		break;
	case DEV_TAB_HARDWARE_ERROR:
	case PAGE_TAB_HARDWARE_ERROR:
		f->reason = IOMMU_FAULT_TABLE;
		break;
	case INVALID_DEVICE_REQUEST:
		f->reason = IOMMU_FAULT_BLOCKED;
		return;
	default: /* of commands, and what we do not switch on */
		return;
	}
	f->write = lo & EVENT_RW;
	f->has_pasid = code == IO_PAGE_FAULT && (lo & EVENT_GN);
	if (f->has_pasid)
		f->pasid = (uint32_t)(FIELD_GET(EVENT_PASID_HI, lo) << 16 | FIELD_GET(EVENT_DOMAINID, lo));
	f->interrupt = lo & EVENT_I;
	if (!f->interrupt)
		return;
	f->write = f->has_pasid = false;
	f->ir_index = interrupt_index(hi);
	f->iova = iova(0);
	if (code == IO_PAGE_FAULT)
		f->reason = interrupt_reason(lo, f->ir_index);
	else
		f->reason = code == ILLEGAL_DEV_TABLE_ENTRY ? IOMMU_FAULT_IR_RESERVED : IOMMU_FAULT_IR_TABLE;
}
