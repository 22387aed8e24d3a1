/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/pgtable/pgtable.c
#include "kernel/lib/random.h"
#include "tests/host/unit/pgtable_fake.h"

/* VT-d's two formats against a model: an array with the translation of every page of a window. */
/* The walker's own write to an entry: it sees it. */
static void check_flushed_but(const uint64_t *entry)
{
	mem_flush(NULL, entry, sizeof(*entry));
	check_flushed();
}

static struct pgt second(unsigned levels, unsigned bits, uint64_t sizes)
{
	return make((struct pgt){.format = PGT_VTD_SECOND, .levels = levels, .bits = bits, .sizes = sizes, .leaf_bits = 1u << 11});
}

static void test_one_of_each(void)
{
	static const uint64_t sizes[] = {PGT_4K, PGT_2M, PGT_1G};

	for (unsigned levels = 3; levels <= 5; levels++) {
		for (unsigned i = 0; i < 3; i++) {
			struct pgt t = second(levels, 64, PGT_2M | PGT_1G);
			const uint64_t top = (1ull << t.bits) - sizes[i];
			struct pgt_leaf leaf;

			CHECK_EQ(t.bits, 12 + 9 * levels);
			CHECK_EQ(pgt_map(&t, top, 0xffc0000000, sizes[i], PGT_R, PGT_NATURAL), 0);
			CHECK_EQ(t.pages, levels - i);
			CHECK_EQ(pgt_lookup(&t, top + sizes[i] - 1, &leaf), 0);
			CHECK(leaf.pa == 0xffc0000000 + sizes[i] - 1 && leaf.size == sizes[i] && leaf.prot == PGT_R);
			CHECK_EQ(pgt_lookup(&t, top - 1, &leaf), -2);
			CHECK_EQ(pgt_lookup(&t, 1ull << t.bits, &leaf), -34);
			check_flushed();
			CHECK_EQ(pgt_unmap(&t, top, sizes[i]), 0);
			CHECK_EQ(pgt_lookup(&t, top, &leaf), -2);
			/* taken out of the tree, not yet freed */
			CHECK_EQ(t.limbo_pages, levels - i - 1);
			CHECK_EQ(t.pages, levels - i);
			CHECK_EQ(pages_used, levels - i);
			check_flushed();
			pgt_reap(&t);
			CHECK(t.limbo_pages == 0 && t.pages == 1);
			done(&t);
		}
	}
	CHECK(flushing);
}

/* Bits as 9.8 has them. */
static void test_entries(void)
{
	struct pgt t = second(3, 39, PGT_2M);
	const uint64_t *root, *dir, *leaf;

	CHECK_EQ(pgt_map(&t, 0x40200000, 0x200000, PGT_2M + PGT_4K, PGT_W, PGT_NATURAL), 0);
	root = mem_at(NULL, t.root);
	CHECK_EQ(root[1] & 0xfff, 3);
	dir = mem_at(NULL, root[1] & ~0xfffull);
	CHECK_EQ(dir[1], 0x200000 | 2 | 1 << 7 | 1 << 11);
	CHECK_EQ(dir[2] & 0xfff, 3);
	leaf = mem_at(NULL, dir[2] & ~0xfffull);
	CHECK_EQ(leaf[0], 0x400000 | 2 | 1 << 11);
	CHECK_EQ(root[0] | dir[0] | leaf[1], 0);
	done(&t);
}

