/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/dma/series.h"

#define BUFFER  (2u << 20)
#define PAGES   (BUFFER / PAGE_SIZE)
#define FIRST   (DMA_STAGE_FIRST / PAGE_SIZE)
#define SAMPLES 24                       /* of the smallest; a quarter where it is slow */
#define OFTEN   64                       /* rounds of the timing suite, while it has … */
#define TIMING  MS(1000)                 /* for a unit */
#define CYCLES  64                       /* of the strict and the deferred way, in a sample */
#define BUDGET  120000

enum op { OP_MAP, OP_UNMAP, OP_SYNC, OP_CYCLE, OPS };
static const char *const op_name[OPS] = {"map", "unmap", "sync", "cycle"};
static const size_t batches[] = {1, 8, 64, 256}; /* pages */

/* Samples of one kind, of all rounds. */
struct series {
	uint64_t *ticks;
	size_t n, batch;
};

struct cost {
	struct t *t;
	struct dma_stage *stage;
	struct iommu_domain *domain;
	uint64_t empty;
	size_t samples, rounds;
	struct series batched[ARRAY_SIZE(batches)][OPS], queue, strict, deferred;
};

/* Where the samples of another round go. */
static uint64_t *room(struct cost *c, struct series *s, size_t n)
{
	if (!s->ticks)
		s->ticks = test_alloc(c->t, c->rounds * n * sizeof(uint64_t));
	s->batch = n;
	s->n += n;
	return s->ticks + s->n - n;
}

static uint64_t less_empty(const struct cost *c, uint64_t ticks) { return ticks - MIN(ticks, c->empty); }

static int map(struct cost *c, size_t page, size_t pages)
{
	const uint64_t off = page * PAGE_SIZE;

	return c->stage->iommu->ops->map(c->domain, iova(c->stage->far.v + off), gpa(c->stage->buf.pa.v + off),
					 pages * PAGE_SIZE, IOMMU_RW, PAGE_SIZE);
}

static int unmap(struct cost *c, size_t page, size_t pages)
{
	return c->stage->iommu->ops->unmap(c->domain, iova(c->stage->far.v + page * PAGE_SIZE), pages * PAGE_SIZE);
}

/* end: worked out before, as a driver that has its own way of giving up would. */
static int sync(struct cost *c, size_t page, size_t pages, struct deadline end)
{
	const struct sync_range range = {.iova = iova(c->stage->far.v + page * PAGE_SIZE),
					 .size = pages * PAGE_SIZE};

	return c->stage->iommu->ops->sync(c->domain, pages ? &range : NULL, end);
}

static bool reaches(const struct cost *c, size_t page)
{
	struct iommu_leaf leaf;

	return c->stage->iommu->ops->lookup(c->domain, iova(c->stage->far.v + page * PAGE_SIZE), &leaf) == 0 &&
	       leaf.pa.v == c->stage->buf.pa.v + page * PAGE_SIZE;
}

/* By the device itself: what it writes arrives in this page. */
static void check_dma(struct cost *c, size_t page)
{
	struct exerciser *ex = c->stage->ex;
	volatile uint64_t *word = dma_stage_va(c->stage, page * PAGE_SIZE);
	const struct dma_req req = {.dir = ex->caps & EX_DMA_WRITE ? DMA_WRITE : DMA_READ,
				    .addr = dma_stage_addr(c->stage, page * PAGE_SIZE),
				    .len = (size_t)align_up(MAX(ex->dma_min, 8u), ex->dma_align)};
	const uint64_t before = ~0x5a5a5a5a5a5a5a5aull + page;

	*word = before;
	EXPECT_OK(c->t, exerciser_dma(ex, &req, MS(500)));
	if (req.dir == DMA_WRITE)
		EXPECT_MSG(c->t, *word != before, PRIRID " %s: page %zu is mapped, and its write does not arrive",
			   RIDARG(ex->dev->rid), ex->ops->name, page);
}

/* map, unmap and sync of so many pages, each timed by itself; the tables are looked at in between. */
static void by_batch(struct cost *c, unsigned b)
{
	const size_t pages = batches[b], n = MAX(c->samples * 8 / (7 + pages), MIN(c->samples, (size_t)8));
	uint64_t *ticks[OPS];

	for (enum op op = 0; op < OPS; op++)
		ticks[op] = room(c, &c->batched[b][op], n);
	for (size_t i = 0; i < n; i++) {
		const size_t page = FIRST + i * pages % (PAGES - FIRST - pages + 1);
		uint64_t t[4];
		struct deadline end;
		bool there, gone;
		int r;

		t[0] = tsc_read();
		r = map(c, page, pages);
		t[1] = tsc_read();
		there = reaches(c, page) && reaches(c, page + pages - 1);
		REQUIRE_OK(c->t, r);
		if (i == 0)
			check_dma(c, page + pages - 1);
		t[2] = tsc_read();
		r = unmap(c, page, pages);
		t[3] = tsc_read();
		REQUIRE_OK(c->t, r);
		ticks[OP_MAP][i] = less_empty(c, t[1] - t[0]);
		ticks[OP_UNMAP][i] = less_empty(c, t[3] - t[2]);
		end = deadline_in(MS(500));
		t[2] = tsc_read();
		r = sync(c, page, pages, end);
		t[3] = tsc_read();
		gone = !reaches(c, page) && !reaches(c, page + pages - 1);
		REQUIRE_OK(c->t, r);
		EXPECT_MSG(c->t, there && gone, "%zu pages: the tables do not say what was mapped and unmapped", pages);
		ticks[OP_SYNC][i] = less_empty(c, t[3] - t[2]);
		ticks[OP_CYCLE][i] = ticks[OP_MAP][i] + ticks[OP_UNMAP][i] + ticks[OP_SYNC][i];
	}
}

