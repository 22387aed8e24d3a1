/* SPDX-License-Identifier: MIT */
/* The timing suite's rounds, and which of them the machine was too slow for. */
#include "kernel/cmdline.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "tests/harness/runner.h"

#define PACE_LOOPS 500u    /* microseconds on a CPU of its own, some 150 under TCG; fewer loops where they take longer than … */
#define PACE_MOST  MS(1)
#define WORK_PART  8u      /* slower than at best by so much of it; quiet, work differs by less than a hundredth */
#define WAKE_PART  4u
#define LOOK       15u     /* samples */
#define LEARN      50u     /* … so many times, at first */
#define NAP        MS(1)
#define NAPS       SEC(7)  /* of the whole suite, times iterations= */
#define TRIES      4u      /* of what is measured in one go */

/* What the machine is like just now: ticks, medians, for a single sample may be lucky. */
struct pace { uint64_t work, wake; };
static struct pace best = {UINT64_MAX, UINT64_MAX}, paces[ROUNDS_MAX];
static unsigned loops = PACE_LOOPS;
static size_t recorded;

/*
 * What a fixed piece of work takes that touches nothing but registers, and fills the core: where the host's CPU
 * shares its core with a busy one, that takes half as long again, and a chain of multiplications hardly
 * more. Long, for a translator keeps the registers in memory from one block to the next.
 */
static uint64_t work(void)
{
	const uint64_t t0 = tsc_read();
	uint64_t a = t0, b = 1, c = 2, d = 3, e = 4, f = 5;

	for (unsigned i = 0; i < loops; i++)
		__asm__ volatile(".rept 16; lea 3(%0), %0; lea 5(%1), %1; lea 7(%2), %2; lea 9(%3), %3; lea 11(%4), %4; lea 13(%5), %5; .endr"
				 : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
	return tsc_read() - t0;
}

/* As long as may be waited for some hundred times. A CPU that was away once is not slow. */
static void choose_loops(void)
{
	while (loops > 1 && work() > ns_to_tsc(PACE_MOST) && work() > ns_to_tsc(PACE_MOST))
		loops /= 2;
}

static void nothing(void *arg) { (void)arg; }

/* Has another CPU do nothing: what it takes to wake it and to hear from it. */
static uint64_t wake(void)
{
	const uint64_t t0 = tsc_read();

	return cpu_call(1, nothing, NULL, MS(100)) == 0 ? tsc_read() - t0 : UINT64_MAX;
}

static uint64_t median(uint64_t (*sample)(void))
{
	uint64_t taken[LOOK];

	for (unsigned i = 0; i < LOOK; i++)
		taken[i] = sample();
	sort_ticks(taken, LOOK);
	return taken[LOOK / 2];
}

/* DMA is between the first CPU and the device: how quick the others are is nothing to it. */
static struct pace pace_now(const struct t *t)
{
	const bool alone = cpu_count() == 1 || smp_report.in_turn || strcmp(t->test->suite, "dma") == 0;
	struct pace p = {0};

	if (best.work == UINT64_MAX)
		choose_loops();
	for (unsigned n = best.work == UINT64_MAX ? LEARN : 1; n > 0; n--) {
		p.work = median(work);
		best.work = MIN(best.work, p.work);
	}
	for (unsigned n = alone ? 0 : best.wake == UINT64_MAX ? LEARN : 1; n > 0; n--) {
		p.wake = median(wake);
		best.wake = MIN(best.wake, p.wake);
	}
	if (SABOTAGE(host_slow))
		p.work *= 2;
	return p;
}

/* A host has both moods: its CPUs are slow, or what passes between them is. */
static bool is_slow(struct pace p)
{
	return p.work > best.work + best.work / WORK_PART || (p.wake && p.wake > best.wake + best.wake / WAKE_PART);
}

static bool wait_for_quiet(const struct t *t, struct deadline *end)
{
	static uint64_t before;          /* ticks, of the whole suite */
	const uint64_t t0 = tsc_read(), most = ns_to_tsc(NAPS) * MAX(cmdline.iterations, 1u);
	uint64_t waited = 0;
	bool quiet;

	while (!(quiet = !is_slow(pace_now(t))) && before + waited < most) {
		delay(NAP);
		waited = tsc_read() - t0;
	}
	before += waited;
	if (end->tsc != UINT64_MAX)
		end->tsc += waited;
	deadline_limit_later(waited);    /* neither the rounds' nor the test's */
	return quiet;
}

void rounds_reset(void) { recorded = 0; }

struct rounds test_rounds(const struct t *t, size_t often, uint64_t ns)
{
	const uint64_t times = MAX(cmdline.iterations, 1u);

	(void)t;
	rounds_reset();
	if (!cmdline.timing)
		return (struct rounds){.most = 1, .enough = {UINT64_MAX}};
	/* Samples are kept: there is an end to how often. */
	return (struct rounds){.most = MIN(often * MIN(times, 16u), (size_t)ROUNDS_MAX),
			       .enough = deadline_in(ns * MIN(times, 100u))};
}

bool test_round(struct t *t, struct rounds *r)
{
	if (cmdline.timing && r->done) {
		const struct pace before = paces[r->done - 1], after = pace_now(t);

		paces[r->done - 1] = (struct pace){MAX(before.work, after.work), MAX(before.wake, after.wake)};
	}
	recorded = r->done;
	if (r->done == r->most || (r->done && deadline_passed(r->enough)))
		return false;
	if (cmdline.timing) {
		wait_for_quiet(t, &r->enough);
		paces[r->done] = pace_now(t);
	}
	r->done++;
	return true;
}

bool test_again(const struct t *t, unsigned *tries)
{
	struct deadline none = {UINT64_MAX};

	return cmdline.timing && is_slow(pace_now(t)) && ++*tries < TRIES && wait_for_quiet(t, &none);
}

/* By what is known of the machine at the end. */
static size_t count_slow(void)
{
	size_t n = 0;

	for (size_t i = 0; i < recorded; i++)
		n += is_slow(paces[i]);
	return n;
}

const char *rounds_text(void)
{
	static char text[32];
	const size_t n = count_slow();

	text[0] = '\0';
	if (n)
		fmt_snprintf(text, sizeof(text), " slow=%zu/%zu", n, recorded);
	return text;
}

size_t rounds_quiet(uint64_t *ticks, size_t n, size_t batch)
{
	const size_t count = count_slow();
	size_t kept = 0;

	/* With few quiet ones all count: that the machine was slow is said then, and not hidden. */
	if (!count || recorded - count < recorded / 4 + 1 || n != recorded * batch)
		return n;
	for (size_t i = 0; i < n; i++)
		if (!is_slow(paces[i / batch]))
			ticks[kept++] = ticks[i];
	return kept;
}
