/* SPDX-License-Identifier: MIT */
// link: boot/handoff.c kernel/lib/strlcpy.c
#include "boot/handoff.h"
#include "boot/boot_edit.h"
#include "kernel/lib/err.h"
#include "tests/host/host.h"

#define BASE 0x10000u
#define SIZE 0x4000u
static uint8_t ram[SIZE] __attribute__((aligned(8)));
static struct boot_info bi;

static const uint8_t *at(void *arg, uint64_t pa, size_t len)
{
	(void)arg;
	if (pa < BASE || pa - BASE > SIZE || len > SIZE - (pa - BASE))
		return NULL;
	return ram + (pa - BASE);
}
static const struct handoff_mem mem = {.at = at};

static void w32(unsigned off, uint64_t v) { uint32_t x = (uint32_t)v; memcpy(ram + off, &x, 4); }
static void w64(unsigned off, uint64_t v) { memcpy(ram + off, &v, 8); }

static void fresh(void)
{
	memset(ram, 0, sizeof(ram));
	memset(&bi, 0xa5, sizeof(bi));
	bi.tsc_entry = 77;
}

/* ---- PVH ---- */

#define PVH_MAP 0x400
#define PVH_CMD 0x800

static void e820(unsigned off, uint64_t base, uint64_t size, uint32_t type)
{
	w64(off, base);
	w64(off + 8, size);
	w32(off + 16, type);
}

static void pvh_good(void)
{
	fresh();
	w32(0, PVH_START_MAGIC);
	w32(4, 1);
	w64(24, BASE + PVH_CMD);
	w64(32, 0xf5a10);
	w64(40, BASE + PVH_MAP);
	w32(48, 4);
	e820(PVH_MAP, 0, 0x9fc00, 1);
	e820(PVH_MAP + 24, 0x9fc00, 0x400, 2);
	e820(PVH_MAP + 48, 0x100000, 0x7f00000, 1);
	e820(PVH_MAP + 72, 0x8000000, 0x10000, 3);
	strcpy((char *)ram + PVH_CMD, "only=apic.* seed=3");
}

static int pvh(const char **why) { return pvh_handoff(&mem, BASE, &bi, why); }

static void test_pvh(void)
{
	const char *why;

	pvh_good();
	CHECK_EQ(pvh(&why), 0);
	CHECK_EQ(bi.magic, BOOT_INFO_MAGIC);
	CHECK_EQ(bi.path, BOOT_PVH);
	CHECK_EQ(bi.tsc_entry, 77);
	CHECK_EQ(bi.rsdp, 0xf5a10);
	CHECK_EQ(bi.mem_count, 4);
	CHECK_EQ(bi.mem[2].base, 0x100000);
	CHECK_EQ(bi.mem[2].size, 0x7f00000);
	CHECK_EQ(bi.mem[2].type, BOOT_MEM_RAM);
	CHECK_EQ(bi.mem[1].type, BOOT_MEM_RESERVED);
	CHECK_EQ(bi.mem[3].type, BOOT_MEM_ACPI);
	CHECK_EQ(bi.efi_reset_system, 0);
	CHECK_EQ(bi.cmdline_truncated, 0);
	CHECK(strcmp(bi.cmdline, "only=apic.* seed=3") == 0);

	/* a line end in -append is no second source */
	strcpy((char *)ram + PVH_CMD, "list\nseed=3");
	CHECK_EQ(pvh(&why), 0);
	CHECK(strcmp(bi.cmdline, "list seed=3") == 0);
	/* 2047 bytes fit, 2048 do not and say so */
	memset(ram + PVH_CMD, 'x', 2047);
	ram[PVH_CMD + 2047] = 0;
	CHECK_EQ(pvh(&why), 0);
	CHECK_EQ(strlen(bi.cmdline), 2047);
	CHECK_EQ(bi.cmdline_truncated, 0);
	ram[PVH_CMD + 2047] = 'x';
	CHECK_EQ(pvh(&why), 0);
	CHECK_EQ(strlen(bi.cmdline), 2047);
	CHECK_EQ(bi.cmdline_truncated, 1);
	/* none, and one that cannot be read */
	w64(24, 0);
	CHECK_EQ(pvh(&why), 0);
	CHECK(bi.cmdline[0] == 0 && bi.cmdline_truncated == 0);
	w64(24, 0xffffffffffff0000);
	CHECK_EQ(pvh(&why), 0);
	CHECK_EQ(bi.cmdline_truncated, 1);
}

