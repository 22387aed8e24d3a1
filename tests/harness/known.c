/* SPDX-License-Identifier: MIT */
#include "drivers/apic/apic.h"
#include "drivers/pci/pci.h"
#include "kernel/cpu/cpu.h"
#include "kernel/fwcfg.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "tests/harness/runner.h"

/*
 * A KVM that runs us by emulating every instruction (kvm_pvm does, for a kernel that is not made for it)
 * betrays itself by time: no CPU and no TCG takes microseconds for a few hundred instructions that touch
 * registers alone, and no hypervisor has a reason to trap one of them. Here: 0.5 us each (docs/kvm.md).
 */
bool kvm_emulates(void)
{
	static int known_already = -1;
	uint64_t least = UINT64_MAX;

	if (known_already < 0) {
		for (unsigned i = 0; i < 8 && cpu_features.accel == ACCEL_KVM; i++) {
			const uint64_t t0 = tsc_read();
			uint32_t turns = 100;

			__asm__ volatile("1: dec %0; jnz 1b" : "+r"(turns) : : "cc");
			least = MIN(least, tsc_read() - t0);
		}
		known_already = cpu_features.accel == ACCEL_KVM && tsc_to_ns(least) > US(20);
	}
	return known_already;
}

/* QEMU's amd-iommu: the unit's own function (class 080600) has QEMU's subsystem ID. */
static bool qemu_amdvi(void)
{
	FOR_EACH_PCI(d)
		if (d->class_code == 0x080600 && d->subvendor == 0x1af4)
			return true;
	return false;
}

/* QEMU's own subsystem on the host bridge, and a unit of the other kind. */
static bool qemu_vtd(void)
{
	const struct pci_dev *host = pci_find(pci_rid(0, 0, 0));

	return iommu_count && iommus[0].desc.vendor == IOMMU_VTD && host && host->subvendor == 0x1af4;
}

/* QEMU's virtio-iommu, by the subsystem ID that it gives all its devices. */
static bool qemu_viommu(void)
{
	FOR_EACH_PCI(d)
		if (d->vendor == 0x1af4 && d->device == 0x1057 && d->subdevice == 0x1100)
			return true;
	return false;
}

/* Only QEMU's has an EOI register (version 20h): a split irqchip, under KVM. */
static bool ioapic_in_qemu(void)
{
	return ioapic_count && ioapic_has_eoi(&ioapics[0]);
}

/* A fault of one kind of device is none of a machine without it. */
static bool has_exerciser(const char *name, uint32_t caps)
{
	for (unsigned i = 0; i < exerciser_count; i++)
		if (strcmp(exercisers[i].ops->name, name) == 0 && (exercisers[i].caps & caps) == caps)
			return true;
	return false;
}
static bool ivshmem(void) { return has_exerciser("ivshmem", EX_MSIX); }
static bool doorbell(void) { return has_exerciser("doorbell", 0); }
static bool nvidia(void) { return has_exerciser("nvidia", 0); }
static bool nvidia_msix(void) { return has_exerciser("nvidia", EX_MSIX); }

static bool qemu_vtd_first_stage(void)
{
	return qemu_vtd() && iommus[0].caps.first_stage;
}

/* The model of an assigned device (tests/mdev/model.py, kind edu), by its revision. */
static bool shadowed_edu(void)
{
	FOR_EACH_PCI(d)
		if (d->vendor == 0x1234 && d->device == 0x11e8 && d->revision == 0x51)
			return true;
	return false;
}

static bool qemu_amdvi_beyond_bus_0(void)
{
	for (unsigned i = 0; i < exerciser_count; i++)
		if (rid_bus(exercisers[i].rid) && qemu_amdvi())
			return true;
	return false;
}

/*
 * Faults of the platform that are known and not ours. Each has the accelerator, the QEMU versions
 * (major * 100 + minor, both ends included) and the evidence. A version that we cannot read is taken
 * as inside: a test that then passes is reported all the same.
 */