/* The first stage (9.7): bits of its entries, and addresses whose upper bits are copies of the sign. */
static void test_first_stage(void)
{
	for (unsigned levels = 4; levels <= 5; levels++) {
		struct pgt t = make((struct pgt){.format = PGT_VTD_FIRST, .levels = levels, .bits = 30, .sizes = PGT_2M});
		const uint64_t half = 1ull << (11 + 9 * levels), low = half - 4096, high = -half, top = -4096ull;
		uint64_t pa, *table;
		struct pgt_leaf leaf;

		CHECK_EQ(t.bits, 12 + 9 * levels);
		/* The four ends, and what lies between the halves. */
		CHECK_EQ(pgt_map(&t, 0, 0x1000, 4096, 3, PGT_NATURAL), 0);
		CHECK_EQ(pgt_map(&t, low, 0x2000, 4096, 3, PGT_NATURAL), 0);
		CHECK_EQ(pgt_map(&t, high, 0x3000, 4096, 1, PGT_NATURAL), 0);
		CHECK_EQ(pgt_map(&t, top, 0x4000, 4096, 1, PGT_NATURAL), 0);
		CHECK_EQ(pgt_map(&t, half, 0x5000, 4096, 3, PGT_NATURAL), -34);
		CHECK_EQ(pgt_map(&t, high - 4096, 0x5000, 4096, 3, PGT_NATURAL), -34);
		CHECK_EQ(pgt_map(&t, low - 4096, 0x5000, 3 * 4096, 3, PGT_NATURAL), -34);
		CHECK_EQ(pgt_map(&t, top - 4096, 0x5000, 3 * 4096, 3, PGT_NATURAL), -34);
		CHECK_EQ(pgt_unmap(&t, half, 4096), -34);
		CHECK_EQ(pgt_lookup(&t, half, &leaf), -34);
		CHECK(pgt_lookup(&t, low + 5, &leaf) == 0 && leaf.pa == 0x2005 && leaf.prot == 3);
		CHECK(pgt_lookup(&t, high + 5, &leaf) == 0 && leaf.pa == 0x3005 && leaf.prot == 1);
		CHECK(pgt_lookup(&t, top + 5, &leaf) == 0 && leaf.pa == 0x4005 && leaf.prot == 1);
		/* P is R: nothing can be written and not read. */
		CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 4096, PGT_W, PGT_NATURAL), -22);

		table = mem_at(NULL, t.root);
		pa = table[511];
		for (unsigned level = levels; level > 1; level--) {
			CHECK_EQ(pa & 0xfff, 7);
			table = mem_at(NULL, pa & ~0xfffull);
			pa = table[511];
		}
		CHECK_EQ(pa, 0x4000 | 5);
		CHECK_EQ(pgt_map(&t, 0x200000, 0x200000, PGT_2M, 3, PGT_NATURAL), 0);
		table = mem_at(NULL, t.root);
		for (unsigned level = levels; level > 2; level--)
			table = mem_at(NULL, table[0] & ~0xfffull);
		CHECK_EQ(table[1], 0x200000 | 0x87);
		/* What the unit sets in an entry, A and D, is told, and no obstacle. */
		CHECK(pgt_lookup(&t, 0x200123, &leaf) == 0 && !leaf.accessed && !leaf.dirty);
		table[1] |= 0x20;
		CHECK(pgt_lookup(&t, 0x200123, &leaf) == 0 && leaf.accessed && !leaf.dirty);
		table[1] |= 0x40;
		check_flushed_but(&table[1]);
		CHECK(pgt_lookup(&t, 0x200123, &leaf) == 0 && leaf.pa == 0x200123 && leaf.size == PGT_2M &&
		      leaf.accessed && leaf.dirty);
		CHECK_EQ(pgt_unmap(&t, 0x200000, PGT_2M), 0);
		CHECK_EQ(pgt_unmap(&t, 0, 4096), 0);
		CHECK_EQ(pgt_unmap(&t, low, 4096), 0);
		CHECK_EQ(pgt_unmap(&t, high, 4096), 0);
		CHECK_EQ(pgt_unmap(&t, top, 4096), 0);
		pgt_reap(&t);
		CHECK_EQ(t.pages, 1);
		check_flushed();
		done(&t);
	}
	struct pgt t = {.mem = &mem, .format = PGT_VTD_FIRST, .levels = 3, .bits = 48};

	CHECK_EQ(pgt_init(&t), -22);
}

