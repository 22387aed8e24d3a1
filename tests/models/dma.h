/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What of the machine's memory the device may reach: the client's DMA_MAP table. Under a virtual IOMMU it is
 * the IOMMU's mappings, addresses being IOVAs. Data goes by pread and pwrite: a client that cuts its file
 * short costs an error, not a SIGBUS.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DMA_READ = 1, DMA_WRITE = 2 };       /* what the device may do */
enum { DMA_MAPS = 65535, DMA_FILES = 64 };

struct dma_map {
	uint64_t iova, size, offset;
	int file;                     /* index into files, -1: no file came with it */
	uint32_t prot;
};

struct dma {
	struct dma_map *maps;         /* sorted, disjoint */
	size_t count, room;
	struct {
		int fd;
		unsigned users;       /* 0: free */
		uint64_t dev, ino;
	} files[DMA_FILES];
	uint64_t reads, writes, blocked;
};

void dma_init(struct dma *d);
void dma_free(struct dma *d);
/*
 * fd -1: memory that the device cannot reach. The fd stays the caller's. -EINVAL, -EEXIST where it overlaps,
 * -ENOSPC, -ENOMEM.
 */
int dma_map(struct dma *d, uint64_t iova, uint64_t size, uint64_t offset, uint32_t prot, int fd);
/* Drops all mappings inside the range; -EINVAL, and nothing dropped, if it cuts one. */
int dma_unmap(struct dma *d, uint64_t iova, uint64_t size);
void dma_unmap_all(struct dma *d);
/* True if all n bytes were transferred; n may cross mappings. */
bool dma_access(struct dma *d, uint64_t iova, void *buf, size_t n, bool write);
