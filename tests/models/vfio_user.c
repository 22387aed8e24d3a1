/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/models/json.h"
#include "tests/models/vfio_user.h"

enum {
	TYPE_MASK = 0xf, TYPE_COMMAND = 0, TYPE_REPLY = 1, FLAG_NO_REPLY = 0x10, FLAG_ERROR = 0x20,
	DEVICE_RESET_WORKS = 1, DEVICE_PCI = 2,
	UNMAP_ALL = 2,                           /* VFIO_DMA_UNMAP_FLAG_ALL */
	MULTI_ENTRY = 24, MULTI_DATA = 8,
	MAX_VERSION_TEXT = 4096,
};

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

void vu_init(struct vu *vu, const struct vu_ops *ops, void *dev)
{
	memset(vu, 0, sizeof(*vu));
	vu->ops = ops;
	vu->dev = dev;
}

/*
 * Each handler: p, n are the payload; the reply's payload goes to out->bytes + VU_HEADER, its length is
 * returned; a negative errno becomes an error reply.
 */

static int version(struct vu *vu, const uint8_t *p, size_t n, struct vu_reply *out)
{
	static const char *const multi_path[] = { "capabilities", "write_multiple" };
	const char *text = (const char *)p + 4;
	char *answer = (char *)out->bytes + VU_HEADER + 4;
	bool multi = false;
	int len;

	if (vu->negotiated || n < 4 || n > 4 + MAX_VERSION_TEXT || get16(p) != 0)
		return -EINVAL;
	if (n > 4) {
		if (text[n - 5] != '\0' || !json_valid(text, n - 5))
			return -EINVAL;
		multi = json_true_at(text, n - 5, multi_path, 2);
	}
	/* QEMU takes no reply longer than its request, and its request is longer than this. */
	len = snprintf(answer, 256, "{\"capabilities\":{\"max_msg_fds\":%d,\"max_data_xfer_size\":%d,"
		       "\"max_dma_maps\":65535,\"pgsizes\":4096%s}}", VU_MAX_FDS, VU_MAX_DATA,
		       multi ? ",\"write_multiple\":true" : "");
	put16(out->bytes + VU_HEADER, 0);
	put16(out->bytes + VU_HEADER + 2, 0);
	vu->negotiated = true;
	vu->multi = multi;
	return n > 4 ? 4 + len + 1 : 4;
}

static int dma_map_msg(struct vu *vu, const uint8_t *p, size_t n, const int *fds, unsigned nfds)
{
	if (n != 32 || nfds > 1)
		return -EINVAL;
	return vu->ops->dma_map(vu->dev, get64(p + 16), get64(p + 24), get64(p + 8), get32(p + 4),
				nfds ? fds[0] : -1);
}

static int dma_unmap_msg(struct vu *vu, const uint8_t *p, size_t n, struct vu_reply *out)
{
	int err;

	if (n != 24 || (get32(p + 4) & ~(uint32_t)UNMAP_ALL))
		return -EINVAL;
	err = vu->ops->dma_unmap(vu->dev, get64(p + 8), get64(p + 16), get32(p + 4) & UNMAP_ALL);
	if (err)
		return err;
	memcpy(out->bytes + VU_HEADER, p, 24);
	return 24;
}

static int info(struct vu *vu, const uint8_t *p, size_t n, struct vu_reply *out)
{
	uint8_t *o = out->bytes + VU_HEADER;

	if (n != 16 || get32(p) < 16)
		return -EINVAL;
	put32(o, 16);
	put32(o + 4, DEVICE_RESET_WORKS | DEVICE_PCI);
	put32(o + 8, vu->ops->regions);
	put32(o + 12, vu->ops->irqs);
	return 16;
}

