/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

/* No two levels have the same index there, so that a walk that goes astray finds nothing. */
#define ASTRAY (5ull << 30 | 3ull << 21 | 9ull << 12)

/* page: the n-th way of spoiling what leads there, which mends it too; else the requester's entries are wrong. */
static void one_way(struct t *t, struct dma_space *s, struct dma_target *g, size_t len, const char *what,
		    enum iommu_reason want, bool page, unsigned n)
{
	enum iommu_reason again;
	struct iommu_fault f;

	dma_target_fill(g, 1300);
	dma_faults_clear(s);
	dma_try(s, DMA_WRITE, g->iova, len);
	dma_expect_untouched(g, what);
	if (EXPECT_MSG(t, iommu_fault_wait(s->iommu, &f, MS(100)) == 0, "%s, %s: fault: got none recorded, expected %s",
		       s->name, what, iommu_reason_name(want))) {
		EXPECT_MSG(t, f.rid.v == s->ex->rid.v, "%s, %s: fault's source: got " PRIRID ", expected " PRIRID,
			   s->name, what, RIDARG(f.rid), RIDARG(s->ex->rid));
		EXPECT_MSG(t, f.reason == want, "%s, %s: fault's reason: got %s (0x%x), expected %s", s->name, what,
			   iommu_reason_name(f.reason), f.raw_reason, iommu_reason_name(want));
	}
	if (page) {
		EXPECT_MSG(t, s->iommu->ops->spoil_page(&s->domain, g->iova, n, &again), "%s, %s: it cannot be mended", s->name,
			   what);
	} else {
		REQUIRE_OK(t, dma_space_detach(s));
		REQUIRE_OK(t, dma_space_attach(s));
	}
	dma_faults_clear(s);
	REQUIRE_OK(t, dma_load(s, 80, len));
	EXPECT_OK(t, dma_write(g, 0, len));
	dma_expect_written(g, 0, len, "after it was put right");
	dma_expect_no_fault(s, "after it was put right");
}

/*
 * An entry that is wrong lets nothing through, and the fault says in which way it is wrong.
 *
 * VT-d 9.3 to 9.6, chapter 7 (LCT.3, LCT.5, SCT.3, SPD.2, SPT.2, SPT.4): reserved bits, depths and translation
 * types that there are not, and in scalable mode a PASID's directory and entry that are not present. AMD 48882,
 * 2.2.2.1, 2.5.2 (ILLEGAL_DEV_TABLE_ENTRY). Then the entries that lead to a page, level by level: VT-d 9.7, 9.8
 * (LGN.1.2, SFS.3, SSS.3), AMD 2.2.3, 2.5.3 (IO_PAGE_FAULT with RZ): reserved bits, leaves where there are none,
 * Next Levels that do not go down. A hypervisor that does not look at one of these takes a driver's mistake for
 * a translation. Put right, the device works again.
 */
TEST(iommu, bad_entry, "a malformed entry, of a device or a page, blocks it and is reported as what it is",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		enum iommu_reason reason = IOMMU_FAULT_NONE;
		struct dma_space *s;
		struct dma_target *g;
		const char *what;

		if (!iommu_of(ex->dev)->ops->spoil)
			continue;
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			continue;
		g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		REQUIRE_OK(t, dma_load(s, 79, len));
		ASSERT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "as it should be");
		for (unsigned n = 0; (what = s->iommu->ops->spoil(s->iommu, ex->rid, n, &reason)) != NULL; n++)
			one_way(t, s, g, len, what, reason, false, n);
		if (ex->dma_mask >> DMA_FAR_BITS) {
			g = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, dma_far(s, DMA_FAR_BITS) + ASTRAY, 0);
			for (unsigned n = 0; (what = s->iommu->ops->spoil_page(&s->domain, g->iova, n, &reason)) != NULL; n++)
				one_way(t, s, g, len, what, reason, true, n);
		}
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no unit whose entries we know to make wrong (VT-d, AMD-Vi)");
}
