/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* CRC-32 (IEEE 802.3), as zlib's crc32(): start with 0 and pass the result on. */
uint32_t crc32_update(uint32_t crc, const void *data, size_t n);
/* Sum of all bytes, modulo 256: 0 for a sound ACPI table. */
uint8_t checksum8(const void *data, size_t n);
