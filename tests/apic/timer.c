/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "kernel/lib/sabotage.h"
#include "tests/apic/delivery.h"

/* SDM vol. 3, 11.5.4. */
#define TIMER_ONE_SHOT 0u
#define TIMER_PERIODIC BIT(17)
#define TIMER_TSC_DEADLINE BIT(18)
#define LVT_MASKED BIT(16)
#define DIVIDE_BY_1 0xbu
#define MSR_TSC_DEADLINE 0x6e0u

#define SHORT US(500)
#define PERIODS 4
#define SHOTS 16 /* for the metric, of 100 us */
#define OFTEN 32 /* times as many in the timing suite, while it has … */
#define TIMING MS(400)
#define DIVISORS 7
#define EARLY 50 /* one part in: 2 %, for we calibrate it against the TSC */

/* One vector for each phase, so that a late one is never taken for another's. */
enum { ONE_SHOT, PERIODIC, MASKED, STOPPED, DEADLINE, PAST, DISARMED, PHASES };

struct timer {
	struct delivery *d;
	unsigned cpu;
	uint64_t per_ms;                                /* counts */
	uint64_t one_shot_ns, periodic_ns, deadline_ns; /* from start to (the last) handler */
	uint32_t periods, left_running, left_masked, left_deadline;
	bool kept_deadline, count_moves;
	bool judged[DIVISORS], divides[DIVISORS]; /* by 2, 4, … 128 */
	uint32_t slow[PHASES];                    /* came although called off, for we were too slow to call */
	uint64_t late[SHOTS], least;     /* the latter from its start, ticks */
};

static uint32_t count_for(const struct timer *m, uint64_t ns)
{
	return (uint32_t)(m->per_ms * ns / MS(1) / (SABOTAGE(timer_early) ? 2 : 1));
}

/* Stopped first: QEMU starts anew from the old count when the mode changes. */
static void lvt(const struct timer *m, uint32_t mode, unsigned phase)
{
	apic_write(APIC_TIMER_INIT, 0);
	apic_write(APIC_LVT_TIMER, mode | (uint32_t)m->d->vector[phase]);
}

static uint32_t came(const struct timer *m, unsigned phase)
{
	return delivery_count(m->d, m->cpu, phase);
}

static uint64_t since(const struct timer *m, uint64_t start, unsigned phase)
{
	return tsc_to_ns(irq_last_tsc(m->cpu, m->d->vector[phase]) - start);
}

/*
 * Counts in a millisecond, rather too many than too few. Both accesses stand between TSC reads; false: a
 * stall in one of them has made the result worth nothing.
 */
static bool rate(uint64_t ns, uint64_t *per_ms, uint32_t *left)
{
	uint64_t t[4];

	t[0] = tsc_read();
	apic_write(APIC_TIMER_INIT, UINT32_MAX);
	t[1] = tsc_read();
	delay(ns);
	t[2] = tsc_read();
	*left = apic_read(APIC_TIMER_CUR);
	t[3] = tsc_read();
	apic_write(APIC_TIMER_INIT, 0);
	*per_ms = (uint64_t)(UINT32_MAX - *left) * MS(1) / MAX(tsc_to_ns(t[2] - t[1]), 1ull);
	return (t[1] - t[0]) + (t[3] - t[2]) < (t[2] - t[1]) / 16;
}

static bool calibrate(struct timer *m)
{
	return rate(MS(2), &m->per_ms, &m->left_running);
}

/*
 * SDM vol. 3, figure 11-10: bits 3, 1 and 0; 000 divides by 2, each step by twice as much, 111 by 1. Each
 * beside the undivided rate, for clocks wander under a nested hypervisor; again until it fits: a wrong
 * divisor never does.
 */
static void divide(struct timer *m)
{
	for (unsigned i = 0; i < DIVISORS; i++)
		for (unsigned k = 0; k < 8 && !m->divides[i]; k++) {
			uint64_t undivided, divided;
			uint32_t left;
			bool good;

			apic_write(APIC_TIMER_DIV, DIVIDE_BY_1);
			good = rate(US(200), &undivided, &left);
			apic_write(APIC_TIMER_DIV, (i & 4) << 1 | (i & 3));
			good &= rate(US(200), &divided, &left);
			if (!good)
				continue; /* a stall: worth nothing */
			divided <<= i + 1;
			m->judged[i] = true;
			m->divides[i] =
				divided > undivided - undivided / 4 && divided < undivided + undivided / 4;
		}
	apic_write(APIC_TIMER_DIV, DIVIDE_BY_1);
}

static void start_and_stop(struct timer *m)
{
	apic_write(APIC_TIMER_INIT, count_for(m, MS(1)));
	apic_write(APIC_TIMER_INIT, 0);
}

static void arm_and_disarm(struct timer *m)
{
	(void)m;
	wrmsr(MSR_TSC_DEADLINE, tsc_read() + ns_to_tsc(MS(1)));
	wrmsr(MSR_TSC_DEADLINE, 0);
}

