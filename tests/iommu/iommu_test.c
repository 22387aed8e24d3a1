/* SPDX-License-Identifier: MIT */

#include "tests/iommu/iommu_test.h"

#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

#define FAR_SIZE    (8ull << 30)
#define DECOY_MAX   (1u << 20)
#define JOBS_MAX    16
#define SLOW_MS     20

/* One an exerciser. A pool, not test_alloc(): a test has few cleanups and may see many devices. */
static struct dma_space spaces[EXERCISER_MAX];
static bool cleanup_registered;

const char *dma_mode_name(enum dma_mode mode)
{
	static const char *const names[DMA_MODE_COUNT] = {"off", "passthrough", "translated"};

	return names[mode];
}

/* ---- spaces ---- */

static struct dma_space *space_of(const struct exerciser *ex)
{
	return &spaces[ex - exercisers];
}

static unsigned spaces_behind(const struct iommu *u)
{
	unsigned n = 0;

	for (unsigned i = 0; i < EXERCISER_MAX; i++)
		n += spaces[i].is_open && spaces[i].iommu == u;
	return n;
}

static void stop(struct dma_space *s)
{
	s->ex->ops->quiesce(s->ex);
	s->ex->ready = false;
}

/* Does another space use the same domain? It is the last one's to end it. */
static bool is_shared(const struct dma_space *s)
{
	for (unsigned i = 0; i < EXERCISER_MAX; i++) {
		if (&spaces[i] != s && spaces[i].is_open && spaces[i].domain.priv == s->domain.priv)
			return true;
	}
	return false;
}

static void free_memory(struct dma_target *g)
{
	if (g->buf.va)
		dma_free(&g->buf);
	if (g->decoy.va)
		dma_free(&g->decoy);
	memset(g, 0, sizeof(*g));
}

void dma_space_close(struct dma_space *s)
{
	if (!s->is_open)
		return;
	s->is_open = false;
	stop(s);
	if (s->mode != DMA_OFF) {
		const struct iommu_ops *ops = s->iommu->ops;

		for (unsigned i = 0; i < DMA_TARGETS; i++) {
			if (s->target[i].mapped && s->mode == DMA_TRANSLATED)
				iommu_unmap_sync(&s->domain, s->target[i].iova, s->target[i].size);
		}
		if (s->attached)
			ops->detach(&s->domain, s->ex->rid);
		if (s->domain.priv && !is_shared(s))
			ops->domain_fini(&s->domain);
	}
	for (unsigned i = 0; i < DMA_TARGETS; i++)
		free_memory(&s->target[i]);
}

static void close_all(void *arg)
{
	(void)arg;
	cleanup_registered = false;
	for (unsigned i = 0; i < EXERCISER_MAX; i++)
		dma_space_close(&spaces[i]);
}

static const char *cannot(const struct exerciser *ex, const struct iommu *u, enum dma_mode mode)
{
	if (mode == DMA_OFF)
		return NULL;
	if (!u)
		return "no remapping unit in front of it";
	if (u->broken)
		return u->broken;
	if (ex->bypasses_iommu)
		return "its DMA goes past the unit (no iommu_platform=on)";
	if (!u->caps.translation)
		return "its unit does not translate";
	if (mode == DMA_PASSTHROUGH && !u->caps.passthrough)
		return "its unit has no pass-through (ECAP.PT=0)";
	return NULL;
}

