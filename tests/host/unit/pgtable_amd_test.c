/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/pgtable/pgtable.c
#include "kernel/lib/random.h"
#include "tests/host/unit/pgtable_fake.h"

/*
 * AMD's format against a walker and a model. The walker reads raw entries as 48882 says hardware does and
 * shares no line with the code; the model is an array with the translation of every page of a window.
 */
#define FC (1ull << 60)
static struct pgt v1(unsigned levels, unsigned bits)
{
	return make((struct pgt){.format = PGT_AMD_V1, .levels = levels, .bits = bits, .sizes = PGT_ALL_SIZES, .leaf_bits = FC});
}

/* ---- the walker ---- */
struct walk { bool ok; uint64_t pa, size, entry; unsigned prot; };

static struct walk walk(const struct pgt *t, uint64_t iova)
{
	struct walk w = {.prot = 3};
	unsigned level = t->levels;
	uint64_t table = t->root;

	if (level < 6 && iova >> (12 + 9 * level))
		return w;
	for (;;) {
		const uint64_t e = mem_at(NULL, table)[iova >> (3 + 9 * level) & 511];
		const unsigned next = e >> 9 & 7;

		w.entry = e;
		if (!(e & 1))
			return w;
		w.prot &= e >> 61 & 3;
		if (next == 0 || next == 7) {
			const uint64_t natural = 1ull << (3 + 9 * level);

			w.size = natural;
			if (next == 7)
				for (w.size = 8192; e & w.size / 2; w.size *= 2)
					;
			/* A size that belongs to another level is none that hardware takes. */
			w.ok = w.size == natural || (next == 7 && w.size > natural && w.size < natural << 9);
			w.pa = (e & 0xffffffffff000ull & ~(w.size - 1)) + (iova & (w.size - 1));
			/* All the entries of a sized leaf are the same. */
			for (uint64_t at = iova & ~(w.size - 1), i = 0; i < w.size / natural; i++, at += natural)
				w.ok &= mem_at(NULL, table)[at >> (3 + 9 * level) & 511] == e;
			return w;
		}
		if (next != level - 1)
			return w;
		table = e & 0xffffffffff000ull;
		level = next;
	}
}

static void agree(const struct pgt *t, uint64_t iova, uint64_t pa, uint64_t size, unsigned prot)
{
	const struct walk w = walk(t, iova);
	struct pgt_leaf leaf = {0};
	const int r = pgt_lookup(t, iova, &leaf);

	if (prot == 0) {
		CHECK(r == -2 && !w.ok);
		return;
	}
	CHECK(r == 0 && leaf.pa == pa && leaf.size == size && leaf.prot == prot);
	CHECK(w.ok && w.pa == pa && w.size == size && w.prot == prot && (w.entry & FC));
}

/* The first leaf from there on; size 0: there is none. */
static void check_next(const struct pgt *t, uint64_t from, uint64_t at, uint64_t pa, uint64_t size)
{
	struct pgt_leaf leaf = {0};
	const int r = pgt_next(t, &from, &leaf);

	CHECK(size ? r == 0 && from == at && leaf.pa == pa && leaf.size == size : r == -2);
}

/* Every size in every mode, as high as it goes. */
static void test_one_of_each(void)
{
	for (unsigned levels = 1; levels <= 6; levels++) {
		for (unsigned order = 12; order <= 51 && order < 12 + 9 * levels; order++) {
			struct pgt t = v1(levels, 64);
			const uint64_t size = 1ull << order, top = (levels == 6 ? 0 : 1ull << t.bits) - size;
			const uint64_t pa = order == 51 ? size : 3 * size;
			const unsigned level = (order - 12) / 9 + 1;
			struct pgt_leaf leaf;

			CHECK_EQ(t.bits, levels == 6 ? 64 : 12 + 9 * levels);
			CHECK_EQ(pgt_map(&t, top, pa, size, PGT_W, PGT_ALL_SIZES), 0);
			CHECK_EQ(t.pages, levels - level + 1);
			agree(&t, top, pa, size, PGT_W);
			agree(&t, top + size - 1, pa + size - 1, size, PGT_W);
			agree(&t, top + size / 2, pa + size / 2, size, PGT_W);
			agree(&t, top - 1, 0, 0, 0);
			CHECK_EQ(pgt_lookup(&t, 1ull << (t.bits & 63), &leaf), levels == 6 ? -2 : -34);
			check_next(&t, 0, top, pa, size);
			check_next(&t, top - 1, top, pa, size);
			check_next(&t, top + size - 1, top, pa, size);
			check_flushed();
			CHECK_EQ(pgt_unmap(&t, top, size / 2), -22);
			agree(&t, top + size / 2, pa + size / 2, size, PGT_W);
			CHECK_EQ(pgt_unmap(&t, top, size), 0);
			agree(&t, top, 0, 0, 0);
			agree(&t, top + size - 1, 0, 0, 0);
			check_next(&t, 0, 0, 0, 0);
			CHECK_EQ(t.limbo_pages, levels - level);
			CHECK_EQ(pages_used, levels - level + 1);
			check_flushed();
			pgt_reap(&t);
			CHECK(t.limbo_pages == 0 && t.pages == 1);
			done(&t);
		}
	}
}

