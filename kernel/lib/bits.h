/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BIT(n)         (1u << (n))
#define BIT64(n)       (1ull << (n))
/* Mask of bits hi..lo, both included, as specifications write fields. */
#define GENMASK(hi, lo)   ((uint32_t)(((~0u) >> (31 - (hi))) & ((~0u) << (lo))))
#define GENMASK64(hi, lo) (((~0ull) >> (63 - (hi))) & ((~0ull) << (lo)))

#define FIELD_SHIFT_(mask) ((unsigned)__builtin_ctzll((unsigned long long)(mask)))

/* Value of a field, shifted down. The mask must be a constant. */
#define FIELD_GET(mask, word) (((word) & (mask)) >> FIELD_SHIFT_(mask))
/*
 * A field's bits in place. A constant that does not fit is a compile-time error; a variable is cut
 * to the field, so that a bad value cannot spill into its neighbours.
 */
void field_overflow_(void) __attribute__((error("FIELD_PREP: the value does not fit its field")));
#define FIELD_PREP(mask, value)                                                                    \
	(__extension__({                                                                           \
		if (__builtin_constant_p(value) &&                                                 \
		    ((unsigned long long)(value) & ~((unsigned long long)(mask) >> FIELD_SHIFT_(mask)))) \
			field_overflow_();                                                         \
		(__typeof__(mask))((((__typeof__(mask))(value)) << FIELD_SHIFT_(mask)) & (mask));  \
	}))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))

static inline uint64_t align_down(uint64_t x, uint64_t a) { return x & ~(a - 1); }
static inline uint64_t align_up(uint64_t x, uint64_t a) { return (x + a - 1) & ~(a - 1); }
static inline bool is_aligned(uint64_t x, uint64_t a) { return (x & (a - 1)) == 0; }
static inline bool is_pow2(uint64_t x) { return x != 0 && (x & (x - 1)) == 0; }

/* Little-endian reads of unaligned bytes, for tables that others wrote. */
static inline uint16_t get_le16(const uint8_t *p) { return (uint16_t)(p[0] | (p[1] << 8)); }
static inline uint32_t get_le32(const uint8_t *p)
{
	return (uint32_t)get_le16(p) | ((uint32_t)get_le16(p + 2) << 16);
}
static inline uint64_t get_le64(const uint8_t *p)
{
	return (uint64_t)get_le32(p) | ((uint64_t)get_le32(p + 4) << 32);
}
