/* SPDX-License-Identifier: MIT */

#include "drivers/pci/cap.h"
#include "drivers/pci/regs.h"
#include "tests/pci/common.h"

/* What the driver remembers of a function is what stands there now. */
static void check_known(struct t *t, const struct pci_dev *d)
{
	const struct { uint8_t id; uint16_t off; const char *name; } known[] = {
		{PCI_CAP_PM, d->cap_pm, "PM"}, {PCI_CAP_MSI, d->cap_msi, "MSI"},
		{PCI_CAP_MSIX, d->cap_msix, "MSI-X"}, {PCI_CAP_PCIE, d->cap_pcie, "PCI Express"}};

	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		const unsigned now = pci_find_cap(d->rid, known[i].id);

		EXPECT_MSG(t, now == known[i].off,
			   PRIRID " %s capability: got offset %02x, expected %02x as when scanned",
			   RIDARG(d->rid), known[i].name, now, known[i].off);
	}
}

/* One of a kind: a second one would be a register set that no software looks at. */
static unsigned check_chain(struct t *t, const struct pci_dev *d, const struct cap_space *s, bool extended)
{
	uint32_t seen[256 / 32] = {0};
	struct cap_walk w;
	struct cap c;
	unsigned n = 0;

	cap_walk_start(&w, s, extended);
	while (cap_walk_next(&w, &c)) {
		const bool several =
			extended ? c.id == PCI_EXT_VNDR || c.id == PCI_EXT_DVSEC || c.id > 255 || c.id == 0
				 : c.id == PCI_CAP_VNDR || c.id == 0x08 /* HyperTransport */ ||
					   c.id == 0x14 /* EA */ || c.id == 0;

		n++;
		if (several)
			continue;
		EXPECT_MSG(t, !(seen[c.id / 32] & BIT(c.id % 32)),
			   PRIRID " at %03x: a second %scapability %02x", RIDARG(d->rid), c.off,
			   extended ? "extended " : "", c.id);
		seen[c.id / 32] |= BIT(c.id % 32);
	}
	return n;
}

/*
 * Both capability chains of every function are sound.
 *
 * PCI 3.0, 6.7: from the pointer in the header, each capability names the next, on a multiple of 4,
 * above the header; PCIe 5.0, 7.6.3: the extended chain starts at 0x100. A chain that loops hangs
 * software that trusts it; one that leads into the header or past the end, or a capability whose
 * registers run into the next (a VMM that inserts one of its own beside a real device's), gives
 * registers two meanings. The Capabilities List bit says whether there is a chain at all.
 */
TEST(pci, capabilities, "capability chains are bounded, aligned, without loops, inside configuration space",
     NEED_PCI)
{
	unsigned conventional = 0, extended = 0;

	FOR_EACH_PCI(d) {
		struct cap_space s;
		unsigned at = 0;
		const char *problem = pci_check_caps(d->rid, &at);
		const bool list = pci_r16(d->rid, PCI_STATUS) & PCI_STATUS_CAPLIST;

		EXPECT_MSG(t, !problem, PRIRID " at %03x: %s", RIDARG(d->rid), at, problem);
		EXPECT_MSG(t, list || !(d->cap_pm | d->cap_msi | d->cap_msix | d->cap_pcie),
			   PRIRID ": capabilities, but the Capabilities List bit is clear", RIDARG(d->rid));
		check_known(t, d);
		pci_cap_space(d->rid, true, &s);
		conventional += check_chain(t, d, &s, false);
		if (s.size > PCI_CFG_SIZE)
			extended += check_chain(t, d, &s, true);
	}
	test_note(t, "%u capabilities, %u extended ones", conventional, extended);
}

/* ---- ARI ---- */

static bool function_there(unsigned bus, unsigned fn)
{
	return (pci_r32(pci_rid(bus, 0, fn), PCI_VENDOR_ID) & 0xffff) != 0xffff;
}

/* The chain of function numbers, from function 0 on. With forwarding all can be reached. */
static void check_ari_chain(struct t *t, const struct pci_dev *first, bool forwarded)
{
	const uint32_t segment_bus = first->rid.v & ~0xffu;
	unsigned fn = 0;

	for (;;) {
		const pci_rid_t rid = {segment_bus | fn};
		const unsigned cap = pci_find_ext_cap(rid, PCI_EXT_ARI);
		const unsigned next = cap ? pci_r8(rid, cap + ARI_NEXT) : 0;

		EXPECT_MSG(t, cap != 0, PRIRID ": in the ARI chain without an ARI capability", RIDARG(rid));
		if (next == 0)
			return;
		EXPECT_MSG(t, next > fn, PRIRID ": next function %02x: the chain must ascend", RIDARG(rid),
			   next);
		if (next <= fn || (next > 7 && !forwarded))
			return;
		fn = next;
		EXPECT_MSG(t, function_there(rid_bus(rid), fn), PRIRID ": next function %02x does not answer",
			   RIDARG(rid), fn);
	}
}

/*
 * ARI: functions numbered by eight bits form an ascending chain, and a port forwards to them.
 *
 * PCIe 5.0, 6.13, 7.8.7: with ARI the device number is part of the function number; each function
 * names the next one that exists, 0 ends the chain. A port that can forward to functions above 7 says
 * so in Device Capabilities 2 and has a bit for it that sticks; one that cannot keeps that bit 0.
 * Virtual functions above 7 are out of reach when this is broken.
 */
