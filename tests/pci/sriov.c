/* SPDX-License-Identifier: MIT */

#include "drivers/pci/groups.h"
#include "drivers/pci/regs.h"
#include "kernel/cmdline.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "tests/iommu/iommu_test.h"
#include "tests/ir/ir_test.h"
#include "tests/pci/common.h"

#define VFS    4u                        /* asked for at most */
#define BUDGET 30000                     /* ms, for a busy host: a second, and 0.2 s a virtual function */

struct sriov {
	struct t *t;
	struct pci_dev *pf;
	unsigned cap, vfs;
	unsigned worked;                 /* virtual functions that interrupted and did DMA */
};

/* A function that has no domain may have to fetch commands. */
static void untranslated(void)
{
	for (unsigned i = 0; i < iommu_count; i++)
		if (iommus[i].translating)
			iommus[i].ops->disable(&iommus[i]);
}

static void as_before(void *arg)
{
	const char *why;

	exercisers_vfs_off(arg);
	if (cmdline.vfs)
		(void)exercisers_vfs_on(arg, (unsigned)cmdline.vfs, &why);
}

/* "bar0=+4000/64 bar3=+4000/64": what a virtual function has a share of. */
static void bars_text(const struct pci_dev *vf, char *text, size_t size)
{
	size_t len = 0;

	text[0] = 0;
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
		const struct pci_bar *b = &vf->bar[i];

		if (b->size && len < size)
			len += (size_t)fmt_snprintf(text + len, size - len, " bar%u=+%llx%s%s", i, (unsigned long long)b->size,
						    b->is64 ? "/64" : "", b->prefetchable ? "/pref" : "");
	}
}

/* A function where none was: its IDs are the capability's to tell, and read as all ones in its own header. */
static void check_vf(const struct sriov *s, unsigned n)
{
	const pci_rid_t rid = pci_sriov_rid(s->pf, s->cap, n);
	const uint16_t device = pci_r16(s->pf->rid, s->cap + SRIOV_VF_DEVICE);
	const struct pci_dev *vf = pci_find(rid);
	struct t *t = s->t;
	char bars[120] = "";
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
	if (vf)
		bars_text(vf, bars, sizeof(bars));
	test_note(t, "vf " PRIRID " %04x:%04x %06x of " PRIRID "%s%s", RIDARG(rid), s->pf->vendor, device, s->pf->class_code,
		  RIDARG(s->pf->rid), pci_find_cap(rid, PCI_CAP_MSIX) ? " msix" : "", bars);
}

static void check_gone(const struct sriov *s, unsigned n, const char *when)
{
	const pci_rid_t rid = pci_sriov_rid(s->pf, s->cap, n);

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
		test_note(s->t, "group " PRIRID, RIDARG(pci_sriov_rid(s->pf, s->cap, n)));
}

/* Every message arrives once, at the CPU it was aimed at; by an entry of the physical function's none does. */
static void check_messages(const struct sriov *s, struct exerciser *ex, struct delivery *d, enum irq_via via)
{
	const char *why;
	struct irq_source *q = irq_source_open(s->t, ex, via, &why);
	struct t *t = s->t;
	struct iommu_fault f;

	if (!q)
		return;
	for (unsigned i = 0; i < ex->irq_count; i++) {
		irq_source_aim(q, d, i, irq_source_cpu(q, i + 1), 0);
		irq_expect_one(q, d, i, irq_source_cpu(q, i + 1), 0);
	}
	if (via == IRQ_REMAPPED) {
		const unsigned cpu = irq_source_cpu(q, 1);
		const struct irq_route route = {.dest = cpus[cpu]->apic_id, .vector = (uint8_t)d->vector[0]};
		struct iommu *u = q->iommu;

		u->ops->fault_clear(u);
		ASSERT_OK(t, u->ops->irq_update(u, q->irte[0], s->pf->rid, &route));
		ir_expect_nothing(q, d, 0, "its entry the physical function's");
		if (EXPECT_MSG(t, iommu_fault_wait(u, &f, MS(100)) == 0, "%s: fault: got none recorded, expected one",
			       irq_source_name(q)))
			EXPECT_MSG(t, f.interrupt && f.rid.v == ex->dev->rid.v, "%s: fault's source: got " PRIRID ", expected " PRIRID,
				   irq_source_name(q), RIDARG(f.rid), RIDARG(ex->dev->rid));
		ASSERT_OK(t, u->ops->irq_update(u, q->irte[0], ex->rid, &route));
		irq_expect_one(q, d, 0, cpu, 0);
	}
	delivery_finish(d, "%s, at the end", irq_source_name(q));
	irq_source_close(q);
}

