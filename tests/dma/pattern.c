/* SPDX-License-Identifier: MIT */

#include "kernel/lib/sabotage.h"
#include "tests/dma/dma_test.h"

void bytes_copy(void *to, const void *from, size_t n)
{
	size_t words = n / 8, rest = n % 8;

	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
}

size_t bytes_differ(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;
	size_t words = n / 8, at;

	/* CX = 0 leaves the flags alone; an equal comparison first makes that "equal". */
	__asm__ volatile("cmp %%rax, %%rax; repe cmpsq"
			 : "+D"(a), "+S"(b), "+c"(words) : : "memory", "cc");
	/* It stops past the word that differs, or past the last. */
	at = n / 8 - words;
	at = at ? 8 * (at - 1) : 0;
	while (at < n && x[at] == y[at])
		at++;
	return at;
}

void pattern_init(struct pattern *p, uint64_t seed)
{
	uint64_t *w = (uint64_t *)(void *)p->bytes;

	for (size_t i = 0; i < PATTERN_PERIOD / 8; i++)
		w[i] = w[i + PATTERN_PERIOD / 8] = pattern_word(seed, i);
}

void pattern_fill(const struct pattern *p, void *buf, size_t from, size_t to)
{
	while (from < to) {
		const size_t n = (size_t)MIN(to - from, PATTERN_PERIOD);

		bytes_copy((uint8_t *)buf + from, p->bytes + from % PATTERN_PERIOD, n);
		from += n;
	}
}

size_t pattern_check(const struct pattern *p, const void *buf, size_t from, size_t to)
{
	while (from < to) {
		const size_t n = (size_t)MIN(to - from, PATTERN_PERIOD);
		const size_t at =
			bytes_differ((const uint8_t *)buf + from, p->bytes + from % PATTERN_PERIOD, n);

		from += at;
		if (at < n)
			break;
	}
	return from;
}

bool machine_is_slow(void)
{
	/* More than once: a CPU that was away for a moment is not slow. */
	for (unsigned tries = 0; tries < 8; tries++) {
		const uint64_t t0 = time_ns();

		for (volatile unsigned i = 0; i < 100; i = i + 1)
			;
		if (time_ns() - t0 <= US(100) && !SABOTAGE(host_slow))
			return false;
	}
	return true;
}
