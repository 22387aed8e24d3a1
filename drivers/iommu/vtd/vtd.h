/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/iommu.h"
#include "drivers/iommu/pgtable/pgtable.h"
#include "drivers/iommu/pgtable/spoil.h"
#include "drivers/iommu/vtd/regs.h"
#include "kernel/mm/mm.h"

/*
 * One VT-d unit, in scalable mode where it has that (ECAP.SMTS), else in legacy mode. Private to
 * drivers/iommu/vtd.
 */

/* The specification bounds no completion; a unit that needs this long has stopped answering. */
#define VTD_WAIT_NS SEC(2)

#define VTD_IRT_LOG2    10           /* entries of the interrupt remapping table */
#define VTD_IRT_ENTRIES (1u << VTD_IRT_LOG2)
#define VTD_DOMAINS     1024         /* domain IDs that we hand out, at most */

#define VTD_PASID_TABLES 64          /* requester IDs that may be attached in scalable mode, ever */
#define VTD_ATS_MAX      16          /* functions with a device TLB in use at once */

struct vtd_entry { uint64_t lo, hi; }; /* root, legacy context, IRTE: 128 bits each */
struct vtd_desc { uint64_t lo, hi, more[2]; }; /* of the queue; its upper half is never ours to set */

/* What a requester's scalable context entry points to: kept once it is there. */
struct vtd_pasid {
	uint16_t sid;
	struct dma_buf dir, table;   /* dir.va NULL: not in use */
};

/* A function that keeps translations of its own (ATS), and of which domain. */
struct vtd_ats {
	uint16_t sid, did;
	unsigned depth;              /* invalidations that it takes at once; 0: not in use */
};

struct vtd {
	struct iommu *iommu;
	volatile uint8_t *regs;
	uint64_t cap, ecap;
	bool scalable;
	uint32_t gcmd;               /* what GCMD's state bits are to be: never read back from GSTS */
	struct dma_buf root, context[256];
	struct vtd_pasid pasid[VTD_PASID_TABLES];
	struct vtd_ats ats[VTD_ATS_MAX];
	unsigned ats_end;            /* those from here on were never in use */
	uint64_t domain_used[VTD_DOMAINS / 64];
	struct dma_buf queue, status;
	unsigned desc_shift;         /* log2 of a descriptor's bytes */
	unsigned queue_tail;
	uint32_t queue_seq;
	bool queue_error_due;        /* the next error is asked for: not worth a line */
	struct dma_buf irt;
	uint64_t irt_used[VTD_IRT_ENTRIES / 64];
};

struct vtd_domain {
	struct pgt pt;
	uint32_t reserved;           /* bit n: RMRR n is mapped */
};

extern const struct iommu_ops vtd_ops;

static inline struct vtd *vtd_of(const struct iommu *iommu) { return iommu->priv; }
static inline uint32_t vtd_r32(const struct vtd *v, unsigned reg) { return mmio_r32(v->regs + reg); }
static inline uint64_t vtd_r64(const struct vtd *v, unsigned reg) { return mmio_r64(v->regs + reg); }
static inline void vtd_w32(struct vtd *v, unsigned reg, uint32_t x) { mmio_w32(v->regs + reg, x); }
static inline void vtd_w64(struct vtd *v, unsigned reg, uint64_t x) { mmio_w64(v->regs + reg, x); }
/* Write-1-to-clear bits of a register whose other bits ignore zeros. */
static inline void vtd_w1c(struct vtd *v, unsigned reg, uint32_t bits) { mmio_w32(v->regs + reg, bits); }

