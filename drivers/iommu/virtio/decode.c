/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/virtio/decode.h"

#include "drivers/iommu/virtio/regs.h"
#include "kernel/lib/bits.h"

static bool region(const uint8_t *p, struct iommu_region *r)
{
	*r = (struct iommu_region){
		.first = get_le64(p + VIRTIO_IOMMU_RESV_START),
		.last = get_le64(p + VIRTIO_IOMMU_RESV_END),
		/* A subtype that we do not know counts as reserved (5.13.6.8.1). */
		.messages = p[VIRTIO_IOMMU_RESV_SUBTYPE] == VIRTIO_IOMMU_RESV_T_MSI,
	};
	return r->first <= r->last;
}

unsigned viommu_regions(const uint8_t *p, size_t n, struct iommu_region *out, unsigned max, const char **damaged)
{
	unsigned found = 0;

	for (size_t at = 0; n - at >= VIRTIO_IOMMU_PROPERTY_HEAD;) {
		const uint16_t head = get_le16(p + at), len = get_le16(p + at + 2);
		const size_t size = VIRTIO_IOMMU_PROPERTY_HEAD + (size_t)len;
		struct iommu_region r;

		if (FIELD_GET(VIRTIO_IOMMU_PROPERTY_TYPE, head) == 0)
			return found;
		if (size > n - at) {
			*damaged = "a property runs past probe_size";
			return found;
		}
		/* A head whose reserved bits are set is to be ignored. */
		if (head == VIRTIO_IOMMU_PROBE_T_RESV_MEM) {
			if (size < VIRTIO_IOMMU_RESV_SIZE || !region(p + at, &r))
				*damaged = "a RESV_MEM property that is short or ends before it begins";
			else if (found++ < max)
				out[found - 1] = r;
		}
		at += size;
	}
	return found;
}

static enum iommu_reason reason_of(uint8_t reason, bool has_address, uint64_t address, uint64_t input_last,
				   uint32_t flags)
{
	switch (reason) {
	case VIRTIO_IOMMU_FAULT_R_DOMAIN:
		return IOMMU_FAULT_NO_DOMAIN;
	case VIRTIO_IOMMU_FAULT_R_MAPPING:
		if (has_address && address > input_last)
			return IOMMU_FAULT_ADDRESS_WIDTH;
		/* Not mapped, or not for this: a unit that names the direction may mean either. */
		if (flags & VIRTIO_IOMMU_FAULT_F_WRITE)
			return IOMMU_FAULT_WRITE;
		return flags & VIRTIO_IOMMU_FAULT_F_READ ? IOMMU_FAULT_READ : IOMMU_FAULT_NOT_PRESENT;
	default:
		return IOMMU_FAULT_OTHER;
	}
}

bool viommu_fault(const uint8_t *p, size_t n, uint64_t input_last, struct iommu_fault *f, uint32_t *endpoint)
{
	uint32_t first, flags;
	uint64_t address;

	if (n < VIRTIO_IOMMU_FAULT_SIZE)
		return false;
	first = get_le32(p + VIRTIO_IOMMU_FAULT_REASON);
	if (first >> 8)                      /* 5.13.6.9.1: reserved, to be ignored */
		return false;
	flags = get_le32(p + VIRTIO_IOMMU_FAULT_FLAGS);
	address = flags & VIRTIO_IOMMU_FAULT_F_ADDRESS ? get_le64(p + VIRTIO_IOMMU_FAULT_ADDRESS) : 0;
	*endpoint = get_le32(p + VIRTIO_IOMMU_FAULT_ENDPOINT);
	*f = (struct iommu_fault){
		.iova = iova(address),
		.write = flags & VIRTIO_IOMMU_FAULT_F_WRITE,
		.no_direction = !(flags & (VIRTIO_IOMMU_FAULT_F_READ | VIRTIO_IOMMU_FAULT_F_WRITE)),
		.ir_index = IR_INDEX_UNKNOWN,
		.reason = reason_of((uint8_t)first, flags & VIRTIO_IOMMU_FAULT_F_ADDRESS, address, input_last, flags),
		.raw_reason = first | flags << 8,
	};
	return true;
}
