/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

/* The first two behind one unit, fast ones before slow ones. */
static bool find_pair(struct t *t, struct exerciser *pair[2])
{
	for (int slow = 0; slow < 2; slow++) {
		for (struct exerciser *a = dma_next_exerciser(t, NULL, EX_DMA_WRITE, slow); a;
		     a = dma_next_exerciser(t, a, EX_DMA_WRITE, slow)) {
			for (struct exerciser *b = dma_next_exerciser(t, a, EX_DMA_WRITE, slow); b;
			     b = dma_next_exerciser(t, b, EX_DMA_WRITE, slow)) {
				/* Behind one bridge alias they are one requester, and cannot be told apart. */
				if (iommu_of(a->dev) == iommu_of(b->dev) && a->rid.v != b->rid.v) {
					pair[0] = a;
					pair[1] = b;
					return true;
				}
			}
		}
	}
	return false;
}

static void load_both(struct t *t, struct dma_space *a, struct dma_space *b, size_t len, uint32_t seed)
{
	REQUIRE_OK(t, dma_load(a, seed, len));
	REQUIRE_OK(t, dma_load(b, seed + 1, len));
}

static struct dma_space *must_open(struct t *t, struct exerciser *ex, struct dma_space *share)
{
	const char *why;
	struct dma_space *s = dma_space_open_with(t, ex, 0, share, &why);

	if (!s)
		test_error(t, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, why);
	return s;
}

/*
 * Two devices, one address, two pages: neither reaches the other's.
 *
 * VT-d 3.4, 6.2: translations are tagged with the domain. Both devices use the same IOVA, turn by
 * turn, so that what one of them has brought into the caches would serve the other. Taken from one of
 * them, the page is gone for that one alone. In a shared domain the address is the same page to both.
 */
TEST(iommu, isolation, "two devices use one address and reach different pages, or one page when they share a domain",
     NEED_IOMMU_TRANSLATION)
{
	struct exerciser *pair[2];
	struct dma_target *ga, *gb, seen;
	struct dma_space *a, *b;
	size_t len;

	if (!find_pair(t, pair))
		test_skip(t, "fewer than two devices under test that write known bytes behind one IOMMU");
	len = MIN(dma_len(pair[0], PAGE_SIZE), dma_len(pair[1], PAGE_SIZE));
	a = must_open(t, pair[0], NULL);
	b = must_open(t, pair[1], NULL);
	ga = dma_target_map(a, PAGE_SIZE, IOMMU_RW);
	gb = dma_target_map_at(b, PAGE_SIZE, IOMMU_RW, ga->iova.v, 0);
	load_both(t, a, b, len, 10);

	ASSERT_OK(t, dma_write(ga, 0, len));
	dma_expect_written(ga, 0, len, "the first device");
	dma_expect_untouched(gb, "the first device wrote");
	ASSERT_OK(t, dma_write(gb, 0, len));
	dma_expect_written(gb, 0, len, "the second device");
	dma_expect_written(ga, 0, len, "the second device wrote, and the first one's page");
	dma_expect_no_fault(a, "two domains");

	ASSERT_OK(t, dma_target_unmap_sync(ga));
	dma_target_fill(ga, 400);
	dma_target_fill(gb, 401);
	dma_faults_clear(a);
	dma_try(a, DMA_WRITE, ga->iova, len);
	dma_expect_untouched(ga, "unmapped in its domain");
	dma_expect_untouched(gb, "unmapped in the other domain");
	dma_expect_fault(a, DMA_WRITE, ga->iova, len, IOMMU_FAULT_NOT_PRESENT, "unmapped in its domain");
	dma_faults_clear(a);
	EXPECT_OK(t, dma_write(gb, 0, len));
	dma_expect_written(gb, 0, len, "still mapped in its domain");
	dma_space_close(a);
	dma_space_close(b);

	a = must_open(t, pair[0], NULL);
	b = must_open(t, pair[1], a);
	ga = dma_target_map(a, PAGE_SIZE, IOMMU_RW);
	load_both(t, a, b, len, 12);
	EXPECT_OK(t, dma_write(ga, 0, len));
	dma_expect_written(ga, 0, len, "the first device, shared domain");
	/* The same page as the second device sees it: filled and checked for what that one writes. */
	seen = *ga;
	seen.space = b;
	dma_target_fill(&seen, 402);
	EXPECT_OK(t, dma_write(&seen, 0, len));
	dma_expect_written(&seen, 0, len, "the second device, shared domain");
	dma_expect_no_fault(a, "shared domain");
	dma_space_close(b);
	dma_space_close(a);
}
