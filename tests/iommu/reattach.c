/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

#define MOVES 8

/* The device in one of two domains, which give one address two pages. */
struct mover {
	struct dma_space *s;
	struct iommu_domain second;
	struct dma_target *page[2];      /* [0] in s->domain; [1] at the same address in the second */
	bool in_second;
	unsigned looks;                  /* at its ring, while it had no domain */
};

static void end_second(void *arg)
{
	struct mover *m = arg;

	if (!m->second.priv)
		return;
	m->s->ex->ops->quiesce(m->s->ex);
	m->s->ex->ready = false;
	if (m->in_second)
		m->second.iommu->ops->detach(&m->second, m->s->ex->rid);
	m->second.iommu->ops->domain_fini(&m->second);
	m->second.priv = NULL;
}

/* What the device fetches by itself has its place in the second domain too. */
static void make_second(struct t *t, struct mover *m)
{
	const struct exerciser *ex = m->s->ex;

	m->second = (struct iommu_domain){.iommu = m->s->iommu};
	REQUIRE_OK(t, m->s->iommu->ops->domain_init(&m->second, false));
	for (unsigned i = 0; i < ex->own_count; i++) {
		const uint64_t base = align_down(ex->own[i].pa.v, PAGE_SIZE);
		const uint64_t end = align_up(ex->own[i].pa.v + ex->own[i].size, PAGE_SIZE);

		REQUIRE_OK(t, iommu_map(&m->second, iova(base), gpa(base), end - base, IOMMU_RW));
	}
	m->page[0] = dma_target_map(m->s, PAGE_SIZE, IOMMU_RW);
	m->page[1] = dma_target_alloc(m->s, PAGE_SIZE);
	REQUIRE_OK(t, iommu_map(&m->second, m->page[0]->iova, m->page[1]->pa, PAGE_SIZE, IOMMU_RW));
}

static void move(struct t *t, struct mover *m)
{
	if (m->in_second) {
		m->in_second = false;
		ASSERT_OK(t, m->s->iommu->ops->detach(&m->second, m->s->ex->rid));
		ASSERT_OK(t, dma_space_attach(m->s));
	} else {
		ASSERT_OK(t, dma_space_detach(m->s));
		ASSERT_OK(t, m->s->iommu->ops->attach(&m->second, m->s->ex->rid));
		m->in_second = true;
	}
}

static void fill_both(struct mover *m, uint32_t seed)
{
	dma_target_fill(m->page[0], seed);
	dma_target_fill(m->page[1], seed);
}

/*
 * A device may look at its ring whenever it likes, also in the moment between two domains: it is in error then, rightly
 * (QEMU's virtio-rng can: a request to the host from before its reset is answered after it). That is no fault, once; it is to be
 * started anew, and what it fetches for that is in the second domain too. Again and again it would be the unit's.
 */
static bool looked_at_its_ring(struct mover *m, uint64_t ns)
{
	struct exerciser *ex = m->s->ex;
	struct iommu_fault f;
	bool own = false;

	if (iommu_fault_wait(m->s->iommu, &f, ns) < 0 || f.rid.v != ex->rid.v)
		return false;
	for (unsigned i = 0; i < ex->own_count; i++)
		own |= f.iova.v >= align_down(ex->own[i].pa.v, PAGE_SIZE) &&
		       f.iova.v < ex->own[i].pa.v + ex->own[i].size;
	if (own) {
		m->looks++;
		ex->ops->quiesce(ex);
		ex->ready = false;
		dma_faults_clear(m->s);
	}
	return own;
}

static int write_when_idle(struct mover *m, size_t len)
{
	const int r = dma_write(m->page[0], 0, len);

	return r == -EIO && !m->looks && looked_at_its_ring(m, MS(100)) ? dma_write(m->page[0], 0, len) : r;
}

/* Written here, and not there. */
static void expect_here(struct mover *m, size_t len, const char *what)
{
	dma_expect_written(m->page[m->in_second], 0, len, what);
	dma_expect_untouched(m->page[!m->in_second], what);
}

