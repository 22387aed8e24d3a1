/* SPDX-License-Identifier: MIT */

#include "drivers/iommu/vtd/regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/boot.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"
#include "tests/iommu/iommu_test.h"

/*
 * What the firmware says of the remapping units can be believed.
 *
 * VT-d 8.1 to 8.5, 11.4.2, 11.4.3: an operating system takes the DMAR table at its word: a scope that
 * names no function leaves a device under the wrong unit, a register base in RAM is written over, a
 * reserved region that the memory map offers as free is given away. Capabilities that contradict each
 * other send it down paths that no one has tried.
 */

static void check_scope(struct t *t, const struct dmar_scope *s, uint16_t segment, const char *whose)
{
	const struct pci_dev *d = NULL;
	pci_rid_t rid = {0};
	const bool found = dmar_scope_rid(s, segment, &rid);

	if (found && (s->type == DMAR_SCOPE_ENDPOINT || s->type == DMAR_SCOPE_BRIDGE))
		d = pci_find(rid);
	switch (s->type) {
	case DMAR_SCOPE_ENDPOINT:
		EXPECT_MSG(t, d != NULL, "%s: endpoint scope " PRIRID " (start bus %02x, %u steps): got no such function",
			   whose, RIDARG(rid), s->start_bus, s->path_len);
		break;
	case DMAR_SCOPE_BRIDGE:
		EXPECT_MSG(t, d && d->is_bridge,
			   "%s: bridge scope " PRIRID " (start bus %02x, %u steps): got %s", whose, RIDARG(rid),
			   s->start_bus, s->path_len, d ? "an endpoint" : "no such function");
		break;
	case DMAR_SCOPE_IOAPIC: {
		bool known = false;

		for (uint32_t i = 0; acpi.has_madt && i < acpi.madt.ioapic_count; i++)
			known |= acpi.madt.ioapic[i].id == s->enum_id;
		EXPECT_MSG(t, known && found, "%s: I/O APIC scope, ID %u: got none with it in the MADT", whose,
			   s->enum_id);
		break;
	}
	default:
		EXPECT_MSG(t, s->type == DMAR_SCOPE_HPET || s->type == DMAR_SCOPE_NAMESPACE,
			   "%s: scope of type %u: got one that VT-d 8.3.1 does not know", whose, s->type);
	}
}

static void check_ram_fits(struct t *t, unsigned bits)
{
	for (uint32_t i = 0; i < boot_info.mem_count; i++) {
		const struct boot_mem *m = &boot_info.mem[i];

		if (m->type == BOOT_MEM_RAM && m->size)
			EXPECT_MSG(t, bits >= 64 || (m->base + m->size - 1) >> bits == 0,
				   "host address width %u bits: got RAM at %llx, beyond it", bits,
				   (unsigned long long)m->base);
	}
}

/* VT-d 8.3: one unit at most has INCLUDE_PCI_ALL in a segment, and it is the segment's last. */
static void check_units(struct t *t)
{
	const struct dmar *d = &acpi.dmar;

	EXPECT_MSG(t, d->unit_count > 0, "DMAR: got no remapping unit");
	for (uint32_t i = 0; i < d->unit_count; i++) {
		const struct dmar_unit *u = &d->unit[i];

		EXPECT_MSG(t, !phys_touches_ram(u->base, PAGE_SIZE << u->size_pages_log2),
			   "unit %u: registers at %llx: got RAM there", i, (unsigned long long)u->base);
		for (uint32_t k = i + 1; k < d->unit_count; k++) {
			EXPECT_MSG(t, d->unit[k].base != u->base, "units %u and %u: got one register base, %llx", i,
				   k, (unsigned long long)u->base);
			EXPECT_MSG(t, !u->include_pci_all || d->unit[k].segment != u->segment,
				   "unit %u: INCLUDE_PCI_ALL, and unit %u of its segment follows", i, k);
		}
		for (uint32_t k = 0; k < u->scope_count; k++)
			check_scope(t, &u->scope[k], u->segment, "unit");
	}
}

static void check_reserved(struct t *t)
{
	const struct dmar *d = &acpi.dmar;

	for (uint32_t i = 0; i < d->rmrr_count; i++) {
		const uint64_t base = d->rmrr[i].base, end = d->rmrr[i].limit + 1;

		EXPECT_MSG(t, is_aligned(base | end, PAGE_SIZE), "RMRR %llx..%llx: got part of a page",
			   (unsigned long long)base, (unsigned long long)end - 1);
		EXPECT_MSG(t, !phys_touches_ram(base, end - base),
			   "RMRR %llx..%llx: got memory that the memory map says is free",
			   (unsigned long long)base, (unsigned long long)end - 1);
		for (uint32_t k = 0; k < d->rmrr[i].scope_count; k++)
			check_scope(t, &d->rmrr[i].scope[k], d->rmrr[i].segment, "RMRR");
	}
	for (uint32_t i = 0; i < d->atsr_count; i++) {
		for (uint32_t k = 0; k < d->atsr[i].scope_count; k++)
			check_scope(t, &d->atsr[i].scope[k], d->atsr[i].segment, "ATSR");
	}
}

