/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

typedef void (*ubsan_reporter)(const char *what, const char *file, uint32_t line);
void ubsan_set_reporter(ubsan_reporter);
unsigned ubsan_count(void);              /* reports so far */
