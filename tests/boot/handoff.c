/* SPDX-License-Identifier: MIT */

#include "kernel/acpi/acpi.h"
#include "kernel/boot.h"
#include "kernel/cmdline.h"
#include "kernel/fwcfg.h"
#include "kernel/lib/crc.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "tests/harness/test.h"

#define LL(x) ((unsigned long long)(x))

static const char *type_name(uint32_t type)
{
	static const char *const names[] = {
		[BOOT_MEM_RAM] = "RAM", [BOOT_MEM_RESERVED] = "reserved", [BOOT_MEM_ACPI] = "ACPI",
		[BOOT_MEM_NVS] = "NVS", [BOOT_MEM_BAD] = "bad", [BOOT_MEM_MMIO] = "MMIO",
		[BOOT_MEM_RUNTIME] = "runtime", [BOOT_MEM_LOADER] = "loader",
	};

	return type < ARRAY_SIZE(names) && names[type] ? names[type] : "unknown";
}

/* The type of the entry that holds all of [base, base+size), 0 if none does. */
static uint32_t type_at(uint64_t base, uint64_t size)
{
	for (uint32_t i = 0; i < boot_info.mem_count; i++) {
		const struct boot_mem *m = &boot_info.mem[i];

		if (base >= m->base && size <= m->size && base - m->base <= m->size - size)
			return m->type;
	}
	return 0;
}

/* By address. The firmware need not sort (UEFI 2.10, 7.2.3 does not ask it to), but must not overlap. */
static struct boot_mem *sorted_map(struct t *t)
{
	struct boot_mem *map = test_alloc(t, sizeof(*map) * MAX(boot_info.mem_count, 1u));

	for (uint32_t i = 0; i < boot_info.mem_count; i++) {
		uint32_t at = i;

		for (; at > 0 && map[at - 1].base > boot_info.mem[i].base; at--)
			map[at] = map[at - 1];
		map[at] = boot_info.mem[i];
	}
	return map;
}

static void check_map(struct t *t)
{
	const struct boot_mem *map = sorted_map(t);
	const uint32_t count = boot_info.mem_count;
	uint64_t sum[BOOT_MEM_LOADER + 1] = {0};

	EXPECT_EQ(t, boot_info.mem_truncated, 0);
	ASSERT(t, count > 0);
	for (uint32_t i = 0; i < count; i++) {
		const struct boot_mem *m = &map[i];

		ASSERT_MSG(t, m->type >= BOOT_MEM_RAM && m->type <= BOOT_MEM_LOADER,
			   "map entry at 0x%llx: type %u is not one of ours", LL(m->base), m->type);
		EXPECT_MSG(t, m->size && m->base + (m->size - 1) >= m->base,
			   "map entry 0x%llx+0x%llx %s: empty or wraps around", LL(m->base), LL(m->size),
			   type_name(m->type));
		if (i > 0)
			EXPECT_MSG(t, map[i - 1].base + (map[i - 1].size - 1) < m->base,
				   "map entries overlap: 0x%llx+0x%llx %s and 0x%llx+0x%llx %s",
				   LL(map[i - 1].base), LL(map[i - 1].size), type_name(map[i - 1].type),
				   LL(m->base), LL(m->size), type_name(m->type));
		sum[m->type] += m->size;
	}
	for (uint32_t type = BOOT_MEM_RAM; type <= BOOT_MEM_LOADER; type++)
		if (sum[type])
			test_note(t, "memory map: %llu KiB %s", LL(sum[type] >> 10), type_name(type));

	/* Ours: the page of this very structure must not be handed out. */
	EXPECT_MSG(t, type_at(virt_to_phys(&boot_info).v, sizeof(boot_info)) == BOOT_MEM_LOADER,
		   "the kernel at 0x%llx: the map says %s, expected loader", LL(virt_to_phys(&boot_info).v),
		   type_name(type_at(virt_to_phys(&boot_info).v, sizeof(boot_info))));
}

/* ACPI 6.5, 5.2.5.3 and 5.2.6: every table sums to 0, and none lies in memory that is free for use. */
static void check_acpi(struct t *t)
{
	const uint8_t *rsdp = acpi.rsdp ? firmware_map(gpa(acpi.rsdp), 36) : NULL;

	if (!acpi.rsdp) {
		test_note(t, "no RSDP: this machine has no ACPI tables");
		return;
	}
	ASSERT_MSG(t, rsdp && memcmp(rsdp, "RSD PTR ", 8) == 0, "no RSDP at 0x%llx", LL(acpi.rsdp));
	EXPECT_EQ(t, checksum8(rsdp, 20), 0);
	if (rsdp[15] >= 2)
		EXPECT_EQ(t, checksum8(rsdp, 36), 0);
	EXPECT_MSG(t, type_at(acpi.rsdp, 20) != BOOT_MEM_RAM,
		   "the RSDP at 0x%llx lies in memory that the map calls free", LL(acpi.rsdp));

	EXPECT_MSG(t, acpi.table_count > 1, "%u ACPI tables, expected a root and what it lists",
		   acpi.table_count);
	for (uint32_t i = 0; i < acpi.table_count; i++) {
		const struct acpi_table *tab = &acpi.table[i];

		EXPECT_MSG(t, tab->bytes && checksum8(tab->bytes, tab->len) == 0,
			   "ACPI table %s at 0x%llx, %u bytes: checksum or length wrong", tab->sig,
			   LL(tab->addr), tab->len);
		EXPECT_MSG(t, type_at(tab->addr, 1) != BOOT_MEM_RAM,
			   "ACPI table %s at 0x%llx lies in memory that the map calls free", tab->sig,
			   LL(tab->addr));
	}
	EXPECT_MSG(t, acpi.unsound == 0, "%u unsound ACPI tables, the last: %s at offset %u", acpi.unsound,
		   acpi.error.what ? acpi.error.what : "?", acpi.error.offset);
}

