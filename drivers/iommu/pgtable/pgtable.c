/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/pgtable/pgtable.h"

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

#define ENTRIES       512u
#define ENTRY_ADDR    GENMASK64(51, 12)
/* Both VT-d stages (9.7, 9.8): */
#define VTD_PS        BIT64(7)         /* this entry of level 2 or 3 is a leaf */
/* Second stage: R and W are bits 0 and 1. */
#define SS_RW         ((uint64_t)(PGT_R | PGT_W))
/* First stage: as a CPU's. The unit sets A and D. */
#define FS_P          BIT64(0)
#define FS_RW         BIT64(1)
#define FS_US         BIT64(2)         /* what devices ask for is a user's request */
#define FS_A          BIT64(5)
#define FS_D          BIT64(6)
/* AMD v1 (48882, figures 8 to 10) */
#define V1_PR         BIT64(0)
#define V1_NEXT_LEVEL GENMASK64(11, 9)
#define V1_IR         BIT64(61)
#define V1_IW         BIT64(62)
#define NEXT_NATURAL  0u               /* a leaf of its level's size */
#define NEXT_SIZED    7u               /* a leaf whose size the address tells */

/* Level 1 holds 4 KiB leaves. */
static unsigned level_shift(unsigned level)
{
	return 12 + 9 * (level - 1);
}

static uint64_t level_size(unsigned level)
{
	return 1ull << level_shift(level);
}

/* At level 6 there are 128 entries: bits 63:57. */
static unsigned level_index(uint64_t iova, unsigned level)
{
	return (unsigned)(iova >> level_shift(level)) & (ENTRIES - 1);
}

static unsigned log2_of(uint64_t x)
{
	return 63 - (unsigned)__builtin_clzll(x);
}

/* ---- entries: what the formats differ in ---- */

static bool is_present(const struct pgt *t, uint64_t entry)
{
	return entry & t->present;
}

static bool is_leaf(const struct pgt *t, uint64_t entry, unsigned level)
{
	const unsigned next = (unsigned)FIELD_GET(V1_NEXT_LEVEL, entry);

	if (level == 1)
		return true;
	return t->format == PGT_AMD_V1 ? next == NEXT_NATURAL || next == NEXT_SIZED : (entry & VTD_PS) != 0;
}

/* AMD, table 14: the lowest zero of the address, from bit 12 on, is half the size. */
static uint64_t leaf_size(const struct pgt *t, uint64_t entry, unsigned level)
{
	if (t->format != PGT_AMD_V1 || FIELD_GET(V1_NEXT_LEVEL, entry) == NEXT_NATURAL)
		return level_size(level);
	return 2ull << __builtin_ctzll(~(entry | ~ENTRY_ADDR));
}

static unsigned prot_of(const struct pgt *t, uint64_t entry)
{
	if (t->format == PGT_VTD_SECOND)
		return (unsigned)(entry & SS_RW);
	if (t->format == PGT_VTD_FIRST)
		return (entry & FS_P ? PGT_R : 0) | (entry & FS_RW ? PGT_W : 0);
	return (entry & V1_IR ? PGT_R : 0) | (entry & V1_IW ? PGT_W : 0);
}

/* An entry of that level that leads to a table. */
static uint64_t table_entry(const struct pgt *t, uint64_t pa, unsigned level)
{
	return pa | t->entry_bits[PGT_R | PGT_W] |
	       (t->format == PGT_AMD_V1 ? FIELD_PREP(V1_NEXT_LEVEL, (uint64_t)level - 1) : 0);
}

static uint64_t leaf_entry(const struct pgt *t, uint64_t pa, uint64_t size, unsigned level, uint64_t bits)
{
	if (t->format != PGT_AMD_V1)
		return pa | bits | (level > 1 ? VTD_PS : 0);
	if (size == level_size(level))
		return pa | bits;
	return pa | ((size / 2 - 1) & ENTRY_ADDR) | FIELD_PREP(V1_NEXT_LEVEL, (uint64_t)NEXT_SIZED) | bits;
}

/* ---- tables ---- */

static void flush(const struct pgt *t, const void *p, size_t size)
{
	if (t->flush)
		t->flush(t->ctx, p, size);
}

