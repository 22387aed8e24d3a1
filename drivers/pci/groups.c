/* SPDX-License-Identifier: MIT */

#include "drivers/pci/groups.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/sabotage.h"

#define DEPTH_MAX 256                    /* bridges above one another: there are no more buses */

bool pci_isolates(const struct pci_dev *d)
{
	const bool several = d->multifunction || (d->rid.v & 7);

	if (!d->cap_pcie)
		return false;
	switch (FIELD_GET(PCIE_TYPE, pci_r16(d->rid, d->cap_pcie + PCIE_FLAGS))) {
	case PCIE_TYPE_TO_PCI:
	case PCIE_TYPE_FROM_PCI:
	case PCIE_TYPE_RC_EC:
		return SABOTAGE(groups_no_alias); /* 6.12.1: they have no ACS */
	case PCIE_TYPE_ROOT:
	case PCIE_TYPE_DOWN:
		break;
	default:
		if (!several)            /* nothing beside it to send to */
			return true;
	}
	return pci_find_ext_cap(d->rid, PCI_EXT_ACS);
}

/* From this bridge to the root, every port sends all requests up. */
static bool path_isolates(const struct pci_dev *bridge)
{
	for (unsigned n = 0; bridge && n < DEPTH_MAX; n++, bridge = bridge->parent)
		if (!pci_isolates(bridge))
			return false;
	return true;
}

static struct pci_dev *leader(struct pci_dev *d)
{
	while (d->group != d)            /* always to a lower RID: it ends */
		d = d->group;
	return d;
}

static void join(struct pci_dev *a, struct pci_dev *b)
{
	a = leader(a);
	b = leader(b);
	if (a->rid.v < b->rid.v)
		b->group = a;
	else
		a->group = b;
}

static bool same_slot(const struct pci_dev *a, const struct pci_dev *b)
{
	return a->rid.v >> 3 == b->rid.v >> 3;
}

static void place(struct pci_dev *d)
{
	struct pci_dev *top = d;
	unsigned n = 0;

	/* A bridge that puts its own ID in place of the function's: the IOMMU cannot tell them apart. */
	for (struct pci_dev *up = d->parent; up && n < DEPTH_MAX; up = up->parent, n++) {
		if (up->port == PCI_PORT_ROOT || up->port == PCI_PORT_UPSTREAM || up->port == PCI_PORT_DOWNSTREAM)
			continue;
		if (SABOTAGE(groups_no_alias))
			continue;
		join(d, up);
		top = up;
	}
	/* A port that may send requests on to its other side. */
	for (n = 0; top->parent && n < DEPTH_MAX && !path_isolates(top->parent); n++) {
		top = top->parent;
		join(d, top);
	}
	/* Functions of one device, which may send to each other inside it. */
	if (!(top->multifunction || (top->rid.v & 7)) || pci_isolates(top))
		return;
	FOR_EACH_PCI(other)
		if (same_slot(top, other) && !pci_isolates(other))
			join(top, other);
}

unsigned pci_groups_form(void)
{
	unsigned groups = 0;

	FOR_EACH_PCI(d)
		d->group = d;
	FOR_EACH_PCI(d)
		place(d);
	FOR_EACH_PCI(d) {
		d->group = leader(d);
		groups += d->group == d;
	}
	return groups;
}
