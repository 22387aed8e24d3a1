/* SPDX-License-Identifier: MIT */

/* Address Translation Services (PCIe 10.5): a function that asks for translations and keeps them. */

#include "drivers/pci/pci.h"

#include "kernel/lib/bits.h"

#define ATS_CAP          0x04
#define ATS_QUEUE_DEPTH  GENMASK(4, 0)   /* 0: 32 */
#define ATS_CONTROL      0x06
#define ATS_STU          GENMASK(4, 0)   /* the smallest unit: 4 KiB << STU */
#define ATS_ENABLE       BIT(15)

unsigned pci_ats_depth(pci_rid_t rid)
{
	const unsigned at = pci_find_ext_cap(rid, PCI_EXT_CAP_ATS);
	unsigned depth;

	if (!at)
		return 0;
	depth = FIELD_GET(ATS_QUEUE_DEPTH, pci_r16(rid, at + ATS_CAP));
	return depth ? depth : 32;
}

bool pci_ats_enable(pci_rid_t rid, bool on)
{
	const unsigned at = pci_find_ext_cap(rid, PCI_EXT_CAP_ATS);

	if (!at)
		return false;
	pci_w16(rid, at + ATS_CONTROL, (uint16_t)(on ? ATS_ENABLE | FIELD_PREP(ATS_STU, 0u) : 0));
	return pci_ats_enabled(rid) == on;
}

bool pci_ats_enabled(pci_rid_t rid)
{
	const unsigned at = pci_find_ext_cap(rid, PCI_EXT_CAP_ATS);

	return at && (pci_r16(rid, at + ATS_CONTROL) & ATS_ENABLE);
}
