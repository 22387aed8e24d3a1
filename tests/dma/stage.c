/* SPDX-License-Identifier: MIT */

#include "kernel/lib/string.h"
#include "tests/dma/dma_test.h"

#define PAGE_2M 0x200000ull
#define PAGE_1G 0x40000000ull

static uint64_t leaf_size(enum stage_mode mode)
{
	return mode == STAGE_1G ? PAGE_1G : mode == STAGE_2M ? PAGE_2M : PAGE_SIZE;
}

const char *dma_stage_name(const struct dma_stage *s, enum stage_mode mode)
{
	static const char *const names[STAGE_MODES] = {
		[STAGE_PASSTHROUGH] = "passthrough", [STAGE_4K] = "translate",
		[STAGE_STRICT] = "strict",           [STAGE_DEFERRED] = "deferred",
		[STAGE_SCATTERED] = "scattered",     [STAGE_2M] = "translate-2m",
		[STAGE_1G] = "translate-1g",
	};

	if (mode == STAGE_OFF)
		return s->iommu ? "off" : s->ex->bypasses_iommu ? "bypass" : "none";
	return names[mode];
}

/* The page of memory behind a page of addresses: an odd factor is one to one modulo a power of two. */
static size_t scattered(const struct dma_stage *s, size_t page)
{
	return (page * 421 + 7) & (s->buf.size / PAGE_SIZE - 1);
}

void *dma_stage_va(const struct dma_stage *s, size_t off)
{
	if (s->mode == STAGE_SCATTERED)
		off = scattered(s, off / PAGE_SIZE) * PAGE_SIZE + off % PAGE_SIZE;
	return (uint8_t *)s->buf.va + off;
}

iova_t dma_stage_addr(const struct dma_stage *s, size_t off)
{
	return iova((s->mode >= STAGE_4K ? s->far.v : s->buf.pa.v) + off);
}

/*
 * An address for the buffer that is no RAM, so that an untranslated access shows, and as far above a
 * multiple of 1 GiB as the buffer is, so that leaves of every size reach it.
 */
static bool choose_far(struct dma_stage *s)
{
	unsigned bit = s->iommu->caps.iova_bits;

	/* From the top: addresses that use as many bits as the tables and the device have. */
	for (bit = bit < 31 || bit > 47 ? 46 : bit - 1; bit >= 30; bit--) {
		const uint64_t at = BIT64(bit) + s->buf.pa.v % PAGE_1G;

		if (at + s->buf.size - 1 <= s->ex->dma_mask && !phys_touches_ram(at, s->buf.size)) {
			s->far = iova(at);
			return true;
		}
	}
	return false;
}

static int map_scattered(struct dma_stage *s, struct iommu_domain *d)
{
	int r = 0;

	for (size_t page = 0; page < s->buf.size / PAGE_SIZE && r == 0; page++)
		r = s->iommu->ops->map(d, iova(s->far.v + page * PAGE_SIZE),
				       gpa(s->buf.pa.v + scattered(s, page) * PAGE_SIZE), PAGE_SIZE, IOMMU_RW,
				       PAGE_SIZE);
	return r;
}

/* The buffer, and what else shares its leaves. */
static int map_buffer(struct dma_stage *s, enum stage_mode mode, struct iommu_domain *d)
{
	const uint64_t leaf = leaf_size(mode), low = align_down(s->far.v, leaf);

	return s->iommu->ops->map(d, iova(low), gpa(align_down(s->buf.pa.v, leaf)),
				  (size_t)(align_up(s->far.v + s->buf.size, leaf) - low), IOMMU_RW, (size_t)leaf);
}

static int map_all(struct dma_stage *s, enum stage_mode mode)
{
	const struct iommu_ops *ops = s->iommu->ops;
	struct iommu_domain *d = &s->domain[mode];
	int r = 0;

	for (unsigned i = 0; i < s->ex->own_count && r == 0; i++)
		r = ops->map(d, iova(s->ex->own[i].pa.v), s->ex->own[i].pa, s->ex->own[i].size, IOMMU_RW,
			     PAGE_SIZE);
	if (r == 0 && mode == STAGE_SCATTERED)
		r = map_scattered(s, d);
	else if (r == 0 && (mode == STAGE_STRICT || mode == STAGE_DEFERRED)) /* see DMA_STAGE_FIRST */
		r = ops->map(d, s->far, s->buf.pa, DMA_STAGE_FIRST, IOMMU_RW, PAGE_SIZE);
	else if (r == 0)
		r = map_buffer(s, mode, d);
	if (r == 0)
		r = ops->sync(d, NULL, deadline_in(MS(500)));
	return r;
}

static void prepare(struct dma_stage *s, enum stage_mode mode)
{
	const struct iommu_ops *ops = s->iommu->ops;
	struct iommu_domain *d = &s->domain[mode];
	int r;

	d->iommu = s->iommu;
	r = ops->domain_init(d, mode == STAGE_PASSTHROUGH);
	if (r == 0 && mode != STAGE_PASSTHROUGH) {
		r = map_all(s, mode);
		if (r < 0)
			ops->domain_fini(d);
	}
	s->has[mode] = r == 0;
	if (r < 0)
		EXPECT_MSG(s->t, false, PRIRID " %s: its domain cannot be made: -%s", RIDARG(s->ex->dev->rid),
			   dma_stage_name(s, mode), err_name(r));
}

