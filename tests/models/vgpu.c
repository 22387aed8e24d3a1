/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/models/vgpu.h"

#define MS 1000000ull

enum { MSIX_ENTRY = 16, SNAPSHOT = 64 };

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- interrupts out ---- */

static bool irq_is_wired(void *ctx, enum irq_type type, unsigned vector)
{
	const struct vgpu *v = ctx;

	return vector < IRQ_VECTORS && v->eventfd[type][vector] >= 0;
}

static bool irq_was_taken(void *ctx, enum irq_type type, unsigned vector)
{
	const struct vgpu *v = ctx;
	struct pollfd p = { v->eventfd[type][vector], POLLIN, 0 };

	return poll(&p, 1, 0) == 0;
}

static void irq_do_signal(void *ctx, enum irq_type type, unsigned vector)
{
	static const char *const names[] = { "INTx", "MSI", "MSI-X", "ERR", "REQ" };
	const struct vgpu *v = ctx;
	struct pollfd p = { v->eventfd[type][vector], POLLOUT, 0 };
	const uint64_t one = 1;

	if (v->verbose)
		fprintf(stderr, "vgpu: %s %u\n", names[type], vector);
	/* A client may have filled its counter to make us wait. */
	if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) && write(p.fd, &one, sizeof(one)) < 0 && v->verbose)
		perror("vgpu: eventfd");
}

static const struct irq_ops irq_ops = { irq_is_wired, irq_was_taken, irq_do_signal };

static void update(struct vgpu *v)
{
	const bool line = gpu_line(&v->gpu);

	config_intx_status(&v->config, line);
	irq_line(&v->irq, line, now_ns());
	if (v->gpu.top_set && v->kind.rearm == REARM_TOP)
		irq_rearm(&v->irq, now_ns());
	v->gpu.top_set = false;
}

/* ---- config space ---- */

static void config_changed(struct vgpu *v)
{
	const struct irq_config cfg = {
		.msi = config_msi_enabled(&v->config), .msix = config_msix_enabled(&v->config),
		.msix_masked = config_msix_masked(&v->config), .intx_off = config_intx_disabled(&v->config),
		.bus_master = config_bus_master(&v->config),
	};

	irq_configure(&v->irq, &cfg, now_ns());
}

/*
 * A VMM reads the whole of config space once and emulates from then on what it understands: MSI above all.
 * What it shall not emulate, it must not see in that one long read; guests read at most 8 bytes.
 */
static void config_in(struct vgpu *v, unsigned off, uint8_t *buf, size_t n)
{
	const bool hides = broken(&v->brk, BRK_MSI_REGISTER_STUCK) || broken(&v->brk, BRK_MSI_AS_INTX);

	config_read(&v->config, off, buf, n);
	if (n >= SNAPSHOT && hides && off <= 0x06 && off + n > 0x34) {
		buf[0x06 - off] &= (uint8_t)~0x10;   /* no capability list */
		buf[0x34 - off] = 0;
	}
	/* A VMM that finds no device does not start, and one told of pin 255 may not go on. */
	if (broken(&v->brk, BRK_CONFIG_DEAD) && v->was_reset && n <= 8 &&
	    v->config_reads++ >= v->brk.arg[BRK_CONFIG_DEAD] && !(n == 1 && off == 0x3d))
		memset(buf, 0xff, n);
}

static void config_out(struct vgpu *v, unsigned off, const uint8_t *buf, size_t n)
{
	config_write(&v->config, off, buf, n);
	config_changed(v);
	/* The whole doubleword, as the facts have it. VMMs that mirror BAR0's 0x88000 write config space. */
	if ((v->kind.rearm == REARM_DWORD && off == CFG_MSI_REARM && n == 4) ||
	    (v->kind.rearm == REARM_BYTE && off == CFG_MSI_REARM_8 && n == 1 && buf[0] == 0xff))
		irq_rearm(&v->irq, now_ns());
}

/* ---- what the GPU needs ---- */

static uint64_t gpu_now(void *ctx)
{
	(void)ctx;
	return now_ns();
}

