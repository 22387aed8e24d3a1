/* SPDX-License-Identifier: MIT */

#include "drivers/virtio/virtio_cap.h"

#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/err.h"

#define STATUS        0x06
#define STATUS_CAPS   0x10
#define CAP_POINTER   0x34
#define CAP_FIRST     0x40
#define CAP_ID_VENDOR 0x09
#define CAPS_MAX      48                  /* 192 bytes of capabilities of at least 4 bytes */

static struct virtio_region *region_of(struct virtio_layout *l, uint8_t type)
{
	switch (type) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		return &l->common;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		return &l->notify;
	case VIRTIO_PCI_CAP_ISR_CFG:
		return &l->isr;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		return &l->device;
	default:
		return NULL;
	}
}

static void take(struct virtio_layout *l, const uint8_t *config, unsigned at)
{
	const uint8_t type = config[at + VIRTIO_CAP_CFG_TYPE];
	const unsigned need = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? VIRTIO_CAP_NOTIFY_SIZE : VIRTIO_CAP_SIZE;
	struct virtio_region *r = region_of(l, type);
	struct virtio_region found;

	if (!r || r->present || config[at + VIRTIO_CAP_LEN] < need || at + need > 256)
		return;
	found = (struct virtio_region){
		.present = true,
		.bar = config[at + VIRTIO_CAP_BAR],
		.offset = get_le32(config + at + VIRTIO_CAP_OFFSET),
		.length = get_le32(config + at + VIRTIO_CAP_LENGTH),
	};
	/* Values above 5 are reserved: such a capability is to be ignored (4.1.4). */
	if (found.bar > 5 || !found.length || found.offset + found.length < found.offset)
		return;
	*r = found;
	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
		l->notify_multiplier = get_le32(config + at + VIRTIO_CAP_NOTIFY_MULT);
}

int virtio_parse_caps(const uint8_t config[256], struct virtio_layout *l)
{
	unsigned at = config[CAP_POINTER] & 0xfcu;

	*l = (struct virtio_layout){.notify_multiplier = 0};
	if (!(config[STATUS] & STATUS_CAPS))
		return -ENOENT;
	for (unsigned n = 0; n < CAPS_MAX && at >= CAP_FIRST; n++) {
		if (config[at] == CAP_ID_VENDOR && at + VIRTIO_CAP_SIZE <= 256)
			take(l, config, at);
		at = config[at + 1] & 0xfcu;
	}
	return l->common.present && l->notify.present && l->isr.present &&
		       l->common.length >= VIRTIO_COMMON_SIZE ?
	       0 : -ENOENT;
}
