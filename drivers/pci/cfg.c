/* SPDX-License-Identifier: MIT */

/*
 * Configuration access: ECAM (PCIe 5.0, 7.2.2) where the MCFG table tells of one and it can be
 * believed, and the older CF8/CFC pair (PCI 3.0, 3.2.2.3.2) for segment 0.
 */

#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"

#define CF8_ADDRESS 0xcf8
#define CF8_DATA    0xcfc
#define CF8_ENABLE  BIT(31)
#define ECAM_BUS    0x100000u            /* bytes of one bus: 256 functions of 4 KiB */

/* One MCFG allocation that is used. base is where its bus 0 would be, whatever bus_first is. */
struct ecam {
	uint64_t base;
	uint16_t segment;
	uint8_t bus_first, bus_last;
	volatile uint8_t *va;            /* of bus_first; all of it mapped at once, by large pages */
};

static struct ecam *ecam[MCFG_MAX];
static unsigned ecam_count;
static bool cf8_there;
static char summary[160];

/* ---- CF8/CFC ---- */

/* The two accesses belong together: an interrupt handler may come between with an access of its own. */
static uint32_t cf8_lock(pci_rid_t rid, unsigned off)
{
	const uint32_t was_on = irq_enabled();

	irq_disable();
	outl(CF8_ADDRESS, CF8_ENABLE | (rid.v & 0xffff) << 8 | (off & 0xfc));
	return was_on;
}

static void cf8_unlock(uint32_t was_on)
{
	if (was_on)
		irq_enable();
}

#define CF8_OP(name, type, in, out)                                                                \
	static type cf8_r##name(pci_rid_t rid, unsigned off)                                       \
	{                                                                                          \
		const uint32_t was_on = cf8_lock(rid, off);                                        \
		const type v = in((uint16_t)(CF8_DATA + (off & 3)));                               \
                                                                                                   \
		cf8_unlock(was_on);                                                                \
		return v;                                                                          \
	}                                                                                          \
	static void cf8_w##name(pci_rid_t rid, unsigned off, type v)                               \
	{                                                                                          \
		const uint32_t was_on = cf8_lock(rid, off);                                        \
                                                                                                   \
		out((uint16_t)(CF8_DATA + (off & 3)), v);                                          \
		cf8_unlock(was_on);                                                                \
	}
CF8_OP(8, uint8_t, inb, outb)
CF8_OP(16, uint16_t, inw, outw)
CF8_OP(32, uint32_t, inl, outl)

static bool cf8_probe(void)
{
	const uint32_t before = inl(CF8_ADDRESS);
	bool there;

	/* The address register holds what is written; where nothing decodes it, reads are all ones. */
	outl(CF8_ADDRESS, CF8_ENABLE);
	there = inl(CF8_ADDRESS) == CF8_ENABLE;
	outl(CF8_ADDRESS, before);
	return there;
}

/* ---- ECAM ---- */

static struct ecam *ecam_of(pci_rid_t rid)
{
	for (unsigned i = 0; i < ecam_count; i++)
		if (ecam[i]->segment == rid_seg(rid) && rid_bus(rid) >= ecam[i]->bus_first &&
		    rid_bus(rid) <= ecam[i]->bus_last)
			return ecam[i];
	return NULL;
}

/* The register's place; NULL where ECAM does not reach. */
static volatile uint8_t *ecam_at(pci_rid_t rid, unsigned off)
{
	const struct ecam *e = ecam_of(rid);

	if (!e || off >= PCI_EXT_CFG_SIZE)
		return NULL;
	return e->va + ((rid_bus(rid) - e->bus_first) * ECAM_BUS + (rid_devfn(rid) << 12 | off));
}

/* Maps it. Why it cannot be used, or NULL. */
static const char *ecam_doubt(struct ecam *e)
{
	const pci_rid_t first = {(uint32_t)e->segment << 16 | (uint32_t)e->bus_first << 8};
	const uint64_t start = e->base + (uint64_t)e->bus_first * ECAM_BUS;
	const uint64_t size = (uint64_t)(e->bus_last - e->bus_first + 1) * ECAM_BUS;
	uint32_t id;

	if (e->bus_last < e->bus_first || !is_aligned(e->base, ECAM_BUS) || start == 0 ||
	    start + size < start)
		return "makes no sense";
	if (phys_touches_ram(start, size))
		return "lies over RAM";
	e->va = mmio_map(gpa(start), size);
	if (!e->va)
		return "cannot be mapped";
	if (!cf8_there || e->segment != 0)
		return NULL;
	id = mmio_r32(e->va + PCI_VENDOR_ID);
	return id == cf8_r32(first, PCI_VENDOR_ID) ? NULL : "disagrees with CF8/CFC";
}

