/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/lib/fmt.h"
#include "tests/msi/irq_test.h"

#define STORM_TOTAL MS(100) /* all series together, unless iterations= says how many */
#define STORM_LIMIT SEC(1200)  /* … where it does */
#define NEWS        SEC(10)    /* the log hears of it, for a long silence is taken for a hang */
#define STORM_MIN   2          /* to each CPU */
#define SAMPLES     48      /* of each latency series, fewer (but SAMPLES_MIN) once LATENCY_SLICE is over */
#define SAMPLES_MIN 12
#define WARM_UP     4
#define LATENCY_SLICE MS(10)
#define OFTEN 32           /* rounds of the timing suite, while it has … */
#define TIMING MS(1800)
#define STORM_TIMING MS(1200)
#define SERIES_MAX 64u     /* of latencies; more are not shown */

static const char *via_name(enum irq_via via)
{
	return via == IRQ_REMAPPED ? "remapped" : "direct";
}

static unsigned count_series(struct t *t)
{
	unsigned n = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex)
		n += iommu_of(ex->dev) ? 2 : 1;
	return n;
}

/* It signalled, as it says itself, and nothing came. Another one tells a message lost from a way that is shut. */
static void say_lost(struct irq_source *s, struct delivery *d, unsigned cpu, uint32_t raised)
{
	const uint32_t before = delivery_count(d, cpu, 0);
	char evidence[128];
	bool next;

	irq_source_ack(s, 0);
	delivery_due(d, cpu, 0, 1);
	irq_source_raise(s, 0);
	next = WAIT_FOR(delivery_count(d, cpu, 0) != before, d->patience);
	if (delivery_arrived(d, cpu, 0)) {
		test_note(s->t, "%s: one came more than %llu ms late", irq_source_name(s), (unsigned long long)(d->patience / MS(1)));
		return;
	}
	fmt_snprintf(evidence, sizeof(evidence), "%u to CPU %u had arrived; this one is pending in the device; raised again: %s",
		     raised, cpu, next ? "arrives" : "does not arrive");
	test_finding(s->t, "PLB112",
		     "what lies between holds it back: the host has masked or throttled its vector, switched its MSI off, or does "
		     "not run the thread that hands its eventfd on",
		     "on the host: does the device's line of /proc/interrupts count; dmesg; setpci -s … CAP_MSI+2.w",
		     evidence, "%s: an interrupt was raised and did not arrive", irq_source_name(s));
}

/* Raise, wait, acknowledge, again; until n are through, or (n 0) the time is up. */
static uint32_t storm_cpu(struct irq_source *s, struct delivery *d, unsigned cpu, uint64_t n, uint64_t ns)
{
	const struct deadline end = deadline_in(ns);
	struct deadline news = deadline_in(NEWS);
	uint32_t raised = 0;
	bool arrived = true;

	while (arrived && (n ? raised < n : raised < STORM_MIN || !deadline_passed(end))) {
		delivery_due(d, cpu, 0, 1);
		irq_source_raise(s, 0);
		arrived = delivery_arrived(d, cpu, 0);
		/* With the test's time up nothing was waited for. */
		if (!arrived && !deadline_limit_passed() && s->ex->ops->irq_pending(s->ex, 0) > 0)
			say_lost(s, d, cpu, raised);
		irq_source_ack(s, 0);
		raised++;
		if (!deadline_passed(news))
			continue;
		test_note(d->t, "%s: %u to CPU %u so far", irq_source_name(s), raised, cpu);
		news = deadline_in(NEWS);
	}
	return raised;
}

/* To every CPU its share. */
static uint32_t storm(struct irq_source *s, struct delivery *d, uint64_t n, uint64_t ns)
{
	const uint64_t share = (n + d->cpus - 1) / d->cpus;
	uint32_t raised = 0;

	for (unsigned k = 0; k < d->cpus; k++) {
		const unsigned cpu = irq_source_cpu(s, k);
		const uint32_t came = raised;

		irq_source_aim(s, d, 0, cpu, 0);
		raised += storm_cpu(s, d, cpu, share, ns / d->cpus);
		if (delivery_count(d, cpu, 0) != d->due[cpu] || raised == came)
			break;
	}
	return raised;
}

/*
 * As many as are raised are received, one for one, as fast as they go, on every CPU.
 *
 * Each is acknowledged before the next: the device may not merge them (EX_IRQ_COUNTED), and neither may
 * anything between it and the CPU. A lost one shows as a missing last, a doubled one in the count. iterations=N asks
 * for N of each device and way, whatever time that takes.
 */
