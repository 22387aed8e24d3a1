/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "tests/iommu/iommu_test.h"

/*
 * What the tables should say, kept as a plain list of leaves and searched from one end to the other:
 * it has nothing in common with the code that it judges.
 */
#define STEPS      10000
#define STEPS_SLOW 60               /* where every instruction is emulated: the searches would take minutes */
#define LEAVES     1024u
#define DEVICES    2u
#define DOMAINS    (DEVICES + 1)     /* one of them is nobody's at the moment */
#define POOL_SIZE  (4u << 20)        /* what the small leaves lead to */
#define POOL_PAGES (POOL_SIZE / PAGE_SIZE)
#define WINDOW     (16ull << 20)     /* of addresses, round a boundary of 1 GiB */
#define MIB2       (2ull << 20)
#define GIB        (1ull << 30)
#define BLOCKED    32u               /* transfers that fail and cost the device a restart, each STEPS */

struct leaf { uint64_t at, pa, size; uint32_t prot; };
struct model {
	struct leaf leaf[LEAVES];
	unsigned count;
	bool stale;                  /* unmapped, not yet synchronised */
	uint64_t tables;             /* of the domain while nothing of ours is mapped */
};
struct world {
	struct t *t;
	struct random rnd;
	struct iommu *u;
	unsigned devices;
	struct dma_space *s[DEVICES];
	struct iommu_domain spare;
	struct model *model[DOMAINS]; /* by who holds the domain: a device, or the spare one last */
	struct dma_buf pool;
	uint64_t window[2], giga;    /* giga: four leaves of 1 GiB */
	unsigned bits, blocked_left;
	bool faults_wrong;           /* told once */
	unsigned step, maps, unmaps, lookups, dmas, blocked, moves;
};

static struct iommu_domain *domain_of(struct world *w, unsigned h)
{
	return h < w->devices ? &w->s[h]->domain : &w->spare;
}

static const struct leaf *find(const struct model *m, uint64_t at)
{
	for (unsigned i = 0; i < m->count; i++) {
		if (at >= m->leaf[i].at && at - m->leaf[i].at < m->leaf[i].size)
			return &m->leaf[i];
	}
	return NULL;
}

static bool overlaps(const struct model *m, uint64_t at, uint64_t size)
{
	for (unsigned i = 0; i < m->count; i++) {
		if (at < m->leaf[i].at + m->leaf[i].size && m->leaf[i].at < at + size)
			return true;
	}
	return false;
}

/* The largest leaf that iommu_ops promises there: of an odd size only for who names an odd one. */
static uint64_t leaf_size(const struct world *w, uint64_t at, uint64_t pa, uint64_t left, uint64_t page_max)
{
	const uint64_t natural = PAGE_SIZE | MIB2 | GIB;
	const uint64_t sizes = w->u->caps.page_sizes & (page_max & ~natural ? ~0ull : natural);

	for (unsigned bit = 51; bit > PAGE_SHIFT; bit--) {
		const uint64_t size = 1ull << bit;

		if ((sizes & size) && size <= left && (!page_max || size <= page_max) &&
		    ((at | pa) & (size - 1)) == 0)
			return size;
	}
	return PAGE_SIZE;
}

/* ---- steps ---- */

static void sync(struct world *w, unsigned h, uint64_t at, uint64_t size)
{
	const struct iommu_ops *ops = w->u->ops;
	const struct sync_range range = {iova(at), size, random_below(&w->rnd, 2)};

	switch (random_below(&w->rnd, 4)) {
	case 0:
		ASSERT_OK(w->t, ops->sync(domain_of(w, h), NULL, deadline_in(SEC(1))));
		break;
	case 1:
		ASSERT_OK(w->t, ops->sync_all(w->u, deadline_in(SEC(1))));
		break;
	default:
		ASSERT_OK(w->t, ops->sync(domain_of(w, h), &range, deadline_in(SEC(1))));
	}
}

