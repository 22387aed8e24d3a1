/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A subset of C's vsnprintf: flags - 0 # space +, width, precision, * for both, hh h l ll z, and
 * d i u x X o c s p %. No floating point. Returns the length the whole text would have.
 */
int fmt_vsnprintf(char *buf, size_t size, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
int fmt_snprintf(char *buf, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Unsigned number in base 10, 0x… or 0…; advances *s past it. -EINVAL, -ERANGE. */
int fmt_parse_u64(const char **s, uint64_t *out);
/* Shell-like match of a whole string with '*' and '?'. Linear in |pattern| * |text|. */
int fmt_glob(const char *pattern, const char *text);
