/* SPDX-License-Identifier: MIT */
// link: boot/handoff.c kernel/lib/strlcpy.c
#include <stdlib.h>
#include <string.h>

#include "boot/handoff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BASE 0x1000u
struct span { const uint8_t *data; size_t size; };

static const uint8_t *at(void *arg, uint64_t pa, size_t len)
{
	const struct span *s = arg;

	if (pa < BASE || pa - BASE > s->size || len > s->size - (pa - BASE))
		return NULL;
	return s->data + (pa - BASE);
}

/* The input is physical memory from BASE on, with the start info first. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct boot_info bi;
	struct span span = {data, size};
	const struct handoff_mem mem = {at, &span};
	const char *why;
	const int r = pvh_handoff(&mem, BASE, &bi, &why);

	if (bi.mem_count > BOOT_MEM_MAX || (r < 0) != (*why != 0) ||
	    strnlen(bi.cmdline, sizeof(bi.cmdline)) == sizeof(bi.cmdline))
		abort();
	for (unsigned i = 0; i < bi.mem_count; i++)
		if (bi.mem[i].size == 0 || bi.mem[i].base + (bi.mem[i].size - 1) < bi.mem[i].base)
			abort();
	return 0;
}
