/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/irq/irq.h"
#include "tests/harness/test.h"

/*
 * Deliveries are counted, never sampled. A test says which (CPU, vector) is due how often; after
 * that every one of them must have come exactly so often, and every other vector of every CPU must
 * stand still. What is missing, what came too often and what came where nothing was due are three
 * different messages.
 *
 * The counts go on from delivery_open() to delivery_finish(), over all steps of a test: an
 * interrupt that comes late is found by a later step, not swallowed between two.
 */
#define CALL_LIMIT SEC(8) /* for a CPU's answer: a vCPU of a nested guest may be away for seconds */
#define DELIVERY_VECTORS 64
#define DELIVERY_STRAYS  16

struct delivery {
	struct t *t;
	struct irq_watch watch;
	unsigned cpus, vectors;
	int vector[DELIVERY_VECTORS]; /* ours, ascending from 0 as the test numbers them */
	uint32_t *due;                /* [vectors][cpus], since the start */
	uint32_t *settled;            /* the same, as of the last check */
	uint64_t patience;            /* ns to wait for one that is missing; shrinks when they are */
	unsigned reported[3], strays; /* told of: strays, missing, too many */
	struct irq_stray stray[DELIVERY_STRAYS]; /* already told */
};

/* Allocates vectors and starts the watch; all is given back when the test ends. */
struct delivery *delivery_open(struct t *, unsigned vectors);
/* One more (or count more) is due on that CPU. v: index into vector[]. */
void delivery_due(struct delivery *, unsigned cpu, unsigned v, uint32_t count);
void delivery_due_all(struct delivery *, unsigned v, uint32_t count);
/* Came so far. From any CPU. */
uint32_t delivery_count(const struct delivery *, unsigned cpu, unsigned v);
/* Waits until what is due there has come; false: it has not. From any CPU. */
bool delivery_arrived(struct delivery *, unsigned cpu, unsigned v);
/*
 * Waits for all that is due, then compares our vectors on all CPUs. The text names the step, as in
 * "CPU 1 to CPU 2". Reports each difference once and goes on from what was found.
 */
bool delivery_check(struct delivery *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * The end of a run of steps: gives every CPU the occasion to take what is still pending there, then
 * checks as above and sweeps all vectors of all CPUs for strays. Another run may follow.
 */
bool delivery_finish(struct delivery *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A bounded window in which a wrong interrupt would come; a positive control belongs after it. */
void delivery_window(void);

/* Runs fn(args + index * size) on every CPU at once, this one too. An error if one does not return. */
void on_every_cpu(struct t *, void (*fn)(void *), void *args, size_t size);
/* The same with nothing to do: when it returns, each CPU has had its interrupts on. */
void delivery_fence(struct t *);
