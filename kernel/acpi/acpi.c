/* SPDX-License-Identifier: MIT */

/* Finds and maps the machine's ACPI tables. What they say is the parsers' part. */

#include "kernel/acpi/table.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"

#define TABLE_SIZE_MAX (1u << 20) /* QEMU's largest DSDT is a tenth of this */
#define RSDP_SIZE_MAX  36
#define BDA_EBDA_SEG   0x40e
#define BIOS_AREA      0xe0000
#define BIOS_AREA_END  0x100000

struct acpi acpi;

/* Firmware's addresses come as they are: one that no bus can reach must not become a mapping. */
static const uint8_t *map_bytes(uint64_t addr, size_t size)
{
	const uint64_t limit = BIT64(cpu_features.phys_bits ? cpu_features.phys_bits : 36);

	if (addr == 0 || addr >= limit || size > limit - addr)
		return NULL;
	return firmware_map(gpa(addr), size);
}

static void unsound(const char *what, uint32_t offset)
{
	acpi.unsound++;
	acpi.error = (struct acpi_error){.what = what, .offset = offset};
}

/* Maps the table at addr, checks and lists it. NULL: not listed. */
static struct acpi_table *add_table(uint64_t addr)
{
	const uint8_t *p = map_bytes(addr, ACPI_HEADER_SIZE);
	struct acpi_table *t;
	uint32_t len;

	if (!p) {
		unsound("ACPI: a table's address is no memory", 0);
		return NULL;
	}
	if (acpi.table_count == ACPI_TABLE_MAX) {
		unsound("ACPI: more tables than we list", 0);
		return NULL;
	}
	t = &acpi.table[acpi.table_count++];
	memcpy(t->sig, p, 4);
	t->addr = addr;
	len = acpi_length(p);
	if (len < ACPI_HEADER_SIZE || len > TABLE_SIZE_MAX) {
		unsound("ACPI: a table's length is absurd", 4);
		return t;
	}
	p = map_bytes(addr, len);
	if (!p) {
		unsound("ACPI: a table does not fit the address space", 4);
		return t;
	}
	t->bytes = p;
	t->len = len;
	t->sound = acpi_check(p, len, t->sig, &acpi.error) == 0;
	if (!t->sound)
		acpi.unsound++;
	return t;
}

static uint64_t scan_rsdp(uint64_t base, size_t size)
{
	const uint8_t *p = firmware_map(gpa(base), size);
	uint64_t root;
	unsigned width;

	if (!p)
		return 0;
	for (size_t at = 0; at + RSDP_SIZE_MAX <= size; at += 16) {
		if (memcmp(p + at, "RSD PTR ", 8) == 0 &&
		    rsdp_parse(p + at, size - at, &root, &width, NULL) == 0)
			return base + at;
	}
	return 0;
}

/* ACPI 6.5, 5.2.5.1: the first KiB of the EBDA, then the BIOS area, on 16-byte boundaries. */
static uint64_t find_rsdp(void)
{
	const uint8_t *bda = firmware_map(gpa(BDA_EBDA_SEG), 2);
	const uint64_t ebda = bda ? (uint64_t)get_le16(bda) << 4 : 0;
	uint64_t at = 0;

	if (ebda >= 0x80000 && ebda < 0xa0000)
		at = scan_rsdp(ebda, 1024);
	return at ? at : scan_rsdp(BIOS_AREA, BIOS_AREA_END - BIOS_AREA);
}

static void walk_root(uint64_t root, unsigned width)
{
	const struct acpi_table *t = add_table(root);

	if (!t || !t->sound)
		return;
	if (memcmp(t->sig, width == 8 ? "XSDT" : "RSDT", 4) != 0) {
		unsound("RSDP: its root is neither RSDT nor XSDT", 0);
		return;
	}
	for (size_t at = ACPI_HEADER_SIZE; at + width <= t->len; at += width)
		add_table(width == 8 ? get_le64(t->bytes + at) : get_le32(t->bytes + at));
}

const struct acpi_table *acpi_find(const char *sig, unsigned nth)
{
	for (uint32_t i = 0; i < acpi.table_count; i++) {
		const struct acpi_table *t = &acpi.table[i];

		if (t->bytes && t->sound && memcmp(t->sig, sig, 4) == 0 && nth-- == 0)
			return t;
	}
	return NULL;
}

static bool parsed(int r)
{
	if (r < 0)
		acpi.unsound++;
	return r == 0;
}

void acpi_init(uint64_t rsdp)
{
	const struct acpi_table *t;
	const uint8_t *p;
	uint64_t root;
	unsigned width;

	memset(&acpi, 0, sizeof(acpi));
	acpi.rsdp = rsdp ? rsdp : find_rsdp();
	p = acpi.rsdp ? map_bytes(acpi.rsdp, RSDP_SIZE_MAX) : NULL;
	if (!p) {
		acpi.error = (struct acpi_error){.what = "ACPI: no RSDP"};
		return;
	}
	if (!parsed(rsdp_parse(p, RSDP_SIZE_MAX, &root, &width, &acpi.error)))
		return;
	walk_root(root, width);

	t = acpi_find("FACP", 0);
	acpi.has_fadt = t && parsed(fadt_parse(t->bytes, t->len, &acpi.fadt, &acpi.error));
	if (acpi.has_fadt && acpi.fadt.dsdt)
		add_table(acpi.fadt.dsdt); /* the FADT alone points there */
	t = acpi_find("APIC", 0);
	acpi.has_madt = t && parsed(madt_parse(t->bytes, t->len, &acpi.madt, &acpi.error));
	t = acpi_find("MCFG", 0);
	acpi.has_mcfg = t && parsed(mcfg_parse(t->bytes, t->len, &acpi.mcfg, &acpi.error));
	t = acpi_find("DMAR", 0);
	acpi.has_dmar = t && parsed(dmar_parse(t->bytes, t->len, &acpi.dmar, &acpi.error));
	t = acpi_find("IVRS", 0);
	acpi.has_ivrs = t && parsed(ivrs_parse(t->bytes, t->len, &acpi.ivrs, &acpi.error));
	t = acpi_find("VIOT", 0);
	acpi.has_viot = t && parsed(viot_parse(t->bytes, t->len, &acpi.viot, &acpi.error));
}
