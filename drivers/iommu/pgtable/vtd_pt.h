/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * VT-d page tables as pure arithmetic: no unit, no registers. Second stage (VT-d 4.1, 3.7 and 9.8) and
 * first stage (3.6 and 9.7) differ in the permission bits of an entry and in the addresses they take:
 * those of the first are a CPU's, canonical, and cannot be written without being readable. Memory and
 * cache flushes come from the caller, so that the host can test and fuzz it.
 *
 * A table that an unmap leaves empty is taken out of the tree, but a walker may still hold a pointer
 * to it: it waits in limbo until vtd_pt_reap(), which the caller calls once an invalidation of the
 * whole domain has completed.
 *
 * A leaf is unmapped whole or not at all: part of a large leaf is -EINVAL. Splitting one would make
 * a second translation of pages that nobody asked to touch; who wants to unmap parts maps small ones.
 */

#define VTD_PT_R 1u
#define VTD_PT_W 2u

#define VTD_PT_4K (1ull << 12)
#define VTD_PT_2M (1ull << 21)
#define VTD_PT_1G (1ull << 30)

struct vtd_pt_mem {
	/* A zeroed, page-aligned page for a table, and where hardware sees it. NULL: none left. */
	uint64_t *(*alloc)(void *ctx, uint64_t *pa);
	void (*free)(void *ctx, uint64_t pa);
	uint64_t *(*at)(void *ctx, uint64_t pa);
	/* [p, p + size) was written and hardware may read it. NULL: its walks are coherent. */
	void (*flush)(void *ctx, const void *p, size_t size);
};

enum vtd_stage { VTD_SECOND, VTD_FIRST };

struct vtd_pt {
	const struct vtd_pt_mem *mem;
	void *ctx;
	enum vtd_stage stage;
	unsigned levels;                 /* 3, 4, 5; of the first stage 4, 5 */
	unsigned bits;                   /* input addresses are below 1 << bits; first stage: of so many and a sign */
	uint64_t sizes;                  /* leaf sizes allowed, ORed; 4 KiB always is */
	uint64_t leaf_bits;              /* set in every leaf: SNP, second stage */
	uint64_t root;                   /* table page of the highest level */
	uint64_t limbo;                  /* 0, or the first of the pages that wait for reap */
	uint64_t pages, limbo_pages;     /* allocated, limbo included; in limbo */
	uint64_t *near, near_block;      /* the table of 4 KiB leaves last used, and its addresses over 2 MiB */
};

/*
 * stage, levels, bits, sizes, leaf_bits, mem and ctx are the caller's to set before. bits is cut to what
 * the levels translate; of the first stage it is what they translate. -EINVAL, -ENOMEM.
 */
int vtd_pt_init(struct vtd_pt *);
void vtd_pt_fini(struct vtd_pt *);
/*
 * All or nothing. Leaves are as large as alignment, sizes and page_max (bytes; 0: no limit) allow.
 * -EINVAL: not page aligned, empty, no permission or one that there is not; -ERANGE: outside the input or
 * a 52-bit output address space; -EEXIST: something in the range is mapped; -ENOMEM.
 */
int vtd_pt_map(struct vtd_pt *, uint64_t iova, uint64_t pa, uint64_t size, unsigned prot,
	       uint64_t page_max);
/* All or nothing. -ENOENT: something in the range is not mapped; -EINVAL: or is part of a larger leaf. */
int vtd_pt_unmap(struct vtd_pt *, uint64_t iova, uint64_t size);
/* The leaf that translates iova; pa is of iova itself. accessed and dirty: the first stage. -ENOENT, -ERANGE. */
struct vtd_pt_leaf { uint64_t pa, size; unsigned prot; bool accessed, dirty; };
int vtd_pt_lookup(const struct vtd_pt *, uint64_t iova, struct vtd_pt_leaf *);
void vtd_pt_reap(struct vtd_pt *);
