/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/iommu.h"

#define AMDVI_IRT_LOG2 8               /* entries of every interrupt table that we make */

/*
 * An event log entry (48882, 2.5) in the common vocabulary; pure. levels() gives the depth of a domain's
 * tables, 0 where it has none: with it an address that is too wide can be told from one not mapped.
 */
void amdvi_decode(uint64_t lo, uint64_t hi, unsigned (*levels)(const void *ctx, uint16_t domain),
		  const void *ctx, struct iommu_fault *);