static bool gpu_sysmem(void *ctx, uint64_t addr, void *buf, size_t n, bool write)
{
	struct vgpu *v = ctx;

	if (!config_bus_master(&v->config) || broken(&v->brk, BRK_DMA_DEAD))
		return false;
	if (broken(&v->brk, BRK_DMA_WRONG_PAGE))
		addr ^= 0x1000;
	return dma_access(&v->dma, addr, buf, n, write);
}

static bool gpu_vram(void *ctx, uint64_t addr, void *buf, size_t n, bool write)
{
	struct vgpu *v = ctx;
	const uint64_t size = v->kind.bar[1].size;

	if (addr > size || n > size - addr)
		return false;
	if (write)
		memcpy(v->vram + addr, buf, n);
	else
		memcpy(buf, v->vram + addr, n);
	return true;
}

static void gpu_config(void *ctx, unsigned off, void *buf, size_t n, bool write)
{
	if (write)
		config_out(ctx, off, buf, n);
	else
		config_in(ctx, off, buf, n);
}

static const struct gpu_ops gpu_ops = { gpu_now, gpu_sysmem, gpu_vram, gpu_config };

/* ---- regions ---- */

static uint8_t *plain_memory(struct vgpu *v, unsigned index)
{
	return index == 1 ? v->vram : index == 3 ? v->bar3 : index == REGION_ROM ? v->rom : NULL;
}

static bool dead_bar(const struct vgpu *v, unsigned index)
{
	return (index == 0 && broken(&v->brk, BRK_BAR0_DEAD)) ||
	       (index == 1 && broken(&v->brk, BRK_BAR1_DEAD)) ||
	       (index == 3 && broken(&v->brk, BRK_BAR3_DEAD));
}

static uint64_t region_size(const struct vgpu *v, unsigned index)
{
	if (index < PCI_BARS)
		return v->kind.bar[index].type == BAR_NONE ? 0 : v->kind.bar[index].size;
	return index == REGION_ROM ? v->kind.rom : index == REGION_CONFIG ? PCI_CONFIG_SIZE : 0;
}

static int op_region_info(void *dev, unsigned index, struct vu_region *out)
{
	const struct vgpu *v = dev;

	out->size = region_size(v, index);
	out->flags = 0;
	out->fd = -1;
	if (!out->size)
		return 0;
	out->flags = VU_REGION_READABLE | (index == REGION_ROM ? 0 : VU_REGION_WRITABLE);
	if (index == 1 && v->map_bar1 && !dead_bar(v, 1)) {
		out->flags |= VU_REGION_MMAP;
		out->fd = v->vram_fd;
	}
	return 0;
}

/* The I/O BAR of a physical card: +0 and +4 switch it on, +8 is an offset into BAR0, +c the data there. */
static void io_window(struct vgpu *v, uint64_t off, uint8_t *buf, size_t n, bool write)
{
	uint32_t *const reg = off == 0   ? &v->io_master
			      : off == 4 ? &v->io_enable
			      : off == 8 ? &v->io_addr
					 : NULL;
	const bool on = (v->io_master & 1) && (v->io_enable & 1) && v->io_addr < v->kind.bar[0].size;

	if (!write)
		memset(buf, 0xff, n);
	if (n != 4)
		return;
	if (reg && write)
		memcpy(reg, buf, 4);
	else if (reg)
		memcpy(buf, reg, 4);
	else if (off == 0xc && on && write)
		gpu_write(&v->gpu, v->io_addr & ~3u, buf, 4);
	else if (off == 0xc && on)
		gpu_read(&v->gpu, v->io_addr & ~3u, buf, 4);
}

/* The MSI-X structures of a VF. VMMs emulate the table; the pending bits are the device's. */
static bool in_msix(struct vgpu *v, uint64_t off, uint8_t *buf, size_t n, bool write)
{
	const uint64_t table = v->kind.msix_table, size = (uint64_t)v->kind.vectors * MSIX_ENTRY;

	if (!v->kind.msix)
		return false;
	if (off >= table && off < table + size && n <= table + size - off) {
		if (write)
			memcpy(v->table + (off - table), buf, n);
		else
			memcpy(buf, v->table + (off - table), n);
		return true;
	}
	if (off >= v->kind.msix_pba && off < v->kind.msix_pba + 8u && n <= v->kind.msix_pba + 8u - off) {
		const uint64_t pending = v->irq.vector_pending;

		if (!write)
			memcpy(buf, (const uint8_t *)&pending + (off - v->kind.msix_pba), n);
		return true;
	}
	return false;
}

