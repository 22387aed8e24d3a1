/* SPDX-License-Identifier: MIT */
// link: boot/efi/elf.c boot/efi/convert.c
#include "boot/efi/convert.h"
#include "boot/efi/elf.h"
#include "kernel/lib/err.h"
#include "tests/host/host.h"

/* ---- ELF ---- */

#define FILE_SIZE 0x3000u
static uint8_t file[FILE_SIZE];
static struct elf_image elf;
static const char *why;

static void w16(unsigned off, unsigned v) { uint16_t x = (uint16_t)v; memcpy(file + off, &x, 2); }
static void w32(unsigned off, uint64_t v) { uint32_t x = (uint32_t)v; memcpy(file + off, &x, 4); }
static void w64(unsigned off, uint64_t v) { memcpy(file + off, &v, 8); }

#define PH(i) (64u + 56u * (i))

static void phdr(unsigned i, uint32_t type, uint32_t flags, uint64_t off, uint64_t pa, uint64_t filesz,
		 uint64_t memsz)
{
	w32(PH(i), type);
	w32(PH(i) + 4, flags);
	w64(PH(i) + 8, off);
	w64(PH(i) + 24, pa);
	w64(PH(i) + 32, filesz);
	w64(PH(i) + 40, memsz);
}

static void good(void)
{
	memset(file, 0, sizeof(file));
	memcpy(file, "\177ELF\2\1\1", 7);
	w16(16, 2);
	w16(18, 62);
	w64(32, 64);
	w16(54, 56);
	w16(56, 3);
	phdr(0, 1, 5, 0x1000, 0x200000, 0x800, 0x800);
	phdr(1, 1, 6, 0x2000, 0x201000, 0x100, 0x5000);
	phdr(2, 4, 4, 0x1700, 0x200700, 0x40, 0x40);
	w32(0x1700, 4); /* someone else's note first */
	w32(0x1704, 4);
	w32(0x1708, 18);
	memcpy(file + 0x170c, "Xen", 4);
	w32(0x1714, 6);
	w32(0x1718, 8);
	w32(0x171c, 1);
	memcpy(file + 0x1720, "plumb", 6);
	w64(0x1728, 0x200123);
}

static int parse(void) { return elf_parse(file, sizeof(file), &elf, &why); }
static int refuses(const char *part)
{
	if (parse() == -EINVAL && strstr(why, part))
		return 1;
	printf("  got '%s', wanted '%s'\n", why, part);
	return 0;
}

static void test_elf(void)
{
	good();
	CHECK_EQ(parse(), 0);
	CHECK_EQ(elf.first, 0x200000);
	CHECK_EQ(elf.span, 0x6000);
	CHECK_EQ(elf.entry64, 0x200123);
	CHECK_EQ(elf.count, 2);
	CHECK_EQ(elf.segment[1].offset, 0x2000);
	CHECK_EQ(elf.segment[1].memsz, 0x5000);

	for (unsigned cut = 0; cut < 64 + 3 * 56; cut++)
		CHECK_EQ(elf_parse(file, cut, &elf, &why), (uint64_t)-EINVAL);
	good(); file[4] = 1; CHECK(refuses("64-bit"));
	good(); w16(18, 3); CHECK(refuses("x86-64"));
	good(); w16(54, 55); CHECK(refuses("program headers"));
	good(); w16(56, 65); CHECK(refuses("program headers"));
	good(); w64(32, UINT64_MAX - 8); CHECK(refuses("program headers"));
	good(); w16(56, 0); CHECK(refuses("nothing to load"));
	good(); w64(PH(0) + 8, 0x2801); CHECK(refuses("past the end"));
	good(); w64(PH(0) + 8, UINT64_MAX); CHECK(refuses("past the end"));
	good(); w64(PH(1) + 40, 0xff); CHECK(refuses("more bytes in the file"));
	good(); w64(PH(1) + 40, 0); CHECK(refuses("more bytes in the file"));
	good(); w64(PH(1) + 40, UINT64_MAX); CHECK(refuses("wraps"));
	good(); w64(PH(1) + 24, 0x2007ff); CHECK(refuses("overlap"));
	good(); w64(PH(1) + 24, 0x10000000); CHECK(refuses("larger"));
	good(); w64(PH(1) + 40, 0x8000000); CHECK(refuses("larger"));
	good(); w64(PH(0) + 24, 0x201000); w64(PH(1) + 24, 0x202000); CHECK(refuses("2 MiB"));
	good(); file[0x1720] = 'q'; CHECK(refuses("note"));
	good(); w32(0x171c, 2); CHECK(refuses("note"));
	good(); w32(0x1718, 7); CHECK(refuses("note"));
	good(); w32(0x1714, 0xffffffff); CHECK(refuses("note"));
	good(); w32(0x1704, 0xffffffff); CHECK(refuses("note"));
	good(); w64(PH(2) + 32, 0x2f); CHECK(refuses("note"));
	good(); w64(0x1728, 0x200800); CHECK(refuses("executable"));
	good(); w64(0x1728, 0x201000); CHECK(refuses("executable"));
	good(); w64(0x1728, 0x1fffff); CHECK(refuses("executable"));
}

/* ---- memory map ---- */

static uint8_t map[64 * 48];

static void desc(unsigned i, uint32_t type, uint64_t start, uint64_t pages, uint64_t attr)
{
	uint8_t *d = map + i * 48;

	memset(d, 0xee, 48);
	memcpy(d, &type, 4);
	memcpy(d + 8, &start, 8);
	memcpy(d + 24, &pages, 8);
	memcpy(d + 32, &attr, 8);
}