static uint64_t *table_at(const struct pgt *t, uint64_t entry)
{
	return t->mem->at(t->ctx, entry & ENTRY_ADDR);
}

/* One store each: a walker sees the old entry or the new one, and what the new one points to before it. */
static void set_entries(const struct pgt *t, uint64_t *entry, size_t n, uint64_t value)
{
	for (size_t i = 0; i < n; i++)
		__atomic_store_n(&entry[i], value, __ATOMIC_RELEASE);
	flush(t, entry, n * sizeof(*entry));
}

static void clear_leaf(const struct pgt *t, uint64_t *entry, size_t n)
{
	set_entries(t, entry, n, SABOTAGE(vtd_leaf_stays) ? *entry : 0);
}

static uint64_t *new_table(struct pgt *t, uint64_t *pa)
{
	uint64_t *table = t->mem->alloc(t->ctx, pa);

	if (table) {
		t->pages++;
		flush(t, table, PGT_4K);
	}
	return table;
}

/*
 * Entry 0 of a page in limbo links to the next: a page's address has the low bits clear, so that a walker which
 * still comes by finds nothing present.
 */
static void to_limbo(struct pgt *t, uint64_t pa)
{
	t->near = NULL;
	set_entries(t, table_at(t, pa), 1, t->limbo);
	t->limbo = pa;
	t->limbo_pages++;
}

