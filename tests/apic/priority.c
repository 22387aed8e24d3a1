/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"

#define LOG_MAX 32

static inline uint64_t read_cr8(void)
{
	uint64_t v;

	__asm__ volatile("mov %%cr8, %0" : "=r"(v));
	return v;
}
static inline void write_cr8(uint64_t v)
{
	__asm__ volatile("mov %0, %%cr8" : : "r"(v) : "memory");
}

/* One CPU's run. What happened is noted here, and judged by the boot CPU. */
enum { LOW, MID, HIGH, LEVELS };
struct priority {
	uint8_t vector[LEVELS];          /* of three different classes */
	volatile uint8_t order[LOG_MAX]; /* handlers as they were entered */
	volatile unsigned entered;
	bool nest;                       /* MID's handler lets others in and raises LOW and HIGH */

	/* TPR and CR8 */
	struct { bool irr, early, late; uint32_t tpr, cr8, ppr; } held[2];
	bool same_class_held;
	/* in service */
	uint32_t ppr_in_service;
	bool isr_in_service, isr_after;
	/* a second one of the same vector before the EOI */
	bool second_irr, second_early, second_late;
	/* nesting */
	unsigned low_in_mid, high_in_mid;
	bool mid_isr_after_high;
	/* TPR raised over one that is pending already */
	struct {
		bool early, in_isr, late;
		unsigned spurious;
	} over;
	/* EOI by hand, LOW in service and HIGH nested in it: what is left in ISR after none, one, two */
	uint8_t left[3];
	/* three at once */
	unsigned three_at;
};

static void raise(uint8_t vector)
{
	ipi_send(&(struct irq_route){.vector = vector}, IPI_SELF);
}

/* Interrupts on until so many handlers have been entered; then, and at least, for a moment more. */
static void let_in(const struct priority *p, unsigned want)
{
	irq_enable();
	(void)WAIT_FOR(p->entered >= want, MS(500));
	(void)WAIT_FOR(false, US(100));
	irq_disable();
}

static unsigned times(const struct priority *p, uint8_t vector, unsigned from)
{
	unsigned n = 0;

	for (unsigned i = from; i < p->entered && i < LOG_MAX; i++)
		n += p->order[i] == vector;
	return n;
}

static void on_vector(int vector, void *arg)
{
	struct priority *p = arg;
	const unsigned at = p->entered;

	if (at < LOG_MAX)
		p->order[at] = (uint8_t)vector;
	p->entered = at + 1;
	if (vector != p->vector[MID])
		return;
	p->ppr_in_service = apic_read(APIC_PPR);
	p->isr_in_service = apic_isr(vector);
	if (!p->nest)
		return;
	p->nest = false;
	raise(p->vector[LOW]);
	raise(p->vector[HIGH]);
	let_in(p, at + 2);
	p->low_in_mid = times(p, p->vector[LOW], at);
	p->high_in_mid = times(p, p->vector[HIGH], at);
	p->mid_isr_after_high = apic_isr(p->vector[MID]);
}

static void hold_back(struct priority *p, unsigned k)
{
	const uint8_t v = p->vector[MID], class = v & 0xf0;
	const unsigned before = p->entered;

	if (k)
		write_cr8(class >> 4);
	else
		apic_write(APIC_TPR, class);
	raise(v);
	let_in(p, 0);
	p->held[k].tpr = apic_read(APIC_TPR);
	p->held[k].cr8 = (uint32_t)read_cr8();
	p->held[k].ppr = apic_read(APIC_PPR);
	p->held[k].irr = apic_irr(v);
	p->held[k].early = p->entered != before;
	/* One class less lets it in. */
	if (k)
		write_cr8((class >> 4) - 1u);
	else
		apic_write(APIC_TPR, class - 1u);
	let_in(p, before + 1);
	p->held[k].late = p->entered == before + 1;
	write_cr8(0);
}

static uint32_t spurious(void)
{
	return this_cpu()->irq_counts[VEC_SPURIOUS];
}

/* What is pending and no longer let in must not come: a spurious vector may instead (11.9), which sets no ISR
 * bit. */
static void raise_over(struct priority *p)
{
	const uint8_t v = p->vector[MID];
	const unsigned before = p->entered, count = spurious();

	raise(v);
	apic_write(APIC_TPR, v & 0xf0);
	let_in(p, 0);
	p->over.early = p->entered != before;
	p->over.in_isr = apic_isr(v) || apic_isr(VEC_SPURIOUS);
	p->over.spurious = spurious() - count;
	apic_write(APIC_TPR, 0);
	let_in(p, before + 1);
	p->over.late = p->entered == before + 1;
}

