/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "tests/msi/irq_test.h"

#define MESSAGES_MAX 32

/* Ours that are neighbours, the first a multiple of n; its place in vector[], or -1. */
static int aligned_run(const struct delivery *d, unsigned n)
{
	for (unsigned i = 0; i + n <= d->vectors; i++)
		if (d->vector[i] % (int)n == 0 && d->vector[i + n - 1] == d->vector[i] + (int)n - 1)
			return (int)i;
	return -1;
}

/*
 * Where message i of n goes: without remapping to one CPU and vectors in a row; through it each to a CPU of its own, the
 * vectors against the messages' order.
 */
static unsigned vector_of(const struct irq_source *s, const struct delivery *d, unsigned n, unsigned i)
{
	const int first = aligned_run(d, n);

	if (first < 0)
		test_error(d->t, "no %u vectors in a row", n);
	return s->via == IRQ_DIRECT ? (unsigned)first + i : n - 1 - i;
}

static unsigned cpu_of(const struct irq_source *s, unsigned cpu, unsigned i)
{
	return irq_source_cpu(s, s->via == IRQ_DIRECT ? cpu : cpu + i);
}

static void aim(struct irq_source *s, const struct delivery *d, unsigned n, unsigned cpu)
{
	struct irq_route route[MESSAGES_MAX] = {{0}};

	for (unsigned i = 0; i < n; i++) {
		route[i].dest = cpus[cpu_of(s, cpu, i)]->apic_id;
		route[i].vector = (uint8_t)d->vector[vector_of(s, d, n, i)];
	}
	irq_source_messages(s, route, n);
}

static bool arrives(struct irq_source *s, struct delivery *d, unsigned n, unsigned cpu, unsigned i)
{
	return irq_expect_one(s, d, i, cpu_of(s, cpu, i), vector_of(s, d, n, i));
}

/* What was not granted may go by a message that was (6.8.1.3), or not at all; no further. */
static void not_granted(struct irq_source *s, struct delivery *d, unsigned n, unsigned cpu, unsigned i)
{
	irq_source_raise(s, i);
	irq_window();
	delivery_fence(d->t);
	irq_source_ack(s, i);
	for (unsigned k = 0; k < n; k++) {
		const unsigned c = cpu_of(s, cpu, k), v = vector_of(s, d, n, k);

		delivery_due(d, c, v, delivery_count(d, c, v) - d->due[v * d->cpus + c]);
	}
	delivery_check(d, "%s, message %u, with %u granted", irq_source_name(s), i, n);
}

static void some_messages(struct irq_source *s, struct delivery *d, unsigned n, unsigned cpu)
{
	aim(s, d, n, cpu);
	for (unsigned i = 0; i < n; i++)
		arrives(s, d, n, cpu, i);
	/* And downwards, so that a neighbour's is not this one's by its turn. */
	for (unsigned i = n; i-- > 0;)
		arrives(s, d, n, cpu, i);
	for (unsigned i = n; i < s->ex->irq_count; i += MAX(s->ex->irq_count - 1 - i, 1u))
		not_granted(s, d, n, cpu, i);
	arrives(s, d, n, cpu, n - 1);
	delivery_finish(d, "%s, %u messages", irq_source_name(s), n);
}

/*
 * A function with several messages tells them apart by the low bits of the data.
 *
 * PCI 3.0, 6.8.1.3 and 6.8.1.6: granted n of its m (1 to 32), it writes data + i, and the vector of each is its own.
 * Through remapping each has an entry of its own, and with it its own CPU: VT-d 5.1.2.2 adds the data to the handle, for
 * AMD-Vi (48882, 2.2.5) it is the index. A VMM that grants one whatever Multiple Message Enable says, or more than it
 * says, or sends all by the first, fails here.
 */
