/* SPDX-License-Identifier: MIT */
#include "drivers/apic/apic.h"
#include "kernel/acpi/acpi.h"
#include "kernel/cmdline.h"
#include "tests/harness/runner.h"

static bool any_exerciser(uint32_t caps) { return test_next_exerciser(NULL, NULL, caps) != NULL; }

/* A working unit that has what ok() asks for, in front of an exerciser with these caps. */
static const char *unit_with(bool (*ok)(const struct iommu *), uint32_t caps, const char *lacks, const char *alone)
{
	bool some = false, works = false;
	const char *unused = NULL;

	if (iommu_count == 0)
		return "no IOMMU (no DMAR, IVRS or VIOT table)";
	for (unsigned i = 0; i < iommu_count; i++) {
		if (iommus[i].unused)
			unused = iommus[i].broken;
		if (ok(&iommus[i])) {
			some = true;
			works |= !iommus[i].broken;
		}
	}
	if (!works && unused)
		return unused;
	if (!some)
		return lacks;
	if (!works)
		return "the IOMMU stopped answering (the # env note says how)";
	FOR_EACH_EXERCISER(NULL, ex, caps) {
		const struct iommu *u = iommu_of(ex->dev);

		if (u && ok(u) && !u->broken && !ex->bypasses_iommu)
			return NULL;
	}
	return alone;
}

/* What says so, by the first unit's kind. */
static const char *lacks_ir(void)
{
	switch (iommu_count ? iommus[0].desc.vendor : IOMMU_VTD) {
	case IOMMU_AMDVI:
		return "no interrupt remapping (the IVRS names no I/O APIC)";
	case IOMMU_VIRTIO:
		return "no interrupt remapping (virtio-iommu has none)";
	default:
		return "no interrupt remapping (ECAP.IR=0)";
	}
}

static const char *lacks_translation(void)
{
	if (iommu_count && iommus[0].desc.vendor == IOMMU_VIRTIO)
		return "no MAP_UNMAP (feature bit 2), no BYPASS_CONFIG (6) or no pages of 4 KiB (page_size_mask)";
	return "no unit translates with tables we can write";
}

static const char *lacks_wide(void)
{
	if (iommu_count && iommus[0].desc.vendor == IOMMU_AMDVI)
		return "no 32-bit interrupt destinations (EFR.XTSup=0)";
	return "no 32-bit interrupt destinations (ECAP.EIM=0)";
}

static bool any_unit(const struct iommu *u) { (void)u; return true; }
static bool translates(const struct iommu *u) { return u->caps.translation; }
static bool remaps(const struct iommu *u) { return u->caps.interrupt_remapping; }
static bool remaps_wide(const struct iommu *u) { return u->caps.interrupt_remapping && u->caps.eim; }

const char *need_missing(enum test_need need)
{
	switch (need) {
	case NEED_NONE:
	case NEED_MAX:
		return NULL;
	case NEED_SMP:
		return cpu_count() > 1 ? NULL : "only one CPU";
	case NEED_X2APIC:
		return apic_mode == APIC_X2APIC ? NULL :
		       cpu_features.x2apic ? "x2APIC not used: DMAR X2APIC_OPT_OUT=1" : "no x2APIC (CPUID 1 ECX.21=0)";
	case NEED_IOAPIC:
		return ioapic_count ? NULL : "no I/O APIC in the MADT";
	case NEED_PCI:
		return pci_devs ? NULL : "no PCI function answers";
	case NEED_ECAM:
		return acpi.has_mcfg ? NULL : "no ECAM (no MCFG table)";
	case NEED_ACPI:
		return acpi.table_count ? NULL : "no ACPI tables";
	case NEED_IOMMU:
		return unit_with(any_unit, 0, "no IOMMU that answers", NULL);
	case NEED_IOMMU_TRANSLATION:
		return unit_with(translates, EX_DMA_WRITE, lacks_translation(),
				 "no device under test that does DMA behind the IOMMU");
	case NEED_IR:
		return unit_with(remaps, EX_IRQ, lacks_ir(),
				 "no device under test that interrupts behind the IOMMU");
	case NEED_IR_EIM:
		return unit_with(remaps_wide, EX_IRQ, lacks_wide(),
				 "no device under test that interrupts behind the IOMMU");
	case NEED_EX_IRQ:
		return any_exerciser(EX_IRQ) ? NULL : "no device under test that can be told to interrupt";
	case NEED_EX_MSI:
		return any_exerciser(EX_IRQ | EX_MSI) ? NULL : "no device under test with MSI";
	case NEED_EX_MSIX:
		return any_exerciser(EX_IRQ | EX_MSIX) ? NULL : "no device under test with MSI-X";
	case NEED_EX_DMA:
		return any_exerciser(EX_DMA_READ) || any_exerciser(EX_DMA_WRITE) ? NULL :
		       "no device under test that does DMA";
	case NEED_EX_DMA_TIMED:
		return any_exerciser(EX_DMA_TIMED) ? NULL : "no device under test that is fast enough to time DMA on";
	case NEED_DISRUPTIVE:
		return cmdline.disruptive ? NULL : "runs only with allow=disruptive";
	}
	return NULL;
}
