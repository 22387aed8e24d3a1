/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/dma/dma_test.h"

/*
 * Timed transfers: some series (a size and a depth each) on every device, in every mode of dma_stage.
 *
 * Modes are gone through forwards and then backwards within a round, so that a machine that gets slower
 * or faster meanwhile does so for all of them alike. A sample is TSC ticks from before the device is
 * told (before the mapping, where one is made) to the completion seen in memory (or the mapping gone).
 * In a burst nothing is printed and no register touched but those of the transfers. What was moved is
 * checked after it: a word of every page, and the last of every transfer (dma.integrity looks at each
 * byte). On a machine that is slow there are fewer samples and modes; iterations=N asks for N rounds and
 * for the series that are left out by default. n says how many samples there were.
 */

#define DMA_BURST_MAX  64
#define DMA_SERIES_MAX 12

struct dma_series {
	size_t size;
	unsigned depth, count;           /* transfers in flight; in a burst */
	bool wide;                       /* only with iterations= */
	enum stage_mode modes;           /* up to which one, without iterations= */
};

struct dma_figures {
	const struct dma_stage *stage;
	const struct dma_series *series;
	enum stage_mode mode;
	enum dma_dir dir;
	char name[112];                  /* "dev=00:07.0 what=read mode=strict size=4096 depth=1" */
	uint64_t *each, *whole;          /* ticks of each transfer and of each burst */
	size_t each_count, whole_count;
	size_t visits;                   /* bursts of a round, among these */
	bool slow;                       /* a line takes long here: print no more than you must */
};

/* Measures them all and then calls print for each series, mode and direction that a device has. */
void dma_series_run(struct t *, const struct dma_series *, unsigned count,
		    void (*print)(struct t *, const struct dma_figures *));
