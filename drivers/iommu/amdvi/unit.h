/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/amdvi/amdvi.h"
#include "drivers/iommu/amdvi/decode.h"
#include "drivers/iommu/amdvi/regs.h"
#include "drivers/iommu/iommu.h"
#include "drivers/iommu/pgtable/pgtable.h"
#include "drivers/iommu/pgtable/spoil.h"
#include "kernel/acpi/acpi.h"
#include "kernel/mm/mm.h"

/*
 * One AMD-Vi unit; private to drivers/iommu/amdvi. The device table is made anew from what is attached and mapped whenever translation
 * or remapping is switched, so that an entry has one author, dte_of().
 */

/* The specification bounds no completion; a unit that needs this long has stopped answering. */
#define AMDVI_WAIT_NS SEC(2)

#define AMDVI_DOMAINS     1024       /* domain IDs that we hand out, at most; 0 is everybody without one */
#define AMDVI_DEVICES     64         /* attached at once; with an interrupt table */
#define AMDVI_IRT_ENTRIES (1u << AMDVI_IRT_LOG2)
#define AMDVI_LOG_ENTRIES 512u

struct amdvi_pair { uint64_t lo, hi; };      /* command, event, 128-bit IRTE */

/* domain 0: not in use; depth: of its device TLB, 0: it has none in use */
struct amdvi_device { uint16_t id, domain; uint64_t dte[2]; unsigned depth; };

/* A function's interrupt table. An index is ours from irq_map() to irq_unmap(), lent or not. */
struct amdvi_irt {
	uint16_t id;
	struct dma_buf table;        /* va NULL: not in use */
	uint64_t used[AMDVI_IRT_ENTRIES / 64];
	uint64_t lent[AMDVI_IRT_ENTRIES / 64];     /* irq_update() gave it to another function: */
	uint16_t borrower[AMDVI_IRT_ENTRIES];
};

struct amdvi {
	struct iommu *iommu;
	volatile uint8_t *regs;
	const struct ivrs_unit *unit;
	uint64_t efr, control;       /* control: as it is to be, never read back */
	bool running;                /* IommuEn, with its rings */
	struct dma_buf dev_tab;
	unsigned ids;                /* entries in it: whole buses */
	uint64_t live_bus[256 / 64]; /* buses with functions, or IDs that the IVRS gives to others */
	struct dma_buf commands, store;
	unsigned tail;
	uint64_t seq;
	bool error_due;              /* the next error is asked for: not worth a line */
	struct dma_buf log;
	unsigned head;
	uint64_t domain_used[AMDVI_DOMAINS / 64];
	uint8_t domain_levels[AMDVI_DOMAINS];
	struct amdvi_device device[AMDVI_DEVICES];
	struct dma_buf no_irt;       /* of functions without one: nothing in it is enabled */
	struct amdvi_irt irt[AMDVI_DEVICES];
};

struct amdvi_domain { struct pgt v1; uint32_t unity; }; /* unity: bit n: IVMD n is mapped */

static inline struct amdvi *amdvi_of(const struct iommu *iommu) { return iommu->priv; }
static inline uint64_t amdvi_r64(const struct amdvi *v, unsigned reg) { return mmio_r64(v->regs + reg); }
static inline void amdvi_w64(struct amdvi *v, unsigned reg, uint64_t x) { mmio_w64(v->regs + reg, x); }
/* STATUS: its write-1-to-clear bits; the others ignore writes. */
static inline void amdvi_w1c(struct amdvi *v, uint64_t bits) { mmio_w64(v->regs + STATUS, bits); }

/* amdvi.c */
int amdvi_fail(struct amdvi *, const char *why); /* the unit does not answer: dump, broken. -ETIMEDOUT */
/* CONTROL bits on or off; and waits for a bit of STATUS that follows them (0: none does). */
int amdvi_control(struct amdvi *, uint64_t bits, bool on, uint64_t follows);
/* Writes a function's entry anew, and has the unit forget the old one. */
int amdvi_update_device(struct amdvi *, uint16_t id);
/* After translating or remapping has changed: the whole table, and the unit on or off. */
int amdvi_switch(struct amdvi *);
pci_rid_t amdvi_own_rid(const struct amdvi *);   /* of the unit as a PCI function */
struct amdvi_irt *amdvi_irt_find(struct amdvi *, uint16_t id);

/* command.c: complete on return; nothing to be done while the unit is off */
int amdvi_commands_init(struct amdvi *);
void amdvi_commands_start(struct amdvi *);
int amdvi_queue_waits(struct iommu *, gpa_t words, unsigned n, uint32_t first);
int amdvi_queue_bad(struct iommu *);
int amdvi_inv_device(struct amdvi *, uint16_t id);
int amdvi_inv_device_tlb(struct amdvi *, const struct amdvi_device *); /* all that it keeps */
int amdvi_inv_interrupts(struct amdvi *, uint16_t id);
/* Everything: by INVALIDATE_IOMMU_ALL where there is one, and each function that exists by itself. */
int amdvi_inv_all(struct amdvi *, struct deadline);
/* The unit's translations, then those that devices of the domain keep. */
int amdvi_inv_domain(struct amdvi *, uint16_t domain, struct deadline);
int amdvi_inv_range(struct amdvi *, uint16_t domain, uint64_t iova, uint64_t size, bool leaf_only,
		    struct deadline);

/* event.c */
int amdvi_log_init(struct amdvi *);
void amdvi_log_start(struct amdvi *);
int amdvi_fault_pop(struct iommu *, struct iommu_fault *);
void amdvi_fault_clear(struct iommu *);
int amdvi_fault_irq(struct iommu *, const struct irq_route *, const char **why);

/* ir.c */
int amdvi_ir_enable(struct iommu *, bool eim);
void amdvi_ir_disable(struct iommu *);
int amdvi_irq_sync(struct iommu *);
int amdvi_irq_map(struct iommu *, pci_rid_t, const struct irq_route *, unsigned n, struct msi_msg *);
int amdvi_irq_write(struct iommu *, int index, pci_rid_t, const struct irq_route *);
int amdvi_irq_update(struct iommu *, int index, pci_rid_t, const struct irq_route *);
int amdvi_irq_reserved(struct iommu *, int index, unsigned k);
int amdvi_irq_unmap(struct iommu *, int index);
int amdvi_irq_message(struct iommu *, int index, struct msi_msg *);
uint64_t amdvi_irq_rte(struct iommu *, int index, const struct irq_route *, bool mask);
