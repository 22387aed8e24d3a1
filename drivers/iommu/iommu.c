/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/iommu.h"

#include "drivers/iommu/amdvi/amdvi.h"
#include "drivers/iommu/virtio/viommu.h"
#include "drivers/iommu/vtd/vtd.h"
#include "kernel/acpi/acpi.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

struct iommu iommus[IOMMU_MAX];
unsigned iommu_count;

static void add(const struct iommu_ops *ops, const struct iommu_desc *desc)
{
	struct iommu *iommu = &iommus[iommu_count];

	if (iommu_count == IOMMU_MAX)
		return;
	iommu_count++;
	iommu->ops = ops;
	iommu->desc = *desc;
	if (ops->probe(iommu, desc) < 0 && !iommu->broken)
		iommu->broken = "no memory for it";
}

void iommu_init(void)
{
	memset(iommus, 0, sizeof(iommus));
	iommu_count = 0;
	for (uint32_t i = 0; acpi.has_dmar && i < acpi.dmar.unit_count; i++) {
		const struct dmar_unit *u = &acpi.dmar.unit[i];

		add(&vtd_ops, &(struct iommu_desc){.vendor = IOMMU_VTD,
						   .regs = gpa(u->base),
						   .regs_size = PAGE_SIZE << u->size_pages_log2,
						   .segment = u->segment,
						   .table = u});
	}
	for (uint32_t i = 0; acpi.has_ivrs && i < acpi.ivrs.unit_count; i++) {
		const struct ivrs_unit *u = &acpi.ivrs.unit[i];

		add(&amdvi_ops, &(struct iommu_desc){.vendor = IOMMU_AMDVI,
						     .regs = gpa(u->base),
						     .regs_size = 16384,
						     .segment = u->segment,
						     .table = u});
	}
	for (uint32_t i = 0; acpi.has_viot && i < acpi.viot.unit_count; i++) {
		const struct viot_unit *u = &acpi.viot.unit[i];

		add(&viommu_ops, &(struct iommu_desc){.vendor = IOMMU_VIRTIO,
						      .regs = gpa(u->base),
						      .segment = u->segment,
						      .table = u});
	}
	if ((!acpi.has_viot || acpi.viot.unit_count == 0) && viommu_nth(0))
		add(&viommu_ops, &(struct iommu_desc){.vendor = IOMMU_VIRTIO});
}

/* ---- which unit ---- */

struct iommu *iommu_of(const struct pci_dev *dev)
{
	struct iommu *rest = NULL;

	for (unsigned i = 0; i < iommu_count; i++) {
		const struct dmar_unit *u = iommus[i].desc.table;

		if (iommus[i].desc.vendor == IOMMU_AMDVI && amdvi_covers(&iommus[i], dev))
			return &iommus[i];
		if (iommus[i].desc.vendor == IOMMU_VIRTIO && viommu_covers(&iommus[i], dev))
			return &iommus[i];
		if (iommus[i].desc.vendor != IOMMU_VTD || u->segment != rid_seg(dev->rid))
			continue;
		if (dmar_unit_names(u, dev))
			return &iommus[i];
		if (u->include_pci_all)
			rest = &iommus[i];
	}
	return rest;
}

struct iommu *iommu_of_ioapic(uint8_t ioapic_id, pci_rid_t *source)
{
	for (unsigned i = 0; i < iommu_count; i++) {
		const struct dmar_unit *u = iommus[i].desc.table;

		if (iommus[i].desc.vendor == IOMMU_AMDVI && amdvi_covers_ioapic(&iommus[i], ioapic_id, source))
			return &iommus[i];
		for (uint32_t k = 0; iommus[i].desc.vendor == IOMMU_VTD && k < u->scope_count; k++) {
			if (u->scope[k].type == DMAR_SCOPE_IOAPIC &&
			    u->scope[k].enum_id == ioapic_id &&
			    dmar_scope_rid(&u->scope[k], u->segment, source))
				return &iommus[i];
		}
	}
	return NULL;
}

/* ---- conveniences ---- */

int iommu_map(struct iommu_domain *d, iova_t at, gpa_t to, size_t size, uint32_t prot)
{
	return d->iommu->ops->map(d, at, to, size, prot, 0);
}

int iommu_unmap_sync(struct iommu_domain *d, iova_t at, size_t size)
{
	const struct sync_range range = {.iova = at, .size = size};
	const int r = d->iommu->ops->unmap(d, at, size);

	return r < 0 || SABOTAGE(iommu_no_sync) ? r : d->iommu->ops->sync(d, &range, deadline_in(SEC(2)));
}

int iommu_fault_wait(struct iommu *iommu, struct iommu_fault *fault, uint64_t ns)
{
	/* One that has left out so many in a row is not waited for so long again. */
	const bool mute = iommu->unrecorded >= 4;

	if (WAIT_FOR(iommu->ops->fault_pop(iommu, fault) == 0, mute ? MIN(ns, MS(5)) : ns)) {
		iommu->unrecorded = 0;
		return 0;
	}
	iommu->unrecorded += ns >= MS(100);
	return -ETIMEDOUT;
}

const char *iommu_reason_name(enum iommu_reason reason)
{
	static const char *const names[] = {
		[IOMMU_FAULT_NONE] = "none",
		[IOMMU_FAULT_NOT_PRESENT] = "page not present",
		[IOMMU_FAULT_READ] = "read not permitted",
		[IOMMU_FAULT_WRITE] = "write not permitted",
		[IOMMU_FAULT_NO_DOMAIN] = "device has no domain",
		[IOMMU_FAULT_ADDRESS_WIDTH] = "address too wide",
		[IOMMU_FAULT_RESERVED_BITS] = "reserved bits set in a table",
		[IOMMU_FAULT_TABLE] = "table not readable",
		[IOMMU_FAULT_BLOCKED] = "request type blocked",
		[IOMMU_FAULT_IR_NOT_PRESENT] = "interrupt entry not present",
		[IOMMU_FAULT_IR_RANGE] = "interrupt index past the table",
		[IOMMU_FAULT_IR_RESERVED] = "reserved bits set in an interrupt",
		[IOMMU_FAULT_IR_SOURCE] = "interrupt from the wrong source",
		[IOMMU_FAULT_IR_COMPAT] = "compatibility format interrupt",
		[IOMMU_FAULT_IR_TABLE] = "interrupt table not readable",
		[IOMMU_FAULT_OTHER] = "other",
	};
	const unsigned i = (unsigned)reason;

	return i < ARRAY_SIZE(names) ? names[i] : "?";
}
