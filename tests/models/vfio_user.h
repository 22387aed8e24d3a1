/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The server's side of vfio-user 0.0 (QEMU docs/interop/vfio-user.rst): messages, and the connection that
 * carries them. The client is not trusted: all it says is bounded. What cannot be a message ends the
 * connection; a message that makes no sense is answered with an error.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum vu_command {
	VU_VERSION = 1, VU_DMA_MAP, VU_DMA_UNMAP, VU_GET_INFO, VU_GET_REGION_INFO, VU_GET_REGION_IO_FDS,
	VU_GET_IRQ_INFO, VU_SET_IRQS, VU_REGION_READ, VU_REGION_WRITE, VU_DMA_READ, VU_DMA_WRITE,
	VU_DEVICE_RESET, VU_REGION_WRITE_MULTI = 15,
};

enum {
	VU_HEADER = 16,
	VU_MAX_DATA = 1 << 20,                   /* of one region access */
	VU_MAX_MESSAGE = VU_HEADER + 16 + VU_MAX_DATA,
	VU_MAX_FDS = 8,                          /* with one message */
	VU_REGION_READABLE = 1, VU_REGION_WRITABLE = 2, VU_REGION_MMAP = 4,
	VU_IRQ_EVENTFD = 1, VU_IRQ_MASKABLE = 2, VU_IRQ_AUTOMASKED = 4, VU_IRQ_NORESIZE = 8,
	VU_SET_NONE = 1, VU_SET_BOOL = 2, VU_SET_EVENTFD = 4, VU_SET_DATA = 7,
	VU_SET_MASK = 8, VU_SET_UNMASK = 16, VU_SET_TRIGGER = 32, VU_SET_ACTION = 56,
};

struct vu_region {
	uint64_t size;
	uint32_t flags;
	int fd;                                  /* with VU_REGION_MMAP; stays the device's */
};

struct vu_irqs {
	uint32_t flags, index, start, count; /* one data flag, one action, range inside what irq_info said */
	const uint8_t *bools;                    /* count of them with VU_SET_BOOL */
	int *fds;                                /* count of them with VU_SET_EVENTFD, or NULL: take away */
};

/* Each returns 0 or a negative errno, which goes to the client. */
struct vu_ops {
	unsigned regions, irqs;
	int (*region_info)(void *dev, unsigned index, struct vu_region *out);
	int (*irq_info)(void *dev, unsigned index, uint32_t *flags, uint32_t *count);
	/* Takes the fds it keeps: sets them to -1. */
	int (*set_irqs)(void *dev, const struct vu_irqs *irqs);
	/* index and range are inside what region_info said. */
	int (*region_read)(void *dev, unsigned index, uint64_t off, uint8_t *buf, size_t n);
	int (*region_write)(void *dev, unsigned index, uint64_t off, const uint8_t *buf, size_t n);
	int (*dma_map)(void *dev, uint64_t iova, uint64_t size, uint64_t offset, uint32_t prot, int fd);
	int (*dma_unmap)(void *dev, uint64_t iova, uint64_t size, bool all);
	int (*reset)(void *dev);
	/* Before a region access, once a message: when it is due (CLOCK_MONOTONIC, ns); 0 now, UINT64_MAX
	 * never. */
	uint64_t (*due)(void *dev, unsigned index);
};

struct vu_reply {
	uint8_t bytes[VU_MAX_MESSAGE];
	size_t len;                              /* 0: none wanted */
	int fd;                                  /* to go with it, -1: none; stays the device's */
};

struct vu {
	const struct vu_ops *ops;
	void *dev;
	bool negotiated, multi;
};

void vu_init(struct vu *vu, const struct vu_ops *ops, void *dev);
/*
 * Handles one message of len bytes, len being what its header says. fds: those that came with it; the ones
 * kept are set to -1, the caller closes the rest. False: end the connection.
 */
bool vu_handle(struct vu *vu, const uint8_t *msg, size_t len, int *fds, unsigned nfds, struct vu_reply *out);

/* ---- the connection: never blocks ---- */

struct vu_conn {
	struct vu *vu;
	int sock;
	uint8_t in[VU_MAX_MESSAGE];
	size_t have;
	int fds[VU_MAX_FDS];
	unsigned nfds;
	struct vu_reply out;
	size_t sent;
	bool weighed;                            /* its due time was asked for */
	uint64_t hold_until;                     /* that; 0: not held back */
};

/* sock becomes the connection's and non-blocking. */
void vu_conn_init(struct vu_conn *c, struct vu *vu, int sock);
void vu_conn_close(struct vu_conn *c);
/* POLLIN, POLLOUT or 0: what to wait for. */
short vu_conn_events(const struct vu_conn *c);
/* Reads, handles and answers what it can. now: ns. False: the other side is gone, or broke the protocol. */
bool vu_conn_run(struct vu_conn *c, uint64_t now);
/* ns until the message held back is due, UINT64_MAX if there is none. */
uint64_t vu_conn_wait(const struct vu_conn *c, uint64_t now);
