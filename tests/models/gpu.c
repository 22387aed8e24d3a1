/* SPDX-License-Identifier: MIT */
/*
 * Registers by shared/facts/nvidia.md, their field names and access kinds by NVIDIA's public manuals
 * (dev_master, dev_bus, dev_timer of GV100, dev_vm of TU102).
 *
 * [I]: inferred, no hardware was asked.
 *  - A GP102, and a vGPU of one, honours 0x1a0 as GV100 does; a vGPU honours all three triggers.
 *  - The window at 0x700000 works on a bare GP102; a vGPU has none.
 *  - A read nobody answers is all ones.
 *  - Registers that are not modelled read 0 in a vGPU, 0xbadf5040 elsewhere.
 *  - A VF shows the boot registers at the same place as a whole GPU.
 *  - Of a Turing or later GPU only the tree interrupts; PBUS and PMC are not modelled there.
 */
#include <string.h>

#include "tests/models/gpu.h"

#define UNPOSTED 0xbadf1100u
#define TIME_MASK 0x1fffffffffffffffull   /* TIME_1 has 29 bits */

void gpu_init(struct gpu *g, const struct kind *k, const struct breaks *brk, const struct gpu_ops *ops,
	      void *ctx, uint64_t clock_start)
{
	memset(g, 0, sizeof(*g));
	g->kind = k;
	g->brk = brk;
	g->ops = ops;
	g->ctx = ctx;
	g->clock_start = clock_start;
	g->stuck_at = clock_start + ops->now(ctx);
	gpu_reset(g);
}

void gpu_reset(struct gpu *g)
{
	memset(g->pmc_en, 0, sizeof(g->pmc_en));
	memset(g->pmc_sw, 0, sizeof(g->pmc_sw));
	memset(g->leaf, 0, sizeof(g->leaf));
	memset(g->leaf_en, 0, sizeof(g->leaf_en));
	g->pbus_intr = g->pbus_en = g->window = 0;
	g->timer_intr = g->timer_en = g->alarm = 0;
	g->top_en = 0;
	g->top_set = false;
	g->ticked = gpu_clock(g);
}

/* ---- PTIMER ---- */

uint64_t gpu_clock(struct gpu *g)
{
	const uint64_t now = g->ops->now(g->ctx);

	if (broken(g->brk, BRK_PTIMER_STUCK))
		return g->stuck_at & TIME_MASK;
	if (broken(g->brk, BRK_PTIMER_BACK))
		return ((1ull << 59) + g->clock_start - now) & TIME_MASK;
	if (broken(g->brk, BRK_PTIMER_FAST))
		return (g->clock_start + now * g->brk->arg[BRK_PTIMER_FAST]) & TIME_MASK;
	return (g->clock_start + now) & TIME_MASK;
}

static bool alarm_works(const struct gpu *g)
{
	return !g->kind->turing && !broken(g->brk, BRK_NO_TRIGGER) && !broken(g->brk, BRK_NO_ALARM);
}

/* The comparator is for equality of TIME_0[31:5]: what the clock passed since the last look, it has met. */
void gpu_tick(struct gpu *g)
{
	const uint64_t last = g->ticked >> 5, now = gpu_clock(g) >> 5, alarm = g->alarm >> 5;
	const uint64_t steps = now < last ? last - now : now - last;
	const uint64_t ahead = (now < last ? last - alarm : alarm - last) & 0x7ffffff;

	g->ticked = now << 5;
	if (alarm_works(g) && (ahead ? ahead <= steps : steps > 0x7ffffff))
		g->timer_intr |= NV_PTIMER_ALARM;
}

uint64_t gpu_alarm_in(struct gpu *g)
{
	const uint64_t now = gpu_clock(g);
	uint64_t ns;

	if (!alarm_works(g) || (g->timer_intr & NV_PTIMER_ALARM) || !(g->timer_en & NV_PTIMER_ALARM) ||
	    broken(g->brk, BRK_PTIMER_STUCK))
		return UINT64_MAX;
	if (broken(g->brk, BRK_PTIMER_BACK))
		ns = (now - g->alarm) & 0xffffffff;
	else
		ns = (g->alarm - now) & 0xffffffff;
	if (broken(g->brk, BRK_PTIMER_FAST))
		ns /= g->brk->arg[BRK_PTIMER_FAST];
	return ns + 32;
}

/* ---- interrupts ---- */

