/* SPDX-License-Identifier: MIT */

#include "tests/apic/sets.h"
#include "tests/ioapic/remap.h"

#define SETS_MAX 24
#define REG_SVR_NO_BROADCAST BIT(12) /* SDM vol. 3, 11.8.5: suppress EOI-broadcast */
#define LVR_NO_BROADCAST     BIT(24) /* … may be set: local APIC version register */

/* An entry itself has eight bits for it. */
static bool fits_entry(unsigned cpu) { return cpus[cpu]->apic_id <= 254; }

static bool within_reach(const struct pin_user *p, unsigned cpu)
{
	return fits_entry(cpu) || (p->u && p->u->remapping_eim);
}

/* ---- on the CPU that has the interrupt in service ---- */
struct seen { int vector; bool isr, tmr; };

static void look(void *arg)
{
	struct seen *s = arg;

	s->isr = apic_isr(s->vector);
	s->tmr = apic_read((enum apic_reg)(APIC_TMR0 + s->vector / 32)) >> (s->vector % 32) & 1;
}

static void end_it(void *arg)
{
	(void)arg;
	apic_eoi();
}

static void expect_tmr(struct delivery *d, unsigned cpu, bool level, const char *what)
{
	struct seen s = {.vector = d->vector[0]};

	REQUIRE_OK(d->t, cpu_call(cpu, look, &s, SEC(1)));
	EXPECT_MSG(d->t, s.isr, "CPU %u, %s in service: ISR bit of 0x%x: got 0, expected 1", cpu, what,
		   (unsigned)s.vector);
	EXPECT_MSG(d->t, s.tmr == level, "CPU %u, %s in service: TMR bit of 0x%x: got %u, expected %u", cpu, what,
		   (unsigned)s.vector, s.tmr, level);
	REQUIRE_OK(d->t, cpu_call(cpu, end_it, NULL, SEC(1)));
}

static void tmr_by_ipi(struct delivery *d, unsigned cpu)
{
	delivery_due(d, cpu, 0, 1);
	ipi_vector(cpu, (uint8_t)d->vector[0]);
	if (delivery_check(d, "IPI to CPU %u", cpu))
		expect_tmr(d, cpu, false, "an IPI");
}

static void tmr_by_level(struct delivery *d, struct pin *p, unsigned cpu)
{
	pin_aim(d->t, p, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], false);
	delivery_due(d, cpu, 0, 1);
	level_fire();
	if (!delivery_check(d, "level on GSI %u to CPU %u", p->gsi, cpu))
		return;
	level_ack();
	expect_tmr(d, cpu, true, "a level");
	EXPECT_MSG(d->t, !pin_remote_irr(p), "CPU %u, level ended: remote IRR: got 1, expected 0", cpu);
}

/*
 * The trigger mode register tells of what kind the interrupt in service is.
 *
 * SDM vol. 3, 11.8.4: set when a level is accepted, cleared when an edge is. By that bit the local APIC
 * decides whether its EOI is told to the I/O APICs: one stuck at 0 leaves a level line dead after its first
 * interrupt, one stuck at 1 broadcasts each EOI. The same vector by IPI, by level, by IPI again and by an
 * edge of the I/O APIC, on CPU 0 and on others.
 */
TEST(ioapic, tmr, "TMR follows the trigger mode, local and remote CPU", NEED_IOAPIC)
{
	struct delivery *d = levels_open(t, 1);
	const char *why;
	struct pin *level = level_open(t, &why), *edge;

	if (!level)
		test_skip(t, "no source of a level: %s", why);
	for (unsigned cpu = 0; cpu < MIN(d->cpus, 4u) && fits_entry(cpu); cpu++) {
		tmr_by_ipi(d, cpu);
		tmr_by_level(d, level, cpu);
		tmr_by_ipi(d, cpu);
		tmr_by_level(d, level, cpu);
	}
	/* And back to an edge by way of the I/O APIC. */
	pin_mask(level, true);
	edge = hpet_open(t, &why);
	for (unsigned cpu = 0; edge && cpu < MIN(d->cpus, 2u) && fits_entry(cpu); cpu++) {
		pin_aim(t, edge, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], false);
		delivery_due(d, cpu, 0, 1);
		hpet_fire();
		if (delivery_check(d, "edge on GSI %u to CPU %u", edge->gsi, cpu))
			expect_tmr(d, cpu, false, "an edge");
	}
	delivery_finish(d, "at the end");
}

