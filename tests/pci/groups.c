/* SPDX-License-Identifier: MIT */

#include "drivers/pci/groups.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/fmt.h"
#include "tests/pci/common.h"

/* What the prediction rests on: that software can turn on what a port offers. */
static void check_control(struct t *t, const struct pci_dev *d)
{
	const unsigned acs = pci_find_ext_cap(d->rid, PCI_EXT_ACS);
	struct keep *k;
	uint16_t offered, got;

	if (!acs)
		return;
	offered = pci_r16(d->rid, acs + ACS_CAPABILITY) & PCI_ACS_ISOLATES;
	k = keep_start(t);
	keep_reg(k, d->rid, acs + ACS_CONTROL, 2);
	pci_w16(d->rid, acs + ACS_CONTROL, offered);
	got = pci_r16(d->rid, acs + ACS_CONTROL) & PCI_ACS_ISOLATES;
	EXPECT_MSG(t, got == offered, PRIRID " ACS control: got 0x%04x, expected 0x%04x, which its capability offers",
		   RIDARG(d->rid), got, offered);
	keep_restore(k);
}

/* One line a group: "group 00:1f.0 00:1f.2 00:1f.3". */
static void print(struct t *t, const struct pci_dev *first)
{
	char line[200];
	size_t n = 0;

	FOR_EACH_PCI(d) {
		if (d->group != first)
			continue;
		if (n > sizeof(line) - 16) {
			test_note(t, "group%s", line);
			n = 0;
		}
		n += (size_t)fmt_snprintf(line + n, sizeof(line) - n, " " PRIRID, RIDARG(d->rid));
	}
	test_note(t, "group%s", line);
}

/*
 * Every function is in the IOMMU group that topology and ACS give it, and the ports do what that rests on.
 *
 * PCIe 5.0, 6.12 and Linux's pci_device_group(): functions that reach each other without passing the
 * IOMMU, or that it knows by one requester ID, can be given away only together. A port without ACS joins
 * all below it, a bridge to PCI joins all behind it to itself, functions of a device without ACS join each
 * other. One check that does not come from the same walk: what carries a bridge's requester ID is in that
 * bridge's group. The lab holds these lines against a Linux host's sysfs.
 */
TEST(pci, acs_groups, "IOMMU groups as topology and ACS give them; ACS controls take what they offer", NEED_PCI)
{
	pci_groups_form();
	FOR_EACH_PCI(d) {
		check_control(t, d);
		EXPECT_MSG(t, pci_requester_id(d).v == d->rid.v || d->group == d->parent->group,
			   PRIRID " is requester " PRIRID " to the IOMMU, but not in the group of the bridge above it",
			   RIDARG(d->rid), RIDARG(pci_requester_id(d)));
	}
	FOR_EACH_PCI(d)
		if (d->group == d)
			print(t, d);
}
