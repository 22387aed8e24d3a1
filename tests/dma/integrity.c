/* SPDX-License-Identifier: MIT */

#include "kernel/lib/fmt.h"
#include "tests/dma/dma_test.h"

/*
 * What a device moves is what was there, where it was asked for, and nothing beside it.
 *
 * A transfer goes out of one buffer into the device and back into another, at alignments and lengths
 * that cross page boundaries in every way the device takes; the bytes must be those of the source, the
 * bytes around them in both buffers what they were. A device whose medium keeps nothing writes a known
 * byte instead; a disk that holds somebody's data is only read, twice, and must say the same. What would
 * break it: a lost low address bit, a page list off by one, a short transfer, a write into a neighbour,
 * a bounce buffer that is not copied.
 *
 * The data paths are ordered by the device's completion alone (PCI 3.0, 3.2.5): the check comes right
 * after it.
 */

#define SLACK     (2 * PAGE_SIZE)        /* kept around each transfer, and looked at */
#define SMALL     (4 * PAGE_SIZE)        /* transfers of most cases */
#define CASES     48
#define CASES_SLOW 12
#define LONG_SLOW 0x10000                /* the longest transfer on a machine that is slow */
#define BAD_MAX   3                      /* a device that failed so often is not asked again */
#define SLOW_MAX  4                      /* edu: 100 ms a transfer, so all of them at once */
#define SLOW_TRIPS 1

struct bench {
	struct t *t;
	struct exerciser *ex;
	struct dma_buf out, in;
	struct pattern out_pattern, in_pattern;
	size_t max;                      /* bytes of the longest transfer */
	size_t window;                   /* of in: what the running case may touch, slack included */
	uint64_t seed;
	unsigned bad;                    /* cases that did not hold; a few are enough */
	unsigned trips;                  /* begun */
	bool lost;                       /* told: a transfer that was done moved nothing */
};

struct trip { size_t out_off, in_off, len; uint64_t dev_off; };

static uint64_t allowed(const struct exerciser *ex) { return ex->dma_ms ? SEC(2) : MS(500); }

static bool moved(struct bench *b, enum dma_dir dir, const struct trip *c, int r)
{
	const size_t off = dir == DMA_READ ? c->out_off : c->in_off;

	b->bad += r != 0;
	return EXPECT_MSG(b->t, r == 0, PRIRID " %s: %s of %zu bytes at page offset 0x%llx: -%s",
			  RIDARG(b->ex->dev->rid), b->ex->ops->name, dir == DMA_READ ? "read" : "write",
			  c->len, off % PAGE_SIZE, err_name(r));
}

static struct dma_req request(const struct bench *b, enum dma_dir dir, const struct trip *c)
{
	return (struct dma_req){
		.dir = dir,
		.addr = iova(dir == DMA_READ ? b->out.pa.v + c->out_off : b->in.pa.v + c->in_off),
		.len = c->len,
		.dev_off = c->dev_off,
	};
}

static bool transfer(struct bench *b, enum dma_dir dir, const struct trip *c)
{
	const struct dma_req req = request(b, dir, c);

	return moved(b, dir, c, exerciser_dma(b->ex, &req, allowed(b->ex)));
}

/* The rest of the window, before and after the transfer, as it was. */
static void check_around(struct bench *b, const struct trip *c)
{
	const size_t end = c->in_off + c->len;
	const size_t before = pattern_check(&b->in_pattern, b->in.va, 0, c->in_off);
	const size_t after = pattern_check(&b->in_pattern, b->in.va, end, b->window);
	const bool past = before == c->in_off;
	const bool ok = past && after == b->window;

	b->bad += !ok;
	EXPECT_MSG(b->t, ok, PRIRID " %s: write of %zu bytes at page offset 0x%llx changed a byte %zu %s it",
		   RIDARG(b->ex->dev->rid), b->ex->ops->name, c->len, c->in_off % PAGE_SIZE,
		   past ? after - end + 1 : c->in_off - before, past ? "past" : "before");
	if (!ok)
		pattern_fill(&b->in_pattern, b->in.va, 0, b->window);
}

static void refill(struct bench *b, const struct trip *c)
{
	pattern_fill(&b->in_pattern, b->in.va, c->in_off, c->in_off + c->len);
}

