/* SPDX-License-Identifier: MIT */

/*
 * Virtual functions: switched on and added to the list of functions, taken off it and switched off. PCIe 5.0, 9.
 */

#include "drivers/pci/bar.h"
#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

#define READY_NS MS(100)                 /* 9.3.3.3.1: from VF Enable to the first request */

unsigned pci_sriov_cap(const struct pci_dev *pf)
{
	const unsigned cap = pf->cap_pcie && !pf->physfn ? pci_find_ext_cap(pf->rid, PCI_EXT_SRIOV) : 0;

	const uint32_t vfs = cap ? pci_r32(pf->rid, cap + SRIOV_INITIAL) : 0;

	/* InitialVFs is never above TotalVFs (9.3.3.5). */
	return (vfs & 0xffff) && (vfs & 0xffff) <= vfs >> 16 ? cap : 0;
}

/* First VF Offset and VF Stride may change with NumVFs: they are read after it. */
pci_rid_t pci_sriov_rid(const struct pci_dev *pf, unsigned cap, unsigned n)
{
	const uint32_t word = pci_r32(pf->rid, cap + SRIOV_OFFSET);

	return (pci_rid_t){pf->rid.v + (word & 0xffff) + n * (SABOTAGE(sriov_stride) ? 1 : word >> 16)};
}

/* Its bus is forwarded to, and an offset or a stride that makes no sense has not led back, nor past the segment. */
static bool reachable(const struct pci_dev *pf, unsigned cap, unsigned n)
{
	const pci_rid_t rid = pci_sriov_rid(pf, cap, n), before = n ? pci_sriov_rid(pf, cap, n - 1) : pf->rid;
	const unsigned last = pf->parent ? MAX(pf->parent->subordinate, rid_bus(pf->rid)) : rid_bus(pf->rid);

	return rid.v > before.v && rid.v >> 16 == pf->rid.v >> 16 && rid_bus(rid) <= last;
}

/* Each of its BARs stands for one of every virtual function, one after the other. */
static const char *place(struct pci_dev *pf, unsigned cap)
{
	const unsigned total = pci_r32(pf->rid, cap + SRIOV_INITIAL) >> 16;

	for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
		const unsigned at = cap + SRIOV_BAR(i);
		const struct bar_probe lo = bar_probe(pf->rid, at, ~0u);
		struct pci_bar *b = &pf->vf_bar[i];
		const bool wide = FIELD_GET(BAR_MEM_TYPE, lo.value) == BAR_MEM_64 && i + 1 < PCI_BAR_COUNT;
		struct bar_probe hi = {0, 0};
		const char *wrong;

		if (wide)
			hi = bar_probe(pf->rid, at + 4, ~0u);
		wrong = bar_decode(lo, wide ? &hi : NULL, b);
		if (wrong || b->io)
			return wrong ? wrong : "it is one of I/O";
		i += wide;
		if (!b->size)
			continue;
		if (!b->base) {
			if (!pci_range_place(pf, b->size * total, b->size, &b->base))
				return "there is no room for it in what the bridge above forwards";
			pci_w32(pf->rid, at, (uint32_t)b->base);
			if (wide)
				pci_w32(pf->rid, at + 4, (uint32_t)(b->base >> 32));
		}
		b->size *= total;
		b->assigned = true;
	}
	return NULL;
}

static void add(struct pci_dev *pf, unsigned cap, unsigned n)
{
	struct pci_dev *d = kzalloc(sizeof(*d));
	const unsigned total = pci_r32(pf->rid, cap + SRIOV_INITIAL) >> 16;

	if (!d)
		return;
	d->rid = pci_sriov_rid(pf, cap, n);
	d->physfn = pf;
	d->vf = n;
	d->vendor = pf->vendor;
	d->device = pci_r16(pf->rid, cap + SRIOV_VF_DEVICE);
	d->class_code = pf->class_code;
	d->revision = pf->revision;
	d->parent = pf->parent;
	d->root_bus = pf->root_bus;
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
		d->bar[i] = pf->vf_bar[i];
		d->bar[i].size /= total;
		d->bar[i].base += n * d->bar[i].size;
	}
	pci_add(d);
}

int pci_sriov_enable(struct pci_dev *pf, unsigned vfs, const char **why)
{
	const unsigned cap = pci_sriov_cap(pf);

	if (!cap)
		return -ENOENT;
	vfs = MIN(vfs, pci_r32(pf->rid, cap + SRIOV_INITIAL) & 0xffff);
	pci_w16(pf->rid, cap + SRIOV_NUM, (uint16_t)vfs);
	while (vfs && !reachable(pf, cap, vfs - 1))
		pci_w16(pf->rid, cap + SRIOV_NUM, (uint16_t)--vfs);
	*why = vfs ? place(pf, cap) : "no bridge forwards to the first one's bus";
	if (*why)
		return -ENOSPC;
	pci_w16(pf->rid, cap + SRIOV_CONTROL, SRIOV_VF_ENABLE | SRIOV_VF_MSE);
	delay(READY_NS);
	for (unsigned n = 0; n < vfs; n++)
		add(pf, cap, n);
	return (int)vfs;
}

int pci_flr(struct pci_dev *d)
{
	const uint32_t id = pci_r32(d->rid, PCI_VENDOR_ID);
	const uint16_t command = pci_r16(d->rid, PCI_COMMAND);
	uint32_t bar[PCI_BAR_COUNT];

	if (!d->cap_pcie || !(pci_r32(d->rid, d->cap_pcie + PCIE_DEVCAP) & PCIE_DEVCAP_FLR))
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
		bar[i] = pci_r32(d->rid, PCI_BAR(i));
	pci_w16(d->rid, d->cap_pcie + PCIE_DEVCTL,
		(uint16_t)(pci_r16(d->rid, d->cap_pcie + PCIE_DEVCTL) | PCIE_DEVCTL_FLR));
	delay(READY_NS);
	if (!WAIT_FOR(pci_r32(d->rid, PCI_VENDOR_ID) == id, SEC(1)))
		return -EIO;
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
		pci_w32(d->rid, PCI_BAR(i), bar[i]);
	pci_w16(d->rid, PCI_COMMAND, command);
	return 0;
}

bool pci_has_vfs(const struct pci_dev *pf)
{
	FOR_EACH_PCI(d)
		if (d->physfn == pf)
			return true;
	return false;
}

void pci_sriov_disable(struct pci_dev *pf)
{
	const unsigned cap = pci_sriov_cap(pf);

	for (struct pci_dev **at = &pci_devs; *at;) {
		struct pci_dev *d = *at;

		if (d->physfn != pf) {
			at = &d->next;
			continue;
		}
		*at = d->next;
		kfree(d);
	}
	if (SABOTAGE(vf_gone_late))
		return;
	pci_w16(pf->rid, cap + SRIOV_CONTROL, 0);
	pci_w16(pf->rid, cap + SRIOV_NUM, 0);
}
