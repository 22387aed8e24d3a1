/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/pgtable/vtd_pt.h"

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

#define ENTRIES  512
/* Both stages (9.7, 9.8): */
#define PT_PS    BIT64(7)            /* this entry of level 2 or 3 is a leaf */
#define PT_ADDR  GENMASK64(51, 12)
/* Second stage: R and W are bits 0 and 1. */
#define SS_RW    ((uint64_t)(VTD_PT_R | VTD_PT_W))
/* First stage: as a CPU's. The unit sets A and D. */
#define FS_P     BIT64(0)
#define FS_RW    BIT64(1)
#define FS_US    BIT64(2)            /* what devices ask for is a user's request */
#define FS_A     BIT64(5)
#define FS_D     BIT64(6)

/* Level 1 holds 4 KiB leaves. */
static unsigned level_shift(unsigned level)
{
	return 12 + 9 * (level - 1);
}

static uint64_t level_size(unsigned level)
{
	return 1ull << level_shift(level);
}

static unsigned level_index(uint64_t iova, unsigned level)
{
	return (unsigned)(iova >> level_shift(level)) & (ENTRIES - 1);
}

/* Second stage: neither readable nor writable is not present. Bit 1 alone is never set in the first. */
static bool is_present(uint64_t entry)
{
	return entry & SS_RW;
}

static uint64_t prot_bits(const struct vtd_pt *t, unsigned prot)
{
	if (SABOTAGE(vtd_leaf_writable))
		prot |= VTD_PT_W;
	if (SABOTAGE(vtd_leaf_readable))
		prot |= VTD_PT_R;
	if (SABOTAGE(vtd_leaf_supervisor) && t->stage == VTD_FIRST)
		return FS_P | FS_RW;
	return t->stage == VTD_FIRST ? FS_P | FS_US | (prot & VTD_PT_W ? FS_RW : 0) : prot;
}

static unsigned prot_of(const struct vtd_pt *t, uint64_t entry)
{
	if (t->stage == VTD_SECOND)
		return (unsigned)(entry & SS_RW);
	return (entry & FS_P ? VTD_PT_R : 0) | (entry & FS_RW ? VTD_PT_W : 0);
}

static bool is_leaf(uint64_t entry, unsigned level)
{
	return level == 1 || (entry & PT_PS);
}

static void flush(const struct vtd_pt *t, const void *p, size_t size)
{
	if (t->mem->flush)
		t->mem->flush(t->ctx, p, size);
}

/* One store: a walker sees the old entry or the new one, and what the new one points to before it. */
static void set_entry(const struct vtd_pt *t, uint64_t *entry, uint64_t value)
{
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
	flush(t, entry, sizeof(*entry));
}

static uint64_t *new_table(struct vtd_pt *t, uint64_t *pa)
{
	uint64_t *table = t->mem->alloc(t->ctx, pa);

	if (table) {
		t->pages++;
		flush(t, table, VTD_PT_4K);
	}
	return table;
}

/*
 * Entry 0 of a page in limbo links to the next: a page's address has R and W clear, so that a walker
 * which still comes by finds nothing present.
 */
static void to_limbo(struct vtd_pt *t, uint64_t pa)
{
	t->near = NULL;
	set_entry(t, t->mem->at(t->ctx, pa), t->limbo);
	t->limbo = pa;
	t->limbo_pages++;
}

void vtd_pt_reap(struct vtd_pt *t)
{
	while (t->limbo) {
		const uint64_t pa = t->limbo;

		t->limbo = *t->mem->at(t->ctx, pa);
		t->mem->free(t->ctx, pa);
		t->limbo_pages--;
		t->pages--;
	}
}

/* What is not present is 0: each entry as the one before it. */
static bool is_empty(const uint64_t *table)
{
	return table[0] == 0 && memcmp(table, table + 1, (ENTRIES - 1) * sizeof(*table)) == 0;
}

/* The first address of the next entry of this level, or end where that comes first. */
static uint64_t entry_end(uint64_t iova, uint64_t end, unsigned level)
{
	const uint64_t next = align_down(iova, level_size(level)) + level_size(level);

	return MIN(next, end);
}

/* Bytes mapped in [iova, end); *cut: a leaf lies across one of its ends. */
static uint64_t count_mapped(const struct vtd_pt *t, uint64_t pa, unsigned level, uint64_t iova,
			     uint64_t end, bool *cut)
{
	const uint64_t *table = t->mem->at(t->ctx, pa);
	uint64_t bytes = 0;

	while (iova < end) {
		const uint64_t entry = table[level_index(iova, level)];
		const uint64_t next = entry_end(iova, end, level);

		if (is_present(entry) && is_leaf(entry, level)) {
			*cut |= next - iova != level_size(level);
			bytes += next - iova;
		} else if (is_present(entry)) {
			bytes += count_mapped(t, entry & PT_ADDR, level - 1, iova, next, cut);
		}
		iova = next;
	}
	return bytes;
}

