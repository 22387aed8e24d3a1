/* SPDX-License-Identifier: MIT */
// link: tests/models/vfio_user.c tests/models/json.c tests/models/vgpu.c tests/models/gpu.c tests/models/config.c tests/models/irq.c tests/models/dma.c tests/models/breaks.c
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/models/vgpu.h"

/*
 * The vGPU model under a client that says anything. Input: a byte of options, then
 *  - option bit 7 clear: messages, each a length (2 bytes), a choice of file descriptors (1 byte), that many
 *    bytes; the length in the header is put right, since the connection promises that;
 *  - set: the stream as a connection would read it.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vgpu device;
static struct vu vu;
static struct vu_conn conn;
static struct vu_reply reply;
static int ram = -1, event, plain_pipe[2];

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_device(void)
{
	const struct dma *d = &device.dma;
	unsigned users = 0;

	check(d->count <= DMA_MAPS);
	for (size_t i = 0; i < d->count; i++) {
		check(d->maps[i].size && d->maps[i].iova + (d->maps[i].size - 1) >= d->maps[i].iova);
		check(i == 0 || d->maps[i - 1].iova + (d->maps[i - 1].size - 1) < d->maps[i].iova);
		check(d->maps[i].file < DMA_FILES);
		users += d->maps[i].file >= 0;
	}
	for (unsigned i = 0; i < DMA_FILES; i++)
		users -= d->files[i].users;
	check(users == 0);
	check(device.config.bytes[0] == 0xde && device.config.bytes[1] == 0x10);
}

static void make_device(uint8_t options)
{
	static const char *const breaks[] = {
		"", "double-msi=0,spurious-msi", "msi-register-stuck,late-msi=1", "wrong-vector,stuck-pending",
		"bar0-dead", "dma-wrong-page,ptimer-back", "config-dead=3,ptimer-fast=1000", "msi-as-intx,lose-msi=2",
	};

	memset(&device, 0, sizeof(device));
	device.kind = *kind_at(options % 6);
	device.kind.bar[1].size = 0x10000;
	device.kind.bar[3].size = 0x10000;
	device.map_bar1 = true;
	check(breaks_add(&device.brk, breaks[options >> 2 & 7]) == 0);
	check(vgpu_init(&device, 0) == 0);
	vu_init(&vu, &vgpu_ops, &device);
	vu.negotiated = vu.multi = options & 0x20;
}

/* bytes: id, command, flags (one byte), payload. */
static void one_message(const uint8_t *bytes, size_t len, uint8_t choice)
{
	static uint8_t msg[VU_HEADER + 65536];
	const size_t payload = len > 5 ? len - 5 : 0;
	const uint32_t total = (uint32_t)(VU_HEADER + payload);
	int fds[VU_MAX_FDS];
	const unsigned nfds = (choice & 15) % (VU_MAX_FDS + 1);
	uint16_t id, command;

	memset(msg, 0, VU_HEADER);
	memcpy(msg, bytes, len < 4 ? len : 4);
	memcpy(msg + 4, &total, 4);
	msg[8] = len > 4 ? bytes[4] : 0;
	memcpy(msg + VU_HEADER, bytes + (len - payload), payload);
	for (unsigned i = 0; i < nfds; i++)
		fds[i] = dup(choice & 0x80 ? ram : choice & 0x40 ? plain_pipe[0] : event);
	if (vu_handle(&vu, msg, total, fds, nfds, &reply)) {
		check(reply.len <= sizeof(reply.bytes) && (reply.len == 0 || reply.len >= VU_HEADER));
		if (reply.len) {
			uint32_t said;

			memcpy(&said, reply.bytes + 4, 4);
			memcpy(&id, reply.bytes, 2);
			memcpy(&command, reply.bytes + 2, 2);
			check(said == reply.len && memcmp(msg, &id, 2) == 0 && memcmp(msg + 2, &command, 2) == 0);
			check(reply.fd < 0 || reply.fd == device.vram_fd);
		}
	}
	for (unsigned i = 0; i < nfds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void messages(const uint8_t *data, size_t size)
{
	while (size >= 3) {
		size_t len = (size_t)(data[0] | data[1] << 8);
		const uint8_t choice = data[2];

		data += 3;
		size -= 3;
		len = len < size ? len : size;
		one_message(data, len, choice);
		vgpu_run(&device);
		check_device();
		data += len;
		size -= len;
	}
}

static void stream(const uint8_t *data, size_t size)
{
	static uint8_t sink[65536];
	int pair[2];
	bool open = true;

	check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	vu_conn_init(&conn, &vu, pair[0]);
	while (size > 0 && open) {
		const size_t take = size < 4096 ? size : 4096;
		ssize_t got;

		check(send(pair[1], data, take, 0) == (ssize_t)take);
		do {
			open = vu_conn_run(&conn, now_ns());
			got = recv(pair[1], sink, sizeof(sink), MSG_DONTWAIT);
		} while (open && got > 0);
		check_device();
		data += take;
		size -= take;
	}
	vu_conn_close(&conn);
	close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (ram < 0) {
		ram = memfd_create("ram", MFD_CLOEXEC);
		event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		check(ram >= 0 && event >= 0 && ftruncate(ram, 0x10000) == 0 && pipe(plain_pipe) == 0);
	}
	if (size < 1)
		return 0;
	make_device(data[0]);
	if (data[0] & 0x80)
		stream(data + 1, size - 1);
	else
		messages(data + 1, size - 1);
	vgpu_free(&device);
	return 0;
}