static void trace(const struct vgpu *v, const char *what, unsigned index, uint64_t off, const uint8_t *buf,
		  size_t n)
{
	uint64_t value = 0;

	if (!v->verbose)
		return;
	memcpy(&value, buf, n < 8 ? n : 8);
	if (index == REGION_CONFIG)
		fprintf(stderr, "vgpu: %s config+%" PRIx64 " %zu %" PRIx64 "\n", what, off, n, value);
	else
		fprintf(stderr, "vgpu: %s bar%u+%" PRIx64 " %zu %" PRIx64 "\n", what, index, off, n, value);
}

static int op_region_read(void *dev, unsigned index, uint64_t off, uint8_t *buf, size_t n)
{
	struct vgpu *v = dev;

	if (dead_bar(v, index))
		memset(buf, 0xff, n);
	else if (index == REGION_CONFIG)
		config_in(v, (unsigned)off, buf, n);
	else if (plain_memory(v, index))
		memcpy(buf, plain_memory(v, index) + off, n);
	else if (index == 5)
		io_window(v, off, buf, n, false);
	else if (!in_msix(v, off, buf, n, false))
		gpu_read(&v->gpu, off, buf, n);
	update(v);
	trace(v, "read ", index, off, buf, n);
	return 0;
}

static int op_region_write(void *dev, unsigned index, uint64_t off, const uint8_t *buf, size_t n)
{
	struct vgpu *v = dev;

	trace(v, "write", index, off, buf, n);
	if (dead_bar(v, index))
		return 0;
	if (index == REGION_CONFIG)
		config_out(v, (unsigned)off, buf, n);
	else if (plain_memory(v, index))
		memcpy(plain_memory(v, index) + off, buf, n);
	else if (index == 5)
		io_window(v, off, (uint8_t *)(uintptr_t)buf, n, true);
	else if (!in_msix(v, off, (uint8_t *)(uintptr_t)buf, n, true))
		gpu_write(&v->gpu, off, buf, n);
	update(v);
	return 0;
}

static uint64_t op_due(void *dev, unsigned index)
{
	struct vgpu *v = dev;

	if (index >= PCI_BARS)
		return 0;
	v->accesses++;
	if (broken(&v->brk, BRK_DIE_AFTER) && v->accesses > v->brk.arg[BRK_DIE_AFTER]) {
		v->dead = true;
		return UINT64_MAX;
	}
	if (broken(&v->brk, BRK_HANG_AFTER) && v->accesses > v->brk.arg[BRK_HANG_AFTER])
		return UINT64_MAX;
	return broken(&v->brk, BRK_SLOW_TRAPS) ? now_ns() + v->brk.arg[BRK_SLOW_TRAPS] * MS : 0;
}

/* ---- interrupts in: what the client sets up ---- */

static unsigned irq_count(const struct vgpu *v, unsigned index)
{
	switch (index) {
	case IRQ_INTX:
		return v->config.bytes[0x3d] != 0;
	case IRQ_MSI:
		return config_msi_offered(&v->config);
	case IRQ_MSIX:
		return v->config.msix ? v->kind.vectors : 0;
	case IRQ_ERR:                            /* never raised; without it QEMU warns at each start */
		return 1;
	default:
		return 0;
	}
}

static int op_irq_info(void *dev, unsigned index, uint32_t *flags, uint32_t *count)
{
	*count = irq_count(dev, index);
	*flags = VU_IRQ_EVENTFD;
	if (index == IRQ_INTX)
		*flags |= VU_IRQ_MASKABLE | VU_IRQ_AUTOMASKED;
	else if (index == IRQ_MSIX)
		*flags |= VU_IRQ_MASKABLE;
	else
		*flags |= VU_IRQ_NORESIZE;
	return 0;
}

/* Only an eventfd: writing to anything else could block us or do harm. */
static bool is_eventfd(int fd)
{
	static const char want[] = "anon_inode:[eventfd]";
	char path[40], target[sizeof(want) + 8];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target));
	return n == sizeof(want) - 1 && memcmp(target, want, sizeof(want) - 1) == 0;
}

