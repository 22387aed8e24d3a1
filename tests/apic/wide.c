/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"

#define WIDE 0xffu /* the IDs above this do not fit in eight bits */

struct back {
	uint32_t dest;
	uint8_t vector;
};

static void send_back(void *arg)
{
	const struct back *b = arg;

	ipi_send(&(struct irq_route){.dest = b->dest, .vector = b->vector}, IPI_DEST);
}

/*
 * CPUs with IDs above 255 are reached by all 32 bits of the destination, and reach others.
 *
 * SDM vol. 3, 11.12.9. By physical and by logical destination, and back to CPU 0; and nobody else gets it,
 * above all not the CPU whose ID has the same low byte: that is where a VMM sends it that cuts the ID.
 */
TEST(apic, ipi_wide, "destinations above 255", NEED_X2APIC)
{
	struct delivery *d;
	unsigned wide = 0, twins = 0;

	if (cpu_max_apic_id() <= WIDE)
		test_skip(t, "no CPU has an APIC ID above 255 (the highest is %u)", cpu_max_apic_id());
	d = delivery_open(t, 2);
	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		struct back b = {.dest = cpus[0]->apic_id, .vector = (uint8_t)d->vector[1]};

		if (cpus[cpu]->apic_id <= WIDE)
			continue;
		wide++;
		twins += cpu_by_apic_id(cpus[cpu]->apic_id & WIDE) != NULL;
		for (enum irq_dest_mode mode = IRQ_PHYSICAL; mode <= IRQ_LOGICAL; mode++) {
			const struct irq_route r = {
				.dest = mode == IRQ_LOGICAL ? apic_logical_id(cpu) : cpus[cpu]->apic_id,
				.mode = mode,
				.vector = (uint8_t)d->vector[0],
			};

			delivery_due(d, cpu, 0, 1);
			ipi_send(&r, IPI_DEST);
			delivery_check(d, "CPU 0 to CPU %u, %s destination 0x%x", cpu,
				       mode == IRQ_LOGICAL ? "logical" : "physical", r.dest);
		}
		delivery_due(d, 0, 1, 1);
		REQUIRE_OK(t, cpu_call(cpu, send_back, &b, SEC(2)));
		delivery_check(d, "CPU %u to CPU 0", cpu);
	}
	delivery_finish(d, "after all");
	test_note(t, "%u CPUs above 255, %u of them with a CPU whose ID has the same low byte", wide, twins);
}
