/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/dma/series.h"

#define BUFFER    (4u << 20)
#define PAGES     (BUFFER / PAGE_SIZE)
#define SAMPLES   24
#define OFTEN     32                     /* rounds of the timing suite, while it has … */
#define TIMING    MS(700)                /* for a device */
#define SETS      8                      /* hit, miss, and working sets of 16 to SETS_WIDE pages */
#define SETS_PAGES 4096u                 /* the largest working set: aliases of the buffer's pages */
#define SETS_WIDE 16384u                 /* … with iterations= */
#define TRANSFER  SEC(1)                 /* a transfer's deadline */
#define BUDGET    120000

struct sweep {
	struct t *t;
	struct dma_stage *stage;
	struct iommu_domain *domain;
	struct exerciser *ex;
	enum dma_dir dir;                /* of the timed transfers */
	size_t len;                      /* of these */
	uint64_t seed, empty;
	size_t count;                    /* samples of a working set, in a round */
};

struct set {
	const char *what;
	size_t pages, n;
	bool forget;                     /* the unit's cache is emptied before each */
	uint64_t *ticks;
};

/* Page n of the addresses, which lie behind the stage's own, is page n modulo PAGES of the buffer. */
static uint64_t address(const struct sweep *w, size_t page) { return w->stage->far.v + BUFFER + page * PAGE_SIZE; }
static volatile uint64_t *word_of(const struct sweep *w, size_t page)
{
	return (volatile uint64_t *)(void *)((uint8_t *)w->stage->buf.va + page % PAGES * PAGE_SIZE);
}

static bool map_aliases(struct sweep *w, size_t pages)
{
	int r = 0;

	for (size_t page = 0; page < pages && r == 0; page += PAGES)
		r = w->stage->iommu->ops->map(w->domain, iova(address(w, page)), w->stage->buf.pa, BUFFER, IOMMU_RW,
					      PAGE_SIZE);
	if (r == 0)
		r = w->stage->iommu->ops->sync(w->domain, NULL, deadline_in(MS(500)));
	return EXPECT_MSG(w->t, r == 0, "%zu pages cannot be mapped: -%s", pages, err_name(r));
}

static int transfer(struct sweep *w, enum dma_dir dir, size_t page, size_t len, uint64_t dev_off)
{
	const struct dma_req req = {.dir = dir, .addr = iova(address(w, page)), .len = len, .dev_off = dev_off};

	return exerciser_dma(w->ex, &req, TRANSFER);
}

/* Has the unit walk to every page of the set, with the largest transfers that there are. */
static void touch_all(struct sweep *w, size_t pages)
{
	const size_t most = MIN((size_t)align_down(MIN(w->ex->dma_max, w->ex->medium_size), PAGE_SIZE), (size_t)1 << 20);

	for (size_t page = 0; page < pages;) {
		const size_t now = most ? MIN(most / PAGE_SIZE, pages - page) : 1;

		ASSERT_OK(w->t, transfer(w, w->dir, page, most ? now * PAGE_SIZE : w->len, 0));
		page += now;
	}
}

/*
 * Samples on pages of the first half of the set, which were touched first: with a set that is larger than
 * the cache they are gone from it, whether it drops the oldest or all.
 */
static size_t nth_page(size_t pages, size_t i) { return pages > 1 ? i * 29 % (pages / 2) : 0; }

/* The device read these pages one after the other, each to its own place: it writes them back. */
static void check(struct sweep *w, size_t pages, const char *what)
{
	for (size_t i = 0; i < w->count; i++) {
		const size_t page = nth_page(pages, i), slot = i % (w->ex->medium_size / w->len);
		volatile uint64_t *word = word_of(w, page);
		const uint64_t want = pattern_word(w->seed, page % PAGES);

		if (w->dir == DMA_READ) {
			*word = ~want;
			ASSERT_OK(w->t, transfer(w, DMA_WRITE, page, w->len, slot * w->len));
		}
		if (!EXPECT_MSG(w->t, w->dir == DMA_READ ? *word == want : *word != want,
				PRIRID " %s: %s, page %zu of %zu: its word is not what was moved",
				RIDARG(w->ex->dev->rid), w->ex->ops->name, what, page, pages))
			return;
	}
}

