/* SPDX-License-Identifier: MIT */
#include "tests/harness/runner.h"

/*
 * A remapping unit that stopped answering during this test: the test has failed, whatever it was about, and
 * the machine's owner is told. Those that follow do without the unit.
 */
void units_check(struct t *t)
{
	static bool told[IOMMU_MAX];

	for (unsigned i = 0; i < iommu_count; i++) {
		const struct iommu *u = &iommus[i];

		if (!u->broken || u->unused || told[i])
			continue;
		told[i] = true;
		EXPECT_MSG(t, false, "unit at %llx: got no answer: %s", (unsigned long long)u->desc.regs.v, u->broken);
		test_finding(t, "PLB090",
			     "a hypervisor whose model of the unit hangs or lacks what its capabilities promise; on a board, "
			     "firmware that has locked or stopped it",
			     "its registers are in the # note lines above: look for error bits, and whether the head follows "
			     "the tail; switch the vIOMMU off, or try another version of the hypervisor",
			     u->broken, "the IOMMU at %llx has stopped answering, and is not used any more",
			     (unsigned long long)u->desc.regs.v);
	}
}

void units_off(void)
{
	for (unsigned i = 0; i < iommu_count; i++)
		if (iommus[i].translating)
			iommus[i].ops->disable(&iommus[i]);
}
