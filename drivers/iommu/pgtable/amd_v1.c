/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/pgtable/amd_v1.h"

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"

/* An entry, of a directory or a leaf (48882, figures 8 to 10). */
#define V1_PR         BIT64(0)
#define V1_NEXT_LEVEL GENMASK64(11, 9)
#define V1_ADDR       GENMASK64(51, 12)
#define V1_FC         BIT64(60)
#define V1_IR         BIT64(61)
#define V1_IW         BIT64(62)
#define NEXT_NATURAL  0u               /* a leaf of its level's size */
#define NEXT_SIZED    7u               /* a leaf whose size the address tells */

#define LEVELS_MAX    6u
#define ENTRIES       512u

static unsigned level_shift(unsigned level)
{
	return 12 + 9 * (level - 1);
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

/* The level whose entries are the largest that are not larger than this. */
static unsigned size_level(uint64_t size)
{
	return (log2_of(size) - 12) / 9 + 1;
}

static bool is_leaf(uint64_t entry)
{
	const unsigned next = (unsigned)FIELD_GET(V1_NEXT_LEVEL, entry);

	return next == NEXT_NATURAL || next == NEXT_SIZED;
}

/* Table 14: the lowest zero of the address, from bit 12 on, is half the size. */
static uint64_t leaf_size(uint64_t entry, unsigned level)
{
	if (FIELD_GET(V1_NEXT_LEVEL, entry) == NEXT_NATURAL)
		return 1ull << level_shift(level);
	return 2ull << __builtin_ctzll(~(entry | ~V1_ADDR));
}

static uint64_t leaf_entry(uint64_t pa, uint64_t size, unsigned level, uint64_t bits)
{
	if (size == 1ull << level_shift(level))
		return pa | FIELD_PREP(V1_NEXT_LEVEL, (uint64_t)NEXT_NATURAL) | bits;
	return pa | ((size / 2 - 1) & V1_ADDR) | FIELD_PREP(V1_NEXT_LEVEL, (uint64_t)NEXT_SIZED) | bits;
}

static uint64_t prot_bits(unsigned prot)
{
	if (SABOTAGE(amdvi_leaf_writable))
		prot |= AMD_V1_W;
	return (prot & AMD_V1_R ? V1_IR : 0) | (prot & AMD_V1_W ? V1_IW : 0);
}

static unsigned prot_of(uint64_t entry)
{
	return (entry & V1_IR ? AMD_V1_R : 0) | (entry & V1_IW ? AMD_V1_W : 0);
}

/* ---- tables ---- */

static void flush(const struct amd_v1 *t, const void *p, size_t size)
{
	if (t->mem->flush)
		t->mem->flush(t->ctx, p, size);
}

/* One store each: a walker sees the old entry or the new one, and what the new one points to before it. */
static void set_entries(const struct amd_v1 *t, uint64_t *entry, size_t n, uint64_t value)
{
	for (size_t i = 0; i < n; i++)
		__atomic_store_n(&entry[i], value, __ATOMIC_RELEASE);
	flush(t, entry, n * sizeof(*entry));
}

static uint64_t *new_table(struct amd_v1 *t, uint64_t *pa)
{
	uint64_t *table = t->mem->alloc(t->ctx, pa);

	if (table) {
		t->pages++;
		flush(t, table, AMD_V1_4K);
	}
	return table;
}

/* Entry 0 of a page in limbo links to the next; a page's address has PR clear. */
static void to_limbo(struct amd_v1 *t, uint64_t pa)
{
	set_entries(t, t->mem->at(t->ctx, pa), 1, t->limbo);
	t->limbo = pa;
	t->limbo_pages++;
}

void amd_v1_reap(struct amd_v1 *t)
{
	while (t->limbo) {
		const uint64_t pa = t->limbo;

		t->limbo = *t->mem->at(t->ctx, pa);
		t->mem->free(t->ctx, pa);
		t->limbo_pages--;
		t->pages--;
	}
}

static bool is_empty(const uint64_t *table)
{
	for (unsigned i = 0; i < ENTRIES; i++) {
		if (table[i] & V1_PR)
			return false;
	}
	return true;
}

/* ---- where an address leads ---- */

struct place {
	unsigned level;                  /* of the last entry looked at */
	bool leaf;                       /* else nothing is there, in all of [first, last] */
	uint64_t first, last;
	uint64_t *entry[LEVELS_MAX + 1]; /* by level */
	unsigned prot;                   /* of all entries on the way */
};

static struct place find(const struct amd_v1 *t, uint64_t iova)
{
	struct place p = {.level = t->levels, .prot = AMD_V1_R | AMD_V1_W};
	uint64_t pa = t->root, size;

	/* Every step goes down a level: level 1 has leaves only. */
	for (;; p.level--) {
		uint64_t *entry = t->mem->at(t->ctx, pa) + level_index(iova, p.level);

		p.entry[p.level] = entry;
		size = 1ull << level_shift(p.level);
		if (!(*entry & V1_PR))
			break;
		p.prot &= prot_of(*entry);
		if (p.level == 1 || is_leaf(*entry)) {
			p.leaf = true;
			size = leaf_size(*entry, p.level);
			break;
		}
		pa = *entry & V1_ADDR;
	}
	p.first = align_down(iova, size);
	p.last = p.first + (size - 1);
	return p;
}

/* Bytes mapped in [iova, last]; *cut: a leaf lies across one of its ends. */
static uint64_t count_mapped(const struct amd_v1 *t, uint64_t iova, uint64_t last, bool *cut)
{
	uint64_t bytes = 0;

	for (uint64_t at = iova;;) {
		const struct place p = find(t, at);

		if (p.leaf) {
			*cut |= p.first < iova || p.last > last;
			bytes += MIN(p.last, last) - at + 1;
		}
		if (p.last >= last)
			return bytes;
		at = p.last + 1;
	}
}

/* Takes out the tables over iova that are empty, from the lowest up. */
static void prune(struct amd_v1 *t, uint64_t iova)
{
	const struct place p = find(t, iova);

	for (unsigned level = p.level; level < t->levels; level++) {
		uint64_t *parent = p.entry[level + 1];
		const uint64_t pa = *parent & V1_ADDR;

		if (!is_empty(t->mem->at(t->ctx, pa)))
			return;
		set_entries(t, parent, 1, 0);
		to_limbo(t, pa);
	}
}

/* Clears all leaves in [iova, last]; none lies across its ends. */
static void clear(struct amd_v1 *t, uint64_t iova, uint64_t last)
{
	for (uint64_t at = iova;;) {
		const struct place p = find(t, at);
		const size_t n = (size_t)((p.last - p.first) >> level_shift(p.level)) + 1;
		const bool end = p.last >= last;
		const uint64_t next = p.last + 1;

		if (p.leaf)
			set_entries(t, p.entry[p.level] - (level_index(at, p.level) & (n - 1)), n, 0);
		/* Not after every entry, but on leaving its table. */
		if (p.level < t->levels &&
		    (end || at >> level_shift(p.level + 1) != next >> level_shift(p.level + 1)))
			prune(t, at);
		if (end)
			return;
		at = next;
	}
}

/* The largest of these sizes that a leaf at iova to pa may have. */
static uint64_t fit(const struct amd_v1 *t, uint64_t iova, uint64_t pa, uint64_t bytes, uint64_t sizes)
{
	unsigned top = MIN(51u, 11 + 9 * t->levels);

	top = MIN(top, log2_of(bytes));
	if (iova | pa)
		top = MIN(top, (unsigned)__builtin_ctzll(iova | pa));
	return 1ull << log2_of((sizes | AMD_V1_4K) & AMD_V1_ALL_SIZES & ((2ull << top) - 1));
}

/* Makes the tables on the way to iova's entry of that level. NULL: no memory. */
static uint64_t *reach(struct amd_v1 *t, uint64_t iova, unsigned level)
{
	uint64_t pa = t->root;

	for (unsigned l = t->levels; l > level; l--) {
		uint64_t *entry = t->mem->at(t->ctx, pa) + level_index(iova, l);

		if (!(*entry & V1_PR)) {
			if (!new_table(t, &pa))
				return NULL;
			set_entries(t, entry, 1, pa | FIELD_PREP(V1_NEXT_LEVEL, (uint64_t)l - 1) | V1_IR |
							 V1_IW | V1_PR);
		}
		pa = *entry & V1_ADDR;
	}
	return t->mem->at(t->ctx, pa) + level_index(iova, level);
}

/* ---- what callers see ---- */

static int check_range(const struct amd_v1 *t, uint64_t iova, uint64_t size)
{
	const uint64_t last = iova + (size - 1);

	if (size == 0 || !is_aligned(iova | size, AMD_V1_4K))
		return -EINVAL;
	if (last < iova || (t->bits < 64 && last >> t->bits))
		return -ERANGE;
	return 0;
}

int amd_v1_map(struct amd_v1 *t, uint64_t iova, uint64_t pa, uint64_t size, unsigned prot, uint64_t sizes)
{
	const uint64_t bits = prot_bits(prot) | t->leaf_bits | V1_PR;
	bool cut = false;
	int r = check_range(t, iova, size);

	if (r < 0)
		return r;
	if (!is_aligned(pa, AMD_V1_4K) || prot == 0 || (prot & ~(AMD_V1_R | AMD_V1_W)))
		return -EINVAL;
	if (pa > V1_ADDR || size > V1_ADDR + AMD_V1_4K - pa)
		return -ERANGE;
	if (count_mapped(t, iova, iova + (size - 1), &cut) != 0)
		return -EEXIST;
	for (uint64_t done = 0; done < size;) {
		const uint64_t leaf = fit(t, iova + done, pa + done, size - done, sizes);
		const unsigned level = size_level(leaf);
		/* The range is empty and so holds no tables: all of these entries are free. */
		uint64_t *entry = reach(t, iova + done, level);

		if (!entry) {
			clear(t, iova, iova + (size - 1));
			return -ENOMEM;
		}
		set_entries(t, entry, (size_t)(leaf >> level_shift(level)),
			    leaf_entry(pa + done, leaf, level, bits));
		done += leaf;
	}
	return 0;
}

int amd_v1_unmap(struct amd_v1 *t, uint64_t iova, uint64_t size)
{
	const uint64_t last = iova + (size - 1);
	bool cut = false;
	int r = check_range(t, iova, size);

	if (r < 0)
		return r;
	if (count_mapped(t, iova, last, &cut) != size)
		return -ENOENT;
	if (cut)
		return -EINVAL;
	clear(t, iova, last);
	return 0;
}

int amd_v1_lookup(const struct amd_v1 *t, uint64_t iova, struct amd_v1_leaf *out)
{
	struct place p;
	uint64_t size;

	if (t->bits < 64 && iova >> t->bits)
		return -ERANGE;
	p = find(t, iova);
	if (!p.leaf)
		return -ENOENT;
	size = p.last - p.first + 1;
	*out = (struct amd_v1_leaf){.pa = align_down(*p.entry[p.level] & V1_ADDR, size) | (iova & (size - 1)),
				    .size = size,
				    .prot = p.prot};
	return 0;
}

int amd_v1_next(const struct amd_v1 *t, uint64_t *iova, struct amd_v1_leaf *out)
{
	const uint64_t end = t->bits < 64 ? (1ull << t->bits) - 1 : ~0ull;

	for (uint64_t at = *iova; at <= end;) {
		const struct place p = find(t, at);

		if (p.leaf) {
			*iova = p.first;
			return amd_v1_lookup(t, p.first, out);
		}
		if (p.last >= end)
			break;
		at = p.last + 1;
	}
	return -ENOENT;
}

int amd_v1_init(struct amd_v1 *t)
{
	if (t->levels < 1 || t->levels > LEVELS_MAX || t->bits < 12)
		return -EINVAL;
	t->bits = MIN(t->bits, MIN(12 + 9 * t->levels, 64u));
	t->limbo = 0;
	t->pages = t->limbo_pages = 0;
	return new_table(t, &t->root) ? 0 : -ENOMEM;
}

static void free_tree(struct amd_v1 *t, uint64_t pa, unsigned level)
{
	const uint64_t *table = t->mem->at(t->ctx, pa);

	for (unsigned i = 0; level > 1 && i < ENTRIES; i++) {
		if ((table[i] & V1_PR) && !is_leaf(table[i]))
			free_tree(t, table[i] & V1_ADDR, level - 1);
	}
	t->mem->free(t->ctx, pa);
	t->pages--;
}

void amd_v1_fini(struct amd_v1 *t)
{
	if (!t->root)
		return;
	amd_v1_reap(t);
	free_tree(t, t->root, t->levels);
	t->root = 0;
}