/* What was left unsynchronised, before an address may be used for something else. */
static void settle(struct world *w, unsigned h)
{
	if (w->model[h]->stale)
		ASSERT_OK(w->t, w->u->ops->sync(domain_of(w, h), NULL, deadline_in(SEC(1))));
	w->model[h]->stale = false;
}

static int map(struct world *w, unsigned h, uint64_t at, uint64_t pa, uint64_t size, uint32_t prot,
	       uint64_t page_max)
{
	struct model *m = w->model[h];
	const int want = overlaps(m, at, size) ? -EEXIST : 0;
	int r;

	settle(w, h);
	r = w->u->ops->map(domain_of(w, h), iova(at), gpa(pa), size, prot, page_max);
	w->maps++;
	ASSERT_MSG(w->t, r == want, "step %u: map %llx size %llx page_max %llx: got %d, expected %d", w->step,
		   (unsigned long long)at, (unsigned long long)size, (unsigned long long)page_max, r, want);
	while (r == 0 && size > 0) {
		const uint64_t one = leaf_size(w, at, pa, size, page_max);

		if (m->count == LEAVES)
			test_error(w->t, "step %u: the model is full", w->step);
		m->leaf[m->count++] = (struct leaf){at, pa, one, prot};
		at += one;
		pa += one;
		size -= one;
	}
	return r;
}

static void unmap(struct world *w, unsigned h, uint64_t at, uint64_t size, bool late)
{
	struct model *m = w->model[h];
	bool hole = false, part = false;
	uint64_t left = size;        /* whole leaves make it up */
	int r;

	for (uint64_t x = at; x < at + size;) {
		const struct leaf *l = find(m, x);

		hole |= !l;
		part |= l && (l->at < at || l->at + l->size > at + size);
		x = l ? l->at + l->size : x + PAGE_SIZE;
	}
	r = w->u->ops->unmap(domain_of(w, h), iova(at), size);
	w->unmaps++;
	ASSERT_MSG(w->t, (r == 0 && !hole && !part) || (r == -ENOENT && hole) || (r == -EINVAL && part),
		   "step %u: unmap %llx size %llx: got %d, expected %s", w->step, (unsigned long long)at,
		   (unsigned long long)size, r, hole ? "a hole found" : part ? "part of a leaf refused" : "success");
	if (r < 0)
		return;
	for (unsigned i = 0; i < m->count && left > 0;) {
		if (m->leaf[i].at >= at && m->leaf[i].at < at + size) {
			left -= m->leaf[i].size;
			m->leaf[i] = m->leaf[--m->count];
		} else {
			i++;
		}
	}
	if (late)
		m->stale = true;
	else
		sync(w, h, at, size);
}

static void check_lookup(struct world *w, unsigned h, uint64_t at)
{
	const struct leaf *l = find(w->model[h], at);
	struct iommu_leaf got = {.size = 0};
	const int r = w->u->ops->lookup(domain_of(w, h), iova(at), &got);

	w->lookups++;
	ASSERT_MSG(w->t, l ? r == 0 : r == -ENOENT, "step %u: lookup %llx: got %d, expected %s", w->step,
		   (unsigned long long)at, r, l ? "a leaf" : "none");
	if (l)
		ASSERT_MSG(w->t, got.pa.v == l->pa + (at - l->at) && got.size == l->size && got.prot == l->prot,
			   "step %u: lookup %llx: got pa %llx size %llx prot %u, expected %llx, %llx, %u", w->step,
			   (unsigned long long)at, (unsigned long long)got.pa.v, (unsigned long long)got.size,
			   got.prot, (unsigned long long)(l->pa + (at - l->at)), (unsigned long long)l->size, l->prot);
}

static struct dma_target page(struct world *w, unsigned h, unsigned index, uint64_t at)
{
	return (struct dma_target){.space = w->s[h],
				   .iova = iova(at),
				   .pa = gpa(w->pool.pa.v + (uint64_t)index * PAGE_SIZE),
				   .va = (uint8_t *)w->pool.va + (size_t)index * PAGE_SIZE,
				   .size = PAGE_SIZE,
				   .seed = index + 1};
}

