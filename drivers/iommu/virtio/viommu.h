/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/iommu.h"

/* virtio-iommu (VIRTIO 1.2, 5.13) over PCI. desc->table: its struct viot_unit, or NULL where no VIOT names it. */
extern const struct iommu_ops viommu_ops;

/* Is the function one of the unit's endpoints, under the ID that a bridge gives it? */
bool viommu_covers(const struct iommu *, const struct pci_dev *);
/* The function of the nth virtio-iommu in the machine; NULL: there are fewer. */
struct pci_dev *viommu_nth(unsigned nth);