/* ---- vtd.c ---- */
/* The unit does not answer: registers to the log, iommu->broken set. -ETIMEDOUT. */
int vtd_fail(struct vtd *, const char *why);
/* A state bit of GCMD on or off, waited for in GSTS; a one-shot bit, waited for where it shows. */
int vtd_state(struct vtd *, uint32_t bit, bool on);
int vtd_oneshot(struct vtd *, uint32_t bit);
/* Makes [p, p + size) visible to the unit's walks (11.4.3: CLFLUSH where ECAP.C is clear). */
void vtd_flush(const struct vtd *, const void *p, size_t size);
/* The same for what ECAP.SMPWCS tells of: the paging structures of scalable mode. */
void vtd_flush_paging(const struct vtd *, const void *p, size_t size);
/* After entries became valid: 6.8 (RWBF). Caching mode needs an invalidation instead (6.1). */
int vtd_flush_write_buffer(struct vtd *);
/* Fills an entry: the second word, then the first, which holds Present. */
void vtd_set_entry(const struct vtd *, struct vtd_entry *, uint64_t lo, uint64_t hi);

/* ---- context.c: root, context and PASID entries ---- */
/* The root table's address as RTADDR has it. -ENOMEM. */
int vtd_root(struct vtd *, uint64_t *rtaddr);
/* The entries that give rid this domain, its device TLB with it. -EBUSY: it has one. */
int vtd_context_set(struct vtd *, pci_rid_t, const struct iommu_domain *, bool device_tlb);
/* -ENOENT: it is not in that domain. Invalidates nothing. */
int vtd_context_clear(struct vtd *, pci_rid_t, uint16_t did);
const char *vtd_context_spoil(struct vtd *, pci_rid_t, unsigned n, enum iommu_reason *); /* as ops.spoil */
static inline struct pgt *vtd_pt_of(const struct iommu_domain *d) { return &((struct vtd_domain *)d->priv)->pt; }
/* Tables of that stage, in the mode that the unit is in: depths as caps.levels, and the most. */
unsigned vtd_levels(const struct vtd *, unsigned stage);

/* ---- queue.c: invalidations, by queue or by register; complete on return ---- */
int vtd_queue_start(struct vtd *);
int vtd_queue_stop(struct vtd *);
int vtd_inv_context_all(struct vtd *);
int vtd_inv_context_device(struct vtd *, uint16_t did, uint16_t sid);
/* Scalable mode: all PASIDs' entries, or those that name the domain. Nothing to do in legacy mode. */
int vtd_inv_pasid_all(struct vtd *);
int vtd_inv_pasid_domain(struct vtd *, uint16_t did);
/* Of the IOTLB, and then of the device TLBs, in this order (6.5.2.5). */
int vtd_inv_all(struct vtd *, struct deadline);
int vtd_inv_domain(struct vtd *, uint16_t did, unsigned stage, struct deadline);
/* By page where the unit can, else the domain. leaf_only: the tables above the leaves did not change. */
int vtd_inv_range(struct vtd *, uint16_t did, unsigned stage, uint64_t iova, uint64_t size, bool leaf_only,
		  struct deadline);
int vtd_queue_use(struct iommu *, bool);
int vtd_queue_waits(struct iommu *, gpa_t words, unsigned n, uint32_t first);
int vtd_queue_bad(struct iommu *);
int vtd_inv_iec_all(struct vtd *);
int vtd_inv_iec(struct vtd *, unsigned index);

/* ---- ir.c ---- */
int vtd_ir_enable(struct iommu *, bool eim);
void vtd_ir_disable(struct iommu *);
int vtd_irq_sync(struct iommu *);
int vtd_irq_map(struct iommu *, pci_rid_t, const struct irq_route *, unsigned n, struct msi_msg *);
int vtd_irq_write(struct iommu *, int index, pci_rid_t, const struct irq_route *);
int vtd_irq_update(struct iommu *, int index, pci_rid_t, const struct irq_route *);
int vtd_irq_reserved(struct iommu *, int index, unsigned k);
int vtd_irq_unmap(struct iommu *, int index);
int vtd_irq_message(struct iommu *, int index, struct msi_msg *);
uint64_t vtd_irq_rte(struct iommu *, int index, const struct irq_route *, bool mask);

/* ---- fault.c ---- */
int vtd_fault_pop(struct iommu *, struct iommu_fault *);
void vtd_fault_clear(struct iommu *);
int vtd_fault_irq(struct iommu *, const struct irq_route *, const char **why);
