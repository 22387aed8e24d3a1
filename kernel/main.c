/* SPDX-License-Identifier: MIT */
/*
 * The whole machine, in order. The one file of kernel/ that sees the drivers.
 */
#include "drivers/apic/apic.h"
#include "drivers/exercisers/exerciser.h"
#include "drivers/iommu/iommu.h"
#include "drivers/pci/pci.h"
#include "kernel/acpi/acpi.h"
#include "kernel/boot.h"
#include "kernel/cmdline.h"
#include "kernel/cpu/cpu.h"
#include "kernel/log/log.h"
#include "kernel/power.h"
#include "kernel/time/time.h"

/*
 * vfs=N: virtual functions that all tests see, of the functions that we drive. Not those that a quiesce() of the
 * physical one takes with it (nvme's): no test could use the two apart.
 */
static void vfs_on(void)
{
	const char *why;

	FOR_EACH_PCI(d) {
		const struct exerciser *ex = d->driver;

		if (cmdline.vfs && ex && !d->physfn && !ex->ops->vfs_free)
			(void)exercisers_vfs_on(d, (unsigned)cmdline.vfs, &why);
	}
}

void main_run(void)
{
	cmdline_load(&boot_info);
	acpi_init(boot_info.rsdp);
	power_init(&boot_info);
	time_init();
	apic_init_boot();
	irq_enable();
	smp_init(&apic_smp_ops);
	ioapic_init();
	pci_cfg_init();
	pci_scan();
	pci_links_to_ioapic();
	pci_assign_resources();
	iommu_init();
	apic_decide_policy();
	exercisers_init();
	vfs_on();
	if (cmdline.repeat)
		again_seconds = (unsigned)cmdline.repeat;
	machine_end(run_all(), cmdline.exit, log_verdict_again);
}