static const struct known {
	const char *test;                /* or several names with spaces between them */
	enum accel accel;                /* ACCEL_UNKNOWN: any */
	unsigned from, to;
	const char *reason;
	bool (*only_if)(void);           /* … this holds as well; NULL: always */
} known[] = {
	{"apic.mmio_off", ACCEL_TCG, 900, 9999,
	 "QEMU TCG: the xAPIC page keeps answering in x2APIC mode and when the APIC is disabled", NULL},
	{"apic.ipi_self_illegal", ACCEL_TCG, 900, 9999,
	 "QEMU TCG: hw/intc/apic.c delivers vectors 1 to 15 like any other (seen on 10.0)", NULL},
	{"apic.msr_map", ACCEL_TCG, 900, 9999,
	 "QEMU TCG: hw/intc/apic.c takes writes to read-only x2APIC registers, and reserved bits (seen on 10.0)", NULL},
	{"apic.msr_map", ACCEL_KVM, 0, 9999,
	 "KVM: kvm_x2apic_msr_write() checks bits 63:32 only, and masks or ignores reserved bits below", NULL},
	{"apic.icr", ACCEL_TCG, 900, 9999,
	 "QEMU TCG: the ICR reads back without its destination, and takes reserved bits (seen on 10.0)", NULL},
	{"apic.priority", ACCEL_KVM, 0, 9999,
	 "kvm_pvm ends an interrupt as it injects it: ISR and PPR stay 0 in service (docs/kvm.md)", kvm_emulates},
	{"ioapic.level ioapic.tmr ioapic.eoi ioapic.destinations_in_service", ACCEL_KVM, 0, 9999,
	 "kvm_pvm ends an interrupt as it injects it: a level comes again before the guest's EOI (docs/kvm.md)", kvm_emulates},
	{"iommu.translate iommu.scatter iommu.unmapped iommu.unmap_sync iommu.no_domain iommu.read_only "
	 "iommu.write_only iommu.isolation iommu.passthrough iommu.reenable iommu.page_sizes iommu.contiguous "
	 "iommu.levels iommu.stale iommu.bridge_alias pci.requester_ids dma.latency dma.bandwidth dma.depth", ACCEL_UNKNOWN, 900, 1100,
	 "QEMU amd-iommu: a device on a bus other than 0 is taken for one on bus 0 (seen on 10.0, mended in 11.1)",
	 qemu_amdvi_beyond_bus_0},
	{"iommu.reset", ACCEL_UNKNOWN, 1000, 9999,
	 "QEMU virtio-iommu: its state is reset with the machine only, not by the driver (device_reset_exit(); 10.0, 11.1)",
	 qemu_viommu},
	{"selftest.known", ACCEL_UNKNOWN, 0, 9999, "selftest: a bug that is always there", NULL},
};

/* The same for faults that come and go: that the test passes says nothing. */
static const struct known known_at_times[] = {
	{"boot.tsc_shared", ACCEL_TCG, 900, 9999,
	 "QEMU TCG: cpu_get_ticks() reads the host's TSC without waiting for its lock, and makes up for the later of two "
	 "reads that got the lower one (10.0; up to 36 % ahead on an AMD EPYC)", NULL},
};

/*
 * The same for single checks of a test: those that fail with this text. If another one fails too, the
 * test has failed.
 */
