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
	test_metric_rounds(t, f->name, f->each, f->each_count, f->visits * f->series->count);
}

static void print_bandwidth(struct t *t, const struct dma_figures *f)
{
	test_metric_rate(t, f->name, "MiB/s", f->series->size * f->series->count, 20, f->whole,
			 f->whole_count, f->visits);
}

static void print_depth(struct t *t, const struct dma_figures *f)
{
	if (!f->slow)
		print_latency(t, f);
	test_metric_rate(t, f->name, "1/s", f->series->count, 0, f->whole,
			 f->whole_count, f->visits);
}

TEST_FULL(dma, latency, TEST_TIMES, BUDGET, "time of one transfer by size: IOMMU off, pass-through and translating",
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

TEST_FULL(dma, bandwidth, TEST_TIMES, BUDGET,
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

TEST_FULL(dma, depth, TEST_TIMES, BUDGET,
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
