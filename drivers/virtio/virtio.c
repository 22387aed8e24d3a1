/* SPDX-License-Identifier: MIT */

#include "drivers/virtio/virtio.h"

#include "drivers/virtio/virtio_cap.h"
#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

#define RESET_DEADLINE SEC(1)

static volatile uint8_t *map(struct pci_dev *dev, const struct virtio_region *r)
{
	const struct pci_bar *bar = &dev->bar[r->bar];
	volatile uint8_t *va;

	if (!r->present || bar->io || r->offset > bar->size || r->length > bar->size - r->offset)
		return NULL;
	va = pci_bar_map(dev, r->bar);
	return va ? va + r->offset : NULL;
}

int virtio_open(struct pci_dev *dev, struct virtio *v)
{
	struct virtio_layout layout;
	uint8_t config[256];

	*v = (struct virtio){.pci = dev};
	for (unsigned off = 0; off < sizeof(config); off += 4) {
		const uint32_t w = pci_r32(dev->rid, off);

		for (unsigned i = 0; i < 4; i++)
			config[off + i] = (uint8_t)(w >> (8 * i));
	}
	if (virtio_parse_caps(config, &layout) < 0)
		return -ENODEV;
	v->common = map(dev, &layout.common);
	v->notify = map(dev, &layout.notify);
	v->isr = map(dev, &layout.isr);
	v->device = map(dev, &layout.device);
	if (!v->common || !v->notify || !v->isr)
		return -ENXIO;
	v->notify_len = layout.notify.length;
	v->notify_multiplier = layout.notify_multiplier;
	v->device_len = v->device ? layout.device.length : 0;
	return 0;
}

uint8_t virtio_status(const struct virtio *v) { return mmio_r8(v->common + VIRTIO_DEVICE_STATUS); }

uint8_t virtio_isr(const struct virtio *v) { return mmio_r8(v->isr); }

static void add_status(struct virtio *v, uint8_t bits)
{
	mmio_w8(v->common + VIRTIO_DEVICE_STATUS, virtio_status(v) | bits);
}

int virtio_reset(struct virtio *v)
{
	mmio_w8(v->common + VIRTIO_DEVICE_STATUS, 0);
	return WAIT_FOR(virtio_status(v) == 0, RESET_DEADLINE) ? 0 : -ETIMEDOUT;
}

int virtio_negotiate(struct virtio *v, uint64_t want)
{
	add_status(v, VIRTIO_STATUS_ACKNOWLEDGE);
	add_status(v, VIRTIO_STATUS_DRIVER);
	v->offered = 0;
	for (unsigned i = 0; i < 2; i++) {
		mmio_w32(v->common + VIRTIO_DEVICE_FEATURE_SELECT, i);
		v->offered |= (uint64_t)mmio_r32(v->common + VIRTIO_DEVICE_FEATURE) << (32 * i);
	}
	v->features = v->offered & (want | VIRTIO_F_VERSION_1);
	if (!(v->features & VIRTIO_F_VERSION_1))
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < 2; i++) {
		mmio_w32(v->common + VIRTIO_DRIVER_FEATURE_SELECT, i);
		mmio_w32(v->common + VIRTIO_DRIVER_FEATURE, (uint32_t)(v->features >> (32 * i)));
	}
	add_status(v, VIRTIO_STATUS_FEATURES_OK);
	if (!(virtio_status(v) & VIRTIO_STATUS_FEATURES_OK))
		return -EOPNOTSUPP;
	mmio_w16(v->common + VIRTIO_CONFIG_MSIX_VECTOR, VIRTIO_MSI_NO_VECTOR);
	return 0;
}

uint16_t virtio_queue_max(struct virtio *v, uint16_t index)
{
	if (index >= mmio_r16(v->common + VIRTIO_NUM_QUEUES))
		return 0;
	mmio_w16(v->common + VIRTIO_QUEUE_SELECT, index);
	return mmio_r16(v->common + VIRTIO_QUEUE_SIZE);
}

/* 64-bit fields are written as two halves (4.1.3.1). */
static void write_address(struct virtio *v, unsigned reg, uint64_t addr)
{
	mmio_w32(v->common + reg, (uint32_t)addr);
	mmio_w32(v->common + reg + 4, (uint32_t)(addr >> 32));
}

int virtio_queue_enable(struct virtio *v, uint16_t index, const struct virtqueue *q, uint16_t vector,
			volatile uint16_t **bell)
{
	uint64_t off;

	mmio_w16(v->common + VIRTIO_QUEUE_SELECT, index);
	off = (uint64_t)mmio_r16(v->common + VIRTIO_QUEUE_NOTIFY_OFF) * v->notify_multiplier;
	if (off + 2 > v->notify_len || off & 1)
		return -ENXIO;
	*bell = (volatile uint16_t *)(volatile void *)(v->notify + off);
	mmio_w16(v->common + VIRTIO_QUEUE_SIZE, q->size);
	mmio_w16(v->common + VIRTIO_QUEUE_MSIX_VECTOR, vector);
	/* NO_VECTOR read back: the device could not take the vector (4.1.5.1.2). */
	if (mmio_r16(v->common + VIRTIO_QUEUE_MSIX_VECTOR) != vector)
		return -EIO;
	write_address(v, VIRTIO_QUEUE_DESC, q->desc_addr);
	write_address(v, VIRTIO_QUEUE_DRIVER, q->avail_addr);
	write_address(v, VIRTIO_QUEUE_DEVICE, q->used_addr);
	mmio_w16(v->common + VIRTIO_QUEUE_ENABLE, 1);
	return 0;
}

void virtio_driver_ok(struct virtio *v) { add_status(v, VIRTIO_STATUS_DRIVER_OK); }