static int region_info(struct vu *vu, const uint8_t *p, size_t n, struct vu_reply *out)
{
	uint8_t *o = out->bytes + VU_HEADER;
	struct vu_region r = { .fd = -1 };
	int err;

	if (n != 32 || get32(p) < 32 || get32(p + 8) >= vu->ops->regions)
		return -EINVAL;
	err = vu->ops->region_info(vu->dev, get32(p + 8), &r);
	if (err)
		return err;
	memset(o, 0, 32);
	put32(o, 32);
	put32(o + 4, r.flags);
	put32(o + 8, get32(p + 8));
	put64(o + 16, r.size);
	if (r.flags & VU_REGION_MMAP)
		out->fd = r.fd;
	return 32;
}

static int irq_info(struct vu *vu, const uint8_t *p, size_t n, struct vu_reply *out)
{
	uint8_t *o = out->bytes + VU_HEADER;
	uint32_t flags = 0, count = 0;
	int err;

	if (n != 16 || get32(p) < 16 || get32(p + 8) >= vu->ops->irqs)
		return -EINVAL;
	err = vu->ops->irq_info(vu->dev, get32(p + 8), &flags, &count);
	if (err)
		return err;
	put32(o, 16);
	put32(o + 4, flags);
	put32(o + 8, get32(p + 8));
	put32(o + 12, count);
	return 16;
}

static bool one_bit(uint32_t v)
{
	return v && !(v & (v - 1));
}

static int set_irqs(struct vu *vu, const uint8_t *p, size_t n, int *fds, unsigned nfds)
{
	struct vu_irqs irqs;
	uint32_t flags, count = 0;
	int err;

	if (n < 20 || get32(p) < 20 || get32(p + 8) >= vu->ops->irqs)
		return -EINVAL;
	irqs = (struct vu_irqs){ get32(p + 4), get32(p + 8), get32(p + 12), get32(p + 16), NULL, NULL };
	if ((irqs.flags & ~(uint32_t)(VU_SET_DATA | VU_SET_ACTION)) || !one_bit(irqs.flags & VU_SET_DATA) ||
	    !one_bit(irqs.flags & VU_SET_ACTION))
		return -EINVAL;
	err = vu->ops->irq_info(vu->dev, irqs.index, &flags, &count);
	if (err)
		return err;
	if (irqs.start > count || irqs.count > count - irqs.start)
		return -EINVAL;
	if (irqs.flags & VU_SET_BOOL) {
		if (n != 20 + (size_t)irqs.count)
			return -EINVAL;
		irqs.bools = p + 20;
	} else if (n != 20) {
		return -EINVAL;
	}
	if (irqs.flags & VU_SET_EVENTFD) {
		if (nfds && nfds != irqs.count)
			return -EINVAL;
		irqs.fds = nfds ? fds : NULL;
	} else if (nfds) {
		return -EINVAL;
	}
	return vu->ops->set_irqs(vu->dev, &irqs);
}

/* Is the range inside the region? */
static int in_region(struct vu *vu, unsigned index, uint64_t off, size_t n, uint32_t need)
{
	struct vu_region r = { .fd = -1 };
	int err;

	if (index >= vu->ops->regions)
		return -EINVAL;
	err = vu->ops->region_info(vu->dev, index, &r);
	if (err)
		return err;
	return off > r.size || n > r.size - off || !(r.flags & need) ? -EINVAL : 0;
}

static int region_read(struct vu *vu, const uint8_t *p, size_t n, struct vu_reply *out)
{
	uint32_t count;
	int err;

	if (n != 16)
		return -EINVAL;
	count = get32(p + 12);
	if (count == 0 || count > VU_MAX_DATA)
		return -EINVAL;
	err = in_region(vu, get32(p + 8), get64(p), count, VU_REGION_READABLE);
	if (!err)
		err = vu->ops->region_read(vu->dev, get32(p + 8), get64(p), out->bytes + VU_HEADER + 16,
					   count);
	if (err)
		return err;
	memcpy(out->bytes + VU_HEADER, p, 16);
	return 16 + (int)count;
}

static int write_one(struct vu *vu, const uint8_t *p, size_t data)
{
	const uint32_t count = get32(p + 12);
	int err;

	if (count == 0 || count > data)
		return -EINVAL;
	err = in_region(vu, get32(p + 8), get64(p), count, VU_REGION_WRITABLE);
	return err ? err : vu->ops->region_write(vu->dev, get32(p + 8), get64(p), p + 16, count);
}