/* ---- EOI ---- */
#define ABOVE 16 /* vectors on: the next priority class (SDM vol. 3, 11.8.3) */

/* In service on that CPU, the device served: Remote IRR alone still knows of it. */
static bool level_in_service(struct delivery *d, struct pin *p, unsigned cpu, const char *what)
{
	pin_aim(d->t, p, cpus[cpu]->apic_id, IRQ_PHYSICAL, d->vector[0], false);
	delivery_due(d, cpu, 0, 1);
	level_fire();
	if (!delivery_check(d, "CPU %u, %s: level", cpu, what))
		return false;
	level_ack();
	return EXPECT_MSG(d->t, pin_remote_irr(p),
			  "CPU %u, %s: in service, line low again: remote IRR: got 0, expected 1", cpu, what);
}

static void expect_remote_irr(struct delivery *d, const struct pin *p, unsigned cpu, bool set, const char *what)
{
	EXPECT_MSG(d->t, pin_remote_irr(p) == set, "CPU %u, %s: remote IRR: got %u, expected %u", cpu, what, !set,
		   set);
}

/* Another interrupt, of higher priority and an edge, comes and is ended: none of the pin's business. */
static void other_eoi(struct delivery *d, struct pin *p, unsigned cpu)
{
	delivery_due(d, cpu, ABOVE, 1);
	ipi_vector(cpu, (uint8_t)d->vector[ABOVE]);
	delivery_check(d, "CPU %u, an IPI above the level in service", cpu);
	expect_remote_irr(d, p, cpu, true, "after the EOI of another vector");
}

static void broadcast(struct delivery *d, struct pin *p, unsigned cpu)
{
	if (!level_in_service(d, p, cpu, "EOI broadcast"))
		return;
	other_eoi(d, p, cpu);
	REQUIRE_OK(d->t, cpu_call(cpu, end_it, NULL, SEC(1)));
	expect_remote_irr(d, p, cpu, false, "after the EOI of its vector");
}

/* The I/O APIC's own EOI register: by vector, whichever CPU writes it. */
static void directed(struct delivery *d, struct pin *p, unsigned cpu)
{
	if (!level_in_service(d, p, cpu, "directed EOI"))
		return;
	ioapic_eoi(p->io, (uint8_t)d->vector[ABOVE]);
	expect_remote_irr(d, p, cpu, true, "after a directed EOI of another vector");
	ioapic_eoi(p->io, (uint8_t)d->vector[0]);
	expect_remote_irr(d, p, cpu, false, "after a directed EOI");
	REQUIRE_OK(d->t, cpu_call(cpu, end_it, NULL, SEC(1)));
}

static void set_suppress(void *arg)
{
	const bool *on = arg;
	const uint32_t svr = apic_read(APIC_SVR);

	apic_write(APIC_SVR, *on ? svr | REG_SVR_NO_BROADCAST : svr & ~REG_SVR_NO_BROADCAST);
}

static void suppress_off(void *arg)
{
	(void)arg;
	for (unsigned cpu = 0; cpu < cpu_count(); cpu++)
		(void)cpu_call(cpu, set_suppress, &(bool){false}, SEC(1));
}

static void suppressed(struct delivery *d, struct pin *p, unsigned cpu)
{
	bool on = true;

	REQUIRE_OK(d->t, cpu_call(cpu, set_suppress, &on, SEC(1)));
	if (level_in_service(d, p, cpu, "EOI broadcast suppressed")) {
		REQUIRE_OK(d->t, cpu_call(cpu, end_it, NULL, SEC(1)));
		expect_remote_irr(d, p, cpu, true, "after an EOI that is not broadcast");
		ioapic_eoi(p->io, (uint8_t)d->vector[0]);
		expect_remote_irr(d, p, cpu, false, "after the directed EOI");
	}
	on = false;
	REQUIRE_OK(d->t, cpu_call(cpu, set_suppress, &on, SEC(1)));
	broadcast(d, p, cpu);
}

