/* SPDX-License-Identifier: MIT */
// link: drivers/virtio/virtqueue.c
#include "drivers/virtio/virtqueue.h"

#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/random.h"
#include "tests/host/host.h"

#define AT 0x123456000ull                /* the address that the device knows the memory by */

static _Alignas(4096) uint8_t mem[VIRTQUEUE_BYTES + 64];
static struct virtqueue q;

/* ---- the device's side ---- */
static uint16_t size, avail_seen;
static uint16_t get16(uint64_t addr) { return (uint16_t)(mem[addr - AT] | mem[addr - AT + 1] << 8); }
static uint32_t get32(uint64_t addr) { return get16(addr) | (uint32_t)get16(addr + 2) << 16; }
static uint64_t get64(uint64_t addr) { return get32(addr) | (uint64_t)get32(addr + 4) << 32; }
static void put16(uint64_t addr, uint16_t v) { memcpy(mem + (addr - AT), &v, 2); }
static void put32(uint64_t addr, uint32_t v) { memcpy(mem + (addr - AT), &v, 4); }

static bool dev_next(uint16_t *head)
{
	if (get16(q.avail_addr + 2) == avail_seen)
		return false;
	*head = get16(q.avail_addr + 4 + 2u * (avail_seen++ % size));
	return true;
}

static void dev_use(uint32_t id, uint32_t len)
{
	const uint16_t idx = get16(q.used_addr + 2);

	put32(q.used_addr + 4 + 8u * (idx % size), id);
	put32(q.used_addr + 4 + 8u * (idx % size) + 4, len);
	put16(q.used_addr + 2, (uint16_t)(idx + 1));
}

static void fresh(uint16_t n)
{
	memset(mem, 0xcc, sizeof(mem));
	size = n;
	avail_seen = 0;
	virtqueue_init(&q, mem, AT, n);
}

static void test_layout(void)
{
	fresh(VIRTQUEUE_MAX);
	/* VIRTIO 1.2, 2.7: alignments 16, 2 and 4; and nothing runs over the next or the end. */
	CHECK(q.desc_addr % 16 == 0 && q.avail_addr % 2 == 0 && q.used_addr % 4 == 0);
	CHECK(q.desc_addr + 16u * size <= q.avail_addr);
	CHECK(q.avail_addr + 6 + 2u * size <= q.used_addr);
	CHECK(q.used_addr + 6 + 8u * size <= AT + VIRTQUEUE_BYTES);
	CHECK_EQ(mem[VIRTQUEUE_BYTES], 0xcc);
	CHECK_EQ(get16(q.avail_addr), VIRTQ_AVAIL_F_NO_INTERRUPT);
	virtqueue_interrupts(&q, true);
	CHECK_EQ(get16(q.avail_addr), 0);
	CHECK(virtqueue_wants_kick(&q));
	put16(q.used_addr, VIRTQ_USED_F_NO_NOTIFY);
	CHECK(!virtqueue_wants_kick(&q));
}

static void test_chain(void)
{
	const struct virtq_seg seg[3] = {{0x1000, 16}, {0xfffffffff000, 4096}, {0x3001, 1}};
	uint32_t cookie = 0, len = 0;
	uint16_t id;

	fresh(8);
	CHECK_EQ(virtqueue_take(&q, &cookie, &len), -EAGAIN);
	CHECK_EQ(virtqueue_add(&q, seg, 1, 2, 77), 0);
	CHECK(dev_next(&id));
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t d = q.desc_addr + 16u * id;
		const uint16_t flags = get16(d + 12);

		CHECK_EQ(get64(d), seg[i].addr);
		CHECK_EQ(get32(d + 8), seg[i].len);
		CHECK_EQ(flags & VIRTQ_DESC_F_WRITE, i ? VIRTQ_DESC_F_WRITE : 0);
		CHECK_EQ(flags & VIRTQ_DESC_F_NEXT, i < 2 ? VIRTQ_DESC_F_NEXT : 0);
		id = get16(d + 14);
	}
	CHECK(!dev_next(&id));
	dev_use(0, 4097);
	CHECK(virtqueue_has_used(&q));
	CHECK_EQ(virtqueue_take(&q, &cookie, &len), 0);
	CHECK_EQ(cookie, 77);
	CHECK_EQ(len, 4097);
	CHECK_EQ(q.free_count, 8);
}

