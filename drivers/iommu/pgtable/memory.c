/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/pgtable/pgtable.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"

static uint64_t *page_alloc(void *ctx, uint64_t *pa)
{
	gpa_t page;

	(void)ctx;
	if (!phys_alloc(1, 1, PHYS_ANY, &page))
		return NULL;
	memset(phys_to_virt(page), 0, PAGE_SIZE);
	*pa = page.v;
	return phys_to_virt(page);
}

static void page_free(void *ctx, uint64_t pa)
{
	(void)ctx;
	phys_free(gpa(pa), 1);
}

static uint64_t *page_at(void *ctx, uint64_t pa)
{
	(void)ctx;
	return phys_to_virt(gpa(pa));
}

const struct pgt_mem pgt_memory = {page_alloc, page_free, page_at};
