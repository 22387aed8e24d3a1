/* SPDX-License-Identifier: MIT */
// link: kernel/acpi/prt.c
#include "tests/host/fuzz/table_fuzz.h"

/* The first two bytes ask, the rest is the table. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct prt_route r = {.link = "?"};

	if (n < 2)
		return 0;
	if (prt_find(p + 2, n - 2, 0, p[0] & 31, p[1] & 3, &r) == 0)
		MUST(!r.link[4] && !(r.programmable && !r.link[0]));
	return 0;
}