/* The bytes between the sources, and a second opinion where QEMU itself loaded us. */
static void check_cmdline(struct t *t)
{
	static char told[BOOT_CMDLINE_MAX];
	uint8_t size[4] = {0};
	uint32_t len;

	EXPECT_EQ(t, boot_info.cmdline_truncated, 0);
	ASSERT(t, strnlen(boot_info.cmdline, sizeof(boot_info.cmdline)) < sizeof(boot_info.cmdline));
	EXPECT_MSG(t, !cmdline.error[0], "command line: %s", cmdline.error);
	if (boot_info.path != BOOT_PVH || fwcfg_item(FWCFG_CMDLINE_SIZE, size, sizeof(size)) < 0)
		return;
	len = get_le32(size);
	if (!len || len > sizeof(told))
		return;
	memset(told, 0, sizeof(told));
	fwcfg_item(FWCFG_CMDLINE_DATA, told, len);
	told[sizeof(told) - 1] = '\0';
	for (char *c = told; *c; c++)
		if (*c == '\n')
			*c = ' ';
	EXPECT_MSG(t, strcmp(told, boot_info.cmdline) == 0, "command line: got \"%s\", QEMU was given \"%s\"",
		   boot_info.cmdline, told);
}

/* UEFI 2.10, 4.2 and 4.3; after ExitBootServices() the table is still whole, its CRC too. */
#define EFI_HDR_SIZE      12
#define EFI_HDR_CRC       16
#define EFI_SYSTEM_TABLE  120
static void check_uefi(struct t *t)
{
	uint8_t copy[EFI_SYSTEM_TABLE];
	const uint8_t *p;

	ASSERT(t, boot_info.efi_system_table != 0);
	p = firmware_map(gpa(boot_info.efi_system_table), sizeof(copy));
	ASSERT(t, p != NULL);
	EXPECT_MSG(t, memcmp(p, "IBI SYST", 8) == 0, "no EFI system table at 0x%llx",
		   LL(boot_info.efi_system_table));
	if (EXPECT_EQ(t, get_le32(p + EFI_HDR_SIZE), sizeof(copy))) {
		memcpy(copy, p, sizeof(copy));
		memset(copy + EFI_HDR_CRC, 0, 4);
		EXPECT_EQ(t, crc32_update(0, copy, sizeof(copy)), get_le32(p + EFI_HDR_CRC));
	}
	EXPECT_MSG(t, type_at(boot_info.efi_reset_system, 1) == BOOT_MEM_RUNTIME,
		   "ResetSystem at 0x%llx: the map says %s, expected runtime", LL(boot_info.efi_reset_system),
		   type_name(type_at(boot_info.efi_reset_system, 1)));
	test_note(t, "UEFI: %s, Secure Boot %s", boot_info.firmware,
		  boot_info.secure_boot == 0 ? "off" : boot_info.secure_boot == 1 ? "on" : "unknown");
}

/*
 * What the loader and the firmware told us holds together.
 *
 * Everything else stands on this: a map whose entries overlap gives memory away twice, ACPI tables in
 * memory that the map calls free are gone when we first allocate, and a command line that lost a word
 * runs something else than what was asked for. A VMM's own loader (PVH, its firmware's fw_cfg) is what
 * breaks these; the second look is at the source: sums over the tables' bytes, the system table's CRC,
 * and QEMU's own copy of the command line.
 */
TEST(boot, handoff, "memory map, ACPI tables, command line and UEFI system table are whole", NEED_NONE)
{
	ASSERT_EQ(t, boot_info.magic, BOOT_INFO_MAGIC);
	test_note(t, "booted by %s (%s)", boot_info.loader,
		  boot_info.path == BOOT_UEFI  ? "UEFI"
		  : boot_info.path == BOOT_PVH ? "PVH"
					       : "Multiboot2");
	check_map(t);
	check_acpi(t);
	check_cmdline(t);
	if (boot_info.path == BOOT_UEFI)
		check_uefi(t);
}
