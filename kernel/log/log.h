/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The report goes out line by line: log_line() formats one whole line and nothing can come between
 * its bytes. Only the boot CPU writes (a panic excepted). It keeps the count and the CRC that the
 * verdict line carries (docs/results.md).
 */
void log_init(void);                     /* finds the UART (0x3f8) or debugcon (0xe9) */
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_vline(const char *prefix, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* What is said before log_begin() is no part of the report, and is said again by log_early() where it is one. */
void log_begin(void);
void log_early(void);
/* The last line: lines= and crc= are added. */
void log_verdict(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_verdict_again(void);
uint32_t log_crc(void);
uint32_t log_lines(void);
void log_raw(const char *text);          /* outside the count and the CRC; for selftest.garble */

/* Stops the machine with "# panic …", registers if any, exit value 0x12. Any CPU, any context. */
void panic(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
#define BUG_ON(cond) do { if (cond) panic("%s:%d: %s", __FILE__, __LINE__, #cond); } while (0)
