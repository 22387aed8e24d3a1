/* SPDX-License-Identifier: MIT */
#include "boot/handoff.h"

#include "boot/boot_edit.h"
#include "kernel/lib/addr.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"

#define LOW_4G 0x100000000ull

static const uint8_t *identity_at(void *arg, uint64_t pa, size_t len)
{
	(void)arg;
	if (pa == 0 || pa >= LOW_4G || len > LOW_4G - pa)
		return NULL;
	return (const uint8_t *)(uintptr_t)pa;
}

const struct handoff_mem handoff_identity = {.at = identity_at};

/* Everything but the map, which is large and whose mem_count says what of it counts. */
static void start(struct boot_info *bi, enum boot_path path)
{
	bi->magic = BOOT_INFO_MAGIC;
	bi->version = BOOT_INFO_VERSION;
	bi->path = path;
	bi->mem_count = 0;
	bi->rsdp = 0;
	bi->efi_system_table = 0;
	bi->efi_reset_system = 0;
	bi->mem_truncated = 0;
	bi->secure_boot = 2;
	memset(bi->firmware, 0, sizeof(bi->firmware));
	memset(bi->loader, 0, sizeof(bi->loader));
	memset(bi->cmdline, 0, sizeof(bi->cmdline));
	bi->cmdline_truncated = 0;
}

static void take_text(char *dst, size_t size, const uint8_t *src, size_t len)
{
	size_t n = 0;

	while (n < len && n < size - 1 && src[n]) {
		dst[n] = (char)src[n];
		n++;
	}
	dst[n] = '\0';
}

/* Address range types of ACPI 6.5, 15 (E820), which PVH and Multiboot2 both use. */
static uint32_t e820_type(uint32_t type)
{
	switch (type) {
	case 1:
		return BOOT_MEM_RAM;
	case 3:
		return BOOT_MEM_ACPI;
	case 4:
		return BOOT_MEM_NVS;
	case 5:
		return BOOT_MEM_BAD;
	default: /* 2 reserved, 6 disabled, 7 persistent, and what is still to be invented */
		return BOOT_MEM_RESERVED;
	}
}

/* ---- PVH: Xen, public/arch-x86/hvm/start_info.h ---- */

#define PVH_VERSION       4
#define PVH_CMDLINE       24
#define PVH_RSDP          32
#define PVH_MEMMAP        40 /* since version 1 */
#define PVH_MEMMAP_COUNT  48
#define PVH_SIZE          56
#define PVH_MEM_SIZE      24 /* address, size, type, 0 */
#define PVH_MEM_COUNT_MAX 4096

int pvh_handoff(const struct handoff_mem *mem, uint64_t start_info, struct boot_info *bi,
		const char **why)
{
	const uint8_t *si = mem->at(mem->arg, start_info, PVH_SIZE), *map;
	uint64_t cmdline;
	uint32_t count;

	*why = "";
	start(bi, BOOT_PVH);
	strlcpy(bi->loader, "PVH", sizeof(bi->loader));
	if (!si || get_le32(si) != PVH_START_MAGIC) {
		*why = "no PVH start info where EBX points";
		return -EINVAL;
	}
	if (get_le32(si + PVH_VERSION) < 1) {
		*why = "PVH start info version 0: no memory map";
		return -EINVAL;
	}
	bi->rsdp = get_le64(si + PVH_RSDP);

	count = get_le32(si + PVH_MEMMAP_COUNT);
	map = count && count <= PVH_MEM_COUNT_MAX
		      ? mem->at(mem->arg, get_le64(si + PVH_MEMMAP), (size_t)count * PVH_MEM_SIZE)
		      : NULL;
	if (!map) {
		*why = "PVH start info without a readable memory map";
		return -EINVAL;
	}
	for (uint32_t i = 0; i < count; i++, map += PVH_MEM_SIZE)
		boot_map_add(bi, get_le64(map), get_le64(map + 8), e820_type(get_le32(map + 16)), 0);

	cmdline = get_le64(si + PVH_CMDLINE);
	if (cmdline) {
		const uint8_t *text = mem->at(mem->arg, cmdline, BOOT_CMDLINE_MAX);

		if (text)
			boot_cmdline_add(bi, text, BOOT_CMDLINE_MAX, true);
		else
			bi->cmdline_truncated = 1;
	}
	return 0;
}

/* ---- Multiboot2 specification 2.0, 3.4 and 3.6 ---- */

