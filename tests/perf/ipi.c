/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/apic/ipi.h"

#define SAMPLES 8     /* of a pair in a round: enough for an interval of the median, and no histogram */
#define OFTEN 32      /* rounds of the timing suite, while it has … */
#define TIMING MS(2500)
#define SAMPLES_MIN 2 /* where the host is so busy that they take longer than … */
#define SLICE MS(30)
#define WARM_UP 2
#define SOME_CPUS 4 /* of more CPUs than this, all pairs of so many */
#define PATIENCE MS(500)
#define SETTLE US(30) /* until a target that is to be asleep is */
#define ROUNDS 32     /* of broadcasts */
#define BUSY_MAX 64   /* CPUs that may all spin: on a host with fewer that takes a second a round */

/* SDM vol. 3, 11.5.4. */
#define LVT_MASKED BIT(16)
#define LVT_PERIODIC BIT(17)

enum target { IDLE, BUSY, TARGETS };
static const char *const target_name[TARGETS] = {"idle", "busy"};
static const char *const mode_name[] = {[IRQ_PHYSICAL] = "physical", [IRQ_LOGICAL] = "cluster"};

enum { PING, PONG, VECTORS };

struct pinger {
	struct delivery *d;
	unsigned from, to, sent, n, lost, negative;
	enum irq_dest_mode mode;
	enum target target;
	volatile bool done;
	uint64_t one_way[SAMPLES], round_trip[SAMPLES];
};

enum way { ONE_WAY, ROUND_TRIP, WAYS };
static const char *const way_name[WAYS] = {"one_way", "round_trip"};

/* All samples of a target and a mode: [way][pair], `room` of each; n of each were taken. */
struct pairs {
	uint64_t *ticks[WAYS][SOME_CPUS * SOME_CPUS];
	size_t n[SOME_CPUS * SOME_CPUS];
};

static void send(const struct pinger *p, unsigned cpu, unsigned v)
{
	ipi_send(&(struct irq_route){.dest = p->mode == IRQ_LOGICAL ? apic_logical_id(cpu)
								    : cpus[cpu]->apic_id,
				     .mode = p->mode,
				     .vector = (uint8_t)p->d->vector[v]},
		 IPI_DEST);
}

static void on_ping(int vector, void *arg)
{
	const struct pinger *p = arg;

	(void)vector;
	send(p, p->from, PONG);
}

/* On the sender. The TSCs are those of the handlers' first instructions. */
static void ping(void *arg)
{
	struct pinger *p = arg;

	const struct deadline end = deadline_in(SLICE);

	p->n = 0;
	for (p->sent = 0; p->n < SAMPLES && (p->n < SAMPLES_MIN || !deadline_passed(end));) {
		const uint32_t before = delivery_count(p->d, p->from, PONG);
		uint64_t start, there, back;

		delay(SETTLE);
		start = tsc_read();
		send(p, p->to, PING);
		p->sent++;
		if (!WAIT_FOR(delivery_count(p->d, p->from, PONG) != before, PATIENCE)) {
			p->lost++;
			break;
		}
		there = irq_last_tsc(p->to, p->d->vector[PING]);
		back = irq_last_tsc(p->from, p->d->vector[PONG]);
		if (p->sent <= WARM_UP)
			continue;
		p->negative += there < start;
		p->one_way[p->n] = there > start ? there - start : 0;
		p->round_trip[p->n++] = back - start;
	}
	p->done = true;
	if (p->from)
		ipi_vector(0, VEC_IPI_CALL); /* out of HLT */
}

/* Wakes the boot CPU now and then, should the one that is to do it have stopped. */
static void watchdog(bool on)
{
	apic_write(APIC_TIMER_INIT, 0);  /* QEMU starts anew from the old count when the mode changes */
	apic_write(APIC_LVT_TIMER, on ? LVT_PERIODIC | VEC_IPI_CALL : LVT_MASKED);
	apic_write(APIC_TIMER_INIT, on ? UINT32_MAX / 8 : 0);
}

/*
 * The boot CPU while an AP sends. It sleeps unless it is a busy target: a third CPU that spins takes the time
 * of the two that count where the host has few. An AP that is in no call sleeps, or spins if it is told to.
 */
static void stand_by(struct pinger *p)
{
	const bool busy = p->to == 0 && p->target == BUSY;
	const struct deadline end = deadline_in(SEC(6));

	watchdog(true);
	while (!p->done && !deadline_passed(end)) {
		irq_disable();
		if (!busy && !p->done)
			cpu_idle();
		irq_enable();
		cpu_relax();
	}
	watchdog(false);
}

