/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

/*
 * Between an unmap and its invalidation: what does the device reach?
 *
 * VT-d 6.1, 6.5: the unit may use the old translation or the new table, and both are right, so that it is
 * told and not judged. A unit, or a hypervisor that shadows our tables, that keeps nothing hides a driver's
 * missing invalidation: what passes there may fail elsewhere. Judged is what neither may do: to put the
 * bytes anywhere else, and to use the old translation once the invalidation is complete.
 */
TEST(iommu, stale, "between unmap and sync the old page or none is reached (told which), after the sync none",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		struct sync_range range;
		struct dma_target *g;
		uint8_t before;
		bool used;

		if (!s)
			continue;
		g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		REQUIRE_OK(t, dma_load(s, 50, len));
		ASSERT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "mapped");

		dma_target_fill(g, 900);
		before = g->va[0];
		ASSERT_OK(t, dma_target_unmap(g));
		dma_try(s, DMA_WRITE, g->iova, len);
		/* Every byte that a device writes differs from what was there. */
		used = g->va[0] != before;
		if (used)
			dma_expect_written(g, 0, len, "unmapped, not synchronised");
		else
			dma_expect_untouched(g, "unmapped, not synchronised");
		test_note(t, "%s: between unmap and sync the old translation was %s", s->name,
			  used ? "used" : "not used: a forgotten invalidation would not show here");

		range = (struct sync_range){.iova = g->iova, .size = g->size};
		ASSERT_OK(t, s->iommu->ops->sync(&s->domain, &range, deadline_in(SEC(1))));
		dma_target_fill(g, 901);
		dma_faults_clear(s);
		dma_try(s, DMA_WRITE, g->iova, len);
		dma_expect_untouched(g, "synchronised");
		dma_expect_fault(s, DMA_WRITE, g->iova, len, IOMMU_FAULT_NOT_PRESENT, "synchronised");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU");
}