static void test_refused(void)
{
	struct pgt t = second(4, 48, PGT_2M);
	const uint64_t end = 1ull << 48;
	struct pgt_leaf leaf;

	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 0, 3, PGT_NATURAL), -22);
	CHECK_EQ(pgt_map(&t, 0x1001, 0x1000, 4096, 3, PGT_NATURAL), -22);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1001, 4096, 3, PGT_NATURAL), -22);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 4097, 3, PGT_NATURAL), -22);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 4096, 0, PGT_NATURAL), -22);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 4096, 4, PGT_NATURAL), -22);
	CHECK_EQ(pgt_map(&t, end, 0x1000, 4096, 3, PGT_NATURAL), -34);
	CHECK_EQ(pgt_map(&t, end - 4096, 0x1000, 8192, 3, PGT_NATURAL), -34);
	CHECK_EQ(pgt_map(&t, 0x1000, 1ull << 52, 4096, 3, PGT_NATURAL), -34);
	CHECK_EQ(pgt_map(&t, 0x1000, (1ull << 52) - 4096, 8192, 3, PGT_NATURAL), -34);
	CHECK_EQ(pgt_map(&t, 0x1000, (1ull << 52) - 4096, 4096, 3, PGT_NATURAL), 0);
	CHECK_EQ(pgt_unmap(&t, 0x1000, 4096), 0);
	CHECK_EQ(pgt_map(&t, -4096ull, 0x1000, 4096, 3, PGT_NATURAL), -34);
	CHECK_EQ(pgt_map(&t, 0x1000, 0, -4096ull, 3, PGT_NATURAL), -34);

	/* All or nothing: a page in the way, the last one. */
	CHECK_EQ(pgt_map(&t, 0x205000, 0x9000, 4096, 3, PGT_NATURAL), 0);
	CHECK_EQ(pgt_map(&t, 0x1000, 0x1000, 0x205000, 3, PGT_NATURAL), -17);
	CHECK_EQ(pgt_lookup(&t, 0x1000, &leaf), -2);
	CHECK_EQ(pgt_unmap(&t, 0x204000, 8192), -2);
	CHECK_EQ(pgt_lookup(&t, 0x205000, &leaf), 0);

	/* Part of a large leaf stays whole. */
	CHECK_EQ(pgt_map(&t, 0x400000, 0x400000, PGT_2M, 3, PGT_NATURAL), 0);
	CHECK_EQ(pgt_unmap(&t, 0x400000, 4096), -22);
	CHECK_EQ(pgt_unmap(&t, 0x5ff000, 4096), -22);
	CHECK_EQ(pgt_lookup(&t, 0x400000, &leaf), 0);
	CHECK_EQ(leaf.size, PGT_2M);
	/* page_max, and sizes that the unit does not have */
	CHECK_EQ(pgt_map(&t, 0x600000, 0x600000, PGT_2M, 3, PGT_4K), 0);
	CHECK_EQ(pgt_unmap(&t, 0x600000, 4096), 0);
	CHECK_EQ(pgt_map(&t, 1ull << 30, 1ull << 30, 1ull << 30, 3, PGT_NATURAL), 0);
	CHECK_EQ(pgt_lookup(&t, 1ull << 30, &leaf), 0);
	CHECK_EQ(leaf.size, PGT_2M);
	done(&t);

	t.levels = 2;
	CHECK_EQ(pgt_init(&t), -22);
	t.levels = 6;
	CHECK_EQ(pgt_init(&t), -22);
}