static void run_pair(struct pinger *p)
{
	struct t *t = p->d->t;

	p->done = false;
	p->lost = 0;
	if (p->to) {
		cpus[p->to]->want_busy = p->target == BUSY;
		ipi_vector(p->to, VEC_IPI_CALL);
	}
	if (p->from) {
		REQUIRE_OK(t, cpu_start(p->from, ping, p));
		stand_by(p);
		REQUIRE_OK(t, cpu_wait(p->from, SEC(6)));
	} else {
		ping(p);
	}
	if (p->to)
		cpus[p->to]->want_busy = false;
	delivery_due(p->d, p->to, PING, p->sent);
	delivery_due(p->d, p->from, PONG, p->sent);
	ASSERT_MSG(t, !p->lost, "CPU %u to CPU %u, %s, %s: no answer within %u ms", p->from, p->to,
		   mode_name[p->mode], target_name[p->target], (unsigned)(PATIENCE / MS(1)));
}

/* The CPUs that stand for all: their first, their last, and some between, of both sides of a cluster's edge.
 */
static unsigned choose(const struct delivery *d, uint16_t *chosen)
{
	const unsigned n = MIN(d->cpus, kvm_emulates() ? 2u : (unsigned)SOME_CPUS);

	for (unsigned i = 0; i < n; i++)
		chosen[i] = (uint16_t)(n == d->cpus ? i : i * (d->cpus - 1) / (n - 1));
	return n;
}

static void all_pairs(struct pinger *p, const uint16_t *chosen, unsigned n, struct pairs *all)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < n; k++) {
			const unsigned pair = i * n + k;

			p->from = chosen[i];
			p->to = chosen[k];
			if (i == k)
				continue;
			run_pair(p);
			for (unsigned j = 0; j < p->n; j++, all->n[pair]++) {
				all->ticks[ONE_WAY][pair][all->n[pair]] = p->one_way[j];
				all->ticks[ROUND_TRIP][pair][all->n[pair]] = p->round_trip[j];
			}
		}
}

/* Each pair, as a matrix (of one mode: that says where CPUs lie apart), and all together. */
static void print_pairs(struct pinger *p, const uint16_t *chosen, unsigned n, struct pairs *all, uint64_t *together)
{
	char series[80];

	for (enum way way = 0; way < WAYS; way++) {
		size_t at = 0;

		for (unsigned pair = 0; pair < n * n; pair++) {
			if (pair / n == pair % n)
				continue;
			for (size_t j = 0; j < all->n[pair]; j++)
				together[at++] = all->ticks[way][pair][j];
			if (p->mode != IRQ_PHYSICAL)
				continue;
			fmt_snprintf(series, sizeof(series), "what=%s target=%s mode=physical from=%u to=%u",
				     way_name[way], target_name[p->target], chosen[pair / n], chosen[pair % n]);
			test_metric_rounds(p->d->t, series, all->ticks[way][pair], all->n[pair],
					   MIN(all->n[pair], (size_t)SAMPLES));
		}
		fmt_snprintf(series, sizeof(series), "what=%s target=%s mode=%s pairs=%u", way_name[way],
			     target_name[p->target], mode_name[p->mode], n * (n - 1));
		test_metric_rounds(p->d->t, series, together, at, MIN(at, (size_t)SAMPLES));
	}
}

static void set_all(bool busy)
{
	for (unsigned i = 1; i < cpu_count(); i++)
		cpus[i]->want_busy = busy;
}

static void all_idle(void *arg)
{
	(void)arg;
	set_all(false);
}

static bool all_came(const struct delivery *d)
{
	for (unsigned i = 1; i < d->cpus; i++)
		if (delivery_count(d, i, PING) != d->due[PING * d->cpus + i])
			return false;
	return true;
}