/*
 * The end of a level is told to the I/O APIC: by the local APIC's broadcast, or by software.
 *
 * SDM vol. 3, 11.8.5: the EOI of a level's vector, and of no other, clears Remote IRR, from CPU 0 and from
 * others. I/O APIC version 20h (ICH9, 13.5.5): its EOI register does the same. With SVR bit 12 (where the
 * version register's bit 24 offers it) the broadcast is left out and only the directed one counts. A VMM that
 * forgets one of them leaves the line dead; one that takes any EOI loses interrupts.
 */
TEST(ioapic, eoi, "broadcast, suppressed and directed EOI where supported: its vector's, and no other's", NEED_IOAPIC)
{
	struct delivery *d = levels_open(t, ABOVE + 1);
	const bool suppressible = apic_read(APIC_VERSION) & LVR_NO_BROADCAST;
	const char *why;
	struct pin *p = level_open(t, &why);

	if (!p)
		test_skip(t, "no source of a level: %s", why);
	/* They are given out in turn: where they began anew from the first, the next ones ascend. */
	if (d->vector[ABOVE] < d->vector[0])
		d = levels_open(t, ABOVE + 1);
	test_cleanup(t, suppress_off, NULL);
	for (unsigned cpu = 0; cpu < MIN(d->cpus, 3u) && fits_entry(cpu); cpu++) {
		broadcast(d, p, cpu);
		if (ioapic_has_eoi(p->io))
			directed(d, p, cpu);
		if (ioapic_has_eoi(p->io) && suppressible)
			suppressed(d, p, cpu);
		broadcast(d, p, cpu);
	}
	delivery_finish(d, "at the end");
	if (!ioapic_has_eoi(p->io))
		test_note(t, "no directed EOI: the I/O APIC is version 0x%x, not 0x20", p->io->version);
	if (!suppressible)
		test_note(t, "no suppressed EOI: bit 24 of the local APIC's version register is 0");
}

/* ---- destinations ---- */

static void pulse(struct delivery *d, const char *what)
{
	pit_pulse();
	if (!WAIT_FOR(pit_signalled(), SEC(1)))
		test_error(d->t, "the PIT never signalled (%s)", what);
}

static void each_physical(struct delivery *d, struct pin_user *p, const char *via)
{
	const char *why;

	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		if (!within_reach(p, cpu))
			continue;
		REQUIRE_OK(d->t, pin_route(p, cpus[cpu]->apic_id, IRQ_PHYSICAL, IRQ_FIXED, d->vector[0], &why));
		delivery_due(d, cpu, 0, 1);
		pulse(d, "physical");
		delivery_check(d, "%s, physical, CPU %u", via, cpu);
	}
}

/* Every set as fixed (all of it) and as lowest priority (exactly one of it). */
static unsigned each_logical(struct delivery *d, struct pin_user *p, const char *via)
{
	struct random r = random_seed(test_seed(d->t));
	uint32_t sets[SETS_MAX];
	const unsigned n = dest_sets(d, &r, sets, SETS_MAX);
	const char *why;

	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		const uint32_t id = apic_logical_id(cpu);

		if (!id)
			continue;
		if (pin_route(p, id, IRQ_LOGICAL, IRQ_FIXED, d->vector[1], &why) < 0) {
			test_note(d->t, "%s: no logical destinations: %s", via, why);
			return 0;
		}
		delivery_due(d, cpu, 1, 1);
		pulse(d, "logical");
		delivery_check(d, "%s, logical 0x%x, CPU %u", via, id, cpu);
	}
	for (unsigned i = 0; i < n; i++) {
		REQUIRE_OK(d->t, pin_route(p, sets[i], IRQ_LOGICAL, IRQ_FIXED, d->vector[0], &why));
		dest_due(d, sets[i], 0);
		pulse(d, "a set");
		delivery_check(d, "%s, logical set 0x%x", via, sets[i]);
		REQUIRE_OK(d->t, pin_route(p, sets[i], IRQ_LOGICAL, IRQ_LOWEST, d->vector[1], &why));
		pulse(d, "lowest priority");
		dest_one_of(d, sets[i], 1, via);
		delivery_check(d, "%s, lowest priority of 0x%x", via, sets[i]);
	}
	return n;
}

/*
 * An entry's destination: physical and logical, one CPU and several.
 *
 * 82093AA, 3.2.4; through the remapping unit by its entry (VT-d 5.1.5.1, 9.10). The PIT's edge to each CPU,
 * by APIC ID and by logical ID, then to whole clusters and seeded sets of their members, fixed (all of them,
 * once each) and lowest priority (exactly one). In x2APIC mode a logical ID fits only through remapping.
 */
