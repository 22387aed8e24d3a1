/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drivers/pci/pci.h"
#include "kernel/lib/addr.h"
#include "kernel/mm/mm.h"

/* A device that can be told to interrupt or to do DMA. Tests speak only to this. */

enum exerciser_caps {
	EX_IRQ = 1 << 0,         /* can be told to interrupt, and says whether it signalled */
	EX_MSI = 1 << 1,
	EX_MSIX = 1 << 2,
	EX_IRQ_COUNTED = 1 << 3, /* each raise is one message, none coalesced, once acknowledged */
	EX_DMA_READ = 1 << 4,    /* device reads memory */
	EX_DMA_WRITE = 1 << 5,   /* device writes memory */
	EX_DMA_ANY_LEN = 1 << 6, /* byte-granular address and length */
	EX_DMA_TIMED = 1 << 7,   /* fast enough that its time means something */
	EX_DMA_DEPTH = 1 << 8,   /* several requests in flight */
	EX_DMA_COPY = 1 << 9,    /* what it reads can be written back: data survives a round trip */
	EX_INTX = 1 << 10,
};

enum dma_dir { DMA_READ, DMA_WRITE }; /* seen from memory: READ: the device reads it */

/*
 * One transfer between memory at addr (what the device puts on the bus) and the device's medium.
 * A device with EX_DMA_COPY keeps what it read at dev_off and writes the same bytes back from there;
 * one without writes bytes it makes up (ex->fill says which).
 */
struct dma_req {
	enum dma_dir dir;
	iova_t addr;             /* multiple of ex->dma_addr_align, within ex->dma_mask */
	size_t len;              /* bytes, within ex->dma_min .. dma_max, multiple of dma_align */
	uint64_t dev_off;        /* place in the device's medium, multiple of dma_align */
	uint32_t tag;            /* comes back in dma_status */
};
struct dma_status { uint32_t tag; int error; /* 0, -EIO: the device says that it failed */ };

/*
 * After exercisers_init() every device is quiesced. exerciser_start() makes it ready, and so does the
 * first irq_raise() or dma_start() after a quiesce; it turns Bus Master on and leaves MSI and MSI-X as
 * they stand. A ready device's command register is its user's: nothing turns Bus Master on again.
 */
struct exerciser;
struct exerciser_ops {
	const char *name;
	const struct pci_match *match;   /* ends with vendor 0 */
	uint32_t caps;
	size_t priv_size;                        /* of ex->priv, which open() finds zeroed */
	int (*open)(struct exerciser *);         /* -ENODEV after all, -ENOMEM, -EIO, -ETIMEDOUT */
	void (*quiesce)(struct exerciser *);     /* safe in any state: no interrupt, no DMA after it */
	/*
	 * A failed DMA (a blocked one) may leave the device in error: recover() brings it back to where
	 * open() left it; if it cannot, the device is quiesced. Everything the device itself fetches by DMA (rings, queues) is listed in
	 * own[], so that a caller that translates can map it; addr of a ring is its GPA.
	 */
	int (*recover)(struct exerciser *);
	int (*irq_raise)(struct exerciser *, unsigned index);   /* index: MSI-X entry, or 0 */
	/*
	 * Takes the signal back, so that the next raise is a new message; where the device got stuck
	 * over the raise (Bus Master was off), it is recovered. -ETIMEDOUT: it does not answer.
	 */
	int (*irq_ack)(struct exerciser *, unsigned index);
	/* Did the device itself signal? 1, 0; -EOPNOTSUPP: it has nothing that would tell. */
	int (*irq_pending)(struct exerciser *, unsigned index);
	/*
	 * Of a physical function whose virtual ones have nothing of their own: frees what they may have, before they are
	 * switched on; then gives one its share. They live as long as it is not quiesced. NULL: nothing to do.
	 */
	int (*vfs_free)(struct exerciser *);
	int (*vf_give)(struct exerciser *, unsigned vf);
	int (*dma_start)(struct exerciser *, const struct dma_req *); /* -EAGAIN: queue full, -EINVAL */
	int (*dma_poll)(struct exerciser *, struct dma_status *);     /* -EAGAIN: nothing done yet */
	/* May be missing. Is a register that never changes what it is? Asked in any state. */
	bool (*answers)(struct exerciser *);
};