static void test_full(void)
{
	const struct virtq_seg seg[9] = {{0, 1}};
	uint32_t cookie;

	fresh(8);
	CHECK_EQ(virtqueue_add(&q, seg, 0, 0, 0), -EINVAL);
	CHECK_EQ(virtqueue_add(&q, seg, 5, 4, 0), -EINVAL);
	CHECK_EQ(virtqueue_add(&q, seg, 3, 0, 1), 0);
	CHECK_EQ(virtqueue_add(&q, seg, 3, 0, 2), 0);
	CHECK_EQ(virtqueue_add(&q, seg, 3, 0, 3), -ENOSPC);
	CHECK_EQ(virtqueue_add(&q, seg, 1, 1, 3), 0);
	CHECK_EQ(q.free_count, 0);
	CHECK_EQ(virtqueue_add(&q, seg, 1, 0, 4), -ENOSPC);
	dev_use(3, 0);
	CHECK_EQ(virtqueue_take(&q, &cookie, NULL), 0);
	CHECK_EQ(cookie, 2);
	CHECK_EQ(virtqueue_add(&q, seg, 3, 0, 5), 0);
}

/* A device that names chains which are not in flight, or twice. */
static void test_hostile(void)
{
	const struct virtq_seg seg[3] = {{0, 1}};
	uint32_t cookie = 0;

	fresh(8);
	CHECK_EQ(virtqueue_add(&q, seg, 1, 2, 9), 0);
	dev_use(8, 0);
	dev_use(0xffffffffu, 0);
	dev_use(1, 0);                       /* the middle of the chain */
	CHECK_EQ(virtqueue_take(&q, &cookie, NULL), -EIO);
	CHECK_EQ(virtqueue_take(&q, &cookie, NULL), -EIO);
	CHECK_EQ(virtqueue_take(&q, &cookie, NULL), -EIO);
	/* It scribbles over its descriptors: the chain is followed in our copy. */
	memset(mem, 0xff, 8 * 16);
	dev_use(0, 0);
	dev_use(0, 0);
	CHECK_EQ(virtqueue_take(&q, &cookie, NULL), 0);
	CHECK_EQ(cookie, 9);
	CHECK_EQ(virtqueue_take(&q, &cookie, NULL), -EIO);
	CHECK_EQ(q.free_count, 8);
	fresh(VIRTQUEUE_MAX);
	dev_use(VIRTQUEUE_MAX, 0);
	CHECK_EQ(virtqueue_take(&q, &cookie, NULL), -EIO);
}

/* Follows a chain as the device does: all of this step, and none of another chain's. */
static bool dev_chain(uint16_t id, uint64_t step, unsigned n, bool *taken, bool take)
{
	for (unsigned i = 1; i <= n; i++) {
		const uint64_t d = q.desc_addr + 16u * id;

		if (id >= size || taken[id] == take || get64(d) != step || get32(d + 8) != i ||
		    !(get16(d + 12) & VIRTQ_DESC_F_NEXT) != (i == n))
			return false;
		taken[id] = take;
		id = get16(d + 14);
	}
	return true;
}

/* Chains of one to three, used out of order, for longer than the indices hold, against a model. */
static void test_random(uint16_t n)
{
	struct random r = random_seed(n);
	struct { uint32_t head, cookie, step, len; } fly[VIRTQUEUE_MAX];
	bool same = true, taken[VIRTQUEUE_MAX] = {false};
	uint32_t next = 1, cookie;
	unsigned flying = 0, used = 0;

	fresh(n);
	for (unsigned step = 0; step < 300000; step++) {
		if (random_below(&r, 2)) {
			const struct virtq_seg seg[3] = {{step, 1}, {step, 2}, {step, 3}};
			const unsigned len = 1 + random_below(&r, 3), out = random_below(&r, len + 1);
			const int e = virtqueue_add(&q, seg, out, len - out, next);
			uint16_t head;

			same &= e == (n - used >= len ? 0 : -ENOSPC);
			if (e == 0 && dev_next(&head)) {
				same &= dev_chain(head, step, len, taken, true);
				fly[flying].head = head;
				fly[flying].step = step;
				fly[flying].len = len;
				fly[flying++].cookie = next++;
				used += len;
			}
		} else if (flying) {
			const unsigned k = random_below(&r, flying);

			same &= dev_chain((uint16_t)fly[k].head, fly[k].step, fly[k].len, taken, false);
			dev_use(fly[k].head, step);
			same &= virtqueue_take(&q, &cookie, NULL) == 0 && cookie == fly[k].cookie;
			used -= fly[k].len;
			fly[k] = fly[--flying];
		}
		same &= q.free_count == n - used;
	}
	CHECK(same);
	CHECK(next > 0x10000);
}

int main(void)
{
	test_layout();
	test_chain();
	test_full();
	test_hostile();
	test_random(8);
	test_random(VIRTQUEUE_MAX);
	return host_done("virtio_queue");
}
