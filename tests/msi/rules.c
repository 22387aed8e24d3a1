/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/mm/mm.h"
#include "tests/msi/irq_test.h"

static void refused(struct t *t, const struct irq_route *r, const char *what)
{
	const char *why = NULL;
	struct msi_msg msg;
	const int err = msg_compat(r, &msg, &why);

	EXPECT_MSG(t, err == -EOPNOTSUPP && why,
		   "%s (destination 0x%x): got %s, expected it refused with a reason", what, r->dest,
		   err ? err_name(err) : "a message");
	if (why)
		test_note(t, "%s: %s", what, why);
}

/* A rule broken on purpose: the logical ID cut to the 8 bits that fit. Where it goes is told. */
static void cut_logical(struct irq_source *s, struct delivery *d)
{
	const struct irq_route r = {.dest = apic_logical_id(d->cpus - 1) & 0xff, .mode = IRQ_LOGICAL,
				    .vector = (uint8_t)d->vector[0]};
	const enum msg_reach reach = msg_reach();
	struct msi_msg msg;
	unsigned reached = 0, who = 0;
	int err;

	if (!r.dest)
		return;
	msg_set_reach(MSG_XAPIC);
	err = msg_compat(&r, &msg, NULL);
	msg_set_reach(reach);
	REQUIRE_OK(d->t, err);
	irq_source_message(s, 0, &msg);
	irq_source_raise(s, 0);
	irq_window();
	irq_source_ack(s, 0);
	delivery_fence(d->t);
	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		const uint32_t came = delivery_count(d, cpu, 0) - d->due[cpu];

		if (came) {
			delivery_due(d, cpu, 0, came);
			who = cpu;
			reached++;
		}
	}
	if (reached)
		test_note(d->t,
			  "%s: a logical ID cut to 8 bits (0x%02x) reached %u CPUs, the last CPU %u: told, "
			  "not judged",
			  irq_source_name(s), r.dest, reached, who);
	else
		test_note(d->t, "%s: a logical ID cut to 8 bits (0x%02x) reached nobody: told, not judged",
			  irq_source_name(s), r.dest);
}

/*
 * In x2APIC mode a message that nothing remaps can name physical IDs below 255, and nothing else.
 *
 * SDM vol. 3, 11.11.1 and 11.12.10: eight bits of destination; logical x2APIC IDs have 32, wide ones
 * more than eight. KVM_FEATURE_MSI_EXT_DEST_ID adds seven bits, for physical IDs up to 32767. We refuse
 * what does not fit, and say why; what fits arrives, at the highest ID too.
 */
TEST(msi, no_remap_rule,
     "x2APIC without remapping: physical destinations that fit arrive; logical and wide ones are refused, "
     "with the reason",
     NEED_X2APIC, NEED_EX_IRQ)
{
	struct delivery *d = delivery_open(t, 1);
	const uint32_t limit = msg_reach() == MSG_X2APIC_EXT ? 0x7fff : 254;
	unsigned highest = 0, shown = 0;

	refused(t,
		&(struct irq_route){
			.dest = apic_logical_id(d->cpus - 1), .mode = IRQ_LOGICAL, .vector = 0x40},
		"a logical destination");
	refused(t, &(struct irq_route){.dest = limit + 1, .vector = 0x40}, "a wide destination");
	for (unsigned cpu = 0; cpu < d->cpus; cpu++)
		if (cpus[cpu]->apic_id <= limit && cpus[cpu]->apic_id >= cpus[highest]->apic_id)
			highest = cpu;
	FOR_EACH_IRQ_EXERCISER(t, ex) {
		const char *why;
		struct irq_source *s = irq_source_open(t, ex, IRQ_DIRECT, &why);

		irq_source_aim(s, d, 0, 0, 0);
		irq_expect_one(s, d, 0, 0, 0);
		irq_source_aim(s, d, 0, highest, 0);
		irq_expect_one(s, d, 0, highest, 0);
		if (!shown)
			cut_logical(s, d);
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "no device under test with MSI or MSI-X");
}