static void clear_leaf(struct vtd_pt *t, uint64_t *entry)
{
	set_entry(t, entry, SABOTAGE(vtd_leaf_stays) ? *entry : 0);
}

/* Clears all leaves in [iova, end), and takes out the tables that this leaves empty. */
static void clear(struct vtd_pt *t, uint64_t pa, unsigned level, uint64_t iova, uint64_t end)
{
	uint64_t *table = t->mem->at(t->ctx, pa);

	while (iova < end) {
		uint64_t *entry = &table[level_index(iova, level)];
		const uint64_t next = entry_end(iova, end, level), child = *entry & PT_ADDR;

		if (is_present(*entry) && is_leaf(*entry, level)) {
			clear_leaf(t, entry);
		} else if (is_present(*entry)) {
			clear(t, child, level - 1, iova, next);
			if (is_empty(t->mem->at(t->ctx, child))) {
				set_entry(t, entry, 0);
				to_limbo(t, child);
			}
		}
		iova = next;
	}
}

/* The table of level 1 that has iova's entry; NULL: there is none so deep. The last one found is kept. */
static uint64_t *last_table(struct vtd_pt *t, uint64_t iova)
{
	uint64_t *table = t->near;

	if (table && iova >> level_shift(2) == t->near_block)
		return table;
	table = t->mem->at(t->ctx, t->root);
	for (unsigned level = t->levels; level > 1; level--) {
		const uint64_t entry = table[level_index(iova, level)];

		if (!is_present(entry) || is_leaf(entry, level))
			return NULL;
		table = t->mem->at(t->ctx, entry & PT_ADDR);
	}
	t->near = table;
	t->near_block = iova >> level_shift(2);
	return table;
}

/* May [iova, next) to pa be one leaf of this level? */
static bool leaf_fits(const struct vtd_pt *t, unsigned level, uint64_t iova, uint64_t pa,
		      uint64_t next, uint64_t page_max)
{
	const uint64_t size = level_size(level);

	if (level == 1)
		return true;
	return (t->sizes & size) && size <= page_max && next - iova == size && is_aligned(pa, size);
}

/* The range was empty. -ENOMEM leaves what has been done for the caller to clear. */
static int fill(struct vtd_pt *t, uint64_t table_pa, unsigned level, uint64_t iova, uint64_t end,
		uint64_t pa, uint64_t leaf_bits, uint64_t page_max)
{
	uint64_t *table = t->mem->at(t->ctx, table_pa);

	while (iova < end) {
		uint64_t *entry = &table[level_index(iova, level)];
		const uint64_t next = entry_end(iova, end, level);

		/* A table that is there holds mappings of others: it stays, with smaller leaves. */
		if (!is_present(*entry) && leaf_fits(t, level, iova, pa, next, page_max)) {
			set_entry(t, entry, pa | leaf_bits | (level > 1 ? PT_PS : 0));
		} else {
			uint64_t child = *entry & PT_ADDR;
			int r;

			if (!is_present(*entry)) {
				if (!new_table(t, &child))
					return -ENOMEM;
				set_entry(t, entry, child | prot_bits(t, VTD_PT_R | VTD_PT_W));
			}
			r = fill(t, child, level - 1, iova, next, pa, leaf_bits, page_max);
			if (r < 0)
				return r;
		}
		pa += next - iova;
		iova = next;
	}
	return 0;
}

/*
 * First stage: addresses are canonical, and the tables see the bits below the sign's copies. -ERANGE: not
 * one that these tables translate.
 */
static int fold(const struct vtd_pt *t, uint64_t *iova)
{
	const uint64_t above = UINT64_MAX << t->bits;
	const bool negative = t->stage == VTD_FIRST && (*iova & 1ull << (t->bits - 1));

	if ((*iova & above) != (negative ? above : 0))
		return -ERANGE;
	*iova &= ~above;
	return 0;
}

/* Also folds *iova. A range lies in one half. */
static int check_range(const struct vtd_pt *t, uint64_t *iova, uint64_t size)
{
	uint64_t limit = 1ull << t->bits;

	if (size == 0 || !is_aligned(*iova | size, VTD_PT_4K))
		return -EINVAL;
	if (fold(t, iova) < 0)
		return -ERANGE;
	if (t->stage == VTD_FIRST && *iova < limit / 2)
		limit /= 2;
	return size > limit - *iova ? -ERANGE : 0;
}