/* What the device fetches by itself stays where it is, in its own eyes too. */
static int map_own(struct dma_space *s)
{
	for (unsigned i = 0; i < s->ex->own_count; i++) {
		const gpa_t pa = s->ex->own[i].pa;
		const uint64_t base = align_down(pa.v, PAGE_SIZE);
		const uint64_t end = align_up(pa.v + s->ex->own[i].size, PAGE_SIZE);
		const int r = iommu_map(&s->domain, iova(base), gpa(base), end - base, IOMMU_RW);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Of the first space that is open behind the unit: for a sabotage. */
static struct iommu_domain *first_domain(struct dma_space *s)
{
	for (unsigned i = 0; i < EXERCISER_MAX; i++)
		if (spaces[i].is_open && spaces[i].iommu == s->iommu && spaces[i].mode == s->mode)
			return &spaces[i].domain;
	return &s->domain;
}

int dma_space_attach(struct dma_space *s)
{
	const pci_rid_t rid = {s->ex->rid.v ^ (SABOTAGE(iommu_wrong_source) ? 8 : 0)};
	const int r = s->iommu->ops->attach(SABOTAGE(iommu_wrong_domain) ? first_domain(s) : &s->domain, rid);

	s->attached = r == 0;
	return r;
}

int dma_space_detach(struct dma_space *s)
{
	s->attached = false;
	return s->iommu->ops->detach(&s->domain, s->ex->rid);
}

static struct dma_space *new_space(struct t *t, struct exerciser *ex, enum dma_mode mode, const char **why)
{
	struct iommu *u = iommu_of(ex->dev);
	struct dma_space *s;

	*why = cannot(ex, u, mode);
	if (*why)
		return NULL;
	s = space_of(ex);
	if (s->is_open)
		test_error(t, "%s has an open address space already", s->name);
	if (!cleanup_registered)
		test_cleanup(t, close_all, NULL);
	cleanup_registered = true;
	memset(s, 0, sizeof(*s));
	s->t = t;
	s->ex = ex;
	s->mode = mode;
	s->iommu = u;
	s->domain.iommu = u;
	fmt_snprintf(s->name, sizeof(s->name), PRIRID " %s", RIDARG(ex->dev->rid), ex->ops->name);
	s->is_open = true;
	/* Whoever is under way without a space would be blocked; a quiet device asks for nothing. */
	for (unsigned i = 0; i < exerciser_count; i++) {
		struct exerciser *other = &exercisers[i];

		if (other == ex || (other->ready && !space_of(other)->is_open)) {
			other->ops->quiesce(other);
			other->ready = false;
		}
	}
	return s;
}

static void switch_on(struct dma_space *s)
{
	struct t *t = s->t;

	REQUIRE_OK(t, dma_space_attach(s));
	REQUIRE_OK(t, s->iommu->ops->enable(s->iommu));
	s->iommu->ops->fault_clear(s->iommu);
}

struct dma_space *dma_space_open(struct t *t, struct exerciser *ex, enum dma_mode mode, const char **why)
{
	struct dma_space *s;

	if (mode == DMA_TRANSLATED)
		return dma_space_open_with(t, ex, 0, NULL, why);
	s = new_space(t, ex, mode, why);
	if (!s)
		return NULL;
	if (mode == DMA_PASSTHROUGH) {
		REQUIRE_OK(t, s->iommu->ops->domain_init(&s->domain, true));
		switch_on(s);
	} else if (s->iommu && s->iommu->translating) {
		if (spaces_behind(s->iommu) > 1)
			test_error(t, "%s: translation is on for another device", s->name);
		s->iommu->ops->disable(s->iommu);
	}
	return s;
}

static struct dma_space *open_translated(struct t *t, struct exerciser *ex, unsigned stage, unsigned levels,
					 struct dma_space *share, const char **why)
{
	struct dma_space *s = new_space(t, ex, DMA_TRANSLATED, why);

	if (!s)
		return NULL;
	if (share) {
		if (share->iommu != s->iommu)
			test_error(t, "%s and %s are not behind one unit", s->name, share->name);
		s->domain = share->domain;
	} else {
		s->domain.levels = levels;
		s->domain.stage = stage;
		REQUIRE_OK(t, s->iommu->ops->domain_init(&s->domain, false));
	}
	REQUIRE_OK(t, map_own(s));
	switch_on(s);
	return s;
}

struct dma_space *dma_space_open_with(struct t *t, struct exerciser *ex, unsigned levels,
				      struct dma_space *share, const char **why)
{
	return open_translated(t, ex, 0, levels, share, why);
}

struct dma_space *dma_space_open_staged(struct t *t, struct exerciser *ex, unsigned stage, const char **why)
{
	return open_translated(t, ex, stage, 0, NULL, why);
}

/* ---- targets ---- */

static bool meets_bar(uint64_t base, uint64_t size)
{
	FOR_EACH_PCI(d) {
		for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
			const struct pci_bar *bar = &d->bar[i];

			if (!bar->io && bar->size && bar->base < base + size && bar->base + bar->size > base)
				return true;
		}
	}
	return false;
}

uint64_t dma_far(const struct dma_space *s, unsigned bits)
{
	for (uint64_t at = 1ull << (bits - 1); at + FAR_SIZE <= 1ull << bits; at += FAR_SIZE) {
		if (!meets_bar(at, FAR_SIZE) && !meets_bar(at | 1ull << bits, FAR_SIZE))
			return at;
	}
	test_error(s->t, "no range of %u-bit addresses is free of BARs", bits);
}

static bool reaches_far(const struct dma_space *s)
{
	return s->ex->dma_mask >> DMA_FAR_BITS != 0;
}

static struct dma_target *new_target(struct dma_space *s, size_t size, uint64_t at, size_t align)
{
	const bool narrow = !reaches_far(s);
	struct dma_target *g;
	unsigned slot = 0;

	size = align_up(MAX(size, (size_t)1), PAGE_SIZE);
	align = MAX(align, (size_t)PAGE_SIZE);
	while (slot < DMA_TARGETS && s->target[slot].size)
		slot++;
	if (slot == DMA_TARGETS)
		test_error(s->t, "%s: more than %u targets", s->name, DMA_TARGETS);
	g = &s->target[slot];
	memset(g, 0, sizeof(*g));
	g->space = s;
	if (!dma_alloc(&g->buf, size, align, PHYS_ANY))
		test_error(s->t, "no memory for a target of %zu bytes", size);
	g->size = size;
	g->va = g->buf.va;
	g->pa = g->buf.pa;
	if (s->mode != DMA_TRANSLATED)
		g->iova = iova(g->pa.v);
	else if (at)
		g->iova = iova(at);
	else if (size <= DECOY_MAX || narrow) {
		/* A device of few address bits has to find it there. */
		if (!dma_alloc(&g->decoy, size, align, narrow ? PHYS_BELOW_4G : PHYS_ANY))
			test_error(s->t, "no memory for a decoy of %zu bytes", size);
		g->iova = iova(g->decoy.pa.v);
	} else {
		if (s->next_far == 0)
			s->next_far = dma_far(s, DMA_FAR_BITS);
		g->iova = iova(align_up(s->next_far, align));
		s->next_far = g->iova.v + size;
	}
	if ((g->iova.v + size - 1) & ~s->ex->dma_mask)
		test_error(s->t, "%s drives no address as high as %llx", s->name,
			   (unsigned long long)g->iova.v);
	dma_target_fill(g, slot + 1);
	return g;
}

struct dma_target *dma_target_alloc(struct dma_space *s, size_t size)
{
	return new_target(s, size, 0, PAGE_SIZE);
}

static int map_target(struct dma_target *g, uint32_t prot, size_t page_max)
{
	struct dma_space *s = g->space;
	int r = 0;

	if (s->mode == DMA_TRANSLATED)
		r = s->iommu->ops->map(&s->domain, g->iova, g->pa, g->size, prot | (SABOTAGE(iommu_writable) ? IOMMU_W : 0), page_max);
	g->mapped = r == 0;
	g->prot = prot;
	return r;
}

struct dma_target *dma_target_map_at(struct dma_space *s, size_t size, uint32_t prot, uint64_t at,
				     size_t page_max)
{
	struct t *t = s->t;
	struct dma_target *g = new_target(s, size, at, page_max ? MIN(page_max, 2u << 20) : PAGE_SIZE);

	REQUIRE_OK(t, map_target(g, prot, page_max));
	return g;
}

struct dma_target *dma_target_map(struct dma_space *s, size_t size, uint32_t prot)
{
	return dma_target_map_at(s, size, prot, 0, 0);
}

int dma_target_remap(struct dma_target *g, uint32_t prot)
{
	return map_target(g, prot, 0);
}

int dma_target_unmap(struct dma_target *g)
{
	g->mapped = false;
	if (g->space->mode != DMA_TRANSLATED)
		return 0;
	return g->space->iommu->ops->unmap(&g->space->domain, g->iova, g->size);
}

int dma_target_unmap_sync(struct dma_target *g)
{
	g->mapped = false;
	if (g->space->mode != DMA_TRANSLATED)
		return 0;
	return iommu_unmap_sync(&g->space->domain, g->iova, g->size);
}

void dma_target_free(struct dma_target *g)
{
	if (g->mapped)
		dma_target_unmap_sync(g);
	free_memory(g);
}

/*
 * ---- contents ----
 *
 * By string instructions out of one long row of words: there are hypervisors that emulate every
 * instruction of ours, and a test may look at megabytes.
 */

#define LOW_BITS   0x7f7f7f7f7f7f7f7full
#define HIGH_BITS  0x8080808080808080ull
#define STEP       0x9e3779b97f4a7c15ull
#define DECOY_SALT 0x40000000u
#define PERIOD     4099u                 /* words; a prime, so that pages and seeds begin at different ones */

/* The row with bit 7 of all bytes clear, or set; its beginning once more at its end, so that a page is one piece. */
static const uint64_t *row(bool high)
{
	static uint64_t words[2][PERIOD + PAGE_SIZE / 8];
	static bool made;

	for (size_t i = 0; !made && i < ARRAY_SIZE(words[0]); i++) {
		const uint64_t x = (i % PERIOD + 1) * STEP;

		words[0][i] = (x ^ x >> 29) & LOW_BITS;
		words[1][i] = words[0][i] | HIGH_BITS;
	}
	made = true;
	return words[high];
}

/* n bytes, a multiple of 8, of the pattern that seed begins; every byte has the bits of `or`, bit 7 else 0. */
static void pattern(void *to, size_t n, uint64_t at, uint32_t seed, uint64_t or)
{
	const uint64_t *words = row(or != 0);
	uint64_t *p = to;
	size_t from = (at / 8 + (uint64_t)seed * 0x10001) % PERIOD;

	for (size_t left = n / 8, piece; left > 0; left -= piece) {
		piece = MIN(left, PERIOD + PAGE_SIZE / 8 - from);
		memcpy(p, words + from, piece * 8);
		p += piece;
		from = (from + piece) % PERIOD;
	}
}

/* What a device of its own bytes writes has bit 7 as ->fill has it (all four of ->fill_word), what EX_DMA_COPY writes has it set. */
static uint64_t memory_bit7(const struct exerciser *ex)
{
	return ex->caps & EX_DMA_COPY || ex->fill & 0x80 ? 0 : HIGH_BITS;
}

/* What stands in memory before: it differs from the device's in every byte. */
static void memory_bytes(const struct dma_target *g, uint32_t salt, void *to, size_t n, uint64_t at)
{
	pattern(to, n, at, g->seed + salt, memory_bit7(g->space->ex));
}

void dma_target_fill(struct dma_target *g, uint32_t seed)
{
	g->seed = seed;
	memory_bytes(g, 0, g->va, g->size, 0);
	if (g->decoy.va)
		memory_bytes(g, DECOY_SALT, g->decoy.va, g->size, 0);
}

/* The first byte that differs, or n. */
static size_t differs(const uint8_t *got, const uint8_t *want, size_t n)
{
	size_t i = 0;

	if (memcmp(got, want, n) == 0)
		return n;
	while (i < n && got[i] == want[i])
		i++;
	return i;
}

static uint64_t expected[PAGE_SIZE / 8];

static bool check_decoy(struct dma_target *g, const char *what)
{
	const uint8_t *p = g->decoy.va, *want = (const uint8_t *)expected;

	for (size_t at = 0; p && at < g->size; at += PAGE_SIZE) {
		size_t i;

		memory_bytes(g, DECOY_SALT, expected, PAGE_SIZE, at);
		i = differs(p + at, want, PAGE_SIZE);
		if (i < PAGE_SIZE) {
			iommu_tell_bypass(g->space);
			return EXPECT_MSG(g->space->t, false,
					  "%s %s: not translated: the device reached physical %llx: got "
					  "0x%x, expected 0x%x",
					  g->space->name, what, (unsigned long long)(g->decoy.pa.v + at + i),
					  p[at + i], want[i]);
		}
	}
	return true;
}

/* What the device writes from place dev_off of its medium: what it loaded, or its own byte. */
static void device_bytes(const struct dma_space *s, uint8_t *to, size_t n, size_t dev_off)
{
	if (s->ex->caps & EX_DMA_COPY)
		memcpy(to, s->source->va + dev_off, n);
	else
		memset(to, s->ex->fill, n);
	for (size_t i = 0; s->ex->fill_word && i < n; i++)
		to[i] = exerciser_byte(s->ex, dev_off + i);
}

static bool check_bytes(struct dma_target *g, size_t off, size_t len, size_t dev_off, const char *what)
{
	uint8_t *want = (uint8_t *)expected;

	for (size_t at = 0; at < g->size; at += PAGE_SIZE) {
		/* The part of the transfer that is on this page. */
		const size_t first = MAX(off, at), end = MIN(off + len, at + PAGE_SIZE);
		size_t i;

		memory_bytes(g, 0, expected, PAGE_SIZE, at);
		if (first < end)
			device_bytes(g->space, want + (first - at), end - first, dev_off + (first - off));
		i = differs(g->va + at, want, PAGE_SIZE);
		if (i < PAGE_SIZE)
			return EXPECT_MSG(g->space->t, false,
					  "%s %s: byte %zu of the target (iova %llx), %s the transfer: got "
					  "0x%x, expected 0x%x",
					  g->space->name, what, at + i, (unsigned long long)g->iova.v,
					  at + i >= first && at + i < end ? "in" : "outside", g->va[at + i], want[i]);
	}
	return true;
}

bool dma_expect_written_from(struct dma_target *g, size_t off, size_t len, size_t dev_off, const char *what)
{
	if (!check_decoy(g, what) || !check_bytes(g, off, len, dev_off, what))
		return false;
	test_check(g->space->t);
	return true;
}

bool dma_expect_written(struct dma_target *g, size_t off, size_t len, const char *what)
{
	return dma_expect_written_from(g, off, len, 0, what);
}

bool dma_expect_untouched(struct dma_target *g, const char *what)
{
	return dma_expect_written(g, 0, 0, what);
}

/* ---- transfers ---- */

/* A blocked one may never end; what is slow by nature ends all the same, by a timer that a busy host may be late with. */
static uint64_t patience(const struct exerciser *ex)
{
	return ex->dma_ms ? SEC(3) : MS(500);
}

static int start(struct dma_job *j)
{
	const struct dma_req req = {.dir = j->dir, .addr = j->addr, .len = j->len};

	j->result = -EAGAIN;
	return j->space->ex->ops->dma_start(j->space->ex, &req);
}

static bool poll_all(struct dma_job *job, unsigned count)
{
	bool all = true;

	for (unsigned i = 0; i < count; i++) {
		struct dma_status status;
		int r;

		if (job[i].result != -EAGAIN)
			continue;
		r = job[i].space->ex->ops->dma_poll(job[i].space->ex, &status);
		if (r != -EAGAIN)
			job[i].result = r < 0 ? r : status.error;
		all &= job[i].result != -EAGAIN;
	}
	return all;
}

void dma_begin(struct dma_job *job, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const int r = start(&job[i]);

		if (r < 0)
			job[i].result = r == -EAGAIN ? -EBUSY : r;
	}
}

