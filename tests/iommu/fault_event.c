/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "tests/apic/delivery.h"
#include "tests/iommu/iommu_test.h"

#define PAGES  4u
#define DEVICES 2u

struct bench {
	struct t *t;
	struct delivery *d;
	struct iommu *u;
	unsigned devices, cpu;
	uint32_t *seen;              /* interrupts so far, a CPU */
	struct dma_space *s[DEVICES];
	struct dma_target *g[DEVICES]; /* not mapped */
};

static void off(void *arg)
{
	struct bench *b = arg;
	const char *why;

	if (!b->u->broken)
		b->u->ops->fault_irq(b->u, NULL, &why);
}

/* Short, where the device can: a unit may record every word of a transfer. */
static size_t length(const struct bench *b, unsigned i)
{
	return dma_len(b->s[i]->ex, 4);
}

/* A blocked write by device i to its n-th page. */
static iova_t provoke(struct bench *b, unsigned i, unsigned n)
{
	const iova_t at = iova(b->g[i]->iova.v + n * PAGE_SIZE);

	dma_try(b->s[i], DMA_WRITE, at, length(b, i));
	return at;
}

static void aim(struct bench *b, unsigned cpu)
{
	const struct irq_route route = {.dest = cpus[cpu]->apic_id, .vector = (uint8_t)b->d->vector[0]};
	const char *why = "";
	const int r = b->u->ops->fault_irq(b->u, &route, &why);

	if (r == -EOPNOTSUPP && cpu == 0)
		test_skip(b->t, "%s", why);
	b->cpu = r == -EOPNOTSUPP ? 0 : cpu;
	if (r == -EOPNOTSUPP)
		aim(b, 0);
	else
		REQUIRE_OK(b->t, r);
}

static bool take(struct bench *b, unsigned i, iova_t at, bool overflow, const char *what)
{
	const size_t len = length(b, i);
	struct iommu_fault f;

	if (iommu_fault_wait(b->u, &f, MS(100)) < 0)
		return EXPECT_MSG(b->t, false, "%s %s: fault: got none recorded, expected one", b->s[i]->name, what);
	EXPECT_MSG(b->t, f.rid.v == b->s[i]->ex->rid.v, "%s: fault's source: got " PRIRID ", expected " PRIRID, what,
		   RIDARG(f.rid), RIDARG(b->s[i]->ex->rid));
	EXPECT_MSG(b->t,
		   f.iova.v >= align_down(at.v, PAGE_SIZE) && f.iova.v < at.v + len && (f.write || f.no_direction),
		   "%s: fault's address and direction: got %s at %llx, expected write at %llx", what,
		   f.write ? "write" : "read", (unsigned long long)f.iova.v, (unsigned long long)at.v);
	return EXPECT_MSG(b->t, f.overflow == overflow, "%s: fault: got overflow=%u, expected %u", what, f.overflow,
			  overflow);
}

/* What one transfer left behind besides its first record: retries, other parts of it. */
static void rest(struct bench *b)
{
	b->u->ops->fault_clear(b->u);
}

/* AMD-Vi, virtio-iommu: those of the last transfer that came later than the first. */
static void settle(struct bench *b)
{
	delivery_window();
	/* A vCPU whose turn on the host has not come takes what was sent to it now. */
	delivery_fence(b->t);
	for (unsigned cpu = 0; b->u->desc.vendor != IOMMU_VTD && cpu < b->d->cpus; cpu++) {
		const uint32_t n = delivery_count(b->d, cpu, 0) - b->seen[cpu];

		b->seen[cpu] += n;
		delivery_due(b->d, cpu, 0, n);
	}
}

/*
 * The interrupt, on that CPU. VT-d sends one when the first fault comes up (7.4); the others may send one for
 * every event, and one transfer may be several.
 */
static bool arrives(struct bench *b, const char *what)
{
	const bool one = b->u->desc.vendor == IOMMU_VTD;
	uint32_t n;

	WAIT_FOR(delivery_count(b->d, b->cpu, 0) != b->seen[b->cpu], MS(200));
	delivery_window();
	n = delivery_count(b->d, b->cpu, 0) - b->seen[b->cpu];
	b->seen[b->cpu] += n;
	delivery_due(b->d, b->cpu, 0, n);
	return EXPECT_MSG(b->t, one ? n == 1 : n >= 1, "event: %s, CPU %u: got %u interrupts, expected %s", what, b->cpu, n,
			  one ? "1" : "1 or more") &&
	       delivery_check(b->d, "event: %s, CPU %u", what, b->cpu);
}

/* It is off: recorded, and nothing comes; and cleared, nothing comes when it is on again. */
static void masked(struct bench *b)
{
	const char *why;
	iova_t at;

	settle(b);
	EXPECT_OK(b->t, b->u->ops->fault_irq(b->u, NULL, &why));
	at = provoke(b, 0, 0);
	delivery_window();
	delivery_check(b->d, "event: with the unit's interrupt off");
	take(b, 0, at, false, "with the interrupt off");
	rest(b);
}

/* The interrupt comes, to CPU after CPU, each time the faults before were cleared; and not when it is off. */
static bool interrupts(struct bench *b)
{
	char what[40];
	iova_t at;

	masked(b);
	for (unsigned round = 0; round < MAX(4u, MIN(b->d->cpus, 8u)); round++) {
		fmt_snprintf(what, sizeof(what), "round %u", round);
		settle(b);
		aim(b, round % b->d->cpus);
		at = provoke(b, round % b->devices, round % PAGES);
		if (!arrives(b, what))
			return false;
		take(b, round % b->devices, at, false, what);
		rest(b);
	}
	masked(b);
	aim(b, b->cpu);
	/* A command that there is not is reported in the same way; a virtio-iommu answers it. */
	if (b->u->desc.vendor != IOMMU_VIRTIO && b->u->ops->queue_bad && b->u->ops->queue_bad(b->u) == -EIO)
		arrives(b, "an error of the queue");
	rest(b);
	return true;
}