/* A domain of its own, what is not mapped there blocked under its own ID; without a unit, the data alone. */
static void check_dma(const struct sriov *s, struct exerciser *ex)
{
	const char *why;
	const size_t len = dma_len(ex, 512);
	struct dma_space *space = dma_space_open(s->t, ex, DMA_TRANSLATED, &why);
	struct t *t = s->t;
	struct dma_target *g;

	if (!space)
		space = dma_space_open(t, ex, DMA_OFF, &why);
	if (!EXPECT_MSG(t, space, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, why))
		return;
	g = dma_target_map(space, PAGE_SIZE, IOMMU_RW);
	REQUIRE_OK(t, dma_load(space, 70 + ex->dev->vf, len));
	EXPECT_OK(t, dma_write(g, 0, len));
	dma_expect_written(g, 0, len, "by a virtual function");
	if (space->mode == DMA_TRANSLATED) {
		struct dma_target *absent = dma_target_alloc(space, PAGE_SIZE);

		dma_faults_clear(space);
		dma_try(space, DMA_WRITE, absent->iova, len);
		dma_expect_untouched(absent, "not mapped");
		dma_expect_fault(space, DMA_WRITE, absent->iova, len, IOMMU_FAULT_NOT_PRESENT, "not mapped");
		EXPECT_EQ(t, ex->rid.v, ex->dev->rid.v);
	}
	dma_space_close(space);
}

static void check_works(struct sriov *s, struct delivery *d)
{
	struct exerciser *owner = s->pf->driver; /* none, or one that is not used (an nvme without a namespace): so its VFs */

	for (unsigned n = 0; n < s->vfs; n++) {
		const struct pci_dev *vf = pci_find(pci_sriov_rid(s->pf, s->cap, n));
		struct exerciser *ex = vf ? vf->driver : NULL;

		EXPECT_MSG(s->t, !owner || owner->broken || (ex && !ex->broken), PRIRID " VF %u: not usable: %s",
			   RIDARG(s->pf->rid), n, ex ? ex->broken : "its physical function gave it nothing");
		if (!ex || ex->broken)
			continue;
		untranslated();
		if (ex->caps & EX_MSIX) {
			check_messages(s, ex, d, IRQ_DIRECT);
			check_messages(s, ex, d, IRQ_REMAPPED);
		}
		if (ex->caps & EX_DMA_WRITE)
			check_dma(s, ex);
		s->worked += (ex->caps & EX_MSIX) && (ex->caps & EX_DMA_WRITE);
	}
}

/*
 * Virtual functions appear where the capability says, as what it says, work under their own IDs, and go again.
 *
 * PCIe 5.0, 9.3.3: VF n is First VF Offset + n * VF Stride after the physical function, may be beyond the
 * bus of that one, has no IDs of its own and no BARs, and shares nothing else. A VMM that gets the arithmetic
 * wrong puts them on other devices' requester IDs; one that leaves them after VF Enable is cleared has DMA
 * from a function that no longer exists. Before and after, nobody answers there. In between each interrupts and
 * does DMA as itself: one that the IOMMU takes for its physical function could not be given to a guest.
 */
TEST_FULL(pci, sriov, 0, BUDGET, "virtual functions appear at the right IDs, interrupt and do DMA under them, and go again",
	  NEED_PCI, NEED_DISRUPTIVE)
{
	struct delivery *d = delivery_open(t, 1);
	unsigned found = 0, worked = 0;
	const char *why;

	FOR_EACH_PCI(pf) {
		struct sriov s = {.t = t, .pf = pf, .cap = pci_sriov_cap(pf)};
		int r;

		if (!s.cap || (pci_r16(pf->rid, s.cap + SRIOV_CONTROL) & SRIOV_VF_ENABLE && !cmdline.vfs))
			continue;
		found++;
		exercisers_vfs_off(pf);
		test_cleanup(t, as_before, pf);
		s.vfs = MIN(VFS, pci_r32(pf->rid, s.cap + SRIOV_INITIAL) & 0xffff);
		pci_w16(pf->rid, s.cap + SRIOV_NUM, (uint16_t)s.vfs);
		for (unsigned n = 0; n < s.vfs; n++)
			check_gone(&s, n, "before it is enabled");
		untranslated();
		r = exercisers_vfs_on(pf, VFS, &why);
		if (!EXPECT_MSG(t, r > 0, PRIRID ": its virtual functions: -%s (%s)", RIDARG(pf->rid), err_name(r),
				r == -ENOSPC ? why : "SR-IOV"))
			continue;
		s.vfs = (unsigned)r;
		EXPECT_EQ(t, pci_r16(pf->rid, s.cap + SRIOV_NUM), s.vfs);
		for (unsigned n = 0; n < s.vfs; n++)
			check_vf(&s, n);
		print_groups(&s);
		check_works(&s, d);
		worked += s.worked;
		exercisers_vfs_off(pf);
		pci_w16(pf->rid, s.cap + SRIOV_NUM, (uint16_t)s.vfs);
		for (unsigned n = 0; n < s.vfs; n++)
			check_gone(&s, n, "after it was disabled");
		pci_w16(pf->rid, s.cap + SRIOV_NUM, 0);
	}
	if (!found)
		test_skip(t, "no function with SR-IOV and virtual functions to enable");
	test_note(t, "virtual functions that interrupted and did DMA: %u", worked);
}
