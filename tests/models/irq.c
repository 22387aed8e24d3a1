/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "tests/models/irq.h"

#define MS 1000000ull

void irq_init(struct irq *q, const struct breaks *brk, const struct irq_ops *ops, void *ctx, bool auto_rearm)
{
	memset(q, 0, sizeof(*q));
	q->brk = brk;
	q->ops = ops;
	q->ctx = ctx;
	q->auto_rearm = auto_rearm;
	irq_reset(q);
}

void irq_reset(struct irq *q)
{
	memset(&q->cfg, 0, sizeof(q->cfg));
	memset(q->later, 0, sizeof(q->later));
	q->line = false;
	q->armed = true;
	q->intx_masked = false;
	q->vector_masked = q->vector_pending = 0;
}

/* A full list drops: a break that loses is still a break. */
static void later(struct irq *q, enum irq_type type, unsigned vector, uint64_t when, bool after_taken)
{
	for (unsigned i = 0; i < IRQ_LATER; i++) {
		if (q->later[i].when)
			continue;
		q->later[i].when = when ? when : 1;
		q->later[i].type = type;
		q->later[i].vector = vector;
		q->later[i].after_taken = after_taken;
		return;
	}
}

static void send(struct irq *q, enum irq_type type, unsigned vector, uint64_t now)
{
	const struct breaks *brk = q->brk;

	q->messages++;
	if (broken(brk, BRK_NO_MSI) ||
	    (broken(brk, BRK_LOSE_MSI) && q->messages % brk->arg[BRK_LOSE_MSI] == 0)) {
		q->lost++;
		return;
	}
	if (broken(brk, BRK_WRONG_VECTOR))
		vector++;
	if (type == IRQ_MSIX && (q->cfg.msix_masked || (q->vector_masked >> vector & 1))) {
		q->vector_pending |= 1u << vector;
		return;
	}
	if (!q->ops->wired(q->ctx, type, vector)) {
		q->lost++;
		return;
	}
	if (broken(brk, BRK_LATE_MSI)) {
		later(q, type, vector, now + brk->arg[BRK_LATE_MSI] * MS, false);
		return;
	}
	q->ops->signal(q->ctx, type, vector);
	if (broken(brk, BRK_DOUBLE_MSI))
		later(q, type, vector, now + brk->arg[BRK_DOUBLE_MSI] * MS, true);
}

static void evaluate(struct irq *q, uint64_t now)
{
	const enum irq_type type = q->cfg.msix ? IRQ_MSIX : q->cfg.msi ? IRQ_MSI : IRQ_INTX;

	if (type == IRQ_INTX || broken(q->brk, BRK_MSI_AS_INTX)) {
		if (q->line && !q->cfg.intx_off && !q->intx_masked && q->ops->wired(q->ctx, IRQ_INTX, 0) &&
		    !broken(q->brk, BRK_INTX_DEAD) && !broken(q->brk, BRK_NO_INTX_PIN)) {
			q->intx_masked = true;
			q->pins++;
			q->ops->signal(q->ctx, IRQ_INTX, 0);
		}
		return;
	}
	/* Nothing is lost before the client has wired the type up. */
	if (q->line && q->armed && q->cfg.bus_master && q->ops->wired(q->ctx, type, 0)) {
		q->armed = false;
		send(q, type, 0, now);
	}
}

void irq_line(struct irq *q, bool line, uint64_t now)
{
	const bool fell = q->line && !line;

	q->line = line;
	if (fell && q->auto_rearm)
		irq_rearm(q, now);
	evaluate(q, now);
}

void irq_configure(struct irq *q, const struct irq_config *cfg, uint64_t now)
{
	const bool on = (cfg->msi && !q->cfg.msi) || (cfg->msix && !q->cfg.msix);

	q->cfg = *cfg;
	if (on)
		q->armed = true;
	for (unsigned v = 0; v < IRQ_VECTORS; v++)
		irq_mask(q, IRQ_MSIX, v, q->vector_masked >> v & 1, now);
	evaluate(q, now);
}

void irq_rearm(struct irq *q, uint64_t now)
{
	const enum irq_type type = q->cfg.msix ? IRQ_MSIX : IRQ_MSI;

	if (broken(q->brk, BRK_NO_REARM))
		return;
	q->armed = true;
	if (!q->line && broken(q->brk, BRK_SPURIOUS_MSI) && (q->cfg.msi || q->cfg.msix) &&
	    q->ops->wired(q->ctx, type, 0))
		later(q, type, 0, now + 2 * MS, true);
	evaluate(q, now);
}

void irq_mask(struct irq *q, enum irq_type type, unsigned vector, bool masked, uint64_t now)
{
	if (type == IRQ_INTX) {
		q->intx_masked = masked;
		evaluate(q, now);
		return;
	}
	if (type != IRQ_MSIX || vector >= IRQ_VECTORS)
		return;
	q->vector_masked = (q->vector_masked & ~(1u << vector)) | (masked ? 1u << vector : 0);
	if (!masked && !q->cfg.msix_masked && (q->vector_pending >> vector & 1) &&
	    q->ops->wired(q->ctx, IRQ_MSIX, vector)) {
		q->vector_pending &= ~(1u << vector);
		q->ops->signal(q->ctx, IRQ_MSIX, vector);
	}
}

void irq_wired(struct irq *q, uint64_t now)
{
	evaluate(q, now);
}

uint64_t irq_run_later(struct irq *q, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < IRQ_LATER; i++) {
		uint64_t *when = &q->later[i].when;
		const enum irq_type type = q->later[i].type;
		const unsigned vector = q->later[i].vector;

		if (!*when)
			continue;
		if (*when <= now && !q->ops->wired(q->ctx, type, vector)) {
			*when = 0;
			continue;
		}
		/* Two signals in one eventfd are one: the second waits until the first was read. */
		if (*when <= now && q->later[i].after_taken && !q->ops->taken(q->ctx, type, vector))
			*when = now + MS;
		if (*when <= now) {
			*when = 0;
			q->ops->signal(q->ctx, type, vector);
			continue;
		}
		next = *when - now < next ? *when - now : next;
	}
	return next;
}