static void sample(struct sweep *w, struct set *set)
{
	const size_t pages = set->pages;
	uint64_t *ticks = set->ticks + set->n;

	for (size_t page = 0; page < MIN(pages, (size_t)PAGES); page++)
		*word_of(w, page) = pattern_word(w->seed, page);
	touch_all(w, pages);
	if (w->dir == DMA_WRITE)
		for (size_t page = 0; page < MIN(pages, (size_t)PAGES); page++)
			*word_of(w, page) = pattern_word(w->seed, page);
	for (size_t i = 0; i < w->count; i++) {
		const size_t slot = i % (w->ex->medium_size / w->len);
		uint64_t t0;
		int r = set->forget ? w->stage->iommu->ops->sync(w->domain, NULL, deadline_in(MS(500))) : 0;

		t0 = tsc_read();
		if (r == 0)
			r = transfer(w, w->dir, nth_page(pages, i), w->len, slot * w->len);
		ticks[i] = tsc_read() - t0;
		ticks[i] -= MIN(ticks[i], w->empty);
		ASSERT_OK(w->t, r);
	}
	set->n += w->count;
	check(w, pages, set->what);
}

static void sweep(struct sweep *w, size_t most, bool wide)
{
	struct set sets[SETS] = {{.what = "hit", .pages = 1}, {.what = "miss", .pages = 1, .forget = true}};
	struct rounds rounds = test_rounds(w->t, OFTEN, TIMING);
	unsigned count = 2;
	char series[80];

	for (size_t pages = 16; pages <= most && count < SETS; pages *= wide ? 4 : 16)
		sets[count++] = (struct set){.what = "swept", .pages = pages};
	for (unsigned i = 0; i < count; i++)
		sets[i].ticks = test_alloc(w->t, rounds.most * w->count * sizeof(uint64_t));
	while (test_round(w->t, &rounds))
		for (unsigned i = 0; i < count; i++)
			sample(w, &sets[i]);
	for (unsigned i = 0; i < count; i++) {
		fmt_snprintf(series, sizeof(series), "dev=" PRIRID " what=%s size=%zu pages=%zu", RIDARG(w->ex->dev->rid),
			     sets[i].what, w->len, sets[i].pages);
		test_metric_rounds(w->t, series, sets[i].ticks, sets[i].n, w->count);
	}
}

/*
 * What a translation costs that is not cached: small transfers over a working set that grows past any
 * IOTLB, and over one page with the cache emptied before each.
 *
 * Every page of a set is touched before the samples are taken, so what is measured is whether it stayed.
 * The difference is a page walk: by hardware some memory reads, by an emulated unit some microseconds,
 * behind a hypervisor that shadows the tables nothing at all.
 */
TEST_FULL(dma, iotlb, TEST_TIMES, BUDGET, "transfers over working sets swept past the IOTLB: hit and miss cost",
	  NEED_IOMMU_TRANSLATION, NEED_EX_DMA_TIMED)
{
	const uint64_t asked = test_iterations(t, 0);
	const bool slow = !asked && machine_is_slow();
	const bool wide = test_wide(t);
	const size_t most = wide ? SETS_WIDE : slow ? 16 : SETS_PAGES;
	unsigned devices = 0;

	FOR_EACH_EXERCISER(t, ex, EX_DMA_TIMED) {
		struct sweep w = {.t = t, .ex = ex, .seed = test_seed(t), .empty = test_measure_nothing(),
				  .dir = ex->caps & EX_DMA_COPY ? DMA_READ : DMA_WRITE,
				  .len = (size_t)align_up(MAX(ex->dma_min, 8u), ex->dma_align),
				  .count = slow ? SAMPLES / 4 : SAMPLES * MIN(MAX(asked, 1u), (uint64_t)1000)};

		if (!(ex->caps & EX_DMA_WRITE) || !dma_stage_open(w.stage = test_alloc(t, sizeof(*w.stage)), t, ex, BUFFER))
			continue;
		w.domain = &w.stage->domain[STAGE_STRICT];
		if (w.stage->has[STAGE_STRICT] && address(&w, most) - 1 <= ex->dma_mask &&
		    map_aliases(&w, most) && dma_stage_enter(w.stage, STAGE_STRICT)) {
			devices++;
			sweep(&w, most, wide);
		}
		dma_stage_close(w.stage);
	}
	if (devices == 0)
		test_skip(t, "no device behind a unit that translates is both quick and writes memory");
}