TEST_TIMED(msi, storm, "N raised with acknowledgement are N received", NEED_EX_IRQ)
{
	struct delivery *d = delivery_open(t, 1);
	const uint64_t n = test_iterations(t, 0);
	const unsigned series_count = MAX(count_series(t), 1u);
	struct rounds rounds = test_rounds(t, OFTEN, STORM_TIMING);
	const uint64_t slice = (rounds.most > 1 ? STORM_TIMING / OFTEN : STORM_TOTAL) / series_count;
	uint64_t *each = test_alloc(t, rounds.most * sizeof(*each)); /* a round's ticks for a million */
	uint64_t total = 0, all_took = 0;
	unsigned shown = 0;

	if (n)
		deadline_set_limit(deadline_in(STORM_LIMIT));
	FOR_EACH_IRQ_EXERCISER(t, ex)
		for (enum irq_via via = 0; via < IRQ_VIA_COUNT; via++) {
			const char *why;
			struct irq_source *s;
			uint64_t took = 0;
			uint32_t raised = 0;
			char series[64];

			if (!(ex->caps & EX_IRQ_COUNTED))
				continue;
			s = irq_source_open(t, ex, via, &why);
			if (!s)
				continue;
			rounds = test_rounds(t, OFTEN, STORM_TIMING / series_count); /* of each by itself */
			while (test_round(t, &rounds)) {
				const uint64_t t0 = tsc_read();
				const uint32_t came = storm(s, d, n, slice);
				const uint64_t ticks = tsc_read() - t0;

				each[rounds.done - 1] = ticks * 1000 / MAX(came, 1u);
				took += tsc_to_ns(ticks);
				raised += came;
			}
			fmt_snprintf(series, sizeof(series), "dev=" PRIRID " msix=%u via=%s", RIDARG(ex->dev->rid),
				     ex->irq_is_msix, via_name(via));
			if (delivery_finish(d, "%s, %u raised", irq_source_name(s), raised) && rounds.most > 1)
				test_metric_rate(t, series, "1/s", 1000, 0, each, rounds.done, 1);
			else
				test_metric(t, "%s unit=1/s n=%u value=%llu", series, raised,
					    (unsigned long long)(raised * SEC(1) / MAX(took, 1ull)));
			irq_source_close(s);
			total += raised;
			all_took += took;
			shown++;
		}
	if (!shown)
		test_skip(t, "no device under test with MSI or MSI-X that sends one message for each raise");
	test_note(t, "%llu interrupts to %u CPUs by %u ways in %llu ms", (unsigned long long)total, d->cpus, shown,
		  (unsigned long long)(all_took / MS(1)));
}

struct latencies {
	char name[80];
	uint64_t *ticks;
	size_t n, batch;
};

/* From before the raising access to the handler's first TSC read. */
static void latency_series(struct irq_source *s, struct delivery *d, enum irq_dest_mode mode, unsigned cpu,
			   struct latencies *l)
{
	const struct irq_route r = {
		.dest = mode == IRQ_LOGICAL ? apic_logical_id(cpu) : cpus[cpu]->apic_id,
		.mode = mode,
		.vector = (uint8_t)d->vector[0],
	};
	const size_t most = l->batch ? l->batch : SAMPLES; /* the first round says how many they are */
	uint64_t *ticks = l->ticks + l->n;
	struct deadline end;
	const char *why;
	size_t n = 0;

	REQUIRE_OK(d->t, irq_source_route(s, 0, &r, &why));
	end = deadline_in(LATENCY_SLICE);
	for (unsigned i = 0; n < most && (l->batch || n < SAMPLES_MIN || !deadline_passed(end)); i++) {
		uint64_t t0, t1;

		delivery_due(d, cpu, 0, 1);
		t0 = tsc_read();
		irq_source_raise(s, 0);
		if (!delivery_arrived(d, cpu, 0))
			break;
		t1 = irq_last_tsc(cpu, d->vector[0]);
		irq_source_ack(s, 0);
		if (i >= WARM_UP)
			ticks[n++] = t1 > t0 ? t1 - t0 : 0;
	}
	if (!delivery_check(d, "%s to CPU %u", irq_source_name(s), cpu) || !n)
		return;
	l->n += n;
	if (l->batch)
		return;
	l->batch = n;
	fmt_snprintf(l->name, sizeof(l->name), "dev=" PRIRID " via=%s mode=%s target=%s", RIDARG(s->ex->dev->rid),
		     via_name(s->via), mode == IRQ_LOGICAL ? "logical" : "physical", cpu ? "idle" : "self");
}

/* Every series once; they are numbered in the order in which they come. */
static unsigned latency_round(struct t *t, struct delivery *d, struct latencies *l)
{
	unsigned at = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex)
		for (enum irq_via via = 0; via < IRQ_VIA_COUNT; via++) {
			const bool logical = via == IRQ_REMAPPED
						     ? apic_policy.cluster || apic_mode == APIC_XAPIC
						     : apic_mode == APIC_XAPIC;
			const char *why;
			struct irq_source *s = irq_source_open(t, ex, via, &why);

			if (!s)
				continue;
			for (unsigned k = 0; k < 2 * MIN(d->cpus, 2u) && at < SERIES_MAX; k++) {
				const enum irq_dest_mode mode = k % 2 ? IRQ_LOGICAL : IRQ_PHYSICAL;

				if (mode == IRQ_LOGICAL && !(logical && apic_logical_id(k / 2)))
					continue;
				latency_series(s, d, mode, k / 2, &l[at++]);
			}
			irq_source_close(s);
		}
	return at;
}

/*
 * The time from the access that raises an interrupt to the first instruction of its handler: the
 * handler on the raising CPU (target=self) or on one in HLT (target=idle), without remapping and
 * through it, by physical and by logical destination.
 */
TEST_TIMED(msi, latency, "raise to handler, each mode", NEED_EX_IRQ)
{
	struct delivery *d = delivery_open(t, 1);
	struct latencies *l = test_alloc(t, SERIES_MAX * sizeof(*l));
	struct rounds rounds = test_rounds(t, OFTEN, TIMING);
	uint64_t *ticks = test_alloc(t, SERIES_MAX * rounds.most * SAMPLES * sizeof(*ticks));
	unsigned shown = 0;

	for (unsigned i = 0; i < SERIES_MAX; i++)
		l[i].ticks = ticks + i * rounds.most * SAMPLES;
	while (test_round(t, &rounds) && !test_has_failed(t))
		shown = latency_round(t, d, l);
	for (unsigned i = 0; i < shown; i++)
		if (l[i].n)
			test_metric_rounds(t, l[i].name, l[i].ticks, l[i].n, l[i].batch);
	delivery_finish(d, "at the end");
	if (!shown)
		test_skip(t, "no device under test with MSI or MSI-X");
}
