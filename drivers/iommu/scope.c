/* SPDX-License-Identifier: MIT */

/* What the DMAR table's device scopes name (VT-d 4.1, 8.3.1, 8.4, 8.5). Pure, given the list of functions. */

#include "drivers/iommu/iommu.h"
#include "kernel/acpi/acpi.h"

bool dmar_scope_rid(const struct dmar_scope *s, uint16_t segment, pci_rid_t *out)
{
	const uint32_t seg = (uint32_t)segment << 16;
	unsigned bus = s->start_bus;

	/* Each step but the last is a bridge, whose secondary bus the next step is on. */
	for (unsigned i = 0; i < s->path_len; i++) {
		const pci_rid_t rid = {seg | pci_rid(bus, s->path[i].dev, s->path[i].fn).v};
		const struct pci_dev *d;

		if (i + 1u == s->path_len) {
			*out = rid;
			return true;
		}
		d = pci_find(rid);
		if (!d || !d->is_bridge)
			return false;
		bus = d->secondary;
	}
	return false;
}

/*
 * A scope names an endpoint, or a bridge and all behind it. What stands behind a PCIe-to-PCI bridge is
 * seen under the bridge's ID, so its ancestors are looked at in the same way.
 */
static bool scope_holds(const struct dmar_scope *s, uint16_t segment, const struct pci_dev *dev)
{
	pci_rid_t rid;

	if ((s->type != DMAR_SCOPE_ENDPOINT && s->type != DMAR_SCOPE_BRIDGE) ||
	    !dmar_scope_rid(s, segment, &rid))
		return false;
	if (rid.v == dev->rid.v || rid.v == pci_requester_id(dev).v)
		return true;
	for (const struct pci_dev *d = dev->parent; d; d = d->parent) {
		if (s->type == DMAR_SCOPE_BRIDGE && d->rid.v == rid.v)
			return true;
	}
	return false;
}

bool dmar_unit_names(const struct dmar_unit *u, const struct pci_dev *dev)
{
	for (uint32_t i = 0; i < u->scope_count && u->segment == rid_seg(dev->rid); i++) {
		if (scope_holds(&u->scope[i], u->segment, dev))
			return true;
	}
	return false;
}

bool dmar_reserved_for(const struct dmar *dmar, unsigned rmrr, pci_rid_t rid)
{
	FOR_EACH_PCI(d) {
		if (pci_requester_id(d).v != rid.v || rid_seg(d->rid) != dmar->rmrr[rmrr].segment)
			continue;
		for (uint32_t i = 0; i < dmar->rmrr[rmrr].scope_count; i++) {
			if (scope_holds(&dmar->rmrr[rmrr].scope[i], dmar->rmrr[rmrr].segment, d))
				return true;
		}
	}
	return false;
}

/* Its scopes are root ports. */
bool dmar_ats_allowed(const struct dmar *dmar, const struct pci_dev *dev)
{
	const struct pci_dev *port = dev->parent;

	if (!port)
		return true;
	while (port->parent)
		port = port->parent;
	for (uint32_t i = 0; i < dmar->atsr_count; i++) {
		if (dmar->atsr[i].segment != rid_seg(dev->rid))
			continue;
		if (dmar->atsr[i].all_ports)
			return true;
		for (uint32_t k = 0; k < dmar->atsr[i].scope_count; k++) {
			pci_rid_t rid;

			if (dmar_scope_rid(&dmar->atsr[i].scope[k], dmar->atsr[i].segment, &rid) && rid.v == port->rid.v)
				return true;
		}
	}
	return false;
}
