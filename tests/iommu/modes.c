/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/iommu/iommu_test.h"

/*
 * Pass-through leaves addresses as they are, for the device that has it and for no other reason.
 *
 * VT-d 9.3, TT = 10b. The same address, of memory that is mapped nowhere, is blocked for the same
 * device in a translating domain. It is the first that the unit hears of the device: one that misses what
 * becomes of a device table entry later shows it here.
 */
TEST_FULL(iommu, passthrough, TEST_UNITS_OFF, 0,
	  "a passed-through device reaches memory at its own address, a translated one does not", NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why = "";

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_space *s = dma_space_open(t, ex, DMA_PASSTHROUGH, &why);
		struct dma_target *g, *other;

		if (!s)
			continue;
		g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		REQUIRE_OK(t, dma_load(s, 20, len));
		EXPECT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "passed through");
		dma_expect_no_fault(s, "passed through");
		dma_space_close(s);

		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			test_error(t, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, why);
		other = dma_target_alloc(s, PAGE_SIZE);
		dma_try(s, DMA_WRITE, iova(other->pa.v), len);
		dma_expect_untouched(other, "by its physical address, translated");
		dma_expect_fault(s, DMA_WRITE, iova(other->pa.v), len, IOMMU_FAULT_NOT_PRESENT,
				 "by physical address, translated");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test can be passed through: %s", why);
}

/*
 * Translation goes off and on again, over the same tables.
 *
 * VT-d 11.4.4.1 (TE): off, an address is physical; on again, the tables count, and what was not
 * mapped is blocked as before.
 */
TEST(iommu, reenable, "translation works, is switched off, and works again over the same tables",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		struct dma_target *g, *plain;

		if (!s)
			continue;
		g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		plain = dma_target_alloc(s, PAGE_SIZE);
		REQUIRE_OK(t, dma_load(s, 21, len));
		for (unsigned round = 0; round < 2; round++) {
			struct dma_job job = {.space = s, .dir = DMA_WRITE, .addr = {plain->pa.v}, .len = len};

			dma_target_fill(g, 500 + round);
			ASSERT_OK(t, dma_write(g, 0, len));
			dma_expect_written(g, 0, len, "on");
			s->iommu->ops->disable(s->iommu);
			ASSERT_MSG(t, !s->iommu->translating, "switched off: got a unit that still translates");
			dma_target_fill(plain, 510 + round);
			dma_run(&job, 1);
			EXPECT_OK(t, job.result);
			dma_expect_written(plain, 0, len, "off, by physical address");
			ASSERT_OK(t, s->iommu->ops->enable(s->iommu));
			dma_target_fill(plain, 520 + round);
			dma_faults_clear(s);
			dma_try(s, DMA_WRITE, iova(plain->pa.v), len);
			dma_expect_untouched(plain, "on again, by physical address");
			dma_expect_fault(s, DMA_WRITE, iova(plain->pa.v), len, IOMMU_FAULT_NOT_PRESENT,
					 "on again, by physical address");
			dma_faults_clear(s);
		}
		dma_target_fill(g, 530);
		EXPECT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "on again");
		dma_expect_no_fault(s, "on again");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU");
}

/* A window of one leaf of that size, so that g lies in it as it does in memory; its address there. */
static uint64_t map_window(struct t *t, struct dma_space *s, const struct dma_target *g, uint64_t at,
			   uint64_t size)
{
	const uint64_t base = align_down(g->pa.v, size), pages = s->domain.table_pages;

	REQUIRE_OK(t, s->iommu->ops->map(&s->domain, iova(at), gpa(base), size, IOMMU_RW, size));
	/* One leaf: smaller ones would have needed tables below it. */
	EXPECT_MSG(t, s->domain.table_pages <= pages + s->domain.levels - 1,
		   "%s: a window of %llu KiB: got %llu more tables", s->name, (unsigned long long)size >> 10,
		   (unsigned long long)(s->domain.table_pages - pages));
	return at + (g->pa.v - base);
}

/*
 * Leaves of every size that the unit offers work side by side.
 *
 * VT-d 3.7, CAP.SLLPS: a 2 MiB and a 1 GiB leaf over the physical surroundings of a page, and a 4 KiB
 * leaf, in one address space. Each is reached at an offset that only a leaf of that size has. When
 * the large one is unmapped it is gone in all its length, and the others work.
 */
