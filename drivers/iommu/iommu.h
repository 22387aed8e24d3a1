/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drivers/pci/pci.h"
#include "kernel/irq/msg.h"
#include "kernel/lib/addr.h"
#include "kernel/time/time.h"

/* One interface over VT-d, AMD-Vi and virtio-iommu. Tests speak only to this. */

enum iommu_vendor { IOMMU_VTD = 1, IOMMU_AMDVI, IOMMU_VIRTIO };
enum iommu_prot { IOMMU_R = 1, IOMMU_W = 2, IOMMU_RW = 3 };

/* One vocabulary for three vendors' fault records. */
enum iommu_reason {
	IOMMU_FAULT_NONE, IOMMU_FAULT_NOT_PRESENT, /* the page, at any level */
	IOMMU_FAULT_READ, IOMMU_FAULT_WRITE,       /* permission */
	IOMMU_FAULT_NO_DOMAIN,                     /* no root/context/device-table entry or attachment */
	IOMMU_FAULT_ADDRESS_WIDTH, IOMMU_FAULT_RESERVED_BITS, IOMMU_FAULT_TABLE,
	IOMMU_FAULT_BLOCKED,
	IOMMU_FAULT_IR_NOT_PRESENT, IOMMU_FAULT_IR_RANGE, IOMMU_FAULT_IR_RESERVED, IOMMU_FAULT_IR_SOURCE,
	IOMMU_FAULT_IR_COMPAT, IOMMU_FAULT_IR_TABLE, IOMMU_FAULT_OTHER,
};
struct iommu_fault {
	pci_rid_t rid;
	iova_t iova;                     /* page aligned where the unit gives no more */
	bool write, interrupt, overflow, has_pasid;
	bool no_direction;               /* the unit does not say whether it was a write (virtio-iommu) */
	uint32_t pasid;
	uint32_t ir_index;               /* as the message has it; IR_INDEX_UNKNOWN */
	enum iommu_reason reason;
	uint32_t raw_reason;             /* as the vendor numbers it */
};
#define IR_INDEX_UNKNOWN UINT32_MAX
/* An index of irq_map() as a message has it; above that is what the driver needs to know. */
#define IR_INDEX_WIRE(index) ((uint32_t)(index) & 0xffff)
const char *iommu_reason_name(enum iommu_reason);

struct iommu_desc {                      /* from DMAR, IVRS or VIOT */
	enum iommu_vendor vendor;
	gpa_t regs;
	size_t regs_size;
	uint16_t segment;
	const void *table;               /* VT-d: struct dmar_unit; AMD-Vi: ivrs_unit; virtio: viot_unit */
};

struct iommu_caps {
	bool translation, interrupt_remapping, eim, posted, caching_mode, passthrough, coherent,
		queued_invalidation, page_2m, page_1g, scalable, snoop_control;
	/* VT-d: scalable is the mode the unit is in; its stages, and whether devices may keep translations. */
	bool first_stage, second_stage, device_tlb;
	bool canonical;                  /* addresses have a sign: tables reach half as far up from 0 */
	bool no_write_only;              /* what can be written can be read */
	unsigned pasid_bits;             /* of requests with a PASID; 0: there are none */
	bool ir_by_source;               /* each source has a table: no compatibility format, nobody else's entry */
	uint64_t page_sizes;             /* of leaves, ORed, those between 4 KiB, 2 MiB and 1 GiB too */
	unsigned levels;                 /* bit n: n-level tables (1 to 6) */
	unsigned iova_bits, domains_log2, fault_records;
	unsigned ir_entries;             /* an index from here on is out of range */
	/* VT-d: CAP, ECAP; AMD-Vi: extended features, capability header; virtio: features, page_size_mask */
	uint64_t raw[2];
	char text[160];                  /* for # env: "VT-d 1.0 at fed90000 CAP=… ECAP=… …" */
};

struct iommu;
struct iommu_domain {
	struct iommu *iommu;
	uint16_t id;
	bool passthrough;
	unsigned stage;                  /* of tables: 1, 2; 0 before domain_init(): the unit's choice */
	unsigned levels, attached;
	void *priv;                      /* the unit's page tables */
	uint64_t table_pages;            /* for leak checks */
};
struct sync_range { iova_t iova; size_t size; bool leaf_only; }; /* NULL: the whole domain */