/* Bits as 2.2.3 and its table of page size encodings have them. */
static void test_entries(void)
{
	static const struct { uint64_t size, low; } encoded[] = {
		{8u << 10, 0}, {16u << 10, 1u << 12}, {32u << 10, 3u << 12}, {1u << 20, 0x7f000},
		{4u << 20, 0x1ff000}, {512u << 20, 0xffff000}, {2ull << 30, 0x3ffff000}, {4ull << 30, 0x7ffff000},
	};
	const uint64_t rw = 3ull << 61;
	struct pgt t = v1(4, 48);
	const uint64_t *table;

	CHECK_EQ(pgt_map(&t, 0x8040200000, 0x200000, PGT_2M + PGT_4K, PGT_R, (PGT_NATURAL | 1ull << 39 | 1ull << 48)), 0);
	table = mem_at(NULL, t.root);
	CHECK_EQ(table[1] & ~0xffffffffff000ull, rw | 3 << 9 | 1);
	table = mem_at(NULL, table[1] & 0xffffffffff000ull);
	CHECK_EQ(table[1] & ~0xffffffffff000ull, rw | 2 << 9 | 1);
	table = mem_at(NULL, table[1] & 0xffffffffff000ull);
	CHECK_EQ(table[1], 1ull << 61 | FC | 0x200000 | 1);
	CHECK_EQ(table[2] & ~0xffffffffff000ull, rw | 1 << 9 | 1);
	table = mem_at(NULL, table[2] & 0xffffffffff000ull);
	CHECK_EQ(table[0], 1ull << 61 | FC | 0x400000 | 1);
	CHECK_EQ(table[1], 0);
	for (unsigned i = 0; i < sizeof(encoded) / sizeof(encoded[0]); i++) {
		const uint64_t at = 1ull << 40;

		CHECK_EQ(pgt_map(&t, at, 1ull << 41, encoded[i].size, PGT_W, PGT_ALL_SIZES), 0);
		CHECK_EQ(walk(&t, at).entry, 1ull << 62 | FC | 1ull << 41 | encoded[i].low | 7 << 9 | 1);
		CHECK_EQ(pgt_unmap(&t, at, encoded[i].size), 0);
	}
	done(&t);
}

static void test_refused(void)
{
	struct pgt t = v1(4, 47);
	const uint64_t end = 1ull << 47, all = PGT_ALL_SIZES;

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
	agree(&t, 0x1000, 0, 0, 0);
	CHECK_EQ(pgt_unmap(&t, 0x204000, 8192), -2);
	agree(&t, 0x205000, 0x9000, 4096, 3);

	/* Sizes that are not allowed; 4 KiB always is. */
	CHECK_EQ(pgt_map(&t, 0x800000, 0x800000, 4 * PGT_2M, 3, PGT_2M), 0);
	agree(&t, 0x800000, 0x800000, PGT_2M, 3);
	CHECK_EQ(pgt_map(&t, 0x2000000, 0x800000, PGT_2M, 3, 1u << 16), 0);
	agree(&t, 0x2000000, 0x800000, 1u << 16, 3);
	CHECK_EQ(pgt_map(&t, 0x4000000, 0x800000, PGT_2M, 3, 0), 0);
	agree(&t, 0x4000000, 0x800000, 4096, 3);
	done(&t);

	t.levels = 0;
	CHECK_EQ(pgt_init(&t), -22);
	t.levels = 7;
	CHECK_EQ(pgt_init(&t), -22);

	/* The ends of 64 bits of input. */
	t = v1(6, 64);
	CHECK_EQ(pgt_map(&t, -8192ull, 0x3000, 8192, 3, 0), 0);
	agree(&t, -1ull, 0x4fff, 4096, 3);
	CHECK_EQ(pgt_map(&t, -8192ull, 0x3000, 12288, 3, 0), -34);
	CHECK_EQ(pgt_map(&t, 0, 0x3000, 4096, 1, 0), 0);
	CHECK_EQ(pgt_unmap(&t, -8192ull, 8192), 0);
	agree(&t, 0, 0x3000, 4096, 1);
	done(&t);
}

/* Memory runs out at every allocation there is: nothing is left behind. */
static void test_no_memory(void)
{
	for (unsigned n = 0;; n++) {
		struct pgt t = v1(4, 48);
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
		agree(&t, 0x3fffe000000, 0, 0, 0);
		agree(&t, 0x3ff000, 0x1000, 4096, 3);
		pgt_reap(&t);
		CHECK_EQ(t.pages, 4);
		done(&t);
	}
}

/* ---- the model ---- */
#define WINDOW 4096 /* pages: 16 MiB, in the middle of which a 1 GiB boundary lies */
struct cell { uint64_t pa; unsigned prot; uint64_t leaf; }; /* leaf: its size */
static struct cell model[WINDOW];

