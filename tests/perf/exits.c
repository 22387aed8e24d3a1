/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/lib/fmt.h"
#include "kernel/mm/mm.h"
#include "tests/apic/delivery.h"

#define SAMPLES  256     /* of each, fewer (but SAMPLES_MIN) once SLICE is over; iterations= says how many */
#define SAMPLES_MIN 64
#define SLICE    MS(60)
#define WARM_UP  16
#define PCI_ADDRESS 0xcf8 /* a latch that a VMM has to emulate; reads have no effect */
#define POST_PORT   0x80
#define IOWIN       0x10  /* I/O APIC: the selected register */

struct sampler {
	uint64_t *ticks;
	size_t most, n;          /* asked for, taken */
	bool exactly;            /* as many as were asked for */
	uint64_t empty;          /* what measuring costs by itself: the median of nothing measured */
	volatile uint32_t *mmio;
	struct delivery *d;
	unsigned target;
	uint64_t eoi_ticks;
};

/* ---- what is measured; each is one exit at most under a hypervisor ---- */
static void op_nothing(struct sampler *s) { (void)s; }
static void op_cpuid(struct sampler *s) { (void)s; cpuid(0, 0); }
static void op_pio_read(struct sampler *s) { (void)s; inl(PCI_ADDRESS); }
static void op_pio_write(struct sampler *s) { (void)s; outb(POST_PORT, 0); }
static void op_mmio_read(struct sampler *s) { mmio_r32(s->mmio); }
static void op_msr_read(struct sampler *s) { (void)s; rdmsr(MSR_APIC_BASE); }
static void op_tpr_write(struct sampler *s) { (void)s; apic_write(APIC_TPR, 0); }
static void op_icr_write(struct sampler *s) { ipi_vector(s->target, (uint8_t)s->d->vector[0]); }

static void settle_icr(struct sampler *s)
{
	delivery_due(s->d, s->target, 0, 1);
	delivery_arrived(s->d, s->target, 0);
}

/* In the handler, with the interrupt in service: an EOI that ends nothing may cost less. */
static void on_eoi(int vector, void *arg)
{
	struct sampler *s = arg;
	uint64_t t0, t1;

	(void)vector;
	t0 = tsc_read();
	apic_eoi();
	t1 = tsc_read();
	s->eoi_ticks = t1 - t0;
}

/* Takes the interrupt whose handler measures. */
static void op_eoi(struct sampler *s)
{
	delivery_due(s->d, 0, 1, 1);
	ipi_vector(0, (uint8_t)s->d->vector[1]);
	delivery_arrived(s->d, 0, 1);
}

static void sample(struct sampler *s, void (*op)(struct sampler *), void (*settle)(struct sampler *))
{
	const struct deadline end = deadline_in(SLICE);

	s->n = 0;
	for (size_t i = 0; s->n < s->most && (s->exactly || s->n < SAMPLES_MIN || !deadline_passed(end)); i++) {
		const uint64_t t0 = tsc_read();
		uint64_t ticks;

		op(s);
		ticks = tsc_read() - t0;
		if (settle)
			settle(s);
		if (op == op_eoi)
			ticks = s->eoi_ticks;
		if (i >= WARM_UP)
			s->ticks[s->n++] = ticks > s->empty ? ticks - s->empty : 0;
	}
}

/* The same samples as ns and as cycles; the first leaves them sorted. */
static void report(struct t *t, const char *op, struct sampler *s)
{
	char series[48];

	fmt_snprintf(series, sizeof(series), "op=%s", op);
	test_metric_ticks(t, series, s->ticks, s->n);
#define P(p) (unsigned long long)s->ticks[(s->n * (p) + 99) / 100 - 1]
	test_metric(t, "%s unit=cycles n=%zu min=%llu p50=%llu p90=%llu p99=%llu max=%llu", series, s->n,
		    (unsigned long long)s->ticks[0], P(50), P(90), P(99), (unsigned long long)s->ticks[s->n - 1]);
	EXPECT_MSG(t, tsc_to_ns(s->ticks[s->n / 2]) < SEC(1), "%s: the median is %llu ticks: not a time", op, P(50));
}

/*
 * What it costs to leave the guest, one way for each: the floor under all other times in the report.
 *
 * Serialised TSC reads around each single operation, the empty measurement's median subtracted. IPIs go
 * to another CPU in HLT where there is one (the write alone is timed), EOIs end a real interrupt. On
 * bare metal, with APIC virtualisation or under TCG, where nothing is left, the figures say so.
 */
TEST(perf, exits, "CPUID, PIO, MMIO (emulated), MSR, ICR write, EOI: the floor under all else", NEED_NONE)
{
	struct delivery *d = delivery_open(t, 2);
	const uint64_t asked = test_iterations(t, 0);
	struct sampler s = {.d = d, .target = d->cpus > 1, .most = asked ? asked : SAMPLES, .exactly = asked};

	s.ticks = test_alloc(t, s.most * sizeof(*s.ticks));
	sample(&s, op_nothing, NULL);
	report(t, "empty", &s);
	s.empty = s.ticks[s.n / 2];

	sample(&s, op_cpuid, NULL);
	report(t, "cpuid", &s);
	sample(&s, op_pio_read, NULL);
	report(t, "pio_read", &s);
	sample(&s, op_pio_write, NULL);
	report(t, "pio_write", &s);
	if (ioapic_count) {
		s.mmio = (volatile uint32_t *)((volatile uint8_t *)ioapics[0].regs + IOWIN);
		sample(&s, op_mmio_read, NULL);
		report(t, "mmio_read", &s);
	} else {
		test_note(t, "mmio_read: no I/O APIC to read");
	}
	sample(&s, op_msr_read, NULL);
	report(t, "msr_read", &s);
	sample(&s, op_tpr_write, NULL);
	report(t, "tpr_write", &s);
	sample(&s, op_icr_write, settle_icr);
	report(t, "icr_write", &s);

	irq_set_manual_eoi(d->vector[1], true);
	irq_set_handler(d->vector[1], on_eoi, &s);
	sample(&s, op_eoi, NULL);
	irq_set_handler(d->vector[1], NULL, NULL);
	report(t, "eoi", &s);
	EXPECT_EQ(t, apic_isr(d->vector[1]), 0); /* they ended it */
	delivery_finish(d, "all that were sent");
}
