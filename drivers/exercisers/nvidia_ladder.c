/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/nvidia_ladder.h"

#include <stddef.h>

#include "drivers/exercisers/nvidia_regs.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/time/time.h"

#define DOORBELL_LEAF (NV_TREE_DOORBELL / 32)
#define DOORBELL_BIT  BIT(NV_TREE_DOORBELL % 32)
#define DOORBELL_TOP  BIT(DOORBELL_LEAF / 2) /* two leaves a subtree */

#define ALARM_AHEAD   US(20)  /* at least, and four register accesses */
#define ALARM_TRIES   7       /* each four times as far ahead: a vCPU on a busy host is away for long */
#define ALARM_FAR     MS(500) /* a host that takes longer for four accesses has no alarm from us */

const char *nvidia_rung_name(enum nvidia_rung r)
{
	static const char *const names[NVIDIA_RUNGS] = {
		"PBUS software interrupt (0x1150)", "PTIMER alarm (0x9420)",
		"PMC software interrupt (bit 31)", "tree trigger (LEAF_TRIGGER, vector 129)",
	};

	return (unsigned)r < NVIDIA_RUNGS ? names[r] : "?";
}

const char *nvidia_rearm_name(enum nvidia_rearm r)
{
	static const char *const names[] = {
		"nothing", "a byte 0xff to 0x88068", "a write to 0x88704", "TOP_EN off and on",
	};

	return (unsigned)r < ARRAY_SIZE(names) ? names[r] : "?";
}

const char *nvidia_reach_name(enum nvidia_reach r)
{
	static const char *const names[] = {
		"not tried", "its registers do not answer", "nothing pending", "pending in its unit only",
		"pending", "pending and not to be cleared",
	};

	return (unsigned)r < ARRAY_SIZE(names) ? names[r] : "?";
}

struct nvidia_plan nvidia_plan(enum nvidia_kind kind, unsigned arch)
{
	struct nvidia_plan p = {.rearm = NVIDIA_REARM_CYA2, .reach = NV_XVE_CYA_2 + 4};

	if (!nvidia_arch_name(arch))
		return (struct nvidia_plan){.rungs = 0};
	if (arch >= NVIDIA_TURING) {
		p.rungs = 1;
		p.rung[0] = NVIDIA_TREE;
		/* A mediated Turing vGPU's tree: taken to be where the physical function has it. */
		p.inferred[NVIDIA_TREE] = kind == NVIDIA_PARAVIRTUAL;
		p.tree = kind == NVIDIA_VF ? 0 : NV_TREE_PF;
		p.reach = p.tree + NV_TREE_LEAF_TRIGGER + 4;
		if (kind == NVIDIA_VF)
			p.rearm = NVIDIA_REARM_NONE;
		else if (arch == NVIDIA_HOPPER)
			p.rearm = NVIDIA_REARM_TOP;
		return p;
	}
	p.rungs = 3;
	p.rung[0] = NVIDIA_PBUS;
	p.rung[1] = NVIDIA_ALARM;
	p.rung[2] = NVIDIA_PMC_SW;
	p.pmc_set_clear = arch >= NVIDIA_PASCAL;
	if (!p.pmc_set_clear)
		p.rearm = NVIDIA_REARM_BYTE;
	/* Which trigger a mediated vGPU's host honours is not public; GP10x is not in the sources. */
	p.inferred[NVIDIA_PBUS] = kind == NVIDIA_PARAVIRTUAL || arch == NVIDIA_PASCAL;
	p.inferred[NVIDIA_ALARM] = kind == NVIDIA_PARAVIRTUAL;
	p.inferred[NVIDIA_PMC_SW] = kind == NVIDIA_PARAVIRTUAL || arch != NVIDIA_VOLTA;
	return p;
}

static uint32_t rd(const struct nvidia_ladder *l, uint32_t off) { return l->io.r32(l->io.arg, off); }
static void wr(const struct nvidia_ladder *l, uint32_t off, uint32_t v) { l->io.w32(l->io.arg, off, v); }

