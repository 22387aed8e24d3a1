/* SPDX-License-Identifier: MIT */

#include "tests/ioapic/source.h"

/* A source that was told to signal and cannot show that it did is not the I/O APIC's fault. */
static void check_one(struct delivery *d, unsigned cpu, bool (*signalled)(void), const char *source,
		      const struct pin *p)
{
	if (!delivery_arrived(d, cpu, 0) && signalled && !signalled())
		test_error(d->t, "the %s never signalled (GSI %u)", source, p->gsi);
	delivery_check(d, "%s on GSI %u, to CPU %u", source, p->gsi, cpu);
}

/*
 * One edge at a pin is one interrupt at the CPU that the entry names.
 *
 * 82093AA, 3.2.4. The PIT's output through the MADT's override of IRQ 0 to every CPU that the entry can
 * name, and where there is an HPET one of its timers. The PIT's output stays high after its edge: an
 * I/O APIC, or a VMM, that looks at the level delivers again.
 */
TEST(ioapic, edge, "an edge is delivered once, to the CPU that the entry names", NEED_IOAPIC)
{
	struct delivery *d = delivery_open(t, 1);
	const char *why_pit, *why_hpet;
	struct pin *p = pit_open(t, &why_pit);
	unsigned far = 0, sources = p != NULL;

	for (unsigned cpu = 0; p && cpu < d->cpus; cpu++) {
		if (cpus[cpu]->apic_id > 254) {
			far++;
			continue;
		}
		pin_aim(t, p, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], false);
		delivery_due(d, cpu, 0, 1);
		pit_pulse();
		check_one(d, cpu, pit_signalled, "PIT", p);
	}
	if (p)
		test_note(t, "PIT on GSI %u: %u CPUs%s", p->gsi, d->cpus - far,
			  far ? "; IDs above 254 are out of an entry's reach without remapping" : "");
	else
		test_note(t, "PIT: %s", why_pit);

	p = hpet_open(t, &why_hpet);
	if (p) {
		const unsigned cpu = d->cpus > 1 && cpus[1]->apic_id <= 254;

		sources++;
		pin_aim(t, p, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], false);
		delivery_due(d, cpu, 0, 1);
		hpet_fire();
		check_one(d, cpu, NULL, "HPET", p);
		test_note(t, "HPET on GSI %u: CPU %u", p->gsi, cpu);
	} else {
		test_note(t, "HPET: %s", why_hpet);
	}
	if (!sources)
		test_skip(t, "no source: %s; %s", why_pit, why_hpet);
	delivery_finish(d, "at the end");
}

static void send_eoi(void *arg)
{
	(void)arg;
	apic_eoi();
}

/*
 * A level is delivered once for each EOI, as long as it is held.
 *
 * 82093AA, 3.2.4; SDM vol. 3, 11.8.4 and 11.8.5. The interrupt is taken and not yet ended: Remote IRR is
 * set and nothing more comes. EOI with the level still there: again. Device served, EOI: no more, and
 * Remote IRR is clear. On CPU 0 and on another, for the EOI has to find its way from there.
 */
TEST(ioapic, level, "delivered once; remote IRR set until EOI; redelivered while held", NEED_IOAPIC)
{
	struct delivery *d = levels_open(t, 1);
	const char *why;
	struct pin *p = level_open(t, &why);

	if (!p)
		test_skip(t, "no source of a level: %s", why);
	for (unsigned cpu = 0; cpu < MIN(d->cpus, 2u) && cpus[cpu]->apic_id <= 254; cpu++) {
		pin_aim(t, p, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], false);
		EXPECT_MSG(t, !pin_remote_irr(p), "CPU %u: remote IRR: got 1 before anything was raised", cpu);

		delivery_due(d, cpu, 0, 1);
		level_fire();
		check_one(d, cpu, level_signalled, level_source(), p);
		EXPECT_MSG(t, pin_remote_irr(p), "CPU %u, in service: remote IRR: got 0, expected 1", cpu);
		delivery_window();
		delivery_check(d, "CPU %u, in service, level held, no EOI yet", cpu);

		delivery_due(d, cpu, 0, 1);
		REQUIRE_OK(t, cpu_call(cpu, send_eoi, NULL, SEC(1)));
		delivery_check(d, "CPU %u, EOI with the level held", cpu);
		EXPECT_MSG(t, pin_remote_irr(p), "CPU %u, redelivered: remote IRR: got 0, expected 1", cpu);

		level_ack();
		REQUIRE_OK(t, cpu_call(cpu, send_eoi, NULL, SEC(1)));
		delivery_window();
		delivery_check(d, "CPU %u, EOI after the device was served", cpu);
		EXPECT_MSG(t, !pin_remote_irr(p), "CPU %u, ended: remote IRR: got 1, expected 0", cpu);
	}
	delivery_finish(d, "at the end");
}

