/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A split virtqueue, the driver's side (VIRTIO 1.2, 2.7). Pure: memory in, memory out. Nothing that
 * the device writes is trusted: chains are followed in a copy of ours, indices are checked.
 */

#define VIRTQUEUE_MAX   128              /* entries */
#define VIRTQUEUE_BYTES 4096             /* of memory that the device sees, for any size up to MAX */

struct virtq_seg { uint64_t addr; uint32_t len; };

struct virtqueue {
	volatile uint8_t *desc, *avail, *used;
	uint64_t desc_addr, avail_addr, used_addr; /* for the device */
	uint16_t size, free_head, free_count, avail_idx, used_idx;
	uint16_t next[VIRTQUEUE_MAX];
	uint16_t chain[VIRTQUEUE_MAX];   /* length of the chain that begins here; 0: none in flight */
	uint32_t cookie[VIRTQUEUE_MAX];
};

/* mem: VIRTQUEUE_BYTES, aligned to 16, that the device sees at addr. size: power of two, up to MAX. */
void virtqueue_init(struct virtqueue *, void *mem, uint64_t addr, uint16_t size);
/* Makes out segments that the device reads, then in that it writes, available. -ENOSPC, -EINVAL. */
int virtqueue_add(struct virtqueue *, const struct virtq_seg *, unsigned out, unsigned in, uint32_t cookie);
/* After an add: is the device to be told, or is it looking anyway (2.7.10)? */
bool virtqueue_wants_kick(const struct virtqueue *);
/* Takes one used chain: 0 and its cookie; -EAGAIN: none; -EIO: the device names one it does not have. */
int virtqueue_take(struct virtqueue *, uint32_t *cookie, uint32_t *written);
bool virtqueue_has_used(const struct virtqueue *);
/* A hint to the device (2.7.6); off until asked for. */
void virtqueue_interrupts(struct virtqueue *, bool on);
