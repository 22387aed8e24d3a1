/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/ivrs.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/fuzz/table_fuzz.h"

static struct ivrs v;

static void check_unit(const struct ivrs_unit *u)
{
	MUST(u->dev_count <= IVRS_DEV_MAX && u->special_count <= IVRS_SPECIAL_MAX && u->hid_count <= IVRS_HID_MAX);
	MUST(u->base && !(u->base & 0x3fff));
	for (uint32_t i = 0; i < u->dev_count; i++)
		MUST(u->dev[i].first <= u->dev[i].last && ivrs_find(u, u->dev[i].first) &&
		     ivrs_find(u, u->dev[i].last) >= &u->dev[i]);
	for (uint32_t i = 0; i < u->hid_count; i++)
		MUST(strnlen(u->hid[i].hid, 9) < 9 && strnlen(u->hid[i].cid, 9) < 9 && strnlen(u->hid[i].uid, 17) < 17);
}

static void parse(const uint8_t *p, size_t n)
{
	struct acpi_error err = {0};
	const int r = ivrs_parse(p, n, &v, &err);

	MUST((r < 0) == (err.what != NULL));
	MUST(v.unit_count <= IVRS_UNIT_MAX && v.memory_count <= IVRS_MEMORY_MAX && v.unit_count <= v.blocks);
	if (r < 0)
		return;
	for (uint32_t i = 0; i < v.unit_count; i++) {
		check_unit(&v.unit[i]);
		for (uint32_t k = 0; k < i; k++)
			MUST(v.unit[k].device_id != v.unit[i].device_id || v.unit[k].segment != v.unit[i].segment);
	}
	for (uint32_t i = 0; i < v.memory_count; i++)
		MUST(v.memory[i].length && v.memory[i].first <= v.memory[i].last &&
		     (v.memory[i].base + (v.memory[i].length - 1)) >> 52 == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return as_table(p, n, "IVRS", parse);
}