#define GUARD 0xa5a5a5a5u
#define WORDS ((unsigned)(PAGE_SIZE / 4))

static void free_page(void *arg)
{
	dma_free(arg);
}

/*
 * A message is a memory write of one doubleword, no more and no less: aimed at RAM it lands there.
 *
 * PCI 3.0, 6.8.1 and 6.8.2. The data register's value stands at the address, its neighbours are as before,
 * and no CPU is interrupted. A VMM that takes any message for an interrupt, whatever its address says,
 * interrupts here. MSI carries 16 bits of data, the rest of the doubleword is 0; MSI-X all 32.
 * Of a device that keeps no status of its signal this is not asked: its message is the host's.
 */
TEST(msi, payload, "a message aimed at RAM lands there as the right doubleword; nothing else changes",
     NEED_EX_IRQ)
{
	struct delivery *d = delivery_open(t, 1);
	static struct dma_buf page;
	unsigned shown = 0;

	if (!dma_alloc(&page, PAGE_SIZE, PAGE_SIZE, PHYS_BELOW_4G))
		test_error(t, "no page below 4 GiB");
	test_cleanup(t, free_page, &page);
	FOR_EACH_IRQ_EXERCISER(t, ex) {
		volatile uint32_t *words = page.va;
		const char *why;
		struct irq_source *s = irq_source_open(t, ex, IRQ_DIRECT, &why);
		const unsigned at[] = {0, 1, 37, WORDS - 1};

		irq_source_aim(s, d, 0, 0, 0);
		if (!irq_source_can_tell(s, 0) || ex->irq_by_host) {
			irq_source_close(s);
			continue;
		}
		for (unsigned k = 0; k < ARRAY_SIZE(at); k++) {
			const uint32_t want = ex->irq_is_msix ? 0xcafe0000u + k : 0xbe00u + k;
			const struct msi_msg msg = {.addr = page.pa.v + 4 * at[k], .data = want};
			unsigned changed = 0;

			for (unsigned i = 0; i < WORDS; i++)
				words[i] = GUARD;
			irq_source_message(s, 0, &msg);
			irq_source_raise(s, 0);
			(void)WAIT_FOR(words[at[k]] != GUARD, MS(200));
			EXPECT_MSG(t, words[at[k]] == want, "%s: at RAM + 0x%x: got 0x%08x, expected 0x%08x",
				   irq_source_name(s), 4 * at[k], words[at[k]], want);
			for (unsigned i = 0; i < WORDS; i++)
				changed += i != at[k] && words[i] != GUARD;
			EXPECT_MSG(t, !changed, "%s: at RAM + 0x%x: %u other doublewords of the page changed",
				   irq_source_name(s), 4 * at[k], changed);
			irq_source_ack(s, 0);
		}
		delivery_check(d, "%s, messages to RAM", irq_source_name(s));
		irq_source_aim(s, d, 0, 0, 0);
		irq_expect_one(s, d, 0, 0, 0);
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "no device under test whose message is its own write");
}

/* ---- moved under load ---- */
#define MOVE_TIME MS(10)
#define MOVES_MIN 8
#define RAISED_MIN 8

struct load {
	struct irq_source *s;
	struct delivery *d;
	volatile bool stop;
	volatile uint32_t raised;
	int err;
	volatile bool ended;     /* by itself: an error, or one that did not come */
	bool lost;
};

static uint32_t came_to_all(const struct delivery *d)
{
	uint32_t n = 0;

	for (unsigned cpu = 0; cpu < d->cpus; cpu++)
		n += delivery_count(d, cpu, 0) - d->due[cpu];
	return n;
}

