/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * IOMMU groups: the sets of functions that a host can give away only together, since the IOMMU does not
 * see what passes between them, or cannot tell them apart. Predicted from topology and Access Control
 * Services (PCIe 5.0, 6.12) by the rules of Linux 6.12's pci_device_group(), its quirks by device ID
 * left out. Pure, but for reads of configuration space.
 */

#include <stdbool.h>

#include "drivers/pci/pci.h"

/*
 * What Linux asks for: source validation, request and completion redirection, upstream forwarding. It turns
 * on what is offered, and takes what is not offered as how the part behaves anyway.
 */
#define PCI_ACS_ISOLATES 0x001d

/* Whether what this function sends must pass by the IOMMU, as far as this function can tell. */
bool pci_isolates(const struct pci_dev *);
/* Fills ->group of every function: the first, in RID order, of those that share its group. Returns how many groups. */
unsigned pci_groups_form(void);
