/* SPDX-License-Identifier: MIT */
#pragma once

/* What the fuzzers of ACPI tables share. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/acpi/acpi.h"

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

/*
 * As it is, and with signature, length and checksum made to fit, in a block of just its size: without
 * the second, next to no input would come past the checksum.
 */
static inline int as_table(const uint8_t *p, size_t n, const char *sig, void (*parse)(const uint8_t *, size_t))
{
	uint8_t *copy, sum = 0;

	parse(p, n);
	if (n < ACPI_HEADER_SIZE)
		return 0;
	copy = malloc(n);
	memcpy(copy, p, n);
	memcpy(copy, sig, 4);
	for (unsigned i = 0; i < 4; i++)
		copy[4 + i] = (uint8_t)(n >> (8 * i));
	copy[9] = 0;
	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + copy[i]);
	copy[9] = (uint8_t)-sum;
	parse(copy, n);
	free(copy);
	return 0;
}