static void summary_add(const struct ecam *e, const char *doubt)
{
	const size_t n = strlen(summary);

	fmt_snprintf(summary + n, sizeof(summary) - n, "%sECAM %llx buses %02x-%02x%s%s", n ? ", " : "",
		     (unsigned long long)e->base, e->bus_first, e->bus_last, doubt ? " not used: it " : "",
		     doubt ? doubt : "");
}

void pci_cfg_init(void)
{
	cf8_there = cf8_probe();
	summary[0] = 0;
	ecam_count = 0;
	for (unsigned i = 0; acpi.has_mcfg && i < acpi.mcfg.count; i++) {
		struct ecam *e = kzalloc(sizeof(*e));
		const char *doubt;

		if (!e)
			break;
		e->base = acpi.mcfg.alloc[i].base;
		e->segment = acpi.mcfg.alloc[i].segment;
		e->bus_first = acpi.mcfg.alloc[i].bus_first;
		e->bus_last = acpi.mcfg.alloc[i].bus_last;
		doubt = ecam_doubt(e);
		summary_add(e, doubt);
		if (doubt)
			kfree(e);
		else
			ecam[ecam_count++] = e;
	}
	if (cf8_there)
		strlcpy(summary + strlen(summary), summary[0] ? ", CF8" : "CF8",
			sizeof(summary) - strlen(summary));
	if (!summary[0])
		strlcpy(summary, "none", sizeof(summary));
}

const char *pci_cfg_summary(void)
{
	return summary;
}

/* ---- by either path ---- */

bool pci_cfg_has(enum pci_cfg_path path, pci_rid_t rid)
{
	switch (path) {
	case PCI_CFG_ECAM:
		return ecam_of(rid) != NULL;
	case PCI_CFG_CF8:
		return cf8_there && rid_seg(rid) == 0;
	default:
		return false;
	}
}

#define CFG_OP(name, type)                                                                         \
	type pci_r##name(pci_rid_t rid, unsigned off)                                              \
	{                                                                                          \
		volatile uint8_t *at = ecam_at(rid, off);                                          \
                                                                                                   \
		if (at)                                                                            \
			return mmio_r##name(at);                                                   \
		if (off < PCI_CFG_SIZE && pci_cfg_has(PCI_CFG_CF8, rid))                           \
			return cf8_r##name(rid, off);                                              \
		return (type)PCI_ABSENT;                                                           \
	}                                                                                          \
	void pci_w##name(pci_rid_t rid, unsigned off, type v)                                      \
	{                                                                                          \
		volatile uint8_t *at = ecam_at(rid, off);                                          \
                                                                                                   \
		if (at)                                                                            \
			mmio_w##name(at, v);                                                       \
		else if (off < PCI_CFG_SIZE && pci_cfg_has(PCI_CFG_CF8, rid))                      \
			cf8_w##name(rid, off, v);                                                  \
	}
CFG_OP(8, uint8_t)
CFG_OP(16, uint16_t)
CFG_OP(32, uint32_t)

uint32_t pci_r32_by(enum pci_cfg_path path, pci_rid_t rid, unsigned off)
{
	volatile uint8_t *at;

	off &= ~3u;
	if (path == PCI_CFG_ECAM) {
		at = ecam_at(rid, off);
		return at ? mmio_r32(at) : PCI_ABSENT;
	}
	if (path == PCI_CFG_CF8 && off < PCI_CFG_SIZE && pci_cfg_has(PCI_CFG_CF8, rid))
		return cf8_r32(rid, off);
	return PCI_ABSENT;
}

void pci_w32_by(enum pci_cfg_path path, pci_rid_t rid, unsigned off, uint32_t v)
{
	volatile uint8_t *at;

	off &= ~3u;
	if (path == PCI_CFG_ECAM) {
		at = ecam_at(rid, off);
		if (at)
			mmio_w32(at, v);
	} else if (path == PCI_CFG_CF8 && off < PCI_CFG_SIZE && pci_cfg_has(PCI_CFG_CF8, rid)) {
		cf8_w32(rid, off, v);
	}
}
