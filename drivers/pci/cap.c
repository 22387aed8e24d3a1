/* SPDX-License-Identifier: MIT */

#include "drivers/pci/cap.h"

#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/string.h"

#define CAP_FIRST 0x40                   /* the header takes what is below */

static uint32_t space_read(const struct cap_space *s, unsigned off)
{
	off &= ~3u;
	return off + 4 <= s->size ? s->read(s->ctx, off) : PCI_ABSENT;
}

static uint8_t space_read8(const struct cap_space *s, unsigned off)
{
	return (uint8_t)(space_read(s, off) >> (8 * (off & 3)));
}

static uint16_t space_read16(const struct cap_space *s, unsigned off)
{
	return (uint16_t)(space_read(s, off) >> (8 * (off & 2)));
}

static bool walk_stop(struct cap_walk *w, unsigned at, const char *problem)
{
	w->next = 0;
	w->at = (uint16_t)at;
	w->problem = problem;
	return false;
}

/* Takes a link of the chain that stands at register `from`. */
static void walk_link(struct cap_walk *w, unsigned to, unsigned from)
{
	const unsigned first = w->extended ? PCI_EXT_CAP_START : CAP_FIRST;

	/* 8 bits lead no further than 256, 12 bits no further than 4096: the end needs no check. */
	w->next = 0;
	if (to == 0)
		return;
	if (to & 3)
		walk_stop(w, from, "the link is not a multiple of 4");
	else if (to < first)
		walk_stop(w, from,
			  w->extended ? "the link leads below 0x100" : "the link leads into the header");
	else if (w->seen[to / 128] & BIT(to / 4 % 32))
		walk_stop(w, from, "the chain comes back to where it was: a loop");
	else
		w->next = (uint16_t)to;
}

void cap_walk_start(struct cap_walk *w, const struct cap_space *s, bool extended)
{
	*w = (struct cap_walk){.space = s, .extended = extended};

	/* A virtual function has no IDs either, but a class (PCIe 5.0, 9.3.4.1). */
	if (space_read(s, PCI_VENDOR_ID) == PCI_ABSENT && space_read(s, PCI_CLASS_REVISION) == PCI_ABSENT)
		return;
	if (extended) {
		const uint32_t head = space_read(s, PCI_EXT_CAP_START);

		/* An empty chain is a header of zeroes (PCIe 7.6.1); all ones: no such space here. */
		if (head != 0 && head != PCI_ABSENT)
			walk_link(w, PCI_EXT_CAP_START, PCI_EXT_CAP_START);
		return;
	}
	if (space_read16(s, PCI_STATUS) & PCI_STATUS_CAPLIST) {
		const bool cardbus = (space_read8(s, PCI_HEADER_TYPE) & PCI_HEADER_LAYOUT) ==
				     PCI_HEADER_CARDBUS;
		const unsigned head = cardbus ? PCI_CAP_POINTER_CB : PCI_CAP_POINTER;

		walk_link(w, space_read8(s, head), head);
	}
}

bool cap_walk_next(struct cap_walk *w, struct cap *c)
{
	const unsigned off = w->next;
	uint32_t head;

	if (!off)
		return false;
	w->seen[off / 128] |= BIT(off / 4 % 32);
	head = space_read(w->space, off);
	*c = (struct cap){.off = (uint16_t)off, .extended = w->extended};
	if (w->extended) {
		if (head == PCI_ABSENT)
			return walk_stop(w, off, "the capability reads as all ones");
		c->id = (uint16_t)FIELD_GET(PCI_EXT_CAP_ID, head);
		c->version = (uint8_t)FIELD_GET(PCI_EXT_CAP_VER, head);
		walk_link(w, FIELD_GET(PCI_EXT_CAP_NEXT, head), off);
	} else {
		if ((head & 0xff) == 0xff)
			return walk_stop(w, off, "the capability's ID is 0xff");
		c->id = head & 0xff;
		walk_link(w, (head >> 8) & 0xff, off);
	}
	return true;
}

static unsigned pcie_cap_length(const struct cap_space *s, unsigned off)
{
	const uint16_t flags = space_read16(s, off + PCIE_FLAGS);
	const unsigned type = FIELD_GET(PCIE_TYPE, flags);
	const bool port = type == PCIE_TYPE_ROOT || type == PCIE_TYPE_DOWN;

	/* Version 1 ends after the last register that its type has (PCIe 1.1, 7.8). */
	if (FIELD_GET(PCIE_VERSION, flags) < 2) {
		if (type == PCIE_TYPE_ROOT || type == PCIE_TYPE_RC_EC)
			return 0x24;
		if (type == PCIE_TYPE_RC_END)
			return 0x0c;
		return port && (flags & PCIE_SLOT) ? 0x1c : 0x14;
	}
	if (type == PCIE_TYPE_RC_END)
		return 0x2c;
	return port ? 0x3c : 0x34;
}