#define MB2_SIZE_MAX  0x100000
#define MB2_CMDLINE   1
#define MB2_LOADER    2
#define MB2_MODULE    3
#define MB2_MODULE_HEAD 16
#define MB2_MEMMAP    6
#define MB2_ACPI_OLD  14
#define MB2_ACPI_NEW  15
#define MB2_TAG_HEAD  8 /* type, size with this head; the next tag is 8-byte aligned */
#define MB2_MAP_HEAD  16
#define MB2_MAP_ENTRY 24 /* base, length, type, 0: or larger, as the tag says */
#define RSDP_V1_SIZE  20
#define RSDP_V2_SIZE  36

static void mb2_memmap(const uint8_t *tag, uint32_t size, struct boot_info *bi)
{
	uint32_t step;

	if (size < MB2_MAP_HEAD)
		return;
	step = get_le32(tag + 8);
	if (step < MB2_MAP_ENTRY)
		return;
	for (uint32_t off = MB2_MAP_HEAD; size - off >= step; off += step)
		boot_map_add(bi, get_le64(tag + off), get_le64(tag + off + 8),
			     e820_type(get_le32(tag + off + 16)), 0);
}

struct range { uint64_t base, len; };

/* module2 FILE plumb.cfg: the file that the UEFI loader reads by itself. */
static void mb2_module(const uint8_t *tag, uint32_t size, struct range *config)
{
	static const char name[] = "plumb.cfg";
	uint32_t from, to;

	if (size < MB2_MODULE_HEAD + sizeof(name) ||
	    memcmp(tag + MB2_MODULE_HEAD, name, sizeof(name)) != 0)
		return;
	from = get_le32(tag + 8);
	to = get_le32(tag + 12);
	if (to > from)
		*config = (struct range){from, to - from};
}

int multiboot2_handoff(const struct handoff_mem *mem, uint64_t info, struct boot_info *bi,
		       const char **why)
{
	const uint8_t *p = mem->at(mem->arg, info, MB2_TAG_HEAD);
	const uint8_t *cmdline = NULL, *text;
	uint32_t total, off = MB2_TAG_HEAD, cmdline_len = 0;
	struct range config = {0};
	bool ended = false, acpi_new = false;

	*why = "";
	start(bi, BOOT_MULTIBOOT2);
	strlcpy(bi->loader, "Multiboot2", sizeof(bi->loader));
	total = p ? get_le32(p) : 0;
	if (total < 2 * MB2_TAG_HEAD || total > MB2_SIZE_MAX || !is_aligned(info, 8) ||
	    !(p = mem->at(mem->arg, info, total))) {
		*why = "no Multiboot2 information where EBX points";
		return -EINVAL;
	}

	while (total - off >= MB2_TAG_HEAD && !ended) {
		const uint8_t *tag = p + off;
		const uint32_t type = get_le32(tag), size = get_le32(tag + 4);

		if (size < MB2_TAG_HEAD || size > total - off) {
			*why = "Multiboot2 information: a tag runs past the end";
			return -EINVAL;
		}
		switch (type) {
		case 0:
			ended = true;
			break;
		case MB2_CMDLINE:
			cmdline = tag + MB2_TAG_HEAD;
			cmdline_len = size - MB2_TAG_HEAD;
			break;
		case MB2_MODULE:
			mb2_module(tag, size, &config);
			break;
		case MB2_LOADER:
			take_text(bi->loader, sizeof(bi->loader), tag + MB2_TAG_HEAD,
				  size - MB2_TAG_HEAD);
			break;
		case MB2_MEMMAP:
			mb2_memmap(tag, size, bi);
			break;
		case MB2_ACPI_OLD:
		case MB2_ACPI_NEW:
			if (acpi_new ||
			    size < MB2_TAG_HEAD + (type == MB2_ACPI_NEW ? RSDP_V2_SIZE : RSDP_V1_SIZE))
				break;
			bi->rsdp = info + off + MB2_TAG_HEAD;
			acpi_new = type == MB2_ACPI_NEW;
			break;
		default:
			break;
		}
		if (align_up(size, 8) > total - off)
			break;
		off += (uint32_t)align_up(size, 8);
	}
	if (!ended) {
		*why = "Multiboot2 information: no end tag";
		return -EINVAL;
	}
	if (!bi->mem_count) {
		*why = "Multiboot2 information without a memory map";
		return -EINVAL;
	}
	if (cmdline)
		boot_cmdline_add(bi, cmdline, cmdline_len, true);
	if (config.len) {
		text = mem->at(mem->arg, config.base, config.len);
		if (text)
			boot_cmdline_add(bi, text, config.len, false);
		else
			bi->cmdline_truncated = 1;
	}
	if (!boot_map_carve(bi, align_down(info, PAGE_SIZE),
			    align_up(info + total, PAGE_SIZE) - align_down(info, PAGE_SIZE),
			    BOOT_MEM_LOADER)) {
		*why = "the memory map has no room for the Multiboot2 information";
		return -EINVAL;
	}
	return 0;
}