static uint8_t in_service(const struct priority *p)
{
	return (uint8_t)(apic_isr(p->vector[LOW]) | apic_isr(p->vector[HIGH]) << 1);
}

/* 11.8.5: an EOI says nothing of which; it ends the highest in service. */
static void end_in_order(struct priority *p)
{
	const unsigned before = p->entered;

	irq_set_manual_eoi(p->vector[LOW], true);
	irq_set_manual_eoi(p->vector[HIGH], true);
	raise(p->vector[LOW]);
	let_in(p, before + 1);
	raise(p->vector[HIGH]);
	let_in(p, before + 2);
	for (unsigned i = 0; i < ARRAY_SIZE(p->left); i++) {
		p->left[i] = in_service(p);
		if (i < 2)
			apic_eoi();
	}
	irq_set_manual_eoi(p->vector[LOW], false);
	irq_set_manual_eoi(p->vector[HIGH], false);
}

static void run_priority(void *arg)
{
	struct priority *p = arg;
	const uint8_t mid = p->vector[MID];
	unsigned before;

	irq_disable();
	hold_back(p, 0);
	hold_back(p, 1);
	raise_over(p);
	end_in_order(p);

	/* Without EOI the second of the same vector waits in IRR. */
	irq_set_manual_eoi(mid, true);
	before = p->entered;
	raise(mid);
	let_in(p, before + 1);
	raise(mid);
	let_in(p, 0);
	p->second_irr = apic_irr(mid);
	p->second_early = p->entered > before + 1;
	apic_eoi();
	let_in(p, before + 2);
	p->second_late = p->entered == before + 2;
	apic_eoi();
	irq_set_manual_eoi(mid, false);
	p->isr_after = apic_isr(mid);

	p->nest = true;
	before = p->entered;
	raise(mid);
	let_in(p, before + 3);

	p->three_at = p->entered;
	raise(p->vector[MID]);
	raise(p->vector[LOW]);
	raise(p->vector[HIGH]);
	let_in(p, p->three_at + 3);
	irq_enable();
}

/* Three vectors of three classes out of the many that were allocated; the others only keep them apart. */
static void choose(struct t *t, const struct delivery *d, struct priority *p)
{
	unsigned n = 0;

	for (unsigned class = 0x30; class <= 0xe0 && n < LEVELS; class += 0x10)
		for (unsigned v = 0; v < d->vectors; v++)
			if ((d->vector[v] & 0xf0) == (int)class) {
				p->vector[n++] = (uint8_t)d->vector[v];
				break;
			}
	if (n < LEVELS)
		test_error(t, "the vectors are of %u classes only", n);
}

/*
 * The local APIC lets in what is due, in the order that it is due.
 *
 * SDM vol. 3, 11.8.3 and 11.8.4. TPR and CR8 are one register, and hold back vectors of their class and
 * below (they wait in IRR, also those that were pending before) until it is lowered. An interrupt in service
 * holds back its class and those below, a second one of the same vector too; a higher one nests. EOI ends the
 * highest in service. Three that wait together come highest first. On every CPU.
 */
