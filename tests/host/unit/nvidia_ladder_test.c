/* SPDX-License-Identifier: MIT */
// link: drivers/exercisers/nvidia_ladder.c drivers/exercisers/nvidia_id.c
#include "drivers/exercisers/nvidia_ladder.h"

#include "kernel/lib/err.h"
#include "kernel/lib/random.h"
#include "kernel/time/time.h"
#include "tests/host/host.h"

/*
 * The ladder against a GPU made of a few rules: which registers there are, what W1C, SET and CLEAR do, when
 * a message goes out. Offsets are spelt out here and not taken from the driver's header.
 */

uint64_t ns_to_tsc(uint64_t ns) { return ns * 2; }
bool deadline_passed(struct deadline d) { return tsc_read() >= d.tsc; }
void cpu_relax(void) {}

enum { OFF = 0, HONOURED = 1, SOURCE_ONLY = 2, STUCK_ON = 3 };

static struct gpu {
	enum nvidia_kind kind;
	unsigned arch;
	int pbus, alarm, sw, tree;       /* what each trigger does */
	bool dead, pri_errors, timer_stands;
	/* registers */
	uint32_t pbus_en, pbus_st, timer_en, timer_st, alarm_at, pmc_en[2], sw_st;
	uint32_t leaf[8], leaf_en[8], top_en;
	uint64_t now, step;              /* ns, and what an access costs */
	/* what the host would see */
	bool in_flight;                  /* a message went out and was not re-armed */
	unsigned messages, rearmed, accesses, odd;
} g;

static uint32_t base(void) { return g.kind == NVIDIA_VF ? 0 : 0xb80000; }

static uint32_t pmc_status(void)
{
	uint32_t v = 0;

	if (g.pbus_st & g.pbus_en && g.pbus != SOURCE_ONLY)
		v |= 1u << 28;
	if (g.timer_st & g.timer_en)
		v |= 1u << 20;
	if (g.sw_st)
		v |= 1u << 31;
	return v;
}

static uint32_t top_status(void)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		if (g.leaf[i] & g.leaf_en[i])
			v |= 1u << (i / 2);
	return v;
}

static bool output(void)
{
	const uint32_t v = pmc_status();

	if (g.arch >= 0x16)
		return top_status() & g.top_en;
	if (g.arch < 0x13)
		return ((v & 0x7fffffff) && (g.pmc_en[0] & 1)) || ((v >> 31) && (g.pmc_en[0] & 2));
	return v & g.pmc_en[0];
}

static void pass_time(void)
{
	const uint64_t before = g.now >> 5;

	g.accesses++;
	if (g.timer_stands)
		return;
	g.now += g.step;
	for (uint64_t t = before + 1; t <= g.now >> 5; t++)
		if ((uint32_t)(t << 5) == g.alarm_at && g.alarm == HONOURED)
			g.timer_st |= 1;
}

static void settle(bool was)
{
	if (output() && !was && !g.in_flight) {
		g.messages++;
		g.in_flight = true;
	}
}

static uint32_t rd(void *arg, uint32_t off)
{
	const bool was = output();
	uint32_t v = 0;

	(void)arg;
	pass_time();
	settle(was);
	if (g.dead)
		return ~0u;
	if (g.pri_errors)
		return 0xbadf1100;
	switch (off) {
	case 0x100: v = pmc_status(); break;
	case 0x140: v = g.pmc_en[0]; break;
	case 0x144: v = g.arch < 0x13 ? 0 : g.pmc_en[1]; break;
	case 0x1a0: v = g.sw_st; break;
	case 0x1100: v = g.pbus_st; break;
	case 0x1140: v = g.pbus_en; break;
	case 0x9100: v = g.timer_st; break;
	case 0x9140: v = g.timer_en; break;
	case 0x9400: v = (uint32_t)g.now & ~31u; break;
	case 0x9410: v = (uint32_t)(g.now >> 32); break;
	case 0x9420: v = g.alarm_at; break;
	default:
		if (g.arch >= 0x16 && off >= base() + 0x1000 && off < base() + 0x1020)
			v = g.leaf[(off - base() - 0x1000) / 4];
		else if (g.arch >= 0x16 && off >= base() + 0x1200 && off < base() + 0x1220)
			v = g.leaf_en[(off - base() - 0x1200) / 4];
		else if (g.arch >= 0x16 && off == base() + 0x1600)
			v = top_status();
		else if (g.arch >= 0x16 && off == base() + 0x1608)
			v = g.top_en;
		else
			g.odd++;
	}
	return v;
}

