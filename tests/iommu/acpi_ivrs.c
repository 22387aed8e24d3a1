/* SPDX-License-Identifier: MIT */

/* What iommu.tables asks of AMD-Vi; the claim and its reason are in acpi_tables.c. */

#include "drivers/iommu/amdvi/regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/mm/mm.h"
#include "tests/iommu/iommu_test.h"

static pci_rid_t rid_of(const struct ivrs_unit *u, uint16_t id)
{
	return (pci_rid_t){(uint32_t)u->segment << 16 | id};
}

/* 48882, 3.2: the unit's function has a capability that says where its registers are, too. */
static void check_function(struct t *t, const struct ivrs_unit *u)
{
	const pci_rid_t rid = rid_of(u, u->device_id);
	const struct pci_dev *d = pci_find(rid);
	uint32_t header, low;
	uint64_t base;

	if (!EXPECT_MSG(t, d != NULL, "IVHD at %llx: its function " PRIRID ": got none there",
			(unsigned long long)u->base, RIDARG(rid)))
		return;
	EXPECT_MSG(t, d->class_code == 0x080600, PRIRID ": got class %06x, expected an IOMMU's, 080600", RIDARG(rid),
		   d->class_code);
	EXPECT_MSG(t, pci_find_cap(rid, IOMMU_CAP_ID) == u->cap_offset,
		   PRIRID ": IOMMU capability: got offset %x, expected the IVHD's %x", RIDARG(rid),
		   pci_find_cap(rid, IOMMU_CAP_ID), u->cap_offset);
	header = pci_r32(rid, u->cap_offset + IOMMU_CAP_HEADER);
	if ((header & 0xff) != IOMMU_CAP_ID)
		return;
	low = pci_r32(rid, u->cap_offset + IOMMU_CAP_BASE_LOW);
	base = (uint64_t)pci_r32(rid, u->cap_offset + IOMMU_CAP_BASE_HIGH) << 32 | (low & CAP_BASE_LOW_ADDR);
	EXPECT_MSG(t, base == u->base, PRIRID ": base in its capability: got %llx, expected the IVHD's %llx", RIDARG(rid),
		   (unsigned long long)base, (unsigned long long)u->base);
	EXPECT_MSG(t, low & CAP_BASE_ENABLE, PRIRID ": base in its capability: got Enable=0", RIDARG(rid));
}

static void check_registers(struct t *t, const struct iommu *u)
{
	const struct ivrs_unit *ivhd = u->desc.table;
	const uint64_t efr = u->caps.raw[0];

	EXPECT_MSG(t, !u->broken, "unit at %llx: got %s", (unsigned long long)u->desc.regs.v,
		   u->broken ? u->broken : "");
	if (u->broken)
		return;
	EXPECT_EQ(t, mmio_r64(u->regs + EXT_FEATURE), efr);
	EXPECT_MSG(t, ivhd->type == 0x10 || ivhd->efr == efr,
		   "unit at %llx: extended features: got %llx in the IVHD, %llx in the register",
		   (unsigned long long)u->desc.regs.v, (unsigned long long)ivhd->efr, (unsigned long long)efr);
	EXPECT_MSG(t, FIELD_GET(EFR_HATS, efr) < 3, "HATS: got the reserved value 3");
	EXPECT_MSG(t, !(efr & EFR_XTSUP) || (efr & EFR_GASUP), "XTSup=1, GASup=0: got destinations without room for them");
	EXPECT_EQ(t, (mmio_r64(u->regs + CONTROL) & CONTROL_IOMMUEN) != 0, u->translating || u->remapping);
}

/* 5.2.2: everything on the bus is behind one unit, under the ID that its requests have there. */
static void check_functions(struct t *t)
{
	FOR_EACH_PCI(d) {
		const pci_rid_t seen = pci_requester_id(d);
		const struct ivrs_dev *e = NULL;
		unsigned units = 0;

		for (uint32_t i = 0; i < acpi.ivrs.unit_count; i++) {
			const struct ivrs_unit *u = &acpi.ivrs.unit[i];
			const struct ivrs_dev *found = ivrs_find(u, (uint16_t)d->rid.v);

			if (u->segment != rid_seg(d->rid) || (!found && d->rid.v != rid_of(u, u->device_id).v))
				continue;
			units++;
			e = found;
		}
		EXPECT_MSG(t, units == 1, PRIRID ": got %u units in front of it, expected 1", RIDARG(d->rid), units);
		if (e)
			EXPECT_MSG(t, (e->aliased ? e->alias : d->rid.v & 0xffff) == (seen.v & 0xffff),
				   PRIRID ": alias in the IVHD: got %04x%s, expected %04x", RIDARG(d->rid),
				   e->aliased ? e->alias : d->rid.v & 0xffff, e->aliased ? "" : " (none)",
				   seen.v & 0xffff);
	}
}

