/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

static void tell(struct dma_space *s)
{
	test_finding(s->t, "PLB082", "QEMU's virtio-iommu (10.0, 11.1) looks up the byte and the one after it",
		     "leave an unused page in front of what another owner's buffers are mapped to",
		     "one byte written at the address before a mapping, which is not mapped, arrived",
		     "%s reaches the byte in front of the memory that is mapped for it", s->name);
}

/* One byte, at an offset in a target of which the middle page is mapped. */
static bool blocked(struct dma_space *s, struct dma_target *g, size_t off, const char *what)
{
	const iova_t at = iova(g->iova.v + off);
	bool ok;

	dma_faults_clear(s);
	dma_try(s, DMA_WRITE, at, 1);
	ok = dma_expect_untouched(g, what);
	dma_expect_fault(s, DMA_WRITE, at, 1, IOMMU_FAULT_NOT_PRESENT, what);
	dma_faults_clear(s);
	return ok;
}

/*
 * A mapping ends where it ends: its first and last byte are reached, the bytes before and after are not.
 *
 * VT-d 3.7, AMD 48882 2.2.3: a page at a time; VIRTIO 1.2, 5.13.6.4: from virt_start to virt_end, both
 * included, so that a unit that looks ranges up can be one byte off at either end. The frames beside the
 * mapped one are the target's: a transfer that takes the mapping for longer than it is lands there.
 */
TEST(iommu, edges, "the first and last byte of a mapping are reached, the bytes beside it are not",
     NEED_IOMMU_TRANSLATION)
{
	const char *why = "";

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE | EX_DMA_ANY_LEN) {
		struct dma_space *s = ex->dma_min == 1 ? dma_space_open(t, ex, DMA_TRANSLATED, &why) : NULL;
		struct dma_target *g;

		if (!s)
			continue;
		g = dma_target_alloc(s, 3 * PAGE_SIZE);
		REQUIRE_OK(t, iommu_map(&s->domain, iova(g->iova.v + PAGE_SIZE), gpa(g->pa.v + PAGE_SIZE), PAGE_SIZE,
					IOMMU_RW));
		REQUIRE_OK(t, dma_load(s, 90, 1));
		ASSERT_OK(t, dma_write(g, PAGE_SIZE, 1));
		dma_expect_written(g, PAGE_SIZE, 1, "its first byte");
		dma_target_fill(g, 960);
		ASSERT_OK(t, dma_write(g, 2 * PAGE_SIZE - 1, 1));
		dma_expect_written(g, 2 * PAGE_SIZE - 1, 1, "its last byte");
		dma_expect_no_fault(s, "within");

		dma_target_fill(g, 961);
		if (!blocked(s, g, PAGE_SIZE - 1, "the byte before"))
			tell(s);
		dma_target_fill(g, 962);
		blocked(s, g, 2 * PAGE_SIZE, "the byte after");
		REQUIRE_OK(t, iommu_unmap_sync(&s->domain, iova(g->iova.v + PAGE_SIZE), PAGE_SIZE));
		return;
	}
	test_skip(t, "no device under test that writes single bytes behind an IOMMU");
}