static void arm_and_leave(struct timer *m)
{
	apic_write(APIC_LVT_TIMER, TIMER_TSC_DEADLINE | (uint32_t)m->d->vector[DISARMED]);
	__asm__ volatile("mfence" : : : "memory");
	wrmsr(MSR_TSC_DEADLINE, tsc_read() + ns_to_tsc(MS(1)));
	apic_write(APIC_LVT_TIMER, TIMER_ONE_SHOT | (uint32_t)m->d->vector[DISARMED]);
	m->kept_deadline |= rdmsr(MSR_TSC_DEADLINE) != 0;
}

/* Started for 1 ms and called off at once: it must not come. Again, if we were stalled in between. */
static void call_off(struct timer *m, unsigned phase, void (*fn)(struct timer *))
{
	for (unsigned i = 0; i < 8; i++) {
		const uint64_t start = tsc_read();
		bool in_time;

		fn(m);
		in_time = tsc_to_ns(tsc_read() - start) < US(900);
		delay(MS(2));
		if (in_time)
			break;
		m->slow[phase] = came(m, phase);
	}
}

static void use_deadline(struct timer *m)
{
	uint64_t start;

	lvt(m, TIMER_TSC_DEADLINE, DEADLINE);
	__asm__ volatile("mfence" : : : "memory"); /* 11.5.4.1: the mode first */
	start = tsc_read();
	wrmsr(MSR_TSC_DEADLINE, start + ns_to_tsc(SHORT));
	(void)WAIT_FOR(came(m, DEADLINE), MS(500));
	m->deadline_ns = since(m, start, DEADLINE);
	m->left_deadline = rdmsr(MSR_TSC_DEADLINE) != 0;

	lvt(m, TIMER_TSC_DEADLINE, PAST);
	wrmsr(MSR_TSC_DEADLINE, tsc_read() - ns_to_tsc(US(1)));
	(void)WAIT_FOR(came(m, PAST), MS(500));

	lvt(m, TIMER_TSC_DEADLINE, DISARMED);
	call_off(m, DISARMED, arm_and_disarm);
	call_off(m, DISARMED, arm_and_leave); /* 11.5.4.1: another mode disarms it */
	lvt(m, TIMER_TSC_DEADLINE, DISARMED);
	apic_write(APIC_TIMER_INIT, count_for(m, SHORT)); /* and in this mode the count does nothing */
	m->count_moves = apic_read(APIC_TIMER_CUR) != 0;
	delay(2 * SHORT);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
}

static void run_timer(void *arg)
{
	struct timer *m = arg;
	uint64_t start;

	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	apic_write(APIC_TIMER_DIV, DIVIDE_BY_1);
	for (unsigned i = 0; i < 5 && !calibrate(m); i++)
		;
	divide(m);

	lvt(m, TIMER_ONE_SHOT, ONE_SHOT);
	start = tsc_read();
	apic_write(APIC_TIMER_INIT, count_for(m, SHORT));
	(void)WAIT_FOR(came(m, ONE_SHOT), MS(500));
	m->one_shot_ns = since(m, start, ONE_SHOT);
	delay(2 * SHORT); /* it must not come again */

	lvt(m, TIMER_PERIODIC, PERIODIC);
	start = tsc_read();
	apic_write(APIC_TIMER_INIT, count_for(m, SHORT));
	(void)WAIT_FOR(came(m, PERIODIC) >= PERIODS, MS(500));
	apic_write(APIC_TIMER_INIT, 0);
	delay(MS(1)); /* one that had fired already */
	m->periods = came(m, PERIODIC);
	m->periodic_ns = since(m, start, PERIODIC);
	delay(2 * SHORT);

	lvt(m, TIMER_ONE_SHOT | LVT_MASKED, MASKED);
	apic_write(APIC_TIMER_INIT, count_for(m, SHORT));
	delay(2 * SHORT);
	m->left_masked = apic_read(APIC_TIMER_CUR);

	lvt(m, TIMER_ONE_SHOT, STOPPED);
	call_off(m, STOPPED, start_and_stop);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);

	if (cpu_features.tsc_deadline)
		use_deadline(m);
}

/* How late a one-shot of 100 us is, after its first handler instruction. */
static void measure_late(void *arg)
{
	struct timer *m = arg;

	m->least = UINT64_MAX;
	for (unsigned i = 0; i < SHOTS; i++) {
		const uint32_t before = came(m, ONE_SHOT);
		uint64_t start, ticks;

		lvt(m, TIMER_ONE_SHOT, ONE_SHOT);
		start = tsc_read();
		apic_write(APIC_TIMER_INIT, count_for(m, US(100)));
		(void)WAIT_FOR(came(m, ONE_SHOT) != before, MS(500));
		ticks = irq_last_tsc(m->cpu, m->d->vector[ONE_SHOT]) - start;
		m->least = MIN(m->least, ticks);
		m->late[i] = ticks > ns_to_tsc(US(100)) ? ticks - ns_to_tsc(US(100)) : 0;
	}
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
}

