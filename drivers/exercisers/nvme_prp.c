/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/nvme_prp.h"

#include "kernel/lib/addr.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"

int nvme_prp_build(uint64_t addr, size_t len, uint64_t list_addr, volatile uint64_t *list,
		   uint64_t *prp1, uint64_t *prp2)
{
	uint64_t page = align_down(addr, PAGE_SIZE);
	uint64_t last, rest;

	if (!len || addr & 3 || addr + (len - 1) < addr)
		return -EINVAL;
	last = align_down(addr + (len - 1), PAGE_SIZE);
	rest = (last - page) >> PAGE_SHIFT;      /* pages after the first */
	*prp1 = addr;
	*prp2 = 0;
	if (rest == 0)
		return 0;
	if (rest == 1) {
		*prp2 = last;
		return 0;
	}
	/* No chain of lists: the last entry of a full page would be a pointer only if more followed. */
	if (rest > NVME_PRP_LIST_MAX)
		return -EINVAL;
	for (uint64_t i = 0; i < rest; i++)
		list[i] = page += PAGE_SIZE;
	*prp2 = list_addr;
	return (int)rest;
}