static void finish(struct dma_job *job, unsigned count, uint64_t ns)
{
	for (unsigned i = 0; i < count; i++)
		ns = MAX(ns, patience(job[i].space->ex));
	if (WAIT_FOR(poll_all(job, count), ns))
		return;
	for (unsigned i = 0; i < count; i++) {
		if (job[i].result == -EAGAIN) {
			job[i].result = -ETIMEDOUT;
			stop(job[i].space);
		}
	}
}

void dma_finish(struct dma_job *job, unsigned count)
{
	finish(job, count, 0);
}

/* One that is to succeed gets the time that a busy host may take; a blocked one may never end. */
void dma_run(struct dma_job *job, unsigned count)
{
	dma_begin(job, count);
	finish(job, count, SEC(3));
}

static int transfer(struct dma_target *g, enum dma_dir dir, size_t off, size_t len)
{
	struct dma_job job = {.space = g->space, .dir = dir, .addr = {g->iova.v + off}, .len = len};

	dma_run(&job, 1);
	return job.result;
}

int dma_write(struct dma_target *g, size_t off, size_t len)
{
	return transfer(g, DMA_WRITE, off, len);
}

int dma_read(struct dma_target *g, size_t off, size_t len)
{
	return transfer(g, DMA_READ, off, len);
}