static bool answered(uint32_t v)
{
	return v != ~0u && !nvidia_pri_error(v);
}

/* A rung of PMC's: where it is enabled and pending in its unit, and its bit in PMC_INTR. */
static const struct source { uint32_t enable, status, bit, top; } sources[] = {
	[NVIDIA_PBUS] = {NV_PBUS_INTR_EN_0, NV_PBUS_INTR_0, NV_PBUS_INTR_0_SW, NV_PMC_INTR_PBUS},
	[NVIDIA_ALARM] = {NV_PTIMER_INTR_EN_0, NV_PTIMER_INTR_0, NV_PTIMER_ALARM, NV_PMC_INTR_PTIMER},
	[NVIDIA_PMC_SW] = {0, 0, 0, NV_PMC_INTR_SOFTWARE},
};

/* ---- enables ---- */

static void pmc_arm(struct nvidia_ladder *l)
{
	const uint32_t bit = sources[l->rung].top;

	l->pmc_en[0] = rd(l, NV_PMC_INTR_EN(0));
	if (!l->plan.pmc_set_clear) {
		wr(l, NV_PMC_INTR_EN(0),
		   l->rung == NVIDIA_PMC_SW ? NV_PMC_INTR_EN_SOFTWARE : NV_PMC_INTR_EN_HARDWARE);
		return;
	}
	l->pmc_en[1] = rd(l, NV_PMC_INTR_EN(1));
	for (unsigned i = 0; i < 2; i++)
		if (l->pmc_en[i])
			wr(l, NV_PMC_INTR_EN_CLEAR(i), l->pmc_en[i]);
	wr(l, NV_PMC_INTR_EN_SET(0), bit);
}

static void pmc_disarm(struct nvidia_ladder *l)
{
	if (!l->plan.pmc_set_clear) {
		wr(l, NV_PMC_INTR_EN(0), l->pmc_en[0]);
		return;
	}
	wr(l, NV_PMC_INTR_EN_CLEAR(0), sources[l->rung].top);
	for (unsigned i = 0; i < 2; i++)
		if (l->pmc_en[i])
			wr(l, NV_PMC_INTR_EN_SET(i), l->pmc_en[i]);
}

static void source_arm(struct nvidia_ladder *l)
{
	const struct source *s = &sources[l->rung];

	if (!s->enable)
		return;
	l->source_en = rd(l, s->enable);
	wr(l, s->status, s->bit); /* what somebody left pending is not ours to see */
	if (l->rung == NVIDIA_ALARM)
		l->alarm = rd(l, NV_PTIMER_ALARM_0);
	/* The alarm comes round every 4.3 s: it is enabled from trigger to clear only. */
	wr(l, s->enable, l->rung == NVIDIA_ALARM ? 0 : s->bit);
}

static void source_disarm(struct nvidia_ladder *l)
{
	const struct source *s = &sources[l->rung];

	if (!s->enable)
		return;
	if (l->rung == NVIDIA_ALARM)
		wr(l, NV_PTIMER_ALARM_0, l->alarm);
	wr(l, s->status, s->bit);
	wr(l, s->enable, l->source_en);
}

/* The doorbell's subtree: its two leaves and its bit of the top. */
static void tree_arm(struct nvidia_ladder *l)
{
	const uint32_t base = l->plan.tree;

	l->top_en = rd(l, base + NV_TREE_TOP_EN_SET);
	if (l->top_en)
		wr(l, base + NV_TREE_TOP_EN_CLEAR, l->top_en);
	for (unsigned i = 0; i < 2; i++) {
		l->leaf_en[i] = rd(l, base + NV_TREE_LEAF_EN_SET(DOORBELL_LEAF + i));
		if (l->leaf_en[i])
			wr(l, base + NV_TREE_LEAF_EN_CLEAR(DOORBELL_LEAF + i), l->leaf_en[i]);
	}
	wr(l, base + NV_TREE_LEAF(DOORBELL_LEAF), DOORBELL_BIT);
	wr(l, base + NV_TREE_LEAF_EN_SET(DOORBELL_LEAF), DOORBELL_BIT);
	wr(l, base + NV_TREE_TOP_EN_SET, DOORBELL_TOP);
}