/* Addresses of a device that are not the tables' to translate. messages: what it writes there is an interrupt. */
struct iommu_region { uint64_t first, last; bool messages; };

struct iommu_leaf { gpa_t pa; uint64_t size; uint32_t prot; }; /* pa: of the address that was asked for */

struct iommu_ops {
	const char *name;
	int (*probe)(struct iommu *, const struct iommu_desc *);
	/* Translation. Devices without a domain are blocked once it is on. */
	int (*enable)(struct iommu *);
	void (*disable)(struct iommu *);
	/*
	 * Off by a reset of the unit alone, as a new driver would find it: nobody is detached before. enable()
	 * brings back what is attached. NULL: the unit has no reset of its own.
	 */
	int (*reset)(struct iommu *);
	int (*domain_init)(struct iommu_domain *, bool passthrough); /* -EOPNOTSUPP */
	void (*domain_fini)(struct iommu_domain *);
	/* rid is a requester ID. attach and detach include the invalidations they need. */
	int (*attach)(struct iommu_domain *, pci_rid_t);
	int (*detach)(struct iommu_domain *, pci_rid_t);
	/*
	 * Page aligned. size any multiple of a page; the largest leaves allowed by page_max (0: any) are
	 * used, of the sizes between 4 KiB, 2 MiB and 1 GiB only where page_max is such a one. -EPERM: the unit
	 * has reserved some of it (reserved()).
	 */
	int (*map)(struct iommu_domain *, iova_t, gpa_t, size_t, uint32_t prot, size_t page_max);
	int (*unmap)(struct iommu_domain *, iova_t, size_t);
	/* What the tables in memory say, as the unit would read them. -ENOENT, -ERANGE. */
	int (*lookup)(const struct iommu_domain *, iova_t, struct iommu_leaf *);
	/* Whether the unit has used the leaf, and written through it. NULL or -EOPNOTSUPP: it does not tell. */
	int (*used)(const struct iommu_domain *, iova_t, bool *accessed, bool *dirty);
	/* The nth region that the unit itself reserves for a function. -ENOENT: no more. NULL: it has no way to say. */
	int (*reserved)(struct iommu *, pci_rid_t, unsigned nth, struct iommu_region *);
	int (*sync)(struct iommu_domain *, const struct sync_range *, struct deadline);
	int (*sync_all)(struct iommu *, struct deadline); /* every domain's translations */
	/* Interrupts. ir_enable with eim only where caps.eim. */
	int (*ir_enable)(struct iommu *, bool eim);
	void (*ir_disable)(struct iommu *);
	/*
	 * Allocates n entries in a row for rid (a power of two; the first a multiple of it), fills each by its
	 * route and composes the message that reaches them: its sender puts the message's number into the data's
	 * low bits. The first's index or -errno.
	 */
	int (*irq_map)(struct iommu *, pci_rid_t, const struct irq_route *, unsigned n, struct msi_msg *);
	int (*irq_update)(struct iommu *, int index, pci_rid_t, const struct irq_route *); /* and invalidates */
	/* The same entry rewritten, for the same function, and nothing invalidated: to see what the unit keeps. */
	int (*irq_write)(struct iommu *, int index, pci_rid_t, const struct irq_route *);
	int (*irq_sync)(struct iommu *);                                     /* invalidates every entry */
	/* The entry with the k-th of its reserved fields set, and invalidates; irq_update() mends it. -ERANGE: so many. */
	int (*irq_reserved)(struct iommu *, int index, unsigned k);
	int (*irq_unmap)(struct iommu *, int index);                         /* not present, and invalidates */
	/* The message that names entry index, allocated or not. -ERANGE: no message can. */
	int (*irq_message)(struct iommu *, int index, struct msi_msg *);
	/* The same for an I/O APIC pin: its redirection entry; route as given to irq_map(). */
	uint64_t (*irq_rte)(struct iommu *, int index, const struct irq_route *, bool mask);
	int (*fault_pop)(struct iommu *, struct iommu_fault *);              /* -EAGAIN: none */
	void (*fault_clear)(struct iommu *);                                 /* and the next one interrupts again */
	/* The unit's own interrupt, for faults and errors of its queue: to that route; NULL: off. -EOPNOTSUPP: *why */
	int (*fault_irq)(struct iommu *, const struct irq_route *, const char **why);
	/*
	 * Queues n waits (at most IOMMU_QUEUE_WAITS) and does not wait for them: the k-th stores first + k in
	 * the k-th quadword at words, its low half at least. -EOPNOTSUPP: there is no queue.
	 */
	int (*queue_waits)(struct iommu *, gpa_t words, unsigned n, uint32_t first);
	/* A command of a kind that there is not. -EIO: refused, and the queue works again; 0: it was taken. */
	int (*queue_bad)(struct iommu *);
	/*
	 * Invalidations by queue, as it is where there is one, or by register. Only while neither translating
	 * nor remapping. -EOPNOTSUPP: not by register.
	 */
	int (*queue_use)(struct iommu *, bool);
	/*
	 * Makes the entries of a requester that is attached wrong in the n-th way, and invalidates what was
	 * cached: its requests are then to be blocked for that reason. Detach and attach mend it. In words; NULL:
	 * there is no n-th way.
	 */
	const char *(*spoil)(struct iommu *, pci_rid_t, unsigned n, enum iommu_reason *);
	/* The same of the paging entries that lead to a mapped address; done again, it is mended. */
	const char *(*spoil_page)(struct iommu_domain *, iova_t, unsigned n, enum iommu_reason *);
	void (*dump)(struct iommu *);                                        /* registers as # note lines */
};

