/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "tests/apic/delivery.h"

#define WINDOW      MS(10)
#define TOLERANCE   200 /* one part in: 0.5 % */
#define READS       2000
#define ROUNDS      16
#define OFTEN       64 /* times as many in the timing suite, while it has … */
#define TIMING      MS(100)
#define HANDOVERS   MS(40) /* for all CPUs together, roughly */
#define HANDOVER_MAX 8u    /* CPUs that do; both spin, and share a core where there are few */

/* The TSC's distance in ns, by the calibrated rate, against the other clock's. */
static void compare(struct t *t, const char *clock, uint64_t ticks, uint64_t other_ns, uint64_t error_ticks)
{
	const uint64_t ns = tsc_to_ns(ticks), off = ns > other_ns ? ns - other_ns : other_ns - ns;
	const uint64_t allowed = other_ns / TOLERANCE + tsc_to_ns(error_ticks);

	EXPECT_MSG(t, off <= allowed, "TSC at %llu kHz against the %s: got %llu ns, expected %llu (+-%llu)",
		   (unsigned long long)tsc_khz(), clock, (unsigned long long)ns, (unsigned long long)other_ns,
		   (unsigned long long)allowed);
	test_metric(t, "what=rate against=%s unit=1/s n=1 value=%llu", clock,
		    (unsigned long long)(ticks * 1000 / MAX(other_ns / 1000, 1ull) * 1000));
}

static void rate(struct t *t)
{
	const bool pm = clock2_present();
	struct clock2 pm0 = {0}, pm1 = {0};
	struct pit_read pit0, pit1;
	bool in_range = false;

	/* 16 bits last 54.9 ms: a vCPU that stalls for that long has lost count, so once more */
	for (unsigned tries = 0; tries < 5; tries++) {
		pit_start();
		delay(US(50)); /* it counts from the next of its own ticks */
		pit0 = pit_read();
		if (pm)
			pm0 = clock2_read();
		delay(WINDOW);
		pit1 = pit_read();
		pm1 = pm ? clock2_read() : pm0;
		in_range = pit1.left < pit0.left && tsc_to_ns(pit1.tsc - pit0.tsc) < MS(50);
		if (in_range)
			break;
	}
	if (pm) {
		compare(t, "pm_timer", pm1.tsc - pm0.tsc, clock2_ns(pm0, pm1), pm0.width + pm1.width);
	}
	if (in_range)
		compare(t, "pit", pit1.tsc - pit0.tsc, (uint64_t)(pit0.left - pit1.left) * SEC(1) / PIT_HZ,
			pit0.width + pit1.width);
	else if (!pm)
		test_skip(t, "no second clock: neither the PM timer nor the PIT runs");
}

/* ---- never backwards ---- */
struct steps {
	unsigned backwards;
	uint64_t worst;
};

static void read_often(void *arg)
{
	struct steps *s = arg;
	uint64_t last = tsc_read();

	for (unsigned i = 0; i < READS; i++) {
		const uint64_t now = tsc_read();

		if (now < last) {
			s->backwards++;
			s->worst = MAX(s->worst, last - now);
		}
		last = now;
	}
}

/* Another CPU reads between two reads of ours. */
static void read_once(void *arg)
{
	*(volatile uint64_t *)arg = tsc_read();
}

static void read_in_turn(struct t *t, unsigned cpu)
{
	volatile uint64_t theirs = 0;
	const uint64_t before = tsc_read();
	uint64_t after;

	REQUIRE_OK(t, cpu_call(cpu, read_once, (void *)&theirs, SEC(2)));
	after = tsc_read();
	EXPECT_MSG(t, before <= theirs && theirs <= after,
		   "CPU %u read the TSC between two reads of CPU 0: got %llu, expected %llu to %llu", cpu,
		   (unsigned long long)theirs, (unsigned long long)before, (unsigned long long)after);
}

