/* SPDX-License-Identifier: MIT */
#include "drivers/apic/apic.h"

#include "kernel/lib/bits.h"
#include "kernel/time/time.h"

/* Interrupt command register: SDM vol. 3, 11.6.1 (xAPIC), 11.12.9 (x2APIC). */
#define ICR_ASSERT    BIT(14)
#define ICR_LEVEL     BIT(15)
#define ICR_PENDING   BIT(12)
#define ICR_SHORTHAND GENMASK(19, 18)

static void icr(uint32_t command, uint32_t dest)
{
	if (apic_mode == APIC_X2APIC) {
		/* WRMSR to the ICR does not order earlier stores (11.12.3); the receiver reads what we wrote */
		__asm__ volatile("mfence; lfence" : : : "memory");
		wrmsr(MSR_X2APIC(APIC_ICR), (uint64_t)dest << 32 | command);
		return;
	}
	/* Two writes, and a handler that sends in between would change the first: its IPI's target gets ours. */
	const bool enabled = irq_enabled();

	irq_disable();
	WAIT_FOR(!(apic_read(APIC_ICR) & ICR_PENDING), MS(100));
	apic_write(APIC_ICR_HI, dest << 24);
	apic_write(APIC_ICR, command);
	if (enabled)
		irq_enable();
}

void ipi_send(const struct irq_route *r, enum ipi_shorthand shorthand)
{
	icr(msg_icr_command(r) | FIELD_PREP(ICR_SHORTHAND, (uint32_t)shorthand), shorthand ? 0 : r->dest);
}

void ipi_init(uint32_t id)
{
	const struct irq_route r = {.dest = id, .delivery = IRQ_INIT};

	icr(msg_icr_command(&r) | ICR_LEVEL | ICR_ASSERT, id);
}

void ipi_startup(uint32_t id, uint8_t page)
{
	icr(6u << 8 | ICR_ASSERT | page, id);
}