/* The device writes part of the page at `at`: where the model has it, or nowhere. */
static void dma_at(struct world *w, unsigned h, uint64_t at)
{
	struct dma_space *s = w->s[h];
	const struct leaf *l = find(w->model[h], at);
	const uint64_t pa = l ? l->pa + (at - l->at) : 0;
	const size_t len = dma_len(s->ex, 512);
	const size_t off = random_below(&w->rnd, (uint32_t)(PAGE_SIZE / len)) * len;
	char what[48];

	settle(w, h);
	if (l && (l->prot & IOMMU_W) && pa >= w->pool.pa.v && pa < w->pool.pa.v + POOL_SIZE) {
		const unsigned index = (unsigned)((pa - w->pool.pa.v) / PAGE_SIZE);
		struct dma_target g = page(w, h, index, at);

		fmt_snprintf(what, sizeof(what), "step %u, by a map of %llu KiB", w->step,
			     (unsigned long long)(l->size / 1024));
		dma_target_fill(&g, g.seed);
		ASSERT_OK(w->t, dma_write(&g, off, len));
		if (!dma_expect_written(&g, off, len, what) || !dma_expect_no_fault(s, what))
			test_stop(w->t);
		g.space = w->s[0];
		dma_target_fill(&g, g.seed);
		w->dmas++;
	} else if (!(l && (l->prot & IOMMU_W)) && w->blocked_left > 0) {
		w->blocked_left--;
		w->blocked++;
		fmt_snprintf(what, sizeof(what), "step %u, %s", w->step, l ? "read-only" : "not mapped");
		dma_faults_clear(s);
		dma_try(s, DMA_WRITE, iova(at + off), len);
		if (!w->faults_wrong)
			w->faults_wrong = !dma_expect_fault(s, DMA_WRITE, iova(at + off), len,
							    l ? IOMMU_FAULT_WRITE : IOMMU_FAULT_NOT_PRESENT, what);
		dma_faults_clear(s);
	}
}

/*
 * A transfer by some leaf; then what a unit that keeps too much gets wrong: the same address through
 * another leaf, or none, and the same address of the other device.
 */
static void dma_step(struct world *w, unsigned h)
{
	struct model *m = w->model[h];
	const struct leaf *l = m->count ? &m->leaf[random_below(&w->rnd, m->count)] : NULL;
	struct leaf old;
	uint64_t at, pa;

	if (!l)
		return;
	old = *l;
	at = old.at + (uint64_t)random_below(&w->rnd, (uint32_t)(old.size / PAGE_SIZE)) * PAGE_SIZE;
	if (old.size == GIB)
		at = old.at + (w->pool.pa.v & (GIB - 1));
	dma_at(w, h, at);
	switch (random_below(&w->rnd, 4)) {
	case 0:
		unmap(w, h, old.at, old.size, false);
		dma_at(w, h, at);
		break;
	case 1:
	case 2:
		unmap(w, h, old.at, old.size, false);
		pa = w->pool.pa.v + align_down(random_below(&w->rnd, POOL_SIZE - 1), MIN(old.size, POOL_SIZE));
		/* One leaf again: without its size named, one of a size between would come as many. */
		map(w, h, old.at, old.size == GIB ? old.pa : pa, old.size, old.prot, old.size);
		dma_at(w, h, at);
		break;
	default:
		if (w->devices > 1)
			dma_at(w, !h, at);
		break;
	}
}

/* Another domain for the device: the spare one, which is then the one it had. */
static void move(struct world *w, unsigned h)
{
	struct model *m = w->model[h];
	struct iommu_domain d;

	settle(w, h);
	settle(w, w->devices);
	ASSERT_OK(w->t, dma_space_detach(w->s[h]));
	d = w->s[h]->domain;
	w->s[h]->domain = w->spare;
	w->spare = d;
	w->model[h] = w->model[w->devices];
	w->model[w->devices] = m;
	ASSERT_OK(w->t, dma_space_attach(w->s[h]));
	w->moves++;
}