TEST(apic, priority, "TPR/CR8/PPR hold back and release; IRR/ISR order; nesting; EOI order", NEED_NONE)
{
	struct delivery *d = delivery_open(t, 36);
	struct priority *p = test_alloc(t, sizeof(*p));
	const unsigned step = d->cpus > 8 ? d->cpus - 1 : 1;
	unsigned spurious_seen = 0;

	for (unsigned cpu = 0; cpu < d->cpus; cpu += step) {
		*p = (struct priority){0};
		choose(t, d, p);
		for (unsigned i = 0; i < LEVELS; i++)
			irq_set_handler(p->vector[i], on_vector, p);
		REQUIRE_OK(t, cpu_call(cpu, run_priority, p, SEC(5)));
		for (unsigned i = 0; i < LEVELS; i++)
			irq_set_handler(p->vector[i], NULL, NULL);

		for (unsigned k = 0; k < 2; k++) {
			const char *by = k ? "CR8" : "TPR";
			const uint32_t class = p->vector[MID] & 0xf0u;

			EXPECT_MSG(t, p->held[k].tpr == class && p->held[k].cr8 == class >> 4,
				   "CPU %u: set by %s: got TPR 0x%x CR8 0x%x, expected 0x%x 0x%x", cpu, by,
				   p->held[k].tpr, p->held[k].cr8, class, class >> 4);
			EXPECT_MSG(t, p->held[k].ppr == class, "CPU %u: PPR with %s 0x%x: got 0x%x", cpu, by,
				   class, p->held[k].ppr);
			EXPECT_MSG(t, !p->held[k].early, "CPU %u: %s does not hold back vector 0x%x", cpu, by,
				   p->vector[MID]);
			EXPECT_MSG(t, p->held[k].irr, "CPU %u: vector 0x%x held back by %s is not in IRR",
				   cpu, p->vector[MID], by);
			EXPECT_MSG(t, p->held[k].late,
				   "CPU %u: vector 0x%x does not come once after %s is lowered", cpu,
				   p->vector[MID], by);
		}
		EXPECT_MSG(t, !p->over.early && !p->over.in_isr && p->over.late,
			   "CPU %u: 0x%x pending, then TPR raised over it: got %s%s%s, expected it to wait",
			   cpu, p->vector[MID], p->over.early ? "it delivered " : "",
			   p->over.in_isr ? "an ISR bit " : "", p->over.late ? "" : "it lost");
		EXPECT_MSG(t, p->left[0] == 3 && p->left[1] == 1 && p->left[2] == 0,
			   "CPU %u: 0x%x nested in 0x%x: ISR (bit 0 the lower) before, after one EOI, after "
			   "two: got %u %u %u, "
			   "expected 3 1 0",
			   cpu, p->vector[HIGH], p->vector[LOW], p->left[0], p->left[1], p->left[2]);
		spurious_seen += p->over.spurious;
		EXPECT_MSG(t, p->isr_in_service, "CPU %u: in its handler the vector is not in ISR", cpu);
		EXPECT_MSG(t, (p->ppr_in_service & 0xf0) == (p->vector[MID] & 0xf0u),
			   "CPU %u: PPR in service of 0x%x: got 0x%x", cpu, p->vector[MID],
			   p->ppr_in_service);
		EXPECT_MSG(
			t, p->second_irr && !p->second_early,
			"CPU %u: the second 0x%x before the first's EOI: got %s, expected it to wait in IRR",
			cpu, p->vector[MID], p->second_early ? "it delivered" : "it lost");
		EXPECT_MSG(t, p->second_late, "CPU %u: the second 0x%x does not come once after the EOI", cpu,
			   p->vector[MID]);
		EXPECT_MSG(t, !p->isr_after, "CPU %u: 0x%x is still in ISR after its EOI", cpu, p->vector[MID]);
		EXPECT_MSG(t, p->high_in_mid == 1, "CPU %u: 0x%x in service, 0x%x raised: got %u, expected 1",
			   cpu, p->vector[MID], p->vector[HIGH], p->high_in_mid);
		EXPECT_MSG(t, p->low_in_mid == 0, "CPU %u: 0x%x in service, 0x%x raised: got %u, expected 0",
			   cpu, p->vector[MID], p->vector[LOW], p->low_in_mid);
		EXPECT_MSG(t, p->mid_isr_after_high, "CPU %u: the EOI of the nested 0x%x ended 0x%x too", cpu,
			   p->vector[HIGH], p->vector[MID]);
		for (unsigned i = 0; i < LEVELS; i++) {
			const uint8_t got = p->three_at + i < LOG_MAX ? p->order[p->three_at + i] : 0;

			EXPECT_MSG(t, got == p->vector[HIGH - i],
				   "CPU %u: three at once, number %u: got 0x%x, expected 0x%x", cpu, i + 1,
				   got, p->vector[HIGH - i]);
		}
		EXPECT_MSG(t, p->entered == p->three_at + LEVELS,
			   "CPU %u: got %u handlers entered, expected %u", cpu, p->entered,
			   p->three_at + LEVELS);
	}
	if (spurious_seen)
		test_note(t, "%u spurious interrupts (vector 0x%x), as 11.9 allows", spurious_seen,
			  VEC_SPURIOUS);
	/* MID: two held, one under TPR, two in service, one nested, one of three; the others: three. */
	for (unsigned cpu = 0; cpu < d->cpus; cpu += step)
		for (unsigned v = 0; v < d->vectors; v++)
			for (unsigned i = 0; i < LEVELS; i++)
				if (d->vector[v] == p->vector[i])
					delivery_due(d, cpu, v, i == MID ? 7 : 3);
	delivery_finish(d, "all together");
}
