/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * From the GPU's interrupt output to a message or a pin. Pure: signalling is its owner's.
 *
 * The output is a level. A message goes out when it rises, or when it is high at a re-arm; after one, no
 * other goes out before the re-arm (facts: 0x88704 on GP100 to GA10x; a VF needs none: there, the output
 * falling re-arms). That a re-arm with something still pending sends again is [I]; without it, an
 * interrupt between the acknowledgement and the re-arm would be lost for ever.
 *
 * As VFIO has it, a type of interrupt is on when the client has given an eventfd for it; here the config
 * space must agree. INTx masks itself when it fires, until it is unmasked.
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/models/breaks.h"

/* VFIO's interrupt indexes. */
enum irq_type { IRQ_INTX, IRQ_MSI, IRQ_MSIX, IRQ_ERR, IRQ_REQ, IRQ_TYPES };
enum { IRQ_VECTORS = 8, IRQ_LATER = 16 };

struct irq_ops {
	/* Is there an eventfd? Has it been taken, if it was signalled? Signal it. */
	bool (*wired)(void *ctx, enum irq_type type, unsigned vector);
	bool (*taken)(void *ctx, enum irq_type type, unsigned vector);
	void (*signal)(void *ctx, enum irq_type type, unsigned vector);
};

/* What config space says. */
struct irq_config {
	bool msi, msix, msix_masked, intx_off, bus_master;
};

struct irq {
	const struct breaks *brk;
	const struct irq_ops *ops;
	void *ctx;
	bool auto_rearm;              /* a VF */
	struct irq_config cfg;
	bool line, armed, intx_masked;
	uint32_t vector_masked, vector_pending; /* MSI-X; bit n: vector n */
	struct {
		uint64_t when;        /* ns; 0: free */
		enum irq_type type;
		unsigned vector;
		bool after_taken;
	} later[IRQ_LATER];
	uint64_t messages, lost, pins; /* statistics; messages counts the lost ones too */
};

void irq_init(struct irq *q, const struct breaks *brk, const struct irq_ops *ops, void *ctx, bool auto_rearm);
void irq_reset(struct irq *q);
/* Each may signal. now: ns. */
void irq_line(struct irq *q, bool line, uint64_t now);
void irq_configure(struct irq *q, const struct irq_config *cfg, uint64_t now);
void irq_rearm(struct irq *q, uint64_t now);
void irq_mask(struct irq *q, enum irq_type type, unsigned vector, bool masked, uint64_t now);
/* An eventfd was given or taken away. */
void irq_wired(struct irq *q, uint64_t now);
/* Messages that a break put off; ns until the next, UINT64_MAX if there is none. */
uint64_t irq_run_later(struct irq *q, uint64_t now);