/* Done, the device says, and the whole target is what it was before. */
static void check_moved(struct bench *b, const struct trip *c)
{
	const size_t end = c->in_off + c->len;
	char evidence[112];

	if (b->lost || pattern_check(&b->in_pattern, b->in.va, c->in_off, end) != end || !exerciser_answers(b->ex))
		return;
	b->lost = true;
	fmt_snprintf(evidence, sizeof(evidence), "transfer %u: %zu bytes, done as the device says, and none of them changed",
		     b->trips, c->len);
	test_finding(b->t, "PLB111",
		     "an IOMMU that we do not see blocks it: the host's, whose mappings of this machine's memory are gone or were "
		     "never made",
		     "on the host: dmesg for DMAR or AMD-Vi faults of the device; QEMU's log for vfio_container_dma_map",
		     evidence, "DMA of " PRIRID " %s does not reach memory", RIDARG(b->ex->dev->rid), b->ex->ops->name);
}

/* Were c->len bytes at in those of want? NULL: those that the device makes up. */
static void check_data(struct bench *b, const struct trip *c, const uint8_t *want)
{
	const uint8_t *got = (const uint8_t *)b->in.va + c->in_off;
	size_t i = 0;

	if (want)
		i = bytes_differ(got, want, c->len);
	else if (b->ex->fill_word)
		while (i < c->len && got[i] == exerciser_byte(b->ex, i))
			i++;
	else if (got[0] == (uint8_t)b->ex->fill)
		i = bytes_differ(got, got + 1, c->len - 1) + 1; /* each as the one before it */
	b->bad += i < c->len;
	if (i < c->len)
		check_moved(b, c);
	EXPECT_MSG(b->t, i == c->len,
		   PRIRID
		   " %s: %zu bytes from page offset 0x%llx to 0x%llx: byte %zu is 0x%02x, expected 0x%02x",
		   RIDARG(b->ex->dev->rid), b->ex->ops->name, c->len, c->out_off % PAGE_SIZE,
		   c->in_off % PAGE_SIZE, i, got[MIN(i, c->len - 1)],
		   want ? want[MIN(i, c->len - 1)] : exerciser_byte(b->ex, i));
}

static void check_trip(struct bench *b, const struct trip *c)
{
	if (b->ex->caps & EX_DMA_COPY)
		check_data(b, c, (const uint8_t *)b->out.va + c->out_off);
	else if (b->ex->fill >= 0)
		check_data(b, c, NULL);
	check_around(b, c);
	refill(b, c);
}

/* A disk whose content is not ours: the same bytes, whatever the alignment. */
static void check_same_twice(struct bench *b, struct trip *c)
{
	struct trip second = *c;

	if (!transfer(b, DMA_WRITE, c)) {
		refill(b, c);
		return;
	}
	bytes_copy((uint8_t *)b->out.va + c->out_off, (const uint8_t *)b->in.va + c->in_off, c->len);
	check_around(b, c);
	refill(b, c);
	second.in_off = SLACK + (c->in_off + 2 * b->ex->dma_addr_align + 1028) % PAGE_SIZE;
	second.in_off -= second.in_off % b->ex->dma_addr_align;
	if (transfer(b, DMA_WRITE, &second)) {
		check_data(b, &second, (const uint8_t *)b->out.va + c->out_off);
		check_around(b, &second);
	}
	refill(b, &second);
}

static void run_trip(struct bench *b, struct trip *c)
{
	b->trips++;
	b->window = (size_t)align_up(c->in_off + c->len, PAGE_SIZE) + SLACK + PAGE_SIZE;
	if (!(b->ex->caps & EX_DMA_READ) && b->ex->fill < 0) {
		check_same_twice(b, c);
		return;
	}
	if (b->ex->caps & EX_DMA_READ && !transfer(b, DMA_READ, c))
		return;
	if (!(b->ex->caps & EX_DMA_WRITE))
		return;
	if (transfer(b, DMA_WRITE, c))
		check_trip(b, c);
	else
		refill(b, c);
}

static size_t bench_size(const struct bench *b)
{
	return (size_t)align_up(b->max, PAGE_SIZE) + 2 * SLACK + 2 * PAGE_SIZE;
}

static void bench_free(void *arg)
{
	struct bench *b = arg;

	b->ex->ops->quiesce(b->ex);
	dma_free(&b->out);
	dma_free(&b->in);
}