static uint64_t some_address(struct world *w)
{
	if (random_below(&w->rnd, 16) == 0)
		return w->giga + random_below(&w->rnd, 4) * GIB;
	return w->window[random_below(&w->rnd, 2)] + random_below(&w->rnd, WINDOW / PAGE_SIZE) * PAGE_SIZE;
}

static void map_step(struct world *w, unsigned h)
{
	const uint64_t maxima[] = {0, 0, PAGE_SIZE, 64u << 10, MIB2};
	uint64_t at = some_address(w), size = (1 + random_below(&w->rnd, 24)) * PAGE_SIZE, pa;
	uint64_t page_max = maxima[random_below(&w->rnd, ARRAY_SIZE(maxima))];

	if (at >= w->giga && at < w->giga + 4 * GIB) {
		/* Whole: what it leads to is the surroundings of the pool, of which we touch the pool. */
		size = GIB;
		pa = align_down(w->pool.pa.v, GIB);
		page_max = 0;
		if (!(w->u->caps.page_sizes & GIB))
			return;
	} else if (random_below(&w->rnd, 4) == 0) {
		size = MIB2;
		at = align_down(at, MIB2);
		pa = w->pool.pa.v + random_below(&w->rnd, 2) * MIB2;
	} else {
		pa = w->pool.pa.v + random_below(&w->rnd, (uint32_t)(POOL_PAGES - size / PAGE_SIZE)) * PAGE_SIZE;
		/* Alike in their low bits, as large leaves must be. */
		if (random_below(&w->rnd, 2))
			pa = w->pool.pa.v + (at & (MIB2 - 1));
	}
	if (w->model[h]->count + MIN(size / PAGE_SIZE, 512) <= LEAVES)
		map(w, h, at, pa, size, (1 + random_below(&w->rnd, 3)) | (w->u->caps.no_write_only ? IOMMU_R : 0), page_max);
}

static void unmap_step(struct world *w, unsigned h)
{
	const struct model *m = w->model[h];
	uint64_t at = some_address(w), size = (1 + random_below(&w->rnd, 8)) * PAGE_SIZE;

	if (m->count && random_below(&w->rnd, 8)) {
		const struct leaf *l = &m->leaf[random_below(&w->rnd, m->count)];
		unsigned more = random_below(&w->rnd, 64);

		at = l->at;
		size = l->size;
		while (more-- > 0 && (l = find(m, at + size)))
			size += l->size;
	}
	unmap(w, h, at, size, random_below(&w->rnd, 4) == 0);
}

static void lookup_step(struct world *w, unsigned h)
{
	const struct model *m = w->model[h];
	uint64_t at = some_address(w);

	if (m->count && random_below(&w->rnd, 2)) {
		const struct leaf *l = &m->leaf[random_below(&w->rnd, m->count)];

		/* Its ends, and what is beside them. */
		at = random_below(&w->rnd, 2) ? l->at : l->at + l->size;
		at -= random_below(&w->rnd, 2);
	}
	check_lookup(w, h, at + random_below(&w->rnd, 2) * random_below(&w->rnd, PAGE_SIZE));
}

/* What must be refused, and leave nothing behind. */
static void refused_step(struct world *w, unsigned h)
{
	const struct iommu_ops *ops = w->u->ops;
	struct iommu_domain *d = domain_of(w, h);
	const iova_t at = iova(w->window[0]);
	const gpa_t pa = w->pool.pa;

	EXPECT_ERR(w->t, ops->map(d, at, gpa(pa.v + 1), PAGE_SIZE, IOMMU_RW, 0), EINVAL);
	EXPECT_ERR(w->t, ops->map(d, at, pa, PAGE_SIZE, 0, 0), EINVAL);
	EXPECT_ERR(w->t, ops->map(d, at, pa, 0, IOMMU_RW, 0), EINVAL);
	if (w->bits < 64)
		EXPECT_ERR(w->t, ops->map(d, iova((1ull << w->bits) - PAGE_SIZE), pa, 2 * PAGE_SIZE, IOMMU_RW, 0), ERANGE);
}

