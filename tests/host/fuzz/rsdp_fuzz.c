/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/rsdp.c kernel/lib/crc.c
#include "tests/host/fuzz/table_fuzz.h"

static void sum(uint8_t *p, size_t n, size_t where)
{
	uint8_t s = 0;

	p[where] = 0;
	for (size_t i = 0; i < n; i++)
		s = (uint8_t)(s + p[i]);
	p[where] = (uint8_t)-s;
}

/* As it is, and with signature and checksums made to fit. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	memcpy(copy, p, n);
	for (unsigned pass = 0; pass < 2; pass++) {
		struct acpi_error err = {0};
		uint64_t root = 0;
		unsigned width = 0;

		if (rsdp_parse(copy, n, &root, &width, &err) == 0)
			MUST(root && (width == 4 || width == 8));
		else
			MUST(err.what);
		if (n < 20)
			break;
		memcpy(copy, "RSD PTR ", 8);
		sum(copy, 20, 8);
		if (n >= 36)
			sum(copy, copy[20] <= n && copy[20] >= 36 ? copy[20] : 36, 32);
	}
	free(copy);
	return 0;
}
