/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/exercisers/exerciser.h"
#include "drivers/iommu/iommu.h"
#include "kernel/mm/mm.h"
#include "tests/harness/test.h"

/*
 * What the iommu and dma tests share: a device in an address space of its own, and memory for it to
 * read and write, of which every byte is accounted for.
 *
 *	struct dma_space *s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
 *	struct dma_target *kept = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
 *
 *	dma_load(s, 1, len);                           // what the device is to write
 *	ASSERT_OK(t, dma_write(kept, 0, len));
 *	dma_expect_written(kept, 0, len, "mapped");    // those bytes, and no other
 *	dma_space_close(s);
 */

enum dma_mode {
	DMA_OFF,         /* no unit, or translation off */
	DMA_PASSTHROUGH, /* the device attached, its addresses not changed */
	DMA_TRANSLATED,
	DMA_MODE_COUNT
};
const char *dma_mode_name(enum dma_mode);

/*
 * Memory for one or more transfers. The device is told iova; the bytes are at va (pa). Where there is
 * a decoy, it is memory of ours whose physical address is that same iova: a transfer that is not
 * translated ends there, hurts nobody, and is seen.
 */
struct dma_target {
	struct dma_space *space;
	iova_t iova;
	gpa_t pa;
	uint8_t *va;
	size_t size;
	uint32_t prot;               /* enum iommu_prot */
	bool mapped;
	uint32_t seed;               /* of what it was filled with */
	struct dma_buf buf, decoy;
};

#define DMA_TARGETS 32
struct dma_space {
	struct t *t;
	struct exerciser *ex;
	enum dma_mode mode;
	struct iommu *iommu;         /* NULL: none in front of the device */
	struct iommu_domain domain;
	bool is_open, attached;
	uint64_t next_far;           /* where the next large target goes */
	struct dma_target *source;   /* EX_DMA_COPY: what its medium holds */
	struct dma_target target[DMA_TARGETS]; /* those with a size */
	char name[40];               /* "00:04.0 edu" */
};

/*
 * Quiets the device, gives it a domain with what it fetches itself (own[]) mapped one to one, attaches
 * it, switches translation on. NULL: this device or its unit cannot, *why says so. Undone by
 * dma_space_close() or at the end of the test: the device first, then domain and memory. Translation
 * stays on, past the test's end too (units_off()), until DMA_OFF is asked for.
 * Several spaces may be open, one a device.
 */
struct dma_space *dma_space_open(struct t *, struct exerciser *, enum dma_mode, const char **why);
void dma_space_close(struct dma_space *);
/* The same, but for a domain of the caller's: shared with another space, or of a certain depth. */
struct dma_space *dma_space_open_with(struct t *, struct exerciser *, unsigned levels,
				      struct dma_space *share, const char **why);
/* With tables of that stage (iommu_domain.stage). */
struct dma_space *dma_space_open_staged(struct t *, struct exerciser *, unsigned stage, const char **why);
/* For tests of being without: takes the device out of its domain, and puts it back. */
int dma_space_detach(struct dma_space *);
int dma_space_attach(struct dma_space *);

/*
 * The base of 8 GiB of addresses of so many bits that no device answers to (a bridge would take such a
 * transfer for its neighbour), neither there nor with the next higher bit set.
 */
uint64_t dma_far(const struct dma_space *, unsigned bits);
#define DMA_FAR_BITS 39              /* what every depth of tables reaches */

/* Memory mapped with prot (without translation: just memory). No memory or no room is an error. */
struct dma_target *dma_target_map(struct dma_space *, size_t size, uint32_t prot);
/* At an address of the caller's (0: chosen), with leaves of page_max at most (0: any); aligned to both. */
struct dma_target *dma_target_map_at(struct dma_space *, size_t size, uint32_t prot, uint64_t iova,
				     size_t page_max);
