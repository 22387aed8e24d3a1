/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * AMD v1 host page tables (AMD IOMMU 48882, 2.2.3) as pure arithmetic: no unit, no registers. Memory
 * and cache flushes come from the caller, so that the host can test and fuzz it.
 *
 * A leaf may have any power-of-two size: the natural one of its level (4 KiB, 2 MiB, 1 GiB, …; Next
 * Level 0), or 2 to 256 times that, which takes as many equal entries in a row (Next Level 7, the size
 * in the low address bits).
 *
 * A table that an unmap leaves empty is taken out of the tree, but a walker may still hold a pointer
 * to it: it waits in limbo until amd_v1_reap(), which the caller calls once an invalidation of the
 * whole domain has completed. No empty table stays in the tree, the root apart.
 *
 * A leaf is unmapped whole or not at all: part of a larger leaf is -EINVAL.
 */

#define AMD_V1_R 1u
#define AMD_V1_W 2u

#define AMD_V1_4K (1ull << 12)
#define AMD_V1_2M (1ull << 21)
#define AMD_V1_1G (1ull << 30)
#define AMD_V1_NATURAL   (AMD_V1_4K | AMD_V1_2M | AMD_V1_1G | 1ull << 39 | 1ull << 48)
#define AMD_V1_ALL_SIZES (((1ull << 52) - 1) & ~0xfffull) /* as far as 52 address bits reach */

struct amd_v1_mem {
	/* A zeroed, page-aligned page for a table, and where hardware sees it. NULL: none left. */
	uint64_t *(*alloc)(void *ctx, uint64_t *pa);
	void (*free)(void *ctx, uint64_t pa);
	uint64_t *(*at)(void *ctx, uint64_t pa);
	/* [p, p + size) was written and hardware may read it. NULL: its walks are coherent. */
	void (*flush)(void *ctx, const void *p, size_t size);
};

struct amd_v1 {
	const struct amd_v1_mem *mem;
	void *ctx;
	unsigned levels;                 /* 1..6: the paging mode */
	unsigned bits;                   /* input addresses are below 1 << bits; 64: any */
	uint64_t leaf_bits;              /* set in every leaf: FC */
	uint64_t root;                   /* table page of the highest level */
	uint64_t limbo;                  /* 0, or the first of the pages that wait for reap */
	uint64_t pages, limbo_pages;     /* allocated, limbo included; in limbo */
};

/* levels, bits, leaf_bits, mem and ctx are the caller's to set before; bits is cut to what levels reach. */
int amd_v1_init(struct amd_v1 *);        /* -EINVAL, -ENOMEM */
void amd_v1_fini(struct amd_v1 *);
/*
 * All or nothing. Leaves are as large as alignment and sizes (of leaves, ORed; 4 KiB always is allowed)
 * let them be. -EINVAL: not page aligned, empty, no permission; -ERANGE: outside the input or a 52-bit
 * output address space; -EEXIST: something in the range is mapped; -ENOMEM.
 */
int amd_v1_map(struct amd_v1 *, uint64_t iova, uint64_t pa, uint64_t size, unsigned prot, uint64_t sizes);
/* All or nothing. -ENOENT: something in the range is not mapped; -EINVAL: or is part of a larger leaf. */
int amd_v1_unmap(struct amd_v1 *, uint64_t iova, uint64_t size);
/* The leaf that translates iova; pa is of iova itself. -ENOENT, -ERANGE. */
struct amd_v1_leaf { uint64_t pa, size; unsigned prot; };
int amd_v1_lookup(const struct amd_v1 *, uint64_t iova, struct amd_v1_leaf *);
/* The first leaf that ends at or after *iova, which becomes its beginning. -ENOENT: none. */
int amd_v1_next(const struct amd_v1 *, uint64_t *iova, struct amd_v1_leaf *);
void amd_v1_reap(struct amd_v1 *);
