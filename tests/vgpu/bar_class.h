/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/harness/test.h"

/*
 * Does an access to a page of a BAR go to the device (direct), or does the host answer it (trapped)?
 * Judged against a trap that is certain: the I/O APIC's window, read in the same boot. Times alone say
 * nothing, they overlap between machines.
 */
struct bar_floor { uint64_t p50_ns; bool known; const char *what; };
struct bar_floor bar_floor_measure(struct t *);

enum bar_class { BAR_DIRECT, BAR_TRAPPED, BAR_UNCLEAR };
const char *bar_class_name(enum bar_class);
struct bar_latency {
	uint64_t first_ns, p50_ns, max_ns; /* first: what the first touch of the page cost */
	unsigned n;
	uint32_t value;                    /* what was read */
	unsigned changed;                  /* reads that gave another value than the first */
};
/*
 * Reads 32 bits again and again, for a slice of time, and prints the samples as a metric of this series.
 * A read that takes longer than a second is the last.
 */
struct bar_latency bar_measure(struct t *, const char *series, volatile const void *);
enum bar_class bar_classify(const struct bar_floor *, const struct bar_latency *);
