/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"
#include "tests/harness/test.h"

/*
 * A device's INTx pin, found by trying: the device raises, and the one I/O APIC pin that follows is its.
 * No table is read (that takes an AML interpreter); what firmware has set up is what is found.
 */
struct intx {
	struct t *t;
	struct exerciser *ex;
	struct ioapic *io;
	unsigned pin;
	uint32_t gsi;
	int vector;
	struct irq_watch watch;
	unsigned tried;              /* pins */
	bool signalled;              /* the device was pending while the pins were tried */
	bool is_open, was_msix;
	uint16_t command;
};

/*
 * Opens it: MSI off, the device started with its INTx on, pin found, masked, aimed at CPU 0. NULL: no
 * pin followed, *why says so; probed tells of what was tried. Closed at the end of the test, device
 * first. One at a time.
 */
struct intx *intx_open(struct t *, struct exerciser *, const char **why);
/*
 * Waits for one interrupt: raise() the device, which answers pending; take() it back; then its EOI.
 * Returns how many came, which should be 1. The device's own functions are called with arg.
 */
struct intx_ops {
	void (*raise)(void *arg);
	void (*take)(void *arg);
	void *arg;
};
unsigned intx_one(struct intx *, const struct intx_ops *);
/* By the exerciser's own irq_raise() and irq_ack(). */
unsigned intx_shot(struct intx *);
void intx_close(struct intx *);
/* Of the last intx_open(), also where it found nothing. */
const struct intx *intx_last(void);
