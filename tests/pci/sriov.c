/* SPDX-License-Identifier: MIT */

#include "drivers/pci/bar.h"
#include "drivers/pci/cap.h"
#include "drivers/pci/groups.h"
#include "drivers/pci/regs.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/time/time.h"
#include "tests/pci/common.h"

#define VFS       4u                     /* asked for at most */
#define READY_NS  MS(100)                /* PCIe 5.0, 9.3.3.3.1: from VF Enable to the first request */

struct sriov {
	struct t *t;
	const struct pci_dev *pf;
	unsigned cap, vfs;
};

static void all_off(void *arg)
{
	const struct sriov *s = arg;

	pci_w16(s->pf->rid, s->cap + SRIOV_CONTROL, 0);
	pci_w16(s->pf->rid, s->cap + SRIOV_NUM, 0);
}

static void all_on(const struct sriov *s)
{
	pci_w16(s->pf->rid, s->cap + SRIOV_NUM, (uint16_t)s->vfs);
	pci_w16(s->pf->rid, s->cap + SRIOV_CONTROL, SRIOV_VF_ENABLE | SRIOV_VF_MSE);
	delay(READY_NS);
}

/* First VF Offset and VF Stride may change with NumVFs: they are read after it. */
static pci_rid_t vf_rid(const struct sriov *s, unsigned n)
{
	const uint32_t word = pci_r32(s->pf->rid, s->cap + SRIOV_OFFSET);

	return (pci_rid_t){s->pf->rid.v + (word & 0xffff) + n * (SABOTAGE(sriov_stride) ? 1 : word >> 16)};
}

static bool reachable(const struct sriov *s, pci_rid_t rid)
{
	const struct pci_dev *up = s->pf->parent;

	return rid_bus(rid) == rid_bus(s->pf->rid) || (up && rid_bus(rid) <= up->subordinate);
}

/* "bar0=+4000/64 bar3=+4000/64": what each virtual function has a share of. Decoding is off. */
static void bars_text(const struct sriov *s, char *text, size_t size)
{
	size_t len = 0;

	text[0] = 0;
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
		const struct bar_probe lo = bar_probe(s->pf->rid, s->cap + SRIOV_BAR(i), ~0u);
		struct bar_probe hi;
		struct pci_bar bar;
		const bool wide = FIELD_GET(BAR_MEM_TYPE, lo.value) == BAR_MEM_64 && i + 1 < PCI_BAR_COUNT;
		const char *wrong;

		if (wide)
			hi = bar_probe(s->pf->rid, s->cap + SRIOV_BAR(i + 1), ~0u);
		wrong = bar_decode(lo, wide ? &hi : NULL, &bar);
		EXPECT_MSG(s->t, !wrong && !bar.io, PRIRID " BAR %u of its virtual functions: %s", RIDARG(s->pf->rid), i,
			   wrong ? wrong : "is one of I/O");
		if (bar.size && len < size)
			len += (size_t)fmt_snprintf(text + len, size - len, " bar%u=+%llx%s%s", i,
						    (unsigned long long)bar.size, bar.is64 ? "/64" : "",
						    bar.prefetchable ? "/pref" : "");
		i += wide;
	}
}

/* A function where none was: its IDs are the capability's to tell, and read as all ones in its own header. */
static void check_vf(const struct sriov *s, unsigned n, const char *bars)
{
	const pci_rid_t rid = vf_rid(s, n);
	const uint16_t device = pci_r16(s->pf->rid, s->cap + SRIOV_VF_DEVICE);
	struct t *t = s->t;
	unsigned at;

	EXPECT_MSG(t, pci_r16(rid, PCI_VENDOR_ID) == 0xffff && pci_r8(rid, PCI_HEADER_TYPE) == PCI_HEADER_NORMAL,
		   PRIRID " VF %u of " PRIRID ": got IDs %08x and header type %02x, expected ffffffff and 00", RIDARG(rid), n,
		   RIDARG(s->pf->rid), pci_r32(rid, PCI_VENDOR_ID), pci_r8(rid, PCI_HEADER_TYPE));
	EXPECT_MSG(t, pci_r32(rid, PCI_CLASS_REVISION) >> 8 == s->pf->class_code,
		   PRIRID " VF %u: got class %06x, expected its physical function's %06x", RIDARG(rid), n,
		   pci_r32(rid, PCI_CLASS_REVISION) >> 8, s->pf->class_code);
	for (unsigned off = PCI_BAR(0); off < PCI_BAR(6); off += 4)
		EXPECT_MSG(t, pci_r32(rid, off) == 0, PRIRID " VF %u: its own BAR at %02x is %08x, not 0", RIDARG(rid), n, off,
			   pci_r32(rid, off));
	EXPECT_MSG(t, pci_find_cap(rid, PCI_CAP_PCIE), PRIRID " VF %u: no PCI Express capability", RIDARG(rid), n);
	EXPECT_MSG(t, !pci_check_caps(rid, &at), PRIRID " VF %u: %s at %03x", RIDARG(rid), n, pci_check_caps(rid, &at), at);
	test_note(t, "vf " PRIRID " %04x:%04x %06x of " PRIRID "%s%s", RIDARG(rid), s->pf->vendor, device, s->pf->class_code,
		  RIDARG(s->pf->rid), pci_find_cap(rid, PCI_CAP_MSIX) ? " msix" : "", bars);
}

