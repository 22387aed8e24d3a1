/* SPDX-License-Identifier: MIT */
// link: drivers/virtio/virtio_cap.c
#include "drivers/virtio/virtio_cap.h"

#include "drivers/virtio/virtio_regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/random.h"
#include "tests/host/host.h"

static uint8_t config[256];
static struct virtio_layout l;

static void put(unsigned at, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		config[at + i] = (uint8_t)(v >> (8 * i));
}

static void cap(unsigned at, unsigned next, unsigned len, unsigned type, unsigned bar, uint32_t off,
		uint32_t size)
{
	config[at] = 0x09;
	config[at + 1] = (uint8_t)next;
	config[at + 2] = (uint8_t)len;
	config[at + 3] = (uint8_t)type;
	config[at + 4] = (uint8_t)bar;
	put(at + 8, off);
	put(at + 12, size);
}

/* As QEMU lays a device out, with a capability of another kind in between. */
static void usual(void)
{
	memset(config, 0, sizeof(config));
	config[0x06] = 0x10;
	config[0x34] = 0x98;
	config[0x98] = 0x11;
	config[0x99] = 0x84;
	cap(0x84, 0x70, 20, 5, 0, 0, 0);
	cap(0x70, 0x60, 20, VIRTIO_PCI_CAP_NOTIFY_CFG, 4, 0x3000, 0x1000);
	put(0x80, 4);
	cap(0x60, 0x50, 16, VIRTIO_PCI_CAP_DEVICE_CFG, 4, 0x2000, 0x1000);
	cap(0x50, 0x40, 16, VIRTIO_PCI_CAP_ISR_CFG, 4, 0x1000, 0x1000);
	cap(0x40, 0, 16, VIRTIO_PCI_CAP_COMMON_CFG, 4, 0, 0x1000);
}

static void test_usual(void)
{
	usual();
	CHECK_EQ(virtio_parse_caps(config, &l), 0);
	CHECK(l.common.present && l.notify.present && l.isr.present && l.device.present);
	CHECK_EQ(l.common.bar, 4);
	CHECK_EQ(l.common.offset, 0);
	CHECK_EQ(l.notify.offset, 0x3000);
	CHECK_EQ(l.notify_multiplier, 4);
	CHECK_EQ(l.device.offset, 0x2000);
	CHECK_EQ(l.device.length, 0x1000);
}

static void test_first_counts(void)
{
	usual();
	cap(0xb0, 0x98, 16, VIRTIO_PCI_CAP_COMMON_CFG, 2, 0x100, 0x38);
	config[0x34] = 0xb0;
	CHECK_EQ(virtio_parse_caps(config, &l), 0);
	CHECK_EQ(l.common.bar, 2);
	/* … but not where it names a reserved BAR. */
	config[0xb4] = 6;
	CHECK_EQ(virtio_parse_caps(config, &l), 0);
	CHECK_EQ(l.common.bar, 4);
}

static void test_refused(void)
{
	static const struct { unsigned at; uint8_t v; const char *what; } bad[] = {
		{0x06, 0x00, "no capability list"},
		{0x34, 0x00, "empty list"},
		{0x34, 0x20, "a pointer into the header"},
		{0x43, 0x00, "no common structure"},
		{0x73, 0x00, "no notify structure"},
		{0x53, 0x00, "no ISR structure"},
		{0x42, 15, "common shorter than a capability"},
		{0x72, 16, "notify without its multiplier"},
		{0x44, 6, "a BAR that there is not"},
		{0x4d, 0, "common of length 0"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		usual();
		config[bad[i].at] = bad[i].v;
		CHECK_EQ(virtio_parse_caps(config, &l), -ENOENT);
		if (virtio_parse_caps(config, &l) != -ENOENT)
			printf("  %s\n", bad[i].what);
	}
	usual();
	put(0x4c, VIRTIO_COMMON_SIZE - 1);
	CHECK_EQ(virtio_parse_caps(config, &l), -ENOENT);
	usual();
	put(0x48, 0xfffffff0u);
	put(0x4c, 0x100);
	CHECK_EQ(virtio_parse_caps(config, &l), -ENOENT);
}

static void test_hostile(void)
{
	struct random r = random_seed(1);

	/* A loop, and a capability that runs over the end of configuration space. */
	usual();
	config[0x41] = 0x40;
	CHECK_EQ(virtio_parse_caps(config, &l), 0);
	usual();
	cap(0xf0, 0x98, 20, VIRTIO_PCI_CAP_NOTIFY_CFG, 4, 0, 0x1000);
	config[0x34] = 0xf0;
	CHECK_EQ(virtio_parse_caps(config, &l), 0);
	CHECK_EQ(l.notify.offset, 0x3000);
	for (unsigned n = 0; n < 200000; n++) {
		usual();
		for (unsigned k = 0; k < 1 + n % 16; k++)
			config[random_below(&r, 256)] = (uint8_t)random_u64(&r);
		if (virtio_parse_caps(config, &l) == 0 &&
		    (l.common.bar > 5 || l.notify.bar > 5 || l.common.length < VIRTIO_COMMON_SIZE))
			CHECK(0);
	}
	for (unsigned n = 0; n < 100000; n++) {
		for (unsigned i = 0; i < sizeof(config); i += 8) {
			const uint64_t x = random_u64(&r);

			memcpy(config + i, &x, 8);
		}
		(void)virtio_parse_caps(config, &l);
	}
}

int main(void)
{
	test_usual();
	test_first_counts();
	test_refused();
	test_hostile();
	return host_done("virtio_cap");
}
