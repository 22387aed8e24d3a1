/* SPDX-License-Identifier: MIT */

/* The event queue: VIRTIO 1.2, 5.13.6.9. */

#include "drivers/iommu/virtio/unit.h"

#include "kernel/acpi/acpi.h"
#include "kernel/lib/err.h"

static void offer(struct viommu *v, uint32_t i)
{
	const struct virtq_seg seg = {
		v->mem.pa.v + offsetof(struct viommu_shared, event) + i * sizeof(v->shared->event[0]),
		VIRTIO_IOMMU_FAULT_SIZE,
	};

	(void)virtqueue_add(&v->events, &seg, 0, 1, i);
}

static void kick(struct viommu *v)
{
	if (virtqueue_wants_kick(&v->events))
		mmio_w16(v->bell[VIRTIO_IOMMU_EVENTQ], VIRTIO_IOMMU_EVENTQ);
}

void viommu_events_fill(struct viommu *v)
{
	for (uint32_t i = 0; i < MIN(VIOMMU_EVENTS, v->events.size); i++)
		offer(v, i);
	kick(v);
}

/* An ID that the VIOT does not have is told as it is: it is wrong, and the test says so. */
static pci_rid_t source_of(const struct viommu *v, uint32_t endpoint)
{
	uint32_t rid = endpoint;

	(void)viot_function(&acpi.viot, v->index, endpoint, &rid);
	return (pci_rid_t){rid};
}

int viommu_fault_pop(struct iommu *iommu, struct iommu_fault *f)
{
	struct viommu *v = viommu_of(iommu);
	uint32_t i, written, endpoint;
	bool good = false;

	/* A report that must be ignored is no end of them. */
	for (unsigned n = 0; !good && n < VIOMMU_EVENTS; n++) {
		if (!v->running || iommu->broken || virtqueue_take(&v->events, &i, &written) < 0)
			return -EAGAIN;
		good = viommu_fault(v->shared->event[i], MIN(written, VIRTIO_IOMMU_FAULT_SIZE), v->input.last, f,
				    &endpoint);
		offer(v, i);
		kick(v);
	}
	if (!good)
		return -EAGAIN;
	f->rid = source_of(v, endpoint);
	return 0;
}

void viommu_fault_clear(struct iommu *iommu)
{
	struct viommu *v = viommu_of(iommu);
	uint32_t i;

	for (unsigned n = 0; n < VIOMMU_EVENTS && v->running && virtqueue_take(&v->events, &i, NULL) == 0; n++)
		offer(v, i);
	if (v->running)
		kick(v);
}

int viommu_fault_irq(struct iommu *iommu, const struct irq_route *route, const char **why)
{
	const struct viommu *v = viommu_of(iommu);

	(void)route;
	*why = v->virtio.pci->cap_msix ? "plumb does not use the MSI-X of a virtio-iommu" :
					 "the virtio-iommu has no MSI-X (QEMU gives its function INTx alone)";
	return -EOPNOTSUPP;
}