static void step(struct world *w)
{
	const unsigned h = random_below(&w->rnd, w->devices + 1), what = random_below(&w->rnd, 1000);

	if (what < 250)
		map_step(w, h);
	else if (what < 460)
		unmap_step(w, h);
	else if (what < 520)
		dma_step(w, h % w->devices);
	else if (what < 525)
		dma_at(w, h % w->devices, some_address(w));
	else if (what < 527)
		move(w, h % w->devices);
	else if (what < 532)
		refused_step(w, h);
	else
		lookup_step(w, h);
}

/* ---- before and after ---- */

static void open_all(struct world *w, struct exerciser *ex[])
{
	struct t *t = w->t;
	const char *why;

	for (unsigned i = 0; i < w->devices; i++) {
		w->s[i] = dma_space_open(t, ex[i], DMA_TRANSLATED, &why);
		if (!w->s[i])
			test_error(t, PRIRID " %s: %s", RIDARG(ex[i]->dev->rid), ex[i]->ops->name, why);
	}
	w->u = w->s[0]->iommu;
	w->spare = (struct iommu_domain){.iommu = w->u};
	REQUIRE_OK(t, w->u->ops->domain_init(&w->spare, false));
	/* The devices change domains: what they fetch by themselves is in all of them. */
	for (unsigned h = 0; h <= w->devices; h++) {
		for (unsigned k = 0; k < w->devices; k++) {
			for (unsigned i = 0; k != h && i < ex[k]->own_count; i++) {
				const uint64_t base = align_down(ex[k]->own[i].pa.v, PAGE_SIZE);
				const uint64_t end = align_up(ex[k]->own[i].pa.v + ex[k]->own[i].size, PAGE_SIZE);

				REQUIRE_OK(t, iommu_map(domain_of(w, h), iova(base), gpa(base), end - base, IOMMU_RW));
			}
		}
		w->model[h]->tables = domain_of(w, h)->table_pages;
	}
}

static void drop_spare(void *arg)
{
	struct world *w = arg;

	if (w->spare.priv)
		w->u->ops->domain_fini(&w->spare);
}

static void close_all(struct world *w)
{
	for (unsigned i = 0; i < w->devices; i++)
		dma_space_close(w->s[i]);
	drop_spare(w);
}

static void free_pool(void *arg)
{
	struct world *w = arg;

	/* Nobody may still have a way to it. */
	for (unsigned i = 0; i < w->devices && w->s[i]; i++)
		dma_space_close(w->s[i]);
	dma_free(&w->pool);
}

static unsigned find_devices(struct t *t, struct exerciser *ex[])
{
	unsigned n = 0;

	FOR_EACH_TRANSLATED(t, e, EX_DMA_WRITE | EX_DMA_TIMED) {
		const struct iommu *u = iommu_of(e->dev);

		/* A bridge alias makes two of them one requester. */
		if (n < DEVICES && !(e->caps & EX_DMA_COPY) && (e->dma_mask >> 47) &&
		    (n == 0 || (u == iommu_of(ex[0]->dev) && e->rid.v != ex[0]->rid.v)))
			ex[n++] = e;
	}
	return n;
}

/* All mapped is unmapped, all tables but the first are gone, and no byte of the pool has changed. */
static void check_end(struct world *w)
{
	for (unsigned h = 0; h <= w->devices; h++) {
		while (w->model[h]->count)
			unmap(w, h, w->model[h]->leaf[0].at, w->model[h]->leaf[0].size, true);
		settle(w, h);
		ASSERT_OK(w->t, w->u->ops->sync(domain_of(w, h), NULL, deadline_in(SEC(1))));
		EXPECT_MSG(w->t, domain_of(w, h)->table_pages == w->model[h]->tables,
			   "tables of a domain with nothing mapped: got %llu pages, expected %llu",
			   (unsigned long long)domain_of(w, h)->table_pages, (unsigned long long)w->model[h]->tables);
	}
	for (unsigned i = 0; i < POOL_PAGES; i++) {
		struct dma_target g = page(w, 0, i, 0);

		if (!dma_expect_untouched(&g, "at the end, a page of the pool"))
			break;
	}
}