void dma_load_prepare(struct dma_space *s, uint32_t seed, size_t len)
{
	if (s->source && s->source->size < len) {
		dma_target_free(s->source);
		s->source = NULL;
	}
	if (!s->source)
		s->source = dma_target_map(s, len, IOMMU_R);
	pattern(s->source->va, align_up(len, 8), 0, seed, HIGH_BITS);
}

int dma_load(struct dma_space *s, uint32_t seed, size_t len)
{
	if (!(s->ex->caps & EX_DMA_COPY))
		return 0;
	dma_load_prepare(s, seed, len);
	return dma_read(s->source, 0, len);
}

void dma_try(struct dma_space *s, enum dma_dir dir, iova_t addr, size_t len)
{
	struct dma_job job = {.space = s, .dir = dir, .addr = addr, .len = len};

	dma_begin(&job, 1);
	dma_finish(&job, 1);
	/* One that says it is done has nothing under way; to restart it costs a hypervisor much. */
	if (job.result != 0)
		stop(s);
}

size_t dma_len(const struct exerciser *ex, size_t max)
{
	const size_t step = MAX(ex->dma_align, (size_t)1);
	const size_t len = MIN(MIN(max, ex->dma_max), (size_t)PAGE_SIZE);

	return MAX(len / step * step, ex->dma_min);
}

