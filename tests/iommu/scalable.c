/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/iommu/iommu_test.h"

#define HIGH_HALF 0xffffff8000000000ull  /* canonical for tables of every depth */

/* Both directions, a page that may only be read, and one that is not mapped: by tables of that stage. */
static void one_stage(struct t *t, struct dma_space *s, size_t len)
{
	struct dma_target *rw = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
	struct dma_target *ro = dma_target_map(s, PAGE_SIZE, IOMMU_R);
	struct dma_target *absent = dma_target_alloc(s, PAGE_SIZE);
	char what[32];

	fmt_snprintf(what, sizeof(what), "stage %u", s->domain.stage);
	REQUIRE_OK(t, dma_load(s, 90, len));
	EXPECT_OK(t, dma_write(rw, 0, len));
	dma_expect_written(rw, 0, len, what);
	dma_expect_no_fault(s, what);
	dma_try(s, DMA_WRITE, ro->iova, len);
	dma_expect_untouched(ro, what);
	dma_expect_fault(s, DMA_WRITE, ro->iova, len, IOMMU_FAULT_WRITE, what);
	dma_faults_clear(s);
	dma_try(s, DMA_WRITE, absent->iova, len);
	dma_expect_untouched(absent, what);
	dma_expect_fault(s, DMA_WRITE, absent->iova, len, IOMMU_FAULT_NOT_PRESENT, what);
	dma_faults_clear(s);
	ASSERT_OK(t, dma_target_unmap_sync(rw));
	dma_target_fill(rw, 1400);
	dma_try(s, DMA_WRITE, rw->iova, len);
	dma_expect_untouched(rw, "unmapped and synchronised");
	dma_expect_fault(s, DMA_WRITE, rw->iova, len, IOMMU_FAULT_NOT_PRESENT, "unmapped and synchronised");
	dma_faults_clear(s);
}

static void expect_used(struct dma_space *s, const struct dma_target *g, bool accessed, bool dirty, const char *what)
{
	bool a = false, d = false;

	REQUIRE_OK(s->t, s->iommu->ops->used(&s->domain, g->iova, &a, &d));
	EXPECT_MSG(s->t, a == accessed && d == dirty, "%s, %s: got Accessed %u, Dirty %u in the leaf, expected %u, %u",
		   s->name, what, a, d, accessed, dirty);
}

/*
 * 3.6.2: the unit sets Accessed with a read, Dirty with the first write, and neither before. A translation
 * that a read has brought into the cache has Dirty clear, and a write may not do with that.
 */
static void flags(struct t *t, struct dma_space *s, size_t len)
{
	struct dma_target *g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
	struct dma_target *h = dma_target_map(s, PAGE_SIZE, IOMMU_RW);

	expect_used(s, g, false, false, "mapped");
	REQUIRE_OK(t, dma_load(s, 91, len));
	EXPECT_OK(t, dma_write(g, 0, len));
	dma_expect_written(g, 0, len, "written");
	expect_used(s, g, true, true, "written");
	expect_used(s, h, false, false, "its neighbour");
	if (s->ex->caps & EX_DMA_READ) {
		EXPECT_OK(t, dma_read(h, 0, len));
		expect_used(s, h, true, false, "read");
		REQUIRE_OK(t, dma_load(s, 94, len));
		EXPECT_OK(t, dma_write(h, 0, len));
		dma_expect_written(h, 0, len, "written after a read");
		expect_used(s, h, true, true, "written after a read");
	}
	dma_target_free(g);
	dma_target_free(h);
}

/* 3.6: addresses are a CPU's. The upper half works, by its own tables. */
static void high_half(struct t *t, struct dma_space *s, size_t len)
{
	struct dma_target *g;

	if (s->ex->dma_mask != UINT64_MAX) {
		test_note(t, "%s drives no 64 bits of address", s->name);
		return;
	}
	g = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, HIGH_HALF, 0);
	REQUIRE_OK(t, dma_load(s, 92, len));
	EXPECT_OK(t, dma_write(g, 0, len));
	dma_expect_written(g, 0, len, "in the upper half");
	dma_expect_no_fault(s, "in the upper half");
	ASSERT_OK(t, dma_target_unmap_sync(g));
	dma_target_fill(g, 1401);
	dma_try(s, DMA_WRITE, g->iova, len);
	dma_expect_untouched(g, "unmapped in the upper half");
	dma_expect_fault(s, DMA_WRITE, g->iova, len, IOMMU_FAULT_NOT_PRESENT, "unmapped in the upper half");
	dma_faults_clear(s);
}

/*
 * In scalable mode each requester's PASID entry says how it is translated: first stage, second stage, or not
 * at all.
 *
 * VT-d 3.4.3, 9.6 (PGTT): one after the other for the same device, so that the PASID cache and what is cached
 * of the stage before are in the way if one is not invalidated. First stage: addresses have a sign, and the
 * unit tells in the tables what was used (A and D). Which stages there are: ECAP.FSTS, SSTS, PT.
 */
TEST(iommu, scalable, "scalable mode: first stage, second stage and pass-through, by PASID entry, one after the other",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0, stages = 0, with_pasid = 0;
	const struct iommu *u = NULL;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_target *g;
		struct dma_space *s;

		if (!iommu_of(ex->dev)->caps.scalable)
			continue;
		u = iommu_of(ex->dev);
		for (unsigned round = 0; round < 2; round++) {
			for (unsigned stage = 1; stage <= 2; stage++) {
				if (stage == 1 ? !u->caps.first_stage : !u->caps.second_stage)
					continue;
				s = dma_space_open_staged(t, ex, stage, &why);
				if (!s)
					continue;
				EXPECT_EQ(t, s->domain.stage, stage);
				one_stage(t, s, len);
				if (stage == 1) {
					flags(t, s, len);
					high_half(t, s, len);
				}
				dma_space_close(s);
				stages++;
			}
			s = dma_space_open(t, ex, DMA_PASSTHROUGH, &why);
			if (!s)
				continue;
			g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
			REQUIRE_OK(t, dma_load(s, 93, len));
			EXPECT_OK(t, dma_write(g, 0, len));
			dma_expect_written(g, 0, len, "passed through");
			dma_expect_no_fault(s, "passed through");
			dma_space_close(s);
		}
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no unit in scalable mode in front of a device under test (ECAP.SMTS=0)");
	EXPECT(t, stages > 0);
	FOR_EACH_PCI(d)
		with_pasid += pci_find_ext_cap(d->rid, PCI_EXT_CAP_PASID) != 0;
	test_note(t, "stages: %s%s%s; nested: ECAP.NEST=%u", u->caps.first_stage ? "first " : "",
		  u->caps.second_stage ? "second " : "", u->caps.passthrough ? "pass-through" : "",
		  (unsigned)(u->caps.raw[1] >> 26 & 1));
	test_note(t, "requests with a PASID were not tried: the unit takes %u bits of it, %u functions have the capability, and "
		  "plumb drives none of them", u->caps.pasid_bits, with_pasid);
}
