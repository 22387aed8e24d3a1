/* SPDX-License-Identifier: MIT */

#include "tests/msi/irq_test.h"

#include "drivers/apic/apic.h"

#define LVT_MASKED BIT(16)
#define DUE        MS(500) /* it is due at once; the host may be busy */

static uint32_t turns(void)
{
	return __atomic_load_n(&this_cpu()->irq_counts[VEC_TURN], __ATOMIC_RELAXED);
}

static void timer_once(void)
{
	const uint32_t before = turns();

	apic_write(APIC_LVT_TIMER, VEC_TURN);
	apic_write(APIC_TIMER_INIT, 1);
	(void)WAIT_FOR(turns() != before, DUE);
}

/*
 * QEMU's main loop looks at its eventfds, serves those that were signalled, and then runs the timers that are
 * due; with TCG the local APIC's is one. The first timer may still come in a turn whose look was too early. The
 * second is set after that, so its turn has looked, and served. KVM serves an eventfd as it is signalled.
 */
void irq_vmm_turn(void)
{
	if (cpu_features.accel != ACCEL_TCG)
		return;
	timer_once();
	timer_once();
	/* Whoever makes it periodic next would else have QEMU's main loop run it every 2 ns, and nothing besides. */
	apic_write(APIC_TIMER_INIT, 0);
	apic_write(APIC_LVT_TIMER, LVT_MASKED | VEC_TURN);
}

void irq_window(void)
{
	delivery_window();
	irq_vmm_turn();
}