/* ---- which devices ---- */

static bool usable(const struct exerciser *ex, uint32_t caps)
{
	const struct iommu *u = iommu_of(ex->dev);

	if (!u || u->broken || !u->caps.translation || ex->bypasses_iommu)
		return false;
	return !(caps & EX_DMA_WRITE) || (ex->caps & EX_DMA_COPY) || ex->fill >= 0;
}

static bool any_fast(struct t *t, uint32_t caps)
{
	FOR_EACH_EXERCISER(t, ex, caps) {
		if (usable(ex, caps) && ex->dma_ms < SLOW_MS)
			return true;
	}
	return false;
}

struct exerciser *dma_next_exerciser(struct t *t, struct exerciser *after, uint32_t caps, bool slow)
{
	const bool all = slow || test_iterations(t, 0) || !any_fast(t, caps);

	do
		after = test_next_exerciser(t, after, caps);
	while (after && (!usable(after, caps) || (!all && after->dma_ms >= SLOW_MS)));
	return after;
}

/* ---- faults ---- */

void dma_faults_clear(struct dma_space *s)
{
	s->iommu->ops->fault_clear(s->iommu);
}

/* What is not told cannot be wrong: a unit that leaves the direction out tells no permission from an absence. */
static bool reason_fits(const struct iommu_fault *f, enum iommu_reason want, bool write)
{
	const enum iommu_reason permission = write ? IOMMU_FAULT_WRITE : IOMMU_FAULT_READ;

	return f->reason == want || (want == IOMMU_FAULT_NOT_PRESENT && f->reason == permission) ||
	       (want == permission && f->no_direction && f->reason == IOMMU_FAULT_NOT_PRESENT);
}

