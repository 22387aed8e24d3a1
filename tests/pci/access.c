/* SPDX-License-Identifier: MIT */

#include "drivers/pci/regs.h"
#include "kernel/acpi/acpi.h"
#include "tests/pci/common.h"

#define TRIES 4

/* By both paths; true if they agree at least once in a few tries: some registers count on their own. */
static bool agree(pci_rid_t rid, unsigned off, uint32_t *ecam, uint32_t *cf8)
{
	for (unsigned i = 0; i < TRIES; i++) {
		*ecam = pci_r32_by(PCI_CFG_ECAM, rid, off);
		*cf8 = pci_r32_by(PCI_CFG_CF8, rid, off);
		if (*ecam == *cf8)
			return true;
	}
	return false;
}

/* Bytes and words are those of the dword, at each place in it. */
static void narrow_reads(struct t *t, pci_rid_t rid)
{
	static const unsigned at[] = {PCI_VENDOR_ID, PCI_CLASS_REVISION, PCI_SUBSYSTEM};

	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		const uint32_t whole = pci_r32(rid, at[i]);
		uint32_t bytes = 0, words = 0;

		for (unsigned b = 0; b < 4; b++)
			bytes |= (uint32_t)pci_r8(rid, at[i] + b) << (8 * b);
		for (unsigned w = 0; w < 4; w += 2)
			words |= (uint32_t)pci_r16(rid, at[i] + w) << (8 * w);
		EXPECT_MSG(t, bytes == whole && words == whole,
			   PRIRID " at %02x: got %08x by bytes and %08x by words, expected %08x", RIDARG(rid),
			   at[i], bytes, words, whole);
	}
}

/* Interrupt Line is a byte of memory for software (PCI 3.0, 6.2.4) where there is an interrupt pin. */
static void write_through(struct t *t, struct keep *k, const struct pci_dev *d)
{
	static const enum pci_cfg_path path[] = {PCI_CFG_ECAM, PCI_CFG_CF8};
	const uint32_t old = keep_reg(k, d->rid, PCI_INT_LINE, 1);
	const uint32_t rest = pci_r32(d->rid, PCI_INT_LINE) & ~0xffu;

	for (unsigned i = 0; i < 2; i++) {
		const uint32_t v = rest | ((old ^ (i ? 0x35 : 0xca)) & 0xff);
		uint32_t got;

		pci_w32_by(path[i], d->rid, PCI_INT_LINE, v);
		got = pci_r32_by(path[1 - i], d->rid, PCI_INT_LINE);
		EXPECT_MSG(t, got == v, PRIRID " interrupt line written by %s: got %02x by %s, expected %02x",
			   RIDARG(d->rid), i ? "CF8" : "ECAM", got & 0xff, i ? "ECAM" : "CF8", v & 0xff);
	}
	keep_restore(k);
}

/* A decoder that drops address bits 11:8 shows the header again in the extended space. */
static void no_alias(struct t *t, const struct pci_dev *d)
{
	unsigned same = 0;

	for (unsigned off = 0; off < 0x40; off += 4)
		same += pci_r32(d->rid, PCI_EXT_CAP_START + off) == pci_r32(d->rid, off);
	EXPECT_MSG(t, same < 16, PRIRID ": the extended space repeats the header", RIDARG(d->rid));
}

/* A function number of bus 0 that nobody has. */
static bool absent_function(pci_rid_t *out)
{
	for (unsigned dev = 31; dev > 0; dev--) {
		*out = pci_rid(0, dev, 0);
		if (!pci_find(*out))
			return true;
	}
	return false;
}

/*
 * ECAM and the CF8/CFC ports show the same configuration space.
 *
 * PCIe 5.0, 7.2.2 (ECAM) and PCI 3.0, 3.2.2.3.2 (CF8/CFC): two ways to the same registers, for reads
 * and writes, of bytes, words and dwords. A function that is not there reads as all ones by both.
 * An MCFG that gives the wrong base or bus range, or a VMM that routes one path past the device (a
 * shadow of the header, bus number bits dropped) breaks it. So does an ECAM that cannot be used at
 * all: the driver then says why.
 */