static void wr_tree(uint32_t off, uint32_t v)
{
	if (off >= 0x1000 && off < 0x1020) {
		if (g.tree != STUCK_ON)
			g.leaf[(off - 0x1000) / 4] &= ~v;
	} else if (off >= 0x1200 && off < 0x1220) {
		g.leaf_en[(off - 0x1200) / 4] |= v;
	} else if (off >= 0x1400 && off < 0x1420) {
		g.leaf_en[(off - 0x1400) / 4] &= ~v;
	} else if (off == 0x1608) {
		g.top_en |= v;
		if (g.arch == 0x18 && g.kind != NVIDIA_VF && v)
			g.in_flight = false, g.rearmed++;
	} else if (off == 0x1610) {
		g.top_en &= ~v;
	} else if (off == 0x1640) {
		if (g.tree != OFF && v < 256)
			g.leaf[v / 32] |= 1u << (v % 32);
	} else {
		g.odd++;
	}
}

static void wr(void *arg, uint32_t off, uint32_t v)
{
	const bool was = output();

	(void)arg;
	pass_time();
	if (g.dead || g.pri_errors)
		return;
	if (off == 0x88704) {
		g.rearmed++;
		g.in_flight = false;
		if (g.arch < 0x13 || g.kind == NVIDIA_VF)
			g.odd++;
	} else if (g.arch >= 0x16) {
		if (off < base() + 0x1000)
			g.odd++;
		else
			wr_tree(off - base(), v);
		if (g.kind == NVIDIA_VF)
			g.in_flight = false;
	} else if (off == 0x100 && g.arch < 0x13) {
		if (g.sw)
			g.sw_st = v >> 31;
	} else if (off == 0x140 && g.arch < 0x13) {
		g.pmc_en[0] = v & 3;
	} else if ((off == 0x160 || off == 0x164) && g.arch >= 0x13) {
		g.pmc_en[(off - 0x160) / 4] |= v;
	} else if ((off == 0x180 || off == 0x184) && g.arch >= 0x13) {
		g.pmc_en[(off - 0x180) / 4] &= ~v;
	} else if (off == 0x1a0 && g.arch >= 0x13) {
		if (g.sw)
			g.sw_st = v & 1;
	} else if (off == 0x1100) {
		if (g.pbus != STUCK_ON)
			g.pbus_st &= ~v;
	} else if (off == 0x1140) {
		g.pbus_en = v;
	} else if (off == 0x1150) {
		if (g.pbus != OFF && v == 1)
			g.pbus_st |= 1u << 26;
	} else if (off == 0x9100) {
		g.timer_st &= ~v;
	} else if (off == 0x9140) {
		g.timer_en = v;
	} else if (off == 0x9420) {
		g.alarm_at = v & ~31u;
	} else {
		g.odd++;
	}
	settle(was);
}

static void wr8(void *arg, uint32_t off, uint8_t v)
{
	(void)arg;
	g.accesses++;
	if (off == 0x88068 && v == 0xff && g.arch < 0x13)
		g.in_flight = false, g.rearmed++;
	else
		g.odd++;
}

/* What somebody else had enabled, which must come back. */
static struct gpu blank(enum nvidia_kind kind, unsigned arch)
{
	struct gpu x = {.kind = kind, .arch = arch, .step = 1000, .now = 0x1fffff000ull,
			.pbus_en = 0x0000000e, .timer_en = 0x2, .alarm_at = 0x12340020,
			.pmc_en = {0x00100001, 0x40}, .top_en = 0x5,
			.leaf_en = {1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80}};

	if (arch < 0x13)
		x.pmc_en[0] = 1, x.pmc_en[1] = 0;
	return x;
}

static bool put_back(void)
{
	const struct gpu was = blank(g.kind, g.arch);
	bool good = g.pbus_en == was.pbus_en && g.timer_en == was.timer_en && g.alarm_at == was.alarm_at &&
		    g.top_en == was.top_en;

	for (unsigned i = 0; i < 2; i++)
		good &= g.pmc_en[i] == was.pmc_en[i];
	for (unsigned i = 0; i < 8; i++)
		good &= g.leaf_en[i] == was.leaf_en[i];
	return good && !g.odd;
}

