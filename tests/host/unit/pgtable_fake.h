/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Table memory for the page-table tests: it counts its pages, gives out addresses that are not pointers, refuses on
 * demand, and hands every page back to the C library, so that ASan sees the use of one that was freed.
 */
#include "drivers/iommu/pgtable/pgtable.h"
#include "tests/host/host.h"

#define PAGES_MAX 4096
#define PA_BASE   0x7000000000ull
static uint64_t *page[PAGES_MAX];
static unsigned pages_used, fail_after = ~0u;

static uint64_t *mem_alloc(void *ctx, uint64_t *pa)
{
	(void)ctx;
	if (fail_after == 0)
		return NULL;
	fail_after -= fail_after != ~0u;
	for (unsigned i = 0; i < PAGES_MAX; i++) {
		if (!page[i]) {
			page[i] = calloc(512, 8);
			pages_used++;
			*pa = PA_BASE + i * 4096ull;
			return page[i];
		}
	}
	return NULL;
}
static uint64_t *mem_at(void *ctx, uint64_t pa)
{
	(void)ctx;
	if (pa < PA_BASE || pa >= PA_BASE + PAGES_MAX * 4096ull || (pa & 4095) || !page[(pa - PA_BASE) >> 12])
		abort();
	return page[(pa - PA_BASE) >> 12];
}
static void mem_free(void *ctx, uint64_t pa)
{
	free(mem_at(ctx, pa));
	page[(pa - PA_BASE) >> 12] = NULL;
	pages_used--;
}

/*
 * An incoherent walker: it sees what was flushed. Each flushed entry is copied; at the end of an
 * operation all pages must look to it as they look to us.
 */
static uint64_t seen[PAGES_MAX][512];
static bool flushing;
static void mem_flush(void *ctx, const void *p, size_t size)
{
	(void)ctx;
	flushing = true;
	for (unsigned i = 0; i < PAGES_MAX; i++) {
		const size_t off = (size_t)((uintptr_t)p - (uintptr_t)page[i]);

		if (page[i] && (uintptr_t)p >= (uintptr_t)page[i] && off < 4096) {
			memcpy((uint8_t *)seen[i] + off, p, size);
			return;
		}
	}
	abort();
}
static const struct pgt_mem mem = {mem_alloc, mem_free, mem_at};

static void check_flushed(void)
{
	bool same = true;

	for (unsigned i = 0; i < PAGES_MAX; i++)
		same &= !page[i] || !memcmp(page[i], seen[i], 4096);
	CHECK(same);
}

static struct pgt make(struct pgt t)
{
	t.mem = &mem;
	t.flush = mem_flush;
	CHECK_EQ(pgt_init(&t), 0);
	return t;
}

static void done(struct pgt *t)
{
	pgt_fini(t);
	CHECK_EQ(t->pages, 0);
	CHECK_EQ(pages_used, 0);
}

/* ---- what the formats have in common; make_one: of four levels, whose input is cut to so many bits ---- */

static void check_refused(struct pgt (*make_one)(unsigned bits), unsigned bits)
{
	struct pgt t = make_one(bits);
	const uint64_t end = 1ull << bits, all = PGT_ALL_SIZES;
	struct pgt_leaf leaf;

	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 0, 3, all), -22);
	CHECK_EQ(pgt_map(&t, 0x1001, 0x1000, 4096, 3, all), -22);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1001, 4096, 3, all), -22);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 4097, 3, all), -22);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 4096, 0, all), -22);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 4096, 4, all), -22);
	CHECK_EQ(pgt_map(&t, end, 0x1000, 4096, 3, all), -34);
	CHECK_EQ(pgt_map(&t, end - 4096, 0x1000, 8192, 3, all), -34);
	CHECK_EQ(pgt_map(&t, 0x1000, 1ull << 52, 4096, 3, all), -34);
	CHECK_EQ(pgt_map(&t, 0x1000, (1ull << 52) - 4096, 8192, 3, all), -34);
	CHECK_EQ(pgt_map(&t, 0x1000, (1ull << 52) - 4096, 4096, 3, all), 0);
	CHECK_EQ(pgt_unmap(&t, 0x1000, 4096), 0);
	CHECK_EQ(pgt_map(&t, -4096ull, 0x1000, 4096, 3, all), -34);
	CHECK_EQ(pgt_map(&t, 0x1000, 0, -4096ull, 3, all), -34);
	CHECK_EQ(pgt_unmap(&t, 0x2000, 4096), -2);

	/* All or nothing: a page in the way, the last one. */
	CHECK_EQ(pgt_map(&t, 0x205000, 0x9000, 4096, 3, all), 0);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 0x205000, 3, all), -17);
	CHECK_EQ(pgt_lookup(&t, 0x1000, &leaf), -2);
	CHECK_EQ(pgt_unmap(&t, 0x204000, 8192), -2);
	CHECK_EQ(pgt_lookup(&t, 0x205000, &leaf), 0);
	done(&t);
}

/* Memory runs out at every allocation there is: nothing is left behind. */
static void check_no_memory(struct pgt (*make_one)(unsigned bits))
{
	for (unsigned n = 0;; n++) {
		struct pgt t = make_one(48);
		struct pgt_leaf leaf;
		int r;

		CHECK_EQ(pgt_map(&t, 0x3ff000, 0x1000, 4096, 3, 0), 0);
		fail_after = n;
		r = pgt_map(&t, 0x3fffe000000, 0x1000, 8 * PGT_2M, 3, 0);
		fail_after = ~0u;
		check_flushed();
		if (r == 0) {
			done(&t);
			CHECK(n > 8);
			return;
		}
		CHECK_EQ(r, -12);
		CHECK_EQ(pgt_lookup(&t, 0x3fffe000000, &leaf), -2);
		CHECK_EQ(pgt_lookup(&t, 0x3ff000, &leaf), 0);
		pgt_reap(&t);
		CHECK_EQ(t.pages, 4);
		done(&t);
	}
}
