/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/dma/dma_test.h"

/*
 * How long a transfer takes, how much goes through, and what an IOMMU in its way costs.
 *
 * Each series is measured with the IOMMU off, in pass-through and translating, in turns within one
 * round and several rounds one after the other, so that a machine that gets slower or faster meanwhile
 * does so for all of them alike. A sample is TSC ticks from before the device is told to the completion
 * seen in memory. Between the first and the last sample of a burst nothing is printed and no other
 * register is touched. What was moved is checked after the burst: a word of every page, and the last of
 * every transfer (dma.integrity looks at each byte). On a machine that is slow there are fewer samples
 * and rounds, unless iterations= asks for a number; n says how many there were.
 */

#define BUFFER      (4u << 20)
#define BUFFER_LOW  (1u << 20)           /* where memory is short, or clearing it takes long */
#define BUDGET      30000                /* ms; the figures themselves take little of it */
#define ROUNDS      3
#define ROUNDS_MAX  4096
#define ENOUGH      MS(80)               /* a device: no further round after that */
#define BURST_MAX   64
#define WARM_UP     4u                   /* transfers before a burst */
#define SLOW        4                    /* … and so many times fewer where machine_is_slow() */
#define BURST_ENDS  SEC(2)

struct series {
	size_t size;
	unsigned depth, count;           /* transfers in flight; in a burst */
	bool skip;                       /* this device has no such size */
	uint64_t *each, *whole;          /* ticks of each transfer and of each burst, see samples() */
};

struct timing {
	struct t *t;
	struct dma_stage *stage;
	bool slow;
	uint64_t rounds, done;           /* room for, and measured */
	uint64_t seed, empty;            /* empty: ticks of measuring nothing */
};

/* One run of all rounds in each mode and direction; per: samples in a round. */
static uint64_t *samples(const struct timing *m, uint64_t *all, size_t per, enum stage_mode mode,
			 enum dma_dir dir)
{
	return all + (mode * 2u + dir) * m->rounds * per;
}

/* ---- one burst ---- */

static size_t slots(const struct dma_stage *s, size_t size)
{
	return (size_t)MIN(s->buf.size / size, s->ex->medium_size / size);
}

static int burst(struct timing *m, enum dma_dir dir, const struct series *q, uint64_t *each, uint64_t *whole)
{
	struct dma_stage *s = m->stage;
	struct exerciser *ex = s->ex;
	const size_t n = slots(s, q->size);
	const struct deadline end = deadline_in(BURST_ENDS);
	uint64_t began[BURST_MAX];
	unsigned started = 0, done = 0;
	const uint64_t t0 = tsc_read();

	while (done < q->count) {
		struct dma_status status = {0};
		int r;

		while (started < q->count && started - done < q->depth) {
			const size_t off = started % n * q->size;
			const struct dma_req req = {.dir = dir,
						    .addr = dma_stage_addr(s, off),
						    .len = q->size,
						    .dev_off = off,
						    .tag = started};

			began[started] = tsc_read();
			r = ex->ops->dma_start(ex, &req);
			if (r < 0)
				return r;
			started++;
		}
		r = ex->ops->dma_poll(ex, &status);
		if (r == 0 && (status.error || status.tag >= started))
			return -EIO;
		if (r == 0)
			each[status.tag] = tsc_read() - began[status.tag];
		else if (r != -EAGAIN)
			return r;
		else if (deadline_passed(end))
			return -ETIMEDOUT;
		done += r == 0;
	}
	*whole = tsc_read() - t0;
	return 0;
}

/* ---- what was moved ---- */