static void check_gone(const struct sriov *s, unsigned n, const char *when)
{
	const pci_rid_t rid = vf_rid(s, n);

	EXPECT_MSG(s->t, pci_r32(rid, PCI_CLASS_REVISION) == PCI_ABSENT,
		   PRIRID " VF %u of " PRIRID ": answers %s: class and revision %08x", RIDARG(rid), n, RIDARG(s->pf->rid), when,
		   pci_r32(rid, PCI_CLASS_REVISION));
}

/* Groups as the host forms them: a virtual function stands alone where the way up does. */
static void print_groups(const struct sriov *s)
{
	bool alone = true;
	unsigned depth = 0;

	for (const struct pci_dev *up = s->pf->parent; up && depth < 256; up = up->parent, depth++)
		alone = alone && pci_isolates(up);
	for (unsigned n = 0; alone && n < s->vfs; n++)
		test_note(s->t, "group " PRIRID, RIDARG(vf_rid(s, n)));
}

/*
 * Virtual functions appear where the capability says, as what it says, and go when they are switched off.
 *
 * PCIe 5.0, 9.3.3: VF n is First VF Offset + n * VF Stride after the physical function, may be beyond the
 * bus of that one, has no IDs of its own and no BARs, and shares nothing else. A VMM that gets the arithmetic
 * wrong puts them on other devices' requester IDs; one that leaves them after VF Enable is cleared has DMA
 * from a function that no longer exists. Before and after, nobody answers there.
 */
TEST(pci, sriov, "virtual functions appear at the right IDs, as what the capability says, and go again", NEED_PCI,
     NEED_DISRUPTIVE)
{
	static struct sriov all[16];
	unsigned found = 0;
	char bars[120];

	FOR_EACH_PCI(d) {
		const unsigned cap = d->cap_pcie ? pci_find_ext_cap(d->rid, PCI_EXT_SRIOV) : 0;
		struct sriov *s = &all[found];

		if (!cap || found == ARRAY_SIZE(all) || !(pci_r32(d->rid, cap + SRIOV_INITIAL) & 0xffff))
			continue;
		if (pci_r16(d->rid, cap + SRIOV_CONTROL) & SRIOV_VF_ENABLE)
			continue;
		found++;
		*s = (struct sriov){.t = t, .pf = d, .cap = cap};
		s->vfs = MIN(VFS, pci_r32(d->rid, cap + SRIOV_INITIAL) & 0xffff);
		test_cleanup(t, all_off, s);
		pci_w16(d->rid, cap + SRIOV_NUM, (uint16_t)s->vfs);
		while (s->vfs > 1 && !reachable(s, vf_rid(s, s->vfs - 1)))
			s->vfs--;
		for (unsigned n = 0; n < s->vfs; n++)
			check_gone(s, n, "before it is enabled");
		bars_text(s, bars, sizeof(bars));
		all_on(s);
		EXPECT_EQ(t, pci_r16(d->rid, cap + SRIOV_NUM), s->vfs);
		for (unsigned n = 0; n < s->vfs; n++)
			check_vf(s, n, bars);
		print_groups(s);
		pci_w16(d->rid, cap + SRIOV_CONTROL, 0);
		for (unsigned n = 0; n < s->vfs; n++)
			check_gone(s, n, "after it was disabled");
		pci_w16(d->rid, cap + SRIOV_NUM, 0);
	}
	if (!found)
		test_skip(t, "no function with SR-IOV and virtual functions to enable");
}