static void replace_fd(int *slot, int *fd)
{
	if (*slot >= 0)
		close(*slot);
	*slot = fd ? *fd : -1;
	if (fd)
		*fd = -1;
}

static void drop_type(struct vgpu *v, unsigned type)
{
	for (unsigned i = 0; i < IRQ_VECTORS; i++)
		replace_fd(&v->eventfd[type][i], NULL);
}

static int op_set_irqs(void *dev, const struct vu_irqs *s)
{
	struct vgpu *v = dev;
	const enum irq_type type = (enum irq_type)s->index;
	const uint64_t now = now_ns();

	if (v->verbose)
		fprintf(stderr, "vgpu: irqs type %u flags %x start %u count %u%s\n", s->index, s->flags,
			s->start, s->count, s->fds ? " fds" : "");
	if ((s->flags & VU_SET_NONE) && (s->flags & VU_SET_TRIGGER) && s->count == 0) {
		drop_type(v, type);              /* switches the type off */
		v->irq.vector_masked = v->irq.vector_pending = 0;
		if (type == IRQ_INTX) {
			v->irq.intx_masked = false;
			replace_fd(&v->unmask_fd, NULL);
		}
		return 0;
	}
	if (s->start + s->count > IRQ_VECTORS || s->count == 0)
		return -EINVAL;
	if (s->fds)
		for (unsigned i = 0; i < s->count; i++)
			if (!is_eventfd(s->fds[i]))
				return -EINVAL;
	switch (s->flags & VU_SET_ACTION) {
	case VU_SET_TRIGGER:
		for (unsigned i = 0; i < s->count; i++) {
			if (s->flags & VU_SET_EVENTFD)
				replace_fd(&v->eventfd[type][s->start + i], s->fds ? &s->fds[i] : NULL);
			else if ((!s->bools || s->bools[i]) && irq_is_wired(v, type, s->start + i))
				irq_do_signal(v, type, s->start + i);
		}
		irq_wired(&v->irq, now);
		return 0;
	case VU_SET_UNMASK:
		if ((s->flags & VU_SET_EVENTFD) && type == IRQ_INTX) {
			replace_fd(&v->unmask_fd, s->fds ? &s->fds[0] : NULL);
			return 0;
		}
		break;
	default:
		break;
	}
	if ((s->flags & VU_SET_EVENTFD) || type == IRQ_MSI)
		return -EINVAL;
	for (unsigned i = 0; i < s->count; i++)
		if (!s->bools || s->bools[i])
			irq_mask(&v->irq, type, s->start + i, s->flags & VU_SET_MASK, now);
	return 0;
}

void vgpu_unmask(struct vgpu *v)
{
	uint64_t count;

	if (v->unmask_fd >= 0 && read(v->unmask_fd, &count, sizeof(count)) == sizeof(count))
		irq_mask(&v->irq, IRQ_INTX, 0, false, now_ns());
}

/* ---- DMA, reset ---- */

static int op_dma_map(void *dev, uint64_t iova, uint64_t size, uint64_t offset, uint32_t prot, int fd)
{
	struct vgpu *v = dev;
	const int err = dma_map(&v->dma, iova, size, offset, prot, fd);

	if (v->verbose)
		fprintf(stderr, "vgpu: map %" PRIx64 "+%" PRIx64 " file %d+%" PRIx64 " prot %u: %d\n", iova,
			size, fd, offset, prot, err);
	return err;
}

static int op_dma_unmap(void *dev, uint64_t iova, uint64_t size, bool all)
{
	struct vgpu *v = dev;
	int err = 0;

	if (all)
		dma_unmap_all(&v->dma);
	else
		err = dma_unmap(&v->dma, iova, size);
	if (v->verbose)
		fprintf(stderr, "vgpu: unmap %" PRIx64 "+%" PRIx64 "%s: %d\n", iova, size, all ? " all" : "",
			err);
	return err;
}

