/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/iommu/iommu.h"
#include "tests/ioapic/source.h"

/*
 * A pin of an I/O APIC, aimed in compatibility format or through an entry of the unit that the firmware
 * names in front of it.
 */
struct pin_user {
	struct t *t;
	struct pin *pin;
	struct iommu *u;             /* NULL: compatibility format */
	pci_rid_t source;
	int index;                   /* of the unit's entry; -1: none yet */
	bool was_on, was_eim;
};

/* In compatibility format: with the unit's remapping off. */
struct pin_user *pin_direct(struct t *, struct pin *);
/* Switches remapping on, until the end of the test. NULL, *why: no unit does it for this I/O APIC. */
struct pin_user *pin_remap(struct t *, struct pin *, const char **why);
/* Ends a use before the end of the test: the pin is masked, the unit as it was. */
void pin_release(struct pin_user *);
/*
 * The pin's entry, unmasked, with its own trigger and polarity. -EOPNOTSUPP, *why: this destination is
 * not to be had this way. Remapped: the same entry of the unit, updated; the pin's is not written again
 * where it would not change.
 */
int pin_route(struct pin_user *, uint32_t dest, enum irq_dest_mode, enum irq_delivery, int vector,
	      const char **why);
/* Only the unit's entry, or only the pin's destination: what may be changed while in service. */
int pin_move(struct pin_user *, uint32_t dest, enum irq_dest_mode, int vector, const char **why);
/* The vector by which an EOI finds this pin. AMD-Vi: the entry's index stands there. */
uint8_t pin_eoi_vector(const struct pin_user *);
