/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"

#define SVR_ENABLE BIT(8)
#define LVT_MASKED BIT(16)
#define SVR_ANOTHER 0xefu /* a spurious vector that nobody else has, for a moment */

#define WINDOW MS(2) /* a KVM that emulates lets an interrupt in after some hundred instructions */

enum { PENDING, ISSUED, VECTORS };

struct svr {
	const struct delivery *d;
	unsigned neighbour;
	uint32_t svr, another;
	bool early, lvt_masked, lvt_takes;
};

static void switch_off(void *arg)
{
	struct svr *s = arg;
	const unsigned me = this_cpu()->index;
	const uint8_t v = (uint8_t)s->d->vector[PENDING];
	const uint32_t before = delivery_count(s->d, me, PENDING);

	irq_disable();
	s->svr = apic_read(APIC_SVR);
	apic_write(APIC_SVR, SVR_ENABLE | SVR_ANOTHER);
	s->another = apic_read(APIC_SVR);
	apic_write(APIC_LVT_TIMER, v); /* unmasked, and not started */
	ipi_send(&(struct irq_route){.vector = v}, IPI_SELF);
	apic_write(APIC_SVR, s->svr & ~SVR_ENABLE);
	s->lvt_masked = apic_read(APIC_LVT_TIMER) & LVT_MASKED;
	apic_write(APIC_LVT_TIMER, v);
	s->lvt_takes = !(apic_read(APIC_LVT_TIMER) & LVT_MASKED);
	ipi_vector(s->neighbour, (uint8_t)s->d->vector[ISSUED]);
	irq_enable();
	s->early = WAIT_FOR(delivery_count(s->d, me, PENDING) != before, WINDOW);
	irq_disable();
	apic_write(APIC_SVR, s->svr);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	irq_enable();
}

/*
 * Disabled by software, a local APIC loses nothing that is pending, masks its own sources, and can still
 * send.
 *
 * SDM vol. 3, 11.4.7.2 and 11.9: with SVR bit 8 clear, pending interrupts are held, and need masking or
 * handling by the CPU: they come at once or when it is set again (told), but come, once. All LVT entries are
 * masked and cannot be unmasked; IPIs can be issued. The spurious vector stays as written. Kernels do this on
 * the way to a kexec and when a CPU goes off-line.
 */
TEST(apic, svr, "software-disabled: pending ones are kept, LVT entries are masked, IPIs can be sent",
     NEED_NONE)
{
	struct delivery *d = delivery_open(t, VECTORS);
	const unsigned step = d->cpus > 32 ? d->cpus / 16 : 1;
	unsigned early = 0;

	for (unsigned cpu = 0; cpu < d->cpus; cpu += step) {
		struct svr *s = test_alloc(t, sizeof(*s));

		*s = (struct svr){.d = d, .neighbour = (cpu + 1) % d->cpus};
		if (d->cpus > 1)
			delivery_due(d, s->neighbour, ISSUED, 1);
		delivery_due(d, cpu, PENDING, 1);
		REQUIRE_OK(t, cpu_call(cpu, switch_off, s, CALL_LIMIT));
		if (d->cpus == 1) /* to itself: not accepted, or held; not said */
			delivery_due(d, cpu, ISSUED, delivery_count(d, cpu, ISSUED));
		EXPECT_MSG(t,
			   s->svr == (SVR_ENABLE | VEC_SPURIOUS) && s->another == (SVR_ENABLE | SVR_ANOTHER),
			   "CPU %u: SVR: got 0x%x, 0x%x, expected as written, 0x%x, 0x%x", cpu, s->svr,
			   s->another, SVR_ENABLE | VEC_SPURIOUS, SVR_ENABLE | SVR_ANOTHER);
		early += s->early;
		EXPECT_MSG(t, s->lvt_masked && !s->lvt_takes,
			   "CPU %u: disabled by software: the timer's LVT entry %s", cpu,
			   s->lvt_masked ? "can be unmasked" : "is not masked");
		delivery_check(d, "CPU %u, disabled and enabled", cpu);
	}
	delivery_finish(d, "after all CPUs");
	test_note(t, "what was pending came %s",
		  early ? "while the APIC was disabled" : "when it was enabled again");
}
