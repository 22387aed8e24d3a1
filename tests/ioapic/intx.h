/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/ioapic/source.h"

/*
 * A device's INTx at its pin of an I/O APIC: where the firmware's tables say that it arrives, and where they
 * cannot be read, where it is found by trying. The device is served in the handler, before the EOI.
 */
struct intx_line {
	struct delivery *d;
	struct exerciser *ex;
	struct pin pin;
	bool probed;
	char how[96];            /* "GSI 20 by _PRT, …" */
	bool is_open, was_msix;
};

/*
 * Starts the device with MSI and MSI-X off and INTx on; its pin masked. NULL, *why: no pin of it is known.
 * Closed at the end of the test. One at a time. Uses d->vector[0], whose handler it takes.
 */
struct intx_line *intx_line_open(struct t *, struct delivery *, struct exerciser *, const char **why);
void intx_line_close(struct intx_line *);
void intx_line_aim(struct intx_line *, unsigned cpu, bool masked);
/* Its Interrupt Disable bit (PCI 3.0, 6.2.2). */
void intx_line_disable(struct intx_line *, bool off);
/* Raises it and waits until the device says that it signalled; an error where it does not. */
void intx_line_raise(struct intx_line *, const char *what);
/* Raised once, due on cpu exactly once. False: reported. */
bool intx_line_one(struct intx_line *, unsigned cpu, const char *what);
