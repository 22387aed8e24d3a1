/* SPDX-License-Identifier: MIT */
#include "kernel/lib/bits.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"

/*
 * One bit a page, set when it is taken, from 0 to the end of RAM or PHYS_LIMIT. RAM beyond is left
 * alone: 2 MiB of bitmap is enough for a test guest.
 */
#define PHYS_LIMIT (64ull << 30)
#define PAGE_4G    ((4ull << 30) >> PAGE_SHIFT)
#define PAGE_1M    ((1ull << 20) >> PAGE_SHIFT)

static uint64_t *bitmap;
static uint64_t page_end;                /* pages that the bitmap covers */
static const struct boot_info *map;
static struct phys_stats stats;

static bool taken(uint64_t page) { return bitmap[page / 64] & BIT64(page % 64); }

/* A word at a time: machines have millions of pages, and some emulate every instruction. */
static void mark(uint64_t first, uint64_t end, bool take)
{
	end = MIN(end, page_end);
	for (uint64_t p = first; p < end;) {
		const uint64_t stop = MIN(end, align_down(p, 64) + 64);
		const uint64_t bits = GENMASK64(stop - p - 1, 0) << (p % 64);

		if (take)
			bitmap[p / 64] |= bits;
		else
			bitmap[p / 64] &= ~bits;
		p = stop;
	}
}

static uint64_t mem_end(const struct boot_mem *m)
{
	return m->base + m->size < m->base ? UINT64_MAX : m->base + m->size;
}

/*
 * Firmware maps may overlap: a page is RAM only if a RAM entry covers it whole and no other entry
 * touches it. So RAM first, everything else over it.
 */
static void bitmap_fill(void)
{
	memset(bitmap, 0xff, align_up(page_end, 64) / 8);
	for (unsigned i = 0; i < map->mem_count; i++)
		if (map->mem[i].type == BOOT_MEM_RAM)
			mark(align_up(map->mem[i].base, PAGE_SIZE) >> PAGE_SHIFT,
			     mem_end(&map->mem[i]) >> PAGE_SHIFT, false);
	for (unsigned i = 0; i < map->mem_count; i++)
		if (map->mem[i].type != BOOT_MEM_RAM && map->mem[i].size)
			mark(map->mem[i].base >> PAGE_SHIFT,
			     (mem_end(&map->mem[i]) + PAGE_SIZE - 1) >> PAGE_SHIFT, true);
	mark(0, 1, true);                /* page 0 is for catching NULL */
	stats = (struct phys_stats){0};
	/* Past page_end the last word's bits are set: never marked free. */
	for (uint64_t p = 0; p < page_end; p += 64) {
		const uint64_t bytes = (unsigned)__builtin_popcountll((unsigned long long)~bitmap[p / 64]) * PAGE_SIZE;

		stats.total += bytes;
		if (p >= PAGE_4G)
			stats.above_4g += bytes;
	}
	stats.free = stats.total;
}

/* Before paging: the low 4 GiB are mapped at their own addresses. */
void phys_init(const struct boot_info *bi)
{
	uint64_t end = 0, bytes;

	map = bi;
	for (unsigned i = 0; i < map->mem_count; i++)
		if (map->mem[i].type == BOOT_MEM_RAM)
			end = MAX(end, mem_end(&map->mem[i]));
	page_end = MIN(end, PHYS_LIMIT) >> PAGE_SHIFT;
	bytes = align_up(align_up(page_end, 64) / 8, PAGE_SIZE);

	for (unsigned i = 0; i < map->mem_count && !bitmap; i++) {
		const struct boot_mem *m = &map->mem[i];
		const uint64_t at = align_up(MAX(m->base, 1ull << 20), PAGE_SIZE);

		if (m->type != BOOT_MEM_RAM || at + bytes > MIN(mem_end(m), 4ull << 30) ||
		    !phys_is_ram(at, bytes))
			continue;
		bitmap = phys_to_virt(gpa(at));
		bitmap_fill();
		mark(at >> PAGE_SHIFT, (at + bytes) >> PAGE_SHIFT, true);
		stats.free -= bytes;
	}
	if (!bitmap)
		panic("memory map: no %llu KiB of RAM below 4 GiB in its %u entries",
		      (unsigned long long)(bytes >> 10), map->mem_count);
}

/* After paging: the bitmap's new address. */
void phys_moved(void)
{
	bitmap = phys_to_virt(gpa((uint64_t)(uintptr_t)bitmap));
}

static bool find(uint64_t from, uint64_t to, size_t count, size_t align, uint64_t *out)
{
	for (uint64_t p = align_up(from, align); p + count <= MIN(to, page_end);) {
		uint64_t n = 0;

		if (p % 64 == 0 && bitmap[p / 64] == ~0ull && align <= 64) {
			p += 64;
			continue;
		}
		while (n < count && !taken(p + n))
			n++;
		if (n == count) {
			*out = p;
			return true;
		}
		p = align_up(p + n + 1, align);
	}
	return false;
}

bool phys_alloc(size_t count, size_t align, enum phys_where where, gpa_t *out)
{
	uint64_t p;
	bool found;

	switch (where) {
	case PHYS_BELOW_1M:
		found = find(1, PAGE_1M, count, align, &p);
		break;
	case PHYS_ABOVE_4G:
		found = find(PAGE_4G, page_end, count, align, &p);
		break;
	case PHYS_BELOW_4G:
		found = find(PAGE_1M, PAGE_4G, count, align, &p);
		break;
	default: /* the first megabyte is kept for those who need it */
		found = find(PAGE_1M, page_end, count, align, &p);
		break;
	}
	if (!found)
		return false;
	mark(p, p + count, true);
	stats.free -= count * PAGE_SIZE;
	*out = gpa(p << PAGE_SHIFT);
	return true;
}

void phys_free(gpa_t pa, size_t count)
{
	const uint64_t p = pa.v >> PAGE_SHIFT;

	BUG_ON(!is_aligned(pa.v, PAGE_SIZE) || p + count > page_end);
	for (uint64_t i = p; i < p + count; i++)
		BUG_ON(!taken(i));
	mark(p, p + count, false);
	stats.free += count * PAGE_SIZE;
}

struct phys_stats phys_stats(void) { return stats; }

bool phys_touches_ram(uint64_t base, uint64_t size)
{
	for (unsigned i = 0; i < map->mem_count; i++) {
		const struct boot_mem *m = &map->mem[i];

		if ((m->type == BOOT_MEM_RAM || m->type == BOOT_MEM_LOADER) && base < mem_end(m) &&
		    m->base < base + size)
			return true;
	}
	return false;
}

bool phys_is_ram(uint64_t base, uint64_t size)
{
	uint64_t at = base;

	/* Entries in any order: each round takes one further that holds the first byte not yet covered. */
	for (unsigned round = 0; round <= map->mem_count && at < base + size; round++) {
		for (unsigned i = 0; i < map->mem_count; i++) {
			const struct boot_mem *m = &map->mem[i];

			if ((m->type == BOOT_MEM_RAM || m->type == BOOT_MEM_LOADER) && m->base <= at &&
			    at < mem_end(m))
				at = mem_end(m);
		}
	}
	if (at < base + size)
		return false;
	for (unsigned i = 0; i < map->mem_count; i++) {
		const struct boot_mem *m = &map->mem[i];

		if (m->type != BOOT_MEM_RAM && m->type != BOOT_MEM_LOADER && base < mem_end(m) &&
		    m->base < base + size)
			return false;
	}
	return true;
}