/* Memory that the device reaches. above: beyond 4 GiB where there is some, for addresses of 64 bits. */
static bool reachable(const struct exerciser *ex, struct dma_buf *buf, size_t size, bool above)
{
	static const enum phys_where where[] = {PHYS_ABOVE_4G, PHYS_ANY, PHYS_BELOW_4G};

	for (size_t i = above ? 0 : 1; i < ARRAY_SIZE(where); i++) {
		if (!dma_alloc(buf, size, PAGE_SIZE, where[i]))
			continue;
		if (!((buf->pa.v + size - 1) & ~ex->dma_mask))
			return true;
		dma_free(buf);
	}
	return false;
}

/* NULL: no memory that the device reaches; said in a note. */
static struct bench *bench_open(struct t *t, struct exerciser *ex, uint64_t seed)
{
	struct bench *b = test_alloc(t, sizeof(*b));
	size_t size;

	b->t = t;
	b->ex = ex;
	b->seed = seed;
	b->max = (size_t)MIN((uint64_t)ex->dma_max, ex->medium_size);
	if (machine_is_slow())
		b->max = MIN(b->max, (size_t)LONG_SLOW);
	b->window = size = bench_size(b);
	test_cleanup(t, bench_free, b);
	if (!reachable(ex, &b->out, size, false) || !reachable(ex, &b->in, size, true)) {
		test_note(t, PRIRID " %s: not tried: no two free pieces of %zu bytes where it reaches",
			  RIDARG(ex->dev->rid), ex->ops->name, size);
		return NULL;
	}
	pattern_init(&b->out_pattern, seed);
	pattern_init(&b->in_pattern, ~seed);
	pattern_fill(&b->out_pattern, b->out.va, 0, size);
	pattern_fill(&b->in_pattern, b->in.va, 0, size);
	return b;
}

/* The whole of both buffers at the end: nothing far away changed, and the sources were only read. */
static void bench_close(struct bench *b)
{
	const size_t size = bench_size(b);
	const size_t in = pattern_check(&b->in_pattern, b->in.va, 0, size);

	EXPECT_MSG(b->t, in == size, PRIRID " %s: byte 0x%zx of the buffer changed, far from every transfer",
		   RIDARG(b->ex->dev->rid), b->ex->ops->name, in);
	if (b->ex->caps & EX_DMA_READ) {
		const size_t out = pattern_check(&b->out_pattern, b->out.va, 0, size);

		EXPECT_MSG(b->t, out == size, PRIRID " %s: byte 0x%zx of what it was to read changed",
			   RIDARG(b->ex->dev->rid), b->ex->ops->name, out);
	}
	bench_free(b);
}

/* A page offset that the device takes: near one of the ends, or anywhere. */
static size_t random_offset(struct random *r, const struct exerciser *ex)
{
	const size_t a = ex->dma_addr_align;
	size_t off = random_below(r, PAGE_SIZE);

	switch (random_below(r, 4)) {
	case 0:
		off = 0;
		break;
	case 1:
		off = PAGE_SIZE - a * (1 + random_below(r, 8));
		break;
	case 2:
		off = a * (1 + random_below(r, 8));
		break;
	default:
		break;
	}
	return off - off % a;
}

static struct trip random_trip(struct random *r, const struct bench *b, size_t max)
{
	const struct exerciser *ex = b->ex;
	const size_t step = ex->dma_align;
	struct trip c = {.out_off = SLACK + random_offset(r, ex), .in_off = SLACK + random_offset(r, ex)};

	max = MIN(max, b->max);
	c.len = MAX(ex->dma_min, step * (1 + random_below(r, (uint32_t)(max / step))));
	c.dev_off = step * random_below(r, (uint32_t)((ex->medium_size - c.len) / step) + 1);
	return c;
}

static void fast_device(struct bench *b)
{
	const struct exerciser *ex = b->ex;
	const uint64_t cases = test_iterations(b->t, machine_is_slow() ? CASES_SLOW : CASES);
	struct random r = random_seed(b->seed ^ ex->dev->rid.v);

	for (uint64_t i = 0; i < cases && b->bad < BAD_MAX && !deadline_limit_passed(); i++) {
		struct trip c = random_trip(&r, b, SMALL);

		/* The corners first: a whole page, one block over a boundary, the longest, both at once. */
		if (i < 4) {
			c = (struct trip){
				.out_off = SLACK, .in_off = SLACK, .len = MAX(ex->dma_min, PAGE_SIZE)};
			if (i == 1 || i == 3) {
				c.out_off += PAGE_SIZE - ex->dma_addr_align;
				c.in_off += PAGE_SIZE - 2 * ex->dma_addr_align;
				c.len = ex->dma_min;
			}
			if (i >= 2)
				c.len = b->max;
		}
		run_trip(b, &c);
	}
}

