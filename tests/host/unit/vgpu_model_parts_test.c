/* SPDX-License-Identifier: MIT */
// link: tests/models/config.c tests/models/breaks.c tests/models/dma.c tests/models/json.c
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* The vGPU model's config spaces, its DMA table, and the JSON it reads. */

#include "tests/host/host.h"
#include "tests/models/config.h"
#include "tests/models/dma.h"
#include "tests/models/json.h"

static struct config cfg;
static struct breaks wrong;

static void fresh(const char *kind, const char *breaks)
{
	memset(&wrong, 0, sizeof(wrong));
	CHECK_EQ(breaks_add(&wrong, breaks), 0);
	config_init(&cfg, kind_find(kind), &wrong);
}

static uint32_t rd(unsigned off, size_t n)
{
	uint32_t v = 0;

	config_read(&cfg, off, &v, n);
	return v;
}

static void wr(unsigned off, uint32_t v, size_t n)
{
	config_write(&cfg, off, &v, n);
}

/* Where the chain has id, 0 if nowhere; at most 48 steps. */
static unsigned capability(uint8_t id)
{
	unsigned at = rd(0x34, 1);

	for (unsigned i = 0; at && i < 48; i++, at = rd(at + 1, 1))
		if (rd(at, 1) == id)
			return at;
	return 0;
}

static uint32_t size_mask(unsigned off)
{
	wr(off, 0xffffffff, 4);
	return rd(off, 4);
}

static void mdev_config(void)
{
	fresh("p40-2a-mdev", "");
	CHECK_EQ(rd(0, 4), 0x1b3810de);
	CHECK_EQ(rd(0x2c, 4), 0x11f110de);
	CHECK_EQ(rd(8, 4), 0x030000a1);
	CHECK_EQ(rd(0x3d, 1), 1);
	CHECK_EQ(rd(4, 4), 0x00100000);
	CHECK_EQ(capability(0x05), 0x68);
	CHECK_EQ(capability(0x09), 0xd0);
	CHECK_EQ(capability(0x10), 0);
	CHECK_EQ(capability(0x11), 0);
	CHECK_EQ(rd(0x6a, 2), 0x0080);                       /* one message, 64-bit, no mask */
	CHECK_EQ(size_mask(0x10), 0xff000000);
	CHECK_EQ(size_mask(0x14), 0xf000000c);
	CHECK_EQ(size_mask(0x18), 0xffffffff);
	CHECK_EQ(size_mask(0x1c), 0xfe000004);
	CHECK_EQ(size_mask(0x24), 0);
	CHECK_EQ(size_mask(0x30), 0);
	wr(4, 0xffff, 2);
	CHECK_EQ(rd(4, 2), 0x0406);                          /* no I/O bit: no I/O BAR */
	CHECK(config_bus_master(&cfg) && config_intx_disabled(&cfg));
	wr(0x68, 0xff, 1);
	CHECK_EQ(rd(0x68, 1), 0x05);
	wr(0x6a, 0x71, 2);
	CHECK(config_msi_enabled(&cfg));
	wr(0x6c, 0xffffffff, 4);
	CHECK_EQ(rd(0x6c, 4), 0xfffffffc);
	wr(0x74, 0xffffffff, 4);
	CHECK_EQ(rd(0x74, 4), 0xffff);
	CHECK_EQ(config_msi_offered(&cfg), 1);
	config_intx_status(&cfg, true);
	CHECK_EQ(rd(6, 2), 0x0018);
	wr(6, 0xffff, 2);
	CHECK_EQ(rd(6, 2), 0x0018);                          /* not the guest's to clear */
	CHECK_EQ(rd(0x100, 4), 0);
}

static void other_configs(void)
{
	uint8_t rom[65536], sum = 0;

	fresh("gp102", "");
	CHECK_EQ(size_mask(0x1c), 0xfe00000c);               /* prefetchable here */
	CHECK_EQ(size_mask(0x24), 0xffffff81);
	CHECK_EQ(size_mask(0x30), 0xffff0001);
	CHECK_EQ(capability(0x01), 0x60);
	CHECK_EQ(capability(0x05), 0x68);
	CHECK_EQ(capability(0x10), 0x78);
	wr(4, 0xffff, 2);
	CHECK_EQ(rd(4, 2), 0x0407);
	rom_make(kind_find("gp102"), rom);
	CHECK(rom[0] == 0x55 && rom[1] == 0xaa && memcmp(rom + rom[0x18], "PCIR", 4) == 0);
	for (unsigned i = 0; i < 512u * rom[2]; i++)
		sum = (uint8_t)(sum + rom[i]);
	CHECK_EQ(sum, 0);
	fresh("tu-vf", "");
	CHECK_EQ(rd(0x3d, 1), 0);
	CHECK_EQ(capability(0x11), 0x7c);
	CHECK_EQ(capability(0x05), 0);
	CHECK_EQ(rd(0x7e, 2), 5);
	wr(0x7e, 0xffff, 2);
	CHECK(config_msix_enabled(&cfg) && config_msix_masked(&cfg));
	for (unsigned n = 0; kind_at(n); n++)
		CHECK(kind_find(kind_at(n)->name) == kind_at(n));
	CHECK(!kind_find("p40") && !kind_find(""));
}