static uint32_t pmc_status(const struct gpu *g, unsigned output)
{
	uint32_t status = g->pmc_sw[output] & 1 ? NV_PMC_INTR_SOFTWARE : 0;

	if (output == 0) {
		status |= g->pbus_intr & g->pbus_en ? NV_PMC_INTR_PBUS : 0;
		status |= g->timer_intr & g->timer_en ? NV_PMC_INTR_PTIMER : 0;
	}
	return status;
}

/* Each subtree is two leaves. */
static uint32_t tree_top(const struct gpu *g)
{
	uint32_t top = 0;

	for (unsigned i = 0; i < NV_LEAVES; i++)
		top |= g->leaf[i] & g->leaf_en[i] ? 1u << i / 2 : 0;
	return top;
}

bool gpu_line(const struct gpu *g)
{
	if (broken(g->brk, BRK_UNPOSTED))
		return false;
	if (g->kind->turing)
		return tree_top(g) & g->top_en;
	if (g->kind->old_pmc) {
		const uint32_t status = pmc_status(g, 0);

		return ((status & ~NV_PMC_INTR_SOFTWARE) && (g->pmc_en[0] & NV_PMC_INTR_EN_HARDWARE)) ||
		       ((status & NV_PMC_INTR_SOFTWARE) && (g->pmc_en[0] & NV_PMC_INTR_EN_SOFTWARE));
	}
	for (unsigned i = 0; i < NV_PMC_OUTPUTS; i++)
		if (pmc_status(g, i) & g->pmc_en[i])
			return true;
	return false;
}

static void acknowledge(const struct gpu *g, uint32_t *status, uint32_t bits)
{
	if (!broken(g->brk, BRK_STUCK_PENDING))
		*status &= ~bits;
}

/* ---- one doubleword ---- */

static uint32_t boot_chip(const struct gpu *g)
{
	return broken(g->brk, BRK_ID_MISMATCH) ? g->kind->other_chip : g->kind->chip;
}

/* Index into an array of registers at base, or n if off is outside. */
static unsigned at(uint32_t off, uint32_t base, unsigned n)
{
	return off >= base && off < base + 4 * n ? (off - base) / 4 : n;
}

/* The window: 1 MiB of video or system memory. A shared page at its end may be cut off by BASE's 40 bits. */
static bool window(struct gpu *g, uint32_t off, void *buf, size_t n, bool write)
{
	const uint64_t addr = ((uint64_t)(g->window & 0xffffff) << 16) + (off - NV_PRAMIN);

	switch (g->window >> 24 & 3) {
	case 0:
		return g->ops->vram(g->ctx, addr, buf, n, write);
	case 2:
	case 3:
		return addr >> 40 == 0 && g->ops->sysmem(g->ctx, addr, buf, n, write);
	default:
		return false;
	}
}

static bool has_window(const struct gpu *g)
{
	return g->kind->window;
}

static uint32_t read_tree(struct gpu *g, uint32_t off)
{
	const uint64_t clock = gpu_clock(g);
	unsigned i;

	if ((i = at(off, NV_CPU_INTR_LEAF, NV_LEAVES)) < NV_LEAVES)
		return g->leaf[i];
	if ((i = at(off, NV_CPU_INTR_LEAF_EN_SET, NV_LEAVES)) < NV_LEAVES ||
	    (i = at(off, NV_CPU_INTR_LEAF_EN_CLEAR, NV_LEAVES)) < NV_LEAVES)
		return g->leaf_en[i];
	switch (off) {
	case NV_CPU_INTR_TOP:
		return tree_top(g);
	case NV_CPU_INTR_TOP_EN_SET:
	case NV_CPU_INTR_TOP_EN_CLEAR:
		return g->top_en;
	case NV_VF_TIME_0:
		return (uint32_t)clock & ~31u;
	case NV_VF_TIME_1:
		return (uint32_t)(clock >> 32);
	default:
		return g->kind->absent;
	}
}

static void write_tree(struct gpu *g, uint32_t off, uint32_t value)
{
	const uint32_t vector = value & 0xfff;
	unsigned i;

	if ((i = at(off, NV_CPU_INTR_LEAF, NV_LEAVES)) < NV_LEAVES)
		acknowledge(g, &g->leaf[i], value);
	else if ((i = at(off, NV_CPU_INTR_LEAF_EN_SET, NV_LEAVES)) < NV_LEAVES)
		g->leaf_en[i] |= value;
	else if ((i = at(off, NV_CPU_INTR_LEAF_EN_CLEAR, NV_LEAVES)) < NV_LEAVES)
		g->leaf_en[i] &= ~value;
	else if (off == NV_CPU_INTR_TOP_EN_SET) {
		g->top_set |= (value & ~g->top_en) != 0;
		g->top_en |= value;
	}
	else if (off == NV_CPU_INTR_TOP_EN_CLEAR)
		g->top_en &= ~value;
	else if (off == NV_CPU_INTR_LEAF_TRIGGER && vector < 32 * NV_LEAVES &&
		 !broken(g->brk, BRK_NO_TRIGGER))
		g->leaf[vector / 32] |= 1u << vector % 32;
}

