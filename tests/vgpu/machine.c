/* SPDX-License-Identifier: MIT */

#include "tests/vgpu/vgpu_test.h"

#include "drivers/apic/apic.h"
#include "kernel/lib/fmt.h"

static void x2apic(struct t *t)
{
	if (apic_mode == APIC_X2APIC)
		return;
	if (cpu_features.x2apic)
		test_finding(
			t, "PLB030",
			"the ACPI DMAR table has X2APIC_OPT_OUT set: the firmware or the VMM asks for xAPIC",
			"take the option away where the host sets it; with xAPIC a guest is held to 255 CPUs",
			apic_policy.why, "x2APIC is there, and refused");
	else
		test_finding(t, "PLB030",
			     "the VM's CPU model leaves it out, or KVM's APIC is emulated in user space",
			     "PVE: any CPU type under KVM has it; under TCG add cpu: …,flags=+x2apic; not "
			     "kernel_irqchip=off",
			     "CPUID 1 ECX bit 21 = 0", "this machine has no x2APIC");
}

static unsigned cpus_beyond(uint32_t limit)
{
	unsigned n = 0;

	for (unsigned i = 0; i < cpu_count(); i++)
		n += cpus[i]->apic_id > limit;
	return n;
}

static void remapping(struct t *t, const struct vgpu *v)
{
	const struct iommu *u = iommu_of(v->g->dev);
	const uint32_t limit = msg_reach() == MSG_X2APIC_EXT ? 0x7fff : 254;
	const unsigned beyond = cpus_beyond(limit);
	const bool ir = u && !u->broken && u->caps.interrupt_remapping;
	char evidence[96];

	if (!u)
		test_note(t,
			  "%s: no IOMMU in front of it: its messages name CPUs by physical ID, none above %u",
			  v->name, limit);
	else
		test_note(t, "%s: %s in front of it, interrupt remapping %s, EIM %s", v->name, u->ops->name,
			  ir ? "yes" : "no", ir && u->caps.eim ? "yes" : "no");
	if (u && !ir)
		test_finding(
			t, "PLB032", "viommu=intel without intremap=on, or without kernel-irqchip=split",
			"PVE: machine: q35,viommu=intel sets both; by hand: -device intel-iommu,intremap=on",
			u->caps.text, "there is a vIOMMU, and it remaps no interrupts");
	if (ir && !u->caps.eim && apic_mode == APIC_X2APIC && u->ops->name[0] == 'v')
		test_finding(t, "PLB032", "eim=off, or a QEMU that needs it asked for",
			     "-device intel-iommu,intremap=on,eim=on; without it IDs above 254 and clusters "
			     "are out of reach",
			     u->caps.text, "the vIOMMU remaps interrupts to 8-bit destinations only");
	if (!beyond || (ir && u->caps.eim))
		return;
	fmt_snprintf(evidence, sizeof(evidence), "%u CPUs with an APIC ID above %u, the highest %u", beyond,
		     limit, cpu_max_apic_id());
	test_finding(
		t, "PLB031", "more CPUs than a message without remapping can name",
		"a vIOMMU with intremap=on,eim=on, or a KVM with the 15-bit destination ID (not hidden=1)",
		evidence, "some CPUs cannot take this vGPU's interrupts");
}

static void visible(struct t *t)
{
	const struct pci_dev *sign = pci_sign_of_a_vm();
	char evidence[96];

	if (!sign || cpu_features.hypervisor[0])
		return;
	fmt_snprintf(evidence, sizeof(evidence), "CPUID 0x40000000 names nobody; %04x:%04x is at " PRIRID,
		     sign->vendor, sign->device, RIDARG(sign->rid));
	test_finding(t, "PLB033", "cpu: …,hidden=1 (kvm=off)",
		     "a vGPU does not need it, and it costs KVM's clock, its paravirtual IPIs and the 15-bit "
		     "destination ID",
		     evidence, "this is a VM, and its hypervisor is hidden");
}

/*
 * What this machine gives a vGPU, and what it withholds: x2APIC, an IOMMU with remapping and extended IDs
 * for the CPUs that need them, a hypervisor that shows itself. Each lack is a finding with what to do;
 * none is the vGPU's fault, and none fails. What fails is a policy of ours that does not fit the machine.
 */
TEST(vgpu, machine, "what the machine gives a vGPU: x2APIC, remapping, EIM, a visible hypervisor", NEED_PCI)
{
	bool eim = false;

	FOR_EACH_VGPU(t, v)
		remapping(t, v);
	x2apic(t);
	visible(t);
	for (unsigned i = 0; i < iommu_count; i++)
		eim |= iommus[i].caps.interrupt_remapping && iommus[i].caps.eim;
	EXPECT_MSG(t, !apic_policy.cluster || eim || apic_mode == APIC_XAPIC,
		   "x2APIC cluster destinations are used, and no unit has 32-bit destinations");
	EXPECT_MSG(t, apic_mode == APIC_X2APIC || cpus_beyond(254) == 0, "xAPIC, with %u CPUs above ID 254",
		   cpus_beyond(254));
}