/*
 * Thousands of maps, unmaps, invalidations, moves and transfers in three domains, against a model.
 *
 * VT-d 3.7, 6.5; AMD 48882, 2.2.3, 2.4.3: after every step the tables say what the model says, leaf by
 * leaf; a transfer goes where the model says at that moment, or is blocked. All domains use the same
 * addresses. At the end no page, table or domain ID is missing. seed= repeats a run, iterations=
 * scales it.
 */
TEST_FULL(iommu, random, 0, 30000, "random maps, unmaps, syncs, moves and DMA in three domains do what a model says",
	  NEED_IOMMU_TRANSLATION, NEED_EX_DMA_TIMED)
{
	const unsigned steps = (unsigned)test_iterations(t, kvm_emulates() ? STEPS_SLOW : STEPS);
	struct exerciser *ex[DEVICES];
	struct world *w;
	const uint64_t seed = test_seed(t);
	uint64_t free_before, heap_before, t0, ticks;
	uint16_t id;

	w = test_alloc(t, sizeof(*w));
	w->t = t;
	w->rnd = random_seed(seed);
	w->devices = find_devices(t, ex);
	w->blocked_left = BLOCKED * (steps / STEPS + 1);
	if (w->devices == 0)
		test_skip(t, "no fast device under test that writes bytes of its own to wide addresses behind an IOMMU");
	for (unsigned h = 0; h < DOMAINS; h++)
		w->model[h] = test_alloc(t, sizeof(*w->model[h]));
	if (!dma_alloc(&w->pool, POOL_SIZE, MIB2, PHYS_ANY))
		test_error(t, "no memory for a pool of %u bytes", POOL_SIZE);
	test_cleanup(t, free_pool, w);
	test_cleanup(t, drop_spare, w);
	/* Once for what a unit allocates at first use and keeps. */
	open_all(w, ex);
	id = w->spare.id;
	close_all(w);
	free_before = phys_stats().free;
	heap_before = heap_used();

	t0 = tsc_read();
	open_all(w, ex);
	w->bits = MIN(12 + 9 * w->s[0]->domain.levels - w->u->caps.canonical, w->u->caps.iova_bits);
	w->giga = dma_far(w->s[0], DMA_FAR_BITS) + 2 * GIB;
	w->window[0] = w->giga - GIB - WINDOW / 2;
	w->window[1] = (w->bits >= 48 ? dma_far(w->s[0], 48) + GIB : w->giga + 5 * GIB) - WINDOW / 2;
	for (unsigned i = 0; i < POOL_PAGES; i++) {
		struct dma_target g = page(w, 0, i, 0);

		dma_target_fill(&g, g.seed);
	}
	for (w->step = 0; w->step < steps; w->step++)
		step(w);
	test_note(t, "%u steps done, now all of the pool", steps); /* a slow machine is not a silent one */
	check_end(w);
	close_all(w);
	ticks = tsc_read() - t0;

	EXPECT_EQ(t, phys_stats().free, free_before);
	EXPECT_EQ(t, heap_used(), heap_before);
	open_all(w, ex);
	EXPECT_MSG(t, w->spare.id == id, "the third domain's ID afterwards: got %u, expected %u", w->spare.id, id);
	close_all(w);
	test_note(t, "%u steps, %u devices: %u maps, %u unmaps, %u lookups, %u transfers, %u blocked, %u moves",
		  w->step, w->devices, w->maps, w->unmaps, w->lookups, w->dmas,
		  w->blocked, w->moves);
	test_metric(t, "random steps=%u total=%llu unit=us n=1", w->step, (unsigned long long)(tsc_to_ns(ticks) / 1000));
}
