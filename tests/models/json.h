/* SPDX-License-Identifier: MIT */
#pragma once

/* Just enough of JSON (RFC 8259) for the capabilities of a vfio-user client. Pure, bounded in depth. */

#include <stdbool.h>
#include <stddef.h>

enum { JSON_DEPTH = 16 };

/* Is it one value, and nothing else? */
bool json_valid(const char *text, size_t n);
/* Is there a `true` at this path of member names? Of names that repeat, the first counts. */
bool json_true_at(const char *text, size_t n, const char *const *path, unsigned depth);