TEST(iommu, page_sizes, "4 KiB, 2 MiB and 1 GiB leaves work in one address space, each to its size",
     NEED_IOMMU_TRANSLATION)
{
	static const uint64_t sizes[] = {PAGE_SIZE, 2u << 20, 1u << 30};
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		struct dma_target *g[ARRAY_SIZE(sizes)];
		uint64_t addr[ARRAY_SIZE(sizes)];
		char what[40];
		uint64_t far;
		unsigned n = 1;

		if (!s || !(ex->dma_mask >> DMA_FAR_BITS))
			continue;
		far = dma_far(s, DMA_FAR_BITS);
		n += s->iommu->caps.page_2m;
		n += n == 2 && s->iommu->caps.page_1g;
		REQUIRE_OK(t, dma_load(s, 22, len));
		for (unsigned i = 0; i < n; i++) {
			g[i] = dma_target_alloc(s, PAGE_SIZE);
			addr[i] = map_window(t, s, g[i], far + i * (2ull << 30), sizes[i]);
		}
		for (unsigned i = 0; i < n; i++) {
			struct dma_job job = {.space = s, .dir = DMA_WRITE, .addr = {addr[i]}, .len = len};

			fmt_snprintf(what, sizeof(what), "through a leaf of %llu KiB", (unsigned long long)sizes[i] >> 10);
			dma_run(&job, 1);
			EXPECT_MSG(t, job.result == 0, "%s, %s: got -%s, expected success", s->name, what, err_name(job.result));
			dma_expect_written(g[i], 0, len, what);
			for (unsigned k = i + 1; k < n; k++)
				dma_expect_untouched(g[k], "through another leaf");
		}
		dma_expect_no_fault(s, "leaves");
		for (unsigned i = n; i-- > 1;) {
			const uint64_t at = far + i * (2ull << 30);

			REQUIRE_OK(t, iommu_unmap_sync(&s->domain, iova(at), sizes[i]));
			dma_target_fill(g[i], 600 + i);
			dma_faults_clear(s);
			dma_try(s, DMA_WRITE, iova(addr[i]), len);
			dma_expect_untouched(g[i], "through a leaf that is gone");
			dma_expect_fault(s, DMA_WRITE, iova(addr[i]), len, IOMMU_FAULT_NOT_PRESENT,
					 "through a leaf that is gone");
		}
		dma_faults_clear(s);
		dma_target_fill(g[0], 610);
		{
			struct dma_job job = {.space = s, .dir = DMA_WRITE, .addr = {addr[0]}, .len = len};

			dma_run(&job, 1);
			EXPECT_OK(t, job.result);
		}
		dma_expect_written(g[0], 0, len, "through the leaf that is left");
		if (n < ARRAY_SIZE(sizes))
			test_note(t, "the unit offers no leaves of %llu KiB", (unsigned long long)sizes[n] >> 10);
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes to addresses as wide as tables reach");
}

/*
 * Tables of every depth that the unit offers reach as far as they should, and no further.
 *
 * VT-d 3.7, 9.3 (AW), 11.4.2 (SAGAW, MGAW): the last page of the address space works; an
 * address of one bit more is blocked as too wide, and not cut to the one that is mapped. First stage (3.6):
 * that bit is the sign, and without its copies above the address is not canonical. A virtio-iommu has no
 * tables of ours, but an end of its addresses (VIRTIO 1.2, 5.13.4, input_range).
 */
TEST(iommu, levels, "3-, 4- and 5-level tables: the highest address works, the one beyond faults",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t len = dma_len(ex, PAGE_SIZE);
		const struct iommu *u = iommu_of(ex->dev);

		for (unsigned levels = u->caps.levels ? 3 : 0; levels <= (u->caps.levels ? 5 : 0); levels++) {
			const unsigned bits = levels ? MIN(12 + 9 * levels - u->caps.canonical, u->caps.iova_bits) :
						       u->caps.iova_bits;
			struct dma_target *other, *last;
			struct dma_space *s;
			iova_t beyond;
			char what[48];

			if ((levels && !(u->caps.levels & BIT(levels))) || bits >= 64 || ex->dma_mask >> bits == 0)
				continue;
			s = dma_space_open_with(t, ex, levels, NULL, &why);
			if (!s)
				continue;
			last = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, (1ull << bits) - PAGE_SIZE, 0);
			/* Where an address that is cut to its low bits would end. */
			other = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, dma_far(s, bits), 0);
			beyond = iova(other->iova.v | 1ull << bits);
			fmt_snprintf(what, sizeof(what), "%u levels, %u bits", levels, bits);
			REQUIRE_OK(t, dma_load(s, 23, len));
			EXPECT_OK(t, dma_write(last, 0, len));
			dma_expect_written(last, 0, len, what);
			dma_expect_no_fault(s, what);
			dma_target_fill(last, 700);
			fmt_snprintf(what, sizeof(what), "%u levels, an address of %u bits", levels, bits + 1);
			dma_try(s, DMA_WRITE, beyond, len);
			dma_expect_untouched(other, what);
			dma_expect_untouched(last, what);
			dma_expect_fault(s, DMA_WRITE, beyond, len, IOMMU_FAULT_ADDRESS_WIDTH, what);
			dma_faults_clear(s);
			EXPECT_OK(t, dma_write(other, 0, len));
			dma_expect_written(other, 0, len, "within");
			dma_space_close(s);
			devices++;
		}
	}
	if (devices == 0)
		test_skip(t, "no device under test that drives more address bits than its unit takes");
}
