/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The GPU behind BAR0: identity, interrupt sources, clock, system-memory window. Pure: time, memory and
 * config space come from its owner.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/models/breaks.h"
#include "tests/models/config.h"

/* Registers, with the names of NVIDIA's manuals. */
enum {
	NV_PMC_BOOT_0 = 0x0,
	NV_PMC_BOOT_1 = 0x4,
	NV_PMC_BOOT_42 = 0xa00,
	NV_PMC_INTR = 0x100,
	NV_PMC_INTR_EN = 0x140,
	NV_PMC_INTR_EN_SET = 0x160,
	NV_PMC_INTR_EN_CLEAR = 0x180,
	NV_PMC_INTR_SW = 0x1a0,
	NV_PMC_OUTPUTS = 2,
	NV_PMC_INTR_EN_HARDWARE = 1 << 0, /* of a Maxwell's NV_PMC_INTR_EN */
	NV_PMC_INTR_EN_SOFTWARE = 1 << 1,
	NV_PBUS_INTR_0 = 0x1100,
	NV_PBUS_INTR_EN_0 = 0x1140,
	NV_PBUS_SW_INTR_0 = 0x1150,
	NV_PBUS_BAR0_WINDOW = 0x1700,
	NV_PTIMER_INTR_0 = 0x9100,
	NV_PTIMER_INTR_EN_0 = 0x9140,
	NV_PTIMER_TIME_0 = 0x9400,
	NV_PTIMER_TIME_1 = 0x9410,
	NV_PTIMER_ALARM_0 = 0x9420,
	NV_CONFIG_MIRROR = 0x88000,
	NV_PRAMIN = 0x700000,
	NV_PRAMIN_SIZE = 0x100000,
	/* The Turing tree and a VF's clock, from the tree's base. */
	NV_TREE_SIZE = 0x40000,
	NV_CPU_INTR_LEAF = 0x1000,
	NV_CPU_INTR_LEAF_EN_SET = 0x1200,
	NV_CPU_INTR_LEAF_EN_CLEAR = 0x1400,
	NV_LEAVES = 8,
	NV_CPU_INTR_TOP = 0x1600,
	NV_CPU_INTR_TOP_EN_SET = 0x1608,
	NV_CPU_INTR_TOP_EN_CLEAR = 0x1610,
	NV_CPU_INTR_LEAF_TRIGGER = 0x1640,
	NV_VF_TIME_0 = 0x30080,
	NV_VF_TIME_1 = 0x30084,
};

#define NV_PMC_INTR_PTIMER   (1u << 20)
#define NV_PMC_INTR_PBUS     (1u << 28)
#define NV_PMC_INTR_SOFTWARE (1u << 31)
#define NV_PBUS_INTR_SW      (1u << 26)
#define NV_PTIMER_ALARM      (1u << 0)

struct gpu_ops {
	uint64_t (*now)(void *ctx);   /* ns, never backwards */
	/* Memory of the machine, of the card, config space; n is at most 4. False: nobody answered. */
	bool (*sysmem)(void *ctx, uint64_t addr, void *buf, size_t n, bool write);
	bool (*vram)(void *ctx, uint64_t addr, void *buf, size_t n, bool write);
	void (*config)(void *ctx, unsigned off, void *buf, size_t n, bool write);
};

struct gpu {
	const struct kind *kind;
	const struct breaks *brk;
	const struct gpu_ops *ops;
	void *ctx;
	uint64_t clock_start;         /* what PTIMER says at now() = 0 */
	uint64_t stuck_at;
	uint64_t ticked;              /* PTIMER when the alarm was last looked at */
	uint32_t pmc_en[NV_PMC_OUTPUTS], pmc_sw[NV_PMC_OUTPUTS];
	uint32_t pbus_intr, pbus_en, window;
	uint32_t timer_intr, timer_en, alarm;
	uint32_t leaf[NV_LEAVES], leaf_en[NV_LEAVES], top_en;
	bool top_set;                 /* an enable of TOP went from clear to set; its owner takes it back */
};

/* clock_start: ns. */
void gpu_init(struct gpu *g, const struct kind *k, const struct breaks *brk, const struct gpu_ops *ops,
	      void *ctx, uint64_t clock_start);
/* Registers as after a reset; the clock runs on. */
void gpu_reset(struct gpu *g);
/* Any size, any alignment: each doubleword touched is accessed once. Past what there is, reads as absent. */
void gpu_read(struct gpu *g, uint64_t off, uint8_t *buf, size_t n);
void gpu_write(struct gpu *g, uint64_t off, const uint8_t *buf, size_t n);
/* Looks at the alarm. To be called at gpu_alarm_in() at the latest. */
void gpu_tick(struct gpu *g);
/* ns until an enabled alarm may match, UINT64_MAX if none will. */
uint64_t gpu_alarm_in(struct gpu *g);
/* Is something pending and enabled, up to the GPU's interrupt output? */
bool gpu_line(const struct gpu *g);
/* The nanosecond counter as a guest sees it, all 61 bits, before the granularity of 32. */
uint64_t gpu_clock(struct gpu *g);
