/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/iommu.h"
#include "drivers/iommu/pgtable/pgtable.h"

/*
 * Makes one of the entries that lead to a mapped address wrong in the n-th way, or right again if it is; invalidates
 * nothing. In words, and what the unit should say; NULL: there is no n-th way.
 */
const char *pgt_spoil(const struct pgt *, uint64_t iova, unsigned n, enum iommu_reason *);
