/* SPDX-License-Identifier: MIT */
#pragma once

/* The device: config space, GPU, interrupts, memory and DMA behind vfio-user's operations. */

#include "tests/models/breaks.h"
#include "tests/models/config.h"
#include "tests/models/dma.h"
#include "tests/models/gpu.h"
#include "tests/models/irq.h"
#include "tests/models/vfio_user.h"

/* VFIO's PCI regions. */
enum { REGION_BAR0, REGION_ROM = 6, REGION_CONFIG = 7, REGION_VGA = 8, REGIONS = 9 };

struct vgpu {
	struct kind kind;             /* a copy: sizes and IDs may be changed */
	struct breaks brk;
	struct config config;
	struct gpu gpu;
	struct irq irq;
	struct dma dma;
	int vram_fd;                  /* BAR1's, sealed in size */
	uint8_t *vram, *bar3, *rom, *table; /* table: MSI-X, what a client stores there */
	uint32_t io_master, io_enable, io_addr; /* the I/O BAR's window */
	bool map_bar1;                /* offer it for mapping */
	int eventfd[IRQ_TYPES][IRQ_VECTORS]; /* -1: none */
	int unmask_fd;                /* INTx, -1: none */
	bool dead;                    /* die-after has come */
	bool was_reset;
	bool verbose;
	uint64_t accesses, config_reads;
};

/* kind, brk, map_bar1 and verbose are set; the rest is made here. 0 or a negative errno. */
int vgpu_init(struct vgpu *v, uint64_t clock_start);
void vgpu_free(struct vgpu *v);
extern const struct vu_ops vgpu_ops;
/* The unmask eventfd was signalled. */
void vgpu_unmask(struct vgpu *v);
/* Does what time brings (alarm, late messages). ns until there is more, UINT64_MAX for never. */
uint64_t vgpu_run(struct vgpu *v);
/* CLOCK_MONOTONIC, ns. */
uint64_t now_ns(void);
void vgpu_stats(const struct vgpu *v);