/* Memory and an address for it that are not mapped; dma_target_remap() maps it. */
struct dma_target *dma_target_alloc(struct dma_space *, size_t size);
int dma_target_remap(struct dma_target *, uint32_t prot);
int dma_target_unmap(struct dma_target *);      /* the translation may still be cached */
int dma_target_unmap_sync(struct dma_target *); /* by page */
void dma_target_free(struct dma_target *);      /* unmaps it; stop the device first */

/* Fills target and decoy with bytes that no transfer writes there; every seed others. */
void dma_target_fill(struct dma_target *, uint32_t seed);
/* Every byte of it, and of the decoy, as it was filled. what: "after the blocked write". */
bool dma_expect_untouched(struct dma_target *, const char *what);
/* The device's bytes at [off, off + len), every other byte as filled. */
bool dma_expect_written(struct dma_target *, size_t off, size_t len, const char *what);
/* The same where the transfer began dev_off bytes earlier, in another target. */
bool dma_expect_written_from(struct dma_target *, size_t off, size_t len, size_t dev_off, const char *what);

/* ---- transfers ---- */
struct dma_job {
	struct dma_space *space;
	enum dma_dir dir;
	iova_t addr;
	size_t len;
	int result;                  /* 0, -EIO as the device told, -ETIMEDOUT; -EAGAIN: under way */
};
/* Those that are to succeed: starts all, one a device at a time, and waits for all; the results are in the jobs. */
void dma_run(struct dma_job *, unsigned count);
/* Its two halves: what comes between them happens while the device is at it. */
void dma_begin(struct dma_job *, unsigned count);
void dma_finish(struct dma_job *, unsigned count);
/*
 * Gives the device what it is to write, seed others for every seed: EX_DMA_COPY loads it from memory;
 * one that has bytes of its own writes those. len as for the transfers to come.
 */
int dma_load(struct dma_space *, uint32_t seed, size_t len);
/* The memory half of it, for EX_DMA_COPY: s->source then waits to be read. */
void dma_load_prepare(struct dma_space *, uint32_t seed, size_t len);
int dma_write(struct dma_target *, size_t off, size_t len); /* device to memory */
int dma_read(struct dma_target *, size_t off, size_t len);  /* memory to device */
/* For one that is to be blocked: whatever the device makes of it, it is quiet afterwards. */
void dma_try(struct dma_space *, enum dma_dir, iova_t, size_t len);
/* A length and an alignment that this device can do, at most max (and a page). */
size_t dma_len(const struct exerciser *, size_t max);

/* Exercisers behind a unit that translates, with these caps, whose written bytes are known. */
struct exerciser *dma_next_exerciser(struct t *, struct exerciser *after, uint32_t caps, bool slow);
/*
 * One after the other: those that are slow (edu: 100 ms a transfer) stand aside for the others, unless
 * device= or iterations= asks for them.
 */
#define FOR_EACH_TRANSLATED(t, ex, caps)                                                           \
	for (struct exerciser *ex = dma_next_exerciser(t, NULL, caps, false); ex;                  \
	     ex = dma_next_exerciser(t, ex, caps, false))

/* ---- faults ---- */
void dma_faults_clear(struct dma_space *);
/*
 * At least one fault was recorded, and all are this device's, this direction's, in [iova, iova + len),
 * for this reason. IOMMU_FAULT_NOT_PRESENT also takes the missing permission, as VT-d reports it.
 */
bool dma_expect_fault(struct dma_space *, enum dma_dir, iova_t, size_t len, enum iommu_reason,
		      const char *what);
bool dma_expect_no_fault(struct dma_space *, const char *what);

/* iommu.tables, the part for AMD-Vi (acpi_ivrs.c) */
void iommu_check_ivrs(struct t *);
/* … and for virtio-iommu (acpi_viot.c); and one that no VIOT names: false, with a finding */
void iommu_check_viot(struct t *);
bool iommu_check_orphan(struct t *);
/* The finding that DMA goes past a unit that is on (bypass.c). */
void iommu_tell_bypass(const struct dma_space *);
/* The finding that a device's blocked DMA leaves no fault record, in caching mode. */
void iommu_tell_shadow(const struct dma_space *);
