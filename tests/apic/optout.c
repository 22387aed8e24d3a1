/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/acpi/acpi.h"
#include "kernel/lib/fmt.h"
#include "tests/apic/delivery.h"

static void read_base(void *arg)
{
	*(uint64_t *)arg = rdmsr(MSR_APIC_BASE) & (APIC_BASE_EN | APIC_BASE_EXTD);
}

/* A message without remapping to one CPU: composed where the machine allows it, refused with a reason
 * elsewhere. */
static void check_message(struct t *t, unsigned cpu, enum irq_dest_mode mode, bool allowed)
{
	const struct irq_route r = {
		.dest = mode == IRQ_LOGICAL ? apic_logical_id(cpu) : cpus[cpu]->apic_id,
		.mode = mode,
		.vector = IRQ_VECTOR_FIRST,
	};
	const char *why = NULL;
	struct msi_msg msg;
	const int err = msg_compat(&r, &msg, &why);

	EXPECT_MSG(t, (err == 0) == allowed && (why != NULL) == !allowed,
		   "CPU %u, %s destination 0x%x without remapping: got %s, expected it to be %s", cpu,
		   mode == IRQ_LOGICAL ? "logical" : "physical", r.dest,
		   err ? why ? why : "no reason" : "a message", allowed ? "composed" : "refused");
}

/* CPUs that are there and lie above an APIC ID, running or not. */
static unsigned cpus_above(uint32_t id)
{
	unsigned n = 0;

	for (unsigned i = 0; i < acpi.madt.cpu_count; i++)
		n += acpi.madt.cpu[i].enabled && acpi.madt.cpu[i].apic_id > id;
	return n;
}

static void tell_lack(struct t *t, const struct apic_policy *p)
{
	static const char *const likely[] = {
		[APIC_LACK_REMAPPING] =
			"no IOMMU remaps interrupts, and the hypervisor offers no extended destination ID",
		[APIC_LACK_SOME] = "one of the IOMMUs does not remap interrupts",
		[APIC_LACK_EIM] =
			"interrupt remapping carries 8 bits of destination (ECAP.EIM=0, or EFR.XTSup=0)",
	};
	char evidence[96];

	fmt_snprintf(evidence, sizeof(evidence),
		     "highest APIC ID %u; IOMMUs %u, remapping %u, with EIM or XT %u", apic_facts.max_id,
		     apic_facts.units, apic_facts.remapping, apic_facts.wide);
	switch (p->lack) {
	case APIC_LACK_NONE:
		return;
	case APIC_LACK_X2APIC:
		test_finding(t, "PLB061", "the CPU model lacks x2APIC (CPUID 1 ECX.21=0)",
			     "give the CPU model x2apic, or the machine fewer CPUs", evidence,
			     "%u CPUs with APIC IDs above 254 cannot run: there is no x2APIC",
			     cpus_above(XAPIC_ID_MAX));
		return;
	case APIC_LACK_OPT_OUT:
		test_finding(t, "PLB062", "the firmware's DMAR was made for fewer CPUs",
			     "clear X2APIC_OPT_OUT, or give the machine fewer CPUs", evidence,
			     "the firmware asks to stay out of x2APIC, and %u CPUs cannot run without it: "
			     "not obeyed",
			     cpus_above(XAPIC_ID_MAX));
		return;
	case APIC_LACK_REMAPPING:
	case APIC_LACK_SOME:
	case APIC_LACK_EIM:
		test_finding(t, "PLB060", likely[p->lack],
			     "give the machine interrupt remapping with 32-bit destinations (intel-iommu "
			     "intremap=on,eim=on; amd-iommu xtsup=on), keep device interrupts off these CPUs "
			     "till then",
			     evidence,
			     "%u CPUs have APIC IDs above %u, where no device interrupt reaches them",
			     cpus_above(p->device_max), p->device_max);
		return;
	}
}

/*
 * Every CPU is in the mode that is safe on this machine, and messages are composed by its rule.
 *
 * SDM vol. 3, 11.11.1, 11.12; VT-d 5.1, 8.1. Without interrupt remapping a message has 8 bits of destination
 * (15 with KVM's extended destination ID), so that in x2APIC mode only physical IDs fit: logical and wide
 * ones are refused, for the cut-off ID is another CPU's. DMAR X2APIC_OPT_OUT keeps all in xAPIC mode unless
 * there are CPUs that this cannot name. drivers/apic/policy.h decides, tests/host/unit/apic_policy_test.c has
 * the table; here the mode is read back on every CPU and tried. A finding says when the machine offers less
 * than its CPUs need.
 */
TEST(apic, optout, "opt-out and missing remapping lead to the mode that is safe, on every CPU", NEED_NONE)
{
	const struct apic_policy *p = &apic_policy;
	const uint64_t mode = APIC_BASE_EN | (p->x2apic ? APIC_BASE_EXTD : 0);
	const uint32_t direct_max = p->reach == MSG_X2APIC_EXT ? EXT_ID_MAX : XAPIC_ID_MAX;
	const bool opt_out = acpi.has_dmar && acpi.dmar.x2apic_opt_out;
	bool wide = iommu_count > 0;
	struct delivery *d = delivery_open(t, 1);
	uint64_t *base = test_alloc(t, sizeof(*base) * d->cpus);

	/* The rule once more, from the machine itself: what was decided may be wrong. */
	EXPECT_EQ(t, p->x2apic, cpu_features.x2apic && !(opt_out && cpus_above(XAPIC_ID_MAX) == 0));
	for (unsigned i = 0; i < iommu_count; i++)
		wide &= iommus[i].caps.interrupt_remapping && iommus[i].caps.eim && !iommus[i].broken;
	EXPECT_EQ(t, p->cluster, p->x2apic && wide);
	on_every_cpu(t, read_base, base, sizeof(*base));
	EXPECT_EQ(t, msg_reach(), p->reach);
	for (unsigned cpu = 0; cpu < d->cpus; cpu++) {
		EXPECT_MSG(t, base[cpu] == mode, "CPU %u: APIC_BASE[11:10]: got %llu, expected %llu (%s)",
			   cpu, (unsigned long long)(base[cpu] >> 10), (unsigned long long)(mode >> 10),
			   p->why);
		check_message(t, cpu, IRQ_PHYSICAL, cpus[cpu]->apic_id <= direct_max);
		check_message(t, cpu, IRQ_LOGICAL, !p->x2apic);
		delivery_due(d, cpu, 0, 1);
		ipi_vector(cpu, (uint8_t)d->vector[0]);
		delivery_check(d, "CPU %u in the mode chosen", cpu);
	}
	delivery_finish(d, "after all CPUs");
	test_note(t, "%s", p->why);
	tell_lack(t, p);
}
