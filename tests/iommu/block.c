/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

/*
 * Memory that is not mapped cannot be reached, and the attempt is on record.
 *
 * VT-d 3.7, 7.1.3: neither direction gets through, every byte of the memory stays, and the fault says
 * who, where, in which direction and why. The page beside it is mapped and works, before and after:
 * without that a dead device would pass.
 */
TEST(iommu, unmapped, "memory that is not mapped is out of reach, and the fault record says who tried what",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		struct dma_target *kept, *absent;

		if (!s)
			continue;
		kept = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		absent = dma_target_alloc(s, PAGE_SIZE);
		REQUIRE_OK(t, dma_load(s, 3, len));
		ASSERT_OK(t, dma_write(kept, 0, len));
		dma_expect_written(kept, 0, len, "to the mapped page");
		dma_expect_no_fault(s, "to the mapped page");

		dma_try(s, DMA_WRITE, absent->iova, len);
		dma_expect_untouched(absent, "after a write to a page not mapped");
		dma_expect_fault(s, DMA_WRITE, absent->iova, len, IOMMU_FAULT_NOT_PRESENT, "write, not mapped");
		if (ex->caps & EX_DMA_READ) {
			dma_faults_clear(s);
			dma_try(s, DMA_READ, absent->iova, len);
			dma_expect_fault(s, DMA_READ, absent->iova, len, IOMMU_FAULT_NOT_PRESENT,
					 "read, not mapped");
		}
		dma_faults_clear(s);

		/* The same address, once it is mapped. */
		REQUIRE_OK(t, dma_target_remap(absent, IOMMU_RW));
		REQUIRE_OK(t, dma_load(s, 4, len));
		EXPECT_OK(t, dma_write(absent, 0, len));
		dma_expect_written(absent, 0, len, "to the page that is mapped now");
		dma_expect_no_fault(s, "to the page that is mapped now");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU");
}

/* How the unmap is made known; what a unit cannot do by page it does by domain. */
enum how { BY_PAGE, BY_DOMAIN, GLOBALLY, HOW_COUNT };
static const char *const how_name[HOW_COUNT] = {"by page", "by domain", "globally"};

static int sync_how(struct dma_space *s, const struct dma_target *g, enum how how)
{
	const struct sync_range range = {.iova = g->iova, .size = g->size};
	const struct iommu_ops *ops = s->iommu->ops;

	if (how == GLOBALLY)
		return ops->sync_all(s->iommu, deadline_in(SEC(1)));
	return ops->sync(&s->domain, how == BY_PAGE ? &range : NULL, deadline_in(SEC(1)));
}

static void unmap_one(struct t *t, struct dma_space *s, enum how how, size_t len)
{
	struct dma_target *gone = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
	struct dma_target *kept = dma_target_map(s, PAGE_SIZE, IOMMU_RW);

	REQUIRE_OK(t, dma_load(s, 5, len));
	ASSERT_OK(t, dma_write(gone, 0, len));       /* it was reachable, and is cached */
	dma_expect_written(gone, 0, len, how_name[how]);
	ASSERT_OK(t, dma_write(kept, 0, len));
	dma_expect_written(kept, 0, len, how_name[how]);

	ASSERT_OK(t, dma_target_unmap(gone));
	ASSERT_OK(t, sync_how(s, gone, how));
	dma_target_fill(gone, 100);
	dma_target_fill(kept, 101);
	dma_faults_clear(s);
	dma_try(s, DMA_WRITE, gone->iova, len);
	dma_expect_untouched(gone, how_name[how]);
	dma_expect_fault(s, DMA_WRITE, gone->iova, len, IOMMU_FAULT_NOT_PRESENT, how_name[how]);
	dma_expect_untouched(kept, how_name[how]);
	dma_faults_clear(s);

	EXPECT_OK(t, dma_write(kept, 0, len));
	dma_expect_written(kept, 0, len, how_name[how]);
	dma_expect_no_fault(s, how_name[how]);
	dma_target_free(gone);
	dma_target_free(kept);
}