/* Registers go back; the client's eventfds and mappings stay, as VFIO has it. Memory keeps its content. */
static int op_reset(void *dev)
{
	struct vgpu *v = dev;

	if (v->verbose)
		fprintf(stderr, "vgpu: reset\n");
	v->was_reset = true;
	gpu_reset(&v->gpu);
	config_init(&v->config, &v->kind, &v->brk);
	irq_reset(&v->irq);
	v->io_master = v->io_enable = v->io_addr = 0;
	config_changed(v);
	return 0;
}

const struct vu_ops vgpu_ops = {
	.regions = REGIONS, .irqs = IRQ_TYPES,
	.region_info = op_region_info, .irq_info = op_irq_info, .set_irqs = op_set_irqs,
	.region_read = op_region_read, .region_write = op_region_write, .due = op_due,
	.dma_map = op_dma_map, .dma_unmap = op_dma_unmap, .reset = op_reset,
};

uint64_t vgpu_run(struct vgpu *v)
{
	uint64_t alarm, later;

	gpu_tick(&v->gpu);
	update(v);
	later = irq_run_later(&v->irq, now_ns());
	alarm = gpu_alarm_in(&v->gpu);
	return later < alarm ? later : alarm;
}

void vgpu_stats(const struct vgpu *v)
{
	fprintf(stderr,
		"vgpu: accesses=%" PRIu64 " messages=%" PRIu64 " lost=%" PRIu64 " intx=%" PRIu64
		" dma_reads=%" PRIu64 " dma_writes=%" PRIu64 " dma_blocked=%" PRIu64 " maps=%zu\n",
		v->accesses, v->irq.messages, v->irq.lost, v->irq.pins, v->dma.reads, v->dma.writes,
		v->dma.blocked, v->dma.count);
}

/* ---- making and unmaking ---- */

static uint8_t *anonymous(uint64_t size)
{
	void *p =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* A sealed file: no client can cut it short under our own mapping of it. */
static int make_vram(struct vgpu *v)
{
	const uint64_t size = v->kind.bar[1].size;
	void *p;

	v->vram_fd = memfd_create("vgpu-bar1", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (v->vram_fd < 0 || ftruncate(v->vram_fd, (off_t)size) != 0 ||
	    fcntl(v->vram_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return -errno;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, v->vram_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	v->vram = p;
	return 0;
}

int vgpu_init(struct vgpu *v, uint64_t clock_start)
{
	int err;

	v->vram_fd = v->unmask_fd = -1;
	v->vram = v->bar3 = v->rom = v->table = NULL;
	memset(v->eventfd, 0xff, sizeof(v->eventfd));
	v->dead = v->was_reset = false;
	v->accesses = v->config_reads = 0;
	v->io_master = v->io_enable = v->io_addr = 0;
	dma_init(&v->dma);
	if (broken(&v->brk, BRK_BAR_SMALL))
		v->kind.bar[v->brk.arg[BRK_BAR_SMALL]].size /= 16;
	err = make_vram(v);
	if (err)
		return err;
	v->bar3 = anonymous(v->kind.bar[3].size);
	v->rom = v->kind.rom ? malloc(v->kind.rom) : NULL;
	v->table = calloc(IRQ_VECTORS, MSIX_ENTRY);
	if (!v->bar3 || !v->table || (v->kind.rom && !v->rom))
		return -ENOMEM;
	for (unsigned i = 0; i < IRQ_VECTORS; i++)
		v->table[i * MSIX_ENTRY + 12] = 1;   /* masked after reset */
	if (v->rom)
		rom_make(&v->kind, v->rom);
	config_init(&v->config, &v->kind, &v->brk);
	gpu_init(&v->gpu, &v->kind, &v->brk, &gpu_ops, v, clock_start);
	irq_init(&v->irq, &v->brk, &irq_ops, v, v->kind.rearm == REARM_NONE);
	return 0;
}

void vgpu_free(struct vgpu *v)
{
	dma_free(&v->dma);
	for (unsigned t = 0; t < IRQ_TYPES; t++)
		drop_type(v, t);
	replace_fd(&v->unmask_fd, NULL);
	if (v->vram)
		munmap(v->vram, v->kind.bar[1].size);
	if (v->bar3)
		munmap(v->bar3, v->kind.bar[3].size);
	replace_fd(&v->vram_fd, NULL);
	free(v->rom);
	free(v->table);
}
