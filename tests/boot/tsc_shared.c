/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "tests/harness/test.h"

#define WINDOW    MS(2)
#define TOLERANCE 200 /* one part in: 0.5 %, as boot.tsc */

struct reader {
	volatile bool stop;
	unsigned pause; /* turns between two reads: where two CPUs meet differs from host to host */
};

static void read_on(void *arg)
{
	const struct reader *r = arg;
	const struct deadline end = deadline_in(MS(500));

	while (!r->stop && !deadline_passed(end))
		for (volatile unsigned i = 0; i < r->pause; i++)
			;
}

struct window { uint64_t tsc_ns, pm_ns, error_ns; };

/* Both CPUs read all the while: this one in delay(). */
static struct window measure(struct t *t, unsigned pause)
{
	struct reader r = {.pause = pause};
	struct clock2 a, b;

	REQUIRE_OK(t, cpu_start(1, read_on, &r));
	delay(US(50));
	a = clock2_read();
	delay(WINDOW);
	b = clock2_read();
	r.stop = true;
	REQUIRE_OK(t, cpu_wait(1, SEC(2)));
	return (struct window){tsc_to_ns(b.tsc - a.tsc), clock2_ns(a, b), tsc_to_ns(a.width + b.width)};
}

/*
 * The TSC keeps its rate while two CPUs read it.
 *
 * SDM vol. 3, 17.17: it counts whoever looks. A hypervisor that gives one clock to all can lose hold of it here:
 * QEMU's TCG keeps it from going back, and pushes it forward for that whenever of two reads the later one got
 * the lower host's TSC. What a guest then times is too long, and a timer that it sets by the TSC is early.
 */
TEST(boot, tsc_shared, "the TSC keeps its rate against the PM timer while two CPUs read it", NEED_SMP)
{
	static const unsigned pauses[] = {0, 4, 16, 64};
	struct window worst = {0};
	uint64_t most = 0;

	if (!clock2_present())
		test_skip(t, "no PM timer to hold it against");
	if (smp_report.in_turn)
		test_skip(t, "one thread runs all CPUs: no two read at once");
	for (unsigned i = 0; i < ARRAY_SIZE(pauses); i++) {
		const struct window w = measure(t, pauses[i]);
		const uint64_t off = w.tsc_ns > w.pm_ns ? w.tsc_ns - w.pm_ns : w.pm_ns - w.tsc_ns;
		const uint64_t allowed = w.pm_ns / TOLERANCE + w.error_ns;

		EXPECT_MSG(t, off <= allowed,
			   "TSC while CPU 1 reads it too: got %llu ns, expected %llu by the PM timer (+-%llu)",
			   (unsigned long long)w.tsc_ns, (unsigned long long)w.pm_ns, (unsigned long long)allowed);
		if (off >= most) {
			most = off;
			worst = w;
		}
	}
	test_metric(t, "what=rate unit=1/s n=1 value=%llu",
		    (unsigned long long)(tsc_khz() * worst.tsc_ns / MAX(worst.pm_ns, 1ull) * 1000));
}
