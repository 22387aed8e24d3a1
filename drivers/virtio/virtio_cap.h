/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Where a modern virtio PCI device keeps its structures. Pure: bytes of configuration space in. */
struct virtio_region { bool present; uint8_t bar; uint32_t offset, length; };
struct virtio_layout {
	struct virtio_region common, notify, isr, device;
	uint32_t notify_multiplier;
};
/*
 * Walks the capabilities of a function (VIRTIO 1.2, 4.1.4), in at most 48 steps, and takes the first of
 * each kind that lies in a BAR. -ENOENT: common, notify or ISR structure missing (a legacy device).
 */
int virtio_parse_caps(const uint8_t config[256], struct virtio_layout *);