static bool check_fault(struct dma_space *s, const struct iommu_fault *f, enum dma_dir dir, iova_t at,
			size_t len, enum iommu_reason reason, const char *what)
{
	const bool write = dir == DMA_WRITE;
	const uint64_t first = align_down(at.v, PAGE_SIZE), last = at.v + len - 1;
	struct t *t = s->t;
	bool ok = true;

	ok &= EXPECT_MSG(t, !f->interrupt, "%s %s: fault: got an interrupt's (index %u), expected a DMA's",
			 s->name, what, f->ir_index);
	ok &= EXPECT_MSG(t, f->rid.v == s->ex->rid.v, "%s %s: fault's source: got " PRIRID ", expected " PRIRID,
			 s->name, what, RIDARG(f->rid), RIDARG(s->ex->rid));
	ok &= EXPECT_MSG(t, f->no_direction || f->write == write, "%s %s: fault's direction: got %s, expected %s", s->name, what,
			 f->write ? "write" : "read", write ? "write" : "read");
	ok &= EXPECT_MSG(t, f->iova.v >= first && f->iova.v <= last,
			 "%s %s: fault's address: got %llx, expected %llx..%llx", s->name, what,
			 (unsigned long long)f->iova.v, (unsigned long long)first, (unsigned long long)last);
	ok &= EXPECT_MSG(t, reason_fits(f, reason, write), "%s %s: fault's reason: got %s (0x%x), expected %s",
			 s->name, what, iommu_reason_name(f->reason), f->raw_reason, iommu_reason_name(reason));
	return ok;
}

bool dma_expect_fault(struct dma_space *s, enum dma_dir dir, iova_t at, size_t len,
		      enum iommu_reason reason, const char *what)
{
	struct iommu_fault f;
	unsigned n = 0;
	bool ok = true;

	if (iommu_fault_wait(s->iommu, &f, MS(100)) < 0) {
		if (s->iommu->caps.caching_mode && s->iommu->desc.vendor == IOMMU_VTD)
			iommu_tell_shadow(s);
		return EXPECT_MSG(s->t, false, "%s %s: fault: got none recorded, expected one", s->name, what);
	}
	do
		ok &= check_fault(s, &f, dir, at, len, reason, what);
	while (ok && ++n < s->iommu->caps.fault_records && s->iommu->ops->fault_pop(s->iommu, &f) == 0);
	return ok;
}

bool dma_expect_no_fault(struct dma_space *s, const char *what)
{
	struct iommu_fault f;

	if (s->iommu->ops->fault_pop(s->iommu, &f) < 0) {
		test_check(s->t);
		return true;
	}
	return EXPECT_MSG(s->t, false, "%s %s: fault: got %s (0x%x) by " PRIRID " at %llx, expected none", s->name,
			  what, iommu_reason_name(f.reason), f.raw_reason, RIDARG(f.rid),
			  (unsigned long long)f.iova.v);
}