static void tree_disarm(struct nvidia_ladder *l)
{
	const uint32_t base = l->plan.tree;

	wr(l, base + NV_TREE_TOP_EN_CLEAR, DOORBELL_TOP);
	wr(l, base + NV_TREE_LEAF_EN_CLEAR(DOORBELL_LEAF), DOORBELL_BIT);
	wr(l, base + NV_TREE_LEAF(DOORBELL_LEAF), DOORBELL_BIT);
	for (unsigned i = 0; i < 2; i++)
		if (l->leaf_en[i])
			wr(l, base + NV_TREE_LEAF_EN_SET(DOORBELL_LEAF + i), l->leaf_en[i]);
	if (l->top_en)
		wr(l, base + NV_TREE_TOP_EN_SET, l->top_en);
}

void nvidia_arm(struct nvidia_ladder *l)
{
	if (l->armed)
		return;
	l->armed = true;
	if (l->rung == NVIDIA_TREE) {
		tree_arm(l);
		return;
	}
	pmc_arm(l);
	source_arm(l);
}

void nvidia_disarm(struct nvidia_ladder *l)
{
	if (!l->armed)
		return;
	nvidia_clear(l);
	if (l->rung == NVIDIA_TREE) {
		tree_disarm(l);
	} else {
		pmc_disarm(l);
		source_disarm(l);
	}
	l->armed = false;
}

/* ---- one interrupt ---- */

/* It compares for equality: set ahead, then looked at whether the time had passed it meanwhile. */
static int alarm_trigger(struct nvidia_ladder *l)
{
	uint32_t ahead, before;

	before = rd(l, NV_PTIMER_TIME_0);
	ahead = rd(l, NV_PTIMER_TIME_0) - before;
	if (ahead > ALARM_FAR / 4)
		return -ETIMEDOUT;
	ahead = 4 * ahead + (uint32_t)ALARM_AHEAD;
	wr(l, NV_PTIMER_INTR_EN_0, NV_PTIMER_ALARM);
	for (unsigned i = 0; i < ALARM_TRIES && ahead <= ALARM_FAR; i++, ahead *= 4) {
		const uint32_t at = (rd(l, NV_PTIMER_TIME_0) + ahead) & NV_PTIMER_TIME_0_NSEC;
		bool early;

		wr(l, NV_PTIMER_ALARM_0, at);
		early = (int32_t)(at - rd(l, NV_PTIMER_TIME_0)) > 0;
		/* By its own clock: ours goes on while a vCPU is away, and one that stands still is given up. */
		(void)WAIT_FOR((rd(l, NV_PTIMER_INTR_0) & NV_PTIMER_ALARM) ||
				       (int32_t)(rd(l, NV_PTIMER_TIME_0) - at) > 0,
			       early ? 4 * ahead + MS(20) : 1);
		if (rd(l, NV_PTIMER_INTR_0) & NV_PTIMER_ALARM)
			return 0;
		if (early)
			break; /* it was ahead, and did not come */
	}
	return -ETIMEDOUT;
}

int nvidia_trigger(struct nvidia_ladder *l)
{
	switch (l->rung) {
	case NVIDIA_PBUS:
		wr(l, NV_PBUS_SW_INTR, 1);
		return 0;
	case NVIDIA_ALARM:
		return alarm_trigger(l);
	case NVIDIA_PMC_SW:
		if (l->plan.pmc_set_clear)
			wr(l, NV_PMC_INTR_SW(0), 1);
		else
			wr(l, NV_PMC_INTR(0), NV_PMC_INTR_SOFTWARE);
		return 0;
	default:
		wr(l, l->plan.tree + NV_TREE_LEAF_TRIGGER, NV_TREE_DOORBELL);
		return 0;
	}
}