/* Calls fn on the checked words of a burst until it returns false; where it stopped, or the end. */
static size_t stamps(struct timing *m, const struct series *q, uint64_t seed,
		     bool (*fn)(const struct exerciser *, volatile uint64_t *, uint64_t))
{
	const size_t n = MIN(q->count, slots(m->stage, q->size));
	uint8_t *base = m->stage->buf.va;

	for (size_t slot = 0; slot < n; slot++)
		for (size_t at = 0; at < q->size; at += PAGE_SIZE) {
			const size_t first = slot * q->size + at, last = (slot + 1) * q->size - 8;

			if (!fn(m->stage->ex, (volatile uint64_t *)(void *)(base + first),
				pattern_word(seed, first)))
				return first;
			if (at + PAGE_SIZE >= q->size &&
			    !fn(m->stage->ex, (volatile uint64_t *)(void *)(base + last),
				pattern_word(seed, last)))
				return last;
		}
	return n * q->size;
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

static void check_stamps(struct timing *m, const struct series *q, uint64_t before, uint64_t medium)
{
	const struct exerciser *ex = m->stage->ex;
	const bool known = (ex->caps & EX_DMA_COPY) || ex->fill >= 0;
	const size_t end = MIN(q->count, slots(m->stage, q->size)) * q->size;
	const size_t at = known ? stamps(m, q, medium, matches) : stamps(m, q, before, differs);

	EXPECT_MSG(m->t, at == end,
		   PRIRID " %s %s: transfers of %zu bytes, %u in flight: wrong at offset 0x%zx",
		   RIDARG(ex->dev->rid), ex->ops->name, dma_stage_name(m->stage, m->stage->mode), q->size,
		   q->depth, at);
}

static bool can(const struct exerciser *ex, enum dma_dir dir)
{
	return ex->caps & (dir == DMA_READ ? EX_DMA_READ : EX_DMA_WRITE);
}

/* A warm-up and a burst in each direction; memory is read first, so that there is something to write. */
static bool measure(struct timing *m, struct series *q, uint64_t round)
{
	const enum stage_mode mode = m->stage->mode;
	const uint64_t medium = m->seed + 2 * round, before = medium + 1;
	uint64_t each[BURST_MAX], whole;

	for (enum dma_dir dir = DMA_READ; dir <= DMA_WRITE; dir++) {
		const struct series warm = {
			.size = q->size, .depth = q->depth, .count = MIN(q->depth, WARM_UP)};
		int r;

		if (!can(m->stage->ex, dir))
			continue;
		stamps(m, q, dir == DMA_READ ? medium : before, put);
		r = burst(m, dir, &warm, each, &whole);
		if (dir == DMA_WRITE)
			stamps(m, q, before, put);
		if (r == 0)
			r = burst(m, dir, q, each, &whole);
		if (!EXPECT_MSG(m->t, r == 0, PRIRID " %s %s: %s of %zu bytes, %u in flight: -%s",
				RIDARG(m->stage->ex->dev->rid), m->stage->ex->ops->name,
				dma_stage_name(m->stage, mode), dir == DMA_READ ? "read" : "write", q->size,
				q->depth, err_name(r)))
			return false;
		if (dir == DMA_WRITE)
			check_stamps(m, q, before, medium);
		for (unsigned i = 0; i < q->count; i++)
			samples(m, q->each, q->count, mode, dir)[round * q->count + i] =
				each[i] - MIN(each[i], m->empty);
		samples(m, q->whole, 1, mode, dir)[round] = MAX(whole, 1u);
	}
	return true;
}

/* ---- rounds ---- */

static uint64_t measure_nothing(void)
{
	uint64_t least = ~0ull;

	for (unsigned i = 0; i < 64; i++) {
		const uint64_t t0 = tsc_read(), ticks = tsc_read() - t0;

		least = MIN(least, ticks);
	}
	return least;
}

static void fit(struct series *q, const struct exerciser *ex, bool slow)
{
	q->depth = MIN(q->depth, ex->dma_depth);
	q->count = MIN(q->count, (unsigned)BURST_MAX);
	if (slow)
		q->count = MAX(q->count / SLOW, 1u);
	q->skip = q->size < ex->dma_min || q->size > ex->dma_max || q->size % ex->dma_align ||
		  q->size > ex->medium_size;
}

typedef void (*print_fn)(struct timing *, const struct series *, enum stage_mode, enum dma_dir);

static void run_device(struct timing *m, struct series *plan, unsigned n, unsigned modes, print_fn print)
{
	struct dma_stage *s = m->stage;
	const struct deadline enough = deadline_in(ENOUGH);
	size_t total = 0;
	uint64_t *block;

	for (unsigned i = 0; i < n; i++) {
		fit(&plan[i], s->ex, m->slow);
		total += plan[i].count + 1;
	}
	block = test_alloc(m->t, total * STAGE_MODES * 2 * m->rounds * sizeof(*block));
	for (unsigned i = 0; i < n; i++) {
		plan[i].each = block;
		block += plan[i].count * STAGE_MODES * 2 * m->rounds;
		plan[i].whole = block;
		block += STAGE_MODES * 2 * m->rounds;
	}
	m->done = 0;
	do {
		for (enum stage_mode mode = 0; mode < modes; mode++) {
			if (!s->has[mode])
				continue;
			if (!dma_stage_enter(s, mode))
				return;
			for (unsigned i = 0; i < n; i++)
				if (!plan[i].skip && !measure(m, &plan[i], m->done))
					return;
		}
	} while (++m->done < m->rounds && !(m->rounds == ROUNDS && deadline_passed(enough)));
	for (unsigned i = 0; i < n; i++)
		for (enum dma_dir dir = DMA_READ; dir <= DMA_WRITE; dir++)
			for (enum stage_mode mode = 0; mode < modes; mode++)
				if (s->has[mode] && !plan[i].skip && can(s->ex, dir))
					print(m, &plan[i], mode, dir);
}

static void run(struct t *t, const struct series *wanted, unsigned n, unsigned modes, print_fn print)
{
	struct timing m = {.t = t, .rounds = MIN(test_iterations(t, ROUNDS), (uint64_t)ROUNDS_MAX),
			   .seed = test_seed(t), .empty = measure_nothing()};
	struct series plan[8];

	m.slow = m.rounds == ROUNDS && machine_is_slow();
	if (m.slow)
		modes = MIN(modes, (unsigned)STAGE_2M);
	FOR_EACH_EXERCISER(t, ex, EX_DMA_TIMED) {
		if (!can(ex, DMA_READ) && !can(ex, DMA_WRITE))
			continue;
		m.stage = test_alloc(t, sizeof(*m.stage));
		if ((m.slow || !dma_stage_open(m.stage, t, ex, BUFFER)) &&
		    !dma_stage_open(m.stage, t, ex, BUFFER_LOW))
			test_error(t, "no memory for a buffer of %u bytes", BUFFER_LOW);
		for (unsigned i = 0; i < n; i++)
			plan[i] = wanted[i];
		run_device(&m, plan, n, modes, print);
		dma_stage_close(m.stage);
	}
}

static void name_series(const struct timing *m, const struct series *q, enum stage_mode mode,
			enum dma_dir dir, char *text, size_t size)
{
	fmt_snprintf(text, size, "dev=" PRIRID " what=%s mode=%s size=%zu depth=%u",
		     RIDARG(m->stage->ex->dev->rid), dir == DMA_READ ? "read" : "write",
		     dma_stage_name(m->stage, mode), q->size, q->depth);
}

static void print_latency(struct timing *m, const struct series *q, enum stage_mode mode, enum dma_dir dir)
{
	char text[128];

	name_series(m, q, mode, dir, text, sizeof(text));
	test_metric_ticks(m->t, text, samples(m, q->each, q->count, mode, dir), (size_t)m->done * q->count);
}

/* Units of work (>> shift) in a burst, as a rate: the slowest, the median and the fastest round. */
static void print_rate(struct timing *m, const struct series *q, enum stage_mode mode, enum dma_dir dir,
		       uint64_t work, unsigned shift, const char *unit)
{
	uint64_t *ticks = samples(m, q->whole, 1, mode, dir);
	char text[128];

	for (uint64_t i = 1; i < m->done; i++)
		for (uint64_t k = i; k > 0 && ticks[k] > ticks[k - 1]; k--) {
			const uint64_t x = ticks[k];

			ticks[k] = ticks[k - 1];
			ticks[k - 1] = x;
		}
	name_series(m, q, mode, dir, text, sizeof(text));
#define RATE(i) (unsigned long long)((work * 1000 * tsc_khz() / ticks[i]) >> shift)
	test_metric(m->t, "%s unit=%s n=%llu min=%llu p50=%llu max=%llu", text, unit,
		    (unsigned long long)m->done, RATE(0), RATE((m->done - 1) / 2), RATE(m->done - 1));
#undef RATE
}

static void print_bandwidth(struct timing *m, const struct series *q, enum stage_mode mode, enum dma_dir dir)
{
	print_rate(m, q, mode, dir, q->size * q->count, 20, "MiB/s");
}

static void print_depth(struct timing *m, const struct series *q, enum stage_mode mode, enum dma_dir dir)
{
	/* Where an instruction takes microseconds a line takes tens of milliseconds. */
	if (!m->slow)
		print_latency(m, q, mode, dir);
	print_rate(m, q, mode, dir, q->count, 0, "1/s");
}

TEST_FULL(dma, latency, 0, BUDGET, "time of one transfer by size: IOMMU off, pass-through and translating",
	  NEED_EX_DMA_TIMED)
{
	static const struct series sizes[] = {
		{.size = 512, .depth = 1, .count = 16},
		{.size = 4096, .depth = 1, .count = 16},
		{.size = 65536, .depth = 1, .count = 8},
		{.size = 1u << 20, .depth = 1, .count = 3},
	};

	run(t, sizes, ARRAY_SIZE(sizes), STAGE_MODES, print_latency);
}

TEST_FULL(dma, bandwidth, 0, BUDGET,
	  "bytes through by size, many transfers in flight: IOMMU off, pass-through and translating",
	  NEED_EX_DMA_TIMED)
{
	static const struct series sizes[] = {
		{.size = 512, .depth = 32, .count = 64},
		{.size = 4096, .depth = 32, .count = 64},
		{.size = 65536, .depth = 32, .count = 32},
		{.size = 1u << 20, .depth = 32, .count = 4},
	};

	run(t, sizes, ARRAY_SIZE(sizes), STAGE_2M, print_bandwidth);
}

TEST_FULL(dma, depth, 0, BUDGET,
	  "latency and rate of 4 KiB transfers by queue depth: IOMMU off, pass-through and translating",
	  NEED_EX_DMA_TIMED)
{
	static const struct series depths[] = {
		{.size = 4096, .depth = 1, .count = 48},
		{.size = 4096, .depth = 4, .count = 48},
		{.size = 4096, .depth = 32, .count = 64},
	};

	run(t, depths, ARRAY_SIZE(depths), STAGE_2M, print_depth);
}