/*
 * A page that was unmapped and synchronised is out of the device's reach.
 *
 * VT-d 6.5: once the invalidation has completed, the old translation may not be used. A hypervisor
 * that shadows our tables can lose the unmap (no caching mode), or complete the wait before it has
 * acted on it. The neighbour stays mapped and must go on working: without that half, a dead device
 * would pass.
 */
TEST(iommu, unmap_sync, "a page unmapped and synchronised (by page, domain, globally) is out of reach",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);

		if (!s)
			continue;
		for (enum how how = BY_PAGE; how < HOW_COUNT; how++) {
			if (how != GLOBALLY || s->iommu->ops->sync_all)
				unmap_one(t, s, how, dma_len(ex, PAGE_SIZE));
		}
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU");
}

static void back_to_queue(void *arg)
{
	struct iommu *u = arg;

	if (u->translating)
		u->ops->disable(u);
	u->ops->queue_use(u, true);
}

/*
 * The unit's registers invalidate as its queue does.
 *
 * VT-d 6.5.1 (CCMD_REG, IOTLB_REG, IVA_REG): what firmware uses, and what there is where ECAP.QI is clear. Each
 * granularity of the IOTLB, and the context entry's as the device is taken out of its domain. A hypervisor
 * that has only ever seen drivers with a queue may do nothing here and say that it is done.
 */
TEST(iommu, by_register, "invalidations by register (pages, domain, global, context) do what those by queue do",
     NEED_IOMMU_TRANSLATION)
{
	struct iommu *by_register = NULL;    /* to switch one is dear: once for all devices behind it */
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		struct iommu *u = iommu_of(ex->dev);
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_target *g;
		struct dma_space *s;

		if (!u->ops->queue_use)
			continue;
		if (u != by_register) {
			if (u->translating)
				u->ops->disable(u);
			if (u->ops->queue_use(u, false) == -EOPNOTSUPP)
				continue;
			test_cleanup(t, back_to_queue, u);
			by_register = u;
		}
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			continue;
		for (enum how how = BY_PAGE; how < HOW_COUNT; how++)
			unmap_one(t, s, how, len);
		g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		REQUIRE_OK(t, dma_load(s, 11, len));
		ASSERT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "attached");
		ASSERT_OK(t, dma_space_detach(s));
		dma_target_fill(g, 102);
		dma_faults_clear(s);
		dma_try(s, DMA_WRITE, g->iova, len);
		dma_expect_untouched(g, "detached");
		ASSERT_OK(t, dma_space_attach(s));
		dma_faults_clear(s);
		REQUIRE_OK(t, dma_load(s, 12, len));
		EXPECT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "attached again");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no unit that is invalidated by register (VT-d in legacy mode; ECAP.SMTS=1 or another kind of unit)");
}

static bool in_own(const struct exerciser *ex, uint64_t at)
{
	for (unsigned i = 0; i < ex->own_count; i++) {
		if (at >= align_down(ex->own[i].pa.v, PAGE_SIZE) && at < ex->own[i].pa.v + ex->own[i].size)
			return true;
	}
	return false;
}

/*
 * A device without a domain is blocked, whatever it asks for.
 *
 * VT-d 3.4.1: with translation on, a request without a present root and context entry is blocked. A
 * device with rings gets no further than its first descriptor: the fault is then at the ring.
 * Attached again, it works again.
 */
