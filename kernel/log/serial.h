/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

void serial_init(void);
void serial_write(const char *text, size_t n);
void serial_drain(void);                 /* before the machine ends: what is in the UART would be lost */
const char *serial_name(void); /* "16550 at 0x3f8", "debugcon at 0xe9", "none" */
