/* SPDX-License-Identifier: MIT */

/* Root System Description Pointer: ACPI 6.5, 5.2.5.3. */

#include "kernel/acpi/table.h"
#include "kernel/lib/crc.h"
#include "kernel/lib/string.h"

#define RSDP_V1_SIZE 20
#define RSDP_V2_SIZE 36

int rsdp_parse(const uint8_t *p, size_t len, uint64_t *root, unsigned *width, struct acpi_error *err)
{
	uint32_t length;

	if (len < RSDP_V1_SIZE)
		return acpi_bad(err, "RSDP: cut", len);
	if (memcmp(p, "RSD PTR ", 8) != 0)
		return acpi_bad(err, "RSDP: wrong signature", 0);
	if (checksum8(p, RSDP_V1_SIZE) != 0)
		return acpi_bad(err, "RSDP: bad checksum", 8);
	*root = get_le32(p + 16);
	*width = 4;
	if (p[15] >= 2) {
		if (len < RSDP_V2_SIZE)
			return acpi_bad(err, "RSDP: cut", len);
		length = get_le32(p + 20);
		if (length < RSDP_V2_SIZE || length > len)
			return acpi_bad(err, "RSDP: bad length", 20);
		if (checksum8(p, length) != 0)
			return acpi_bad(err, "RSDP: bad extended checksum", 32);
		/* The XSDT is to be used where there is one. */
		if (get_le64(p + 24) != 0) {
			*root = get_le64(p + 24);
			*width = 8;
		}
	}
	if (*root == 0)
		return acpi_bad(err, "RSDP: neither RSDT nor XSDT", 16);
	return 0;
}
