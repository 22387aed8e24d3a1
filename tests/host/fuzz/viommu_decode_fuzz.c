/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/virtio/decode.c
#include <stdlib.h>

#include "drivers/iommu/virtio/decode.h"

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

/* As an endpoint's properties, and as a fault report. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct iommu_region region[4];
	struct iommu_fault f;
	const char *why = NULL;
	uint32_t endpoint;
	const unsigned found = viommu_regions(p, n, region, 4, &why);

	MUST(found <= n / 24);
	for (unsigned i = 0; i < found && i < 4; i++)
		MUST(region[i].first <= region[i].last);
	if (viommu_fault(p, n, (1ull << 48) - 1, &f, &endpoint))
		MUST(n >= 24 && f.reason != IOMMU_FAULT_NONE && !(f.write && f.no_direction));
	return 0;
}