int vtd_pt_map(struct vtd_pt *t, uint64_t iova, uint64_t pa, uint64_t size, unsigned prot,
	       uint64_t page_max)
{
	uint64_t *table;
	bool cut = false;
	int r = check_range(t, &iova, size);

	if (r < 0)
		return r;
	if (!is_aligned(pa, VTD_PT_4K) || prot == 0 || (prot & ~(VTD_PT_R | VTD_PT_W)) ||
	    (t->stage == VTD_FIRST && !(prot & VTD_PT_R)))
		return -EINVAL;
	if (pa > PT_ADDR || size > PT_ADDR + VTD_PT_4K - pa)
		return -ERANGE;
	/* What a driver does for each transfer: one page, among others in a table that is there. */
	table = size == VTD_PT_4K ? last_table(t, iova) : NULL;
	if (table && !is_present(table[level_index(iova, 1)])) {
		set_entry(t, &table[level_index(iova, 1)], pa | prot_bits(t, prot) | t->leaf_bits);
		return 0;
	}
	if (count_mapped(t, t->root, t->levels, iova, iova + size, &cut) != 0)
		return -EEXIST;
	r = fill(t, t->root, t->levels, iova, iova + size, pa, prot_bits(t, prot) | t->leaf_bits,
		 page_max ? page_max : UINT64_MAX);
	if (r < 0)
		clear(t, t->root, t->levels, iova, iova + size);
	return r;
}

int vtd_pt_unmap(struct vtd_pt *t, uint64_t iova, uint64_t size)
{
	uint64_t *table;
	bool cut = false;
	int r = check_range(t, &iova, size);

	if (r < 0)
		return r;
	table = size == VTD_PT_4K ? last_table(t, iova) : NULL;
	if (table && is_present(table[level_index(iova, 1)])) {
		clear_leaf(t, &table[level_index(iova, 1)]);
		if (is_empty(table))
			clear(t, t->root, t->levels, iova, iova + size);
		return 0;
	}
	if (count_mapped(t, t->root, t->levels, iova, iova + size, &cut) != size)
		return -ENOENT;
	if (cut)
		return -EINVAL;
	clear(t, t->root, t->levels, iova, iova + size);
	return 0;
}

int vtd_pt_lookup(const struct vtd_pt *t, uint64_t iova, struct vtd_pt_leaf *out)
{
	uint64_t pa = t->root;
	unsigned prot = VTD_PT_R | VTD_PT_W;

	if (fold(t, &iova) < 0)
		return -ERANGE;
	for (unsigned level = t->levels; level > 0; level--) {
		const uint64_t *table = t->mem->at(t->ctx, pa);
		const uint64_t entry = table[level_index(iova, level)];

		prot &= prot_of(t, entry);
		if (!is_present(entry))
			return -ENOENT;
		if (is_leaf(entry, level)) {
			const uint64_t size = level_size(level);

			*out = (struct vtd_pt_leaf){
				.pa = align_down(entry & PT_ADDR, size) | (iova & (size - 1)),
				.size = size,
				.prot = prot,
				.accessed = t->stage == VTD_FIRST && (entry & FS_A),
				.dirty = t->stage == VTD_FIRST && (entry & FS_D)};
			return 0;
		}
		pa = entry & PT_ADDR;
	}
	return -ENOENT;
}

int vtd_pt_init(struct vtd_pt *t)
{
	const unsigned width = 12 + 9 * t->levels;

	if (t->levels < (t->stage == VTD_FIRST ? 4u : 3u) || t->levels > 5 || t->bits < 12)
		return -EINVAL;
	t->bits = t->stage == VTD_FIRST ? width : MIN(t->bits, width);
	t->sizes &= VTD_PT_2M | VTD_PT_1G;
	t->limbo = 0;
	t->near = NULL;
	t->pages = t->limbo_pages = 0;
	return new_table(t, &t->root) ? 0 : -ENOMEM;
}

static void free_tree(struct vtd_pt *t, uint64_t pa, unsigned level)
{
	const uint64_t *table = t->mem->at(t->ctx, pa);

	for (unsigned i = 0; i < ENTRIES; i++) {
		if (is_present(table[i]) && !is_leaf(table[i], level))
			free_tree(t, table[i] & PT_ADDR, level - 1);
	}
	t->mem->free(t->ctx, pa);
	t->pages--;
}

void vtd_pt_fini(struct vtd_pt *t)
{
	if (!t->root)
		return;
	vtd_pt_reap(t);
	free_tree(t, t->root, t->levels);
	t->root = 0;
}
