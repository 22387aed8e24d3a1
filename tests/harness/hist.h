/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * A log-bucket histogram as text, for the "# hist" lines (docs/results.md). Pure.
 *
 * Each power of two is cut into HIST_SUB buckets of one width; below HIST_SUB each value has its own.
 * So a bucket is at most 1/HIST_SUB as wide as its lower edge is high, and integers suffice.
 */
#define HIST_SUB 16u

/*
 * The rank l for which the l-th and the (n+1-l)-th smallest of n samples enclose the median with a
 * confidence of 97.5 % at least, whatever the distribution: two such intervals both hold with 95 %.
 * 0: n is too small (below 7).
 */
size_t median_rank(size_t n);

/* The bucket of v, and the least value in a bucket; sub: a power of two, 1 to HIST_SUB. */
unsigned hist_bucket(uint64_t v, unsigned sub);
uint64_t hist_lower(unsigned bucket, unsigned sub);
/*
 * "sub=16 181:10,3,3 260:1": runs of neighbouring buckets, each the first one's number and the counts.
 * value(ascending[i]) must ascend too. What does not fit is told with fewer buckets a power of two.
 * Returns the length; -ENOSPC when not even one bucket a power of two fits.
 */
int hist_text(const uint64_t *ascending, size_t n, uint64_t (*value)(uint64_t), char *buf, size_t size);