TEST(msi, multi_message, "1 to 32 messages granted: each its own vector, through remapping its own CPU; no others", NEED_EX_MSI)
{
	struct delivery *d = delivery_open(t, 2 * MESSAGES_MAX - 1);
	unsigned shown = 0;

	/* They are given out in turn: where they began anew in the middle, the next ones are in a row. */
	if (d->vector[d->vectors - 1] < d->vector[0])
		d = delivery_open(t, 2 * MESSAGES_MAX - 1);
	FOR_EACH_IRQ_EXERCISER(t, ex)
	for (enum irq_via via = 0; via < IRQ_VIA_COUNT && !ex->irq_is_msix && ex->irq_count > 1; via++) {
		const unsigned max = MIN(ex->irq_count, ex->msi.count_max);
		const char *why;
		struct irq_source *s = irq_source_open(t, ex, via, &why);

		if (!s)
			continue;
		/* One that emulates every instruction has time for the least and the most. */
		for (unsigned n = 1; n <= max; n = kvm_emulates() && n == 2 && max > 2 ? max : 2 * n)
			some_messages(s, d, n, irq_source_cpu(s, n / 2));
		test_note(t, "%s: up to %u of %u messages", irq_source_name(s), ex->irq_count, ex->msi.count_max);
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "no device under test has more than one MSI message (MSI control, bits 3:1)");
}

/* Message k of n; its neighbour goes on meanwhile. */
static void held_and_released(struct irq_source *s, struct delivery *d, unsigned n, unsigned k, unsigned cpu)
{
	const unsigned to = cpu_of(s, cpu, k), v = vector_of(s, d, n, k);
	struct msi *m = &s->ex->msi;
	const char *who = irq_source_name(s);
	uint32_t pending;

	arrives(s, d, n, cpu, k);
	EXPECT_MSG(d->t, !msi_pending(m), "%s: pending bits: got 0x%x before anything was masked", who, msi_pending(m));

	msi_mask(m, k, true);
	irq_source_raise(s, k);
	(void)WAIT_FOR(msi_pending(m) >> k & 1, SEC(1));
	pending = msi_pending(m);
	EXPECT_MSG(d->t, pending == BIT(k), "%s, message %u masked and raised: pending bits: got 0x%x, expected 0x%x", who, k,
		   pending, BIT(k));
	irq_window();
	delivery_check(d, "%s, message %u masked", who, k);
	if (n > 1)
		arrives(s, d, n, cpu, k ^ 1);

	delivery_due(d, to, v, 1);
	msi_mask(m, k, false);
	delivery_check(d, "%s, message %u unmasked again", who, k);
	EXPECT_MSG(d->t, !msi_pending(m), "%s, message %u delivered after unmasking: pending bits: got 0x%x, expected 0", who, k,
		   msi_pending(m));
	irq_source_ack(s, k);
	arrives(s, d, n, cpu, k);
}

/*
 * A masked message is held: its pending bit shows it, nothing arrives; unmasked, it arrives once.
 *
 * PCI 3.0, 6.8.1.7, 6.8.1.8 and 6.8.1.9, for a function whose MSI has Per-Vector Masking: each of its messages, the
 * others open. Lost here, a driver that masks while it moves an interrupt hangs; doubled, it sees ghosts.
 */
TEST(msi, mask, "per-vector mask holds, pending bit shows, unmask delivers once", NEED_EX_MSI)
{
	struct delivery *d = delivery_open(t, 2 * MESSAGES_MAX - 1);
	unsigned shown = 0;

	if (d->vector[d->vectors - 1] < d->vector[0])
		d = delivery_open(t, 2 * MESSAGES_MAX - 1);
	FOR_EACH_IRQ_EXERCISER(t, ex)
	for (enum irq_via via = 0; via < IRQ_VIA_COUNT && !ex->irq_is_msix && ex->msi.maskable; via++) {
		const unsigned n = MIN(ex->irq_count, ex->msi.count_max);
		const char *why;
		struct irq_source *s = irq_source_open(t, ex, via, &why);

		if (!s)
			continue;
		for (unsigned cpu = 0; cpu < 2; cpu++) {
			aim(s, d, n, cpu);
			for (unsigned k = 0; k < n; k += kvm_emulates() && n > 1 ? n - 1 : 1)
				held_and_released(s, d, n, k, cpu);
		}
		delivery_finish(d, "%s, %u messages, at the end", irq_source_name(s), n);
		irq_source_close(s);
		shown++;
	}
	if (!shown)
		test_skip(t, "no device under test has MSI with per-vector masking (MSI control, bit 8)");
}
