/* SPDX-License-Identifier: MIT */
#include "drivers/exercisers/exerciser.h"
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

/*
 * A test has failed: are the devices still there? One that is gone reads as all ones or as nothing, and fails tests
 * in the words of whatever they were about. One that has found more than that needs no second word.
 */
void devices_check(struct t *t)
{
	static bool told[EXERCISER_MAX];

	for (unsigned i = 0; i < exerciser_count && test_has_failed(t); i++) {
		struct exerciser *ex = &exercisers[i];

		if (told[i] || exerciser_answers(ex))
			continue;
		told[i] = true;
		if (t->findings)
			continue;
		test_finding(t, "PLB110",
			     "it was unplugged, reset or powered down, or its host has taken its decoding (vfio) or ended the "
			     "process behind it",
			     "on the host: dmesg for the device and for vfio, QEMU's log; what failed since then says nothing else",
			     pci_r16(ex->dev->rid, 0) == 0xffff ? "its configuration space reads all ones"
								: "its configuration space answers, a register that never changes does not",
			     PRIRID " %s has stopped answering while it was in use", RIDARG(ex->dev->rid), ex->ops->name);
	}
}
