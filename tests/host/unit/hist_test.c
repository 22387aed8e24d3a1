/* SPDX-License-Identifier: MIT */
// link: tests/harness/hist.c kernel/lib/fmt.c kernel/lib/strlcpy.c -lm
#include "tests/harness/hist.h"

#include "kernel/lib/err.h"
#include "kernel/lib/random.h"
#include "tests/host/host.h"

#include <math.h>

static uint64_t same(uint64_t v) { return v; }
static uint64_t tenfold(uint64_t v) { return 10 * v; }

/* Each value lies in its bucket, buckets ascend without a gap, none is wider than told. */
static void test_buckets(void)
{
	struct random r = random_seed(7);

	for (unsigned sub = 1; sub <= HIST_SUB; sub *= 2) {
		const unsigned last = hist_bucket(UINT64_MAX, sub);

		CHECK(last < (66 - (unsigned)__builtin_ctz(sub)) * sub);
		for (unsigned b = 0; b < last; b++) {
			const uint64_t lower = hist_lower(b, sub), next = hist_lower(b + 1, sub);

			CHECK(next > lower);
			CHECK(next - lower == 1 || next - lower <= lower / sub);
			CHECK_EQ(hist_bucket(lower, sub), b);
			CHECK_EQ(hist_bucket(next - 1, sub), b);
		}
		for (unsigned i = 0; i < 2000; i++) {
			const uint64_t v = random_u64(&r) >> (i % 64);

			CHECK(hist_lower(hist_bucket(v, sub), sub) <= v);
			CHECK(hist_bucket(v, sub) == last || v < hist_lower(hist_bucket(v, sub) + 1, sub));
		}
	}
}

static void test_text(void)
{
	static const uint64_t few[] = {0, 0, 3, 4, 16, 17, 22082, 22090, 23000, 90000};
	static const uint64_t gaps[] = {1, 3, 4, 6};
	static uint64_t wide[900];
	char buf[900];

	CHECK(hist_text(few, 10, same, buf, sizeof(buf)) > 0);
	CHECK(!strcmp(buf, "sub=16 0:2 3:1,1 16:1,1 181:2,1 213:1"));
	hist_text(few, 10, tenfold, buf, sizeof(buf));
	CHECK(!strncmp(buf, "sub=16 0:2 30:1 36:1 ", 21));
	CHECK(hist_text(gaps, 4, same, buf, sizeof(buf)) > 0 && !strcmp(buf, "sub=16 1:1 3:1,1 6:1"));
	hist_text(few, 0, same, buf, sizeof(buf));
	CHECK(!strcmp(buf, "sub=16"));

	/* What does not fit gets coarser, and is cut off nowhere. */
	for (unsigned i = 0; i < 900; i++)
		wide[i] = hist_lower(i, 16);
	for (size_t size = 8; size < sizeof(buf); size++) {
		const int n = hist_text(wide, 900, same, buf, size);
		uint64_t sum = 0;

		if (n == -ENOSPC) {
			CHECK(size < 400);
			continue;
		}
		CHECK((size_t)n == strlen(buf) && (size_t)n < size);
		for (const char *p = strchr(buf, ' '); p && *p; p++)
			if (*p == ':' || *p == ',')
				sum += strtoull(p + 1, NULL, 10);
		CHECK_EQ(sum, 900);
	}
	CHECK(!strncmp(buf, "sub=4 ", 6));
}

/* P(no more than k of n fair coins) by the logarithms of its terms. */
static double coins(unsigned n, unsigned k)
{
	double sum = 0;

	for (unsigned i = 0; i <= k; i++)
		sum += exp(lgamma(n + 1.0) - lgamma(i + 1.0) - lgamma(n - i + 1.0) - n * M_LN2);
	return sum;
}

/* Never less than the confidence, and hardly more. */
static void test_median_rank(void)
{
	for (unsigned n = 0; n <= 1200; n++) {
		const unsigned rank = (unsigned)median_rank(n);

		CHECK(rank <= n / 2);
		CHECK(rank == 0 || coins(n, rank - 1) <= 0.0125);
		CHECK(coins(n, rank + 1) > 0.0125);
	}
	CHECK_EQ(median_rank(6), 0);
	CHECK_EQ(median_rank(7), 1);
	CHECK_EQ(median_rank(1u << 30), (1u << 29) - 36724);
}

int main(void)
{
	test_median_rank();
	test_buckets();
	test_text();
	return host_done("hist");
}