/* Memory runs out at every allocation there is: nothing is left behind. */
static void test_no_memory(void)
{
	for (unsigned n = 0;; n++) {
		struct pgt t = second(4, 48, 0);
		struct pgt_leaf leaf;
		int r;

		CHECK_EQ(pgt_map(&t, 0x3ff000, 0x1000, 4096, 3, PGT_NATURAL), 0);
		fail_after = n;
		r = pgt_map(&t, 0x3fffe000000, 0x1000, 8 * PGT_2M, 3, PGT_NATURAL);
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

/* ---- the model ---- */
#define WINDOW 4096 /* pages: 16 MiB, in the middle of which a 1 GiB boundary lies */
struct cell { uint64_t pa; unsigned prot; uint64_t leaf; }; /* leaf: its size */
static struct cell model[WINDOW];

static uint64_t leaf_at(uint64_t iova, uint64_t pa, uint64_t left, uint64_t sizes)
{
	const bool large = !((iova | pa) & (PGT_2M - 1)) && left >= PGT_2M && (sizes & PGT_2M);

	return large ? PGT_2M : PGT_4K;
}

static void check_window(const struct pgt *t, uint64_t base, bool sizes_exact)
{
	bool same = true;

	for (unsigned i = 0; i < WINDOW; i++) {
		const uint64_t at = base + i * 4096ull;
		struct pgt_leaf leaf = {0};
		const int r = pgt_lookup(t, at + 123, &leaf);

		same &= model[i].prot ? r == 0 && leaf.pa == model[i].pa + 123 && leaf.prot == model[i].prot &&
						(!sizes_exact || leaf.size == model[i].leaf)
				      : r == -2;
	}
	CHECK(same);
	check_flushed();
}

static bool whole_leaves(unsigned first, unsigned n)
{
	/* Does a large leaf cross an end? Within a leaf, pa runs on and leaf is 2 MiB. */
	const unsigned per = PGT_2M / 4096;

	return (first % per == 0 || model[first].leaf != PGT_2M) &&
	       ((first + n) % per == 0 || model[first + n - 1].leaf != PGT_2M);
}

static void test_model(uint64_t seed, enum pgt_format format, unsigned levels)
{
	/* First stage: in the upper half. */
	const uint64_t base = (format == PGT_VTD_FIRST ? -(1ull << 39) : 0) + (1ull << 30) * 5 - WINDOW / 2 * 4096ull;
	struct random r = random_seed(seed);
	struct pgt t = make((struct pgt){.format = format, .levels = levels, .bits = 64, .sizes = PGT_2M | PGT_1G});
	unsigned mapped = 0, unmapped = 0, refused = 0;

	memset(model, 0, sizeof(model));
	for (unsigned step = 0; step < 10000; step++) {
		const bool big = random_below(&r, 4) == 0;
		unsigned first = random_below(&r, WINDOW), n = 1 + random_below(&r, big ? 1500 : 8);
		const uint64_t pa = (big ? random_below(&r, 1000) * PGT_2M : 0) +
				    (random_below(&r, big ? 4 : 1) == 0 ? (uint64_t)random_below(&r, 1000) << 12 : 0);
		const unsigned prot = (1 + random_below(&r, 3)) | (format == PGT_VTD_FIRST ? PGT_R : 0);
		const uint64_t sizes = random_below(&r, 3) ? PGT_NATURAL : PGT_4K;
		bool any = false, all = true;
		int got, want;

		/* Small ones keep to the lower half, mostly, so that there is room for large leaves. */
		if (big && random_below(&r, 8))
			first = (first / 2 + WINDOW / 2) & ~511u, n = (n + 511) & ~511u;
		else if (!big && random_below(&r, 256))
			first /= 2;
		if (first + n > WINDOW)
			n = WINDOW - first;
		for (unsigned i = first; i < first + n; i++)
			any |= model[i].prot != 0, all &= model[i].prot != 0;
		if (random_below(&r, 2)) {
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
			/* Mostly at something that is there: by whole leaves, or with an end inside one. */
			if (random_below(&r, 4)) {
				const unsigned most = big ? 1500 : 8;

				first = random_below(&r, WINDOW);
				while (first < WINDOW - 1 && !model[first].prot)
					first++;
				if (random_below(&r, 4))
					while (model[first].leaf == PGT_2M && first % 512)
						first--;
				for (n = 1; n < most && first + n < WINDOW && model[first + n].prot; n++)
					;
				if (random_below(&r, 4))
					while (model[first + n - 1].leaf == PGT_2M && (first + n) % 512)
						n++;
				all = model[first].prot != 0;
			}
			want = !all ? -2 : whole_leaves(first, n) ? 0 : -22;
			got = pgt_unmap(&t, base + first * 4096ull, n * 4096ull);
			CHECK_EQ(got, want);
			unmapped += got == 0;
			refused += got == -22;
			if (got == 0)
				memset(&model[first], 0, n * sizeof(model[0]));
			if (random_below(&r, 4) == 0)
				pgt_reap(&t);
		}
		if (step % 16 == 0)
			check_window(&t, base, true);
	}
	CHECK(mapped > 1000 && unmapped > 1000 && refused > 20);
	check_window(&t, base, true);
	/* Nothing but the root is left when nothing is mapped. */
	for (unsigned i = 0; i < WINDOW; i++) {
		const uint64_t size = model[i].leaf;

		if (model[i].prot) {
			CHECK_EQ(pgt_unmap(&t, base + i * 4096ull, size), 0);
			i += (unsigned)(size / 4096) - 1;
		}
	}
	pgt_reap(&t);
	CHECK_EQ(t.pages, 1);
	done(&t);
}

int main(void)
{
	test_one_of_each();
	test_entries();
	test_first_stage();
	test_refused();
	test_no_memory();
	for (unsigned seed = 1; seed <= 4; seed++)
		test_model(seed, PGT_VTD_SECOND, 3 + seed % 3);
	for (unsigned seed = 5; seed <= 8; seed++)
		test_model(seed, PGT_VTD_FIRST, 4 + seed % 2);
	return host_done("pgtable_vtd");
}
