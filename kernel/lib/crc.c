/* SPDX-License-Identifier: MIT */
#include "kernel/lib/crc.h"

/* Half a byte at a time: 64 bytes of table, fast enough for a serial log. */
uint32_t crc32_update(uint32_t crc, const void *data, size_t n)
{
	static const uint32_t nibble[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const uint8_t *p = data;

	crc = ~crc;
	for (; n; n--, p++) {
		crc = (crc >> 4) ^ nibble[(crc ^ *p) & 15];
		crc = (crc >> 4) ^ nibble[(crc ^ (uint32_t)(*p >> 4)) & 15];
	}
	return ~crc;
}

uint8_t checksum8(const void *data, size_t n)
{
	const uint8_t *p = data;
	unsigned sum = 0;

	while (n--)
		sum += *p++;
	return (uint8_t)sum;
}
