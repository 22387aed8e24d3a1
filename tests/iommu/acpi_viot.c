/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/virtio/regs.h"
#include "kernel/acpi/acpi.h"
#include "tests/iommu/iommu_test.h"

/* ACPI 6.5, 5.2.33: a unit's node names its function, and no two ranges name one endpoint. */
static void check_unit(struct t *t, const struct viot_unit *u)
{
	const pci_rid_t rid = {(uint32_t)u->segment << 16 | u->bdf};
	const struct pci_dev *d = u->mmio ? NULL : pci_find(rid);

	if (u->mmio)
		EXPECT_MSG(t, !phys_touches_ram(u->base, 0x200), "unit at %llx: got RAM there", (unsigned long long)u->base);
	else
		EXPECT_MSG(t, d && d->vendor == 0x1af4 && d->device == VIRTIO_IOMMU_DEVICE,
			   "unit " PRIRID ": got %s, expected a virtio-iommu", RIDARG(rid), d ? "another device" : "nothing");
}

static bool meet(const struct viot_range *a, const struct viot_range *b)
{
	return !a->mmio && !b->mmio && a->segment_first <= b->segment_last && b->segment_first <= a->segment_last &&
	       a->bdf_first <= b->bdf_last && b->bdf_first <= a->bdf_last;
}

static void check_ranges(struct t *t)
{
	const struct viot *v = &acpi.viot;

	for (uint32_t i = 0; i < v->range_count; i++) {
		for (uint32_t k = i + 1; k < v->range_count; k++)
			EXPECT_MSG(t, !meet(&v->range[i], &v->range[k]), "ranges %u and %u: got functions that both name", i, k);
	}
}

/* Who is in a range is an endpoint to the unit too: it answers a PROBE for it (VIRTIO 1.2, 5.13.6.7). */
static void check_endpoints(struct t *t)
{
	FOR_EACH_PCI(d) {
		struct iommu *u = iommu_of(d);
		struct iommu_region g;
		int r;

		if (!u || u->desc.vendor != IOMMU_VIRTIO || u->broken || !u->caps.translation)
			continue;
		r = u->ops->reserved(u, pci_requester_id(d), 0, &g);
		EXPECT_MSG(t, r == 0 || r == -ENOENT, PRIRID ": in the VIOT's ranges: got -%s of the unit, expected an endpoint",
			   RIDARG(d->rid), err_name(r));
	}
}

/* VIRTIO 1.2, 5.13.3, 5.13.4. */
static void check_features(struct t *t, const struct iommu *u)
{
	const uint64_t both = VIRTIO_IOMMU_F_BYPASS | VIRTIO_IOMMU_F_BYPASS_CONFIG;

	EXPECT_MSG(t, !u->broken, "%s: got a unit that is not used: %s", u->caps.text, u->broken ? u->broken : "");
	if (u->broken)
		return;
	EXPECT_MSG(t, u->caps.raw[0] & VIRTIO_IOMMU_F_MAP_UNMAP, "features: got MAP_UNMAP=0");
	EXPECT_MSG(t, (u->caps.raw[0] & both) != both, "features: got both BYPASS and BYPASS_CONFIG");
	EXPECT_MSG(t, u->caps.raw[1] != 0, "page_size_mask: got no page size");
	EXPECT_MSG(t, u->caps.iova_bits >= 12, "input_range: got an end of %u bits", u->caps.iova_bits);
}

void iommu_check_viot(struct t *t)
{
	unsigned units = 0;

	ASSERT_MSG(t, acpi.has_viot, "VIOT: got a damaged table: %s at %u", acpi.error.what ? acpi.error.what : "?",
		   acpi.error.offset);
	EXPECT_EQ(t, acpi.viot.dropped, 0);
	EXPECT_MSG(t, acpi.viot.unit_count > 0, "VIOT: got no virtio-iommu");
	for (uint32_t i = 0; i < acpi.viot.unit_count; i++)
		check_unit(t, &acpi.viot.unit[i]);
	check_ranges(t);
	check_endpoints(t);
	for (unsigned i = 0; i < iommu_count; i++) {
		if (iommus[i].desc.vendor != IOMMU_VIRTIO)
			continue;
		check_features(t, &iommus[i]);
		units++;
	}
	EXPECT_EQ(t, units, acpi.viot.unit_count);
}

/* A virtio-iommu whose endpoints nothing names: nobody can use it, and nobody else says so. */
bool iommu_check_orphan(struct t *t)
{
	for (unsigned i = 0; i < iommu_count; i++) {
		if (iommus[i].desc.vendor != IOMMU_VIRTIO || iommus[i].desc.table)
			continue;
		test_finding(t, "PLB081", "the machine type builds no VIOT, or its ACPI is off",
			     "QEMU: q35 or pc with ACPI on; another VMM: have it build a VIOT", iommus[i].broken,
			     "there is a virtio-iommu, and nothing says which devices are behind it");
		return EXPECT_MSG(t, false, "virtio-iommu: got no VIOT, expected one that names its endpoints");
	}
	return true;
}
