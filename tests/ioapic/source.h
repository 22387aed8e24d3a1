/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"

/*
 * What raises a pin of an I/O APIC when told to: the PIT (one edge, through the MADT's override of ISA IRQ 0), an HPET
 * comparator (edge or level, on a pin it is routed to), a PCI device's INTx (level).
 */
struct pin {
	struct ioapic *io;
	unsigned pin;
	uint32_t gsi;
	struct irq_route route; /* trigger and polarity as the source drives it; the test adds the rest */
};

/*
 * delivery_open() for levels: vector[0] is ended by hand, and at the end of the test whatever is still in service
 * on any CPU, for it would hold back all that comes after.
 */
struct delivery *levels_open(struct t *, unsigned vectors);
/* Stops the source and masks the pin when the test ends. NULL, *why: this machine has none. */
struct pin *pit_open(struct t *, const char **why);
/* One rising edge, after a few microseconds. */
void pit_pulse(void);
/* The output of channel 0 is high: it has signalled. */
bool pit_signalled(void);

/* One edge of an HPET comparator, after a few microseconds, on a pin of its own. */
struct pin *hpet_open(struct t *, const char **why);
void hpet_fire(void);

/*
 * A level: of an HPET comparator, or where there is none, the INTx of a device under test at the pin that the
 * firmware's tables name. level_fire() raises it and it is held until level_ack().
 */
struct pin *level_open(struct t *, const char **why);
void level_fire(void);
/* It has signalled: the source's own status says so. */
bool level_signalled(void);
void level_ack(void);
/* "HPET", or the device: "00:04.0 edu". */
const char *level_source(void);

/* Writes the pin's entry: p->route with this destination and vector. */
void pin_aim(struct t *, const struct pin *, uint32_t dest, enum irq_dest_mode, int vector, bool masked);
void pin_mask(const struct pin *, bool masked);
/* The entry's bits that the I/O APIC itself sets: 82093AA, 3.2.4. */
bool pin_remote_irr(const struct pin *);
