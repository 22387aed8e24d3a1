/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/dma/series.h"

/*
 * How long a transfer takes, how much goes through, and what an IOMMU in its way costs: see series.h for
 * how it is measured. Every mode's figures stand beside those of the same transfers without translation;
 * `plumb report` says of each pair whether a difference is to be seen.
 */

#define BUDGET 120000                    /* ms, for iterations=; by default it is less than a second */

static void print_latency(struct t *t, const struct dma_figures *f)
{
	test_metric_ticks(t, f->name, f->each, f->each_count);
}

/* Units of work (>> shift) in a burst, as a rate: the slowest, the median and the fastest. */
static void print_rate(struct t *t, const struct dma_figures *f, uint64_t work, unsigned shift, const char *unit)
{
	uint64_t *ticks = f->whole;
	const size_t n = f->whole_count;

	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k > 0 && ticks[k] > ticks[k - 1]; k--) {
			const uint64_t x = ticks[k];

			ticks[k] = ticks[k - 1];
			ticks[k - 1] = x;
		}
#define RATE(i) (unsigned long long)((work * 1000 * tsc_khz() / ticks[i]) >> shift)
	test_metric(t, "%s unit=%s n=%zu min=%llu p50=%llu max=%llu", f->name, unit, n, RATE(0), RATE(n / 2),
		    RATE(n - 1));
#undef RATE
}

static void print_bandwidth(struct t *t, const struct dma_figures *f)
{
	print_rate(t, f, f->series->size * f->series->count, 20, "MiB/s");
}

static void print_depth(struct t *t, const struct dma_figures *f)
{
	if (!f->slow)
		print_latency(t, f);
	print_rate(t, f, f->series->count, 0, "1/s");
}

TEST_FULL(dma, latency, 0, BUDGET, "time of one transfer by size: IOMMU off, pass-through and translating",
	  NEED_EX_DMA_TIMED)
{
	static const struct dma_series sizes[] = {
		{.size = 64, .depth = 1, .count = 16, .modes = STAGE_4K},
		{.size = 512, .depth = 1, .count = 8, .modes = STAGE_4K},
		{.size = 4096, .depth = 1, .count = 16, .modes = STAGE_1G},
		{.size = 16384, .depth = 1, .count = 16, .wide = true},
		{.size = 65536, .depth = 1, .count = 8, .modes = STAGE_STRICT},
		{.size = 262144, .depth = 1, .count = 8, .wide = true},
		{.size = 1u << 20, .depth = 1, .count = 4, .modes = STAGE_4K},
		{.size = 4u << 20, .depth = 1, .count = 4, .wide = true},
	};

	dma_series_run(t, sizes, ARRAY_SIZE(sizes), print_latency);
}

TEST_FULL(dma, bandwidth, 0, BUDGET,
	  "bytes through by size, many transfers in flight: IOMMU off, pass-through and translating",
	  NEED_EX_DMA_TIMED)
{
	static const struct dma_series sizes[] = {
		{.size = 64, .depth = 32, .count = 64, .wide = true},
		{.size = 512, .depth = 32, .count = 64, .wide = true},
		{.size = 4096, .depth = 32, .count = 64, .modes = STAGE_4K},
		{.size = 16384, .depth = 32, .count = 64, .wide = true},
		{.size = 65536, .depth = 32, .count = 32, .modes = STAGE_4K},
		{.size = 262144, .depth = 32, .count = 16, .wide = true},
		{.size = 1u << 20, .depth = 32, .count = 4, .modes = STAGE_4K},
		{.size = 4u << 20, .depth = 32, .count = 4, .wide = true},
	};

	dma_series_run(t, sizes, ARRAY_SIZE(sizes), print_bandwidth);
}

TEST_FULL(dma, depth, 0, BUDGET,
	  "latency and rate of 4 KiB transfers by queue depth: IOMMU off, pass-through and translating",
	  NEED_EX_DMA_TIMED)
{
	static const struct dma_series depths[] = {
		{.size = 4096, .depth = 1, .count = 16, .modes = STAGE_4K},
		{.size = 4096, .depth = 2, .count = 32, .wide = true},
		{.size = 4096, .depth = 4, .count = 24, .modes = STAGE_4K},
		{.size = 4096, .depth = 8, .count = 48, .wide = true},
		{.size = 4096, .depth = 16, .count = 64, .wide = true},
		{.size = 4096, .depth = 32, .count = 64, .modes = STAGE_DEFERRED},
		{.size = 4096, .depth = 64, .count = 64, .wide = true},
	};

	dma_series_run(t, depths, ARRAY_SIZE(depths), print_depth);
}