static int region_write(struct vu *vu, const uint8_t *p, size_t n, struct vu_reply *out)
{
	int err;

	if (n < 16 || get32(p + 12) != n - 16)
		return -EINVAL;
	err = write_one(vu, p, n - 16);
	if (err)
		return err;
	memcpy(out->bytes + VU_HEADER, p, 16);
	return 16;
}

static int region_write_multi(struct vu *vu, const uint8_t *p, size_t n, struct vu_reply *out)
{
	uint64_t count, done;

	if (!vu->multi || n < 8)
		return -EINVAL;
	count = get64(p);
	if (count > (n - 8) / MULTI_ENTRY || n != 8 + count * MULTI_ENTRY)
		return -EINVAL;
	for (done = 0; done < count; done++)
		if (write_one(vu, p + 8 + done * MULTI_ENTRY, MULTI_DATA))
			break;
	put64(out->bytes + VU_HEADER, done);
	return 8;
}

bool vu_handle(struct vu *vu, const uint8_t *msg, size_t len, int *fds, unsigned nfds, struct vu_reply *out)
{
	const uint8_t *p = msg + VU_HEADER;
	const size_t n = len - VU_HEADER;
	const uint16_t command = get16(msg + 2);
	const uint32_t flags = get32(msg + 8);
	int ret;

	out->len = 0;
	out->fd = -1;
	if ((flags & TYPE_MASK) != TYPE_COMMAND)
		return false;                    /* we ask nothing, so nobody answers */
	if (nfds && command != VU_DMA_MAP && command != VU_SET_IRQS) {
		ret = -EINVAL;
	} else if (command == VU_VERSION) {
		ret = version(vu, p, n, out);
	} else if (!vu->negotiated) {
		ret = -EPROTO;
	} else {
		switch (command) {
		case VU_DMA_MAP:
			ret = dma_map_msg(vu, p, n, fds, nfds);
			break;
		case VU_DMA_UNMAP:
			ret = dma_unmap_msg(vu, p, n, out);
			break;
		case VU_GET_INFO:
			ret = info(vu, p, n, out);
			break;
		case VU_GET_REGION_INFO:
			ret = region_info(vu, p, n, out);
			break;
		case VU_GET_IRQ_INFO:
			ret = irq_info(vu, p, n, out);
			break;
		case VU_SET_IRQS:
			ret = set_irqs(vu, p, n, fds, nfds);
			break;
		case VU_REGION_READ:
			ret = region_read(vu, p, n, out);
			break;
		case VU_REGION_WRITE:
			ret = region_write(vu, p, n, out);
			break;
		case VU_REGION_WRITE_MULTI:
			ret = region_write_multi(vu, p, n, out);
			break;
		case VU_DEVICE_RESET:
			ret = n ? -EINVAL : vu->ops->reset(vu->dev);
			break;
		default:
			ret = -ENOTSUP;
			break;
		}
	}
	if (flags & FLAG_NO_REPLY)
		return true;
	put16(out->bytes, get16(msg));
	put16(out->bytes + 2, command);
	out->len = VU_HEADER + (ret < 0 ? 0 : (size_t)ret);
	put32(out->bytes + 4, (uint32_t)out->len);
	put32(out->bytes + 8, TYPE_REPLY | (ret < 0 ? FLAG_ERROR : 0));
	put32(out->bytes + 12, ret < 0 ? (uint32_t)-ret : 0);
	return true;
}

/* ---- the connection ---- */

void vu_conn_init(struct vu_conn *c, struct vu *vu, int sock)
{
	c->vu = vu;
	c->sock = sock;
	c->have = c->sent = c->out.len = 0;
	c->nfds = 0;
	c->weighed = false;
	c->hold_until = 0;
	fcntl(sock, F_SETFL, fcntl(sock, F_GETFL) | O_NONBLOCK);
}