void pgt_reap(struct pgt *t)
{
	while (t->limbo) {
		const uint64_t pa = t->limbo;

		t->limbo = *table_at(t, pa);
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

/* The last address of the entry of this level, or of the range where that comes first. Inclusive: 64 bits have an end. */
static uint64_t entry_last(uint64_t iova, uint64_t last, unsigned level)
{
	return MIN(iova | (level_size(level) - 1), last);
}

/* ---- ranges: [iova, last], in the table at pa and below; each lies in one entry of the table above ---- */

/* Bytes mapped; *cut: a leaf lies across one of the ends. */
static uint64_t count_mapped(const struct pgt *t, uint64_t pa, unsigned level, uint64_t iova, uint64_t last, bool *cut)
{
	const uint64_t *table = table_at(t, pa);
	uint64_t bytes = 0;

	if (level == 1 && t->format != PGT_AMD_V1) {
		for (unsigned i = level_index(iova, 1); i <= level_index(last, 1); i++)
			bytes += is_present(t, table[i]) ? PGT_4K : 0;
		return bytes;
	}
	for (;;) {
		const uint64_t entry = table[level_index(iova, level)];
		uint64_t to = entry_last(iova, last, level);

		if (is_present(t, entry) && is_leaf(t, entry, level)) {
			const uint64_t size = leaf_size(t, entry, level);

			to = MIN(iova | (size - 1), last);
			*cut |= to - iova != size - 1;
			bytes += to - iova + 1;
		} else if (is_present(t, entry)) {
			bytes += count_mapped(t, entry, level - 1, iova, to, cut);
		}
		if (to == last)
			return bytes;
		iova = to + 1;
	}
}

/* Clears all leaves, none of which lies across an end, and takes out the tables that this leaves empty. */
static void clear(struct pgt *t, uint64_t pa, unsigned level, uint64_t iova, uint64_t last)
{
	uint64_t *table = table_at(t, pa);

	if (level == 1 && t->format != PGT_AMD_V1) {
		clear_leaf(t, &table[level_index(iova, 1)], level_index(last, 1) - level_index(iova, 1) + 1);
		return;
	}
	for (;;) {
		uint64_t *entry = &table[level_index(iova, level)];
		const uint64_t child = *entry & ENTRY_ADDR;
		uint64_t to = entry_last(iova, last, level);

		if (is_present(t, *entry) && is_leaf(t, *entry, level)) {
			to = iova + (leaf_size(t, *entry, level) - 1);
			clear_leaf(t, entry, (size_t)((to - iova) >> level_shift(level)) + 1);
		} else if (is_present(t, *entry)) {
			clear(t, child, level - 1, iova, to);
			if (is_empty(table_at(t, child))) {
				set_entries(t, entry, 1, 0);
				to_limbo(t, child);
			}
		}
		if (to == last)
			return;
		iova = to + 1;
	}
}

/* The largest of these sizes that a leaf at iova to pa may have. */
static uint64_t fit(const struct pgt *t, uint64_t iova, uint64_t pa, uint64_t last, uint64_t sizes)
{
	unsigned top = MIN(51u, 11 + 9 * t->levels);

	top = MIN(top, log2_of(last - iova + 1));
	if (iova | pa)
		top = MIN(top, (unsigned)__builtin_ctzll(iova | pa));
	return 1ull << log2_of(sizes & ((2ull << top) - 1));
}

/* What leaves of a range are made of. only_pages: of no size between 4 KiB and 2 MiB. */
struct filling { uint64_t bits, sizes; bool only_pages; };

/* The usual case, in one go. */
static void fill_pages(const struct pgt *t, uint64_t *entry, size_t n, uint64_t value)
{
	for (size_t i = 0; i < n; i++, value += PGT_4K)
		__atomic_store_n(&entry[i], value, __ATOMIC_RELEASE);
	flush(t, entry, n * sizeof(*entry));
}

/*
 * The range was empty, and holds no tables: all entries of a leaf are free. -ENOMEM leaves what has been done for the
 * caller to clear.
 */
static int fill(struct pgt *t, uint64_t table_pa, unsigned level, uint64_t iova, uint64_t last, uint64_t pa,
		const struct filling *f)
{
	uint64_t *table = table_at(t, table_pa);

	if (level == 1 && f->only_pages) {
		fill_pages(t, &table[level_index(iova, 1)], level_index(last, 1) - level_index(iova, 1) + 1, pa | f->bits);
		return 0;
	}
	for (;;) {
		uint64_t *entry = &table[level_index(iova, level)];
		const uint64_t leaf = fit(t, iova, pa, last, f->sizes);
		uint64_t to = entry_last(iova, last, level);

		if (leaf >= level_size(level)) {
			to = iova + (leaf - 1);
			set_entries(t, entry, (size_t)(leaf >> level_shift(level)), leaf_entry(t, pa, leaf, level, f->bits));
		} else {
			uint64_t child = *entry & ENTRY_ADDR;
			int r;

			if (!is_present(t, *entry)) {
				if (!new_table(t, &child))
					return -ENOMEM;
				set_entries(t, entry, 1, table_entry(t, child, level));
			}
			r = fill(t, child, level - 1, iova, to, pa, f);
			if (r < 0)
				return r;
		}
		if (to == last)
			return 0;
		pa += to - iova + 1;
		iova = to + 1;
	}
}

/* The table of level 1 that has iova's entry; NULL: there is none so deep. The last one found is kept. */
static uint64_t *last_table(struct pgt *t, uint64_t iova)
{
	uint64_t *table = t->near;

	if (table && iova >> level_shift(2) == t->near_block)
		return table;
	table = table_at(t, t->root);
	for (unsigned level = t->levels; level > 1; level--) {
		const uint64_t entry = table[level_index(iova, level)];

		if (!is_present(t, entry) || is_leaf(t, entry, level))
			return NULL;
		table = table_at(t, entry);
	}
	t->near = table;
	t->near_block = iova >> level_shift(2);
	return table;
}

/* ---- what callers see ---- */

/*
 * First stage: addresses are canonical, and the tables see the bits below the sign's copies. -ERANGE: not
 * one that these tables translate.
 */
static int fold(const struct pgt *t, uint64_t *iova)
{
	if ((*iova & t->above) != (*iova & t->sign ? t->above : 0))
		return -ERANGE;
	*iova &= ~t->above;
	return 0;
}

/* Also folds *iova. A range lies in one half. */
static int check_range(const struct pgt *t, uint64_t *iova, uint64_t size)
{
	if (size == 0 || !is_aligned(*iova | size, PGT_4K))
		return -EINVAL;
	if (fold(t, iova) < 0)
		return -ERANGE;
	/* The last address is the next bit that is not to change, less one. */
	return size - 1 > (~t->above & ~(*iova & t->sign ? 0 : t->sign)) - *iova ? -ERANGE : 0;
}

int pgt_map(struct pgt *t, uint64_t iova, uint64_t pa, uint64_t size, unsigned prot, uint64_t sizes)
{
	struct filling f;
	uint64_t *table, *entry;
	bool cut = false;
	int r = check_range(t, &iova, size);

	if (r < 0)
		return r;
	if (!is_aligned(pa, PGT_4K) || prot >= ARRAY_SIZE(t->entry_bits) || !t->entry_bits[prot])
		return -EINVAL;
	f.bits = t->entry_bits[prot] | t->leaf_bits;
	if (pa > ENTRY_ADDR || size > ENTRY_ADDR + PGT_4K - pa)
		return -ERANGE;
	/* What a driver does for each transfer: one page, among others in a table that is there. */
	table = size == PGT_4K ? last_table(t, iova) : NULL;
	entry = table ? &table[level_index(iova, 1)] : NULL;
	if (entry && !is_present(t, *entry)) {
		set_entries(t, entry, 1, pa | f.bits);
		return 0;
	}
	if (count_mapped(t, t->root, t->levels, iova, iova + (size - 1), &cut) != 0)
		return -EEXIST;
	f.sizes = (sizes & t->sizes) | PGT_4K;
	f.only_pages = !(f.sizes & (PGT_2M - 1) & ~PGT_4K);
	r = fill(t, t->root, t->levels, iova, iova + (size - 1), pa, &f);
	if (r < 0)
		clear(t, t->root, t->levels, iova, iova + (size - 1));
	return r;
}

/* An entry of level 1 may be one of several that make a larger leaf. */
static bool is_page(const struct pgt *t, uint64_t entry)
{
	return is_present(t, entry) && leaf_size(t, entry, 1) == PGT_4K;
}

int pgt_unmap(struct pgt *t, uint64_t iova, uint64_t size)
{
	uint64_t *table, *entry;
	bool cut = false;
	int r = check_range(t, &iova, size);

	if (r < 0)
		return r;
	table = size == PGT_4K ? last_table(t, iova) : NULL;
	entry = table ? &table[level_index(iova, 1)] : NULL;
	if (entry && is_page(t, *entry)) {
		clear_leaf(t, entry, 1);
		if (is_empty(table))
			clear(t, t->root, t->levels, iova, iova + (size - 1));
		return 0;
	}
	if (count_mapped(t, t->root, t->levels, iova, iova + (size - 1), &cut) != size)
		return -ENOENT;
	if (cut)
		return -EINVAL;
	clear(t, t->root, t->levels, iova, iova + (size - 1));
	return 0;
}

/* Where an address leads. */
struct place {
	uint64_t *entry;                 /* the last one looked at */
	bool leaf;                       /* else nothing is there, in all of [first, last] */
	uint64_t first, last;
	unsigned prot;                   /* of all entries on the way */
};

static struct place find(const struct pgt *t, uint64_t iova, unsigned lowest)
{
	struct place p = {.prot = PGT_R | PGT_W};
	uint64_t pa = t->root, size;

	/* Every step goes down a level: level 1 has leaves only. */
	for (unsigned level = t->levels;; level--) {
		p.entry = table_at(t, pa) + level_index(iova, level);
		size = level_size(level);
		p.prot &= prot_of(t, *p.entry);
		if (!is_present(t, *p.entry) || level == lowest)
			break;
		if (is_leaf(t, *p.entry, level)) {
			p.leaf = true;
			size = leaf_size(t, *p.entry, level);
			break;
		}
		pa = *p.entry;
	}
	p.first = align_down(iova, size);
	p.last = p.first + (size - 1);
	return p;
}

int pgt_lookup(const struct pgt *t, uint64_t iova, struct pgt_leaf *out)
{
	const bool first_stage = t->format == PGT_VTD_FIRST;
	struct place p;

	if (fold(t, &iova) < 0)
		return -ERANGE;
	p = find(t, iova, 0);
	if (!p.leaf)
		return -ENOENT;
	*out = (struct pgt_leaf){.pa = (*p.entry & ENTRY_ADDR & ~(p.last - p.first)) | (iova - p.first),
				 .size = p.last - p.first + 1,
				 .prot = p.prot,
				 .accessed = first_stage && (*p.entry & FS_A),
				 .dirty = first_stage && (*p.entry & FS_D)};
	return 0;
}

int pgt_next(const struct pgt *t, uint64_t *iova, struct pgt_leaf *out)
{
	const uint64_t end = UINT64_MAX >> (64 - t->bits);

	for (uint64_t at = *iova; at <= end;) {
		const struct place p = find(t, at, 0);

		if (p.leaf) {
			*iova = p.first;
			return pgt_lookup(t, p.first, out);
		}
		if (p.last >= end)
			break;
		at = p.last + 1;
	}
	return -ENOENT;
}

uint64_t *pgt_entry(const struct pgt *t, uint64_t iova, unsigned level)
{
	return fold(t, &iova) < 0 ? NULL : find(t, iova, level).entry;
}

/* Permissions that are not what was asked for. */
static void sabotage_bits(struct pgt *t)
{
	const bool amd = t->format == PGT_AMD_V1;

	if (amd ? SABOTAGE(amdvi_leaf_writable) : SABOTAGE(vtd_leaf_writable))
		t->entry_bits[PGT_R] = t->entry_bits[PGT_R | PGT_W];
	if (!amd && SABOTAGE(vtd_leaf_readable))
		t->entry_bits[PGT_W] = t->entry_bits[PGT_R | PGT_W];
	for (unsigned prot = 1; t->format == PGT_VTD_FIRST && SABOTAGE(vtd_leaf_supervisor) && prot < 4; prot++)
		t->entry_bits[prot] = FS_P | FS_RW;
}

int pgt_init(struct pgt *t)
{
	/* Second stage: neither readable nor writable is not present. Bit 1 alone is never set in the first. */
	static const struct format { unsigned least, most; uint64_t sizes, present, always, r, w; } formats[] = {
		[PGT_VTD_SECOND] = {3, 5, PGT_NATURAL, SS_RW, 0, PGT_R, PGT_W},
		[PGT_VTD_FIRST] = {4, 5, PGT_NATURAL, FS_P | FS_RW, FS_US, FS_P, FS_RW},
		[PGT_AMD_V1] = {1, 6, PGT_ALL_SIZES, V1_PR, V1_PR, V1_IR, V1_IW},
	};
	const unsigned width = MIN(12 + 9 * t->levels, 64u);
	const struct format *f = &formats[t->format];

	if (t->levels < f->least || t->levels > f->most || t->bits < 12)
		return -EINVAL;
	t->bits = t->format == PGT_VTD_FIRST ? width : MIN(t->bits, width);
	t->above = t->bits < 64 ? UINT64_MAX << t->bits : 0;
	t->sign = t->format == PGT_VTD_FIRST ? 1ull << (t->bits - 1) : 0;
	t->sizes &= f->sizes;
	t->present = f->present;
	for (unsigned prot = 1; prot < ARRAY_SIZE(t->entry_bits); prot++)
		t->entry_bits[prot] = f->always | (prot & PGT_R ? f->r : 0) | (prot & PGT_W ? f->w : 0);
	if (t->format == PGT_VTD_FIRST)
		t->entry_bits[PGT_W] = 0;    /* P is R */
	sabotage_bits(t);
	t->limbo = 0;
	t->near = NULL;
	t->pages = t->limbo_pages = 0;
	return new_table(t, &t->root) ? 0 : -ENOMEM;
}

static void free_tree(struct pgt *t, uint64_t pa, unsigned level)
{
	const uint64_t *table = table_at(t, pa);

	for (unsigned i = 0; level > 1 && i < ENTRIES; i++) {
		if (is_present(t, table[i]) && !is_leaf(t, table[i], level))
			free_tree(t, table[i] & ENTRY_ADDR, level - 1);
	}
	t->mem->free(t->ctx, pa);
	t->pages--;
}

void pgt_fini(struct pgt *t)
{
	if (!t->root)
		return;
	pgt_reap(t);
	free_tree(t, t->root, t->levels);
	t->root = 0;
}
