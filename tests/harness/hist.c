/* SPDX-License-Identifier: MIT */
#include "tests/harness/hist.h"

#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"

/* The least r with r * r >= x. */
static uint64_t root_up(uint64_t x)
{
	uint64_t low = 0, high = 1ull << 32;

	while (low < high) {
		const uint64_t mid = (low + high) / 2;

		if (mid * mid >= x)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Normal approximation to the binomial, with continuity correction: z = 2.2414, z * z = 5.024. */
size_t median_rank(size_t n)
{
	const uint64_t spread = root_up((uint64_t)n * 5024 / 1000 + 1);

	return n + 1 > spread ? (n + 1 - spread) / 2 : 0;
}

unsigned hist_bucket(uint64_t v, unsigned sub)
{
	unsigned exponent;

	if (v < sub)
		return (unsigned)v;
	/* v = (sub + k) << exponent and something less than 1 << exponent, 0 <= k < sub */
	exponent = (unsigned)(__builtin_clzll(sub) - __builtin_clzll(v));
	return (exponent + 1) * sub + (unsigned)((v >> exponent) - sub);
}

uint64_t hist_lower(unsigned bucket, unsigned sub)
{
	if (bucket < sub)
		return bucket;
	return (uint64_t)(sub + bucket % sub) << (bucket / sub - 1);
}

/* The whole length that it would have. */
static size_t write_runs(const uint64_t *a, size_t n, uint64_t (*value)(uint64_t), unsigned sub, char *buf,
			 size_t size)
{
	size_t used = (size_t)fmt_snprintf(buf, size, "sub=%u", sub);
	unsigned last = 0;

	for (size_t i = 0, first; i < n;) {
		const unsigned bucket = hist_bucket(value(a[i]), sub);

		for (first = i; i < n && hist_bucket(value(a[i]), sub) == bucket; i++)
			;
		if (used >= size)
			return used + 1;
		used += (size_t)(first && bucket == last + 1
			? fmt_snprintf(buf + used, size - used, ",%zu", i - first)
			: fmt_snprintf(buf + used, size - used, " %u:%zu", bucket, i - first));
		last = bucket;
	}
	return used;
}

int hist_text(const uint64_t *ascending, size_t n, uint64_t (*value)(uint64_t), char *buf, size_t size)
{
	for (unsigned sub = HIST_SUB; sub; sub /= 2) {
		const size_t length = write_runs(ascending, n, value, sub, buf, size);

		if (length < size)
			return (int)length;
	}
	return -ENOSPC;
}
