/* SPDX-License-Identifier: MIT */

#include "tests/dma/series.h"

#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"

#define BUFFER     (4u << 20)
#define BUFFER_LOW (1u << 20)            /* where memory is short, or clearing it takes long */
#define DEVICES    4                     /* of those that are timed; more say so */
#define ASKED_MAX  512                   /* of iterations= */
#define ENOUGH     SEC(60)               /* no further round after that; below the tests' budget */
#define TIMING     MS(1500)              /* … in the timing suite */
#define OFTEN      64                    /* … nor after so many of them */
#define WARM_UP    4u                    /* transfers before a burst */
#define SLOW       4                     /* fewer samples where machine_is_slow() */
#define BURST_ENDS SEC(2)

struct plan {
	struct dma_series s;
	bool skip;                       /* this device has no such size or depth */
	uint64_t *each, *whole;          /* of all modes, directions and visits, see samples() */
};

struct device {
	struct dma_stage stage;
	struct plan plan[DMA_SERIES_MAX];
	size_t size;                     /* of its buffer */
	bool lost[STAGE_MODES];          /* what failed in a mode has been said: no figures of it */
	bool dead;                       /* … nor of any */
};

struct runner {
	struct t *t;
	struct device *dev[DEVICES];
	unsigned devices, series;
	bool slow;
	unsigned visits, done;           /* of each mode: room for, and made */
	uint64_t seed, empty;
};

/* One run of all visits in each mode and direction; per: samples in a visit. */
static uint64_t *samples(const struct runner *m, uint64_t *all, size_t per, enum stage_mode mode, enum dma_dir dir)
{
	return all + (mode * 2u + dir) * m->visits * per;
}

/* ---- one burst ---- */

/* Where mappings come and go, no two transfers share a page. */
static size_t stride(const struct dma_stage *s, size_t size)
{
	return dma_stage_remaps(s) ? (size_t)align_up(size, PAGE_SIZE) : size;
}

static size_t slots(const struct dma_stage *s, size_t size)
{
	const size_t room = s->buf.size - (dma_stage_remaps(s) ? DMA_STAGE_FIRST : 0);

	return (size_t)MIN(room / stride(s, size), s->ex->medium_size / size);
}

static size_t offset(const struct dma_stage *s, size_t size, size_t slot)
{
	return slot * stride(s, size) + (dma_stage_remaps(s) ? DMA_STAGE_FIRST : 0);
}

static int start_one(struct dma_stage *s, enum dma_dir dir, const struct dma_series *q, unsigned i)
{
	const size_t slot = i % slots(s, q->size), off = offset(s, q->size, slot);
	const struct dma_req req = {.dir = dir, .addr = dma_stage_addr(s, off), .len = q->size,
				    .dev_off = slot * q->size, .tag = i};
	const int r = dma_stage_map(s, off, q->size);

	return r < 0 ? r : s->ex->ops->dma_start(s->ex, &req);
}

/* 1: one is done, and its time is in each[]; 0: none yet. */
static int finish_one(struct dma_stage *s, const struct dma_series *q, unsigned started, const uint64_t *began,
		      uint64_t *each)
{
	struct dma_status status = {0};
	int r = s->ex->ops->dma_poll(s->ex, &status);

	if (r == -EAGAIN)
		return 0;
	if (r == 0 && (status.error || status.tag >= started))
		return -EIO;
	if (r == 0)
		r = dma_stage_unmap(s, offset(s, q->size, status.tag % slots(s, q->size)), q->size);
	if (r < 0)
		return r;
	each[status.tag] = tsc_read() - began[status.tag];
	return 1;
}