/* Two CPUs hand a time stamp to and fro; the one that takes it must not be earlier. */
struct handover {
	volatile uint32_t turn; /* counts up; even: CPU 0's, odd: the other's */
	volatile bool more;
	volatile uint64_t stamp;
	unsigned backwards, rounds;
	uint64_t worst, round_trip;
};

static bool take(struct handover *h, uint32_t turn)
{
	uint64_t now;

	if (!WAIT_FOR(__atomic_load_n(&h->turn, __ATOMIC_ACQUIRE) == turn, MS(500)))
		return false;
	now = tsc_read();
	if (now < h->stamp) {
		h->backwards++;
		h->worst = MAX(h->worst, h->stamp - now);
	}
	h->stamp = tsc_read();
	__atomic_store_n(&h->turn, turn + 1, __ATOMIC_RELEASE);
	return true;
}

static void partner(void *arg)
{
	struct handover *h = arg;

	for (uint32_t turn = 1; take(h, turn) && h->more; turn += 2)
		;
}

/* At least once to and fro; more while there is time: two vCPUs that share a core take turns slowly. */
static void hand_over(struct t *t, unsigned cpu, struct handover *h, uint64_t ns)
{
	const unsigned rounds = (unsigned)test_rounds(t, OFTEN, TIMING).most * ROUNDS;
	const struct deadline end = deadline_in(rounds > ROUNDS ? TIMING : ns);

	*h = (struct handover){.stamp = tsc_read(), .round_trip = UINT64_MAX, .more = true};
	REQUIRE_OK(t, cpu_start(cpu, partner, h));
	for (uint32_t turn = 0; h->more; turn += 2) {
		const uint64_t t0 = tsc_read();

		h->more = turn + 2 < 2 * rounds && !deadline_passed(end);
		if (!take(h, turn) || !WAIT_FOR(h->turn == turn + 2, MS(500)))
			break;
		h->rounds++;
		h->round_trip = MIN(h->round_trip, tsc_read() - t0);
	}
	REQUIRE_OK(t, cpu_wait(cpu, SEC(2)));
	EXPECT_MSG(t, h->rounds && !h->more, "CPU %u: the handover broke off after %u", cpu, h->rounds);
	EXPECT_MSG(t, !h->backwards, "CPU 0 and CPU %u: got the TSC backwards %u times, by %llu ticks", cpu,
		   h->backwards, (unsigned long long)h->worst);
}

/*
 * The TSC is a clock: it runs at the rate we calibrated, and never backwards, on one CPU or from one to
 * the next. Every time that this report states rests on it.
 *
 * SDM vol. 3, 17.17. The rate against the PM timer and the PIT over 10 ms. Every CPU reads between two
 * reads of CPU 0; a stamp is handed to and fro between CPU 0 and up to eight others (the round trip
 * bounds how far the two can be apart).
 */
TEST_TIMED(boot, tsc,
	   "the TSC runs at the calibrated rate against a second clock, never backwards within or across CPUs",
	   NEED_NONE)
{
	const unsigned n = cpu_count();
	struct steps *s = test_alloc(t, sizeof(*s) * n);
	struct handover *h = test_alloc(t, sizeof(*h));
	const unsigned partners = MIN(n - 1, HANDOVER_MAX);
	uint64_t trips[HANDOVER_MAX];

	on_every_cpu(t, read_often, s, sizeof(*s));
	for (unsigned i = 0; i < n; i++)
		EXPECT_MSG(t, !s[i].backwards, "CPU %u: got the TSC backwards %u times, by %llu ticks", i,
			   s[i].backwards, (unsigned long long)s[i].worst);
	for (unsigned i = 1; i < n; i++)
		read_in_turn(t, i);
	for (unsigned i = 1; i <= partners; i++) {
		/* spread over all of them, the last one included */
		unsigned tries = 0;

		do
			hand_over(t, i * (n - 1) / partners, h, HANDOVERS / partners);
		while (test_again(t, &tries));
		trips[i - 1] = h->round_trip; /* the best of its rounds */
	}
	if (partners)
		test_metric_ticks(t, "what=handover", trips, partners);
	rate(t);
}
