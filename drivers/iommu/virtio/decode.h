/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drivers/iommu/iommu.h"

/* What a virtio-iommu writes into our memory, read without trust. Pure. */

/*
 * The reserved regions among an endpoint's properties, n bytes of them (VIRTIO 1.2, 5.13.6.7). Returns how
 * many, and stores at most max. *damaged: what is wrong with the list, or left as it was.
 */
unsigned viommu_regions(const uint8_t *p, size_t n, struct iommu_region *out, unsigned max, const char **damaged);

/*
 * A fault report of n bytes (5.13.6.9), in all but its source, which *endpoint names. input_last: of the
 * addresses that the unit translates. False: to be ignored.
 */
bool viommu_fault(const uint8_t *p, size_t n, uint64_t input_last, struct iommu_fault *, uint32_t *endpoint);