/* Map, unmap, sync, one page after the other: each by itself (strict), or one sync for all (deferred). */
static void by_policy(struct cost *c, bool strict)
{
	const size_t n = MAX(c->samples / 3, (size_t)2);
	uint64_t *ticks = room(c, strict ? &c->strict : &c->deferred, n);

	for (size_t i = 0; i < n; i++) {
		const struct deadline end = deadline_in(SEC(2));
		const uint64_t t0 = tsc_read();
		int r = 0;

		for (size_t page = FIRST; page < FIRST + CYCLES && r == 0; page++) {
			r = map(c, page, 1);
			if (r == 0)
				r = unmap(c, page, 1);
			if (r == 0 && (strict || page == FIRST + CYCLES - 1))
				r = sync(c, page, strict ? 1 : 0, end);
		}
		ticks[i] = less_empty(c, tsc_read() - t0) / CYCLES;
		REQUIRE_OK(c->t, r);
		EXPECT(c->t, !reaches(c, FIRST) && !reaches(c, FIRST + CYCLES - 1));
	}
}

/* The floor under every sync: one empty request through the unit's queue and back. */
static void queue_floor(struct cost *c)
{
	const struct iommu_ops *ops = c->stage->iommu->ops;
	volatile uint32_t *word = c->stage->buf.va;
	uint64_t *ticks = NULL;

	for (uint32_t i = 0; i < c->samples; i++) {
		const uint64_t t0 = tsc_read();
		const int r = ops->queue_waits(c->stage->iommu, c->stage->buf.pa, 1, i + 1);

		if (r == -EOPNOTSUPP)
			return;
		REQUIRE_OK(c->t, r);
		if (!WAIT_FOR(*word == i + 1, SEC(1)))
			test_timeout(c->t, "an empty request to the queue of %s did not complete", ops->name);
		if (!ticks)
			ticks = room(c, &c->queue, c->samples);
		ticks[i] = less_empty(c, tsc_read() - t0);
	}
}

static void print(struct cost *c, const struct series *s, const char *op, size_t pages)
{
	char name[64];
	int n = fmt_snprintf(name, sizeof(name), "iommu=%s op=%s", c->stage->iommu->ops->name, op);

	if (!s->n)
		return;
	if (pages)
		fmt_snprintf(name + n, sizeof(name) - (size_t)n, " pages=%zu", pages);
	test_metric_rounds(c->t, name, s->ticks, s->n, s->batch);
	if (s == &c->strict || s == &c->deferred)
		test_metric(c->t, "%s unit=1/s n=%zu value=%llu", name, s->n * CYCLES,
			    (unsigned long long)(tsc_khz() * 1000 / MAX(s->ticks[(s->n - 1) / 2], 1u)));
}

static void measure(struct cost *c, unsigned kinds)
{
	struct rounds rounds = test_rounds(c->t, OFTEN, TIMING);

	c->rounds = rounds.most;
	while (test_round(c->t, &rounds)) {
		for (unsigned b = 0; b < kinds; b++)
			by_batch(c, b);
		queue_floor(c);
		by_policy(c, true);
		by_policy(c, false);
	}
	for (unsigned b = 0; b < kinds; b++)
		for (enum op op = 0; op < OPS; op++)
			print(c, &c->batched[b][op], op_name[op], batches[b]);
	print(c, &c->queue, "queue", 0);
	print(c, &c->strict, "map+unmap+sync", 0);
	print(c, &c->deferred, "map+unmap+sync/64", 0);
}

static bool seen(struct iommu *const *list, unsigned n, const struct iommu *iommu)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i] == iommu)
			return true;
	return false;
}

/*
 * What it costs to map, to unmap and to have the unit forget: what a driver pays per transfer where
 * mappings do not stay (Linux: iommu.strict=1), and with one invalidation for many (lazy).
 *
 * Each unit once, translating, with a device attached. The tables are looked up and the device made to
 * write through the mapping outside of the timed parts.
 */
TEST_FULL(dma, map_cost, TEST_TIMES, BUDGET, "map, unmap, sync: per page, per batch, strict and deferred",
	  NEED_IOMMU_TRANSLATION)
{
	const uint64_t asked = test_iterations(t, 0);
	const bool slow = !asked && machine_is_slow();
	struct iommu *done[IOMMU_MAX];
	unsigned units = 0;

	FOR_EACH_EXERCISER(t, ex, 0) {
		struct cost c = {.t = t, .empty = test_measure_nothing(),
				 .samples = slow ? SAMPLES / 4 : SAMPLES * MIN(MAX(asked, 1u), (uint64_t)1000)};
		struct iommu *iommu = ex->bypasses_iommu ? NULL : iommu_of(ex->dev);

		if (!(ex->caps & (EX_DMA_READ | EX_DMA_WRITE)) || ex->dma_ms > 10 || !iommu || seen(done, units, iommu))
			continue;
		c.stage = test_alloc(t, sizeof(*c.stage));
		if (!dma_stage_open(c.stage, t, ex, BUFFER))
			test_error(t, "no memory for a buffer of %u bytes", BUFFER);
		c.domain = &c.stage->domain[STAGE_STRICT];
		if (c.stage->has[STAGE_STRICT] && dma_stage_enter(c.stage, STAGE_STRICT)) {
			done[units++] = iommu;
			measure(&c, slow ? 2 : ARRAY_SIZE(batches));
		}
		dma_stage_close(c.stage);
	}
	if (units == 0)
		test_skip(t, "no device behind a unit that translates does DMA promptly");
}
