/* SPDX-License-Identifier: MIT */

#include "kernel/lib/string.h"
#include "tests/dma/dma_test.h"

#define PAGE_2M 0x200000ull

static uint64_t leaf_size(enum stage_mode mode) { return mode == STAGE_2M ? PAGE_2M : PAGE_SIZE; }

const char *dma_stage_name(const struct dma_stage *s, enum stage_mode mode)
{
	switch (mode) {
	case STAGE_PASSTHROUGH:
		return "passthrough";
	case STAGE_4K:
		return "translate";
	case STAGE_2M:
		return "translate-2m";
	default:
		return s->iommu ? "off" : s->ex->bypasses_iommu ? "bypass" : "none";
	}
}

iova_t dma_stage_addr(const struct dma_stage *s, size_t off)
{
	const bool translated = s->mode == STAGE_4K || s->mode == STAGE_2M;

	return iova((translated ? s->far.v : s->buf.pa.v) + off);
}

/* An address for the buffer that is no RAM, so that an untranslated access shows. */
static bool choose_far(struct dma_stage *s)
{
	unsigned bit = s->iommu->caps.iova_bits;

	/* From the top: addresses that use as many bits as the tables and the device have. */
	for (bit = bit < 31 || bit > 47 ? 46 : bit - 1; bit >= 30; bit--) {
		const uint64_t at = BIT64(bit) + PAGE_2M * 3;

		if (at + s->buf.size - 1 <= s->ex->dma_mask && !phys_touches_ram(at, s->buf.size)) {
			s->far = iova(at);
			return true;
		}
	}
	return false;
}

static int map_all(struct dma_stage *s, enum stage_mode mode)
{
	const struct iommu_ops *ops = s->iommu->ops;
	struct iommu_domain *d = &s->domain[mode];
	int r = 0;

	for (unsigned i = 0; i < s->ex->own_count && r == 0; i++)
		r = ops->map(d, iova(s->ex->own[i].pa.v), s->ex->own[i].pa, s->ex->own[i].size, IOMMU_RW,
			     PAGE_SIZE);
	if (r == 0)
		r = ops->map(d, s->far, s->buf.pa, s->buf.size, IOMMU_RW, (size_t)leaf_size(mode));
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

/* From domain to domain the unit stays on: turning it on and off costs a VMM milliseconds. */
static int switch_mode(struct dma_stage *s, enum stage_mode to)
{
	const enum stage_mode from = s->mode;
	int r = 0;

	if (from == to)
		return 0;
	if (from != STAGE_OFF)
		(void)s->iommu->ops->detach(&s->domain[from], s->ex->rid);
	s->mode = to;
	if (to == STAGE_OFF)
		s->iommu->ops->disable(s->iommu);
	else
		r = s->iommu->ops->attach(&s->domain[to], s->ex->rid);
	if (r == 0 && from == STAGE_OFF)
		r = s->iommu->ops->enable(s->iommu);
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
	prepare(s, STAGE_4K);
	if (iommu->caps.page_2m && is_aligned(s->buf.pa.v, PAGE_2M) && is_aligned(s->buf.size, PAGE_2M))
		prepare(s, STAGE_2M);
	return true;
}