#define IOMMU_QUEUE_WAITS 200
#define IOMMU_MAX 16
struct iommu {
	const struct iommu_ops *ops;
	struct iommu_desc desc;
	struct iommu_caps caps;
	bool translating, remapping, remapping_eim;
	unsigned unrecorded;             /* faults in a row that were waited for in vain */
	const char *broken;              /* it stopped answering: why; not used any more */
	bool unused;                     /* broken says why nobody asked it anything: a lack, no fault of its */
	volatile uint8_t *regs;
	void *priv;
};
extern struct iommu iommus[IOMMU_MAX];
extern unsigned iommu_count;
/*
 * From the ACPI tables; brings every unit to a known state: translation and remapping off. A virtio-iommu that
 * no VIOT names is a unit too, one that says what is missing: nothing else tells whom it serves.
 */
void iommu_init(void);
struct iommu *iommu_of(const struct pci_dev *);  /* the unit in front of a function; NULL: none */
struct iommu *iommu_of_ioapic(uint8_t ioapic_id, pci_rid_t *source); /* and the source ID it uses */
/* The function that a DMAR device scope names, by its path of bridges. False: a bridge is not there. */
struct dmar_scope;
bool dmar_scope_rid(const struct dmar_scope *, uint16_t segment, pci_rid_t *);
/* A scope of the unit's holds the function; INCLUDE_PCI_ALL aside, which takes what no other unit names. */
struct dmar_unit;
bool dmar_unit_names(const struct dmar_unit *, const struct pci_dev *);
/* The RMRR of that number is for a function that its unit sees as rid. */
struct dmar;
bool dmar_reserved_for(const struct dmar *, unsigned rmrr, pci_rid_t rid);
/* ATSR (8.5): translation requests of the function reach its unit. Integrated ones' always do. */
bool dmar_ats_allowed(const struct dmar *, const struct pci_dev *);

/* ---- conveniences over ops, shared by tests and drivers ---- */
int iommu_map(struct iommu_domain *, iova_t, gpa_t, size_t, uint32_t prot);
int iommu_unmap_sync(struct iommu_domain *, iova_t, size_t);
int iommu_fault_wait(struct iommu *, struct iommu_fault *, uint64_t ns); /* -ETIMEDOUT */
/* n free entries in a row of count, the first a multiple of n: where a bit of used is clear. Or -ENOSPC. */
int iommu_free_entries(const uint64_t *used, unsigned count, unsigned n);
