/* SPDX-License-Identifier: MIT */
#pragma once

/* Builds ACPI tables byte by byte, and damages them in every way that a single fault can. */

#include <stdbool.h>
#include <stdint.h>

#include "kernel/acpi/acpi.h"
#include "tests/host/host.h"

struct bytes { uint8_t p[1 << 17]; size_t n; };

static void put(struct bytes *b, uint64_t v, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		b->p[b->n++] = (uint8_t)(v >> (8 * i));
}
static void put_zeros(struct bytes *b, size_t n)
{
	memset(b->p + b->n, 0, n);
	b->n += n;
}
static void begin(struct bytes *b, const char *sig)
{
	b->n = 0;
	put_zeros(b, ACPI_HEADER_SIZE);
	memcpy(b->p, sig, 4);
	b->p[8] = 3;
}
static void fix_sum(uint8_t *p, size_t n)
{
	uint8_t sum = 0;

	p[9] = 0;
	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + p[i]);
	p[9] = (uint8_t)-sum;
}
static void seal(struct bytes *b)
{
	for (unsigned i = 0; i < 4; i++)
		b->p[4 + i] = (uint8_t)(b->n >> (8 * i));
	fix_sum(b->p, b->n);
}

/* Gives fn the n bytes in a block of just that size, so that ASan sees a byte too far. */
static int on_exact(const uint8_t *p, size_t n, int (*fn)(const uint8_t *, size_t))
{
	uint8_t *copy = malloc(n ? n : 1);
	int r;

	memcpy(copy, p, n);
	r = fn(copy, n);
	free(copy);
	return r;
}

/*
 * Every truncation, as it is and with length and checksum made to fit; every bit flipped, as it is and
 * with the checksum made to fit. fn returns what the parser did, and CHECKs what it gave. Without the
 * checksum's help, every damage to the first bytes covered must be refused.
 */
static void damage(const struct bytes *good, int (*fn)(const uint8_t *, size_t))
{
	static struct bytes b;

	for (size_t n = 0; n < good->n; n++) {
		CHECK(on_exact(good->p, n, fn) < 0);
		if (n < ACPI_HEADER_SIZE)
			continue;
		b = *good;
		b.n = n;
		seal(&b);
		on_exact(b.p, n, fn);
	}
	for (size_t i = 0; i < good->n; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			b = *good;
			b.p[i] ^= (uint8_t)(1u << bit);
			CHECK(on_exact(b.p, b.n, fn) < 0);
			fix_sum(b.p, b.n);
			on_exact(b.p, b.n, fn);
		}
	}
}