static void test_pvh_bad(void)
{
	const char *why;

	pvh_good();
	w32(0, PVH_START_MAGIC + 1);
	CHECK_EQ(pvh(&why), (uint64_t)-EINVAL);
	CHECK(*why);
	pvh_good();
	w32(4, 0);
	CHECK(pvh(&why) == -EINVAL && strstr(why, "version 0"));
	pvh_good();
	w32(48, 0);
	CHECK(pvh(&why) == -EINVAL && strstr(why, "memory map"));
	pvh_good();
	w32(48, 0xffffffff);
	CHECK(pvh(&why) == -EINVAL && strstr(why, "memory map"));
	pvh_good();
	w64(40, BASE + SIZE - 24);
	CHECK(pvh(&why) == -EINVAL && strstr(why, "memory map"));
	CHECK_EQ(pvh_handoff(&mem, 0, &bi, &why), (uint64_t)-EINVAL);
	CHECK_EQ(handoff_identity.at(NULL, 0, 8) == NULL, 1);
	CHECK_EQ(handoff_identity.at(NULL, 0xfffffffc, 8) == NULL, 1);
	CHECK_EQ(handoff_identity.at(NULL, 0xfffffff8, 8) != NULL, 1);
	CHECK_EQ(handoff_identity.at(NULL, 0x100000000, 1) == NULL, 1);
}

/* ---- Multiboot2 ---- */

static unsigned mb2_end;

static unsigned tag(uint32_t type, uint32_t size)
{
	const unsigned off = mb2_end;

	w32(off, type);
	w32(off + 4, size);
	mb2_end = (off + size + 7) & ~7u;
	return off;
}

static void mb2_finish(void)
{
	tag(0, 8);
	w32(0, mb2_end);
}

#define MOD 0x2000

static void mb2_good(void)
{
	unsigned o;

	fresh();
	mb2_end = 8;
	o = tag(1, 8 + 9);
	strcpy((char *)ram + o + 8, "seed=3 \n");
	o = tag(2, 8 + 10);
	strcpy((char *)ram + o + 8, "GRUB 2.06");
	o = tag(3, 16 + 10);
	w32(o + 8, BASE + MOD);
	w32(o + 12, BASE + MOD + 11);
	strcpy((char *)ram + o + 16, "plumb.cfg");
	memcpy(ram + MOD, "only=x\nlist", 11);
	o = tag(6, 16 + 3 * 24);
	w32(o + 8, 24);
	e820(o + 16, 0, 0xa0000, 1);
	e820(o + 40, 0xf0000, 0x10000, 2);
	e820(o + 64, 0x100000, 0x10000000, 1);
	o = tag(14, 8 + 20);
	memcpy(ram + o + 8, "RSD PTR ", 8);
	mb2_finish();
}

static int mb2(const char **why) { return multiboot2_handoff(&mem, BASE, &bi, why); }

static void test_mb2(void)
{
	const char *why;
	uint64_t loader = 0;
	unsigned o;

	mb2_good();
	CHECK_EQ(mb2(&why), 0);
	CHECK_EQ(bi.path, BOOT_MULTIBOOT2);
	CHECK_EQ(bi.tsc_entry, 77);
	CHECK(strcmp(bi.loader, "GRUB 2.06") == 0);
	CHECK(strcmp(bi.cmdline, "seed=3  \nonly=x\nlist") == 0);
	CHECK_EQ(bi.cmdline_truncated, 0);
	CHECK_EQ(memcmp(ram + (bi.rsdp - BASE), "RSD PTR ", 8), 0);
	/* the information's page is cut out of the RAM around it */
	for (unsigned i = 0; i < bi.mem_count; i++) {
		if (bi.mem[i].type != BOOT_MEM_LOADER)
			continue;
		CHECK_EQ(bi.mem[i].base, BASE);
		loader += bi.mem[i].size;
	}
	CHECK_EQ(loader, 0x1000);
	CHECK_EQ(bi.mem_count, 5);

	/* the ACPI 2.0 RSDP wins, wherever it stands */
	mb2_good();
	mb2_end -= 8;
	o = tag(15, 8 + 36);
	tag(14, 8 + 20);
	mb2_finish();
	CHECK_EQ(mb2(&why), 0);
	CHECK_EQ(bi.rsdp, BASE + o + 8);
	/* one that is too short for an RSDP does not count */
	mb2_good();
	mb2_end -= 8;
	tag(15, 8 + 20);
	mb2_finish();
	CHECK_EQ(mb2(&why), 0);
	CHECK(bi.rsdp != 0);
	CHECK_EQ(memcmp(ram + (bi.rsdp - BASE), "RSD PTR ", 8), 0);
	/* a module of another name, and one that cannot be read */
	mb2_good();
	memcpy(ram + 8 + 24 + 24 + 16, "plomb.cfg", 9);
	CHECK_EQ(mb2(&why), 0);
	CHECK(strchr(bi.cmdline, '\n') == NULL);
	mb2_good();
	w32(8 + 24 + 24 + 12, BASE + SIZE + 1);
	CHECK_EQ(mb2(&why), 0);
	CHECK_EQ(bi.cmdline_truncated, 1);
}

