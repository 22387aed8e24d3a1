/* SPDX-License-Identifier: MIT */

#include "tests/apic/ipi.h"

/* SDM vol. 3, 11.5.3, figure 11-9. */
#define ESR_SEND_ILLEGAL BIT(5)
#define ESR_RECEIVE_ILLEGAL BIT(6)
#define ESR_ILLEGAL_REGISTER BIT(7)

#define LVT_MASKED BIT(16)
#define ILLEGAL 9u /* as an exception it has no error code: a wrong delivery can be caught */
#define RESERVED_REG ((enum apic_reg)0x04)
enum { ERROR, LEGAL, VECTORS };

struct esr {
	const struct delivery *d;
	uint32_t clean, legal;       /* nothing has happened; a legal IPI */
	uint32_t early, sent, again; /* an illegal IPI: before the write, after it, after another */
	uint32_t by_self_msr, by_lvt;
};

/* What was detected since the last write; the write makes it readable, and clears for the next. */
static uint32_t latch(void)
{
	apic_write(APIC_ESR, 0);
	return apic_read(APIC_ESR);
}

static void window(void *arg)
{
	(void)arg;
	__asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
}

/* Takes what is pending; an illegal vector that does come ends here, and is apic.ipi_self_illegal's concern.
 */
static void drain(void)
{
	struct trap_info info;

	for (unsigned i = 0; i < 4 && trap_expect(window, NULL, &info); i++) {
		irq_disable();
		apic_eoi();
	}
	irq_enable();
}

static void make_errors(void *arg)
{
	struct esr *e = arg;
	const struct irq_route legal = {.dest = cpus[this_cpu()->index]->apic_id,
					.vector = (uint8_t)e->d->vector[LEGAL]};
	struct irq_route illegal = legal;

	illegal.vector = ILLEGAL;
	irq_disable();
	latch();
	e->clean = latch();
	apic_write(APIC_LVT_ERROR, (uint32_t)e->d->vector[ERROR]);
	ipi_send(&legal, IPI_DEST);
	e->legal = latch();
	ipi_send(&illegal, IPI_DEST);
	e->early = apic_read(APIC_ESR);
	e->sent = latch();
	e->again = latch();
	if (apic_mode == APIC_X2APIC) {
		wrmsr_safe(MSR_X2APIC(APIC_SELF_IPI), ILLEGAL);
		e->by_self_msr = latch();
	}
	apic_write(APIC_LVT_TIMER, ILLEGAL);
	apic_write(APIC_TIMER_INIT, 1);
	delay(US(100));
	e->by_lvt = latch();
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	drain();
	apic_write(APIC_LVT_ERROR, LVT_MASKED);
}

/* What another CPU's illegal IPI does to this one. */
struct receiver {
	volatile bool ready, sent;
	uint32_t esr;
};

static void receive(void *arg)
{
	struct receiver *r = arg;

	irq_disable();
	latch();
	latch();
	r->ready = true;
	(void)WAIT_FOR(r->sent, SEC(1));
	delay(US(100));
	r->esr = latch();
	drain();
}

static void pair(struct t *t, unsigned cpu)
{
	struct receiver *r = test_alloc(t, sizeof(*r));
	uint32_t esr;

	REQUIRE_OK(t, cpu_start(cpu, receive, r));
	if (!WAIT_FOR(r->ready, SEC(1)))
		test_timeout(t, "CPU %u is not ready to receive", cpu);
	latch();
	ipi_vector(cpu, ILLEGAL);
	esr = latch();
	r->sent = true;
	REQUIRE_OK(t, cpu_wait(cpu, SEC(3)));
	EXPECT_MSG(t, esr == ESR_SEND_ILLEGAL,
		   "CPU 0 to CPU %u, vector %u: sender's ESR: got 0x%x, expected 0x%x", cpu, ILLEGAL, esr,
		   ESR_SEND_ILLEGAL);
	/* Whether it is sent at all, the SDM leaves open. */
	EXPECT_MSG(t, !(r->esr & ~ESR_RECEIVE_ILLEGAL),
		   "CPU 0 to CPU %u, vector %u: receiver's ESR: got 0x%x, expected 0 or 0x%x", cpu, ILLEGAL,
		   r->esr, ESR_RECEIVE_ILLEGAL);
}

struct access {
	uint32_t good, read, written;
};

