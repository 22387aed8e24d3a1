/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"

/* What one CPU says of itself. */
struct identity {
	uint32_t apic, ldr, leaf1, leaf_b, leaf_1f, index;
	bool id_writable, ldr_writable;
};

static void identify(void *arg)
{
	struct identity *me = arg;

	me->index = this_cpu()->index;
	me->apic = apic_id();
	me->ldr = apic_ldr();
	me->leaf1 = cpuid(1, 0).ebx >> 24;
	if (cpu_features.max_leaf >= 0xb)
		me->leaf_b = cpuid(0xb, 0).edx;
	if (cpu_features.max_leaf >= 0x1f)
		me->leaf_1f = cpuid(0x1f, 0).edx;
	if (apic_mode == APIC_X2APIC) {
		me->id_writable = wrmsr_safe(MSR_X2APIC(APIC_ID), me->apic) == 0;
		me->ldr_writable = wrmsr_safe(MSR_X2APIC(APIC_LDR), me->ldr) == 0;
	}
}

static struct identity *identify_all(struct t *t)
{
	struct identity *id = test_alloc(t, sizeof(*id) * cpu_count());

	on_every_cpu(t, identify, id, sizeof(*id));
	return id;
}

/*
 * The APIC, CPUID and the MADT give every CPU the same ID, and no two the same.
 *
 * SDM vol. 3, 11.12.5.1: the x2APIC ID is what CPUID 0BH (and 1FH) returns in EDX, and the local APIC ID
 * register is read-only. CPUID 1 EBX[31:24] is its low byte (the initial ID). A VMM that renumbers
 * CPUs in one of the places only makes interrupts go to the wrong one.
 */
TEST(apic, ids, "x2APIC ID == CPUID 0xB/0x1F EDX == MADT on every CPU; the ID register is read-only",
     NEED_NONE)
{
	const struct identity *id = identify_all(t);
	/* EBX 0 at sub-leaf 0: the leaf does not exist (SDM vol. 2, CPUID). */
	const bool has_b = cpu_features.max_leaf >= 0xb && cpuid(0xb, 0).ebx;
	const bool has_1f = cpu_features.max_leaf >= 0x1f && cpuid(0x1f, 0).ebx;

	for (unsigned i = 0; i < cpu_count(); i++) {
		EXPECT_MSG(t, id[i].index == i, "CPU %u ran as CPU %u", i, id[i].index);
		EXPECT_MSG(t, id[i].apic == cpus[i]->apic_id,
			   "CPU %u: APIC ID: got 0x%x, expected 0x%x (MADT)", i, id[i].apic,
			   cpus[i]->apic_id);
		EXPECT_MSG(t, id[i].leaf1 == (id[i].apic & 0xff),
			   "CPU %u: CPUID 1 EBX[31:24]: got 0x%x, expected the low byte of 0x%x", i,
			   id[i].leaf1, id[i].apic);
		if (has_b)
			EXPECT_MSG(t, id[i].leaf_b == id[i].apic,
				   "CPU %u: CPUID 0xb EDX: got 0x%x, expected 0x%x", i, id[i].leaf_b,
				   id[i].apic);
		if (has_1f)
			EXPECT_MSG(t, id[i].leaf_1f == id[i].apic,
				   "CPU %u: CPUID 0x1f EDX: got 0x%x, expected 0x%x", i, id[i].leaf_1f,
				   id[i].apic);
		if (apic_mode == APIC_X2APIC)
			EXPECT_MSG(t, !id[i].id_writable, "CPU %u: WRMSR 0x802: got no fault, expected #GP", i);
		for (unsigned j = 0; j < i; j++)
			if (id[i].apic == id[j].apic)
				EXPECT_MSG(t, false, "CPU %u and CPU %u: both have APIC ID 0x%x", j, i,
					   id[i].apic);
	}
	if (!has_b)
		test_note(t, "no CPUID leaf 0xb: x2APIC IDs above 255 could not be told apart");
}

/*
 * The logical ID follows from the physical one; nobody chooses it.
 *
 * SDM vol. 3, 11.12.10.2: LDR = (ID[19:4] << 16) | (1 << ID[3:0]), read-only. Cluster destinations
 * are computed from IDs, never read: one CPU with another LDR is unreachable.
 */
TEST(apic, ldr, "LDR == (ID[19:4] << 16) | (1 << ID[3:0]) on every CPU, read-only", NEED_X2APIC)
{
	const struct identity *id = identify_all(t);

	for (unsigned i = 0; i < cpu_count(); i++) {
		const uint32_t want = (id[i].apic >> 4 & 0xffff) << 16 | 1u << (id[i].apic & 15);

		EXPECT_MSG(t, id[i].ldr == want, "CPU %u (APIC ID 0x%x): LDR: got 0x%08x, expected 0x%08x", i,
			   id[i].apic, id[i].ldr, want);
		EXPECT_MSG(t, !id[i].ldr_writable, "CPU %u: WRMSR 0x80d: got no fault, expected #GP", i);
	}
}