static void test_mb2_bad(void)
{
	const char *why;

	mb2_good();
	w32(0, 8);
	CHECK(mb2(&why) == -EINVAL && *why);
	mb2_good();
	w32(0, 0x7fffffff);
	CHECK(mb2(&why) == -EINVAL && *why);
	mb2_good();
	w32(12, 7); /* a tag smaller than its head would never end the walk */
	CHECK(mb2(&why) == -EINVAL && strstr(why, "past the end"));
	mb2_good();
	w32(12, 0xfffffff9);
	CHECK(mb2(&why) == -EINVAL && strstr(why, "past the end"));
	mb2_good();
	w32(0, mb2_end - 8);
	CHECK(mb2(&why) == -EINVAL && strstr(why, "end tag"));
	fresh();
	mb2_end = 8;
	mb2_finish();
	CHECK(mb2(&why) == -EINVAL && strstr(why, "memory map"));
	mb2_good();
	CHECK_EQ(multiboot2_handoff(&mem, BASE + 4, &bi, &why), (uint64_t)-EINVAL);
}

/* ---- edits ---- */

static uint64_t total(uint32_t type)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < bi.mem_count; i++)
		if (bi.mem[i].type == type)
			n += bi.mem[i].size;
	return n;
}

static void test_map(void)
{
	memset(&bi, 0, sizeof(bi));
	boot_map_add(&bi, 0x1000, 0x1000, BOOT_MEM_RAM, 0);
	boot_map_add(&bi, 0x2000, 0x1000, BOOT_MEM_RAM, 0);
	CHECK_EQ(bi.mem_count, 1);
	boot_map_add(&bi, 0x3000, 0x1000, BOOT_MEM_RAM, 5);
	boot_map_add(&bi, 0x4000, 0, BOOT_MEM_RAM, 5);
	CHECK_EQ(bi.mem_count, 2);
	boot_map_add(&bi, UINT64_MAX - 0xfff, 0x2000, BOOT_MEM_RAM, 0);
	CHECK_EQ(bi.mem_count, 2);
	CHECK_EQ(bi.mem_truncated, 1);
	boot_map_add(&bi, UINT64_MAX - 0xfff, 0x1000, BOOT_MEM_BAD, 0); /* the very top, then the bottom */
	boot_map_add(&bi, 0, 0x1000, BOOT_MEM_BAD, 0);
	CHECK_EQ(bi.mem_count, 4);
	/* across two entries, over a hole, with something that is not RAM in the way */
	boot_map_add(&bi, 0x8000, 0x1000, BOOT_MEM_ACPI, 0);
	CHECK(boot_map_carve(&bi, 0x1800, 0x7000, BOOT_MEM_LOADER));
	CHECK_EQ(total(BOOT_MEM_RAM), 0x800);
	CHECK_EQ(total(BOOT_MEM_LOADER), 0x2800);
	CHECK_EQ(total(BOOT_MEM_ACPI), 0x1000);
	/* from the middle: three entries */
	memset(&bi, 0, sizeof(bi));
	boot_map_add(&bi, 0, 0x10000, BOOT_MEM_RAM, 8);
	CHECK(boot_map_carve(&bi, 0x4000, 0x1000, BOOT_MEM_LOADER));
	CHECK_EQ(bi.mem_count, 3);
	CHECK_EQ(total(BOOT_MEM_RAM), 0xf000);
	CHECK(!boot_map_carve(&bi, 0x4000, 0, BOOT_MEM_LOADER));
	CHECK(!boot_map_carve(&bi, 0x4000, UINT64_MAX, BOOT_MEM_LOADER));
	/* full: counted, and a split that does not fit is refused */
	memset(&bi, 0, sizeof(bi));
	for (unsigned i = 0; i < BOOT_MEM_MAX + 3; i++)
		boot_map_add(&bi, i * 0x10000ull, 0x8000, BOOT_MEM_RAM, 0);
	CHECK_EQ(bi.mem_count, BOOT_MEM_MAX);
	CHECK_EQ(bi.mem_truncated, 3);
	CHECK(!boot_map_carve(&bi, 0x1000, 0x1000, BOOT_MEM_LOADER));
	CHECK(boot_map_carve(&bi, 0x10000, 0x8000, BOOT_MEM_LOADER));
}

static void test_text(void)
{
	static const char big[3000] = "y";

	memset(&bi, 0, sizeof(bi));
	boot_cmdline_add(&bi, "", 0, true);
	boot_cmdline_add(&bi, "list\n", 5, false);
	CHECK(strcmp(bi.cmdline, "\nlist\n") == 0);
	memset((char *)(uintptr_t)bi.cmdline, 'z', sizeof(bi.cmdline) - 1);
	boot_cmdline_add(&bi, big, sizeof(big), false);
	CHECK_EQ(bi.cmdline_truncated, 1);
	CHECK_EQ(strlen(bi.cmdline), sizeof(bi.cmdline) - 1);
}

int main(void)
{
	test_pvh();
	test_pvh_bad();
	test_mb2();
	test_mb2_bad();
	test_map();
	test_text();
	return host_done("boot_handoff");
}