static void check_ioapics(struct t *t)
{
	for (uint32_t i = 0; i < acpi.ivrs.unit_count; i++) {
		const struct ivrs_unit *u = &acpi.ivrs.unit[i];

		for (uint32_t k = 0; k < u->special_count; k++) {
			const struct ivrs_special *s = &u->special[k];
			bool known = s->variety == IVRS_HPET;

			for (uint32_t n = 0; acpi.has_madt && n < acpi.madt.ioapic_count; n++)
				known |= s->variety == IVRS_IOAPIC && acpi.madt.ioapic[n].id == s->handle;
			EXPECT_MSG(t, known, "special device %u (handle %u): got none such in the MADT", s->variety,
				   s->handle);
		}
	}
	for (uint32_t i = 0; acpi.has_madt && i < acpi.madt.ioapic_count; i++) {
		pci_rid_t source;
		bool any = false;

		for (unsigned k = 0; k < iommu_count; k++)
			any |= iommus[k].caps.interrupt_remapping;
		EXPECT_MSG(t, !any || iommu_of_ioapic(acpi.madt.ioapic[i].id, &source),
			   "I/O APIC %u: got no unit that names it, though interrupts can be remapped",
			   acpi.madt.ioapic[i].id);
	}
}

static void check_memory(struct t *t)
{
	for (uint32_t i = 0; i < acpi.ivrs.memory_count; i++) {
		const struct ivrs_memory *m = &acpi.ivrs.memory[i];

		EXPECT_MSG(t, is_aligned(m->base | m->length, PAGE_SIZE), "IVMD at %llx: got part of a page",
			   (unsigned long long)m->base);
		EXPECT_MSG(t, !phys_touches_ram(m->base, m->length),
			   "IVMD at %llx: got memory that the memory map says is free", (unsigned long long)m->base);
		EXPECT_MSG(t, m->flags & (IVRS_UNITY | IVRS_EXCLUSION), "IVMD at %llx: got flags %x, neither of its uses",
			   (unsigned long long)m->base, m->flags);
	}
}

void iommu_check_ivrs(struct t *t)
{
	const struct ivrs *v = &acpi.ivrs;
	unsigned units = 0;

	ASSERT_MSG(t, acpi.has_ivrs, "IVRS: got a damaged table: %s at %u", acpi.error.what ? acpi.error.what : "?",
		   acpi.error.offset);
	EXPECT_EQ(t, v->dropped, 0);
	EXPECT_MSG(t, v->unit_count > 0, "IVRS: got no remapping unit");
	/* 5.1, IVinfo */
	EXPECT_MSG(t, v->va_bits == 32 || v->va_bits == 40 || v->va_bits == 48 || v->va_bits == 64,
		   "IVinfo.VASize: got the reserved value %u", v->va_bits);
	EXPECT_MSG(t, v->pa_bits >= 32 && v->pa_bits <= 52, "IVinfo.PASize: got %u", v->pa_bits);
	for (uint32_t i = 0; i < v->unit_count; i++) {
		const struct ivrs_unit *u = &v->unit[i];

		EXPECT_MSG(t, !phys_touches_ram(u->base, MMIO_SIZE), "unit %u: registers at %llx: got RAM there", i,
			   (unsigned long long)u->base);
		for (uint32_t k = i + 1; k < v->unit_count; k++)
			EXPECT_MSG(t, v->unit[k].base != u->base, "units %u and %u: got one register base, %llx", i, k,
				   (unsigned long long)u->base);
		check_function(t, u);
	}
	check_functions(t);
	check_ioapics(t);
	check_memory(t);
	for (unsigned i = 0; i < iommu_count; i++) {
		if (iommus[i].desc.vendor != IOMMU_AMDVI)
			continue;
		check_registers(t, &iommus[i]);
		units++;
	}
	EXPECT_EQ(t, units, v->unit_count);
}