static int burst(struct dma_stage *s, enum dma_dir dir, const struct dma_series *q, uint64_t *each, uint64_t *whole)
{
	const struct deadline end = deadline_in(BURST_ENDS);
	uint64_t began[DMA_BURST_MAX];
	unsigned started = 0, done = 0;
	const uint64_t t0 = tsc_read();

	while (done < q->count) {
		int r;

		while (started < q->count && started - done < q->depth) {
			began[started] = tsc_read();
			r = start_one(s, dir, q, started);
			if (r < 0)
				return r;
			started++;
		}
		r = finish_one(s, q, started, began, each);
		if (r < 0)
			return r;
		if (r == 0 && deadline_passed(end))
			return -ETIMEDOUT;
		done += (unsigned)r;
	}
	*whole = tsc_read() - t0;
	return 0;
}

/* ---- what was moved ---- */

/* Calls fn on the checked words of a burst until it returns false: the word's offset; or -1: on all. */
static int64_t stamps(struct dma_stage *s, const struct dma_series *q, uint64_t seed,
		      bool (*fn)(const struct exerciser *, volatile uint64_t *, uint64_t))
{
	const size_t n = MIN(q->count, slots(s, q->size));

	for (size_t slot = 0; slot < n; slot++) {
		const size_t first = offset(s, q->size, slot);

		for (size_t at = 0; at < q->size; at += PAGE_SIZE) {
			const size_t word[] = {first + at, first + q->size - 8};

			for (unsigned i = 0; i < (at + PAGE_SIZE >= q->size ? 2 : 1); i++)
				if (!fn(s->ex, dma_stage_va(s, word[i]), pattern_word(seed, word[i])))
					return (int64_t)word[i];
		}
	}
	return -1;
}

static bool put(const struct exerciser *ex, volatile uint64_t *word, uint64_t v)
{
	(void)ex;
	*word = v;
	return true;
}

/* The word is what the device's medium has. */
static bool matches(const struct exerciser *ex, volatile uint64_t *word, uint64_t v)
{
	const uint64_t own = ex->fill_word ? ex->fill_word * 0x100000001ull : (uint8_t)ex->fill * 0x0101010101010101ull;

	return *word == (ex->caps & EX_DMA_COPY ? v : own);
}

/* The medium's content is not known to us: at least the word is not what stood there before. */
static bool differs(const struct exerciser *ex, volatile uint64_t *word, uint64_t v)
{
	(void)ex;
	return *word != v;
}

static bool check_stamps(struct runner *m, struct dma_stage *s, const struct dma_series *q, uint64_t before,
			 uint64_t medium)
{
	const struct exerciser *ex = s->ex;
	const bool known = (ex->caps & EX_DMA_COPY) || ex->fill >= 0;
	const int64_t at = known ? stamps(s, q, medium, matches) : stamps(s, q, before, differs);
	const char *what = "wrong";

	if (at >= 0 && *(volatile uint64_t *)dma_stage_va(s, (size_t)at) == pattern_word(before, (size_t)at))
		what = "nothing was written";
	return EXPECT_MSG(m->t, at < 0, PRIRID " %s %s: transfers of %zu bytes, %u in flight: %s at offset 0x%llx",
			  RIDARG(ex->dev->rid), ex->ops->name, dma_stage_name(s, s->mode), q->size, q->depth, what,
			  (unsigned long long)at);
}

static bool can(const struct exerciser *ex, enum dma_dir dir)
{
	return ex->caps & (dir == DMA_READ ? EX_DMA_READ : EX_DMA_WRITE);
}

/*
 * A warm-up and a burst in each direction; memory is read first, so that there is something to write. -errno of a
 * burst, -EIO where other bytes came, reported as checks that did not hold.
 */
