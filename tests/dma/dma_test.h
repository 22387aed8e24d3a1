/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/iommu.h"
#include "kernel/mm/mm.h"
#include "tests/harness/test.h"

/* What the dma tests share: one exerciser and one buffer, in each of the ways a machine has for them. */

enum stage_mode {
	STAGE_OFF,          /* the IOMMU is off, absent, or not in the device's way */
	STAGE_PASSTHROUGH,  /* on, and this device's addresses are guest physical */
	STAGE_4K,           /* on, with a table of 4 KiB pages */
	STAGE_STRICT,       /* … each transfer is mapped before, unmapped and synchronised after it */
	STAGE_DEFERRED,     /* … unmapped after it, and synchronised once for many */
	STAGE_SCATTERED,    /* … of 4 KiB pages, no two neighbours of which are neighbours in memory */
	STAGE_2M,           /* … of 2 MiB pages */
	STAGE_1G,           /* … of 1 GiB pages */
	STAGE_MODES
};

struct dma_stage {
	struct t *t;
	struct exerciser *ex;
	struct iommu *iommu;             /* NULL: none in this device's way */
	struct iommu_domain domain[STAGE_MODES];
	bool has[STAGE_MODES];             /* which modes there are */
	enum stage_mode mode;
	struct dma_buf buf;
	iova_t far;                      /* where the tables put the buffer */
	unsigned stale;                  /* STAGE_DEFERRED: unmapped since the last sync */
};

/*
 * *s is from test_alloc(). Allocates the buffer and prepares a domain for each mode that machine and
 * device offer; one that cannot be made although the unit says that it can is a check that did not hold.
 * The mode is STAGE_OFF then. Everything is undone when the test ends. false: no memory, and nothing is
 * left behind.
 */
bool dma_stage_open(struct dma_stage *, struct t *, struct exerciser *, size_t size);
/* Also for a stage that is already closed. The device is quiesced first. */
void dma_stage_close(struct dma_stage *);
/*
 * Brings the device into a mode that it has, and starts it there; every other device behind the unit is
 * quiet meanwhile. false: reported as a check that did not hold.
 */
bool dma_stage_enter(struct dma_stage *, enum stage_mode);
/* The address that the device puts on the bus for an offset, and where those bytes are in memory. */
iova_t dma_stage_addr(const struct dma_stage *, size_t off);
void *dma_stage_va(const struct dma_stage *, size_t off);
/*
 * What a driver does before and after each transfer where mappings do not stay: nothing but in
 * STAGE_STRICT and STAGE_DEFERRED. No two transfers at a time in one page; a page that is used again
 * before the next sync has the translation that is cached. What lies before DMA_STAGE_FIRST stays mapped,
 * so that the tables do not come and go with every page: a driver has other mappings beside.
 */
#define DMA_STAGE_BATCH 64u
#define DMA_STAGE_FIRST PAGE_SIZE
int dma_stage_map(struct dma_stage *, size_t off, size_t len);
int dma_stage_unmap(struct dma_stage *, size_t off, size_t len);
static inline bool dma_stage_remaps(const struct dma_stage *s)
{
	return s->mode == STAGE_STRICT || s->mode == STAGE_DEFERRED;
}
/* "none", "bypass", "off", "passthrough", "translate", "strict", … "translate-1g" */
const char *dma_stage_name(const struct dma_stage *, enum stage_mode);

/* ---- patterns ---- */

/* The 64-bit word that a pattern has at a word index. */
static inline uint64_t pattern_word(uint64_t seed, size_t index)
{
	uint64_t x = (seed + index + 1) * 0x9e3779b97f4a7c15ull;

	x ^= x >> 29;
	return x * 0xbf58476d1ce4e5b9ull;
}

/*
 * Bytes that repeat after a page and a word, so that no page looks like one near it. Filled and
 * compared with string instructions: where each instruction is emulated (KVM without hardware), a loop
 * over a megabyte takes seconds.
 */
#define PATTERN_PERIOD (PAGE_SIZE + 8)
struct pattern { uint8_t bytes[2 * PATTERN_PERIOD]; };
void pattern_init(struct pattern *, uint64_t seed);
/* Gives [from, to) of a buffer the bytes that the pattern has there. */
void pattern_fill(const struct pattern *, void *buf, size_t from, size_t to);
/* The first offset in [from, to) where a buffer is not the pattern, or to. */
size_t pattern_check(const struct pattern *, const void *buf, size_t from, size_t to);
void bytes_copy(void *to, const void *from, size_t n);
/* The first place where they differ, or n. */
size_t bytes_differ(const void *a, const void *b, size_t n);

/* Does an instruction take so long that a test had better do less? (Some microseconds a loop.) */
bool machine_is_slow(void);