static void test_map(void)
{
	static struct boot_info bi;
	static const uint32_t want[16] = {
		BOOT_MEM_RESERVED, BOOT_MEM_RAM, BOOT_MEM_RAM, BOOT_MEM_RAM, BOOT_MEM_RAM, BOOT_MEM_RUNTIME,
		BOOT_MEM_RUNTIME, BOOT_MEM_RAM, BOOT_MEM_BAD, BOOT_MEM_ACPI, BOOT_MEM_NVS, BOOT_MEM_MMIO,
		BOOT_MEM_MMIO, BOOT_MEM_RESERVED, BOOT_MEM_RESERVED, BOOT_MEM_RESERVED,
	};

	for (unsigned i = 0; i < 16; i++) /* with holes, so that nothing merges */
		desc(i, i, i * 0x10000ull, 1, 0xf);
	efi_memory_map(map, 16 * 48, 48, &bi);
	CHECK_EQ(bi.mem_count, 16);
	for (unsigned i = 0; i < 16; i++) {
		CHECK_EQ(bi.mem[i].type, want[i]);
		CHECK_EQ(bi.mem[i].efi_type, want[i] == BOOT_MEM_RAM ? 8 : i + 1);
		CHECK_EQ(bi.mem[i].size, 4096);
	}
	/* what the boot services held merges with what was free; runtime code and data do not */
	memset(&bi, 0, sizeof(bi));
	desc(0, 7, 0x100000, 0x10, 0xf);
	desc(1, 4, 0x110000, 0x10, 0xf);
	desc(2, 1, 0x120000, 0x10, 0xf);
	desc(3, 5, 0x130000, 0x10, 0x800000000000000f);
	desc(4, 6, 0x140000, 0x10, 0x800000000000000f);
	desc(5, 7, 0x150000, 0x10, 0x4000f);
	desc(6, 0x80000001, 0x160000, 1, 0xf);
	desc(7, 7, 0x170000, UINT64_MAX, 0xf);
	efi_memory_map(map, 8 * 48 + 47, 48, &bi);
	CHECK_EQ(bi.mem_count, 5);
	CHECK_EQ(bi.mem[0].size, 0x30000);
	CHECK_EQ(bi.mem[1].type, BOOT_MEM_RUNTIME);
	CHECK_EQ(bi.mem[3].type, BOOT_MEM_RESERVED);
	CHECK_EQ(bi.mem[4].type, BOOT_MEM_RESERVED);
	CHECK_EQ(bi.mem_truncated, 1);
	memset(&bi, 0, sizeof(bi));
	efi_memory_map(map, sizeof(map), 0, &bi);
	efi_memory_map(map, sizeof(map), 39, &bi);
	CHECK_EQ(bi.mem_count, 0);
}

/* ---- text ---- */

static const char *options(const char *s, size_t extra)
{
	static char out[64];
	uint8_t wide[256] = {0};
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		wide[2 * i] = (uint8_t)s[i];
	efi_load_options(wide, 2 * n + extra, out, sizeof(out));
	return out;
}

static void test_text(void)
{
	static const uint8_t guid[] = {0xac, 0xaf, 0x57, 0x81, 0x2b, 0x00, 0xb4, 0x42, 0x96, 0x80, 0x3d, 0x53,
				       0xe2, 0x2b, 0xfc, 0x30};
	static const uint16_t vendor[] = {'E', 'D', 'K', 0xe9, 0};
	char out[64];

	CHECK(strcmp(options("only=apic.* seed=1", 2), "only=apic.* seed=1") == 0);
	CHECK(strcmp(options("only=apic.*", 0), "only=apic.*") == 0); /* not terminated */
	CHECK(strcmp(options("only=apic.*", 1), "only=apic.*") == 0); /* an odd length */
	CHECK(strcmp(options("FS0:\\plumb.EFI list", 2), "list") == 0);
	CHECK(strcmp(options("plumb.efi", 2), "") == 0);
	CHECK(strcmp(options("seed=1 x.efi", 2), "seed=1 x.efi") == 0);
	CHECK(strcmp(options("", 0), "") == 0);
	CHECK(strcmp(options("a\x01" "b", 2), "") == 0);
	/* EDK II's automatic boot options carry a GUID */
	CHECK_EQ(efi_load_options(guid, sizeof(guid), out, sizeof(out)), 0);
	CHECK_EQ(efi_load_options((const uint8_t *)vendor, 8, out, sizeof(out)), 0);
	CHECK_EQ(efi_load_options((const uint8_t *)"a\0b\0c\0", 6, out, 3), 2);
	CHECK(strcmp(out, "ab") == 0);
	efi_ascii(vendor, out, sizeof(out));
	CHECK(strcmp(out, "EDK?") == 0);
	efi_ascii(vendor, out, 3);
	CHECK(strcmp(out, "ED") == 0);
	efi_ascii(NULL, out, 3);
	CHECK(out[0] == 0);
	CHECK(strcmp(efi_status_name(0x800000000000000e), "EFI_NOT_FOUND") == 0);
	CHECK(strcmp(efi_status_name(0x8000000000000010), "") == 0);
	CHECK(strcmp(efi_status_name(14), "") == 0);
	CHECK(strcmp(efi_status_name(UINT64_MAX), "") == 0);
}

int main(void)
{
	test_elf();
	test_map();
	test_text();
	return host_done("boot_efi");
}