TEST(iommu, no_domain, "a device without a domain is blocked, and works again once it has one",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		struct iommu_fault f;
		struct dma_target *g;

		if (!s)
			continue;
		g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		REQUIRE_OK(t, dma_load(s, 6, len));
		ASSERT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "attached");
		dma_target_fill(g, 200);

		ASSERT_OK(t, dma_space_detach(s));
		dma_faults_clear(s);
		dma_try(s, DMA_WRITE, g->iova, len);
		dma_expect_untouched(g, "while detached");
		if (EXPECT_OK(t, iommu_fault_wait(s->iommu, &f, MS(100)))) {
			EXPECT_MSG(t, f.rid.v == ex->rid.v, "%s detached: fault's source: got " PRIRID ", expected " PRIRID,
				   s->name, RIDARG(f.rid), RIDARG(ex->rid));
			EXPECT_MSG(t, f.reason == IOMMU_FAULT_NO_DOMAIN,
				   "%s detached: fault's reason: got %s (0x%x), expected %s", s->name,
				   iommu_reason_name(f.reason), f.raw_reason,
				   iommu_reason_name(IOMMU_FAULT_NO_DOMAIN));
			EXPECT_MSG(t, f.iova.v == g->iova.v || in_own(ex, f.iova.v),
				   "%s detached: fault's address: got %llx, expected the target's %llx or a ring's", s->name,
				   (unsigned long long)f.iova.v, (unsigned long long)g->iova.v);
		}

		ASSERT_OK(t, dma_space_attach(s));
		dma_faults_clear(s);
		REQUIRE_OK(t, dma_load(s, 7, len));
		EXPECT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "attached again");
		dma_expect_no_fault(s, "attached again");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU");
}

/*
 * A page may be open in one direction only.
 *
 * VT-d 9.8: R and W are apart. The forbidden direction comes first, when nothing is cached; then the
 * permitted one; then the forbidden one again, which now meets a cached translation.
 */
static void one_way(struct t *t, enum dma_dir allowed)
{
	const enum dma_dir forbidden = allowed == DMA_READ ? DMA_WRITE : DMA_READ;
	const uint32_t prot = allowed == DMA_READ ? IOMMU_R : IOMMU_W;
	const enum iommu_reason reason = forbidden == DMA_WRITE ? IOMMU_FAULT_WRITE : IOMMU_FAULT_READ;
	unsigned devices = 0, unable = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE | EX_DMA_READ) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_space *s;
		struct iommu_fault f;
		struct dma_target *g;

		if (!(prot & IOMMU_R) && iommu_of(ex->dev)->caps.no_write_only) {
			unable++;
			continue;
		}
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			continue;
		g = dma_target_map(s, PAGE_SIZE, prot);
		REQUIRE_OK(t, dma_load(s, 8, len));
		dma_faults_clear(s);
		dma_try(s, forbidden, g->iova, len);
		dma_expect_untouched(g, "after the forbidden direction");
		dma_expect_fault(s, forbidden, g->iova, len, reason, "the forbidden direction");
		dma_faults_clear(s);

		if (allowed == DMA_WRITE) {
			REQUIRE_OK(t, dma_load(s, 9, len));
			EXPECT_OK(t, dma_write(g, 0, len));
			dma_expect_written(g, 0, len, "in the permitted direction");
		} else {
			EXPECT_OK(t, dma_read(g, 0, len));
			dma_expect_untouched(g, "after the permitted direction");
		}
		dma_expect_no_fault(s, "in the permitted direction");

		dma_target_fill(g, 300);
		dma_try(s, forbidden, g->iova, len);
		dma_expect_untouched(g, "after the forbidden direction, cached");
		if (iommu_fault_wait(s->iommu, &f, MS(1)) < 0)
			test_note(t, "%s: blocked by a cached translation without a fault record", s->name);
		dma_space_close(s);
		devices++;
	}
	if (devices == 0 && unable)
		test_skip(t, "the unit's tables cannot say it: first-stage entries have P and R/W (ECAP.FSTS=1)");
	if (devices == 0)
		test_skip(t, "no device under test that reads, and writes known bytes, behind an IOMMU");
}

TEST(iommu, read_only, "a page mapped for reading can be read by a device and not written", NEED_IOMMU_TRANSLATION)
{
	one_way(t, DMA_READ);
}

TEST(iommu, write_only, "a page mapped for writing can be written by a device and not read", NEED_IOMMU_TRANSLATION)
{
	one_way(t, DMA_WRITE);
}
