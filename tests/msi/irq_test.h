/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/apic/delivery.h"
#include "tests/harness/test.h"

/*
 * What the msi, msix and ir tests share: an exerciser whose interrupts are aimed at a route, by MSI
 * or MSI-X as the device has it, directly or through the remapping unit in front of it.
 *
 *	struct delivery *d = delivery_open(t, 1);
 *	struct irq_source *s = irq_source_open(t, ex, IRQ_REMAPPED, &why);
 *
 *	ASSERT_OK(t, irq_source_route(s, 0, &(struct irq_route){.dest = …, .vector = d->vector[0]}, &why));
 *	irq_expect_one(s, d, 0, cpu, 0);
 *	delivery_finish(d, "%s", irq_source_name(s));
 *	irq_source_close(s);
 */

enum irq_via {
	IRQ_DIRECT,   /* compatibility format, remapping off */
	IRQ_REMAPPED, /* by an entry of the unit's table */
	IRQ_VIA_COUNT
};

#define IRQ_SOURCE_MAX 64 /* messages of one device that a test may aim */

struct irq_source {
	struct t *t;
	struct exerciser *ex;
	enum irq_via via;
	struct iommu *iommu;         /* IRQ_REMAPPED: the unit in front of the device */
	bool was_remapping, was_eim; /* put back at the end, as is the command register */
	uint16_t command;
	bool is_open;
	int irte[IRQ_SOURCE_MAX];    /* -1: none */
	char name[48];
};

/*
 * The next exerciser, after that one (NULL: the first), that interrupts by MSI or MSI-X. One that has both comes twice,
 * by MSI-X and then by MSI.
 */
struct exerciser *irq_next_exerciser(struct t *, struct exerciser *after);
#define FOR_EACH_IRQ_EXERCISER(t, ex)                                                              \
	for (struct exerciser *ex = irq_next_exerciser(t, NULL); ex; ex = irq_next_exerciser(t, ex))

/*
 * Quiets the device, turns remapping on or off as via asks, Bus Master and memory on, MSI or MSI-X on
 * with nothing aimed yet. NULL: not possible on this machine, *why says so. Undone by
 * irq_source_close() or at the end of the test, the device first.
 */
struct irq_source *irq_source_open(struct t *, struct exerciser *, enum irq_via, const char **why);
void irq_source_close(struct irq_source *);
/* "00:04.0 edu MSI remapped" */
const char *irq_source_name(const struct irq_source *);
/*
 * Aims interrupt index, unmasked. Again for the same index: moves it (remapped: by updating its
 * entry). -EOPNOTSUPP: this route cannot be had, *why says why.
 */
int irq_source_route(struct irq_source *, unsigned index, const struct irq_route *, const char **why);
/*
 * Aims n messages of MSI, all unmasked, in place of what was aimed. Remapped: message i by route[i], each an entry of its
 * own; directly: by route[0], its vector a multiple of n and the next messages' the next ones.
 */
void irq_source_messages(struct irq_source *, const struct irq_route *route, unsigned n);
/*
 * The k-th CPU, modulo their number, as a physical destination; CPU 0 where its ID is out of this
 * source's reach (above 254 without remapping).
 */
unsigned irq_source_cpu(const struct irq_source *, unsigned k);
/* The same with a message of the caller's making; entries of the unit are not touched. */
void irq_source_message(struct irq_source *, unsigned index, const struct msi_msg *);
/* MSI or MSI-X Enable of the device. */
void irq_source_enable(struct irq_source *, bool on);

/* Raises it once: due on cpu with d->vector[v] exactly once, and nothing else. False: reported. */
bool irq_expect_one(struct irq_source *, struct delivery *d, unsigned index, unsigned cpu, unsigned v);
/*
 * Raises it and wants nothing anywhere within the window. The caller sends a positive control after
 * it. what: "while MSI is disabled". A device that can tell and did not signal is an error: nothing
 * was shown.
 */
bool irq_source_can_tell(struct irq_source *, unsigned index); /* … whether it signalled */
bool irq_expect_none(struct irq_source *, struct delivery *d, unsigned index, const char *what);
/* Aims interrupt index at that CPU, physical and fixed, with d->vector[v]. */
void irq_source_aim(struct irq_source *, const struct delivery *d, unsigned index, unsigned cpu, unsigned v);
/*
 * What has signalled is at the APICs when this is back, also where its message takes an eventfd and QEMU's main loop
 * (vfio-user, mdev, ivshmem) and not the vCPU that raised it. delivery_fence() after it: and taken.
 */
void irq_vmm_turn(void);
void irq_window(void);           /* delivery_window(), and then that */
/* irq_raise() and irq_ack() of the device; an error ends the test. */
void irq_source_raise(struct irq_source *, unsigned index);
void irq_source_ack(struct irq_source *, unsigned index);