/* One transfer is on its way while the device is moved: it ends in one of the domains, or is blocked. */
static void move_under_way(struct t *t, struct mover *m, size_t len, unsigned caught[3])
{
	const uint8_t before[2] = {m->page[0]->va[0], m->page[1]->va[0]};
	struct dma_job job = {.space = m->s, .dir = DMA_WRITE, .addr = m->page[0]->iova, .len = len};
	struct iommu_fault f;
	bool reached[2];

	dma_begin(&job, 1);
	move(t, m);
	dma_finish(&job, 1);
	for (unsigned i = 0; i < 2; i++) {
		reached[i] = m->page[i]->va[0] != before[i];
		if (reached[i])
			dma_expect_written(m->page[i], 0, len, "moved under way");
		else
			dma_expect_untouched(m->page[i], "moved under way");
	}
	EXPECT_MSG(t, !reached[0] || !reached[1], "%s: one write reached both domains' pages", m->s->name);
	/* A device may not notice that it was blocked (QEMU's nvme by way of a bounce buffer, edu): the unit does. */
	if (job.result == 0 && !reached[0] && !reached[1])
		EXPECT_MSG(t, iommu_fault_wait(m->s->iommu, &f, MS(100)) == 0,
			   "%s: the device says it is done, neither domain's page has the bytes, and no fault says why",
			   m->s->name);
	caught[reached[0] || reached[1] ? (reached[m->in_second] ? 1 : 0) : 2]++;
	if (job.result != 0) {          /* it was blocked, and may be in error over it */
		m->s->ex->ops->quiesce(m->s->ex);
		m->s->ex->ready = false;
	} else {
		(void)looked_at_its_ring(m, 0);
	}
	dma_faults_clear(m->s);
}

/*
 * A device that is moved from one domain to another reaches the new one's pages, and the old one's no more.
 *
 * VT-d 6.2.2.1, 6.5.3.3: the context entry is cached, and translations under its old domain ID are too;
 * AMD-Vi 2.2.2.3, INVALIDATE_DEVTAB_ENTRY. Both domains map the same address, each to a page of its own, so
 * that whatever is kept of the old one shows as bytes in the wrong page. Translation stays on, as when an
 * operating system hands a device to a guest. With a transfer on its way during the move, old and new are
 * both right, and so is a block between them; a mixture, or any other memory, is not.
 */
TEST(iommu, reattach, "a device moved between domains, idle or under way, reaches the one it is in and no other",
     NEED_IOMMU_TRANSLATION)
{
	unsigned devices = 0;
	const char *why;

	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		struct mover *m = test_alloc(t, sizeof(*m));
		const size_t len = dma_len(ex, PAGE_SIZE);
		/* There and back, on what is slow by nature. */
		const unsigned moves = ex->dma_ms || kvm_emulates() ? 2 : MOVES;
		unsigned caught[3] = {0};

		m->s = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!m->s)
			continue;
		test_cleanup(t, end_second, m);
		make_second(t, m);
		REQUIRE_OK(t, dma_load(m->s, 60, len)); /* in the first domain: the second does not map its source */

		for (unsigned i = 0; i < moves; i++) {
			fill_both(m, 1000 + i);
			ASSERT_OK(t, write_when_idle(m, len));
			expect_here(m, len, m->in_second ? "in the second domain" : "in the first domain");
			move(t, m);
		}
		if (!m->looks)
			(void)looked_at_its_ring(m, 0);
		dma_expect_no_fault(m->s, "moved while idle");

		for (unsigned i = 0; i < moves; i++) {
			fill_both(m, 1100 + i);
			move_under_way(t, m, len, caught);
			fill_both(m, 1200 + i);
			ASSERT_OK(t, dma_write(m->page[0], 0, len));
			expect_here(m, len, "after the move");
		}
		test_note(t, "%s: of %u writes under way %u ended in the old domain, %u in the new one, %u were blocked",
			  m->s->name, moves, caught[0], caught[1], caught[2]);
		if (m->looks)
			test_note(t, "%s: looked at its ring in %u moves, while it had no domain", m->s->name, m->looks);
		end_second(m);
		dma_space_close(m->s);
		devices++;
	}
	if (devices == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU");
}
