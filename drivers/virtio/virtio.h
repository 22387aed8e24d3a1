/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "drivers/pci/pci.h"
#include "drivers/virtio/virtqueue.h"

/* A modern (1.0 and later) virtio device over PCI (VIRTIO 1.2, 4.1). */
struct virtio {
	struct pci_dev *pci;
	volatile uint8_t *common, *notify, *isr;
	volatile uint8_t *device;        /* NULL where it has no configuration */
	uint32_t notify_len, notify_multiplier, device_len;
	uint64_t offered, features;      /* offered by the device, and agreed on */
};

/* Finds and maps its structures. -ENODEV: a legacy device. -ENXIO: they lie outside its BARs. */
int virtio_open(struct pci_dev *, struct virtio *);
/* Stops it and waits until it says so. -ETIMEDOUT. */
int virtio_reset(struct virtio *);
/*
 * From a reset device to FEATURES_OK: takes of want what is offered. -EOPNOTSUPP: VERSION_1 is not, or
 * the device does not agree.
 */
int virtio_negotiate(struct virtio *, uint64_t want);
/* The size the device has for a queue; 0: no such queue. */
uint16_t virtio_queue_max(struct virtio *, uint16_t index);
/*
 * Gives the device a queue made by virtqueue_init(), with an MSI-X entry or VIRTIO_MSI_NO_VECTOR. *bell
 * is where a kick is written. -EIO: the device refused the vector; -ENXIO: the bell is outside.
 */
int virtio_queue_enable(struct virtio *, uint16_t index, const struct virtqueue *, uint16_t vector,
			volatile uint16_t **bell);
void virtio_driver_ok(struct virtio *);
uint8_t virtio_status(const struct virtio *);
/* Without MSI-X: why it has interrupted (bit 0: a queue); reading lowers its line (4.1.4.5). */
uint8_t virtio_isr(const struct virtio *);
