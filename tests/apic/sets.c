/* SPDX-License-Identifier: MIT */

#include "tests/apic/sets.h"

#include "drivers/apic/apic.h"

#define ARRIVAL SEC(1)

/* The bits of a logical ID that say which cluster; the others are one a CPU. */
static uint32_t cluster_bits(void)
{
	if (apic_mode == APIC_X2APIC)
		return 0xffff0000u;
	return apic_read(APIC_DFR) == UINT32_MAX ? 0 : 0xf0;
}

static bool names(uint32_t dest, uint32_t id, uint32_t clusters)
{
	return id && !((id ^ dest) & clusters) && (id & dest & ~clusters);
}

bool dest_names(uint32_t dest, unsigned cpu)
{
	return names(dest, apic_logical_id(cpu), cluster_bits());
}

unsigned dest_members(const struct delivery *d, uint32_t dest)
{
	const uint32_t clusters = cluster_bits();
	unsigned n = 0;

	for (unsigned cpu = 0; cpu < d->cpus; cpu++)
		n += names(dest, apic_logical_id(cpu), clusters);
	return n;
}

/* All members of this CPU's cluster; 0 where one before it is of the same. */
static uint32_t whole_cluster(const struct delivery *d, unsigned first, uint32_t clusters)
{
	const uint32_t cluster = apic_logical_id(first) & clusters;
	uint32_t dest = 0;

	if (!apic_logical_id(first))
		return 0;
	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		const uint32_t id = apic_logical_id(cpu);

		if (!id || (id & clusters) != cluster)
			continue;
		if (cpu < first)
			return 0;
		dest |= id;
	}
	return dest;
}

unsigned dest_sets(const struct delivery *d, struct random *r, uint32_t *dests, unsigned max)
{
	const uint32_t clusters = cluster_bits();
	unsigned whole = 0, n;

	for (unsigned cpu = 0; cpu < d->cpus && whole < max; cpu++) {
		dests[whole] = whole_cluster(d, cpu, clusters);
		whole += dests[whole] != 0;
	}
	n = whole;
	/* Of clusters with two members at least; in turn, so that each has its share. */
	for (unsigned i = 0; whole && i < 8 * max && n < max; i++) {
		const uint32_t all = dests[i % whole];
		const uint32_t some = (uint32_t)random_u64(r) & all & ~clusters;

		if (some && some != (all & ~clusters))
			dests[n++] = (all & clusters) | some;
	}
	return n;
}

void dest_due(struct delivery *d, uint32_t dest, unsigned v)
{
	const uint32_t clusters = cluster_bits();

	for (unsigned cpu = 0; cpu < d->cpus; cpu++)
		if (names(dest, apic_logical_id(cpu), clusters))
			delivery_due(d, cpu, v, 1);
}

/* The first named CPU on which more came than was due; the number of CPUs: none yet. */
static unsigned who_got(const struct delivery *d, uint32_t dest, unsigned v, uint32_t clusters)
{
	for (unsigned cpu = 0; cpu < d->cpus; cpu++)
		if (names(dest, apic_logical_id(cpu), clusters) &&
		    delivery_count(d, cpu, v) != d->due[v * d->cpus + cpu])
			return cpu;
	return d->cpus;
}

bool dest_one_of(struct delivery *d, uint32_t dest, unsigned v, const char *what)
{
	const uint32_t clusters = cluster_bits();
	unsigned cpu = d->cpus;

	(void)WAIT_FOR((cpu = who_got(d, dest, v, clusters)) < d->cpus, ARRIVAL);
	if (!EXPECT_MSG(d->t, cpu < d->cpus, "%s: missing: none of the %u CPUs that 0x%x names got vector 0x%x",
			what, dest_members(d, dest), dest, (unsigned)d->vector[v]))
		return false;
	delivery_due(d, cpu, v, 1);
	return true;
}