static void broken_configs(void)
{
	fresh("p40-2a-mdev", "no-msi-cap");
	CHECK_EQ(capability(0x05), 0);
	CHECK_EQ(capability(0x09), 0xd0);
	wr(0x6a, 1, 2);
	CHECK(!config_msi_enabled(&cfg));
	fresh("p40-2a-mdev", "msi-register-stuck");
	CHECK_EQ(capability(0x05), 0x68);
	wr(0x6a, 1, 2);
	wr(0x6c, 0xffffffff, 4);
	CHECK_EQ(rd(0x6a, 2), 0x80);
	CHECK_EQ(rd(0x6c, 4), 0);
	fresh("p40-2a-mdev", "wrong-vector");
	CHECK_EQ(config_msi_offered(&cfg), 2);
	fresh("p40-2a-mdev", "no-intx-pin");
	CHECK_EQ(rd(0x3d, 1), 0);
}

static uint32_t word_at(struct dma *d, uint64_t iova)
{
	uint32_t v = 0xeeeeeeee;

	return dma_access(d, iova, &v, 4, false) ? v : 0xffffffff;
}

static void dma(void)
{
	const int fd = memfd_create("ram", MFD_CLOEXEC), other = memfd_create("other", MFD_CLOEXEC);
	uint32_t v = 0x12345678;
	int pipes[2];
	struct dma d;

	CHECK(fd >= 0 && other >= 0 && ftruncate(fd, 0x10000) == 0 && ftruncate(other, 0x1000) == 0);
	CHECK(pwrite(fd, &v, 4, 0x3000) == 4 && pipe(pipes) == 0);
	dma_init(&d);
	CHECK_EQ(dma_unmap(&d, 0x1000, 0x1000), 0);          /* nothing there: nothing to do */
	CHECK(!dma_access(&d, 0, &v, 4, false));
	CHECK_EQ(dma_map(&d, 0x100000, 0x2000, 0x3000, DMA_READ | DMA_WRITE, fd), 0);
	CHECK_EQ(word_at(&d, 0x100000), 0x12345678);
	v = 0xcafef00d;
	CHECK(dma_access(&d, 0x101ffc, &v, 4, true));
	CHECK(pread(fd, &v, 4, 0x4ffc) == 4 && v == 0xcafef00d);
	CHECK(!dma_access(&d, 0x101ffe, &v, 4, true));       /* over its end */
	CHECK(!dma_access(&d, 0x0ffffc, &v, 4, false));
	CHECK_EQ(d.blocked, 3);
	/* The next one is another file: an access may cross from one to the other. */
	CHECK_EQ(dma_map(&d, 0x102000, 0x1000, 0, DMA_READ, other), 0);
	CHECK(dma_access(&d, 0x101ffe, &v, 4, false));
	CHECK(!dma_access(&d, 0x102000, &v, 4, true));       /* read-only */
	CHECK_EQ(dma_map(&d, 0x101000, 0x1000, 0, DMA_READ, fd), -EEXIST);
	CHECK_EQ(dma_map(&d, 0xff000, 0x1000000, 0, DMA_READ, fd), -EEXIST);
	CHECK_EQ(dma_map(&d, 0x200000, 0, 0, DMA_READ, fd), -EINVAL);
	CHECK_EQ(dma_map(&d, 0x200800, 0x1000, 0, DMA_READ, fd), -EINVAL);
	CHECK_EQ(dma_map(&d, 0xfffffffffffff000, 0x2000, 0, DMA_READ, fd), -EINVAL);
	CHECK_EQ(dma_map(&d, 0x200000, 0x1000, 0xfffffffffffff000, DMA_READ, fd), -EINVAL);
	CHECK_EQ(dma_map(&d, 0x200000, 0x1000, 0, 4, fd), -EINVAL);
	CHECK_EQ(dma_map(&d, 0x200000, 0x1000, 0, DMA_READ, pipes[0]), -EINVAL);
	CHECK_EQ(dma_map(&d, 0x200000, 0x1000, 0, DMA_READ, -1), 0);
	CHECK(!dma_access(&d, 0x200000, &v, 4, false));      /* no file came with it */
	CHECK_EQ(dma_map(&d, 0xfffffffffffff000, 0x1000, 0, DMA_READ, fd), 0);
	CHECK(dma_access(&d, 0xfffffffffffffffc, &v, 4, false));
	CHECK(!dma_access(&d, 0xfffffffffffffffe, &v, 4, false));
	/* A mapping can only go whole. */
	CHECK_EQ(dma_unmap(&d, 0x100000, 0x1000), -EINVAL);
	CHECK_EQ(dma_unmap(&d, 0xff000, 0x2000), -EINVAL);
	CHECK_EQ(dma_unmap(&d, 0x1000, 0), -EINVAL);
	CHECK_EQ(d.count, 4);
	CHECK_EQ(dma_unmap(&d, 0xf0000, 0x20000), 0);
	CHECK_EQ(d.count, 2);
	CHECK(!dma_access(&d, 0x100000, &v, 4, false));
	/* The file became shorter than what was promised. */
	CHECK_EQ(dma_map(&d, 0x300000, 0x10000, 0, DMA_READ | DMA_WRITE, fd), 0);
	CHECK(ftruncate(fd, 0x1000) == 0);
	CHECK(dma_access(&d, 0x300000, &v, 4, false));
	CHECK(!dma_access(&d, 0x308000, &v, 4, false));
	dma_unmap_all(&d);
	CHECK_EQ(d.count, 0);
	/* One open file, however many pages of it are mapped. */
	for (uint64_t i = 0; i < 500; i++)
		CHECK_EQ(dma_map(&d, (499 - i) * 0x2000, 0x1000, 0, DMA_READ, fd), 0);
	CHECK_EQ(d.files[0].users, 500);
	CHECK_EQ(d.files[1].users, 0);
	for (uint64_t i = 0; i < 500; i++)
		CHECK(dma_access(&d, i * 0x2000 + 0xffc, &v, 4, false) && !dma_access(&d, i * 0x2000 + 0x1000, &v, 4, false));
	dma_free(&d);
	for (uint64_t i = 0; i < DMA_FILES; i++) {
		const int each = memfd_create("each", MFD_CLOEXEC);

		CHECK_EQ(dma_map(&d, i << 12, 0x1000, 0, DMA_READ, each), 0);
		close(each);
	}
	CHECK_EQ(dma_map(&d, 1ull << 40, 0x1000, 0, DMA_READ, fd), -ENOSPC);
	dma_free(&d);
	close(fd);
	close(other);
	close(pipes[0]);
	close(pipes[1]);
}