static void not_early(struct t *t, unsigned cpu, const char *what, uint64_t got, uint64_t want)
{
	EXPECT_MSG(t, got >= want - want / EARLY,
		   "CPU %u, %s: too early: got %llu ns, expected at least %llu", cpu, what,
		   (unsigned long long)got, (unsigned long long)want);
}

/*
 * The local APIC's timer fires when it is due: not before, once or again and again as told, and not when
 * it is masked, stopped or disarmed.
 *
 * SDM vol. 3, 11.5.4. Its rate is taken from the TSC first; nothing says that it must be punctual, so late is
 * a metric, early is wrong. TSC-deadline mode where the CPU has it: a deadline that has passed fires at
 * once, 0 and another mode disarm, the register is 0 after it fired, and the count does nothing (11.5.4.1).
 * All divisors against the undivided rate. On CPU 0 and on another.
 */
TEST_TIMED(apic, timer, "one-shot, periodic, TSC-deadline: fire once/again, not early, mask, stop", NEED_NONE)
{
	struct delivery *d = delivery_open(t, PHASES);
	struct timer *m = test_alloc(t, sizeof(*m));
	struct rounds rounds = test_rounds(t, OFTEN, TIMING);
	uint64_t *late = test_alloc(t, rounds.most * sizeof(m->late));

	for (unsigned cpu = 0; cpu < MIN(d->cpus, 2u); cpu++) {
		char series[32];

		*m = (struct timer){.d = d, .cpu = cpu};
		REQUIRE_OK(t, cpu_call(cpu, run_timer, m, SEC(4)));
		EXPECT_MSG(t, m->left_running < UINT32_MAX && m->per_ms, "CPU %u: the timer does not count",
			   cpu);
		for (unsigned i = 0; i < DIVISORS; i++) {
			EXPECT_MSG(t, m->divides[i] || !m->judged[i],
				   "CPU %u: with the divisor %u the timer does not count at such a part of "
				   "its rate",
				   cpu, 2u << i);
			if (!m->judged[i])
				test_note(t, "CPU %u, divided by %u: not judged, each try was held up", cpu,
					  2u << i);
		}
		not_early(t, cpu, "one-shot", m->one_shot_ns, SHORT);
		EXPECT_MSG(t, m->periods >= PERIODS, "CPU %u, periodic: got %u, expected at least %u", cpu,
			   m->periods, PERIODS);
		not_early(t, cpu, "periodic, all periods", m->periodic_ns, m->periods * SHORT);
		EXPECT_MSG(t, m->left_masked == 0,
			   "CPU %u, masked: the count stopped at %u, expected it to run down", cpu,
			   m->left_masked);
		delivery_due(d, cpu, ONE_SHOT, 1);
		delivery_due(d, cpu, PERIODIC, m->periods);
		delivery_due(d, cpu, STOPPED, m->slow[STOPPED]);
		delivery_due(d, cpu, DISARMED, m->slow[DISARMED]);
		if (cpu_features.tsc_deadline) {
			not_early(t, cpu, "TSC deadline", m->deadline_ns, SHORT);
			EXPECT_MSG(t, !m->left_deadline,
				   "CPU %u, TSC deadline: the register is not 0 after it fired", cpu);
			EXPECT_MSG(t, !m->kept_deadline && !m->count_moves, "CPU %u, TSC deadline: %s", cpu,
				   m->kept_deadline ? "another mode leaves it armed"
						    : "the initial count is not ignored");
			delivery_due(d, cpu, DEADLINE, 1);
			delivery_due(d, cpu, PAST, 1);
		}
		delivery_check(d, "CPU %u, one-shot, periodic, masked, stopped%s", cpu,
			       cpu_features.tsc_deadline ? ", deadline, past, disarmed" : "");

		rounds = test_rounds(t, OFTEN, TIMING);
		while (test_round(t, &rounds)) {
			delivery_due(d, cpu, ONE_SHOT, SHOTS);
			REQUIRE_OK(t, cpu_call(cpu, measure_late, m, SEC(4)));
			delivery_check(d, "CPU %u, %u shots of 100 us", cpu, SHOTS);
			memcpy(late + (rounds.done - 1) * SHOTS, m->late, sizeof(m->late));
		}
		/* One that is late hides that it would have been early; not all of them are. */
		not_early(t, cpu, "the soonest of the shots of 100 us", tsc_to_ns(m->least), US(100));
		fmt_snprintf(series, sizeof(series), "what=late cpu=%u", cpu);
		test_metric_rounds(t, series, late, rounds.done * SHOTS, SHOTS);
		test_metric(t, "what=rate cpu=%u unit=1/s n=1 value=%llu", cpu,
			    (unsigned long long)(m->per_ms * 1000));
	}
	if (!cpu_features.tsc_deadline)
		test_note(t, "no TSC-deadline mode (CPUID 1 ECX.24=0)");
	delivery_finish(d, "at the end");
}