static int measure(struct runner *m, struct dma_stage *s, struct plan *p, uint64_t number)
{
	const struct dma_series *q = &p->s;
	const uint64_t medium = m->seed + 2 * number, before = medium + 1;
	uint64_t each[DMA_BURST_MAX], whole;

	for (enum dma_dir dir = DMA_READ; dir <= DMA_WRITE; dir++) {
		struct dma_series warm = *q;
		int r;

		if (!can(s->ex, dir))
			continue;
		warm.count = MIN(MAX(q->depth / 4, 1u), WARM_UP);
		stamps(s, q, dir == DMA_READ ? medium : before, put);
		r = burst(s, dir, &warm, each, &whole);
		if (dir == DMA_WRITE)
			stamps(s, q, before, put);
		if (r == 0)
			r = burst(s, dir, q, each, &whole);
		if (!EXPECT_MSG(m->t, r == 0, PRIRID " %s %s: %s of %zu bytes, %u in flight: -%s", RIDARG(s->ex->dev->rid),
				s->ex->ops->name, dma_stage_name(s, s->mode), dir == DMA_READ ? "read" : "write",
				q->size, q->depth, err_name(r)))
			return r;
		if (dir == DMA_WRITE && !check_stamps(m, s, q, before, medium))
			return -EIO;
		for (unsigned i = 0; i < q->count; i++)
			samples(m, p->each, q->count, s->mode, dir)[number * q->count + i] = each[i] - MIN(each[i], m->empty);
		samples(m, p->whole, 1, s->mode, dir)[number] = MAX(whole, 1u);
	}
	return 0;
}

/* ---- visits ---- */

/* Where mappings come and go, all transfers in flight need a place of their own beside what stays mapped. */
static bool has(const struct device *dev, const struct plan *p, enum stage_mode mode)
{
	const bool remaps = mode == STAGE_STRICT || mode == STAGE_DEFERRED;

	if (mode == STAGE_SCATTERED && dev->stage.ex->dma_frames && p->s.size / PAGE_SIZE > dev->stage.ex->dma_frames)
		return false;
	return !p->skip && dev->stage.has[mode] && !dev->lost[mode] && p->s.modes >= mode &&
	       (!remaps || (dev->size - DMA_STAGE_FIRST) / align_up(p->s.size, PAGE_SIZE) >= p->s.depth);
}

static void visit(struct runner *m, enum stage_mode mode, uint64_t number)
{
	for (unsigned d = 0; d < m->devices; d++) {
		struct device *dev = m->dev[d];
		bool entered = false;

		for (unsigned i = 0; i < m->series && !dev->dead; i++) {
			int r;

			if (!has(dev, &dev->plan[i], mode))
				continue;
			dev->dead = !entered && !dma_stage_enter(&dev->stage, mode);
			if (dev->dead)
				break;
			entered = true;
			r = measure(m, &dev->stage, &dev->plan[i], number);
			/* It is started anew in the next mode; one that cannot be, or does not end, is not waited for again and again. */
			dev->lost[mode] = r < 0;
			dev->dead = r == -ETIMEDOUT;
		}
	}
}

/* Every mode twice, there and back; STAGE_OFF at both ends, so that the unit goes on and off once. */
static void round_trip(struct runner *m)
{
	for (enum stage_mode mode = 0; mode < STAGE_MODES; mode++)
		visit(m, mode, m->done);
	if (++m->done >= m->visits)
		return;
	for (enum stage_mode mode = STAGE_MODES; mode-- > 0;)
		visit(m, mode, m->done);
	m->done++;
}

static void plan_series(struct runner *m, struct device *dev, const struct dma_series *wanted, bool wide)
{
	const struct exerciser *ex = dev->stage.ex;
	unsigned last = 0;

	for (unsigned i = 0; i < m->series; i++) {
		struct plan *p = &dev->plan[i];

		p->s = wanted[i];
		p->s.depth = MIN(p->s.depth, ex->dma_depth);
		p->s.count = MIN(p->s.count, (unsigned)DMA_BURST_MAX);
		if (wide)
			p->s.modes = STAGE_MODES - 1;
		if (m->slow) {
			p->s.count = MAX(p->s.count / SLOW, 1u);
			p->s.modes = MIN(p->s.modes, STAGE_4K);
		}
		p->skip = (p->s.wide && !wide) || p->s.size < ex->dma_min || p->s.size > ex->dma_max ||
			  p->s.size % ex->dma_align || p->s.size > ex->medium_size || p->s.size > dev->size ||
			  (last && p->s.depth == dev->plan[last - 1].s.depth && p->s.size == dev->plan[last - 1].s.size);
		if (p->skip)
			continue;
		last = i + 1;
		p->each = test_alloc(m->t, (size_t)m->visits * STAGE_MODES * 2 * (p->s.count + 1) * sizeof(uint64_t));
		p->whole = p->each + (size_t)m->visits * STAGE_MODES * 2 * p->s.count;
	}
}