static void json(void)
{
	static const char *const path[] = { "capabilities", "write_multiple" };
	static const char *const good[] = {
		"{}", "[]", "0", "-1.5e3", "true", " null ", "\"a\\\"b\"", "{\"a\":[1,{\"b\":false}],\"c\":\"\"}",
	};
	static const char *const bad[] = {
		"", "{", "}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "[1,]", "tru", "\"abc", "\"a\\", "{} {}", "{1:2}", "[[[[", "nul",
		"\"a\nb\"",
	};
	char deep[64];

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(json_valid(good[i], strlen(good[i])));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!json_valid(bad[i], strlen(bad[i])));
	memset(deep, '[', 32);
	memset(deep + 32, ']', 32);
	CHECK(!json_valid(deep, 64));
	CHECK(json_valid(deep + 17, 30));
#define AT(text) json_true_at(text, strlen(text), path, 2)
	CHECK(AT("{\"capabilities\":{\"write_multiple\":true}}"));
	CHECK(AT("{\"x\":[true],\"capabilities\":{\"a\":{\"write_multiple\":1},\"write_multiple\" : true}}"));
	CHECK(!AT("{\"capabilities\":{\"write_multiple\":false}}"));
	CHECK(!AT("{\"capabilities\":{\"a\":{\"write_multiple\":true}}}"));
	CHECK(!AT("{\"write_multiple\":true}"));
	CHECK(!AT("{\"capabilities\":true}"));
	CHECK(!AT("{\"capabilities\":[true]}"));
	CHECK(!AT("{\"capabilities\":{\"write_multiple\":true}"));
}

int main(void)
{
	mdev_config();
	other_configs();
	broken_configs();
	dma();
	json();
	return host_done("vgpu_model_parts");
}