/* On an AP: raise, wait until it has come to whomever, acknowledge. */
static void keep_raising(void *arg)
{
	struct load *l = arg;
	const struct exerciser_ops *ops = l->s->ex->ops;

	while (!l->stop && !l->err && !l->lost) {
		l->err = ops->irq_raise(l->s->ex, 0);
		l->raised += !l->err;
		l->lost = !WAIT_FOR(came_to_all(l->d) >= l->raised, SEC(1));
		if (!l->err)
			l->err = ops->irq_ack(l->s->ex, 0);
	}
	l->ended = true;
}

static void move_under_load(struct irq_source *s, struct delivery *d)
{
	struct load l = {.s = s, .d = d};
	struct deadline end, latest;
	unsigned moves = 0;
	uint32_t came;

	irq_source_aim(s, d, 0, 0, 0);
	irq_expect_one(s, d, 0, 0, 0);
	REQUIRE_OK(d->t, cpu_start(1, keep_raising, &l));
	end = deadline_in(MOVE_TIME);
	latest = deadline_in(SEC(2));
	while (!l.ended && !deadline_passed(latest) &&
	       (moves < MOVES_MIN || l.raised < RAISED_MIN || !deadline_passed(end))) {
		irq_source_aim(s, d, 0, irq_source_cpu(s, ++moves), 0);
		delay(US(20));
	}
	l.stop = true;
	REQUIRE_OK(d->t, cpu_wait(1, SEC(3)));
	if (l.err < 0)
		test_error(d->t, "%s: raising: -%s", irq_source_name(s), err_name(l.err));
	delivery_fence(d->t);
	came = came_to_all(d);
	EXPECT_MSG(d->t, came >= l.raised, "%s, moved %u times: missing: got %u of %u raised",
		   irq_source_name(s), moves, came, l.raised);
	EXPECT_MSG(d->t, came <= l.raised, "%s, moved %u times: too often: got %u of %u raised",
		   irq_source_name(s), moves, came, l.raised);
	EXPECT_MSG(d->t, l.raised > 0, "%s: nothing was raised meanwhile", irq_source_name(s));
	for (unsigned cpu = 0; cpu < d->cpus; cpu++)
		delivery_due(d, cpu, 0, delivery_count(d, cpu, 0) - d->due[cpu]);
	irq_expect_one(s, d, 0, irq_source_cpu(s, moves), 0);
	for (unsigned i = 0; i < MOVES_MIN; i++) { /* and step by step: each move counts */
		const unsigned cpu = irq_source_cpu(s, ++moves);

		irq_source_aim(s, d, 0, cpu, 0);
		irq_expect_one(s, d, 0, cpu, 0);
	}
	test_note(d->t, "%s: %u raised, moved %u times", irq_source_name(s), l.raised, moves);
}

/*
 * An interrupt that is moved from CPU to CPU while it fires arrives: none is lost, none doubled.
 *
 * CPU 1 raises without pause, CPU 0 moves. Through remapping by changing the entry and invalidating it
 * (VT-d 5.1.6, 6.5.2); without it as PCI 3.0, 6.8.2 says: mask the MSI-X entry, write, unmask; what fires
 * in between is pending. MSI without a mask bit cannot be moved safely, and is not. Then once more step by
 * step: after each move it arrives at the new CPU only.
 */
TEST(msi, retarget, "moved from CPU to CPU under load: none lost, none doubled", NEED_SMP, NEED_EX_IRQ)
{
	struct delivery *d = delivery_open(t, 1);
	const char *why = "no device under test with MSI-X, or with MSI behind a remapping unit";
	unsigned shown = 0;

	FOR_EACH_IRQ_EXERCISER(t, ex)
	for (enum irq_via via = ex->irq_is_msix ? IRQ_DIRECT : IRQ_REMAPPED; via < IRQ_VIA_COUNT; via++) {
		const char *not_this;
		struct irq_source *s;

		if (!(ex->caps & EX_IRQ_COUNTED))
			continue;
		s = irq_source_open(t, ex, via, &not_this);
		if (!s)
			continue;
		move_under_load(s, d);
		delivery_finish(d, "%s, at the end", irq_source_name(s));
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}
