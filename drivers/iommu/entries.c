/* SPDX-License-Identifier: MIT */

/* Which entries of an interrupt table a function's messages get. Pure. */

#include "drivers/iommu/iommu.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"

int iommu_free_entries(const uint64_t *used, unsigned count, unsigned n)
{
	for (unsigned first = n > 1 && SABOTAGE(ir_block_misaligned); first + n <= count; first += n) {
		unsigned i = first;

		while (i < first + n && !(used[i / 64] & BIT64(i % 64)))
			i++;
		if (i == first + n)
			return (int)first;
	}
	return -ENOSPC;
}
