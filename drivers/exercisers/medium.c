/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/medium.h"

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

#define DEADLINE  SEC(2)
#define BLANK_END 0x100000ull            /* looked at from both ends: partition tables, RAID, ZFS, LVM */
#define CHUNK     0x10000ull

static int move(struct exerciser *ex, enum dma_dir dir, const struct dma_buf *buf, size_t len,
		uint64_t off)
{
	const struct dma_req req = {.dir = dir, .addr = iova(buf->pa.v), .len = len, .dev_off = off};

	return exerciser_dma(ex, &req, DEADLINE);
}

/* n is a multiple of 8. A string instruction: megabytes are looked at, maybe by an emulator. */
static bool all_are(const void *p, size_t n, uint8_t byte)
{
	uint64_t words = n / 8;
	bool equal;

	__asm__ volatile("cmp %%rax, %%rax; repe scasq"
			 : "+D"(p), "+c"(words), "=@ccz"(equal)
			 : "a"(byte * 0x0101010101010101ull) : "memory");
	return equal;
}

/* Zeros from off to end? 1, 0. */
static int range_blank(struct exerciser *ex, struct dma_buf *buf, uint64_t off, uint64_t end)
{
	while (off < end) {
		const size_t n = (size_t)MIN((uint64_t)buf->size, end - off);
		const int r = move(ex, DMA_WRITE, buf, n, off);

		if (r < 0)
			return r;
		if (!all_are(buf->va, n, 0))
			return 0;
		off += n;
	}
	return 1;
}

/* Does a read show in memory? A medium without content (null-co) leaves the buffer as it was. 1, 0. */
static int read_shows(struct exerciser *ex, struct dma_buf *buf, size_t len)
{
	static const uint8_t before[] = {0xa5, 0x5a};

	for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
		int r;

		memset(buf->va, before[i], len);
		r = move(ex, DMA_WRITE, buf, len, 0);
		if (r < 0)
			return r;
		if (!all_are(buf->va, len, before[i]))
			return 1;
	}
	return 0;
}

/* Writes one block and reads it back. 1: kept, 0: read back as zeros. */
static int keeps(struct exerciser *ex, struct dma_buf *buf, size_t len)
{
	uint8_t *p = buf->va;
	int r;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 7 + 1);
	r = move(ex, DMA_READ, buf, len, 0);
	if (r < 0)
		return r;
	memset(p, 0xee, len);
	r = move(ex, DMA_WRITE, buf, len, 0);
	if (r < 0)
		return r;
	if (all_are(buf->va, len, 0))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (p[i] != (uint8_t)(i * 7 + 1))
			return -EIO;
	return 1;
}

static void read_only(struct exerciser *ex, const char *why)
{
	ex->caps &= ~(uint32_t)(EX_DMA_READ | EX_DMA_COPY);
	ex->note = why;
}

static int probe(struct exerciser *ex, uint64_t size, bool ours, struct dma_buf *buf)
{
	const size_t block = ex->dma_align;
	const uint64_t end = align_down(size, block);
	int r = read_shows(ex, buf, block);

	if (r < 0)
		return r;
	if (r == 0) {
		/* It holds nothing, so a write harms nothing, and a read moves nothing. */
		ex->caps &= ~(uint32_t)(EX_DMA_WRITE | EX_DMA_COPY);
		ex->note = "the disk leaves memory as it was when read: null-co without read-zeroes=on";
		return 0;
	}
	if (!(ex->caps & EX_DMA_READ)) {         /* a read-only disk */
		ex->caps &= ~(uint32_t)EX_DMA_COPY;
		return 0;
	}
	if (!ours) {
		r = range_blank(ex, buf, 0, MIN(end, BLANK_END));
		if (r > 0 && end > BLANK_END)
			r = range_blank(ex, buf, MAX(end - BLANK_END, BLANK_END), end);
		if (r < 0)
			return r;
		if (r == 0) {
			read_only(ex, "the disk holds data: not written to (serial=plumb… allows it)");
			return 0;
		}
	}
	r = keeps(ex, buf, block);
	if (r < 0) {
		read_only(ex, "the disk does not take writes, or gives other bytes back");
		return 0;
	}
	if (r == 0) {
		ex->caps &= ~(uint32_t)EX_DMA_COPY;
		ex->fill = 0;
	} else if (!ours) {
		memset(buf->va, 0, block);
		r = move(ex, DMA_READ, buf, block, 0);
		if (r < 0)
			return r;
		read_only(ex, "the disk is blank but keeps data: not written to (serial=plumb… allows it)");
	}
	return 0;
}

int medium_probe(struct exerciser *ex, uint64_t size, const char *serial, size_t serial_len)
{
	const size_t n = strlen(MEDIUM_SERIAL);
	const bool ours = serial_len >= n && !memcmp(serial, MEDIUM_SERIAL, n);
	struct dma_buf buf;
	int r;

	if (!dma_alloc(&buf, (size_t)align_up(MAX(MIN(CHUNK, ex->dma_max), ex->dma_align), PAGE_SIZE),
		       PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	r = probe(ex, size, ours, &buf);
	dma_free(&buf);
	return r;
}