static struct nvidia_ladder ladder(void)
{
	return (struct nvidia_ladder){.io = {rd, wr, wr8, NULL}, .plan = nvidia_plan(g.kind, g.arch)};
}

/* One by one after it was chosen: each is one message. */
static void sixteen(struct nvidia_ladder *l)
{
	const unsigned before = g.messages;

	nvidia_arm(l);
	nvidia_arm(l); /* again changes nothing */
	for (unsigned i = 0; i < 16; i++) {
		CHECK_EQ(nvidia_pending(l), NVIDIA_NOWHERE);
		CHECK_EQ(nvidia_trigger(l), 0);
		CHECK(WAIT_FOR(nvidia_pending(l) == NVIDIA_AT_TOP, MS(50))); /* the alarm goes off soon */
		nvidia_clear(l);
	}
	CHECK_EQ(g.messages - before, 16);
	CHECK_EQ(nvidia_pending(l), NVIDIA_NOWHERE);
	nvidia_disarm(l);
	nvidia_disarm(l);
	CHECK(put_back());
	CHECK_EQ(g.messages - before, 16);
}

static void works(enum nvidia_kind kind, unsigned arch, enum nvidia_rung rung)
{
	struct nvidia_ladder l;

	g = blank(kind, arch);
	g.pbus = rung == NVIDIA_PBUS;
	g.alarm = rung == NVIDIA_ALARM;
	g.sw = rung == NVIDIA_PMC_SW;
	g.tree = rung == NVIDIA_TREE;
	l = ladder();
	CHECK_EQ(nvidia_choose(&l, MS(50)), 0);
	CHECK(l.chosen && l.rung == rung && l.reach[rung] == NVIDIA_AT_TOP);
	CHECK(put_back());
	if (l.chosen)
		sixteen(&l);
	CHECK(kind == NVIDIA_VF ? g.rearmed == 0 : g.rearmed > 16);
}

static enum nvidia_reach fails(struct gpu with, enum nvidia_rung rung)
{
	struct nvidia_ladder l;

	g = with;
	l = ladder();
	CHECK_EQ(nvidia_choose(&l, 1000), -ENODEV);
	CHECK(!l.chosen);
	return l.reach[rung];
}

static void test_failures(void)
{
	struct gpu x = blank(NVIDIA_PARAVIRTUAL, 0x13);

	CHECK_EQ(fails(x, NVIDIA_PBUS), NVIDIA_NOWHERE);
	CHECK(put_back());
	CHECK_EQ(fails(x, NVIDIA_ALARM), NVIDIA_NOWHERE);
	CHECK_EQ(fails(x, NVIDIA_PMC_SW), NVIDIA_NOWHERE);
	x.pbus = SOURCE_ONLY;
	CHECK_EQ(fails(x, NVIDIA_PBUS), NVIDIA_AT_SOURCE);
	CHECK(put_back());
	x.pbus = STUCK_ON;
	CHECK_EQ(fails(x, NVIDIA_PBUS), NVIDIA_STUCK);
	x = blank(NVIDIA_PARAVIRTUAL, 0x13);
	x.dead = true;
	CHECK_EQ(fails(x, NVIDIA_PBUS), NVIDIA_UNANSWERED);
	x.dead = false;
	x.pri_errors = true;
	CHECK_EQ(fails(x, NVIDIA_PBUS), NVIDIA_UNANSWERED);
	x = blank(NVIDIA_REAL, 0x13);
	x.timer_stands = true;
	x.alarm = HONOURED;
	CHECK_EQ(fails(x, NVIDIA_ALARM), NVIDIA_NOWHERE);
	CHECK(put_back());
	x = blank(NVIDIA_VF, 0x16);
	CHECK_EQ(fails(x, NVIDIA_TREE), NVIDIA_NOWHERE);
	CHECK(put_back());
	x.tree = STUCK_ON;
	CHECK_EQ(fails(x, NVIDIA_TREE), NVIDIA_STUCK);
	/* A generation that nobody has described is not touched. */
	x = blank(NVIDIA_REAL, 0x15);
	CHECK_EQ(fails(x, NVIDIA_PBUS), NVIDIA_UNTRIED);
	CHECK_EQ(g.accesses, 0);
}

