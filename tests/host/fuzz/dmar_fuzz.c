/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/dmar.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/fuzz/table_fuzz.h"

static struct dmar d;

static void scopes(const struct dmar_scope *s, uint32_t n, uint32_t max)
{
	MUST(n <= max);
	for (uint32_t i = 0; i < n; i++) {
		MUST(s[i].path_len >= 1 && s[i].path_len <= DMAR_PATH_MAX);
		for (unsigned k = 0; k < s[i].path_len; k++)
			MUST(s[i].path[k].dev < 32 && s[i].path[k].fn < 8);
	}
}

static void parse(const uint8_t *p, size_t n)
{
	struct acpi_error err = {0};
	const int r = dmar_parse(p, n, &d, &err);

	MUST(r == 0 || err.what);
	MUST(d.unit_count <= DMAR_UNIT_MAX && d.rmrr_count <= DMAR_RMRR_MAX && d.atsr_count <= DMAR_ATSR_MAX);
	if (r < 0)
		return;
	for (uint32_t i = 0; i < d.unit_count; i++)
		scopes(d.unit[i].scope, d.unit[i].scope_count, DMAR_SCOPE_MAX);
	for (uint32_t i = 0; i < d.rmrr_count; i++)
		scopes(d.rmrr[i].scope, d.rmrr[i].scope_count, 4);
	for (uint32_t i = 0; i < d.atsr_count; i++)
		scopes(d.atsr[i].scope, d.atsr[i].scope_count, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return as_table(p, n, "DMAR", parse);
}