static void drop_fds(struct vu_conn *c)
{
	for (unsigned i = 0; i < c->nfds; i++)
		if (c->fds[i] >= 0)
			close(c->fds[i]);
	c->nfds = 0;
}

void vu_conn_close(struct vu_conn *c)
{
	drop_fds(c);
	if (c->sock >= 0)
		close(c->sock);
	c->sock = -1;
}

short vu_conn_events(const struct vu_conn *c)
{
	if (c->sent < c->out.len)
		return POLLOUT;
	return c->hold_until ? 0 : POLLIN;
}

uint64_t vu_conn_wait(const struct vu_conn *c, uint64_t now)
{
	if (!c->hold_until || c->hold_until == UINT64_MAX)
		return UINT64_MAX;
	return c->hold_until > now ? c->hold_until - now : 0;
}

/* 1: got some, 0: would block, -1: end. */
static int receive(struct vu_conn *c, size_t want)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * VU_MAX_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { c->in + c->have, want - c->have };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes) };
	const ssize_t got = recvmsg(c->sock, &mh, MSG_CMSG_CLOEXEC);
	bool fits = true;

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&mh); h; h = CMSG_NXTHDR(&mh, h)) {
		size_t n;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (c->nfds < VU_MAX_FDS) {
				c->fds[c->nfds++] = fd;
			} else {
				close(fd);
				fits = false;
			}
		}
	}
	if (got == 0 || !fits || (mh.msg_flags & MSG_CTRUNC))
		return -1;
	c->have += (size_t)got;
	return 1;
}

static int transmit(struct vu_conn *c)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { c->out.bytes + c->sent, c->out.len - c->sent };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t put;

	if (c->out.fd >= 0) {
		struct cmsghdr *h;

		memset(&control, 0, sizeof(control));
		mh.msg_control = control.bytes;
		mh.msg_controllen = sizeof(control.bytes);
		h = CMSG_FIRSTHDR(&mh);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &c->out.fd, sizeof(int));
	}
	put = sendmsg(c->sock, &mh, MSG_NOSIGNAL);
	if (put < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	c->out.fd = -1;                          /* it went with the first byte */
	c->sent += (size_t)put;
	return 1;
}

/* Does the whole message have to wait? */
static bool held(struct vu_conn *c, uint64_t now)
{
	const uint16_t command = get16(c->in + 2);
	const bool multi = command == VU_REGION_WRITE_MULTI;

	if (!c->weighed) {
		const uint8_t *p = c->in + VU_HEADER + (multi ? 8 : 0);

		c->weighed = true;
		if (c->vu->negotiated && (multi || command == VU_REGION_READ || command == VU_REGION_WRITE) &&
		    c->in + c->have >= p + 16)
			c->hold_until = c->vu->ops->due(c->vu->dev, get32(p + 8));
	}
	if (c->hold_until > now)
		return true;
	c->hold_until = 0;
	return false;
}

bool vu_conn_run(struct vu_conn *c, uint64_t now)
{
	/*
	 * A client that never stops writing must not keep the owner from its other work. But what we have
	 * whole, we handle: nobody would wake us for it.
	 */
	for (unsigned handled = 0; handled < 32;) {
		size_t want = VU_HEADER;
		int got;

		if (c->sent < c->out.len) {
			got = transmit(c);
			if (got <= 0)
				return got == 0;
			continue;
		}
		if (c->have >= VU_HEADER) {
			want = get32(c->in + 4);
			if (want < VU_HEADER || want > VU_MAX_MESSAGE)
				return false;    /* nothing after it can be found */
		}
		if (c->have < VU_HEADER || c->have < want) {
			got = receive(c, want);
			if (got <= 0)
				return got == 0;
			continue;
		}
		if (held(c, now))
			return true;
		c->weighed = false;
		c->have = c->sent = 0;
		handled++;
		if (!vu_handle(c->vu, c->in, want, c->fds, c->nfds, &c->out))
			return false;
		drop_fds(c);
	}
	return true;
}
