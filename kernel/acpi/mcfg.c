/* SPDX-License-Identifier: MIT */

/* Memory-mapped configuration space: PCI Firmware 3.3, 4.1.2. */

#include "kernel/acpi/table.h"
#include "kernel/lib/string.h"

#define MCFG_ENTRIES    44
#define MCFG_ENTRY_SIZE 16

int mcfg_parse(const uint8_t *p, size_t len, struct mcfg *out, struct acpi_error *err)
{
	size_t end;
	int r = acpi_check(p, len, "MCFG", err);

	memset(out, 0, sizeof(*out));
	if (r < 0)
		return r;
	end = acpi_length(p);
	if (end < MCFG_ENTRIES)
		return acpi_bad(err, "MCFG: shorter than its fixed part", end);
	if ((end - MCFG_ENTRIES) % MCFG_ENTRY_SIZE != 0)
		return acpi_bad(err, "MCFG: the last allocation is cut", end);

	for (size_t at = MCFG_ENTRIES; at < end; at += MCFG_ENTRY_SIZE) {
		const uint64_t base = get_le64(p + at);
		const uint8_t first = p[at + 10], last = p[at + 11];
		const uint32_t n = out->count;

		if (first > last)
			return acpi_bad(err, "MCFG: first bus above last bus", at + 10);
		/* base is bus 0's, whatever the first bus is. A megabyte a bus. */
		if (base == 0 || !is_aligned(base, 1u << 20) ||
		    base > UINT64_MAX - ((uint64_t)(last + 1) << 20))
			return acpi_bad(err, "MCFG: base is no place for a window", at);
		if (n == MCFG_MAX) {
			out->dropped++;
			continue;
		}
		out->alloc[n].base = base;
		out->alloc[n].segment = get_le16(p + at + 8);
		out->alloc[n].bus_first = first;
		out->alloc[n].bus_last = last;
		out->count++;
	}
	return 0;
}