static void check_ioapics(struct t *t)
{
	for (uint32_t i = 0; acpi.has_madt && i < acpi.madt.ioapic_count; i++) {
		pci_rid_t source;

		EXPECT_MSG(t, iommu_of_ioapic(acpi.madt.ioapic[i].id, &source) != NULL,
			   "I/O APIC %u: got no unit that names it, though interrupts can be remapped",
			   acpi.madt.ioapic[i].id);
	}
}

static void check_registers(struct t *t, const struct iommu *u)
{
	const uint64_t cap = u->caps.raw[0], ecap = u->caps.raw[1];
	const unsigned bits = u->caps.iova_bits;

	EXPECT_MSG(t, !u->broken, "unit at %llx: got %s", (unsigned long long)u->desc.regs.v,
		   u->broken ? u->broken : "");
	if (u->broken)
		return;
	EXPECT_EQ(t, mmio_r64(u->regs + CAP_REG), cap);
	EXPECT_EQ(t, mmio_r64(u->regs + ECAP_REG), ecap);
	EXPECT_MSG(t, FIELD_GET(VER_MAX, mmio_r32(u->regs + VER_REG)) >= 1, "unit at %llx: VER: got major version 0",
		   (unsigned long long)u->desc.regs.v);
	EXPECT_MSG(t, FIELD_GET(CAP_ND, cap) <= 6, "CAP.ND: got the reserved value 7");
	EXPECT_MSG(t, bits >= 12 && bits <= 64, "CAP.MGAW: got %u bits", bits);
	/* Every table depth that SAGAW offers beyond what MGAW uses is harmless; less is not. */
	if (u->caps.translation)
		EXPECT_MSG(t, bits <= 12 + 9 * (31 - (unsigned)__builtin_clz(u->caps.levels)),
			   "CAP: MGAW %u bits: got no table depth (SAGAW %llx) that reaches them", bits,
			   (unsigned long long)FIELD_GET(CAP_SAGAW, cap));
	EXPECT_MSG(t, !(ecap & ECAP_IR) || (ecap & ECAP_QI),
		   "ECAP: IR=1, QI=0: got remapping whose entries cannot be invalidated");
	EXPECT_MSG(t, !(ecap & ECAP_EIM) || (ecap & ECAP_IR), "ECAP: EIM=1, IR=0");
	EXPECT_MSG(t, !(cap & CAP_PI) || (ecap & ECAP_IR), "CAP.PI=1, ECAP.IR=0");
	EXPECT_MSG(t, !acpi.dmar.intr_remap || (ecap & ECAP_IR),
		   "DMAR.INTR_REMAP=1: got a unit that does not (ECAP.IR=0)");
	EXPECT_EQ(t, (mmio_r32(u->regs + GSTS_REG) & GCMD_TE) != 0, u->translating);
	EXPECT_EQ(t, (mmio_r32(u->regs + GSTS_REG) & GCMD_IRE) != 0, u->remapping);
}

static void check_dmar(struct t *t)
{
	unsigned units = 0;

	ASSERT_MSG(t, acpi.has_dmar, "DMAR: got a damaged table: %s at %u", acpi.error.what ? acpi.error.what : "?",
		   acpi.error.offset);
	EXPECT_EQ(t, acpi.dmar.dropped, 0);
	EXPECT_MSG(t, acpi.dmar.intr_remap || !acpi.dmar.x2apic_opt_out,
		   "DMAR.flags: got X2APIC_OPT_OUT=1 with INTR_REMAP=0 (8.1)");
	check_ram_fits(t, acpi.dmar.host_addr_width);
	check_units(t);
	check_reserved(t);
	if (acpi.dmar.intr_remap)
		check_ioapics(t);
	for (unsigned i = 0; i < iommu_count; i++) {
		if (iommus[i].desc.vendor != IOMMU_VTD)
			continue;
		check_registers(t, &iommus[i]);
		units++;
	}
	EXPECT_EQ(t, units, acpi.dmar.unit_count);
}

static bool listed(const char *sig)
{
	for (uint32_t i = 0; i < acpi.table_count; i++)
		if (!memcmp(acpi.table[i].sig, sig, 4))
			return true;
	return false;
}

TEST(iommu, tables, "DMAR, IVRS or VIOT is well-formed, names what exists, and agrees with the registers", NEED_ACPI)
{
	if (listed("DMAR"))
		check_dmar(t);
	if (listed("IVRS"))
		iommu_check_ivrs(t);
	if (listed("VIOT"))
		iommu_check_viot(t);
	if (!listed("DMAR") && !listed("IVRS") && !listed("VIOT") && iommu_check_orphan(t))
		test_skip(t, "no IOMMU (no DMAR, IVRS or VIOT table)");
}
