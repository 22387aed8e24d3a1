/* SPDX-License-Identifier: MIT */

#include "kernel/acpi/table.h"

#include "kernel/lib/crc.h"
#include "kernel/lib/string.h"

int acpi_check(const uint8_t *p, size_t len, const char *signature, struct acpi_error *err)
{
	uint32_t length;

	if (len < ACPI_HEADER_SIZE)
		return acpi_bad(err, "ACPI: no room for a table header", len);
	if (memcmp(p, signature, 4) != 0)
		return acpi_bad(err, "ACPI: wrong signature", 0);
	length = acpi_length(p);
	if (length < ACPI_HEADER_SIZE)
		return acpi_bad(err, "ACPI: length is less than a header's", 4);
	if (length > len)
		return acpi_bad(err, "ACPI: length runs past the memory given", 4);
	if (checksum8(p, length) != 0)
		return acpi_bad(err, "ACPI: bad checksum", 9);
	return 0;
}
