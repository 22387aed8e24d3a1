/* SPDX-License-Identifier: MIT */
/* What a test says: notes, metrics, findings. */
#include "kernel/lib/fmt.h"
#include "kernel/log/log.h"
#include "tests/harness/hist.h"
#include "tests/harness/runner.h"

#define HIST_FROM 9u   /* samples; below, the figures say it all */

void test_note(struct t *t, const char *fmt, ...)
{
	va_list ap;

	(void)t;
	va_start(ap, fmt);
	log_vline("# note ", fmt, ap);
	va_end(ap);
}

void test_metric(struct t *t, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	fmt_vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_line("# metric %s.%s %s%s", t->test->suite, t->test->name, text, env_context());
}

/* Heap sort: no recursion, no worst case. */
static void sift(uint64_t *a, size_t i, size_t n)
{
	for (size_t c; (c = 2 * i + 1) < n; i = c) {
		const uint64_t x = a[i];

		if (c + 1 < n && a[c + 1] > a[c])
			c++;
		if (x >= a[c])
			return;
		a[i] = a[c];
		a[c] = x;
	}
}

void sort_ticks(uint64_t *a, size_t n)
{
	for (size_t i = n / 2; i > 0; i--)
		sift(a, i - 1, n);
	for (size_t end = n; end > 1; end--) {
		const uint64_t x = a[0];

		a[0] = a[end - 1];
		a[end - 1] = x;
		sift(a, 0, end - 1);
	}
}

/* " p50.lo=… p50.hi=…": what encloses the median, see median_rank(). */
static void median_text(const uint64_t *sorted, size_t n, uint64_t (*value)(uint64_t), char *buf, size_t size)
{
	const size_t rank = median_rank(n);

	buf[0] = '\0';
	if (rank)
		fmt_snprintf(buf, size, " p50.lo=%llu p50.hi=%llu", (unsigned long long)value(sorted[rank - 1]),
			     (unsigned long long)value(sorted[n - rank]));
}

static void say_hist(struct t *t, const uint64_t *ticks, size_t n)
{
	char text[900];

	if (n < HIST_FROM || kvm_emulates()) /* the latter: a line takes tens of milliseconds */
		return;
	if (hist_text(ticks, n, tsc_to_ns, text, sizeof(text)) >= 0)
		log_line("# hist %s.%s %s", t->test->suite, t->test->name, text);
}

void test_metric_rounds(struct t *t, const char *series, uint64_t *ticks, size_t n, size_t batch)
{
	static uint64_t middle[ROUNDS_MAX];
	size_t rounds = 0;
	uint64_t sum = 0;
	char median[80];

	if (n == 0)
		test_error(t, "metric %s has no samples", series);
	n = rounds_quiet(ticks, n, batch);
	for (size_t i = 0; i + batch <= n && rounds < ROUNDS_MAX; i += batch) {
		sort_ticks(ticks + i, batch);
		middle[rounds++] = ticks[i + (batch - 1) / 2];
	}
	sort_ticks(ticks, n);
	for (size_t i = 0; i < n; i++)
		sum += ticks[i];
	sort_ticks(middle, rounds);
	if (median_rank(rounds))
		median_text(middle, rounds, tsc_to_ns, median, sizeof(median));
	else
		median_text(ticks, n, tsc_to_ns, median, sizeof(median));
	/* nearest rank: the smallest sample that p ‰ of all do not exceed */
#define P(p) (unsigned long long)tsc_to_ns(ticks[((n) * (p) + 999) / 1000 - 1])
	test_metric(t, "%s unit=ns n=%zu min=%llu p50=%llu p90=%llu p99=%llu p99.9=%llu max=%llu mean=%llu%s%s", series,
		    n, (unsigned long long)tsc_to_ns(ticks[0]), P(500), P(900), P(990), P(999),
		    (unsigned long long)tsc_to_ns(ticks[n - 1]), (unsigned long long)tsc_to_ns(sum / n),
		    median, rounds_text());
#undef P
	say_hist(t, ticks, n);
}

void test_metric_ticks(struct t *t, const char *series, uint64_t *ticks, size_t n)
{
	test_metric_rounds(t, series, ticks, n, n);
}

static uint64_t same(uint64_t x) { return x; }

void test_metric_rate(struct t *t, const char *series, const char *unit, uint64_t work, unsigned shift,
		      uint64_t *ticks, size_t n, size_t batch)
{
	char median[80];

	n = rounds_quiet(ticks, n, batch);
	for (size_t i = 0; i < n; i++)
		ticks[i] = (work * 1000 * tsc_khz() / MAX(ticks[i], 1u)) >> shift;
	sort_ticks(ticks, n);
	median_text(ticks, n, same, median, sizeof(median));
	test_metric(t, "%s unit=%s n=%zu min=%llu p50=%llu max=%llu%s%s", series, unit, n, (unsigned long long)ticks[0],
		    (unsigned long long)ticks[(n - 1) / 2], (unsigned long long)ticks[n - 1], median, rounds_text());
}

void test_finding(struct t *t, const char *id, const char *likely, const char *remedy, const char *evidence,
		  const char *fmt, ...)
{
	char prefix[32];
	va_list ap;

	t->findings++;
	fmt_snprintf(prefix, sizeof(prefix), "# finding %s ", id);
	va_start(ap, fmt);
	log_vline(prefix, fmt, ap);
	va_end(ap);
	if (evidence)
		log_line("%sevidence %s", prefix, evidence);
	if (likely)
		log_line("%slikely %s", prefix, likely);
	if (remedy)
		log_line("%sdo %s", prefix, remedy);
}

uint64_t test_measure_nothing(void)
{
	uint64_t least = ~0ull;

	for (unsigned i = 0; i < 64; i++) {
		const uint64_t t0 = tsc_read(), ticks = tsc_read() - t0;

		least = MIN(least, ticks);
	}
	return least;
}
