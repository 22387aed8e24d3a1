/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/models/dma.h"

#define PAGE 4096ull

void dma_init(struct dma *d)
{
	memset(d, 0, sizeof(*d));
}

void dma_free(struct dma *d)
{
	dma_unmap_all(d);
	free(d->maps);
	d->maps = NULL;
	d->room = 0;
}

/* The first mapping that ends above iova. */
static size_t find(const struct dma *d, uint64_t iova)
{
	size_t lo = 0, hi = d->count;

	while (lo < hi) {
		const size_t mid = lo + (hi - lo) / 2;

		if (d->maps[mid].iova + (d->maps[mid].size - 1) < iova)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* One open file each, however many mappings: QEMU sends guest RAM's with every page of a virtual IOMMU. */
static int file_get(struct dma *d, int fd)
{
	struct stat st;
	int free_slot = -1;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return -EINVAL;
	for (int i = 0; i < DMA_FILES; i++) {
		if (d->files[i].users && d->files[i].dev == st.st_dev && d->files[i].ino == st.st_ino) {
			d->files[i].users++;
			return i;
		}
		if (!d->files[i].users && free_slot < 0)
			free_slot = i;
	}
	if (free_slot < 0)
		return -ENOSPC;
	d->files[free_slot].fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (d->files[free_slot].fd < 0)
		return -errno;
	d->files[free_slot].dev = st.st_dev;
	d->files[free_slot].ino = st.st_ino;
	d->files[free_slot].users = 1;
	return free_slot;
}

static void file_put(struct dma *d, int file)
{
	if (file >= 0 && --d->files[file].users == 0)
		close(d->files[file].fd);
}

int dma_map(struct dma *d, uint64_t iova, uint64_t size, uint64_t offset, uint32_t prot, int fd)
{
	struct dma_map m = { iova, size, offset, -1, prot };
	size_t at;

	if (!size || (iova | size | offset) % PAGE || iova + (size - 1) < iova || (prot & ~3u))
		return -EINVAL;
	if (offset + size < offset || offset + size > INT64_MAX)
		return -EINVAL;
	at = find(d, iova);
	if (at < d->count && d->maps[at].iova <= iova + (size - 1))
		return -EEXIST;
	if (d->count >= DMA_MAPS)
		return -ENOSPC;
	if (d->count == d->room) {
		const size_t room = d->room ? d->room * 2 : 64;
		struct dma_map *maps = realloc(d->maps, room * sizeof(*maps));

		if (!maps)
			return -ENOMEM;
		d->maps = maps;
		d->room = room;
	}
	if (fd >= 0) {
		m.file = file_get(d, fd);
		if (m.file < 0)
			return m.file;
	}
	memmove(d->maps + at + 1, d->maps + at, (d->count - at) * sizeof(*d->maps));
	d->maps[at] = m;
	d->count++;
	return 0;
}

int dma_unmap(struct dma *d, uint64_t iova, uint64_t size)
{
	const uint64_t last = iova + (size - 1);
	size_t from, to;

	if (!size || last < iova)
		return -EINVAL;
	from = find(d, iova);
	for (to = from; to < d->count && d->maps[to].iova <= last; to++)
		if (d->maps[to].iova < iova || d->maps[to].iova + (d->maps[to].size - 1) > last)
			return -EINVAL;
	for (size_t i = from; i < to; i++)
		file_put(d, d->maps[i].file);
	if (from < to) {
		memmove(d->maps + from, d->maps + to, (d->count - to) * sizeof(*d->maps));
		d->count -= to - from;
	}
	return 0;
}

void dma_unmap_all(struct dma *d)
{
	for (size_t i = 0; i < d->count; i++)
		file_put(d, d->maps[i].file);
	d->count = 0;
}

static bool transfer(struct dma *d, uint64_t iova, uint8_t *buf, size_t n, bool write)
{
	while (n > 0) {
		const size_t at = find(d, iova);
		const struct dma_map *m;
		uint64_t skip, left;
		size_t take;
		ssize_t got;

		if (at >= d->count)
			return false;
		m = &d->maps[at];
		if (m->iova > iova || m->file < 0 || !(m->prot & (write ? DMA_WRITE : DMA_READ)))
			return false;
		skip = iova - m->iova;
		left = m->size - skip;
		take = left < n ? (size_t)left : n;
		if (write)
			got = pwrite(d->files[m->file].fd, buf, take, (off_t)(m->offset + skip));
		else
			got = pread(d->files[m->file].fd, buf, take, (off_t)(m->offset + skip));
		if (got != (ssize_t)take)
			return false;
		buf += take;
		iova += take;
		n -= take;
		if (iova == 0 && n > 0)
			return false;
	}
	return true;
}

bool dma_access(struct dma *d, uint64_t iova, void *buf, size_t n, bool write)
{
	const bool good = transfer(d, iova, buf, n, write);

	if (!good)
		d->blocked++;
	else if (write)
		d->writes++;
	else
		d->reads++;
	return good;
}
