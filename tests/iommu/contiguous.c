/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

#define NATURAL  (PAGE_SIZE | 2u << 20 | 1u << 30)
#define OWN_MAX  (1u << 16)            /* larger leaves take in memory that is not the test's */

static int write_at(struct dma_space *s, uint64_t at, size_t len)
{
	struct dma_job job = {.space = s, .dir = DMA_WRITE, .addr = {at}, .len = len};

	dma_run(&job, 1);
	return job.result;
}

/* A leaf over memory of its own: its first and its last bytes are reached, and nothing else is. */
static void own_leaf(struct t *t, struct dma_space *s, uint64_t at, uint64_t size, size_t len)
{
	struct dma_target *g = dma_target_map_at(s, size, IOMMU_RW, at, size);
	const size_t step = MAX(s->ex->dma_addr_align, (size_t)1), end = align_down(size - len, step);

	EXPECT_OK(t, dma_write(g, 0, len));
	dma_expect_written(g, 0, len, "at the beginning of a leaf");
	dma_target_fill(g, 800);
	EXPECT_OK(t, dma_write(g, end, len));
	dma_expect_written(g, end, len, "at the end of a leaf");
	dma_expect_no_fault(s, "leaves");
	dma_target_fill(g, 801);
	ASSERT_OK(t, dma_target_unmap_sync(g));
	dma_try(s, DMA_WRITE, iova(at + end), len);
	dma_expect_untouched(g, "through a leaf that is gone");
	dma_expect_fault(s, DMA_WRITE, iova(at + end), len, IOMMU_FAULT_NOT_PRESENT, "through a leaf that is gone");
	dma_faults_clear(s);
	dma_target_free(g);
}

/* A leaf over all that lies round a page: the page is reached at its place in it. */
static void window_leaf(struct t *t, struct dma_space *s, uint64_t at, uint64_t size, size_t len)
{
	struct dma_target *g = dma_target_alloc(s, PAGE_SIZE);
	const uint64_t base = align_down(g->pa.v, size), where = at + (g->pa.v - base);

	REQUIRE_OK(t, s->iommu->ops->map(&s->domain, iova(at), gpa(base), size, IOMMU_RW, size));
	EXPECT_OK(t, write_at(s, where, len));
	dma_expect_written(g, 0, len, "through a leaf");
	dma_expect_no_fault(s, "leaves");
	dma_target_fill(g, 802);
	REQUIRE_OK(t, iommu_unmap_sync(&s->domain, iova(at), size));
	dma_try(s, DMA_WRITE, iova(where), len);
	dma_expect_untouched(g, "through a leaf that is gone");
	dma_expect_fault(s, DMA_WRITE, iova(where), len, IOMMU_FAULT_NOT_PRESENT, "through a leaf that is gone");
	dma_faults_clear(s);
	dma_target_free(g);
}

/*
 * Leaves of the sizes between the natural ones.
 *
 * 48882, 2.2.3 (Next Level 7): 2 to 256 equal entries in a row make one leaf of 8 KiB to 1 MiB, or of
 * 4 to 512 MiB, and its address holds the size too. A walker that takes an entry for a page of its level
 * goes to an address with the size's bits in it; one that caches less than the leaf, or invalidates less,
 * leaves some of it reachable.
 */
TEST(iommu, contiguous, "leaves of 8 KiB to 1 MiB and 4 to 512 MiB work, each to its size", NEED_IOMMU_TRANSLATION)
{
	/* To fill and to look at that much takes minutes where every instruction is emulated. */
	const uint64_t own_max = kvm_emulates() ? 0 : OWN_MAX;
	unsigned devices = 0;
	const char *why = "";

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_space *s;
		uint64_t at;

		if (!(iommu_of(ex->dev)->caps.page_sizes & ~(uint64_t)NATURAL)) {
			why = ": its unit has no leaves but 4 KiB, 2 MiB and 1 GiB";
			continue;
		}
		if (!(ex->dma_mask >> DMA_FAR_BITS))
			continue;
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			continue;
		at = dma_far(s, DMA_FAR_BITS);
		REQUIRE_OK(t, dma_load(s, 24, len));
		for (uint64_t size = 2 * PAGE_SIZE; size <= 1u << 29; size *= 2, at += 1u << 30) {
			if ((size & NATURAL) || !(s->iommu->caps.page_sizes & size))
				continue;
			if (size <= own_max)
				own_leaf(t, s, at, size, len);
			else
				window_leaf(t, s, at, size, len);
		}
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that could use such leaves%s", why);
}