TEST(ioapic, destinations, "physical and logical, each CPU, multi-CPU sets, directly and through remapping",
     NEED_IOAPIC)
{
	struct delivery *d = delivery_open(t, 2);
	const char *why;
	struct pin *pin = pit_open(t, &why);
	struct pin_user *p;

	if (!pin)
		test_skip(t, "no source: %s", why);
	for (unsigned remapped = 0; remapped < 2; remapped++) {
		const char *via = remapped ? "remapped" : "direct";
		unsigned sets;

		p = remapped ? pin_remap(t, pin, &why) : pin_direct(t, pin);
		if (!p) {
			test_note(t, "not remapped: %s", why);
			break;
		}
		each_physical(d, p, via);
		sets = each_logical(d, p, via);
		delivery_finish(d, "%s, at the end", via);
		if (sets)
			test_note(t, "%s: each CPU physical and logical, %u sets", via, sets);
		pin_release(p);
	}
}

/* Taken on `from`, not ended, the line held, and the destination rewritten: the next one is `to`'s. */
static void moved_in_service(struct delivery *d, struct pin_user *p, unsigned from, unsigned to)
{
	struct pin *pin = p->pin;
	const char *why;

	REQUIRE_OK(d->t, pin_route(p, cpus[from]->apic_id, IRQ_PHYSICAL, IRQ_FIXED, d->vector[0], &why));
	delivery_due(d, from, 0, 1);
	level_fire();
	if (!delivery_check(d, "CPU %u, level", from))
		return;
	REQUIRE_OK(d->t, pin_move(p, cpus[to]->apic_id, IRQ_PHYSICAL, d->vector[0], &why));
	delivery_window();
	delivery_check(d, "CPU %u in service, moved to CPU %u, no EOI yet", from, to);
	EXPECT_MSG(d->t, pin_remote_irr(pin), "CPU %u, moved while in service: remote IRR: got 0, expected 1", from);

	delivery_due(d, to, 0, 1);
	REQUIRE_OK(d->t, cpu_call(from, end_it, NULL, SEC(1)));
	delivery_check(d, "EOI on CPU %u, the line held: due on CPU %u", from, to);
	level_ack();
	REQUIRE_OK(d->t, cpu_call(to, end_it, NULL, SEC(1)));
	delivery_window();
	delivery_check(d, "EOI on CPU %u after the device was served", to);
	EXPECT_MSG(d->t, !pin_remote_irr(pin), "CPU %u to CPU %u, ended: remote IRR: got 1, expected 0", from, to);
}

/*
 * A destination rewritten while its level is in service counts from the next delivery on.
 *
 * 82093AA, 3.2.4: Remote IRR stands until the EOI of the CPU that took the interrupt, wherever the entry points
 * by then; the line still held, the new CPU gets the next. That is what an operating system does when it moves
 * an interrupt. A VMM that clears Remote IRR with the write delivers twice; one that looks for the EOI on the
 * new CPU never again.
 */
TEST(ioapic, destinations_in_service, "a destination rewritten while in service: EOI on the old CPU, the next on the new",
     NEED_IOAPIC, NEED_SMP)
{
	struct delivery *d = levels_open(t, 1);
	const char *why;
	struct pin *pin = level_open(t, &why);
	struct pin_user *p;
	unsigned last;

	if (!pin)
		test_skip(t, "no source of a level: %s", why);
	for (unsigned remapped = 0; remapped < 2; remapped++) {
		p = remapped ? pin_remap(t, pin, &why) : pin_direct(t, pin);
		if (!p) {
			test_note(t, "not remapped: %s", why);
			break;
		}
		if (p->u && p->u->caps.ir_by_source) {
			test_note(t, "not remapped: the pin's vector is the entry's index, which no EOI names");
			pin_release(p);
			break;
		}
		for (last = d->cpus - 1; last && !within_reach(p, last);)
			last--;
		if (last) {
			moved_in_service(d, p, 0, last);
			moved_in_service(d, p, last, 0);
		} else {
			test_note(t, "%s: no second CPU in an entry's reach", remapped ? "remapped" : "direct");
		}
		delivery_finish(d, "%s, at the end", remapped ? "remapped" : "direct");
		pin_release(p);
	}
}
