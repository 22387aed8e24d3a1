/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/fadt.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/fuzz/table_fuzz.h"

static void parse(const uint8_t *p, size_t n)
{
	struct acpi_error err = {0};
	struct fadt f;
	const int r = fadt_parse(p, n, &f, &err);

	MUST(r == 0 || err.what);
	MUST(f.pm_timer_port <= 0xfffc && f.pm1a_cnt <= 0xfffe && f.pm1b_cnt <= 0xfffe && f.reset_port <= 0xffff);
	MUST(!f.reset_supported || f.reset_port);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return as_table(p, n, "FACP", parse);
}