unsigned cap_length(const struct cap_space *s, const struct cap *c)
{
	/* Where a capability has optional registers: the part that is always there. */
	static const struct { uint16_t id; uint8_t length; } ext[] = {
		{PCI_EXT_AER, 0x2c}, {PCI_EXT_VC, 0x1c}, {PCI_EXT_SERIAL, 0x0c}, {PCI_EXT_ACS, 0x08},
		{PCI_EXT_ARI, 0x08}, {PCI_EXT_ATS, 0x08}, {PCI_EXT_SRIOV, 0x40}, {PCI_EXT_PRI, 0x10},
		{PCI_EXT_LTR, 0x08}, {PCI_EXT_PASID, 0x08}, {PCI_EXT_L1SS, 0x10},
	};
	uint32_t word;

	if (c->extended) {
		if (c->id == PCI_EXT_VNDR || c->id == PCI_EXT_DVSEC) {
			word = space_read(s, c->off + 4u) >> 20; /* length in the second header */
			return MAX(word, 8u);
		}
		for (unsigned i = 0; i < ARRAY_SIZE(ext); i++)
			if (ext[i].id == c->id)
				return ext[i].length;
		return 4;
	}
	switch (c->id) {
	case PCI_CAP_PM:
	case 0x03: /* vital product data */
		return 8;
	case PCI_CAP_MSI:
		word = space_read16(s, c->off + MSI_CONTROL);
		return 10u + (word & MSI_64BIT ? 4 : 0) + (word & MSI_MASKABLE ? 10 : 0);
	case PCI_CAP_MSIX:
		return 12;
	case PCI_CAP_PCIE:
		return pcie_cap_length(s, c->off);
	case PCI_CAP_VNDR:
		return MAX(space_read8(s, c->off + 2u), 3u);
	case 0x0d: /* subsystem IDs of a bridge */
		return 8;
	case PCI_CAP_AF:
		return 6;
	default:
		return 4;
	}
}

unsigned cap_find(const struct cap_space *s, bool extended, uint16_t id)
{
	struct cap_walk w;
	struct cap c;

	cap_walk_start(&w, s, extended);
	while (cap_walk_next(&w, &c))
		if (c.id == id)
			return c.off;
	return 0;
}

/* The dwords that a capability covers, unless it leaves its space. */
static const char *claim(const struct cap_space *s, const struct cap *c, uint32_t *taken)
{
	const unsigned end = c->extended ? s->size : PCI_CFG_SIZE;
	const unsigned length = cap_length(s, c);

	if (c->off + length > end)
		return "the capability runs out of its configuration space";
	for (unsigned d = c->off / 4; d < (c->off + length + 3) / 4; d++) {
		if (taken[d / 32] & BIT(d % 32))
			return "the capability lies over another";
		taken[d / 32] |= BIT(d % 32);
	}
	return NULL;
}

const char *cap_check(const struct cap_space *s, unsigned *at)
{
	uint32_t taken[4096 / 4 / 32] = {0};

	for (unsigned extended = 0; extended < (s->size > PCI_CFG_SIZE ? 2u : 1u); extended++) {
		struct cap_walk w;
		struct cap c;

		cap_walk_start(&w, s, extended);
		while (cap_walk_next(&w, &c)) {
			const char *problem = claim(s, &c, taken);

			if (problem) {
				*at = c.off;
				return problem;
			}
		}
		if (w.problem) {
			*at = w.at;
			return w.problem;
		}
	}
	*at = 0;
	return NULL;
}

/* ---- the machine's own functions ---- */

static uint32_t machine_read(void *ctx, unsigned off)
{
	return pci_r32((pci_rid_t){(uint32_t)(uintptr_t)ctx}, off);
}

void pci_cap_space(pci_rid_t rid, bool extended, struct cap_space *s)
{
	*s = (struct cap_space){machine_read, (void *)(uintptr_t)rid.v, PCI_CFG_SIZE};
	/*
	 * Only PCI Express has an extended space. What a conventional function behind a bridge gives
	 * for it is not defined: some repeat their first 256 bytes.
	 */
	if (extended && pci_cfg_has(PCI_CFG_ECAM, rid) && cap_find(s, false, PCI_CAP_PCIE))
		s->size = PCI_EXT_CFG_SIZE;
}

unsigned pci_find_cap(pci_rid_t rid, uint8_t id)
{
	struct cap_space s;

	pci_cap_space(rid, false, &s);
	return cap_find(&s, false, id);
}

unsigned pci_find_ext_cap(pci_rid_t rid, uint16_t id)
{
	struct cap_space s;

	pci_cap_space(rid, true, &s);
	return s.size > PCI_CFG_SIZE ? cap_find(&s, true, id) : 0;
}

const char *pci_check_caps(pci_rid_t rid, unsigned *at)
{
	struct cap_space s;

	pci_cap_space(rid, true, &s);
	return cap_check(&s, at);
}
