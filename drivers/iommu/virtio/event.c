/* SPDX-License-Identifier: MIT */

/* The event queue: VIRTIO 1.2, 5.13.6.9. */

#include "drivers/iommu/virtio/unit.h"

#include "drivers/apic/apic.h"
#include "kernel/acpi/acpi.h"
#include "kernel/irq/irq.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"

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

/* ---- its interrupt: INTx, a level until the ISR status is read (4.1.4.5) ---- */

static void serve(int vector, void *arg)
{
	const struct viommu *v = arg;

	(void)vector;
	(void)virtio_isr(&v->virtio);
}

/* After a start too, which begins with everything off. */
void viommu_events_interrupt(struct viommu *v)
{
	const bool on = v->line.io != NULL;

	if (v->running && v->events.avail)
		virtqueue_interrupts(&v->events, on);
	/* What it has signalled before nobody waits for. */
	(void)virtio_isr(&v->virtio);
	pci_set_command(v->virtio.pci, on ? 0 : PCI_COMMAND_INTX_OFF, on ? PCI_COMMAND_INTX_OFF : 0);
}

static void line_off(struct viommu *v)
{
	if (!v->line.io)
		return;
	ioapic_rte_write(v->line.io, v->line.pin, v->line.masked);
	v->line.io = NULL;
	viommu_events_interrupt(v);
	irq_set_handler(v->line.vector, NULL, NULL);
}

/* By the pin that the firmware's tables name. */
int viommu_fault_irq(struct iommu *iommu, const struct irq_route *route, const char **why)
{
	struct viommu *v = viommu_of(iommu);
	struct pci_dev *dev = v->virtio.pci;
	struct irq_route r;
	struct pci_intx intx;
	struct ioapic *io;
	uint64_t rte;
	int err;

	line_off(v);
	*why = "plumb does not use the MSI-X of a virtio-iommu";
	if (dev->cap_msix)
		return -EOPNOTSUPP;
	err = pci_intx_route(dev, &intx);
	*why = intx.how;
	io = err < 0 ? NULL : ioapic_of_gsi(intx.gsi, &v->line.pin);
	if (err == 0)
		*why = "no I/O APIC has the pin that the tables name for the virtio-iommu's INTx";
	if (!io)
		return -EOPNOTSUPP;
	if (!route)
		return 0;
	r = *route;
	r.level = !intx.edge;
	r.active_low = intx.active_low;
	err = msg_ioapic_compat(&r, true, &v->line.masked, why);
	if (err == 0)
		err = msg_ioapic_compat(&r, false, &rte, why);
	if (err < 0)
		return err;
	v->line.io = io;
	v->line.vector = r.vector;
	irq_set_handler(r.vector, serve, v);
	viommu_events_interrupt(v);
	if (!SABOTAGE(viommu_pin_masked))
		ioapic_rte_write(io, v->line.pin, rte);
	return 0;
}
