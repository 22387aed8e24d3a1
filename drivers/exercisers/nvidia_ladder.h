/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "drivers/exercisers/nvidia_id.h"

/*
 * How a GPU is told to interrupt without a driver: a ladder of triggers by generation, tried one after
 * the other until one shows as pending where the GPU's interrupt output is made. Pure but for the wait:
 * registers are reached through callbacks. Everything that a rung changes is saved when it is armed and
 * put back when it is disarmed.
 */

enum nvidia_rung { NVIDIA_PBUS, NVIDIA_ALARM, NVIDIA_PMC_SW, NVIDIA_TREE, NVIDIA_RUNGS };
/* "PBUS software interrupt (0x1150)" */
const char *nvidia_rung_name(enum nvidia_rung);

/* What it takes for the GPU to send another MSI after one. */
enum nvidia_rearm {
	NVIDIA_REARM_NONE, /* virtual functions */
	NVIDIA_REARM_BYTE, /* Kepler, Maxwell: 0xff at 0x88068 */
	NVIDIA_REARM_CYA2, /* GP100 to GA10x: 0 at 0x88704 */
	NVIDIA_REARM_TOP,  /* Hopper: the tree's top disabled and enabled again */
};
/* "a write to 0x88704" */
const char *nvidia_rearm_name(enum nvidia_rearm);

struct nvidia_plan {
	enum nvidia_rung rung[3];
	unsigned rungs;                  /* 0: nothing known for this generation */
	bool inferred[NVIDIA_RUNGS];     /* [I]: not read anywhere for this kind and generation */
	enum nvidia_rearm rearm;
	bool pmc_set_clear;              /* GP100+: the enables are set and cleared by two registers */
	uint32_t tree;                   /* where the tree begins */
	uint32_t reach;                  /* bytes of BAR0 it needs */
};
struct nvidia_plan nvidia_plan(enum nvidia_kind, unsigned arch);

struct nvidia_io {
	uint32_t (*r32)(void *, uint32_t off);
	void (*w32)(void *, uint32_t off, uint32_t);
	void (*w8)(void *, uint32_t off, uint8_t);
	void *arg;
};

/* How far a trigger came. */
enum nvidia_reach {
	NVIDIA_UNTRIED,
	NVIDIA_UNANSWERED, /* its registers answer with all ones or a PRI error */
	NVIDIA_NOWHERE,    /* nothing is pending */
	NVIDIA_AT_SOURCE,  /* pending in its unit, not where the GPU's output is made */
	NVIDIA_AT_TOP,     /* pending in the GPU, and enabled */
	NVIDIA_STUCK,      /* … and not to be taken back */
};
const char *nvidia_reach_name(enum nvidia_reach);

struct nvidia_ladder {
	struct nvidia_io io;
	struct nvidia_plan plan;
	bool chosen, armed;
	enum nvidia_rung rung;
	enum nvidia_reach reach[NVIDIA_RUNGS]; /* as nvidia_choose() found */
	/* put back by nvidia_disarm() */
	uint32_t source_en, alarm, pmc_en[2], leaf_en[2], top_en;
};

/*
 * Tries the plan's rungs, each until it is pending or ns are over, takes the interrupt back and puts
 * everything back as it was. 0: l->rung works; -ENODEV: none does, l->reach says what each did.
 */
int nvidia_choose(struct nvidia_ladder *, uint64_t ns);

/* Enables l->rung's source and no other of the GPU. */
void nvidia_arm(struct nvidia_ladder *);
void nvidia_disarm(struct nvidia_ladder *);
/* Raises it once, at once or (the alarm) soon. -ETIMEDOUT: the alarm could not be set ahead of its time. */
int nvidia_trigger(struct nvidia_ladder *);
/* Where it is pending now: UNANSWERED, NOWHERE, AT_SOURCE or AT_TOP. */
enum nvidia_reach nvidia_pending(struct nvidia_ladder *);
/* Takes it back, and lets the next MSI go. */
void nvidia_clear(struct nvidia_ladder *);
