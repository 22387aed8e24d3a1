/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/lib/string.h"
#include "tests/apic/delivery.h"

#define DURATION    MS(50) /* unless iterations= says how many each sends */
#define SENDERS_MAX 32
#define GRACE SEC(5) /* with nothing acknowledged it is over */
#define NEWS SEC(10)
#define LONG SEC(600) /* at most, with iterations= */

/* Vector 0 is the acknowledgement; each sender has one of its own, so that nothing can merge in IRR. */
#define VECTOR_OF(sender) (1 + (sender))

struct storm;
struct sender {
	struct storm *storm;
	unsigned number, cpu;
	uint64_t limit;          /* to send; 0: until the time is up, */
	uint64_t least;          /* … but so many in any case */
	uint32_t *sent;          /* [cpus], by target */
	uint64_t total;
	volatile uint64_t acks;
	volatile bool done;      /* nothing outstanding, nothing more to send */
};
struct storm {
	struct delivery *d;
	unsigned senders;
	struct sender sender[SENDERS_MAX];
	uint8_t number_of[256];  /* sender by vector */
	struct sender *on_cpu[CPU_MAX];
	volatile bool stop;      /* no more are sent */
	volatile bool give_up;   /* and none is waited for */
};

/* On the target: acknowledge to whoever this vector belongs to. */
static void on_storm(int vector, void *arg)
{
	struct storm *s = arg;

	ipi_vector(s->sender[s->number_of[vector]].cpu, (uint8_t)s->d->vector[0]);
}

static void on_ack(int vector, void *arg)
{
	struct storm *s = arg;
	struct sender *me = s->on_cpu[this_cpu()->index];

	(void)vector;
	if (me)
		me->acks++;
}

static bool is_done(const struct sender *me)
{
	if (me->acks != me->total)
		return false;
	return me->limit ? me->total == me->limit : me->storm->stop && me->total >= me->least;
}

/* One outstanding at a time. An AP sleeps until its acknowledgement comes; CPU 0 keeps the time. */
static void send_storm(void *arg)
{
	struct sender *me = arg;
	struct storm *s = me->storm;
	unsigned target = me->cpu;

	while (!s->give_up) {
		irq_disable();
		me->done = is_done(me);
		if (me->done)
			break;
		if (me->acks == me->total) {
			target = target + 1 == s->d->cpus ? 0 : target + 1;
			me->sent[target]++;
			me->total++;
			ipi_vector(target, (uint8_t)s->d->vector[VECTOR_OF(me->number)]);
		} else {
			cpu_idle();
		}
		irq_enable();
	}
	irq_enable();
}

static bool all_done(const struct storm *s)
{
	for (unsigned i = 0; i < s->senders; i++)
		if (!s->sender[i].done)
			return false;
	return true;
}

static uint64_t acked(const struct storm *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < s->senders; i++)
		n += s->sender[i].acks;
	return n;
}

/*
 * CPU 0's part of it: the same without sleeping, and the end for all. With a limit that is when all have sent
 * so many, or nothing has come for a while; the log hears of it now and then, for a long silence is taken for
 * a hang.
 */
static void conduct(struct storm *s, struct deadline end)
{
	struct sender *me = &s->sender[0];
	struct deadline patience = deadline_in(GRACE), news = deadline_in(NEWS);
	unsigned target = 0;
	uint64_t seen = 0;

	do {
		if (!me->limit && deadline_passed(end))
			s->stop = true;
		me->done = is_done(me);
		if (me->acks == me->total && !me->done) {
			target = target + 1 == s->d->cpus ? 0 : target + 1;
			me->sent[target]++;
			me->total++;
			ipi_vector(target, (uint8_t)s->d->vector[VECTOR_OF(0)]);
		}
		if (deadline_passed(patience)) {
			if (seen == acked(s))
				break; /* somebody waits for one that does not come */
			seen = acked(s);
			patience = deadline_in(GRACE);
		}
		if (deadline_passed(news)) {
			test_note(s->d->t, "%llu sent and acknowledged", (unsigned long long)acked(s));
			news = deadline_in(NEWS);
		}
		cpu_relax();
	} while (!all_done(s) && !deadline_limit_passed());
	s->stop = true;
	s->give_up = true;
}

/*
 * Many CPUs send to many at once, and every IPI arrives: N sent with acknowledgement are N received.
 *
 * Each sender (all CPUs, 32 of them where there are more) goes round all targets, itself included, and
 * sends the next when the target's handler has sent its acknowledgement back, which is an IPI as well.
 * Sleeping and waking, sending and receiving meet in every order: a wake-up lost between a VMM's check
 * and its sleep stops a sender, and that is a missing interrupt here.
 */
TEST_TIMED(apic, ipi_storm, "N sent with acknowledgement are N received, all pairs at once", NEED_SMP)
{
	struct storm *s = test_alloc(t, sizeof(*s));
	const uint64_t limit = test_iterations(t, 0);
	uint64_t t0, took, total = 0;

	s->senders = MIN(cpu_count(), (unsigned)SENDERS_MAX);
	s->d = delivery_open(t, VECTOR_OF(s->senders));
	irq_set_handler(s->d->vector[0], on_ack, s);
	for (unsigned i = 0; i < s->senders; i++) {
		struct sender *me = &s->sender[i];

		*me = (struct sender){.storm = s,
				      .number = i,
				      .cpu = i * s->d->cpus / s->senders,
				      .limit = limit,
				      .least = s->d->cpus <= SENDERS_MAX ? s->d->cpus : 4};
		me->sent = test_alloc(t, sizeof(*me->sent) * s->d->cpus);
		s->on_cpu[me->cpu] = me;
		s->number_of[s->d->vector[VECTOR_OF(i)]] = (uint8_t)i;
		irq_set_handler(s->d->vector[VECTOR_OF(i)], on_storm, s);
	}
	t0 = tsc_read();
	for (unsigned i = 1; i < s->senders; i++)
		REQUIRE_OK(t, cpu_start(s->sender[i].cpu, send_storm, &s->sender[i]));
	if (limit)
		test_budget(t, LONG);
	conduct(s, deadline_in(DURATION));
	took = tsc_to_ns(tsc_read() - t0);
	if (!all_done(s))
		test_budget(t, SEC(10)); /* it was spent in waiting; what is missing is yet to be said */
	for (unsigned i = 1; i < s->senders; i++) {
		ipi_vector(s->sender[i].cpu, VEC_IPI_CALL); /* out of HLT, if it still sleeps */
		REQUIRE_OK(t, cpu_wait(s->sender[i].cpu, SEC(2)));
	}
	for (unsigned i = 0; i < s->senders; i++) {
		const struct sender *me = &s->sender[i];

		for (unsigned cpu = 0; cpu < s->d->cpus; cpu++)
			delivery_due(s->d, cpu, VECTOR_OF(i), me->sent[cpu]);
		delivery_due(s->d, me->cpu, 0, (uint32_t)me->total);
		EXPECT_MSG(
			t, me->total >= (limit ? limit : me->least) && me->acks == me->total,
			"CPU %u: got %llu acknowledgements of %llu sent, expected as many and at least %llu",
			me->cpu, (unsigned long long)me->acks, (unsigned long long)me->total,
			(unsigned long long)(limit ? limit : me->least));
		total += me->total;
	}
	if (delivery_finish(s->d, "the storm"))
		test_metric(t, "senders=%u targets=%u unit=1/s n=%llu value=%llu", s->senders, s->d->cpus,
			    (unsigned long long)(2 * total),
			    (unsigned long long)(2 * total * 1000000 / MAX(took / 1000, 1ull)));
}