TEST(pci, ari, "the ARI chain ascends and ends; a port's ARI forwarding bit is what it claims", NEED_PCI)
{
	struct keep *k = keep_start(t);
	unsigned seen = 0;

	FOR_EACH_PCI(d) {
		const bool port = d->port == PCI_PORT_ROOT || d->port == PCI_PORT_DOWNSTREAM;

		if (port && (pci_r16(d->rid, d->cap_pcie + PCIE_FLAGS) & PCIE_VERSION) >= 2) {
			const unsigned off = d->cap_pcie + PCIE_DEVCTL2;
			const bool can = pci_r32(d->rid, d->cap_pcie + PCIE_DEVCAP2) & PCIE_DEVCAP2_ARI;
			const uint32_t old = keep_reg(k, d->rid, off, 2);

			for (unsigned on = 0; on < 2; on++) {
				const uint32_t want =
					on ? old | PCIE_DEVCTL2_ARI : old & ~(uint32_t)PCIE_DEVCTL2_ARI;
				const bool expected = on && can;
				bool got;

				pci_w16(d->rid, off, (uint16_t)want);
				got = pci_r16(d->rid, off) & PCIE_DEVCTL2_ARI;
				EXPECT_MSG(t, got == expected,
					   PRIRID " ARI forwarding set to %u: got %u, expected %u",
					   RIDARG(d->rid), on, got, expected);
			}
			/* Forwarding is on now, if it can be. */
			FOR_EACH_PCI(below)
				if (below->parent == d && rid_devfn(below->rid) == 0 &&
				    pci_find_ext_cap(below->rid, PCI_EXT_ARI))
					check_ari_chain(t, below, can);
			keep_restore(k);
			seen++;
		} else if (!d->parent && pci_find_ext_cap(d->rid, PCI_EXT_ARI) && rid_devfn(d->rid) == 0) {
			check_ari_chain(t, d, false);
			seen++;
		}
	}
	if (!seen)
		test_skip(t, "no port that leads down a link, and no function with ARI");
}

/* ---- AER ---- */

/* Bits that the function has can be written, those that it has not stay 0: nothing else. */
static void check_mask(struct t *t, struct keep *k, const struct pci_dev *d, unsigned off, const char *name)
{
	const uint32_t old = keep_reg(k, d->rid, off, 4);
	uint32_t can, none, half;

	pci_w32(d->rid, off, ~0u);
	can = pci_r32(d->rid, off);
	pci_w32(d->rid, off, 0);
	none = pci_r32(d->rid, off);
	pci_w32(d->rid, off, 0xa5a5a5a5);
	half = pci_r32(d->rid, off);
	EXPECT_MSG(t, (can & ~none) != 0, PRIRID " AER %s: no bit of it can be written (%08x)",
		   RIDARG(d->rid), name, can);
	EXPECT_MSG(t, half == ((0xa5a5a5a5 & can) | none), PRIRID " AER %s: got %08x, expected %08x",
		   RIDARG(d->rid), name, half, (0xa5a5a5a5 & can) | none);
	pci_w32(d->rid, off, old);
	EXPECT_MSG(t, pci_r32(d->rid, off) == old, PRIRID " AER %s: got %08x, expected %08x again",
		   RIDARG(d->rid), name, pci_r32(d->rid, off), old);
}

/*
 * Advanced Error Reporting: masks and severities stick, logged errors are told and can be cleared.
 *
 * PCIe 5.0, 7.8.4. Status bits are cleared by writing 1 to them and by nothing else: a write of 0
 * leaves them. What was logged before this test (by firmware's probing, say) is printed. A VMM that
 * passes a device's AER through half-way (masks that do not stick, errors that cannot be cleared)
 * leaves a guest with an interrupt that never ends.
 */
TEST(pci, aer, "AER masks and severities stick; logged errors are told and cleared", NEED_PCI)
{
	static const struct { unsigned off; const char *name; } status[] = {
		{AER_UNCOR_STATUS, "uncorrectable"}, {AER_COR_STATUS, "correctable"}};
	struct keep *k = keep_start(t);
	unsigned seen = 0;

	FOR_EACH_PCI(d) {
		const unsigned cap = pci_find_ext_cap(d->rid, PCI_EXT_AER);

		if (!cap)
			continue;
		seen++;
		check_mask(t, k, d, cap + AER_UNCOR_MASK, "uncorrectable mask");
		check_mask(t, k, d, cap + AER_UNCOR_SEVERITY, "severity");
		check_mask(t, k, d, cap + AER_COR_MASK, "correctable mask");
		keep_restore(k);
		for (unsigned i = 0; i < ARRAY_SIZE(status); i++) {
			const unsigned off = cap + status[i].off;
			const uint32_t logged = pci_r32(d->rid, off);

			if (logged)
				test_note(t, PRIRID " has logged %s errors %08x", RIDARG(d->rid),
					  status[i].name, logged);
			pci_w32(d->rid, off, 0);
			EXPECT_MSG(t, (pci_r32(d->rid, off) & logged) == logged,
				   PRIRID " %s status: cleared by writing 0", RIDARG(d->rid), status[i].name);
			pci_w32(d->rid, off, logged);
			EXPECT_MSG(t, !(pci_r32(d->rid, off) & logged),
				   PRIRID " %s status: got %08x after clearing %08x", RIDARG(d->rid),
				   status[i].name, pci_r32(d->rid, off), logged);
		}
	}
	if (!seen)
		test_skip(t, "no function with AER");
}