enum nvidia_reach nvidia_pending(struct nvidia_ladder *l)
{
	const bool tree = l->rung == NVIDIA_TREE;
	const uint32_t bit = tree ? DOORBELL_TOP : sources[l->rung].top;
	const uint32_t top = rd(l, tree ? l->plan.tree + NV_TREE_TOP : NV_PMC_INTR(0));
	uint32_t below;

	if (!answered(top))
		return NVIDIA_UNANSWERED;
	if (top & bit)
		return NVIDIA_AT_TOP;
	if (l->rung == NVIDIA_PMC_SW)
		return NVIDIA_NOWHERE;
	below = rd(l, tree ? l->plan.tree + NV_TREE_LEAF(DOORBELL_LEAF) : sources[l->rung].status);
	if (!answered(below))
		return NVIDIA_UNANSWERED;
	return below & (tree ? DOORBELL_BIT : sources[l->rung].bit) ? NVIDIA_AT_SOURCE : NVIDIA_NOWHERE;
}

static void rearm(struct nvidia_ladder *l)
{
	if (SABOTAGE(vgpu_no_rearm))
		return;
	switch (l->plan.rearm) {
	case NVIDIA_REARM_NONE:
		break;
	case NVIDIA_REARM_BYTE:
		l->io.w8(l->io.arg, NV_XVE_MSI_REARM_8, 0xff);
		break;
	case NVIDIA_REARM_CYA2:
		wr(l, NV_XVE_CYA_2, 0);
		break;
	case NVIDIA_REARM_TOP:
		wr(l, l->plan.tree + NV_TREE_TOP_EN_CLEAR, DOORBELL_TOP);
		wr(l, l->plan.tree + NV_TREE_TOP_EN_SET, DOORBELL_TOP);
		break;
	}
}

void nvidia_clear(struct nvidia_ladder *l)
{
	switch (SABOTAGE(vgpu_no_ack) ? NVIDIA_RUNGS : l->rung) {
	case NVIDIA_RUNGS:
		break;
	case NVIDIA_PMC_SW:
		wr(l, l->plan.pmc_set_clear ? NV_PMC_INTR_SW(0) : NV_PMC_INTR(0), 0);
		break;
	case NVIDIA_TREE:
		wr(l, l->plan.tree + NV_TREE_LEAF(DOORBELL_LEAF), DOORBELL_BIT);
		break;
	case NVIDIA_ALARM:
		wr(l, NV_PTIMER_INTR_EN_0, 0);
		/* fall through */
	default:
		wr(l, sources[l->rung].status, sources[l->rung].bit);
		break;
	}
	rearm(l);
}

/* ---- which rung ---- */

static enum nvidia_reach try_rung(struct nvidia_ladder *l, uint64_t ns)
{
	enum nvidia_reach came;

	nvidia_arm(l);
	came = nvidia_pending(l);
	/* Pending before it was raised, and after it was cleared: nothing to go by. */
	if (came == NVIDIA_AT_TOP)
		came = NVIDIA_STUCK;
	if (came == NVIDIA_NOWHERE && nvidia_trigger(l) == 0) {
		(void)WAIT_FOR((came = nvidia_pending(l)) >= NVIDIA_AT_TOP, ns);
		nvidia_clear(l);
		if (came == NVIDIA_AT_TOP && nvidia_pending(l) != NVIDIA_NOWHERE)
			came = NVIDIA_STUCK;
	}
	nvidia_disarm(l);
	return came;
}

int nvidia_choose(struct nvidia_ladder *l, uint64_t ns)
{
	l->chosen = false;
	for (unsigned i = 0; i < l->plan.rungs && !l->chosen; i++) {
		l->rung = l->plan.rung[i];
		l->reach[l->rung] = try_rung(l, ns);
		l->chosen = l->reach[l->rung] == NVIDIA_AT_TOP;
	}
	return l->chosen ? 0 : -ENODEV;
}
