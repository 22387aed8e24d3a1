/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/iommu/iommu_test.h"

#define PAGES 8u

/* [first, first + n) of the pages goes; through what the device may have kept, the others still work. */
static void take_away(struct t *t, struct dma_space *s, size_t len, unsigned first, unsigned n, bool whole)
{
	const struct iommu_ops *ops = s->iommu->ops;
	const uint64_t base = dma_far(s, DMA_FAR_BITS);
	struct dma_target *g[PAGES], *next;
	char what[64];

	fmt_snprintf(what, sizeof(what), "pages %u to %u%s", first, first + n - 1, whole ? ", the domain invalidated" : "");
	/* One after the other, so that the device has met all of them. */
	for (unsigned i = 0; i < PAGES; i++) {
		g[i] = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, base + i * PAGE_SIZE, 0);
		ASSERT_OK(t, dma_write(g[i], 0, len));
		dma_expect_written(g[i], 0, len, "mapped");
	}
	for (unsigned i = first; i < first + n; i++)
		g[i]->mapped = false;
	ASSERT_OK(t, ops->unmap(&s->domain, g[first]->iova, n * PAGE_SIZE));
	ASSERT_OK(t, ops->sync(&s->domain, whole ? NULL : &(struct sync_range){g[first]->iova, n * PAGE_SIZE, false},
			       deadline_in(SEC(1))));
	dma_expect_no_fault(s, "invalidated"); /* no command refused either */
	for (unsigned i = 0; i < PAGES; i++) {
		dma_target_fill(g[i], 1500 + i);
		if (i >= first && i < first + n) {
			dma_try(s, DMA_WRITE, g[i]->iova, len);
			dma_expect_untouched(g[i], what);
			continue;
		}
		REQUIRE_OK(t, dma_load(s, 95, len));
		EXPECT_OK(t, dma_write(g[i], 0, len));
		dma_expect_written(g[i], 0, len, what);
	}

	/* Another page at an address that the device knows: a kept translation would write the old one. */
	next = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, g[first]->iova.v, 0);
	REQUIRE_OK(t, dma_load(s, 96, len));
	EXPECT_OK(t, dma_write(next, 0, len));
	dma_expect_written(next, 0, len, "another page at that address");
	dma_expect_untouched(g[first], "another page at its address");
	dma_target_free(next);
	for (unsigned i = 0; i < PAGES; i++)
		dma_target_free(g[i]);
	dma_faults_clear(s);
}

/*
 * A device that keeps translations of its own forgets them when it is told to.
 *
 * PCIe 10 (ATS), VT-d 4 and 6.5.2.5, AMD 48882, 2.4.4: attached, the function's ATS is on and its entry lets
 * it ask for translations; after each invalidation the device TLB is invalidated too, by a block that holds
 * the pages, or as a whole. Left out, a device goes on writing to memory that is somebody else's by then:
 * the unit never sees a translated request. Detached, ATS is off. No fault is expected for a page that is
 * gone: such a device asks first, and is told no.
 */
TEST(iommu, ats, "a device with a TLB of its own (ATS) works, and forgets what is unmapped", NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0, units = 0, capable = 0;
	const char *why;

	for (unsigned i = 0; i < iommu_count; i++)
		units += iommus[i].caps.device_tlb;
	for (struct exerciser *ex = dma_next_exerciser(t, NULL, EX_DMA_WRITE, true); ex;
	     ex = dma_next_exerciser(t, ex, EX_DMA_WRITE, true)) {
		const size_t len = dma_len(ex, 512);
		struct dma_space *s;

		if (!pci_ats_depth(ex->dev->rid) || !(ex->dma_mask >> DMA_FAR_BITS))
			continue;
		capable++;
		if (!iommu_of(ex->dev)->caps.device_tlb)
			continue;
		EXPECT_MSG(t, !pci_ats_enabled(ex->dev->rid), PRIRID " %s: got ATS on before it was attached",
			   RIDARG(ex->dev->rid), ex->ops->name);
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			continue;
		EXPECT_MSG(t, pci_ats_enabled(ex->dev->rid), "%s: attached: got ATS off", s->name);
		REQUIRE_OK(t, dma_load(s, 97, len));
		take_away(t, s, len, 0, 1, false);
		take_away(t, s, len, 2, 2, false);
		take_away(t, s, len, 3, 3, false); /* over the boundary of an aligned block */
		take_away(t, s, len, 1, 6, true);
		dma_space_close(s);
		EXPECT_MSG(t, !pci_ats_enabled(ex->dev->rid), PRIRID " %s: detached: got ATS still on",
			   RIDARG(ex->dev->rid), ex->ops->name);
		devices++;
	}
	if (units == 0)
		test_skip(t, "no unit with device TLBs (VT-d ECAP.DT=0, AMD-Vi capability header IotlbSup=0)");
	if (capable == 0)
		test_skip(t, "no device under test with an ATS capability (virtio: ats=on)");
	if (devices == 0)
		test_skip(t, "no device under test with an ATS capability behind a unit with device TLBs (ECAP.DT)");
}
