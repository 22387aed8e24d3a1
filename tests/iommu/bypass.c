/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

/* Once a boot: whatever follows says the same of other devices. */
void iommu_tell_bypass(const struct dma_space *s)
{
	const bool amd = s->iommu && s->iommu->desc.vendor == IOMMU_AMDVI;
	static bool told;

	if (told)
		return;
	told = true;
	test_finding(s->t, "PLB050",
		     amd ? "QEMU 10.2 and later translate for amd-iommu only with dma-remap=on" :
			   "the unit lets this device's requests pass, or takes them for another one's",
		     amd ? "add dma-remap=on to -device amd-iommu" :
			   "look for other devices with the same fault, and at the unit's device scopes",
		     "its write by a mapped address went to the same physical address",
		     "DMA of %s is not translated although its IOMMU is on", s->name);
}

/* In caching mode a hypervisor may keep its own copy of the tables for a device that the host assigns. */
void iommu_tell_shadow(const struct dma_space *s)
{
	static bool told;

	if (told)
		return;
	told = true;
	test_finding(s->t, "PLB091",
		     "an assigned device: the VMM copies our tables into the host's IOMMU (caching mode), and what that one "
		     "refuses is logged by the host and not handed on",
		     "look for DMAR or IO_PAGE_FAULT lines in the host's dmesg; do not wait for faults of this device in the guest",
		     "its DMA to a page that is not mapped was blocked, and FSTS shows no record",
		     "blocked DMA of %s leaves no fault record", s->name);
}
