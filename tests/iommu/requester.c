/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

/* Every device that does DMA behind a unit, the slow ones too; one after the other. */
#define FOR_EACH_REQUESTER(t, ex)                                                                  \
	for (struct exerciser *ex = dma_next_exerciser(t, NULL, EX_DMA_WRITE, true); ex;           \
	     ex = dma_next_exerciser(t, ex, EX_DMA_WRITE, true))

/* The source of the fault that a write to memory that is not mapped leaves. */
static bool source_of(struct dma_space *s, const struct dma_target *absent, struct iommu_fault *f)
{
	dma_faults_clear(s);
	dma_try(s, DMA_WRITE, absent->iova, dma_len(s->ex, 512));
	return EXPECT_MSG(s->t, iommu_fault_wait(s->iommu, f, MS(100)) == 0,
			  "%s: fault: got none recorded, expected one that names its source", s->name);
}

static bool id_taken(const struct dma_job *job, unsigned n, const struct exerciser *ex)
{
	for (unsigned i = 0; i < n; i++)
		if (job[i].space->ex->rid.v == ex->rid.v)
			return true;
	return false;
}

/*
 * Every device that can, each in a domain of its own, with its bytes loaded: all at once, for some are slow. Behind one
 * bridge they share an ID, and it has one domain: the second of them is for the next round.
 */
static unsigned open_requesters(struct t *t, struct dma_target **absent, struct dma_target **mapped, struct dma_job *write,
				bool *done)
{
	struct dma_job read[EXERCISER_MAX];
	unsigned n = 0, reads = 0;
	const char *why;

	FOR_EACH_REQUESTER(t, ex) {
		const size_t len = dma_len(ex, 512);
		struct dma_space *s;

		if (done[ex - exercisers] || id_taken(write, n, ex))
			continue;
		done[ex - exercisers] = true;
		s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!s)
			continue;
		mapped[n] = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		absent[n] = dma_target_alloc(s, PAGE_SIZE);
		write[n] = (struct dma_job){.space = s, .dir = DMA_WRITE, .addr = mapped[n]->iova, .len = len};
		n++;
		if (!(ex->caps & EX_DMA_COPY))
			continue;
		dma_load_prepare(s, 60, len);
		read[reads++] = (struct dma_job){.space = s, .dir = DMA_READ, .addr = s->source->iova, .len = len};
	}
	dma_run(read, reads);
	for (unsigned i = 0; i < reads; i++)
		REQUIRE_OK(t, read[i].result);
	return n;
}

/* The ID of what is blocked is the one that the topology gives. */
static void check_id(struct t *t, struct dma_target *absent)
{
	const struct exerciser *ex = absent->space->ex;
	const pci_rid_t want = pci_requester_id(ex->dev);
	struct iommu_fault f;

	EXPECT_EQ(t, ex->rid.v, want.v);
	if (source_of(absent->space, absent, &f)) {
		EXPECT_MSG(t, f.rid.v == want.v, PRIRID " %s: fault's source: got " PRIRID ", expected " PRIRID,
			   RIDARG(ex->dev->rid), ex->ops->name, RIDARG(f.rid), RIDARG(want));
		test_note(t, PRIRID " %s is seen as " PRIRID, RIDARG(ex->dev->rid), ex->ops->name, RIDARG(f.rid));
	}
	dma_expect_untouched(absent, "not mapped");
}

static void round_of(struct t *t, struct dma_target **absent, struct dma_target **mapped, struct dma_job *write, unsigned n)
{
	for (unsigned i = 0; i < MAX(n, 2u); i++) {
		struct dma_job *beside = i == 0 ? write + 1 : write;
		const unsigned count = i == 0 ? n - 1 : i == 1;

		dma_begin(beside, count);
		if (i < n)
			check_id(t, absent[i]);
		dma_finish(beside, count);
	}
	for (unsigned i = 0; i < n; i++) {
		EXPECT_MSG(t, write[i].result == 0, "%s writes under its ID: got -%s, expected success", write[i].space->name,
			   err_name(write[i].result));
		dma_expect_written(mapped[i], 0, write[i].len, "under its ID");
		dma_space_close(write[i].space);
	}
}

