/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Page tables as pure arithmetic: no unit, no registers. Three formats share the walk:
 *
 *	VT-d second stage (VT-d 4.1, 3.7 and 9.8)
 *	VT-d first stage (3.6, 9.7): other permission bits; addresses are a CPU's, canonical, and cannot be
 *		written without being readable
 *	AMD v1 (48882, 2.2.3): a leaf may have any power-of-two size: the natural one of its level (Next Level 0),
 *		or 2 to 256 times that, as so many equal entries in a row (Next Level 7, the size in the address)
 *
 * Memory and cache flushes come from the caller, so that the host can test and fuzz it.
 *
 * A table that an unmap leaves empty is taken out of the tree, but a walker may still hold a pointer to it: it
 * waits in limbo until pgt_reap(), which the caller calls once an invalidation of the whole domain has
 * completed. No empty table stays in the tree, the root apart.
 *
 * A leaf is unmapped whole or not at all: part of a larger leaf is -EINVAL. Splitting one would make a second
 * translation of pages that nobody asked to touch; who wants to unmap parts maps small ones.
 */

#define PGT_R 1u
#define PGT_W 2u

#define PGT_4K (1ull << 12)
#define PGT_2M (1ull << 21)
#define PGT_1G (1ull << 30)
#define PGT_NATURAL   (PGT_4K | PGT_2M | PGT_1G)
#define PGT_ALL_SIZES (((1ull << 52) - 1) & ~0xfffull) /* as far as 52 address bits reach */

enum pgt_format { PGT_VTD_SECOND, PGT_VTD_FIRST, PGT_AMD_V1 };

struct pgt_mem {
	/* A zeroed, page-aligned page for a table, and where hardware sees it. NULL: none left. */
	uint64_t *(*alloc)(void *ctx, uint64_t *pa);
	void (*free)(void *ctx, uint64_t pa);
	uint64_t *(*at)(void *ctx, uint64_t pa);
};

struct pgt {
	const struct pgt_mem *mem;
	/* [p, p + size) was written and hardware may read it. NULL: its walks are coherent. */
	void (*flush)(void *ctx, const void *p, size_t size);
	void *ctx;
	enum pgt_format format;
	unsigned levels;                 /* second stage 3 to 5, first 4 and 5, AMD 1 to 6 */
	unsigned bits;                   /* input addresses are below 1 << bits; first stage: of so many and a sign */
	uint64_t sizes;                  /* leaf sizes allowed, ORed; 4 KiB always is */
	uint64_t leaf_bits;              /* set in every leaf: SNP of the second stage, AMD's FC */
	uint64_t root;                   /* table page of the highest level */
	uint64_t limbo;                  /* 0, or the first of the pages that wait for reap */
	uint64_t pages, limbo_pages;     /* allocated, limbo included; in limbo */
	uint64_t *near, near_block;      /* the table of 4 KiB leaves last used, and its addresses over 2 MiB */
	uint64_t present, above, sign;   /* of the format: an entry's bits, any of which; addresses' bits above, and 0 or the sign */
	uint64_t entry_bits[4];          /* by permission; 0: there is no such */
};

/*
 * All up to leaf_bits is the caller's to set before. bits is cut to what the levels translate; of the first stage it is what they translate; sizes to what the format has. -EINVAL, -ENOMEM.
 */
int pgt_init(struct pgt *);
void pgt_fini(struct pgt *);
/*
 * All or nothing. Leaves are as large as alignment and sizes (of leaves, ORed; 4 KiB always is allowed) let them be.
 * -EINVAL: not page aligned, empty, no permission or one that there is not; -ERANGE: outside the input or a 52-bit
 * output address space; -EEXIST: something in the range is mapped; -ENOMEM.
 */
int pgt_map(struct pgt *, uint64_t iova, uint64_t pa, uint64_t size, unsigned prot, uint64_t sizes);
/* All or nothing. -ENOENT: something in the range is not mapped; -EINVAL: or is part of a larger leaf. */
int pgt_unmap(struct pgt *, uint64_t iova, uint64_t size);
/* The leaf that translates iova; pa is of iova itself. accessed and dirty: the first stage. -ENOENT, -ERANGE. */
struct pgt_leaf { uint64_t pa, size; unsigned prot; bool accessed, dirty; };
int pgt_lookup(const struct pgt *, uint64_t iova, struct pgt_leaf *);
/* The first leaf that ends at or after *iova, which becomes its beginning; not of the first stage. -ENOENT: none. */
int pgt_next(const struct pgt *, uint64_t *iova, struct pgt_leaf *);
/* The entry that a walk for iova meets at that level, or where it ends above. -ERANGE: NULL. For tests that spoil it. */
uint64_t *pgt_entry(const struct pgt *, uint64_t iova, unsigned level);
void pgt_reap(struct pgt *);

/* Sizes for pgt_map(), of those that there are: up to page_max (0: any), odd ones only where page_max is such a one. */
static inline uint64_t pgt_sizes(uint64_t sizes, size_t page_max)
{
	if (page_max == 0)
		return sizes & PGT_NATURAL;
	return (page_max & ~PGT_NATURAL ? sizes : sizes & PGT_NATURAL) & ((2ull << (63 - __builtin_clzll(page_max))) - 1);
}

/* The kernel's pages (memory.c). */
extern const struct pgt_mem pgt_memory;
