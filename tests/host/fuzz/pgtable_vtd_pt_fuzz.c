/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/pgtable/vtd_pt.c
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/iommu/pgtable/vtd_pt.h"

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

/*
 * Operations from the input, eight bytes each, over the lowest 2 GiB and the highest (first stage: of both
 * halves); table memory is scarce. After each one: what it promises, looked up; and at the end not a page
 * is missing.
 */
#define PAGES 64
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
static const struct vtd_pt_mem mem = {mem_alloc, mem_free, mem_at, NULL};

static void check_range(const struct vtd_pt *t, uint64_t at, uint64_t size, uint64_t pa, unsigned prot, bool there)
{
	const uint64_t probe[] = {at, at + size / 2, at + size - 1};

	for (unsigned i = 0; i < 3; i++) {
		struct vtd_pt_leaf leaf;
		const int r = vtd_pt_lookup(t, probe[i], &leaf);

		MUST(there ? r == 0 && leaf.pa == pa + (probe[i] - at) && leaf.prot == prot : r == -2);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct vtd_pt t = {.mem = &mem, .bits = 64, .sizes = VTD_PT_2M | VTD_PT_1G};

	if (n < 1)
		return 0;
	t.stage = p[0] & 0x80 ? VTD_FIRST : VTD_SECOND;
	t.levels = t.stage == VTD_FIRST ? 4 + p[0] % 2 : 3 + p[0] % 3;
	MUST(vtd_pt_init(&t) == 0);
	for (size_t i = 1; i + 8 <= n && i < 8 * 64; i += 8) {
		/* The end of the addresses, or of their lower half. */
		const uint64_t high = !(p[i] & 0x80)          ? 0 :
				      t.stage == VTD_SECOND   ? (1ull << t.bits) - (2ull << 30) :
				      p[i] & 0x08             ? -(2ull << 30) :
								(1ull << (t.bits - 1)) - (2ull << 30);
		const unsigned shift = p[i] & 0x40 ? 21 : 12;
		const uint64_t at = high + ((uint64_t)(p[i + 1] | p[i + 2] << 8) << shift);
		const uint64_t size = (uint64_t)(p[i + 3] | (p[i] & 0x10 ? p[i + 4] << 8 : 0)) << (p[i] & 0x20 ? 21 : 12);
		const uint64_t pa = (uint64_t)(p[i + 5] | p[i + 6] << 8) << (p[i + 7] & 1 ? 30 : p[i + 7] & 2 ? 21 : 12);
		const unsigned prot = p[i + 7] >> 2 & 3;
		const uint64_t max = p[i + 7] & 0x10 ? VTD_PT_4K : p[i + 7] & 0x20 ? VTD_PT_2M : 0;
		const uint64_t before = t.pages - t.limbo_pages;

		switch (p[i] & 3) {
		case 0:
		case 1:
			if (vtd_pt_map(&t, at, pa, size, prot, max) == 0)
				check_range(&t, at, size, pa, prot, true);
			else
				MUST(t.pages - t.limbo_pages == before);
			break;
		case 2:
			if (vtd_pt_unmap(&t, at, size) == 0)
				check_range(&t, at, size, 0, 0, false);
			else
				MUST(t.pages - t.limbo_pages == before);
			break;
		default:
			vtd_pt_reap(&t);
			MUST(t.limbo_pages == 0 && t.limbo == 0);
		}
		MUST(t.pages == used && t.limbo_pages < t.pages);
	}
	vtd_pt_fini(&t);
	MUST(used == 0 && t.pages == 0);
	return 0;
}