/* From domain to domain, and from device to device, the unit stays on: turning it costs a VMM milliseconds. */
static int switch_mode(struct dma_stage *s, enum stage_mode to)
{
	const enum stage_mode from = s->mode;
	int r = 0;

	/* Another device's stage may have turned the unit meanwhile. */
	if (from == to && (!s->iommu || s->iommu->translating == (to != STAGE_OFF)))
		return 0;
	if (from != STAGE_OFF)
		(void)s->iommu->ops->detach(&s->domain[from], s->ex->rid);
	s->mode = to;
	s->stale = 0;
	if (to != STAGE_OFF)
		r = s->iommu->ops->attach(&s->domain[to], s->ex->rid);
	if (to == STAGE_OFF && s->iommu->translating)
		s->iommu->ops->disable(s->iommu);
	else if (r == 0 && to != STAGE_OFF && !s->iommu->translating)
		r = s->iommu->ops->enable(s->iommu);
	return r;
}

int dma_stage_map(struct dma_stage *s, size_t off, size_t len)
{
	const size_t first = (size_t)align_down(off, PAGE_SIZE);

	if (!dma_stage_remaps(s))
		return 0;
	return s->iommu->ops->map(&s->domain[s->mode], iova(s->far.v + first), gpa(s->buf.pa.v + first),
				  (size_t)align_up(off + len - first, PAGE_SIZE), IOMMU_RW, PAGE_SIZE);
}

int dma_stage_unmap(struct dma_stage *s, size_t off, size_t len)
{
	const size_t first = (size_t)align_down(off, PAGE_SIZE);
	const struct sync_range range = {.iova = iova(s->far.v + first),
					 .size = (size_t)align_up(off + len - first, PAGE_SIZE)};
	struct iommu_domain *d = &s->domain[s->mode];
	int r;

	if (!dma_stage_remaps(s))
		return 0;
	r = s->iommu->ops->unmap(d, range.iova, range.size);
	if (r == 0 && (s->mode == STAGE_STRICT || ++s->stale == DMA_STAGE_BATCH)) {
		r = s->iommu->ops->sync(d, s->mode == STAGE_STRICT ? &range : NULL, deadline_in(MS(500)));
		s->stale = 0;
	}
	return r;
}

bool dma_stage_enter(struct dma_stage *s, enum stage_mode mode)
{
	int r;

	/* A device that fetches rings must not see them vanish: it stops, and starts in the new mode. */
	for (unsigned i = 0; i < exerciser_count; i++)
		if (exercisers[i].ready)
			exercisers[i].ops->quiesce(&exercisers[i]);
	r = switch_mode(s, mode);
	if (r == 0)
		r = exerciser_start(s->ex);
	return EXPECT_MSG(s->t, r == 0, PRIRID " %s: cannot be entered: -%s", RIDARG(s->ex->dev->rid),
			  dma_stage_name(s, mode), err_name(r));
}

void dma_stage_close(struct dma_stage *s)
{
	if (!s->buf.va)
		return;
	s->ex->ops->quiesce(s->ex);
	(void)switch_mode(s, STAGE_OFF);
	for (enum stage_mode m = STAGE_PASSTHROUGH; m < STAGE_MODES; m++)
		if (s->has[m])
			s->iommu->ops->domain_fini(&s->domain[m]);
	dma_free(&s->buf);
	s->buf.va = NULL;
}

static void close_at_end(void *s) { dma_stage_close(s); }

bool dma_stage_open(struct dma_stage *s, struct t *t, struct exerciser *ex, size_t size)
{
	struct iommu *iommu = ex->bypasses_iommu ? NULL : iommu_of(ex->dev);

	memset(s, 0, sizeof(*s));
	s->t = t;
	s->ex = ex;
	if (!dma_alloc(&s->buf, size, PAGE_2M, PHYS_ANY) && !dma_alloc(&s->buf, size, PAGE_SIZE, PHYS_ANY))
		return false;
	s->has[STAGE_OFF] = true;
	test_cleanup(t, close_at_end, s);
	if (!iommu || iommu->broken || !iommu->caps.translation)
		return true;
	s->iommu = iommu;
	if (!choose_far(s))
		return true;
	if (iommu->caps.passthrough)
		prepare(s, STAGE_PASSTHROUGH);
	for (enum stage_mode mode = STAGE_4K; mode <= STAGE_SCATTERED; mode++)
		prepare(s, mode);
	if (iommu->caps.page_2m && is_aligned(s->buf.pa.v, PAGE_2M) && is_aligned(s->buf.size, PAGE_2M))
		prepare(s, STAGE_2M);
	if (iommu->caps.page_1g)
		prepare(s, STAGE_1G);
	return true;
}
