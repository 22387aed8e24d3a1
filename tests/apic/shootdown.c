/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/mm/mm.h"
#include "tests/apic/ipi.h"

#define ROUNDS_MAX 24
#define ROUNDS_MIN 4
#define SLICE MS(30) /* of time for the rounds of one series */
#define OFTEN 32     /* times as many in the timing suite, while it has … */
#define TIMING MS(100)
#define PATIENCE SEC(1)
#define NOTHING 0xffffffffu /* read where nothing is mapped */

enum method { PHYSICAL, CLUSTER, SHORTHAND, PARAVIRTUAL, METHODS };
static const char *const method_name[METHODS] = {"physical", "cluster", "shorthand", "paravirtual"};

struct shoot {
	struct delivery *d;
	volatile uint32_t *probe; /* the page that moves between two frames */
	gpa_t frame[2];
	uint32_t *before, *after; /* what each CPU read there before and after its INVLPG */
	volatile unsigned acks;
	unsigned stale;
};

static uint32_t look(const struct shoot *s)
{
	uint32_t v;

	return read32_safe(s->probe, &v) ? NOTHING : v;
}

static void on_shootdown(int vector, void *arg)
{
	struct shoot *s = arg;
	const unsigned me = this_cpu()->index;

	(void)vector;
	s->before[me] = look(s);
	if (!(SABOTAGE(shootdown_ignored) && me == 2))
		invlpg(s->probe);
	s->after[me] = look(s);
	__atomic_add_fetch(&s->acks, 1, __ATOMIC_SEQ_CST);
}

static void to_clusters(struct shoot *s, unsigned n)
{
	for (unsigned i = 1; i <= n; i++) {
		const uint32_t mine = apic_logical_id(i);
		struct irq_route r = {.mode = IRQ_LOGICAL, .vector = (uint8_t)s->d->vector[0]};
		bool first = true;

		for (unsigned k = 1; k <= n; k++)
			if (apic_logical_group(mine, apic_logical_id(k))) {
				first &= k >= i;
				r.dest |= apic_logical_id(k);
			}
		if (first)
			ipi_send(&r, IPI_DEST);
	}
}

