/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/mcfg.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/fuzz/table_fuzz.h"

static void parse(const uint8_t *p, size_t n)
{
	struct acpi_error err = {0};
	struct mcfg m;
	const int r = mcfg_parse(p, n, &m, &err);

	MUST(r == 0 || err.what);
	MUST(m.count <= MCFG_MAX);
	for (uint32_t i = 0; i < m.count; i++) {
		MUST(m.alloc[i].bus_first <= m.alloc[i].bus_last);
		MUST(m.alloc[i].base && m.alloc[i].base + ((uint64_t)(m.alloc[i].bus_last + 1) << 20) > m.alloc[i].base);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return as_table(p, n, "MCFG", parse);
}
