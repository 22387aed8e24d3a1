/* SPDX-License-Identifier: MIT */
/*
 * vgpu: a model of NVIDIA's vGPUs for QEMU's vfio-user-pci (10.1 or newer), for machines without one.
 *
 *     vgpu --kind p40-2a-mdev --socket /tmp/vgpu0 &
 *     qemu … -object memory-backend-memfd,id=ram,size=512M,share=on -machine …,memory-backend=ram \
 *         -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/tmp/vgpu0"},"addr":"0x10"}'
 *
 * One process, one device, one client: it ends with its client, with its parent, or on SIGTERM, and
 * takes its socket along.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/models/vgpu.h"

enum { STATUS_OK = 0, STATUS_FAULT = 1, STATUS_USAGE = 2, STATUS_DIED = 3 };

static struct vgpu device;
static struct vu vu;
static struct vu_conn conn;

static void usage(FILE *to)
{
	fputs("vgpu --socket PATH [--kind NAME] [--break NAME[=N],…]…\n"
	      "  --list-kinds, --list-breaks     what there is\n"
	      "  --bar0-size, --bar1-size, --bar3-size SIZE   a power of two, as 256M\n"
	      "  --no-mmap                       BAR1 is trapped too\n"
	      "  --pci-id VVVV:DDDD, --subsystem VVVV:DDDD    other IDs\n"
	      "  --ptimer-start NS               what PTIMER says at the start (0)\n"
	      "  --verbose                       every message on standard error\n"
	      "  --stats                         one line of counts on standard error at the end\n"
	      "It prints one line when it listens. Status: 0 the client left or SIGTERM, 1 fault, 2 usage, 3 "
	      "die-after.\n",
	      to);
}

static bool parse_size(const char *text, uint64_t *out)
{
	char *end;
	uint64_t n;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoull(text, &end, 0);
	if (*end && strchr("kKmMgG", *end)) {
		const unsigned shift = *end == 'k' || *end == 'K' ? 10 : *end == 'm' || *end == 'M' ? 20 : 30;

		if (n >> (64 - shift))
			return false;
		n <<= shift;
		end++;
	}
	*out = n;
	return !*end && !errno && n >= 4096 && !(n & (n - 1)) && n <= 1ull << 40;
}

static bool parse_ids(const char *text, uint16_t *a, uint16_t *b)
{
	unsigned x, y;
	char more;

	if (sscanf(text, "%4x:%4x%c", &x, &y, &more) != 2)
		return false;
	*a = (uint16_t)x;
	*b = (uint16_t)y;
	return true;
}

/* Listens at path, where nothing may be yet: who listens at a socket that is there, only a connection tells.
 */