/* 128 IDs a call; CPUs are in the order of their IDs or nearly so. */
static int paravirtual(struct shoot *s, unsigned n)
{
	unsigned i = 1;

	while (i <= n) {
		const uint32_t first = cpus[i]->apic_id;
		uint64_t ids[2] = {0, 0};
		int r;

		for (; i <= n && cpus[i]->apic_id >= first && cpus[i]->apic_id - first < 128; i++)
			ids[(cpus[i]->apic_id - first) / 64] |= BIT64((cpus[i]->apic_id - first) % 64);
		r = ipi_send_pv(first, ids, (uint8_t)s->d->vector[0]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int send(struct shoot *s, enum method m, unsigned n)
{
	switch (m) {
	case PHYSICAL:
		for (unsigned i = 1; i <= n; i++)
			ipi_vector(i, (uint8_t)s->d->vector[0]);
		return 0;
	case CLUSTER:
		to_clusters(s, n);
		return 0;
	case SHORTHAND:
		ipi_send(&(struct irq_route){.vector = (uint8_t)s->d->vector[0]}, IPI_OTHERS);
		return 0;
	default:
		return paravirtual(s, n);
	}
}

/* The page goes elsewhere, or away; CPUs 1 to n hear of it. Ticks until the last has dropped the old
 * translation. */
static uint64_t shoot_down(struct shoot *s, enum method m, unsigned n, uint32_t expected)
{
	struct t *t = s->d->t;
	const uint32_t old = look(s);
	uint64_t start, ticks;

	if (expected == NOTHING)
		page_clear((void *)(uintptr_t)s->probe);
	else
		page_set((void *)(uintptr_t)s->probe, s->frame[expected & 1], PAGE_R);
	s->acks = 0;
	for (unsigned i = 1; i <= n; i++)
		delivery_due(s->d, i, 0, 1);
	start = tsc_read();
	REQUIRE_OK(t, send(s, m, n));
	(void)WAIT_FOR(s->acks == n, PATIENCE);
	ticks = tsc_read() - start;
	delivery_check(s->d, "%s shootdown of %u CPUs", method_name[m], n);
	for (unsigned i = 1; i <= n; i++) {
		s->stale += s->before[i] == old;
		EXPECT_MSG(t, s->after[i] == expected,
			   "%s shootdown: CPU %u reads 0x%x through the old translation, expected 0x%x",
			   method_name[m], i, s->after[i], expected);
	}
	return ticks;
}

struct reader {
	const struct shoot *s;
	uint32_t v;
};

static void read_probe(void *arg)
{
	struct reader *r = arg;

	r->v = look(r->s);
}

/* No CPU, in its own time and not in a handler, uses the old one. */
static void look_everywhere(struct shoot *s, uint32_t expected)
{
	struct reader *r = test_alloc(s->d->t, sizeof(*r) * s->d->cpus);

	for (unsigned i = 0; i < s->d->cpus; i++)
		r[i].s = s;
	on_every_cpu(s->d->t, read_probe, r, sizeof(*r));
	for (unsigned i = 0; i < s->d->cpus; i++)
		EXPECT_MSG(s->d->t, r[i].v == expected, "later: CPU %u reads 0x%x, expected 0x%x", i, r[i].v,
			   expected);
}

static void measure(struct shoot *s, enum method m, unsigned n)
{
	const uint64_t asked = test_iterations(s->d->t, 0);
	const unsigned batch = asked && asked < ROUNDS_MAX ? (unsigned)asked : ROUNDS_MAX;
	struct rounds rounds = test_rounds(s->d->t, OFTEN, TIMING);
	uint64_t *ticks = test_alloc(s->d->t, batch * rounds.most * sizeof(*ticks));
	unsigned n_ticks = 0;
	char series[48];

	while (test_round(s->d->t, &rounds)) {
		const struct deadline end = deadline_in(SLICE);

		for (unsigned i = 0; i < batch && (i < ROUNDS_MIN || !deadline_passed(end)); i++)
			ticks[n_ticks++] = shoot_down(s, m, n, look(s) == 0x100 ? 0x101 : 0x100);
	}
	fmt_snprintf(series, sizeof(series), "method=%s cpus=%u", method_name[m], n);
	test_metric_rounds(s->d->t, series, ticks, n_ticks, MIN(n_ticks, batch));
}

static bool possible(struct shoot *s, enum method m)
{
	bool all = true;

	for (unsigned i = 1; i < s->d->cpus; i++)
		all &= apic_logical_id(i) != 0;
	if (m == CLUSTER && !all) {
		test_note(s->d->t, "cluster: not every CPU has a logical ID in xAPIC mode");
		return false;
	}
	if (m == PARAVIRTUAL && !ipi_pv_offered()) {
		test_note(s->d->t, "paravirtual: not offered (KVM_FEATURE_PV_SEND_IPI)");
		return false;
	}
	if (m == PARAVIRTUAL) {
		const uint64_t self[2] = {1, 0};
		const int r = ipi_send_pv(cpus[0]->apic_id, self, (uint8_t)s->d->vector[1]);

		if (r == -EFAULT) {
			test_note(s->d->t,
				  "paravirtual: offered, and the hypercall is an exception (vector %u)",
				  this_cpu()->trap.vector);
			return false;
		}
		EXPECT_MSG(s->d->t, r == 1,
			   "paravirtual: KVM_HC_SEND_IPI to CPU 0: got %d, expected 1 delivered", r);
		delivery_due(s->d, 0, 1, 1);
	}
	return true;
}

/* A place of our own in the address space, and two frames, which nobody else ever gets. */
static bool probe_make(struct shoot *s)
{
	static uint8_t *place[2];

	for (unsigned i = 0; i < 2; i++) {
		if (!place[i]) {
			uint8_t *top = stack_alloc(PAGE_SIZE);

			place[i] = top ? top - PAGE_SIZE : NULL;
		}
		if (!place[i])
			return false;
		s->frame[i] = virt_to_phys(place[i]);
		*(volatile uint32_t *)(void *)place[i] = 0x100 + i;
	}
	s->probe = (volatile uint32_t *)(void *)place[0];
	return true;
}

static void probe_restore(void *arg)
{
	struct shoot *s = arg;

	page_set((void *)(uintptr_t)s->probe, s->frame[0], PAGE_W);
}

/*
 * After a shootdown no CPU uses the old translation, however the CPUs are told, and here is what it costs.
 *
 * SDM vol. 3, 4.10.5. A page moves between two frames, and is taken away; the boot CPU changes the entry,
 * sends, and waits until every target has done INVLPG in its handler. What a target reads before that may be
 * old (told), after it never; and each gets exactly one interrupt. By one ICR write a CPU, one a cluster, the
 * shorthand, and KVM's hypercall where it is offered; from one CPU to all. The time is from the first write
 * to the last answer, targets in HLT.
 */
TEST_TIMED(apic, tlb_shootdown, "after a shootdown no CPU uses the old translation; cost by CPUs and method",
	   NEED_SMP)
{
	struct shoot *s = test_alloc(t, sizeof(*s));
	const unsigned others = cpu_count() - 1;

	s->d = delivery_open(t, 2);
	s->before = test_alloc(t, sizeof(*s->before) * s->d->cpus);
	s->after = test_alloc(t, sizeof(*s->after) * s->d->cpus);
	if (!probe_make(s))
		test_error(t, "no memory for two pages");
	test_cleanup(t, probe_restore, s);
	irq_set_handler(s->d->vector[0], on_shootdown, s);
	for (enum method m = 0; m < METHODS; m++) {
		if (!possible(s, m))
			continue;
		for (unsigned n = m == SHORTHAND ? others : 1; n <= others;
		     n = n == others || 4 * n < others ? 4 * n : others)
			measure(s, m, n);
		shoot_down(s, m, others, NOTHING);
		look_everywhere(s, NOTHING);
		shoot_down(s, m, others, 0x101);
		look_everywhere(s, 0x101);
	}
	delivery_finish(s->d, "after all shootdowns");
	test_note(t,
		  "before its INVLPG a target read through the old translation %u times (told, not judged)",
		  s->stale);
}
