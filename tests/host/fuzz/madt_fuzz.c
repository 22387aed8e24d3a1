/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/madt.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/fuzz/table_fuzz.h"

static struct madt m;

static void parse(const uint8_t *p, size_t n)
{
	struct acpi_error err = {0};
	const int r = madt_parse(p, n, &m, &err);

	MUST(r == 0 || err.what);
	MUST(m.cpu_count <= MADT_CPU_MAX && m.ioapic_count <= MADT_IOAPIC_MAX && m.iso_count <= MADT_ISO_MAX);
	for (uint32_t i = 0; i < m.cpu_count; i++)
		for (uint32_t k = 0; k < i; k++)
			MUST(m.cpu[i].apic_id != m.cpu[k].apic_id);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return as_table(p, n, "APIC", parse);
}
