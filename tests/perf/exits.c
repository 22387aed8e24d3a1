/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/lib/fmt.h"
#include "kernel/mm/mm.h"
#include "tests/apic/delivery.h"

#define SAMPLES  256     /* of each a round, fewer (but SAMPLES_MIN) once SLICE is over; iterations= says how many */
#define SAMPLES_MIN 64
#define SLICE    MS(60)
#define OFTEN    24      /* rounds of the timing suite, while it has … */
#define TIMING   MS(1200)
#define WARM_UP  16
#define PCI_ADDRESS 0xcf8 /* a latch that a VMM has to emulate; reads have no effect */
#define POST_PORT   0x80
#define IOWIN       0x10  /* I/O APIC: the selected register */

struct sampler {
	size_t most;             /* a round */
	bool exactly;            /* as many as were asked for */
	uint64_t empty;          /* what measuring costs by itself: the median of nothing measured */
	volatile uint32_t *mmio;
	struct delivery *d;
	unsigned target;
	uint64_t eoi_ticks;
};

struct op {
	const char *name;
	void (*run)(struct sampler *), (*settle)(struct sampler *);
	uint64_t *ticks;
	size_t n, batch;         /* taken; in each round */
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

static void sample(struct sampler *s, struct op *op)
{
	const struct deadline end = deadline_in(SLICE);
	const uint64_t empty = op->run == op_nothing ? 0 : s->empty;
	const size_t most = op->batch ? op->batch : s->most; /* the first round says how many they are */
	size_t n = 0;

	for (size_t i = 0; n < most && (op->batch || s->exactly || n < SAMPLES_MIN || !deadline_passed(end)); i++) {
		const uint64_t t0 = tsc_read();
		uint64_t ticks;

		op->run(s);
		ticks = tsc_read() - t0;
		if (op->settle)
			op->settle(s);
		if (op->run == op_eoi)
			ticks = s->eoi_ticks;
		if (i >= WARM_UP)
			op->ticks[op->n + n++] = ticks - MIN(ticks, empty);
	}
	op->n += op->batch = n;
}

/*
 * What it costs to leave the guest, one way for each: the floor under all other times in the report.
 *
 * Serialised TSC reads around each single operation, the empty measurement's median subtracted. IPIs go
 * to another CPU in HLT where there is one (the write alone is timed), EOIs end a real interrupt. On
 * bare metal, with APIC virtualisation or under TCG, where nothing is left, the figures say so.
 */
TEST_TIMED(perf, exits, "CPUID, PIO, MMIO (emulated), MSR, ICR write, EOI: the floor under all else", NEED_NONE)
{
	struct delivery *d = delivery_open(t, 2);
	const uint64_t asked = test_iterations(t, 0);
	struct rounds rounds = test_rounds(t, OFTEN, TIMING);
	struct sampler s = {.d = d, .target = d->cpus > 1, .most = asked ? asked : SAMPLES, .exactly = asked};
	struct op ops[] = {
		{.name = "empty", .run = op_nothing},       {.name = "cpuid", .run = op_cpuid},
		{.name = "pio_read", .run = op_pio_read},   {.name = "pio_write", .run = op_pio_write},
		{.name = "msr_read", .run = op_msr_read},   {.name = "tpr_write", .run = op_tpr_write},
		{.name = "icr_write", .run = op_icr_write, .settle = settle_icr},
		{.name = "eoi", .run = op_eoi},             {.name = "mmio_read", .run = op_mmio_read},
	};
	const unsigned count = ARRAY_SIZE(ops) - !ioapic_count;

	if (ioapic_count)
		s.mmio = (volatile uint32_t *)((volatile uint8_t *)ioapics[0].regs + IOWIN);
	else
		test_note(t, "mmio_read: no I/O APIC to read");
	irq_set_manual_eoi(d->vector[1], true);
	irq_set_handler(d->vector[1], on_eoi, &s);
	for (unsigned i = 0; i < count; i++)
		ops[i].ticks = test_alloc(t, s.most * rounds.most * sizeof(uint64_t));
	while (test_round(t, &rounds))
		for (unsigned i = 0; i < count; i++) {
			sample(&s, &ops[i]);
			if (rounds.done > 1 || i)
				continue;
			sort_ticks(ops[0].ticks, ops[0].n);
			s.empty = ops[0].ticks[ops[0].n / 2];
		}
	irq_set_handler(d->vector[1], NULL, NULL);
	for (unsigned i = 0; i < count; i++) {
		char series[48];

		fmt_snprintf(series, sizeof(series), "op=%s", ops[i].name);
		test_metric_rounds(t, series, ops[i].ticks, ops[i].n, ops[i].batch);
		EXPECT_MSG(t, tsc_to_ns(ops[i].ticks[ops[i].n / 2]) < SEC(1), "%s: the median is %llu ticks: not a time",
			   ops[i].name, (unsigned long long)ops[i].ticks[ops[i].n / 2]);
	}
	EXPECT_EQ(t, apic_isr(d->vector[1]), 0); /* they ended it */
	delivery_finish(d, "all that were sent");
}
