/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/pgtable/pgtable.c
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/iommu/pgtable/pgtable.h"
#include "kernel/lib/bits.h"

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

/*
 * Operations from the input, nine bytes each, at the bottom and the top of the address space (of a first stage: of
 * both halves), leaves of every size; table memory is scarce. After each one: what it promises, looked up; and at the
 * end not a page is missing.
 */
#define PAGES 24
static uint64_t *page[PAGES];
static unsigned used;

static uint64_t *mem_alloc(void *ctx, uint64_t *pa)
{
	(void)ctx;
	for (unsigned i = 0; i < PAGES; i++) {
		if (!page[i]) {
			page[i] = calloc(512, 8);
			used++;
			*pa = (i + 1) * 4096ull;
			return page[i];
		}
	}
	return NULL;
}
static uint64_t *mem_at(void *ctx, uint64_t pa)
{
	(void)ctx;
	MUST(!(pa & 4095) && pa / 4096 >= 1 && pa / 4096 <= PAGES && page[pa / 4096 - 1]);
	return page[pa / 4096 - 1];
}
static void mem_free(void *ctx, uint64_t pa)
{
	free(mem_at(ctx, pa));
	page[pa / 4096 - 1] = NULL;
	used--;
}
static const struct pgt_mem mem = {mem_alloc, mem_free, mem_at};

static void check_range(const struct pgt *t, uint64_t at, uint64_t size, uint64_t pa, unsigned prot, bool there)
{
	const uint64_t probe[] = {at, at + size / 2, at + size - 1};

	for (unsigned i = 0; i < 3; i++) {
		struct pgt_leaf leaf;
		const int r = pgt_lookup(t, probe[i], &leaf);

		MUST(there ? r == 0 && leaf.pa == pa + (probe[i] - at) && leaf.prot == prot && leaf.size <= size
			   : r == -2);
	}
}

/* Leaf after leaf, each as a lookup has it, and nothing between two of them. */
static void check_leaves(const struct pgt *t)
{
	struct pgt_leaf leaf, other;
	uint64_t at = 0, end = 0;

	for (unsigned i = 0; i < 64 && pgt_next(t, &at, &leaf) == 0; i++) {
		MUST(at >= end && pgt_lookup(t, at, &other) == 0 && other.pa == leaf.pa && other.size == leaf.size);
		MUST(at == end || pgt_lookup(t, at - 1, &other) == -2);
		end = at += leaf.size;
		if (!at)
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct pgt t = {.mem = &mem, .sizes = PGT_ALL_SIZES};

	if (n < 2)
		return 0;
	t.format = p[0] < 0x80 ? PGT_AMD_V1 : p[0] < 0xc0 ? PGT_VTD_SECOND : PGT_VTD_FIRST;
	t.levels = t.format == PGT_AMD_V1 ? 1 + p[0] % 6 : t.format == PGT_VTD_SECOND ? 3 + p[0] % 3 : 4 + p[0] % 2;
	t.bits = 12 + p[1] % 53;
	MUST(pgt_init(&t) == 0 && t.bits <= 64);
	for (size_t i = 2; i + 9 <= n && i < 9 * 24; i += 9) {
		const unsigned most = t.format == PGT_AMD_V1 ? 55 : 30; /* more than its leaves take is slow, and -ENOMEM */
		const unsigned order = MIN(12 + (p[i] >> 2 & 0x1f) + (p[i + 7] >> 6) * 4u, most);
		const bool lower = t.format == PGT_VTD_FIRST && (p[i + 8] & 0x80); /* the end of the half below 0 */
		const uint64_t end = t.format == PGT_VTD_FIRST ? lower ? 1ull << (t.bits - 1) : 0 :
				     t.bits == 64	       ? 0 : 1ull << t.bits;
		const uint64_t high = p[i] & 0x80 ? end - (256ull << order) : 0;
		const uint64_t at = high + ((uint64_t)p[i + 1] << order) + ((uint64_t)p[i + 2] << 12);
		const uint64_t size = ((uint64_t)p[i + 3] << order) + ((uint64_t)p[i + 4] << 12);
		const uint64_t pa = ((uint64_t)p[i + 5] << order) + ((uint64_t)p[i + 6] << 12);
		const unsigned prot = p[i + 7] & 3;
		const uint64_t sizes = p[i + 7] & 4 ? PGT_NATURAL : p[i + 7] & 8 ? 1ull << (p[i + 8] & 63) :
				       PGT_ALL_SIZES;
		const uint64_t before = t.pages - t.limbo_pages;

		switch (p[i] & 3) {
		case 0:
		case 1:
			if (pgt_map(&t, at, pa, size, prot, sizes) == 0)
				check_range(&t, at, size, pa, prot, true);
			else
				MUST(t.pages - t.limbo_pages == before);
			break;
		case 2:
			if (pgt_unmap(&t, at, size) == 0)
				check_range(&t, at, size, 0, 0, false);
			else
				MUST(t.pages - t.limbo_pages == before);
			break;
		default:
			pgt_reap(&t);
			MUST(t.limbo_pages == 0 && t.limbo == 0);
		}
		MUST(t.pages == used && t.limbo_pages < t.pages);
	}
	if (t.format != PGT_VTD_FIRST)
		check_leaves(&t);
	pgt_fini(&t);
	MUST(used == 0 && t.pages == 0);
	return 0;
}
