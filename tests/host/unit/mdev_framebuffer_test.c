/* SPDX-License-Identifier: MIT */
// link: drivers/exercisers/framebuffer.c
#include "drivers/exercisers/framebuffer.h"

#include "kernel/lib/err.h"
#include "kernel/lib/random.h"
#include "tests/host/host.h"

/* What the driver takes from the PCI layer. */
static uint16_t bar2[2048];
bool pci_matches(const struct pci_dev *d, const struct pci_match *m)
{
	return m->vendor == d->vendor && m->device == d->device &&
	       (d->class_code & m->class_mask) == m->class_code;
}
volatile void *pci_bar_map(struct pci_dev *d, unsigned bar)
{
	return d->bar[bar].size ? (volatile void *)bar2 : NULL;
}

static uint8_t config[256];

static void put(unsigned at, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		config[at + i] = (uint8_t)(v >> (8 * i));
}

/* As samples/vfio-mdev/mdpy.c fills it. */
static void usual(uint32_t width, uint32_t height)
{
	memset(config, 0, sizeof(config));
	config[0x34] = 0x40;
	config[0x40] = 0x09;
	config[0x42] = 0x10;
	memcpy(config + 0x44, "XR24", 4);
	put(0x48, width);
	put(0x4c, height);
}

static void test_mdpy(void)
{
	static const struct { uint32_t w, h; uint64_t size; } types[] = {
		{640, 480, 2u << 20}, {1024, 768, 4u << 20}, {1920, 1080, 8u << 20}, {1, 1, 4}, {2, 1, 8},
	};
	struct random r = random_seed(11);
	struct mdpy_mode m;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		usual(types[i].w, types[i].h);
		CHECK_EQ(mdpy_parse(config, &m), 0);
		CHECK(m.width == types[i].w && m.height == types[i].h && m.format == MDPY_XRGB8888);
		CHECK_EQ(mdpy_bar_size(&m), types[i].size);
	}
	usual(640, 480);
	config[0x40] = 0x05;
	CHECK_EQ(mdpy_parse(config, &m), -ENOENT);
	usual(640, 480);
	config[0x42] = 0x0f;
	CHECK_EQ(mdpy_parse(config, &m), -ENOENT);
	usual(640, 480);
	config[0x44] = 'A';
	CHECK_EQ(mdpy_parse(config, &m), -EINVAL);
	usual(0, 480);
	CHECK_EQ(mdpy_parse(config, &m), -EINVAL);
	usual(640, 0);
	CHECK_EQ(mdpy_parse(config, &m), -EINVAL);
	for (unsigned n = 0; n < 100000; n++) {
		usual((uint32_t)random_u64(&r), (uint32_t)random_u64(&r));
		config[random_below(&r, 256)] = (uint8_t)random_u64(&r);
		if (mdpy_parse(config, &m) == 0 &&
		    (mdpy_bar_size(&m) < 4ull * m.width * m.height || mdpy_bar_size(&m) > 1ull << 30))
			CHECK(0);
	}
}

static void test_who(void)
{
	struct pci_dev d = {.vendor = 0x1b36, .device = 0x000f, .subvendor = 0x1af4, .subdevice = 0x1100,
			    .class_code = 0x038000, .revision = 1};

	CHECK(mdpy_matches(&d) && !mbochs_matches(&d));
	d.subdevice = 0x1101;
	CHECK(!mdpy_matches(&d));
	d.vendor = 0x1234;
	d.device = 0x1111;
	CHECK(mbochs_matches(&d) && mbochs_is_mdev(&d) && !mdpy_matches(&d));
	d.revision = 2;
	CHECK(mbochs_matches(&d) && !mbochs_is_mdev(&d));
	d.class_code = 0x030000;             /* the machine's own VGA is left alone */
	CHECK(!mbochs_matches(&d));
}

static void test_dispi(void)
{
	struct pci_dev d = {.vendor = 0x1234};

	CHECK(!mbochs_map(&d));
	d.bar[2].size = 4096;
	bar2[0x500 / 2 + 10] = 0x40;
	CHECK_EQ(mbochs_read(mbochs_map(&d), DISPI_MEMORY_64K), 0x40);
	mbochs_write(mbochs_map(&d), DISPI_XRES, 640);
	CHECK_EQ(bar2[0x502 / 2], 640);
}

int main(void)
{
	test_mdpy();
	test_who();
	test_dispi();
	return host_done("mdev_framebuffer");
}
