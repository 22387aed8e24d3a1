/* SPDX-License-Identifier: MIT */

#include "kernel/lib/string.h"
#include "tests/iommu/iommu_test.h"

#define ROUNDS 40
#define WAITS  100u                  /* a round: no divisor of any ring's size, so that all slots are used */

struct queue_user { struct iommu *u; struct dma_buf words; bool under_way; };

static void finish(void *arg)
{
	struct queue_user *q = arg;

	if (q->u->translating)
		q->u->ops->disable(q->u);
	/* What the unit may still write to is nobody's memory any more. */
	if (!q->under_way)
		dma_free(&q->words);
}

static uint32_t word(const struct queue_user *q, unsigned k)
{
	return ((volatile uint32_t *)q->words.va)[2 * k];
}

/* The last that has come, first + n - 1 in the end; from there downwards all must have come. */
static bool in_order(const struct queue_user *q, uint32_t first, unsigned *hole)
{
	unsigned k = WAITS;

	while (k > 0 && word(q, k - 1) != first + k - 1)
		k--;
	for (unsigned i = k; i-- > 0;) {
		if (word(q, i) != first + i) {
			*hole = i;
			return false;
		}
	}
	return true;
}

/* All come, none before the one in front of it. */
static void waits(struct t *t, struct queue_user *q, uint32_t first, const char *when)
{
	unsigned hole = 0;
	bool order = true;

	ASSERT_OK(t, q->u->ops->queue_waits(q->u, q->words.pa, WAITS, first));
	q->under_way = true;
	q->under_way = !WAIT_FOR(!(order = order && in_order(q, first, &hole)) || word(q, WAITS - 1) == first + WAITS - 1,
				 SEC(1));
	ASSERT_MSG(t, order, "%s, wait %u: got a later one done, expected it before", when, hole);
	ASSERT_MSG(t, !q->under_way, "%s, the last of %u waits: got 0x%x, expected 0x%x", when, WAITS,
		   word(q, WAITS - 1), first + WAITS - 1);
	for (unsigned k = 0; k < WAITS; k++)
		ASSERT_MSG(t, word(q, k) == first + k, "%s, wait %u: got 0x%x, expected 0x%x", when, k, word(q, k),
			   first + k);
}

static void one_unit(struct t *t, struct iommu *u)
{
	struct queue_user *q = test_alloc(t, sizeof(*q));
	struct iommu_fault f;
	uint32_t next = 0x1000;

	q->u = u;
	if (!dma_alloc(&q->words, PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		test_error(t, "no memory");
	test_cleanup(t, finish, q);
	REQUIRE_OK(t, u->ops->enable(u));
	u->ops->fault_clear(u);
	for (unsigned round = 0; round < ROUNDS; round++, next += WAITS)
		waits(t, q, next, "round the ring");
	ASSERT_OK(t, u->ops->sync_all(u, deadline_in(SEC(1))));

	for (unsigned round = 0; round < 3; round++, next += WAITS) {
		EXPECT_MSG(t, u->ops->queue_bad(u) == -EIO, "a command that there is not: got it taken, expected it refused");
		/* VT-d tells in FSTS alone (IQE), AMD-Vi by an event as well. */
		if (u->desc.vendor == IOMMU_AMDVI)
			EXPECT_MSG(t, iommu_fault_wait(u, &f, MS(100)) == 0 && f.raw_reason >> 12 == 5,
				   "a command that there is not: got no ILLEGAL_COMMAND_ERROR in the event log");
		ASSERT_MSG(t, !u->broken, "after a bad command: got a unit that does not answer: %s", u->broken);
		ASSERT_OK(t, u->ops->sync_all(u, deadline_in(SEC(1))));
		waits(t, q, next, "after a bad command");
	}
	u->ops->fault_clear(u);
	u->ops->disable(u);
}

/*
 * Commands are done in the order in which they were queued, round the ring many times, and one that does
 * not exist is refused and does not end it.
 *
 * VT-d 6.5.2 (wait descriptors), 6.5.2.10 (IQE: the queue stands still until it is cleared); AMD 48882,
 * 2.4.1, 2.5.7 (ILLEGAL_COMMAND_ERROR: the same). A wait completed out of order, or without what is in
 * front of it, is how an invalidation gets lost: a driver goes on and the old translation is still used.
 */
TEST(iommu, queue, "waits complete in order, the ring wraps, a bad command is reported and recovered from", NEED_IOMMU)
{
	unsigned units = 0;

	for (unsigned i = 0; i < exerciser_count; i++) {
		exercisers[i].ops->quiesce(&exercisers[i]);
		exercisers[i].ready = false;
	}
	for (unsigned i = 0; i < iommu_count; i++) {
		struct iommu *u = &iommus[i];

		if (u->broken || !u->caps.queued_invalidation || !u->caps.translation || !u->ops->queue_waits)
			continue;
		one_unit(t, u);
		units++;
	}
	if (units == 0)
		test_skip(t, "no unit with a queue (ECAP.QI=0)");
}
