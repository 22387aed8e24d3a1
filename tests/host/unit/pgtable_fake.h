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