static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "vgpu: %s: longer than the %zu bytes that a socket's path may have\n", path,
			sizeof(addr.sun_path) - 1);
		return -1;
	}
	memcpy(addr.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		fprintf(stderr, "vgpu: %s: %s\n", path, strerror(errno));
	} else if (listen(fd, 1) != 0) {
		fprintf(stderr, "vgpu: %s: %s\n", path, strerror(errno));
		unlink(path);
	} else {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

static int min_ms(uint64_t a, uint64_t b)
{
	const uint64_t ns = a < b ? a : b;

	return ns == UINT64_MAX ? -1 : ns > 1000000000000ull ? 1000000 : (int)((ns + 999999) / 1000000);
}

/* Until the client leaves or a signal comes. */
static int serve(int listener, int signals)
{
	bool connected = false;

	for (;;) {
		const uint64_t work = vgpu_run(&device);
		struct pollfd p[3] = {
			{ signals, POLLIN, 0 },
			{ connected ? conn.sock : listener, connected ? vu_conn_events(&conn) : POLLIN, 0 },
			{ device.unmask_fd, POLLIN, 0 },
		};
		const uint64_t held = connected ? vu_conn_wait(&conn, now_ns()) : UINT64_MAX;

		if (poll(p, 3, min_ms(work, held)) < 0 && errno != EINTR)
			return STATUS_FAULT;
		if (p[0].revents)
			return STATUS_OK;
		if (p[2].revents)
			vgpu_unmask(&device);
		if (!connected) {
			int sock;

			if (!p[1].revents)
				continue;
			sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			if (sock < 0)
				continue;
			close(listener);     /* no second client */
			vu_conn_init(&conn, &vu, sock);
			connected = true;
			continue;
		}
		if ((p[1].revents & (POLLHUP | POLLERR)) && !(p[1].revents & POLLIN))
			return STATUS_OK;
		if (!vu_conn_run(&conn, now_ns()))
			return STATUS_OK;
		if (device.dead)
			return STATUS_DIED;
	}
}

static int signal_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static bool fits(struct kind *k, const struct breaks *brk)
{
	const uint64_t n = brk->arg[BRK_BAR_SMALL];

	if (broken(brk, BRK_BAR_SMALL) && (n >= PCI_BARS || k->bar[n].type == BAR_NONE)) {
		fprintf(stderr, "vgpu: %s has no BAR %" PRIu64 "\n", k->name, n);
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	enum {
		O_KIND = 256,
		O_SOCKET,
		O_BREAK,
		O_KINDS,
		O_BREAKS,
		O_BAR0,
		O_BAR1,
		O_BAR3,
		O_NO_MMAP,
		O_ID,
		O_SUB,
		O_START,
		O_VERBOSE,
		O_STATS,
		O_HELP
	};
	static const struct option options[] = {
		{"kind", 1, NULL, O_KIND},          {"socket", 1, NULL, O_SOCKET},
		{"break", 1, NULL, O_BREAK},        {"list-kinds", 0, NULL, O_KINDS},
		{"list-breaks", 0, NULL, O_BREAKS}, {"bar0-size", 1, NULL, O_BAR0},
		{"bar1-size", 1, NULL, O_BAR1},     {"bar3-size", 1, NULL, O_BAR3},
		{"no-mmap", 0, NULL, O_NO_MMAP},    {"pci-id", 1, NULL, O_ID},
		{"subsystem", 1, NULL, O_SUB},      {"ptimer-start", 1, NULL, O_START},
		{"verbose", 0, NULL, O_VERBOSE},    {"stats", 0, NULL, O_STATS},
		{"help", 0, NULL, O_HELP},          {NULL, 0, NULL, 0},
	};
	const char *path = NULL, *kind = "p40-2a-mdev", *bad = NULL;
	const char *size[PCI_BARS] = { NULL }, *ids = NULL, *sub = NULL;
	const pid_t parent = getppid();
	uint64_t start = 0;
	int opt, listener, signals, status, err;
	bool stats = false;

	device.map_bar1 = true;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case O_KIND:
			kind = optarg;
			break;
		case O_SOCKET:
			path = optarg;
			break;
		case O_BREAK:
			if (breaks_add(&device.brk, optarg))
				bad = optarg;
			break;
		case O_KINDS:
			for (unsigned n = 0; kind_at(n); n++)
				printf("%-14s %s\n", kind_at(n)->name, kind_at(n)->text);
			return STATUS_OK;
		case O_BREAKS:
			breaks_list(stdout);
			return STATUS_OK;
		case O_BAR0:
		case O_BAR1:
			size[opt - O_BAR0] = optarg;
			break;
		case O_BAR3:
			size[3] = optarg;
			break;
		case O_NO_MMAP:
			device.map_bar1 = false;
			break;
		case O_ID:
			ids = optarg;
			break;
		case O_SUB:
			sub = optarg;
			break;
		case O_START: {
			char *end;

			start = strtoull(optarg, &end, 0);
			if (*end || !*optarg)
				bad = optarg;
			break;
		}
		case O_VERBOSE:
			device.verbose = true;
			break;
		case O_STATS:
			stats = true;
			break;
		case O_HELP:
			usage(stdout);
			return STATUS_OK;
		default:
			usage(stderr);
			return STATUS_USAGE;
		}
	}
	if (!kind_find(kind)) {
		bad = kind;
	} else {
		device.kind = *kind_find(kind);
		for (unsigned n = 0; n < PCI_BARS; n++)
			if (size[n] && !parse_size(size[n], &device.kind.bar[n].size))
				bad = size[n];
		if (ids && !parse_ids(ids, &device.kind.vendor, &device.kind.device))
			bad = ids;
		if (sub && !parse_ids(sub, &device.kind.sub_vendor, &device.kind.sub_device))
			bad = sub;
	}
	if (bad || !path || optind < argc || !fits(&device.kind, &device.brk)) {
		fprintf(stderr, "vgpu: %s\n",
			bad             ? bad
			: optind < argc ? argv[optind]
			: !path         ? "no --socket"
					: "see above");
		usage(stderr);
		return STATUS_USAGE;
	}

	signals = signal_fd();
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (signals < 0 || getppid() != parent)
		return STATUS_FAULT;
	err = vgpu_init(&device, start);
	if (err) {
		fprintf(stderr, "vgpu: %s\n", strerror(-err));
		return STATUS_FAULT;
	}
	vu_init(&vu, &vgpu_ops, &device);
	conn.sock = -1;
	listener = listen_at(path);
	if (listener < 0) {
		vgpu_free(&device);
		return STATUS_FAULT;
	}
	printf("vgpu: %s at %s, breaks ", kind, path);
	breaks_print(&device.brk, stdout);
	printf("\n");
	fflush(stdout);

	status = serve(listener, signals);
	unlink(path);
	vu_conn_close(&conn);
	if (stats)
		vgpu_stats(&device);
	vgpu_free(&device);
	close(signals);
	return status;
}