/* What Pascal and Turing have alike. */
static uint32_t read_common(struct gpu *g, uint32_t off)
{
	const uint64_t clock = gpu_clock(g);
	uint32_t value;

	if (has_window(g) && off >= NV_PRAMIN && off - NV_PRAMIN < NV_PRAMIN_SIZE)
		return window(g, off, &value, 4, false) ? value : 0xffffffff;
	switch (off) {
	case NV_PBUS_BAR0_WINDOW:
		return has_window(g) ? g->window : g->kind->absent;
	case NV_PTIMER_TIME_0:
		return (uint32_t)clock & ~31u;
	case NV_PTIMER_TIME_1:
		return (uint32_t)(clock >> 32);
	default:
		return g->kind->absent;
	}
}

static uint32_t read_pascal(struct gpu *g, uint32_t off)
{
	const unsigned outputs = g->kind->old_pmc ? 1 : NV_PMC_OUTPUTS;
	unsigned i;

	if ((i = at(off, NV_PMC_INTR, outputs)) < outputs)
		return pmc_status(g, i);
	if ((i = at(off, NV_PMC_INTR_EN, outputs)) < outputs)
		return g->pmc_en[i];
	if (!g->kind->old_pmc && (i = at(off, NV_PMC_INTR_SW, outputs)) < outputs)
		return g->pmc_sw[i];
	switch (off) {
	case NV_PBUS_INTR_0:
		return g->pbus_intr;
	case NV_PBUS_INTR_EN_0:
		return g->pbus_en;
	case NV_PTIMER_INTR_0:
		return g->timer_intr;
	case NV_PTIMER_INTR_EN_0:
		return g->timer_en;
	case NV_PTIMER_ALARM_0:
		return g->alarm;
	default:
		return read_common(g, off);
	}
}

static void write_common(struct gpu *g, uint32_t off, uint32_t value, uint32_t mask)
{
	if (off == NV_PBUS_BAR0_WINDOW)
		g->window = ((g->window & ~mask) | value) & 0x03ffffff;
}

/* PMC's software interrupt: bit 0 of a register of its own, to Maxwell bit 31 of the status. */
static void write_pmc_sw(struct gpu *g, unsigned output, bool on)
{
	if (!on)
		acknowledge(g, &g->pmc_sw[output], 1);
	else if (!broken(g->brk, BRK_NO_TRIGGER) && !broken(g->brk, BRK_NO_PMC_SW))
		g->pmc_sw[output] |= 1;
}

/* Whether it was one of PMC's. */
static bool write_pmc(struct gpu *g, uint32_t off, uint32_t value, uint32_t mask)
{
	unsigned i;

	if (g->kind->old_pmc) {
		if (off == NV_PMC_INTR_EN)
			g->pmc_en[0] = ((g->pmc_en[0] & ~mask) | value) &
				       (NV_PMC_INTR_EN_HARDWARE | NV_PMC_INTR_EN_SOFTWARE);
		else if (off == NV_PMC_INTR && (mask & NV_PMC_INTR_SOFTWARE))
			write_pmc_sw(g, 0, value & NV_PMC_INTR_SOFTWARE);
		return off == NV_PMC_INTR_EN || off == NV_PMC_INTR;
	}
	if ((i = at(off, NV_PMC_INTR_EN_SET, NV_PMC_OUTPUTS)) < NV_PMC_OUTPUTS)
		g->pmc_en[i] |= value;
	else if ((i = at(off, NV_PMC_INTR_EN_CLEAR, NV_PMC_OUTPUTS)) < NV_PMC_OUTPUTS)
		g->pmc_en[i] &= ~value;
	else if ((i = at(off, NV_PMC_INTR_SW, NV_PMC_OUTPUTS)) < NV_PMC_OUTPUTS && (mask & 1))
		write_pmc_sw(g, i, value & 1);
	return i < NV_PMC_OUTPUTS;
}