static void touch_reserved(void *arg)
{
	struct access *a = arg;

	latch();
	apic_read(APIC_VERSION);
	a->good = latch();
	apic_read(RESERVED_REG);
	a->read = latch();
	apic_write(RESERVED_REG, 0);
	a->written = latch();
	latch();
}

/*
 * Errors are logged by kind, shown by a write, cleared by the next, and interrupt once.
 *
 * SDM vol. 3, 11.5.3. A write to the ESR moves what was detected since the last one into view and arms the
 * error interrupt anew: before it the old value is read, after a second one 0. Vectors below 16 are illegal
 * to send (bit 5) and to receive, also from the timer's LVT entry or oneself (bit 6); a legal IPI, sent the
 * same way, arrives and logs nothing. One sent to oneself may count as either. In xAPIC mode a reserved
 * register is an error (bit 7), in x2APIC mode it is #GP (apic.msr_map).
 */
TEST(apic, esr, "illegal vectors sent and received, illegal register: the right ESR bits, write-to-arm",
     NEED_NONE)
{
	const uint32_t either = ESR_SEND_ILLEGAL | ESR_RECEIVE_ILLEGAL;
	struct delivery *d = delivery_open(t, VECTORS);
	struct esr *all = test_alloc(t, sizeof(*all) * d->cpus);

	for (unsigned i = 0; i < d->cpus; i++) {
		const struct esr *e = &all[i];
		uint32_t errors;

		all[i].d = d;
		delivery_due(d, i, LEGAL, 1);
		REQUIRE_OK(t, cpu_call(i, make_errors, &all[i], CALL_LIMIT));
		EXPECT_MSG(t, e->clean == 0, "CPU %u: ESR after two writes: got 0x%x, expected 0", i,
			   e->clean);
		EXPECT_MSG(t, e->legal == 0, "CPU %u: ESR after a legal IPI: got 0x%x, expected 0", i,
			   e->legal);
		EXPECT_MSG(t, e->early == 0, "CPU %u: ESR before the write: got 0x%x, expected 0 still", i,
			   e->early);
		EXPECT_MSG(t, e->sent & either && !(e->sent & ~either),
			   "CPU %u: ESR after an IPI to itself with vector %u: got 0x%x, expected bit 5 or 6",
			   i, ILLEGAL, e->sent);
		EXPECT_MSG(t, e->again == 0, "CPU %u: ESR after another write: got 0x%x, expected 0", i,
			   e->again);
		if (apic_mode == APIC_X2APIC)
			EXPECT_MSG(
				t, e->by_self_msr & either && !(e->by_self_msr & ~either),
				"CPU %u: ESR after MSR 0x83f with vector %u: got 0x%x, expected bit 5 or 6",
				i, ILLEGAL, e->by_self_msr);
		EXPECT_MSG(t, e->by_lvt & either && !(e->by_lvt & ~either),
			   "CPU %u: ESR after the timer with vector %u: got 0x%x, expected bit 6 (or 5)", i,
			   ILLEGAL, e->by_lvt);
		errors = delivery_count(d, i, ERROR);
		EXPECT_MSG(t, errors == 1,
			   "CPU %u: ESR: got %u error interrupts with interrupts off, expected 1 of them all",
			   i, errors);
		delivery_due(d, i, ERROR, errors);
	}
	for (unsigned i = 1; i < d->cpus; i = i * 2)
		pair(t, i);
	delivery_finish(d, "the legal IPIs");

	if (xapic_missing()) {
		test_note(t, "the illegal register is not tried: %s", xapic_missing());
		return;
	}
	xapic_enter(t, apic_xapic_model());
	for (unsigned i = 0; i < MIN(d->cpus, 2u); i++) {
		struct access a;

		REQUIRE_OK(t, cpu_call(i, touch_reserved, &a, CALL_LIMIT));
		EXPECT_MSG(t, a.good == 0, "CPU %u: ESR after a register that exists: got 0x%x, expected 0",
			   i, a.good);
		EXPECT_MSG(
			t, a.read == ESR_ILLEGAL_REGISTER && a.written == ESR_ILLEGAL_REGISTER,
			"CPU %u: ESR after register 0x%x was read, written: got 0x%x, 0x%x, expected bit 7",
			i, (unsigned)RESERVED_REG * 16, a.read, a.written);
	}
	xapic_leave(t);
}
