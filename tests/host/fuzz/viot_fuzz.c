/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/viot.c kernel/acpi/table.c kernel/lib/crc.c
#include "tests/host/fuzz/table_fuzz.h"

static struct viot v;

/* The ends of every range are endpoints of its unit, and an ID leads back to where it came from. */
static void ends(const struct viot_range *r)
{
	const uint32_t rid[] = {(uint32_t)r->segment_first << 16 | r->bdf_first,
				(uint32_t)r->segment_last << 16 | r->bdf_last};
	uint32_t id, back;

	MUST(r->unit < v.unit_count);
	for (unsigned i = 0; !r->mmio && i < 2; i++) {
		MUST(viot_endpoint(&v, r->unit, rid[i], &id));
		MUST(viot_function(&v, r->unit, id, &back) && viot_endpoint(&v, r->unit, back, &back));
	}
}

static void parse(const uint8_t *p, size_t n)
{
	struct acpi_error err = {0};
	const int r = viot_parse(p, n, &v, &err);

	MUST(r == 0 || err.what);
	MUST(v.unit_count <= VIOT_UNIT_MAX && v.range_count <= VIOT_RANGE_MAX);
	for (uint32_t i = 0; r == 0 && i < v.unit_count; i++)
		MUST(v.unit[i].offset < n && (!v.unit[i].mmio || v.unit[i].base));
	for (uint32_t i = 0; r == 0 && i < v.range_count; i++)
		ends(&v.range[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return as_table(p, n, "VIOT", parse);
}
