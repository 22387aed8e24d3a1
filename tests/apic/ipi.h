/* SPDX-License-Identifier: MIT */
#pragma once

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"

/* IPIs with vector 0 of a delivery, in whatever mode the APICs are. */

/* Each CPU to each, itself included, by its ID or its logical ID; of many CPUs a seeded sample. */
void ipi_each_to_each(struct delivery *, enum irq_dest_mode);
/* The two broadcasts and the three shorthands, each exactly whom it says. */
void ipi_broadcasts(struct delivery *, bool logical);
/* From this CPU to a logical destination, and due at every CPU that it names. */
void ipi_send_logical(const struct delivery *, uint32_t dest);
void ipi_due_logical(struct delivery *, uint32_t dest);

/* Why this machine cannot be taken into xAPIC mode; NULL: it can. */
const char *xapic_missing(void);
/* All CPUs into xAPIC mode until the test ends, or xapic_leave(). An error if it does not work. */
void xapic_enter(struct t *, enum apic_model);
void xapic_leave(struct t *);
