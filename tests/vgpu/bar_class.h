/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/harness/test.h"

/*
 * Does an access to a page of a BAR go to the device (direct), or does the host answer it (trapped)?
 * Judged against traps that are certain: the I/O APIC's window, and a port that the VMM itself answers.
 * Times alone say nothing, they overlap between machines, and a host that is busy doubles them from one
 * millisecond to the next: each read of the page is compared with the traps right beside it.
 */
enum bar_class { BAR_DIRECT, BAR_TRAPPED, BAR_UNCLEAR };
const char *bar_class_name(enum bar_class);
struct bar_latency {
	uint64_t first_ns, p50_ns, max_ns; /* first: what the first touch of the page cost */
	unsigned n;
	uint32_t value;                    /* what was read */
	unsigned changed;                  /* reads that gave another value than the first */
	uint64_t of_ioapic, of_port;       /* percent of what that trap costs beside it, median; without an I/O APIC 0 */
};
/*
 * Reads 32 bits again and again, for a slice of time, and prints the samples as a metric of this series.
 * A read that takes longer than a second is the last.
 */
struct bar_latency bar_measure(struct t *, const char *series, volatile const void *);
enum bar_class bar_classify(const struct bar_latency *);
/* By what it was judged: "93 % of a read of the I/O APIC's window, 220 % of one of port 0xcf8". */
#define BAR_BESIDE 112
const char *bar_beside_text(const struct bar_latency *, char text[BAR_BESIDE]);
void bar_floor_measure(struct t *);    /* the I/O APIC's window alone, as a metric */
