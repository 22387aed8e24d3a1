/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

/* xorshift64*: reproducible from its seed; not for secrets. */
struct random { uint64_t s; };
static inline struct random random_seed(uint64_t seed)
{
	return (struct random){seed * 0x9e3779b97f4a7c15ull + 0x1234567ull};
}
static inline uint64_t random_u64(struct random *r)
{
	uint64_t x = r->s ? r->s : 1;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	r->s = x;
	return x * 0x2545f4914f6cdd1dull;
}
/* Uniform enough for tests: 0 .. n-1. */
static inline uint32_t random_below(struct random *r, uint32_t n)
{
	return (uint32_t)(((random_u64(r) >> 32) * n) >> 32);
}
