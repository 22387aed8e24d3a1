/* SPDX-License-Identifier: MIT */

/* Primary fault logging: VT-d 4.1, 7.3 and 11.4.14. */

#include "drivers/iommu/vtd/vtd.h"

#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"

static unsigned record(const struct vtd *v, unsigned i)
{
	return ((unsigned)FIELD_GET(CAP_FRO, v->cap) + i) * 16;
}

static unsigned record_count(const struct vtd *v)
{
	return (unsigned)FIELD_GET(CAP_NFR, v->cap) + 1;
}

/*
 * A page of the second stage that is not present has neither R nor W: it is reported as the permission
 * that is missing. The first stage knows the two apart.
 */
static enum iommu_reason reason(unsigned fr, bool write)
{
	switch (fr) {
	case FR_LRT_NOT_PRESENT:
	case FR_LCT_NOT_PRESENT:
	case FR_SRT_NOT_PRESENT:
	case FR_SCT_NOT_PRESENT:
	case FR_SPD_NOT_PRESENT:
	case FR_SPT_NOT_PRESENT:
		return IOMMU_FAULT_NO_DOMAIN;
	case FR_BEYOND_MGAW:
	case FR_SGN_CANONICAL:
	case FR_SGN_BEYOND:
	case FR_SGN_BEYOND_SS:
		return IOMMU_FAULT_ADDRESS_WIDTH;
	case FR_SFS_NOT_PRESENT:
		return IOMMU_FAULT_NOT_PRESENT;
	case FR_SSS_NO_RIGHT:
		return write ? IOMMU_FAULT_WRITE : IOMMU_FAULT_READ;
	case FR_NO_WRITE:
	case FR_SGN_NO_WRITE:
		return IOMMU_FAULT_WRITE;
	case FR_NO_READ:
	case FR_SGN_NO_READ:
	case FR_SGN_USER:
		return IOMMU_FAULT_READ;
	case FR_LCT_INVALID:
	case FR_TABLE_ACCESS:
	case FR_ROOT_ACCESS:
	case FR_CONTEXT_ACCESS:
	case FR_SRT_ACCESS:
	case FR_SCT_ACCESS:
	case FR_SCT_INVALID:
	case FR_SPD_ACCESS:
	case FR_SPT_ACCESS:
	case FR_SPT_INVALID:
	case FR_SFS_ACCESS:
	case FR_SFS_POINTER:
	case FR_SSS_ACCESS:
	case FR_SSS_POINTER:
		return IOMMU_FAULT_TABLE;
	case FR_ROOT_RSVD:
	case FR_CONTEXT_RSVD:
	case FR_PTE_RSVD:
	case FR_SRT_RSVD:
	case FR_SCT_RSVD:
	case FR_SPD_RSVD:
	case FR_SPT_RSVD:
	case FR_SFS_RSVD:
	case FR_SSS_RSVD:
		return IOMMU_FAULT_RESERVED_BITS;
	case FR_TRANSLATED_BLOCKED:
	case FR_SCT_NO_DTE:
	case FR_SCT_NO_PASIDE:
	case FR_SCT_PASID_LARGE:
	case FR_SCT_NO_PRE:
	case FR_SCT_RID_PASID:
	case FR_SGN_INTERRUPT:
		return IOMMU_FAULT_BLOCKED;
	case FR_IR_REQ_RSVD:
	case FR_IR_IRTE_RSVD:
		return IOMMU_FAULT_IR_RESERVED;
	case FR_IR_INDEX:
		return IOMMU_FAULT_IR_RANGE;
	case FR_IR_NOT_PRESENT:
		return IOMMU_FAULT_IR_NOT_PRESENT;
	case FR_IR_TABLE_ACCESS:
		return IOMMU_FAULT_IR_TABLE;
	case FR_IR_COMPAT:
		return IOMMU_FAULT_IR_COMPAT;
	case FR_IR_SID:
		return IOMMU_FAULT_IR_SOURCE;
	default:
		return IOMMU_FAULT_OTHER;
	}
}

/* F is the top bit of the record; written as a doubleword it touches nothing else. */
static void clear_record(struct vtd *v, unsigned i)
{
	vtd_w1c(v, record(v, i) + 12, (uint32_t)(FRCD_F >> 32));
}

int vtd_fault_pop(struct iommu *iommu, struct iommu_fault *f)
{
	struct vtd *v = vtd_of(iommu);
	const uint32_t fsts = vtd_r32(v, FSTS_REG);
	const unsigned n = record_count(v), first = FIELD_GET(FSTS_FRI, fsts);

	if (!(fsts & FSTS_PPF))
		return -EAGAIN;
	/* FRI names the oldest; what is behind it follows round the ring. */
	for (unsigned i = 0; i < n; i++) {
		const unsigned at = (first + i) % n;
		const uint64_t hi = vtd_r64(v, record(v, at) + 8);
		const uint64_t lo = vtd_r64(v, record(v, at));
		const unsigned fr = (unsigned)FIELD_GET(FRCD_FR, hi);

		if (!(hi & FRCD_F))
			continue;
		*f = (struct iommu_fault){
			.rid = {((uint32_t)iommu->desc.segment << 16) |
				(uint32_t)FIELD_GET(FRCD_SID, hi)},
			.reason = reason(fr, !(hi & (FRCD_T1 | FRCD_T2))),
			.raw_reason = fr,
			.interrupt = fr >= FR_IR_REQ_RSVD && fr <= 0x2f,
			.overflow = fsts & FSTS_PFO,
		};
		if (f->interrupt) {
			f->ir_index = (uint32_t)FIELD_GET(FRCD_IR_INDEX, lo);
		} else {
			f->iova = iova(lo & FRCD_FI);
			f->write = !(hi & (FRCD_T1 | FRCD_T2));
			f->has_pasid = hi & FRCD_PP;
			f->pasid = f->has_pasid ? (uint32_t)FIELD_GET(FRCD_PV, hi) : 0;
		}
		if (!SABOTAGE(vtd_fault_uncleared))
			clear_record(v, at);
		/* Nothing more is recorded while PFO stands. */
		if (fsts & FSTS_PFO)
			vtd_w1c(v, FSTS_REG, FSTS_PFO);
		return 0;
	}
	return -EAGAIN;
}

void vtd_fault_clear(struct iommu *iommu)
{
	struct vtd *v = vtd_of(iommu);

	for (unsigned i = 0; i < record_count(v); i++)
		clear_record(v, i);
	vtd_w1c(v, FSTS_REG, FSTS_W1C);
}

/*
 * 7.4: the unit interrupts when the first of its status bits comes up, and again after all were cleared.
 * Its message is not remapped.
 */
int vtd_fault_irq(struct iommu *iommu, const struct irq_route *route, const char **why)
{
	struct vtd *v = vtd_of(iommu);
	struct msi_msg msg;
	int r;

	vtd_w32(v, FECTL_REG, FECTL_IM);
	if (!route)
		return 0;
	r = msg_compat(route, &msg, why);
	if (r < 0)
		return r;
	vtd_w32(v, FEDATA_REG, msg.data);
	vtd_w32(v, FEADDR_REG, (uint32_t)msg.addr);
	vtd_w32(v, FEUADDR_REG, (uint32_t)(msg.addr >> 32));
	vtd_w32(v, FECTL_REG, 0);
	return 0;
}
