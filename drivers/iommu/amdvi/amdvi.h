/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/iommu.h"

/* AMD-Vi (AMD IOMMU, 48882): what the rest of drivers/iommu sees of it. desc.table is a struct ivrs_unit. */

extern const struct iommu_ops amdvi_ops;
/* Does the IVRS put this function behind the unit? And an I/O APIC: the source ID it uses. */
bool amdvi_covers(const struct iommu *, const struct pci_dev *);
bool amdvi_covers_ioapic(const struct iommu *, uint8_t ioapic_id, pci_rid_t *source);