/* The largest allowed power of two that divides both addresses and is there. */
static uint64_t leaf_at(uint64_t iova, uint64_t pa, uint64_t left, uint64_t sizes)
{
	uint64_t best = 4096;

	for (uint64_t s = 4096; s <= left && s < 1ull << 52; s *= 2)
		if ((sizes & s) && iova % s == 0 && pa % s == 0)
			best = s;
	return best;
}

static void check_window(const struct pgt *t, uint64_t base)
{
	bool same = true;

	for (unsigned i = 0; i < WINDOW; i++) {
		const uint64_t at = base + i * 4096ull + 123;
		const struct walk w = walk(t, at);

		same &= model[i].prot ? w.ok && w.pa == model[i].pa + 123 && w.prot == model[i].prot &&
						w.size == model[i].leaf : !w.ok;
	}
	CHECK(same);
	for (unsigned i = 0; i < WINDOW; i += 61)
		agree(t, base + i * 4096ull, model[i].pa, model[i].leaf, model[i].prot);
	check_flushed();
}

/* Does no leaf lie across either end? A leaf begins where its address in memory is aligned to it. */
static bool whole_leaves(unsigned first, unsigned n)
{
	const unsigned end = first + n;
	const struct cell *last = &model[end - 1];

	return model[first].pa % model[first].leaf == 0 && (last->pa + 4096) % last->leaf == 0;
}

static void test_model(uint64_t seed, unsigned levels)
{
	const uint64_t base = (1ull << 30) * (levels > 2 ? 5 : 1) - WINDOW / 2 * 4096ull - (levels == 2 ? 1u << 25 : 0);
	struct random r = random_seed(seed);
	struct pgt t = v1(levels, 64);
	unsigned mapped = 0, unmapped = 0, refused = 0;

	memset(model, 0, sizeof(model));
	for (unsigned step = 0; step < 6000; step++) {
		const bool big = random_below(&r, 3) == 0;
		const unsigned order = big ? 3 + random_below(&r, 7) : random_below(&r, 3);
		unsigned first = random_below(&r, WINDOW) >> order << order;
		unsigned n = (1 + random_below(&r, 3)) << order;
		const uint64_t pa = (uint64_t)random_below(&r, 1u << 20) << (12 + order);
		const uint64_t sizes = random_below(&r, 3) ? PGT_ALL_SIZES : random_u64(&r);
		const unsigned prot = 1 + random_below(&r, 3);
		bool any = false, all = true;
		int got;

		n += random_below(&r, 8) == 0;
		if (first + n > WINDOW)
			n = WINDOW - first;
		if (random_below(&r, 2)) {
			for (unsigned i = first; i < first + n; i++)
				any |= model[i].prot != 0;
			got = pgt_map(&t, base + first * 4096ull, pa, n * 4096ull, prot, sizes);
			CHECK_EQ(got, any ? -17 : 0);
			mapped += got == 0;
			for (unsigned i = 0; got == 0 && i < n;) {
				const uint64_t size = leaf_at(base + (first + i) * 4096ull, pa + i * 4096ull,
							      (n - i) * 4096ull, sizes);

				for (unsigned k = 0; k < size / 4096; k++, i++)
					model[first + i] = (struct cell){pa + i * 4096ull, prot, size};
			}
		} else {
			/* Mostly at something that is there, mostly by whole leaves. */
			if (random_below(&r, 8)) {
				while (first < WINDOW - 1 && !model[first].prot)
					first++;
				if (random_below(&r, 8))
					while (first && model[first].prot && model[first].pa % model[first].leaf)
						first--;
				for (n = 1; n < 1u << order && first + n < WINDOW && model[first + n].prot; n++)
					;
				if (random_below(&r, 8))
					while (first + n < WINDOW && model[first + n].prot && !whole_leaves(first, n))
						n++;
			}
			for (unsigned i = first; i < first + n; i++)
				all &= model[i].prot != 0;
			got = pgt_unmap(&t, base + first * 4096ull, n * 4096ull);
			CHECK_EQ(got, !all ? -2 : whole_leaves(first, n) ? 0 : -22);
			unmapped += got == 0;
			refused += got == -22;
			if (got == 0)
				memset(&model[first], 0, n * sizeof(model[0]));
			if (random_below(&r, 4) == 0)
				pgt_reap(&t);
		}
		if (step % 16 == 0)
			check_window(&t, base);
	}
	check_window(&t, base);
	CHECK(mapped > 500 && unmapped > 500 && refused > 20);
	/* Nothing but the root is left when nothing is mapped. */
	for (unsigned i = 0; i < WINDOW;) {
		const uint64_t size = model[i].leaf ? model[i].leaf : 4096;

		if (model[i].prot)
			CHECK_EQ(pgt_unmap(&t, base + i * 4096ull, size), 0);
		i += (unsigned)(size / 4096);
	}
	pgt_reap(&t);
	CHECK_EQ(t.pages, 1);
	done(&t);
}

int main(void)
{
	test_one_of_each();
	test_entries();
	test_refused();
	test_no_memory();
	for (unsigned levels = 2; levels <= 6; levels++)
		test_model(levels * 7919, levels);
	return host_done("pgtable_amd_v1");
}
