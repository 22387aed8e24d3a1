/* SPDX-License-Identifier: MIT */
/* Apart from string.c, so that host tests can link it beside a libc that has all the others. */
#include "kernel/lib/string.h"

size_t strlcpy(char *dst, const char *src, size_t size)
{
	const size_t n = strlen(src);

	if (size) {
		const size_t m = n < size - 1 ? n : size - 1;

		memcpy(dst, src, m);
		dst[m] = 0;
	}
	return n;
}
