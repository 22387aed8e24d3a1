/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

#define DEVICES EXERCISER_MAX

struct bench {
	struct dma_space *space[DEVICES];
	struct dma_target *target[DEVICES];
	size_t off[DEVICES], len[DEVICES];
	unsigned n;
};

/* Every device that can, each in a domain of its own, all at the same time. */
static void open_all(struct t *t, struct bench *b)
{
	const char *why = NULL;

	for (struct exerciser *ex = dma_next_exerciser(t, NULL, EX_DMA_WRITE, true); ex;
	     ex = dma_next_exerciser(t, ex, EX_DMA_WRITE, true)) {
		const unsigned i = b->n;

		b->space[i] = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!b->space[i]) {
			test_note(t, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, why);
			continue;
		}
		b->target[i] = dma_target_map(b->space[i], 2 * PAGE_SIZE, IOMMU_RW);
		b->len[i] = dma_len(ex, 1536);
		/* Across the page boundary where the device takes any address. */
		b->off[i] = ex->caps & EX_DMA_ANY_LEN ? PAGE_SIZE - b->len[i] / 2 - 1 : PAGE_SIZE - b->len[i] / 2;
		b->off[i] = align_down(b->off[i], ex->dma_addr_align);
		b->n++;
	}
	if (b->n == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU: %s", why ? why : "");
}

/* All at once: a slow device's time is then everybody's. */
static void load_all(struct bench *b, uint32_t seed)
{
	struct dma_job job[DEVICES];
	unsigned n = 0;

	for (unsigned i = 0; i < b->n; i++) {
		struct dma_space *s = b->space[i];

		if (!(s->ex->caps & EX_DMA_COPY))
			continue;
		dma_load_prepare(s, seed + i, b->len[i]);
		job[n++] = (struct dma_job){.space = s, .dir = DMA_READ, .addr = s->source->iova, .len = b->len[i]};
	}
	dma_run(job, n);
	for (unsigned i = 0; i < n; i++)
		EXPECT_MSG(job[i].space->t, job[i].result == 0, "%s reads by IOVA: got -%s, expected success",
			   job[i].space->name, err_name(job[i].result));
}

static void write_all(struct t *t, struct bench *b)
{
	struct dma_job job[DEVICES];

	for (unsigned i = 0; i < b->n; i++)
		job[i] = (struct dma_job){.space = b->space[i],
					  .dir = DMA_WRITE,
					  .addr = {b->target[i]->iova.v + b->off[i]},
					  .len = b->len[i]};
	dma_run(job, b->n);
	for (unsigned i = 0; i < b->n; i++) {
		EXPECT_MSG(t, job[i].result == 0, "%s writes by IOVA: got -%s, expected success",
			   b->space[i]->name, err_name(job[i].result));
		EXPECT(t, b->target[i]->iova.v != b->target[i]->pa.v);
		dma_expect_written(b->target[i], b->off[i], b->len[i], "writing by IOVA");
		dma_expect_no_fault(b->space[i], "translating");
	}
}

/*
 * DMA goes where the tables say: out of memory and into it, by an address that is not the memory's.
 *
 * VT-d 3.4, 3.7: every device under test gets a domain of its own. Devices that keep what they read
 * fetch a pattern through one page and write it through another; the others write what they have. The
 * data must be at the target and nowhere else: not beside it, and not at the physical address that
 * equals the IOVA, which is where it lands when the unit does not translate.
 */
TEST(iommu, translate, "DMA goes where the tables say, in and out, and nowhere else", NEED_IOMMU_TRANSLATION)
{
	struct bench *b = test_alloc(t, sizeof(*b));

	open_all(t, b);
	load_all(b, 1);
	write_all(t, b);
}

/*
 * One transfer over pages that lie apart and backwards in memory.
 *
 * The device sees them in a row: each page boundary is another walk, and the bytes must not go on
 * into what follows a page physically.
 */
TEST(iommu, scatter, "one transfer over discontiguous pages puts every byte in its place", NEED_IOMMU_TRANSLATION)
{
	const char *why;
	unsigned devices = 0;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		const size_t step = MAX(ex->dma_align, (size_t)1);
		const size_t len = MIN(3 * PAGE_SIZE + 512, ex->dma_max) / step * step;
		const size_t lead = align_down(ex->caps & EX_DMA_ANY_LEN ? 4093 : 512, ex->dma_addr_align);
		struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		struct dma_target *page[5];
		uint64_t far;
		size_t done = 0;

		if (!s || len <= PAGE_SIZE / 2 || !(ex->dma_mask >> DMA_FAR_BITS))
			continue;
		far = dma_far(s, DMA_FAR_BITS);
		/* Memory is handed out upwards: mapped in the order of allocation, backwards. */
		for (unsigned i = 5; i-- > 0;)
			page[i] = dma_target_map_at(s, PAGE_SIZE, IOMMU_RW, far + i * PAGE_SIZE, 0);
		REQUIRE_OK(t, dma_load(s, 2, len));
		EXPECT_OK(t, dma_write(page[0], lead, len));
		for (unsigned i = 0; i < 5; i++) {
			const size_t off = i == 0 ? lead : 0, n = MIN(len - done, PAGE_SIZE - off);

			dma_expect_written_from(page[i], off, n, done, "over scattered pages");
			done += n;
		}
		dma_expect_no_fault(s, "over scattered pages");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes over several pages");
}
