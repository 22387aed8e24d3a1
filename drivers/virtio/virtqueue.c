/* SPDX-License-Identifier: MIT */

#include "drivers/virtio/virtqueue.h"

#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"

/* Layout in memory: 16 bytes a descriptor; avail: flags, idx, ring[size]; used: flags, idx, {id, len}[]. */
#define DESC_SIZE  16
#define AVAIL_AT   (VIRTQUEUE_MAX * DESC_SIZE)
#define USED_AT    (AVAIL_AT + 512)
_Static_assert(4 + 2 * VIRTQUEUE_MAX + 2 <= 512, "the available ring overlaps the used ring");
_Static_assert(USED_AT + 4 + 8 * VIRTQUEUE_MAX + 2 <= VIRTQUEUE_BYTES, "the used ring does not fit");

static void w16(volatile uint8_t *p, uint16_t v)
{
	*(volatile uint16_t *)(volatile void *)p = v;
}
static void w32(volatile uint8_t *p, uint32_t v)
{
	*(volatile uint32_t *)(volatile void *)p = v;
}
static void w64(volatile uint8_t *p, uint64_t v)
{
	*(volatile uint64_t *)(volatile void *)p = v;
}
static uint16_t r16(const volatile uint8_t *p)
{
	return *(const volatile uint16_t *)(const volatile void *)p;
}
static uint32_t r32(const volatile uint8_t *p)
{
	return *(const volatile uint32_t *)(const volatile void *)p;
}

void virtqueue_init(struct virtqueue *q, void *mem, uint64_t addr, uint16_t size)
{
	memset(mem, 0, VIRTQUEUE_BYTES);
	memset(q, 0, sizeof(*q));
	q->desc = mem;
	q->avail = q->desc + AVAIL_AT;
	q->used = q->desc + USED_AT;
	q->desc_addr = addr;
	q->avail_addr = addr + AVAIL_AT;
	q->used_addr = addr + USED_AT;
	q->size = size;
	q->free_count = size;
	for (uint16_t i = 0; i < size; i++)
		q->next[i] = (uint16_t)(i + 1);
	virtqueue_interrupts(q, false);
}

int virtqueue_add(struct virtqueue *q, const struct virtq_seg *seg, unsigned out, unsigned in,
		  uint32_t cookie)
{
	const unsigned n = out + in;
	const uint16_t head = q->free_head;
	uint16_t id = head;

	if (n == 0 || n > q->size)
		return -EINVAL;
	if (n > q->free_count)
		return -ENOSPC;
	for (unsigned i = 0; i < n; i++) {
		volatile uint8_t *d = q->desc + (size_t)id * DESC_SIZE;
		const bool last = i + 1 == n;

		w64(d, seg[i].addr);
		w32(d + 8, seg[i].len);
		w16(d + 12, (uint16_t)((i >= out ? VIRTQ_DESC_F_WRITE : 0) | (last ? 0 : VIRTQ_DESC_F_NEXT)));
		w16(d + 14, last ? 0 : q->next[id]);
		id = q->next[id];
	}
	q->free_head = id;
	q->free_count = (uint16_t)(q->free_count - n);
	q->chain[head] = (uint16_t)n;
	q->cookie[head] = cookie;

	w16(q->avail + 4 + 2 * (size_t)(q->avail_idx % q->size), head);
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the entry before the index that shows it */
	w16(q->avail + 2, ++q->avail_idx);
	return 0;
}

bool virtqueue_wants_kick(const struct virtqueue *q)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index out before the flag is looked at */
	return !(r16(q->used) & VIRTQ_USED_F_NO_NOTIFY);
}

bool virtqueue_has_used(const struct virtqueue *q) { return r16(q->used + 2) != q->used_idx; }

int virtqueue_take(struct virtqueue *q, uint32_t *cookie, uint32_t *written)
{
	const volatile uint8_t *e;
	uint32_t id;
	uint16_t tail;

	if (!virtqueue_has_used(q))
		return -EAGAIN;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	e = q->used + 4 + 8 * (size_t)(q->used_idx % q->size);
	id = r32(e);
	if (written)
		*written = r32(e + 4);
	q->used_idx++;
	if (id >= q->size || !q->chain[id])
		return -EIO;
	tail = (uint16_t)id;
	for (uint16_t n = q->chain[id]; n > 1; n--)
		tail = q->next[tail];
	q->next[tail] = q->free_head;
	q->free_head = (uint16_t)id;
	q->free_count = (uint16_t)(q->free_count + q->chain[id]);
	q->chain[id] = 0;
	*cookie = q->cookie[id];
	return 0;
}

void virtqueue_interrupts(struct virtqueue *q, bool on)
{
	w16(q->avail, on ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
