/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/pgtable/pgtable.h"
#include "drivers/iommu/virtio/decode.h"
#include "drivers/iommu/virtio/regs.h"
#include "drivers/iommu/virtio/viommu.h"
#include "drivers/virtio/virtio.h"
#include "kernel/mm/mm.h"

/*
 * One virtio-iommu; private to drivers/iommu/virtio.
 *
 * The unit keeps the mappings itself, and forgets them with the last endpoint of a domain and at every
 * reset. So a domain's are kept here as well, in tables that no hardware reads, and told anew whenever
 * there is somebody to tell. Every leaf of these tables is one mapping of the unit's: it can be unmapped
 * by itself.
 *
 * Translation is on while the device is: to switch off is to reset it with bypass set, which stays.
 */

/* The specification bounds no answer; a unit that needs this long has stopped answering. */
#define VIOMMU_WAIT_NS  SEC(2)

#define VIOMMU_DEVICES  64             /* attached at once */
#define VIOMMU_DOMAINS  256            /* at once */
#define VIOMMU_REQUESTS 32u            /* under way at once */
#define VIOMMU_EVENTS   128u           /* buffers for fault reports */
#define VIOMMU_REGIONS  4u             /* of an endpoint */
#define VIOMMU_PROBE_MAX 4096u         /* bytes of properties that we take */

/* What the device sees, in one piece. */
struct viommu_slot { uint8_t out[80], tail[16]; };
struct viommu_shared {
	uint8_t queue[2][VIRTQUEUE_BYTES];
	struct viommu_slot slot[VIOMMU_REQUESTS];
	uint8_t event[VIOMMU_EVENTS][32];
	uint8_t properties[VIOMMU_PROBE_MAX];
};

struct viommu_domain { uint32_t id; bool passthrough; struct pgt v1; };
struct viommu_device { uint32_t endpoint; struct viommu_domain *domain; }; /* domain NULL: not in use */

/* What PROBE told of a function. result: -ENOENT: the unit knows no such endpoint. */
struct viommu_endpoint { pci_rid_t rid; int result; unsigned regions; struct iommu_region region[VIOMMU_REGIONS]; };

struct ioapic;
struct viommu {
	struct iommu *iommu;
	uint32_t index;                /* among the VIOT's units */
	struct virtio virtio;
	struct dma_buf mem;
	struct viommu_shared *shared;
	struct virtqueue requests, events;
	volatile uint16_t *bell[2];
	bool running;                  /* DRIVER_OK, as far as we know */
	unsigned under_way;            /* requests posted and not answered */
	int error;                     /* the first one's of those since the last flush */
	uint32_t free;                 /* slots */
	struct { uint64_t first, last; } input;
	struct { uint32_t first, last; } domains;
	uint32_t probe_size;
	uint64_t domain_used[VIOMMU_DOMAINS / 64];
	struct viommu_device device[VIOMMU_DEVICES];
	struct viommu_endpoint *endpoint;
	unsigned endpoints;
	const char *damaged;           /* what was wrong with a property list */
	struct {                       /* of its interrupt; io NULL: off */
		struct ioapic *io;
		unsigned pin;
		int vector;
		uint64_t masked;       /* its entry */
	} line;
};

static inline struct viommu *viommu_of(const struct iommu *iommu) { return iommu->priv; }

/* viommu.c */
int viommu_fail(struct viommu *, const char *why); /* it does not answer: dump, broken. -ETIMEDOUT */
int viommu_start(struct viommu *);                 /* from reset to DRIVER_OK, with fresh queues */

/* request.c */
/* Queues a request of n bytes without its tail; waits only where there is no room. */
int viommu_post(struct viommu *, const void *request, size_t n);
/* Rings the bell, and waits until all that was queued is answered; the first error among the answers. */
int viommu_flush(struct viommu *, struct deadline);
int viommu_request(struct viommu *, const void *request, size_t n); /* both, after what was queued before */
/* The same for PROBE, whose properties are then in shared->properties. */
int viommu_request_probe(struct viommu *, const void *request, size_t n);
int viommu_queue_waits(struct iommu *, gpa_t words, unsigned n, uint32_t first);
int viommu_queue_bad(struct iommu *);
void viommu_requests_reset(struct viommu *);

/* event.c */
void viommu_events_fill(struct viommu *);
void viommu_events_interrupt(struct viommu *);     /* on or off, as fault_irq() was asked for */
int viommu_fault_pop(struct iommu *, struct iommu_fault *);
void viommu_fault_clear(struct iommu *);
int viommu_fault_irq(struct iommu *, const struct irq_route *, const char **why);
