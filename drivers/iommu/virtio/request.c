/* SPDX-License-Identifier: MIT */

/* The request queue: VIRTIO 1.2, 5.13.6. */

#include "drivers/iommu/virtio/unit.h"

#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

#define UNANSWERED 0xff
#define LOOK_NS    MS(2)               /* from then on the device status is looked at too */

static const char lost_text[] = "a request is never answered";
static const char reset_text[] = "it asks to be reset (DEVICE_NEEDS_RESET)";
static const char ring_text[] = "its used ring names a request that there is not";

_Static_assert(3 * VIOMMU_REQUESTS <= VIRTQUEUE_MAX, "requests of three parts do not fit the ring");
_Static_assert(VIOMMU_REQUESTS == 32, "free is 32 bits");

void viommu_requests_reset(struct viommu *v)
{
	v->free = ~0u;
	v->under_way = 0;
	v->error = 0;
}

static uint64_t pa_of(const struct viommu *v, const void *p)
{
	return v->mem.pa.v + (uint64_t)((const uint8_t *)p - (const uint8_t *)v->mem.va);
}

static int error_of(uint8_t status)
{
	switch (status) {
	case VIRTIO_IOMMU_S_OK:
		return 0;
	case VIRTIO_IOMMU_S_UNSUPP:
		return -EOPNOTSUPP;
	case VIRTIO_IOMMU_S_INVAL:
		return -EINVAL;
	case VIRTIO_IOMMU_S_RANGE:
		return -ERANGE;
	case VIRTIO_IOMMU_S_NOENT:
		return -ENOENT;
	case VIRTIO_IOMMU_S_FAULT:
		return -EFAULT;
	case VIRTIO_IOMMU_S_NOMEM:
		return -ENOMEM;
	default: /* IOERR, DEVERR; and what it did not write at all */
		return -EIO;
	}
}

/* All that have been answered. -EIO: the ring is damaged. */
static int reap(struct viommu *v)
{
	uint32_t slot;
	int r;

	while ((r = virtqueue_take(&v->requests, &slot, NULL)) == 0) {
		const int e = error_of(*(volatile uint8_t *)v->shared->slot[slot].tail);

		v->free |= BIT(slot);
		v->under_way--;
		if (v->error == 0)
			v->error = e;
	}
	return r == -EAGAIN ? 0 : r;
}

static void kick(struct viommu *v)
{
	if (virtqueue_wants_kick(&v->requests) && !SABOTAGE(viommu_no_kick))
		mmio_w16(v->bell[VIRTIO_IOMMU_REQUESTQ], VIRTIO_IOMMU_REQUESTQ);
}

/* Until no more than that many are under way. */
static int drain(struct viommu *v, unsigned left, struct deadline end)
{
	int r = 0;

	if (v->under_way <= left)
		return 0;
	kick(v);
	for (;;) {
		if (WAIT_UNTIL((r = reap(v)) < 0 || v->under_way <= left, deadline_min(end, deadline_in(LOOK_NS))))
			return r < 0 ? viommu_fail(v, ring_text) : 0;
		if (virtio_status(&v->virtio) & VIRTIO_STATUS_NEEDS_RESET)
			return viommu_fail(v, reset_text);
		if (deadline_passed(end))
			return viommu_fail(v, lost_text);
	}
}

static int post(struct viommu *v, const void *request, size_t n, uint32_t properties)
{
	struct viommu_slot *slot;
	struct virtq_seg seg[3];
	unsigned i, in = 0;
	int r;

	if (!v->running || v->iommu->broken)
		return -EIO;
	r = drain(v, VIOMMU_REQUESTS - 1, deadline_in(VIOMMU_WAIT_NS));
	if (r < 0)
		return r;
	i = (unsigned)__builtin_ctz(v->free);
	slot = &v->shared->slot[i];
	memcpy(slot->out, request, n);
	if (SABOTAGE(viommu_short_request) && v->iommu->translating)
		n = 2;
	slot->tail[0] = UNANSWERED;
	seg[0] = (struct virtq_seg){pa_of(v, slot->out), (uint32_t)n};
	if (properties)
		seg[1 + in++] = (struct virtq_seg){pa_of(v, v->shared->properties), properties};
	seg[1 + in++] = (struct virtq_seg){pa_of(v, slot->tail), VIRTIO_IOMMU_TAIL};
	r = virtqueue_add(&v->requests, seg, 1, in, i);
	if (r < 0)
		return r;
	v->free &= ~BIT(i);
	v->under_way++;
	return 0;
}

int viommu_post(struct viommu *v, const void *request, size_t n)
{
	return post(v, request, n, 0);
}

int viommu_flush(struct viommu *v, struct deadline dl)
{
	int r = v->iommu->broken ? -EIO : drain(v, 0, dl);

	if (r == 0)
		r = v->error;
	v->error = 0;
	return r;
}

static int request(struct viommu *v, const void *p, size_t n, uint32_t properties)
{
	int r = viommu_flush(v, deadline_in(VIOMMU_WAIT_NS));

	if (r == 0)
		r = post(v, p, n, properties);
	return r < 0 ? r : viommu_flush(v, deadline_in(VIOMMU_WAIT_NS));
}

int viommu_request(struct viommu *v, const void *p, size_t n)
{
	return request(v, p, n, 0);
}

int viommu_request_probe(struct viommu *v, const void *p, size_t n)
{
	memset(v->shared->properties, 0, v->probe_size);
	return request(v, p, n, v->probe_size);
}

/*
 * There is no command that writes a word: each of n requests, an UNMAP in a domain that there is not,
 * has its word written here when it is answered. Answers may come in any order (5.13.6 says nothing, and
 * VIRTIO_F_IN_ORDER is not asked for), so that all of them are waited for first.
 */
int viommu_queue_waits(struct iommu *iommu, gpa_t words, unsigned n, uint32_t first)
{
	const uint8_t unmap[28] = {VIRTIO_IOMMU_T_UNMAP, 0, 0, 0, 0xff, 0xff, 0, 0};
	struct viommu *v = viommu_of(iommu);
	volatile uint64_t *word = phys_to_virt(words);
	int r = viommu_flush(v, deadline_in(VIOMMU_WAIT_NS));

	for (unsigned k = 0; k < n && r == 0; k++) {
		if (v->under_way == VIOMMU_REQUESTS)
			r = drain(v, 0, deadline_in(VIOMMU_WAIT_NS));
		if (r == 0)
			r = post(v, unmap, sizeof(unmap), 0);
	}
	if (r == 0)
		r = viommu_flush(v, deadline_in(VIOMMU_WAIT_NS));
	if (r != -ENOENT)
		return r < 0 ? r : -EIO;
	for (unsigned k = 0; k < n; k++)
		word[k] = first + k;
	return 0;
}

/* 5.13.6: a type that is not known is UNSUPP, or an answer in which nothing was written. */
int viommu_queue_bad(struct iommu *iommu)
{
	const uint8_t bad[16] = {0x7f};
	const int r = viommu_request(viommu_of(iommu), bad, sizeof(bad));

	return r == -EOPNOTSUPP ? -EIO : r;
}