TEST(pci, config_paths, "ECAM and CF8/CFC agree on the first 256 bytes of every function", NEED_PCI,
     NEED_ECAM)
{
	struct keep *k = keep_start(t);
	pci_rid_t nobody;

	ASSERT_MSG(t, pci_cfg_has(PCI_CFG_ECAM, pci_devs->rid), "there is an MCFG table, but: %s",
		   pci_cfg_summary());
	if (!pci_cfg_has(PCI_CFG_CF8, pci_devs->rid))
		test_skip(t, "only one path: no CF8/CFC ports");
	FOR_EACH_PCI(d) {
		if (!pci_cfg_has(PCI_CFG_ECAM, d->rid) || !pci_cfg_has(PCI_CFG_CF8, d->rid)) {
			test_note(t, PRIRID " is reached by one path only", RIDARG(d->rid));
			continue;
		}
		for (unsigned off = 0; off < PCI_CFG_SIZE; off += 4) {
			uint32_t ecam, cf8;
			const bool ok = agree(d->rid, off, &ecam, &cf8);

			EXPECT_MSG(t, ok, PRIRID " at %02x: got %08x by CF8, expected %08x as by ECAM",
				   RIDARG(d->rid), off, cf8, ecam);
		}
		narrow_reads(t, d->rid);
		if (d->int_pin)
			write_through(t, k, d);
		if (d->cap_pcie)
			no_alias(t, d);
	}
	if (!absent_function(&nobody))
		return;
	EXPECT_EQ(t, pci_r32_by(PCI_CFG_ECAM, nobody, PCI_VENDOR_ID), PCI_ABSENT);
	EXPECT_EQ(t, pci_r32_by(PCI_CFG_CF8, nobody, PCI_VENDOR_ID), PCI_ABSENT);
}

/* ---- topology ---- */

static bool is_link(const struct pci_dev *bridge)
{
	return bridge && (bridge->port == PCI_PORT_ROOT || bridge->port == PCI_PORT_DOWNSTREAM);
}

static struct pci_dev *bridge_to(unsigned segment, unsigned bus)
{
	FOR_EACH_PCI(d)
		if (d->is_bridge && bus && d->secondary == bus && rid_seg(d->rid) == segment)
			return d;
	return NULL;
}

static void check_bridge(struct t *t, const struct pci_dev *d)
{
	const uint32_t buses = pci_r32(d->rid, BRIDGE_BUSES);
	const unsigned pri = FIELD_GET(BRIDGE_PRIMARY, buses), sec = FIELD_GET(BRIDGE_SECONDARY, buses),
		       sub = FIELD_GET(BRIDGE_SUBORDINATE, buses);

	EXPECT_MSG(t, sec == d->secondary && sub == d->subordinate,
		   PRIRID ": got buses %02x-%02x, expected %02x-%02x as when it was scanned", RIDARG(d->rid),
		   sec, sub, d->secondary, d->subordinate);
	EXPECT_MSG(t, pri == rid_bus(d->rid), PRIRID ": primary bus: got %02x, expected %02x", RIDARG(d->rid),
		   pri, rid_bus(d->rid));
	EXPECT_MSG(t, sec > rid_bus(d->rid) && sub >= sec,
		   PRIRID ": secondary %02x, subordinate %02x on bus %02x", RIDARG(d->rid), sec, sub,
		   rid_bus(d->rid));
	if (d->parent)
		EXPECT_MSG(t, sec > d->parent->secondary && sub <= d->parent->subordinate,
			   PRIRID ": buses %02x-%02x are not inside %02x-%02x of " PRIRID " above",
			   RIDARG(d->rid), sec, sub, d->parent->secondary, d->parent->subordinate,
			   RIDARG(d->parent->rid));
	for (const struct pci_dev *o = d->next; o; o = o->next)
		if (o->is_bridge && o->parent == d->parent && rid_seg(o->rid) == rid_seg(d->rid))
			EXPECT_MSG(t, o->secondary > sub || o->subordinate < sec,
				   PRIRID " and " PRIRID ": buses %02x-%02x and %02x-%02x overlap",
				   RIDARG(d->rid), RIDARG(o->rid), sec, sub, o->secondary, o->subordinate);
	/* PCIe 5.0, 1.3.3: a switch is one upstream port with downstream ports behind it. */
	if (d->port == PCI_PORT_DOWNSTREAM)
		EXPECT_MSG(t, d->parent && d->parent->port == PCI_PORT_UPSTREAM,
			   PRIRID ": a downstream port without an upstream port above", RIDARG(d->rid));
	if (d->port == PCI_PORT_UPSTREAM)
		EXPECT_MSG(t, is_link(d->parent), PRIRID ": an upstream port without a port above",
			   RIDARG(d->rid));
	if (d->port == PCI_PORT_ROOT)
		EXPECT_MSG(t, !d->parent, PRIRID ": a root port below a bridge", RIDARG(d->rid));
}