#define EXERCISER_MAX     24
#define EXERCISER_OWN_MAX 16
struct exerciser {
	const struct exerciser_ops *ops;
	struct pci_dev *dev;
	pci_rid_t rid;                   /* requester ID (bridge alias counted in) */
	uint32_t caps;                   /* ops->caps less what this one lacks */
	unsigned irq_count;              /* messages or entries it can raise */
	unsigned irq_counts[2];          /* the same by MSI and by MSI-X, where either can be chosen */
	size_t dma_min, dma_max, dma_align; /* of len and dev_off */
	size_t dma_frames;              /* that a transfer's pages may lie in, apart from each other; 0: any number */
	size_t dma_addr_align;
	uint64_t dma_mask;               /* the address bits it drives; beyond them edu wraps silently */
	unsigned dma_ms;                 /* a transfer takes at least so long: use it sparingly */
	int fill;                        /* the byte it writes without EX_DMA_COPY; -1: not known */
	uint32_t fill_word;              /* not 0: these four, the lowest first, over and over; fill is that one */
	bool bypasses_iommu;             /* virtio without ACCESS_PLATFORM: its DMA is never translated */
	bool irq_needs_dma;              /* raising fetches a command by DMA: not without Bus Master */
	bool bars_private;               /* only its driver may read its BARs: it has effects, or is slow */
	bool irq_by_host;                /* vfio: the host sends its message, whatever Bus Master says */
	bool ready;                      /* started and not quiesced since */
	unsigned start_failures;         /* in a row */
	const char *note;                /* why a cap is missing, for # note lines; or NULL */
	unsigned dma_depth;              /* requests in flight */
	uint64_t medium_size;            /* bytes of dev_off space */
	struct { gpa_t pa; size_t size; } own[EXERCISER_OWN_MAX]; /* its rings, device-visible */
	unsigned own_count;
	struct dma_buf mem;              /* own[0], where exerciser_own() made it */
	bool irq_is_msix;
	struct msi msi;
	struct msix msix;
	void *priv;
	const char *broken;              /* why it is not used any more, or NULL */
	bool failed;                     /* … because it did not do what it must: a fault, not a lack */
};
/* The byte that it writes without EX_DMA_COPY at a place of a transfer; ex->fill must be known. */
static inline uint8_t exerciser_byte(const struct exerciser *ex, size_t at)
{
	return (uint8_t)(ex->fill_word ? ex->fill_word >> 8 * (at % 4) : (uint32_t)ex->fill);
}
extern struct exerciser exercisers[EXERCISER_MAX];
extern unsigned exerciser_count;
void exercisers_init(void);              /* matches, opens, quiesces every known device */
/*
 * Switches on so many virtual functions of a device, and opens those that are known; off: closes them first. How many
 * there are, or -errno as pci_sriov_enable() and vfs_free().
 */
int exercisers_vfs_on(struct pci_dev *, unsigned vfs, const char **why);
void exercisers_vfs_off(struct pci_dev *);
/* Makes it ready; nothing where it is. -ENODEV when broken, else as recover(). */
int exerciser_start(struct exerciser *);
/*
 * Quiets it and has it use MSI-X, or MSI, from its next start on. -EOPNOTSUPP: it has only one, or its
 * driver knows only one.
 */
int exerciser_use_msix(struct exerciser *, bool msix);
/* Configuration space, and where its driver knows how its registers: does the device still answer? */
bool exerciser_answers(struct exerciser *);
/*
 * Synchronous transfer with a deadline: 0, -EIO as the device told, -ETIMEDOUT (it was then reset, so
 * that nothing moves later). Only with no other transfer under way.
 */
int exerciser_dma(struct exerciser *, const struct dma_req *, uint64_t ns);
extern const struct exerciser_ops edu_ops, ivshmem_ops, nvme_ops, virtio_blk_ops;
extern const struct exerciser_ops iommu_testdev_ops, doorbell_ops;
extern const struct exerciser_ops nvidia_ops, mtty_ops, igb_ops, igbvf_ops, e1000e_ops, virtio_ops, xhci_ops;