/* As many as there are records for: in the order in which they happened. */
static void order(struct bench *b)
{
	const unsigned n = MIN(b->u->caps.fault_records, b->devices);
	const char *why;
	struct iommu_fault f;
	pci_rid_t last = {0};
	unsigned k = 0, all = 0;

	if (n < 2) {
		test_note(b->t, "%u fault records, %u devices: no order to be seen", b->u->caps.fault_records, b->devices);
		return;
	}
	if (b->d) {
		settle(b);
		EXPECT_OK(b->t, b->u->ops->fault_irq(b->u, NULL, &why));
	}
	for (unsigned i = 0; i < n; i++)
		provoke(b, i, i);
	/* One transfer may be several faults; each device is another source. */
	for (; all < 200 && iommu_fault_wait(b->u, &f, MS(10)) == 0; all++) {
		if (all > 0 && f.rid.v == last.v)
			continue;
		last = f.rid;
		EXPECT_MSG(b->t, k < n && f.rid.v == b->s[k]->ex->rid.v, "in order: source %u: got " PRIRID, k, RIDARG(f.rid));
		k++;
	}
	if (k < n && all >= b->u->caps.fault_records)
		test_note(b->t, "one transfer fills all %u fault records: no order to be seen", b->u->caps.fault_records);
	else
		EXPECT_MSG(b->t, k == n, "in order: fault: got those of %u devices, expected %u", k, n);
	rest(b);
	if (b->d)
		aim(b, b->cpu);
}

/* One more than there are records for: told with those that are there; once cleared, as new. */
static void overflow(struct bench *b)
{
	struct iommu_fault f;
	iova_t first, at;

	if (b->u->caps.fault_records >= b->devices) {
		test_note(b->t, "%u devices cannot overrun %u fault records", b->devices, b->u->caps.fault_records);
		return;
	}
	/* Of another source each: a unit may take one source's faults for one. */
	first = provoke(b, 0, 1);
	for (unsigned i = 1; i < b->devices; i++)
		provoke(b, i, 2);
	take(b, 0, first, true, "overrun");
	for (unsigned i = 1; i < b->u->caps.fault_records; i++)
		EXPECT_OK(b->t, b->u->ops->fault_pop(b->u, &f));
	EXPECT_MSG(b->t, b->u->ops->fault_pop(b->u, &f) == -EAGAIN, "overrun: fault: got one more than there are records for");
	arrives(b, "overrun");
	rest(b);
	at = provoke(b, 1, 3);
	arrives(b, "after the overflow was cleared");
	take(b, 1, at, false, "after the overflow was cleared");
	rest(b);
}

/*
 * A fault interrupts, is recorded in its place, and the unit says when it had no room for one.
 *
 * VT-d 7.3 (FSTS.PFO, FRI), 7.4 (FECTL, FEDATA, FEADDR); AMD 48882, 2.5 (event log, EventOverflow,
 * EventLogInt); VIRTIO 1.2, 4.1.4.5 (a virtio-iommu without MSI-X: INTx, by the firmware's _PRT). Two devices write to what is not mapped; the message goes to each CPU in turn. One that
 * comes only the first time is not re-armed: whoever polls only after the interrupt sees no fault again.
 */
TEST(iommu, fault_event, "a fault interrupts, records are in order, overflow is told, cleared it interrupts again",
     NEED_IOMMU_TRANSLATION)
{
	struct bench *b = test_alloc(t, sizeof(*b));
	const char *why = "", *unable = NULL;

	b->t = t;
	FOR_EACH_TRANSLATED(t, ex, EX_DMA_WRITE) {
		/* Behind one bridge alias they are one source. */
		if (b->devices == DEVICES || (b->devices && (iommu_of(ex->dev) != b->u || ex->rid.v == b->s[0]->ex->rid.v)))
			continue;
		b->s[b->devices] = dma_space_open(t, ex, DMA_TRANSLATED, &why);
		if (!b->s[b->devices])
			continue;
		b->u = b->s[b->devices]->iommu;
		b->g[b->devices] = dma_target_alloc(b->s[b->devices], PAGES * PAGE_SIZE);
		b->devices++;
	}
	if (b->devices == 0)
		test_skip(t, "no device under test that writes known bytes behind an IOMMU: %s", why);
	if (b->u->desc.vendor == IOMMU_VIRTIO && kvm_emulates())
		unable = "this KVM delivers a level again before its EOI (docs/kvm.md)";
	else if (b->u->ops->fault_irq(b->u, NULL, &why) == -EOPNOTSUPP)
		unable = why;
	if (unable) {
		for (unsigned i = 0; i < b->devices; i++)
			REQUIRE_OK(t, dma_load(b->s[i], 40 + i, length(b, i)));
		rest(b);
		order(b);
		test_skip(t, "%s; the records were looked at", unable);
	}
	b->d = delivery_open(t, 1);
	test_cleanup(t, off, b);
	for (unsigned i = 0; i < b->devices; i++)
		REQUIRE_OK(t, dma_load(b->s[i], 40 + i, length(b, i)));
	rest(b);
	b->seen = test_alloc(t, b->d->cpus * sizeof(*b->seen));
	if (interrupts(b)) {
		order(b);
		overflow(b);
	}
	for (unsigned i = 0; i < b->devices; i++)
		dma_expect_untouched(b->g[i], "after blocked writes");
	EXPECT_OK(t, b->u->ops->fault_irq(b->u, NULL, &why));
	settle(b);
	delivery_finish(b->d, "event: at the end");
}
