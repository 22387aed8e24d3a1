/* SPDX-License-Identifier: MIT */

#include "drivers/pci/pci.h"
#include "kernel/lib/sabotage.h"

/*
 * Conventional PCI has no requester ID on its wires: a bridge to it puts its own in. A PCIe-to-PCI
 * bridge takes its secondary bus and devfn 0 (PCIe to PCI/PCI-X Bridge 1.0, 2.3), so that answers
 * come back down by bus number. A conventional bridge below a root complex is known there by its own
 * ID, and so is one from PCI to PCIe. Ports of PCIe leave the ID alone. The last to change it wins.
 */
pci_rid_t pci_requester_id(const struct pci_dev *d)
{
	pci_rid_t id = SABOTAGE(vf_as_pf) && d->physfn ? d->physfn->rid : d->rid;

	for (const struct pci_dev *up = d->parent; up; up = up->parent) {
		if (up->port == PCI_PORT_TO_PCI)
			id = (pci_rid_t){(up->rid.v & 0xffff0000u) | (uint32_t)up->secondary << 8};
		else if (up->port == PCI_PORT_CONVENTIONAL || up->port == PCI_PORT_FROM_PCI)
			id = up->rid;
	}
	return id;
}
