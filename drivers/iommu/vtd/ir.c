/* SPDX-License-Identifier: MIT */

/* Interrupt remapping: VT-d 4.1, chapter 5 and 9.10. */

#include "drivers/apic/apic.h"
#include "drivers/iommu/vtd/vtd.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"

static struct vtd_entry *irte(struct vtd *v, int index)
{
	return (struct vtd_entry *)v->irt.va + index;
}

static bool is_used(const struct vtd *v, int index)
{
	return index >= 0 && index < (int)VTD_IRT_ENTRIES &&
	       (v->irt_used[index / 64] & BIT64(index % 64));
}

int vtd_ir_enable(struct iommu *iommu, bool eim)
{
	struct vtd *v = vtd_of(iommu);
	int r;

	if (iommu->broken)
		return -EIO;
	if (!iommu->caps.interrupt_remapping || (eim && !iommu->caps.eim))
		return -EOPNOTSUPP;
	if (iommu->remapping)
		return iommu->remapping_eim == eim ? 0 : -EBUSY;
	if (!v->irt.va && !dma_alloc(&v->irt, VTD_IRT_ENTRIES * sizeof(struct vtd_entry), PAGE_SIZE,
				     PHYS_ANY))
		return -ENOMEM;
	vtd_flush(v, v->irt.va, v->irt.size);
	vtd_w64(v, IRTA_REG, v->irt.pa.v | (eim ? IRTA_EIME : 0) |
				     FIELD_PREP(IRTA_S, VTD_IRT_LOG2 - 1));
	r = vtd_oneshot(v, GCMD_SIRTP);
	/* The cache may hold entries of the table before this one (6.7). */
	if (r == 0)
		r = vtd_inv_iec_all(v);
	/* GCMD.CFI stays clear: compatibility format messages are to be blocked. */
	if (r == 0)
		r = vtd_state(v, GCMD_IRE, true);
	if (r < 0)
		return r;
	iommu->remapping = true;
	iommu->remapping_eim = eim;
	return 0;
}

void vtd_ir_disable(struct iommu *iommu)
{
	struct vtd *v = vtd_of(iommu);

	if (!iommu->remapping || iommu->broken)
		return;
	if (vtd_state(v, GCMD_IRE, false) < 0)
		return;
	iommu->remapping = iommu->remapping_eim = false;
}

/*
 * With EIME clear, DST is an xAPIC ID in bits 15:8: eight bits, in which no x2APIC logical ID fits.
 */
static int compose(const struct iommu *iommu, const struct irq_route *route, uint64_t *lo)
{
	const uint32_t dest = (route->dest ^ SABOTAGE(ir_wrong_cpu)) & (SABOTAGE(ir_wide_cut) ? 0xffffu : ~0u);
	uint64_t dst;

	if (iommu->remapping_eim) {
		dst = FIELD_PREP(IRTE_DST, dest);
	} else {
		if (route->dest > 0xff || (route->mode == IRQ_LOGICAL && apic_mode == APIC_X2APIC))
			return -EOPNOTSUPP;
		dst = FIELD_PREP(IRTE_DST_XAPIC, route->dest);
	}
	*lo = IRTE_P | dst | FIELD_PREP(IRTE_V, route->vector ^ SABOTAGE(ir_wrong_vector)) |
	      (SABOTAGE(ir_lowest_to_all) ? 0 : FIELD_PREP(IRTE_DLM, (uint64_t)route->delivery)) |
	      (route->mode == IRQ_LOGICAL ? IRTE_DM : 0) |
	      (route->delivery == IRQ_LOWEST ? IRTE_RH : 0) | (route->level ? IRTE_TM : 0);
	return 0;
}

/* Only the requester itself may use the entry: SVT = 01b, SQ = 00b (5.1.3). */
static uint64_t compose_source(pci_rid_t rid)
{
	const uint16_t sid = (uint16_t)(rid.v ^ (SABOTAGE(ir_other_source) ? 8u : 0));

	if (SABOTAGE(vtd_irte_any_source))
		return 0;
	return FIELD_PREP(IRTE_SVT, IRTE_SVT_SID) | FIELD_PREP(IRTE_SID, sid);
}

