/* SPDX-License-Identifier: MIT */

/* Entries made wrong on purpose: of paging structures (VT-d 9.7, 9.8; AMD 48882, 2.2.3). For a test, and its end. */

#include "drivers/iommu/pgtable/spoil.h"

#include "kernel/lib/bits.h"

#define TOP 0u                         /* the highest level */

struct way {
	const char *what;
	unsigned level;
	uint64_t flip;
	enum iommu_reason reason;
};

/* Bit 51 is above every machine's memory that plumb has met; where it is not, it is no fault of theirs. */
static const struct way vtd[] = {
	{"a leaf with reserved bit 51 set", 1, BIT64(51), IOMMU_FAULT_RESERVED_BITS},
	{"an entry of level 2 with reserved bit 51 set", 2, BIT64(51), IOMMU_FAULT_RESERVED_BITS},
	{"an entry of level 3 with reserved bit 51 set", 3, BIT64(51), IOMMU_FAULT_RESERVED_BITS},
	{"an entry of the highest level that is a leaf (PS)", TOP, BIT64(7), IOMMU_FAULT_RESERVED_BITS},
};

/*
 * A level may be skipped where the address has zeros for it: where it has not, there is no page. An entry
 * can lead to none but a lower level.
 */
static const struct way amd[] = {
	{"a leaf with reserved bit 52 set", 1, BIT64(52), IOMMU_FAULT_RESERVED_BITS},
	{"a leaf that permits nothing (IR=IW=0)", 1, BIT64(61) | BIT64(62), IOMMU_FAULT_WRITE},
	{"an entry of level 1 that leads to a table (Next Level 1)", 1, BIT64(9), IOMMU_FAULT_RESERVED_BITS},
	{"an entry of level 2 with reserved bit 52 set", 2, BIT64(52), IOMMU_FAULT_RESERVED_BITS},
	{"an entry of level 2 that leads upwards (Next Level 3)", 2, BIT64(10), IOMMU_FAULT_RESERVED_BITS},
	{"an entry of level 3 that skips a level (Next Level 1)", 3, BIT64(9) | BIT64(10), IOMMU_FAULT_NOT_PRESENT},
};

const char *pgt_spoil(const struct pgt *t, uint64_t iova, unsigned n, enum iommu_reason *reason)
{
	const bool is_amd = t->format == PGT_AMD_V1;
	const struct way *way = is_amd ? &amd[n] : &vtd[n];
	uint64_t *entry;

	if (n >= (is_amd ? ARRAY_SIZE(amd) : ARRAY_SIZE(vtd)))
		return NULL;
	/* Of three levels the highest may be a leaf. */
	if (way->level == TOP && t->levels < 4)
		return NULL;
	entry = pgt_entry(t, iova, way->level == TOP ? t->levels : way->level);
	if (!entry)
		return NULL;
	__atomic_store_n(entry, *entry ^ way->flip, __ATOMIC_RELEASE);
	if (t->flush)
		t->flush(t->ctx, entry, sizeof(*entry));
	*reason = way->reason;
	return way->what;
}