/*
 * The unit sees each function under the ID that we work out from the topology.
 *
 * PCIe-to-PCI Bridge 2.3, VT-d 3.4.1: its own, or the secondary bus of the bridge that it is behind. A
 * transfer that is translated shows that the ID has a domain, a blocked one says the ID itself. Wrong IDs
 * are how a device is put into another one's domain. One is blocked at a time, since a unit may have a single
 * fault record; beside the first the others write where they may, and the first beside the second.
 */
TEST(pci, requester_ids, "the IOMMU sees each function under the ID that the topology gives it", NEED_PCI,
     NEED_IOMMU_TRANSLATION)
{
	struct dma_target *absent[EXERCISER_MAX], *mapped[EXERCISER_MAX];
	struct dma_job write[EXERCISER_MAX];
	bool done[EXERCISER_MAX] = {false};
	unsigned n, devices = 0;

	while ((n = open_requesters(t, absent, mapped, write, done)) > 0) {
		round_of(t, absent, mapped, write, n);
		devices += n;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU");
}

/*
 * Behind a PCIe-to-PCI bridge a function has no ID of its own: the bridge's counts, and that alone.
 *
 * PCIe-to-PCI Bridge 2.3: the bridge takes ownership, with its secondary bus and devfn 0. A domain
 * attached to the function's own ID must do nothing; one attached to the bridge's translates.
 */
TEST(iommu, bridge_alias, "behind a PCIe-to-PCI bridge a device is translated and faulted under the bridge's ID",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_REQUESTER(t, ex) {
		const size_t len = dma_len(ex, 512);
		const pci_rid_t own = ex->dev->rid, alias = pci_requester_id(ex->dev);
		struct dma_space *s = own.v != alias.v ? dma_space_open(t, ex, DMA_TRANSLATED, &why) : NULL;
		struct dma_target *g, *absent;
		struct iommu_fault f;
		int r;

		if (!s)
			continue;
		g = dma_target_map(s, PAGE_SIZE, IOMMU_RW);
		absent = dma_target_alloc(s, PAGE_SIZE);
		REQUIRE_OK(t, dma_load(s, 61, len));
		EXPECT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "under the bridge's ID");
		if (source_of(s, absent, &f))
			EXPECT_MSG(t, f.rid.v == alias.v && f.reason != IOMMU_FAULT_NO_DOMAIN,
				   "%s: fault: got %s by " PRIRID ", expected one of its pages by " PRIRID, s->name,
				   iommu_reason_name(f.reason), RIDARG(f.rid), RIDARG(alias));
		dma_expect_untouched(absent, "not mapped");

		REQUIRE_OK(t, dma_space_detach(s));
		/* A unit that has a list of its endpoints knows none of that ID. */
		r = s->iommu->ops->attach(&s->domain, own);
		if (r != -ENOENT)
			REQUIRE_OK(t, r);
		dma_target_fill(g, 910);
		if (source_of(s, g, &f))
			EXPECT_MSG(t, f.rid.v == alias.v && f.reason == IOMMU_FAULT_NO_DOMAIN,
				   "%s: fault, attached by its own ID: got %s by " PRIRID ", expected no domain of " PRIRID,
				   s->name, iommu_reason_name(f.reason), RIDARG(f.rid), RIDARG(alias));
		dma_expect_untouched(g, "attached by its own ID");
		if (r == 0)
			REQUIRE_OK(t, s->iommu->ops->detach(&s->domain, own));
		REQUIRE_OK(t, dma_space_attach(s));
		dma_faults_clear(s);
		REQUIRE_OK(t, dma_load(s, 62, len));
		EXPECT_OK(t, dma_write(g, 0, len));
		dma_expect_written(g, 0, len, "under the bridge's ID again");
		dma_space_close(s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that does DMA behind a PCIe-to-PCI bridge (pcie-pci-bridge) and an IOMMU");
}