/* The device is served in the handler, before the EOI, as a driver does. */
static void serve_level(int vector, void *arg)
{
	(void)vector;
	(void)arg;
	level_ack();
}

/* In service the mask neither ends it nor sends it again; ended under the mask, a level that is held waits. */
static void mask_in_service(struct delivery *d, struct pin *p, unsigned cpu)
{
	irq_set_handler(d->vector[0], NULL, NULL);
	irq_set_manual_eoi(d->vector[0], true);
	pin_aim(d->t, p, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], false);
	delivery_due(d, cpu, 0, 1);
	level_fire();
	check_one(d, cpu, level_signalled, level_source(), p);
	pin_mask(p, true);
	pin_mask(p, false);
	delivery_window();
	delivery_check(d, "CPU %u, level in service, its pin masked and unmasked", cpu);
	EXPECT_MSG(d->t, pin_remote_irr(p), "CPU %u, masked and unmasked in service: remote IRR: got 0, expected 1", cpu);

	pin_mask(p, true);
	REQUIRE_OK(d->t, cpu_call(cpu, send_eoi, NULL, SEC(1)));
	delivery_window();
	delivery_check(d, "CPU %u, EOI with the pin masked, level held", cpu);
	delivery_due(d, cpu, 0, 1);
	pin_mask(p, false);
	delivery_check(d, "CPU %u, unmasked after the EOI, level held", cpu);
	level_ack();
	REQUIRE_OK(d->t, cpu_call(cpu, send_eoi, NULL, SEC(1)));
	EXPECT_MSG(d->t, !pin_remote_irr(p), "CPU %u, ended: remote IRR: got 1, expected 0", cpu);
	irq_set_manual_eoi(d->vector[0], false);
}

/*
 * An edge at a masked pin is lost; a level at a masked pin is held back and comes when it is unmasked.
 * 82093AA, 3.2.4, "Interrupt Mask" and "Remote IRR". In both cases the next one, unmasked, arrives; and a mask that is
 * set and cleared while a level is in service changes nothing for it, as drivers do that move an interrupt.
 */
TEST(ioapic, mask, "masked edge lost, masked level held; mask and unmask in service", NEED_IOAPIC)
{
	struct delivery *d = delivery_open(t, 1);
	const unsigned cpu = d->cpus > 1;
	const char *why_pit, *why_hpet;
	struct pin *p = pit_open(t, &why_pit);
	unsigned sources = 0;

	if (p) {
		sources++;
		pin_aim(t, p, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], true);
		pit_pulse();
		if (!WAIT_FOR(pit_signalled(), SEC(1)))
			test_error(t, "the PIT never signalled");
		pin_mask(p, false);
		delivery_window();
		delivery_check(d, "edge while masked, then unmasked");
		delivery_due(d, cpu, 0, 1);
		pit_pulse();
		check_one(d, cpu, pit_signalled, "edge, unmasked: PIT", p);
	} else {
		test_note(t, "no edge: %s", why_pit);
	}

	p = level_open(t, &why_hpet);
	if (p && kvm_emulates()) {
		/* ioapic.level shows it; here it would only blur what the mask does. */
		test_note(t, "no level: this KVM delivers one again before its EOI");
	} else if (p) {
		sources++;
		irq_set_handler(d->vector[0], serve_level, NULL);
		pin_aim(t, p, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], true);
		level_fire();
		if (!WAIT_FOR(level_signalled(), SEC(1)))
			test_error(t, "%s never signalled", level_source());
		delivery_window();
		delivery_check(d, "level while masked");
		delivery_due(d, cpu, 0, 1);
		pin_mask(p, false);
		delivery_check(d, "level, unmasked");
		for (unsigned k = 0; k <= cpu; k++)
			mask_in_service(d, p, k);
	} else {
		test_note(t, "no level: %s", why_hpet);
	}
	if (!sources)
		test_skip(t, "no source: %s; %s", why_pit, why_hpet);
	delivery_finish(d, "at the end");
}
