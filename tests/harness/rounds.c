/* SPDX-License-Identifier: MIT */
/* The timing suite's rounds, and which of them the machine was too slow for. */
#include "kernel/cmdline.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "tests/harness/runner.h"

#define PACE_LOOPS 4000u   /* some microseconds */
#define SLOW_PART  4u      /* slower than at best by so much of it */
#define LOOK       15u     /* samples */
#define LEARN      501u    /* … the first time */
#define NAP        MS(1)
#define NAPS       2500u   /* of the whole suite, times iterations= */

static bool slow[ROUNDS_MAX];
static size_t recorded;

/* What a fixed piece of work takes that touches nothing but registers. */
static uint64_t work(void)
{
	const uint64_t t0 = tsc_read();
	uint64_t x = t0;

	for (unsigned i = 0; i < PACE_LOOPS; i++)
		__asm__ volatile("imul $3, %0, %0" : "+r"(x));
	return tsc_read() - t0;
}

static void nothing(void *arg) { (void)arg; }

/* Has another CPU do nothing: what it takes to wake it and to hear from it. */
static uint64_t wake(void)
{
	const uint64_t t0 = tsc_read();

	return cpu_call(1, nothing, NULL, MS(100)) == 0 ? tsc_read() - t0 : UINT64_MAX;
}

/* A host has both moods: its CPUs are slow, or what passes between them is. Medians: a single one may be lucky. */
static bool slower(uint64_t (*sample)(void), uint64_t *best)
{
	static uint64_t taken[LEARN];
	const unsigned n = *best ? LOOK : LEARN;

	for (unsigned i = 0; i < n; i++)
		taken[i] = sample();
	sort_ticks(taken, n);
	*best = *best ? MIN(*best, taken[n / 2]) : taken[n / 2];
	return taken[n / 2] - *best > *best / SLOW_PART;
}

/* DMA is between the first CPU and the device: how quick the others are is nothing to it. */
static bool slow_now(const struct t *t)
{
	static uint64_t best_work, best_wake;
	const bool works = slower(work, &best_work), alone = strcmp(t->test->suite, "dma") == 0;

	return (!alone && cpu_count() > 1 && slower(wake, &best_wake)) || works;
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
	static uint64_t naps;

	if (cmdline.timing && r->done)
		slow[r->done - 1] |= slow_now(t);
	recorded = r->done;
	if (r->done == r->most || (r->done && deadline_passed(r->enough)))
		return false;
	while (cmdline.timing && slow_now(t) && !deadline_passed(r->enough) && naps < NAPS * MAX(cmdline.iterations, 1u)) {
		delay(NAP);
		naps++;
	}
	slow[r->done++] = false;
	return true;
}

static size_t count_slow(void)
{
	size_t n = 0;

	for (size_t i = 0; i < recorded; i++)
		n += slow[i];
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
		if (!slow[i / batch])
			ticks[kept++] = ticks[i];
	return kept;
}