static const struct {
	struct known bug;
	const char *text;                /* a glob */
} known_partly[] = {
	{{"ioapic.eoi", ACCEL_KVM, 0, 9999,
	  "KVM, split irqchip: offers Directed EOI, and kvm_ioapic_send_eoi() sends every level's EOI to QEMU all the same, "
	  "later kernels too unless the VMM asks for better (seen on 6.12 with QEMU 11.1)", ioapic_in_qemu},
	 "*after an EOI that is not broadcast: remote IRR*"},
	{{"pci.capabilities", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: its function has a second, 4-byte MSI capability (seen on 10.0 and 11.1)", qemu_amdvi},
	 "*a second capability 05"},
	{{"pci.capabilities", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: its function has capabilities that overlap (seen on 10.0 and 11.1)", qemu_amdvi},
	 "*the capability lies over another"},
	{{"apic.svr", ACCEL_TCG, 900, 9999,
	  "QEMU TCG: hw/intc/apic.c leaves LVT entries as they are when software disables the APIC (10.0, 11.1)", NULL},
	 "*LVT entry*"},
	{{"apic.esr", ACCEL_TCG, 900, 9999,
	  "QEMU TCG: hw/intc/apic.c logs no illegal vectors, ignores writes to the ESR and never interrupts (10.0, 11.1)",
	  NULL},
	 "*ESR*"},
	{{"apic.esr", ACCEL_KVM, 0, 9999,
	  "KVM: lapic.c detects no errors: the ESR stays 0 (Linux 6.18, 6.12)", NULL},
	 "*ESR*"},
	{{"iommu.tables", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: IVinfo.VASize is not filled in (build_amd_iommu(); seen on 10.0 and 11.1)", qemu_amdvi},
	 "IVinfo.VASize:*"},
	{{"iommu.tables", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: Enable is clear in its capability (amdvi_pci_realize(); seen on 10.0 and 11.1)", qemu_amdvi},
	 "*base in its capability: got Enable=0"},
	{{"ir.out_of_range", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: IntTabLen is not looked at, what lies behind the table is used (seen on 10.0 and 11.1)",
	  qemu_amdvi},
	 "*stray:*"},
	{{"ir.out_of_range", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: IntTabLen is not looked at; what it let through arrived late", qemu_amdvi},
	 "*interrupt 0: too often:*"},
	{{"ir.not_present ir.out_of_range ir.wrong_source ir.compat_blocked ir.reserved_bits ir.multi_message "
	  "pci.sriov", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: a blocked interrupt is not logged (amdvi_mem_ir_write(): TODO; seen on 10.0 and 11.1)",
	  qemu_amdvi},
	 "*fault: got none recorded*"},
	{{"ir.compat_blocked", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU intel-iommu: vtd_interrupt_remap_msi() lets compatibility format pass whatever CFIS and EIME (10.0, 11.1)",
	  qemu_vtd},
	 "*in compatibility format:*"},
	{{"ir.reserved_bits", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: of an entry's reserved fields only IntType is looked at (amdvi_int_remap_*(); 10.0, 11.1)",
	  qemu_amdvi},
	 "*reserved field 1 set: stray:*"},
	{{"ir.ioapic", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: a remapped level arrives as an edge, so its EOI is not broadcast (amdvi_int_remap_*() leave "
	  "trigger_mode 0; seen on 10.0 and 11.1)", qemu_amdvi},
	 "pin *level ended on*remote IRR: got 1*"},
	{{"msi.physical msi.cluster msi.disabled msi.storm msi.latency msi.no_remap_rule msi.retarget msix.vectors "
	  "msix.mask_pba ir.enable ir.msi_physical ir.msi_cluster ir.not_present ir.out_of_range ir.wrong_source "
	  "ir.compat_blocked ir.update ir.stale ir.wide ir.reserved_bits msi.multicast", ACCEL_KVM, 900, 9999,
	  "QEMU ivshmem with amd-iommu under KVM: MSI-X enabled before all its entries are remappable never fires "
	  "(ivshmem_enable_irqfd(); seen on 10.0 and 11.1)", qemu_amdvi},
	 "*ivshmem MSI-X *"},
	{{"iommu.queue", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: an illegal command does not stop the buffer, the next is done (seen on 10.0 and 11.1)", qemu_amdvi},
	 "a command that there is not: got it taken*"},
	{{"iommu.queue", ACCEL_UNKNOWN, 900, 1100,
	  "QEMU amd-iommu: an illegal command is not logged (seen on 10.0, mended in 11.1)", qemu_amdvi},
	 "a command that there is not: got no ILLEGAL_COMMAND_ERROR*"},
	{{"iommu.fault_event", ACCEL_UNKNOWN, 900, 1100,
	  "QEMU amd-iommu: a DMA fault is not logged, so it does not interrupt (seen on 10.0, mended in 11.1)", qemu_amdvi},
	 "event: round 0, CPU 0: got 0 interrupts*"},
	{{"iommu.levels", ACCEL_UNKNOWN, 900, 1100,
	  "QEMU amd-iommu: an address past what the tables reach wraps round (seen on 10.0, mended in 11.1)", qemu_amdvi},
	 "*levels, an address of*byte*"},
	{{"iommu.bad_entry", ACCEL_UNKNOWN, 1001, 9999,
	  "QEMU intel-iommu: a context entry that is wrong leaves an assigned device the maps it had, for "
	  "vtd_address_space_sync() takes them away for one that is not present alone (11.1)", shadowed_edu},
	 "*edu a context entry *: byte *"},
	{{"iommu.unmapped iommu.unmap_sync iommu.no_domain iommu.read_only iommu.write_only iommu.passthrough "
	  "iommu.reenable iommu.stale iommu.unity iommu.bad_entry iommu.by_register iommu.edges iommu.levels "
	  "pci.requester_ids", ACCEL_UNKNOWN, 1001, 9999,
	  "QEMU vfio: what an assigned device is refused, the guest's unit records no fault of (PLB091)", shadowed_edu},
	 "*fault*: got *"},
	{{"iommu.bad_entry", ACCEL_UNKNOWN, 900, 1100,
	  "QEMU amd-iommu: an illegal device table entry is not logged (seen on 10.0, mended in 11.1)", qemu_amdvi},
	 "*fault: got none*"},
	{{"iommu.bad_entry", ACCEL_UNKNOWN, 1101, 9999,
	  "QEMU amd-iommu: the reserved paging mode 7 blocks without an event (amdvi_page_walk(); seen on 11.1)", qemu_amdvi},
	 "*paging mode 7: fault: got none*"},
	{{"iommu.bad_entry", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: reserved bits of paging entries are not looked at (amdvi_page_walk(); seen on 10.0 and 11.1)",
	  qemu_amdvi},
	 "*reserved bit 52 set: *"},
	{{"iommu.bad_entry", ACCEL_UNKNOWN, 1101, 9999,
	  "QEMU amd-iommu: a DMA fault is logged as an interrupt's, and without RZ (seen on 11.1)", qemu_amdvi},
	 "*fault's reason: got interrupt entry not present*"},
	{{"iommu.bad_entry", ACCEL_UNKNOWN, 1101, 9999,
	  "QEMU amd-iommu: a DMA fault is logged without the bus of its source (seen on 11.1)", qemu_amdvi_beyond_bus_0},
	 "*fault's source: got 00:00.0*"},
	{{"iommu.bad_entry", ACCEL_UNKNOWN, 1001, 9999,
	  "QEMU intel-iommu: paging entries that are wrong leave an assigned device the maps it had, for vtd_page_walk_level() "
	  "passes them over (11.1)", shadowed_edu},
	 "*edu a leaf with *: byte *"},
	{{"iommu.bad_entry", ACCEL_UNKNOWN, 1001, 9999,
	  "QEMU intel-iommu: paging entries that are wrong leave an assigned device the maps it had, for vtd_page_walk_level() "
	  "passes them over (11.1)", shadowed_edu},
	 "*edu an entry of *: byte *"},
	{{"iommu.scalable", ACCEL_UNKNOWN, 1000, 9999,
	  "QEMU intel-iommu: a write by a first-stage translation that a read has cached leaves Dirty clear, for "
	  "vtd_do_iommu_translate() then looks at its IOTLB alone (10.0, 11.1)", qemu_vtd_first_stage},
	 "*, written after a read: got Accessed 1, Dirty 0 *"},
	{{"ioapic.intx", ACCEL_KVM, 0, 9999,
	  "kvm_pvm ends an interrupt as it injects it: a level comes again before its device is served (docs/kvm.md)",
	  kvm_emulates},
	 "*INTx*"},
	{{"ir.not_present ir.wrong_source ir.reserved_bits", ACCEL_KVM, 900, 9999,
	  "QEMU under KVM: an irqfd keeps its last route when its entry no longer translates, for "
	  "kvm_update_msi_routes_all() drops the error (10.0, 11.1)", ivshmem},
	 "*ivshmem MSI-X remapped its entry *"},
	{{"ir.not_present ir.wrong_source ir.reserved_bits", ACCEL_KVM, 900, 9999,
	  "QEMU under KVM: a vfio device's irqfd keeps its last route when its entry no longer translates, for "
	  "kvm_update_msi_routes_all() drops the error (11.1, a vfio-user device)", nvidia},
	 "*nvidia MSI* remapped its entry *"},
	{{"ir.not_present ir.wrong_source ir.reserved_bits ir.multi_message", ACCEL_KVM, 1001, 9999,
	  "QEMU under KVM: a vfio device's irqfd keeps its last route when its entry no longer translates, for "
	  "kvm_update_msi_routes_all() drops the error (11.1, a vfio-user device)", doorbell},
	 "*doorbell MSI remapped*its entry *"},
	{{"msi.mask", ACCEL_KVM, 1001, 9999,
	  "QEMU under KVM: a vfio device's masked MSI goes on, for its irqfd stays: vfio_pci_write_config() looks at "
	  "Enable alone (11.1, a vfio-user device)", doorbell},
	 "*doorbell MSI *"},
	{{"msix.mask_pba", ACCEL_UNKNOWN, 1001, 9999,
	  "QEMU vfio-user-pci: it masks MSI-X entries by itself and asks the device, which it does not tell, for the "
	  "pending bits (seen on 11.1)", nvidia_msix},
	 "*nvidia MSI-X *pending bit: got 0*"},
	{{"iommu.unmapped iommu.unmap_sync iommu.no_domain iommu.read_only iommu.write_only iommu.isolation "
	  "iommu.passthrough iommu.reenable iommu.page_sizes iommu.contiguous iommu.levels iommu.random "
	  "iommu.fault_event iommu.stale iommu.bridge_alias iommu.unity iommu.edges pci.sriov", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU amd-iommu: a DMA fault is not logged (10.0), or as an interrupt's, without direction and bus (11.1)",
	  qemu_amdvi},
	 "*fault*"},
	{{"iommu.edges", ACCEL_UNKNOWN, 900, 9999,
	  "QEMU virtio-iommu: virtio_iommu_translate() looks up two bytes, the last one before a mapping finds it (10.0, 11.1)",
	  qemu_viommu},
	 "*the byte before*"},
	{{"iommu.no_domain iommu.bridge_alias", ACCEL_UNKNOWN, 1000, 9999,
	  "QEMU virtio-iommu: the fault of an endpoint without a domain has reason UNKNOWN, not DOMAIN (10.0, 11.1)",
	  qemu_viommu},
	 "*got other*"},
	{{"pci.requester_ids", ACCEL_UNKNOWN, 900, 1100,
	  "QEMU amd-iommu: a DMA fault is not logged (seen on 10.0, mended in 11.1)", qemu_amdvi},
	 "*fault*"},
	{{"pci.requester_ids", ACCEL_UNKNOWN, 1101, 9999,
	  "QEMU amd-iommu: a DMA fault is logged without the bus of its source (seen on 11.1)", qemu_amdvi_beyond_bus_0},
	 "*fault*"},
};

static unsigned qemu_version(void)
{
	static unsigned cached = 1;
	char text[32];
	const char *s = text;
	uint64_t major, minor;

	if (cached == 1) {
		cached = 0;
		if (fwcfg_read("opt/plumb/qemu", text, sizeof(text)) > 0 && !fmt_parse_u64(&s, &major) &&
		    *s++ == '.' && !fmt_parse_u64(&s, &minor) && major < 100 && minor < 100)
			cached = (unsigned)(major * 100 + minor);
	}
	return cached;
}

static bool names(const char *list, const char *suite, const char *name)
{
	const size_t n = strlen(suite), m = strlen(name);

	for (const char *s = list; s; s = strchr(s, ' ')) {
		s += *s == ' ';
		if (!strncmp(s, suite, n) && s[n] == '.' && !strncmp(s + n + 1, name, m) &&
		    (s[n + 1 + m] == ' ' || !s[n + 1 + m]))
			return true;
	}
	return false;
}

static bool applies(const struct known *k, const char *suite, const char *name)
{
	const unsigned version = qemu_version();

	return names(k->test, suite, name) && (k->accel == ACCEL_UNKNOWN || k->accel == cpu_features.accel) &&
	       (!version || (version >= k->from && version <= k->to)) && (!k->only_if || k->only_if());
}

const char *known_bug(const char *suite, const char *name, bool passed)
{
	for (unsigned i = 0; i < ARRAY_SIZE(known_at_times) && !passed; i++)
		if (applies(&known_at_times[i], suite, name))
			return known_at_times[i].reason;
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		if (applies(&known[i], suite, name))
			return known[i].reason;
	for (unsigned i = 0; i < ARRAY_SIZE(known_partly); i++)
		if (applies(&known_partly[i].bug, suite, name))
			return known_partly[i].bug.reason;
	return NULL;
}

bool known_failure(const char *suite, const char *name, const char *text)
{
	for (unsigned i = 0; i < ARRAY_SIZE(known_at_times); i++)
		if (applies(&known_at_times[i], suite, name))
			return true;
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		if (applies(&known[i], suite, name))
			return true;
	for (unsigned i = 0; i < ARRAY_SIZE(known_partly); i++)
		if (applies(&known_partly[i].bug, suite, name) && fmt_glob(known_partly[i].text, text))
			return true;
	return false;
}