/* Devices that take long for each transfer go through theirs side by side. */
static bool all_done(struct bench *const *b, unsigned n, bool *done, int *result)
{
	bool all = true;

	for (unsigned i = 0; i < n; i++) {
		struct dma_status status = {0};
		int r;

		if (done[i])
			continue;
		r = b[i]->ex->ops->dma_poll(b[i]->ex, &status);
		done[i] = r != -EAGAIN;
		result[i] = r < 0 ? r : status.error;
		all = all && done[i];
	}
	return all;
}

static bool slow_transfers(struct bench *const *b, const struct trip *c, unsigned n, enum dma_dir dir)
{
	bool done[SLOW_MAX], ok = true;
	int result[SLOW_MAX];

	for (unsigned i = 0; i < n; i++) {
		const struct dma_req req = request(b[i], dir, &c[i]);

		result[i] = b[i]->ex->ops->dma_start(b[i]->ex, &req);
		done[i] = result[i] < 0;
	}
	if (!WAIT_FOR(all_done(b, n, done, result), SEC(2)))
		for (unsigned i = 0; i < n; i++)
			if (!done[i])
				result[i] = -ETIMEDOUT;
	for (unsigned i = 0; i < n; i++)
		ok = moved(b[i], dir, &c[i], result[i]) && ok;
	return ok;
}

static void slow_devices(struct bench *const *b, unsigned n)
{
	const uint64_t trips = test_iterations(b[0]->t, SLOW_TRIPS);
	struct random r = random_seed(b[0]->seed);

	for (uint64_t trip = 0; trip < trips && !deadline_limit_passed(); trip++) {
		struct trip c[SLOW_MAX];

		for (unsigned i = 0; i < n; i++) {
			const struct exerciser *ex = b[i]->ex;

			/* First nearly the longest, at odd addresses, over a boundary at both ends. */
			c[i] = random_trip(&r, b[i], ex->dma_max);
			if (trip == 0)
				c[i] = (struct trip){.out_off = SLACK + PAGE_SIZE - 37,
						     .in_off = SLACK + PAGE_SIZE - 5,
						     .len = b[i]->max - 3 - i,
						     .dev_off = 3};
			c[i].out_off -= c[i].out_off % ex->dma_addr_align;
			c[i].in_off -= c[i].in_off % ex->dma_addr_align;
			c[i].len -= c[i].len % ex->dma_align;
			c[i].dev_off -= c[i].dev_off % ex->dma_align;
			b[i]->trips++;
		}
		if (!slow_transfers(b, c, n, DMA_READ) || !slow_transfers(b, c, n, DMA_WRITE))
			return;
		for (unsigned i = 0; i < n; i++)
			check_trip(b[i], &c[i]);
	}
}

/* A device that we know and that did not come up: nothing goes through it at all. */
static bool check_answers(struct t *t)
{
	bool all = true;

	for (unsigned i = 0; i < exerciser_count; i++) {
		const struct exerciser *ex = &exercisers[i];

		if (ex->failed)
			all = EXPECT_MSG(t, false, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name,
					 ex->broken);
	}
	return all;
}

TEST(dma, integrity, "data moved by each device is what was there, where it was asked for, and nothing else",
     NEED_PCI)
{
	const bool answers = check_answers(t);
	const uint64_t seed = test_seed(t);
	struct bench *slow[SLOW_MAX];
	unsigned n = 0, devices = 0;

	FOR_EACH_EXERCISER(t, ex, 0) {
		const bool moves = ex->caps & (EX_DMA_READ | EX_DMA_WRITE);
		struct bench *b;

		if (ex->note)
			test_note(t, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, ex->note);
		if (!moves || (ex->dma_ms && n == SLOW_MAX))
			continue;
		b = bench_open(t, ex, seed);
		if (!b)
			continue;
		devices++;
		if (ex->dma_ms) {
			slow[n++] = b;
			continue;
		}
		fast_device(b);
		bench_close(b);
	}
	if (n)
		slow_devices(slow, n);
	for (unsigned i = 0; i < n; i++)
		bench_close(slow[i]);
	if (!devices && answers)
		test_skip(t, "no device under test that does DMA");
}
