// SPDX-License-Identifier: MIT
// link: kernel/lib/strlcpy.c
/* The kernel's own string functions, under names that leave the host's alone, against plain loops. */
#include "tests/host/host.h"

#define memcpy  k_memcpy
#define memmove k_memmove
#define memset  k_memset
#define memcmp  k_memcmp
#define strlen  k_strlen
#define strnlen k_strnlen
#define strcmp  k_strcmp
#define strncmp k_strncmp
#define strchr  k_strchr
#define strstr  k_strstr
#include "kernel/lib/string.c"

#define SIZE 96

static uint8_t a[SIZE], b[SIZE], want[SIZE];

static void fresh(uint8_t *p, unsigned salt)
{
	for (unsigned i = 0; i < SIZE; i++)
		p[i] = (uint8_t)(i * 29 + salt);
}

static bool same(const uint8_t *x, const uint8_t *y)
{
	unsigned i = 0;

	while (i < SIZE && x[i] == y[i])
		i++;
	return i == SIZE;
}

/* Every length and both alignments: what is asked for, and not a byte beside it. */
static void test_fill_and_copy(void)
{
	for (unsigned n = 0; n <= 40; n++) {
		for (unsigned at = 0; at < 8; at++) {
			fresh(a, 1);
			fresh(want, 1);
			for (unsigned i = 0; i < n; i++)
				want[at + i] = 0xfe;
			CHECK(k_memset(a + at, 0x1fe, n) == a + at);
			CHECK(same(a, want));
			for (unsigned from = 0; from < 8; from++) {
				fresh(a, 1);
				fresh(b, 7);
				fresh(want, 1);
				for (unsigned i = 0; i < n; i++)
					want[at + i] = b[from + i];
				CHECK(k_memcpy(a + at, b + from, n) == a + at);
				CHECK(same(a, want));
			}
		}
	}
}

static void test_move(void)
{
	for (unsigned n = 0; n <= 40; n++)
		for (unsigned to = 0; to < 24; to++)
			for (unsigned from = 0; from < 24; from++) {
				fresh(a, 3);
				fresh(b, 3);
				fresh(want, 3);
				for (unsigned i = 0; i < n; i++)
					want[to + i] = b[from + i];
				k_memmove(a + to, a + from, n);
				CHECK(same(a, want));
			}
}

static int sign(int x) { return (x > 0) - (x < 0); }

static void test_compare(void)
{
	for (unsigned n = 0; n <= 40; n++) {
		for (unsigned at = 0; at < 8; at++) {
			fresh(a, 5);
			fresh(b, 5);
			a[at + n] ^= 0xff; /* just past the end: does not count */
			CHECK_EQ(k_memcmp(a + at, b + at, n), 0);
			a[at + n] ^= 0xff;
			for (unsigned i = 0; i < n; i++) {
				a[at + i] ^= 0x80;
				/* the first difference decides, not a later one */
				a[at + n - 1] ^= i < n - 1 ? 0x41 : 0;
				CHECK(sign(k_memcmp(a + at, b + at, n)) == sign(a[at + i] - b[at + i]));
				a[at + i] = b[at + i];
				a[at + n - 1] = b[at + n - 1];
			}
		}
	}
}

static void test_strings(void)
{
	CHECK_EQ(k_strlen("abc"), 3);
	CHECK_EQ(k_strnlen("abcdef", 4), 4);
	CHECK_EQ(k_strcmp("abc", "abc"), 0);
	CHECK(k_strcmp("abc", "abd") < 0);
	CHECK(k_strcmp("ab\xff", "ab") > 0);
	CHECK_EQ(k_strncmp("abcd", "abce", 3), 0);
	CHECK(k_strchr("plumb", 'u') != NULL && *k_strchr("plumb", 'u') == 'u');
	CHECK(k_strchr("plumb", 'x') == NULL);
	CHECK_EQ(k_strlen(k_strstr("one two", "two")), 3);
	CHECK(k_strstr("one two", "too") == NULL);
}

int main(void)
{
	test_fill_and_copy();
	test_move();
	test_compare();
	test_strings();
	return host_done("string");
}