/* From CPU 0 to all others by shorthand, until the last one's handler has begun. */
static size_t broadcast(struct delivery *d, enum target target, uint64_t *ticks)
{
	const struct deadline end = deadline_in(MS(60));
	size_t n = 0;

	set_all(target == BUSY);
	ipi_send(&(struct irq_route){.vector = VEC_IPI_CALL}, IPI_OTHERS);
	for (; n < ROUNDS && (n < SAMPLES_MIN || !deadline_passed(end)); n++) {
		uint64_t start, last = 0;

		delay(SETTLE);
		for (unsigned i = 1; i < d->cpus; i++)
			delivery_due(d, i, PING, 1);
		start = tsc_read();
		ipi_send(&(struct irq_route){.vector = (uint8_t)d->vector[PING]}, IPI_OTHERS);
		if (!WAIT_FOR(all_came(d), SEC(1)))
			break; /* delivery_check() says who */
		for (unsigned i = 1; i < d->cpus; i++)
			last = MAX(last, irq_last_tsc(i, d->vector[PING]));
		ticks[n] = last > start ? last - start : 0;
	}
	set_all(false);
	return delivery_check(d, "broadcasts to %s CPUs", target_name[target]) ? n : 0;
}

static void broadcasts(struct delivery *d, enum target target)
{
	struct rounds rounds = test_rounds(d->t, OFTEN, TIMING / 5);
	uint64_t *ticks = test_alloc(d->t, rounds.most * ROUNDS * sizeof(*ticks));
	char series[64];
	size_t n = 0;

	while (test_round(d->t, &rounds))
		n += broadcast(d, target, ticks + n);
	if (!n)
		return;
	fmt_snprintf(series, sizeof(series), "what=broadcast target=%s cpus=%u", target_name[target], d->cpus - 1);
	test_metric_rounds(d->t, series, ticks, n, MIN(n, (size_t)ROUNDS));
}

/*
 * What an interrupt from CPU to CPU costs: one way, there and back, to a CPU that sleeps and to one that
 * runs.
 *
 * From the TSC before the ICR write to the first TSC read in the target's handler, and to that in the
 * sender's when the target's handler has answered. Each pair (of more than 4 CPUs: of 4 that stand for them)
 * by physical destination, as a matrix; all pairs together, and by cluster; and from CPU 0 to all others
 * until the last one has it. One way compares the TSCs of two CPUs: a note says where that goes wrong. Every
 * one that is sent is counted.
 */
TEST_TIMED(perf, ipi, "one way and round trip, idle (HLT) and busy target, physical and cluster, broadcast",
	   NEED_SMP)
{
	struct delivery *d = delivery_open(t, VECTORS);
	struct pinger *p = test_alloc(t, sizeof(*p));
	struct pairs *all = test_alloc(t, sizeof(*all) * TARGETS * 2);
	struct rounds rounds = test_rounds(t, OFTEN, TIMING);
	uint16_t chosen[SOME_CPUS];
	const unsigned n = choose(d, chosen);
	uint64_t *ticks = test_alloc(t, (TARGETS * 2 * WAYS + 1) * n * n * rounds.most * SAMPLES * sizeof(*ticks));
	bool logical = true;

	test_budget(t, SEC(30)); /* milliseconds, but for a host that is busy otherwise */
	test_cleanup(t, all_idle, NULL);
	p->d = d;
	for (unsigned i = 0; i < n; i++)
		logical &= apic_logical_id(chosen[i]) != 0;
	for (unsigned i = 0; i < TARGETS * 2 * WAYS * n * n; i++, ticks += rounds.most * SAMPLES)
		all[i / (WAYS * n * n)].ticks[i / (n * n) % WAYS][i % (n * n)] = ticks;
	while (test_round(t, &rounds))
		for (p->target = IDLE; p->target < TARGETS; p->target++)
			for (p->mode = IRQ_PHYSICAL; p->mode <= (logical ? IRQ_LOGICAL : IRQ_PHYSICAL); p->mode++) {
				irq_set_handler(d->vector[PING], on_ping, p);
				all_pairs(p, chosen, n, &all[p->target * 2 + p->mode]);
				delivery_check(d, "all pairs, %s, %s", target_name[p->target], mode_name[p->mode]);
			}
	for (p->target = IDLE; p->target < TARGETS; p->target++)
		for (p->mode = IRQ_PHYSICAL; p->mode <= (logical ? IRQ_LOGICAL : IRQ_PHYSICAL); p->mode++)
			print_pairs(p, chosen, n, &all[p->target * 2 + p->mode], ticks);
	irq_set_handler(d->vector[PING], NULL, NULL);
	broadcasts(d, IDLE);
	if (d->cpus <= BUSY_MAX)
		broadcasts(d, BUSY);
	if (p->negative)
		test_note(t, "the TSCs differ: %u times one way came out below 0 and counts as 0",
			  p->negative);
	delivery_finish(d, "all that were sent");
}
