/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/acpi/acpi.h"
#include "tests/apic/delivery.h"

struct answer {
	unsigned index, answers;
	uint32_t apic;
};

static void say_who(void *arg)
{
	struct answer *a = arg;

	a->answers++;
	a->index = this_cpu()->index;
	a->apic = apic_id();
}

static unsigned online_with(uint32_t id)
{
	unsigned n = 0;

	for (unsigned i = 0; i < cpu_count(); i++)
		n += cpus[i]->apic_id == id;
	return n;
}

/*
 * Every CPU that the MADT says is enabled comes online, once, with the ID it has there.
 *
 * ACPI 6.5, 5.2.12.2 (local APIC) and 5.2.12.12 (local x2APIC). Those that did not are named; so is a CPU
 * that came and is not in the table. In xAPIC mode the IDs above 254 cannot be started; they are told.
 */
TEST(boot, smp, "every enabled MADT CPU (types 0 and 9) comes online once; ids match; the others are named",
     NEED_ACPI)
{
	struct answer *a = test_alloc(t, sizeof(*a) * cpu_count());
	unsigned listed = 0, unreachable = 0;

	if (!acpi.has_madt)
		test_skip(t, "no MADT");
	on_every_cpu(t, say_who, a, sizeof(*a));
	for (unsigned i = 0; i < cpu_count(); i++)
		EXPECT_MSG(t, a[i].answers == 1 && a[i].index == i && a[i].apic == cpus[i]->apic_id,
			   "CPU %u: got %u answers, from CPU %u with APIC ID 0x%x, expected one with 0x%x", i,
			   a[i].answers, a[i].index, a[i].apic, cpus[i]->apic_id);
	for (unsigned i = 0; i < acpi.madt.cpu_count; i++) {
		const struct madt_cpu *m = &acpi.madt.cpu[i];

		if (!m->enabled)
			continue;
		listed++;
		if (apic_mode == APIC_XAPIC && m->apic_id > 254) {
			unreachable++;
			continue;
		}
		EXPECT_MSG(t, online_with(m->apic_id) == 1,
			   "APIC ID 0x%x (MADT type %u, UID %u): got online %u times, expected 1", m->apic_id,
			   m->x2apic ? 9 : 0, m->uid, online_with(m->apic_id));
	}
	for (unsigned i = 0; i < cpu_count(); i++) {
		bool in_table = false;

		for (unsigned k = 0; k < acpi.madt.cpu_count && !in_table; k++)
			in_table = acpi.madt.cpu[k].enabled && acpi.madt.cpu[k].apic_id == cpus[i]->apic_id;
		EXPECT_MSG(t, in_table, "CPU %u (APIC ID 0x%x) is online, but not enabled in the MADT", i,
			   cpus[i]->apic_id);
	}
	EXPECT_MSG(t, !smp_report.problem, "CPUs: %s", smp_report.problem);
	EXPECT_EQ(t, smp_report.strangers, 0);
	EXPECT_EQ(t, acpi.madt.dropped, 0);
	if (unreachable)
		test_note(t, "%u CPUs have IDs above 254, which xAPIC mode cannot start", unreachable);
	test_note(t, "%u CPUs listed, %u online, started in %llu us", listed, cpu_count(),
		  (unsigned long long)(smp_report.ns / 1000));
}