static void check_place(struct t *t, const struct pci_dev *d)
{
	const struct pci_dev *up = bridge_to(rid_seg(d->rid), rid_bus(d->rid));

	EXPECT_MSG(t, d->parent == up, PRIRID ": the bridge to its bus: got " PRIRID ", expected " PRIRID,
		   RIDARG(d->rid), RIDARG(up ? up->rid : (pci_rid_t){0}),
		   RIDARG(d->parent ? d->parent->rid : (pci_rid_t){0}));
	EXPECT_MSG(t, d->root_bus == (up ? up->root_bus : rid_bus(d->rid)), PRIRID ": got root bus %02x",
		   RIDARG(d->rid), d->root_bus);
	if (!d->next)
		return;
	EXPECT_MSG(t, d->next->rid.v > d->rid.v, PRIRID " comes before " PRIRID, RIDARG(d->rid),
		   RIDARG(d->next->rid));
}

/* Is the function there, and in the list? Both or neither. */
static bool look(struct t *t, unsigned bus, unsigned dev, unsigned fn, bool *multi)
{
	const pci_rid_t rid = pci_rid(bus, dev, fn);
	const bool cf8 = pci_cfg_has(PCI_CFG_CF8, rid);
	const uint32_t id = cf8 ? pci_r32_by(PCI_CFG_CF8, rid, PCI_VENDOR_ID) : pci_r32(rid, PCI_VENDOR_ID);
	const bool there = (id & 0xffff) != 0xffff && (id & 0xffff) != 0;
	const struct pci_dev *d;

	/* Nearly all of the bus numbers have nobody, and nobody in the list. */
	if (!there && !*multi)
		return false;
	d = pci_find(rid);
	EXPECT_MSG(t, there == (d != NULL), PRIRID ": answers %08x, and %s found by the walk", RIDARG(rid),
		   id, d ? "was" : "was not");
	if (there && fn == 0)
		*multi = pci_r8(rid, PCI_HEADER_TYPE) & PCI_HEADER_MULTI;
	return there;
}

/* Everything that answers in segment 0, without regard to bridges. */
static unsigned look_everywhere(struct t *t, unsigned first, unsigned last)
{
	unsigned found = 0;

	for (unsigned bus = first; bus <= last; bus++) {
		/* What answers at other device numbers behind a link is its one device again. */
		const unsigned devs = is_link(bridge_to(0, bus)) ? 1 : 32;

		for (unsigned dev = 0; dev < devs; dev++) {
			bool multi = false;

			if (!look(t, bus, dev, 0, &multi))
				continue;
			found++;
			for (unsigned fn = 1; multi && fn < 8; fn++)
				found += look(t, bus, dev, fn, &multi);
		}
	}
	return found;
}

/*
 * The walk along the bridges finds exactly the functions that answer, on all root buses.
 *
 * PCI-to-PCI Bridge 1.2, 3.2.5.3: a bridge forwards to its secondary bus and, up to its subordinate
 * one, to those behind it; so the ranges nest, and those of neighbours do not meet. The other side
 * is a look at every bus and device number there is, which needs no bridge to be right: a function
 * that answers but was not reached (a bus that no bridge leads to, a second root that was missed,
 * function 0 that denies having others) fails it, and so does one in the list that no longer answers.
 */
TEST(pci, topology, "every bus behind every bridge is found, several roots too; bus numbers nest", NEED_PCI)
{
	unsigned listed = 0, far = 0, found, first = 0, last = 0xff;

	EXPECT_MSG(t, !pci_scan_report.problem, "the scan found fault: %s", pci_scan_report.problem);
	FOR_EACH_PCI(d) {
		listed += rid_seg(d->rid) == 0;
		far += rid_seg(d->rid) == 0 && is_link(d->parent) && rid_devfn(d->rid) > 7; /* by ARI only */
		check_place(t, d);
		if (d->is_bridge)
			check_bridge(t, d);
	}
	for (unsigned i = 0; acpi.has_mcfg && i < acpi.mcfg.count; i++) {
		if (acpi.mcfg.alloc[i].segment != 0 || !pci_cfg_has(PCI_CFG_ECAM, (pci_rid_t){0}))
			continue;
		first = acpi.mcfg.alloc[i].bus_first;
		last = acpi.mcfg.alloc[i].bus_last;
		break;
	}
	found = look_everywhere(t, first, last);
	EXPECT_MSG(t, found == listed - far,
		   "segment 0: got %u functions that answer, expected the %u of the list", found,
		   listed - far);
	test_note(t, "%u functions on %u buses, %u root buses", pci_scan_report.functions,
		  pci_scan_report.buses, pci_scan_report.roots);
}