static void open_devices(struct runner *m, const struct dma_series *wanted, bool wide)
{
	FOR_EACH_EXERCISER(m->t, ex, EX_DMA_TIMED) {
		struct device *dev;

		if (!can(ex, DMA_READ) && !can(ex, DMA_WRITE))
			continue;
		if (m->devices == DEVICES) {
			test_note(m->t, PRIRID " %s is not timed: device= asks for it", RIDARG(ex->dev->rid),
				  ex->ops->name);
			continue;
		}
		dev = m->dev[m->devices++] = test_alloc(m->t, sizeof(*dev));
		if ((m->slow || !dma_stage_open(&dev->stage, m->t, ex, BUFFER)) &&
		    !dma_stage_open(&dev->stage, m->t, ex, BUFFER_LOW))
			test_error(m->t, "no memory for a buffer of %u bytes", BUFFER_LOW);
		dev->size = dev->stage.buf.size;
		plan_series(m, dev, wanted, wide);
	}
}

static void print_device(struct runner *m, struct device *dev, void (*print)(struct t *, const struct dma_figures *))
{
	for (unsigned i = 0; i < m->series; i++)
		for (enum dma_dir dir = DMA_READ; dir <= DMA_WRITE; dir++)
			for (enum stage_mode mode = 0; mode < STAGE_MODES; mode++) {
				struct plan *p = &dev->plan[i];
				struct dma_figures f = {.stage = &dev->stage, .series = &p->s, .mode = mode, .dir = dir,
							.slow = m->slow};

				if (!has(dev, p, mode) || !can(dev->stage.ex, dir))
					continue;
				fmt_snprintf(f.name, sizeof(f.name), "dev=" PRIRID " what=%s mode=%s size=%zu depth=%u",
					     RIDARG(dev->stage.ex->dev->rid), dir == DMA_READ ? "read" : "write",
					     dma_stage_name(&dev->stage, mode), p->s.size, p->s.depth);
				f.each = samples(m, p->each, p->s.count, mode, dir);
				f.whole = samples(m, p->whole, 1, mode, dir);
				f.each_count = (size_t)m->done * p->s.count;
				f.whole_count = m->done;
				f.visits = MIN(m->visits, 2u);
				print(m->t, &f);
			}
}

void dma_series_run(struct t *t, const struct dma_series *wanted, unsigned count,
		    void (*print)(struct t *, const struct dma_figures *))
{
	const uint64_t asked = MIN(test_iterations(t, 0), (uint64_t)ASKED_MAX);
	struct rounds rounds = test_rounds(t, OFTEN, TIMING);
	struct runner m = {.t = t, .series = MIN(count, (unsigned)DMA_SERIES_MAX), .seed = test_seed(t),
			   .empty = test_measure_nothing()};

	m.slow = !asked && machine_is_slow();
	if (m.slow)
		rounds.most = 1;
	m.visits = m.slow ? 1 : 2 * (unsigned)MAX(asked, rounds.most);
	open_devices(&m, wanted, test_wide(t));
	if (asked)
		rounds = (struct rounds){.most = asked, .enough = deadline_in(ENOUGH)};
	while (test_round(t, &rounds))
		round_trip(&m);
	for (unsigned d = 0; d < m.devices; d++) {
		dma_stage_close(&m.dev[d]->stage);
		if (!m.dev[d]->dead)
			print_device(&m, m.dev[d], print);
	}
}
