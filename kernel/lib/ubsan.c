/* SPDX-License-Identifier: MIT */
/*
 * What -fsanitize=undefined calls (make SAN=1). A report is a line in the log and a failure of the run:
 * ubsan_count() is asked by the harness after each test. Linked always, called only in such an image.
 */
#include "kernel/lib/ubsan.h"

#include <stdint.h>

struct location { const char *file; uint32_t line, column; };

static ubsan_reporter report;
static unsigned count;

unsigned ubsan_count(void) { return count; }
void ubsan_set_reporter(ubsan_reporter fn) { report = fn; }

static void found(const char *what, const struct location *at)
{
	count++;
	if (report && count <= 20)
		report(what, at->file, at->line);
}

/* Every check's data begins with the location, so one body serves all. */
#define HANDLER(name, text)                                                                        \
	void __ubsan_handle_##name(const struct location *at);                                     \
	void __ubsan_handle_##name(const struct location *at) { found(text, at); }

HANDLER(add_overflow, "signed addition overflows")
HANDLER(sub_overflow, "signed subtraction overflows")
HANDLER(mul_overflow, "signed multiplication overflows")
HANDLER(negate_overflow, "signed negation overflows")
HANDLER(divrem_overflow, "division by zero, or it overflows")
HANDLER(shift_out_of_bounds, "shift by more than the type has bits, or of a negative value")
HANDLER(out_of_bounds, "array index out of bounds")
HANDLER(type_mismatch_v1, "NULL or too small an object")
HANDLER(vla_bound_not_positive, "array of no or negative size")
HANDLER(load_invalid_value, "a bool or enum holds what its type cannot")
HANDLER(builtin_unreachable, "code that cannot be reached was reached")
HANDLER(missing_return, "end of a function that returns a value")
HANDLER(nonnull_arg, "NULL for a parameter that must not be")
HANDLER(nonnull_return_v1, "NULL from a function that must not return it")
HANDLER(pointer_overflow, "pointer arithmetic overflows")
HANDLER(invalid_builtin, "ctz or clz of zero")
HANDLER(function_type_mismatch, "call through a pointer of another type")