/* The second rung is taken where the first is not honoured, with slow accesses and a clock about to wrap. */
static void test_alarm(void)
{
	static const uint64_t steps[] = {32, 1000, 50000, 3000000, 20000000};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct nvidia_ladder l;

		g = blank(NVIDIA_REAL, 0x13);
		g.alarm = HONOURED;
		g.step = steps[i];
		g.now = 0xffffffffull - 5 * steps[i];
		l = ladder();
		CHECK_EQ(nvidia_choose(&l, MS(50)), 0);
		CHECK_EQ(l.rung, NVIDIA_ALARM);
		CHECK_EQ(l.reach[NVIDIA_PBUS], NVIDIA_NOWHERE);
		CHECK(put_back());
	}
	/* A host of seconds an access: no alarm is set that would go off later. */
	g = blank(NVIDIA_REAL, 0x13);
	g.alarm = HONOURED;
	g.step = 1000000000;
	CHECK(fails(g, NVIDIA_ALARM) < NVIDIA_AT_TOP); /* the one left over may go off meanwhile */
	CHECK(put_back());
}

/* Registers that answer anything at all: it ends, and what was read is what is put back. */
static struct random chaos;
static unsigned chaos_accesses;

static uint32_t chaos_rd(void *arg, uint32_t off)
{
	(void)arg;
	(void)off;
	chaos_accesses++;
	return (uint32_t)random_u64(&chaos) & (random_below(&chaos, 2) ? ~0u : 0);
}

static void chaos_wr(void *arg, uint32_t off, uint32_t v)
{
	(void)arg;
	(void)v;
	chaos_accesses++;
	if (off >= 0x1000000)
		CHECK(0);
}

static void chaos_wr8(void *arg, uint32_t off, uint8_t v)
{
	chaos_wr(arg, off, v);
}

static void test_chaos(void)
{
	chaos = random_seed(5);
	for (unsigned n = 0; n < 3000; n++) {
		struct nvidia_ladder l = {
			.io = {chaos_rd, chaos_wr, chaos_wr8, NULL},
			.plan = nvidia_plan((enum nvidia_kind)(n % 3), 0x11 + n % 9),
		};

		(void)nvidia_choose(&l, 1);
		CHECK(!l.armed);
	}
	CHECK(chaos_accesses > 3000);
}

int main(void)
{
	static const enum nvidia_kind kinds[] = {NVIDIA_REAL, NVIDIA_PARAVIRTUAL};
	static const unsigned old[] = {0x11, 0x12, 0x13, 0x14}, new[] = {0x16, 0x17, 0x18, 0x19};

	for (unsigned k = 0; k < 2; k++) {
		for (unsigned a = 0; a < 4; a++) {
			works(kinds[k], old[a], NVIDIA_PBUS);
			works(kinds[k], old[a], NVIDIA_ALARM);
			works(kinds[k], old[a], NVIDIA_PMC_SW);
			works(kinds[k], new[a], NVIDIA_TREE);
		}
	}
	works(NVIDIA_VF, 0x16, NVIDIA_TREE);
	works(NVIDIA_VF, 0x17, NVIDIA_TREE);
	works(NVIDIA_VF, 0x18, NVIDIA_TREE);
	test_failures();
	test_alarm();
	test_chaos();
	/* Inferred is said to be inferred. */
	CHECK(nvidia_plan(NVIDIA_PARAVIRTUAL, 0x13).inferred[NVIDIA_PBUS]);
	CHECK(nvidia_plan(NVIDIA_REAL, 0x13).inferred[NVIDIA_PBUS]);
	CHECK(!nvidia_plan(NVIDIA_REAL, 0x13).inferred[NVIDIA_ALARM]);
	CHECK(!nvidia_plan(NVIDIA_REAL, 0x14).inferred[NVIDIA_PMC_SW]);
	CHECK(nvidia_plan(NVIDIA_REAL, 0x13).inferred[NVIDIA_PMC_SW]);
	CHECK_EQ(nvidia_plan(NVIDIA_VF, 0x16).tree, 0);
	CHECK_EQ(nvidia_plan(NVIDIA_REAL, 0x16).tree, 0xb80000);
	return host_done("nvidia_ladder");
}