static void write_pascal(struct gpu *g, uint32_t off, uint32_t value, uint32_t mask)
{
	if (write_pmc(g, off, value, mask))
		return;
	switch (off) {
	case NV_PBUS_INTR_0:
		acknowledge(g, &g->pbus_intr, value);
		break;
	case NV_PBUS_INTR_EN_0:
		g->pbus_en = (g->pbus_en & ~mask) | value;
		break;
	case NV_PBUS_SW_INTR_0:
		if ((value & 1) && !broken(g->brk, BRK_NO_TRIGGER) && !broken(g->brk, BRK_NO_PBUS))
			g->pbus_intr |= NV_PBUS_INTR_SW;
		break;
	case NV_PTIMER_INTR_0:
		acknowledge(g, &g->timer_intr, value);
		break;
	case NV_PTIMER_INTR_EN_0:
		g->timer_en = ((g->timer_en & ~mask) | value) & 3;
		break;
	case NV_PTIMER_ALARM_0:
		g->alarm = ((g->alarm & ~mask) | value) & ~31u;
		if (alarm_works(g) && g->alarm == ((uint32_t)g->ticked & ~31u))
			g->timer_intr |= NV_PTIMER_ALARM;
		break;
	default:
		write_common(g, off, value, mask);
		break;
	}
}

static bool in_tree(const struct gpu *g, uint32_t off)
{
	return g->kind->turing && off - g->kind->tree < NV_TREE_SIZE && off >= g->kind->tree;
}

static uint32_t read_dword(struct gpu *g, uint32_t off)
{
	const uint32_t virt = g->kind->boot1;
	const uint32_t chip = boot_chip(g);

	switch (off) {
	case NV_PMC_BOOT_0:
		return chip << 20 | g->kind->revision;
	case NV_PMC_BOOT_1:
		return (broken(g->brk, BRK_BOOT1_MISMATCH) ? !virt : virt) << 16;
	case NV_PMC_BOOT_42:                       /* major revision 19:16, minor 15:12 */
		return chip << 20 | (uint32_t)g->kind->revision << 12;
	default:
		break;
	}
	if (broken(g->brk, BRK_UNPOSTED))
		return UNPOSTED;
	if (in_tree(g, off))
		return read_tree(g, off - g->kind->tree);
	return g->kind->turing ? read_common(g, off) : read_pascal(g, off);
}

/* ---- accesses ---- */

static bool in_mirror(const struct gpu *g, uint64_t off)
{
	return g->kind->boot1 != 2 && off >= NV_CONFIG_MIRROR && off < NV_CONFIG_MIRROR + PCI_CONFIG_SIZE;
}

void gpu_read(struct gpu *g, uint64_t off, uint8_t *buf, size_t n)
{
	gpu_tick(g);
	while (n > 0) {
		const uint64_t base = off & ~3ull;
		const size_t skip = (size_t)(off & 3);
		const size_t take = n < 4 - skip ? n : 4 - skip;
		uint32_t value = 0;

		if (base > UINT32_MAX)
			value = g->kind->absent;
		else if (in_mirror(g, base))
			g->ops->config(g->ctx, (unsigned)(base - NV_CONFIG_MIRROR), &value, 4, false);
		else
			value = read_dword(g, (uint32_t)base);
		memcpy(buf, (uint8_t *)&value + skip, take);
		buf += take;
		off += take;
		n -= take;
	}
}

void gpu_write(struct gpu *g, uint64_t off, const uint8_t *buf, size_t n)
{
	gpu_tick(g);
	while (n > 0) {
		const uint64_t base = off & ~3ull;
		const size_t skip = (size_t)(off & 3);
		const size_t take = n < 4 - skip ? n : 4 - skip;
		uint32_t value = 0, mask = 0;

		memcpy((uint8_t *)&value + skip, buf, take);
		memset((uint8_t *)&mask + skip, 0xff, take);
		if (in_mirror(g, base)) {
			uint8_t copy[4];

			memcpy(copy, buf, take);
			g->ops->config(g->ctx, (unsigned)(off - NV_CONFIG_MIRROR), copy, take, true);
		} else if (base <= UINT32_MAX && !broken(g->brk, BRK_UNPOSTED)) {
			const uint32_t reg = (uint32_t)base;

			if (in_tree(g, reg))
				write_tree(g, reg - g->kind->tree, value);
			else if (has_window(g) && reg >= NV_PRAMIN && reg - NV_PRAMIN < NV_PRAMIN_SIZE)
				window(g, reg + (uint32_t)skip, (uint8_t *)&value + skip, take, true);
			else if (g->kind->turing)
				write_common(g, reg, value, mask);
			else
				write_pascal(g, reg, value, mask);
		}
		buf += take;
		off += take;
		n -= take;
	}
}