/* Caching mode caches entries that are not present too (6.1). */
static int became_present(struct vtd *v, int index)
{
	return v->cap & CAP_CM ? vtd_inv_iec(v, (unsigned)index) : vtd_flush_write_buffer(v);
}

/* Several: the sender's data is the subhandle, which is added to the message's handle (5.1.2.2). */
int vtd_irq_map(struct iommu *iommu, pci_rid_t rid, const struct irq_route *route, unsigned n, struct msi_msg *msg)
{
	struct vtd *v = vtd_of(iommu);
	uint64_t lo;
	int r = 0, index;

	if (iommu->broken)
		return -EIO;
	if (!iommu->remapping)
		return -EINVAL;
	for (unsigned i = 0; i < n && r == 0; i++)
		r = compose(iommu, &route[i], &lo);
	index = r < 0 ? r : iommu_free_entries(v->irt_used, VTD_IRT_ENTRIES, n);
	if (index < 0)
		return index;
	for (int i = index; i < index + (int)n; i++) {
		(void)compose(iommu, &route[i - index], &lo);
		if (n == 1 || i < index + (int)n - 1 || !SABOTAGE(ir_block_entry_lost))
			vtd_set_entry(v, irte(v, i), lo, compose_source(rid));
		r = became_present(v, i);
		if (r < 0)
			return r;
		v->irt_used[i / 64] |= BIT64(i % 64);
	}
	if (msg)
		msg_vtd_remappable((uint16_t)(index + (n > 1 && SABOTAGE(vtd_handle_next))),
				   n > 1 && !SABOTAGE(vtd_no_subhandle), msg);
	return index;
}

int vtd_irq_write(struct iommu *iommu, int index, pci_rid_t rid, const struct irq_route *route)
{
	struct vtd *v = vtd_of(iommu);
	uint64_t lo;
	int r;

	if (iommu->broken)
		return -EIO;
	if (!is_used(v, index))
		return -EINVAL;
	r = compose(iommu, route, &lo);
	if (r < 0)
		return r;
	vtd_set_entry(v, irte(v, index), lo, compose_source(rid));
	return 0;
}

int vtd_irq_update(struct iommu *iommu, int index, pci_rid_t rid, const struct irq_route *route)
{
	const int r = SABOTAGE(ir_kept_old) ? 0 : vtd_irq_write(iommu, index, rid, route);

	return r < 0 ? r : vtd_inv_iec(vtd_of(iommu), (unsigned)index);
}

int vtd_irq_sync(struct iommu *iommu)
{
	return iommu->broken ? -EIO : vtd_inv_iec_all(vtd_of(iommu));
}

/* 9.10: between the fields of each quadword, and its end. */
int vtd_irq_reserved(struct iommu *iommu, int index, unsigned k)
{
	static const struct { uint64_t lo, hi; } fields[] = {
		{BIT64(12), 0}, {BIT64(24), 0}, {0, BIT64(20)}, {0, BIT64(63)}};
	struct vtd *v = vtd_of(iommu);
	struct vtd_entry *e = irte(v, index);

	if (!is_used(v, index))
		return -EINVAL;
	if (k >= ARRAY_SIZE(fields))
		return -ERANGE;
	vtd_set_entry(v, e, e->lo | fields[k].lo, e->hi | fields[k].hi);
	return vtd_inv_iec(v, (unsigned)index);
}

int vtd_irq_unmap(struct iommu *iommu, int index)
{
	struct vtd *v = vtd_of(iommu);

	if (!is_used(v, index))
		return -EINVAL;
	if (!SABOTAGE(vtd_irte_stays))
		vtd_set_entry(v, irte(v, index), 0, 0);
	v->irt_used[index / 64] &= ~BIT64(index % 64);
	return vtd_inv_iec(v, (unsigned)index);
}

int vtd_irq_message(struct iommu *iommu, int index, struct msi_msg *msg)
{
	(void)iommu;
	if (index < 0 || index >= 1 << 16)
		return -ERANGE;
	msg_vtd_remappable((uint16_t)index, false, msg);
	return 0;
}

uint64_t vtd_irq_rte(struct iommu *iommu, int index, const struct irq_route *route, bool mask)
{
	(void)iommu;
	return msg_ioapic_vtd(route, (uint16_t)index, mask);
}
