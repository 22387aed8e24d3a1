/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/s5.c
#include "tests/host/fuzz/table_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	uint8_t a = 0xee, b = 0xee;

	MUST(dsdt_find_s5(p, n, &a, &b) < 0 || (a <= 7 && b <= 7));
	return 0;
}
