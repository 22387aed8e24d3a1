/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/acpi/acpi.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"

/* What the table parsers share. */

/* Notes what is wrong and where, and gives -EINVAL. err may be NULL. */
static inline int acpi_bad(struct acpi_error *err, const char *what, size_t offset)
{
	if (err)
		*err = (struct acpi_error){.what = what, .offset = (uint32_t)offset};
	return -EINVAL;
}

/* Header: signature at 0, length at 4, revision at 8 (ACPI 6.5, 5.2.6). */
static inline uint32_t acpi_length(const uint8_t *p) { return get_le32(p + 4); }
static inline uint8_t acpi_revision(const uint8_t *p) { return p[8]; }
