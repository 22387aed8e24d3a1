/* SPDX-License-Identifier: MIT */
#include "drivers/apic/apic.h"
#include "kernel/acpi/acpi.h"
#include "kernel/boot.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"
#include "kernel/log/serial.h"
#include "kernel/mm/mm.h"
#include "tests/harness/runner.h"

const char *env_context(void)
{
	static char text[96];

	if (!text[0])
		fmt_snprintf(text, sizeof(text), " accel=%s clock=tsc apic=%s iommu=%s",
			     accel_name(cpu_features.accel),
			     apic_policy.cluster ? "x2apic-cluster" : apic_policy.x2apic ? "x2apic-physical" : "xapic",
			     iommu_count ? iommus[0].ops->name : "none");
	return text;
}

static const char *boot_name(void)
{
	static const char *const names[] = {"?", "uefi", "pvh", "multiboot2"};

	return boot_info.path < ARRAY_SIZE(names) ? names[boot_info.path] : "?";
}

static void env_cpus(void)
{
	log_line("# env cpus online=%u of=%u max_apic_id=%u start_us=%llu%s", smp_report.online, smp_report.listed,
		 cpu_max_apic_id(), (unsigned long long)(smp_report.ns / 1000), smp_report.in_turn ? " in_turn=1" : "");
	for (unsigned i = 0; i < MIN(smp_report.failed, ARRAY_SIZE(smp_report.failed_ids)); i++)
		log_line("# env note CPU with APIC ID %u did not start", smp_report.failed_ids[i]);
	if (smp_report.problem)
		log_line("# env note CPUs: %s", smp_report.problem);
	if (smp_report.in_turn)
		log_line("# env note one thread of QEMU runs all CPUs in turn: the host has no part in what passes between two");
}

static void env_acpi(void)
{
	char text[400];
	size_t n = 0;

	text[0] = 0;
	for (unsigned i = 0; i < acpi.table_count && n < sizeof(text) - 8; i++)
		n += (size_t)fmt_snprintf(text + n, sizeof(text) - n, " %s", acpi.table[i].sig);
	log_line("# env acpi rsdp=%llx tables=%u%s", (unsigned long long)acpi.rsdp, acpi.table_count, text);
	if (acpi.unsound)
		log_line("# env note ACPI: %u tables are unsound, the last: %s at %u", acpi.unsound,
			 acpi.error.what ? acpi.error.what : "?", acpi.error.offset);
}

/* What applies here of the rule that drivers/apic/policy.h tells. */
static void env_apic(void)
{
	static const char *const direct[] = {
		[MSG_XAPIC] = "physical and logical, 8 bits", [MSG_X2APIC] = "physical, IDs up to 254",
		[MSG_X2APIC_EXT] = "physical, IDs up to 32767",
	};
	const struct apic_policy *p = &apic_policy;
	const bool remap = apic_facts.units && apic_facts.remapping == apic_facts.units;

	log_line("# env apic %s: %s", p->cluster ? "x2apic-cluster" : p->x2apic ? "x2apic-physical" : "xapic", p->why);
	log_line("# env interrupts of devices: %s; remapped: %s; highest APIC ID %u", direct[p->reach],
		 !remap ? "not possible" : p->cluster ? "physical and cluster, 32 bits" :
		 p->x2apic ? "physical, 8 bits" : "physical and logical, 8 bits", apic_facts.max_id);
}

static void env_iommu(void)
{
	for (unsigned i = 0; i < iommu_count; i++) {
		const struct iommu_caps *c = &iommus[i].caps;

		log_line("# env iommu %s", c->text);
		log_line("# env remapping %s eim=%s at=%llx", c->interrupt_remapping ? "yes" : "no", c->eim ? "yes" : "no",
			 (unsigned long long)iommus[i].desc.regs.v);
		if (iommus[i].broken)
			log_line("# env note IOMMU %u is not used: %s", i, iommus[i].broken);
	}
	if (iommu_count == 0)
		log_line("# env iommu none");
}

/* Which unit stands in front of a function, and under which ID it sees it where that is another. */
static void env_route(const struct pci_dev *d, char *buf, size_t size)
{
	const struct iommu *unit = iommu_of(d);
	const pci_rid_t seen = pci_requester_id(d);
	int n = 0;

	if (unit)
		n = fmt_snprintf(buf, size, " iommu=%u", (unsigned)(unit - iommus));
	if (seen.v != d->rid.v && (size_t)n < size)
		fmt_snprintf(buf + n, size - (size_t)n, " as=" PRIRID, RIDARG(seen));
}

static void env_pci(void)
{
	char text[512];
	size_t n;

	log_line("# env pci_summary functions=%u buses=%u roots=%u path=%s", pci_scan_report.functions,
		 pci_scan_report.buses, pci_scan_report.roots, pci_cfg_summary());
	FOR_EACH_PCI(d) {
		n = (size_t)pci_describe(d, text, sizeof(text));
		env_route(d, text + MIN(n, sizeof(text)), sizeof(text) - MIN(n, sizeof(text)));
		log_line("# env pci %s", text);
	}
	if (pci_scan_report.problem)
		log_line("# env note PCI: %s", pci_scan_report.problem);
	for (unsigned i = 0; i < exerciser_count; i++)
		log_line("# env exerciser %s " PRIRID "%s%s", exercisers[i].ops->name, RIDARG(exercisers[i].dev->rid),
			 exercisers[i].broken ? " not used: " : "", exercisers[i].broken ? exercisers[i].broken : "");
}

void env_print(void)
{
	const struct phys_stats mem = phys_stats();

	log_line("# env accel %s", accel_name(cpu_features.accel));
	if (kvm_emulates())
		log_line("# env note this KVM emulates every instruction of ours: no time here says anything (docs/kvm.md)");
	log_line("# env hypervisor %s", cpu_features.hypervisor[0] ? cpu_features.hypervisor : "none");
	log_line("# env cpu %s %s", cpu_features.vendor, cpu_features.brand);
	env_cpus();
	log_line("# env clock tsc_khz=%llu source=%s invariant=%u", (unsigned long long)tsc_khz(), tsc_source(),
		 cpu_features.tsc_invariant);
	if (clock2_stands())
		log_line("# env note the FADT names a PM timer at port 0x%x, and it does not run: firmware has not switched it on",
			 acpi.fadt.pm_timer_port);
	log_line("# env firmware %s", boot_info.firmware[0] ? boot_info.firmware : "unknown");
	log_line("# env boot %s by %s", boot_name(), boot_info.loader[0] ? boot_info.loader : "unknown");
	log_line("# env memory total=%lluM free=%lluM above_4g=%lluM", (unsigned long long)(mem.total >> 20),
		 (unsigned long long)(mem.free >> 20), (unsigned long long)(mem.above_4g >> 20));
	log_line("# env serial %s", serial_name());
	env_acpi();
	if (sabotage_name()[0])
		log_line("# env sabotage %s: this image misprograms on purpose, its report says nothing of the machine",
			 sabotage_name());
	env_apic();
	env_iommu();
	env_pci();
}
