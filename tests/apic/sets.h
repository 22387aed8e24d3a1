/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/apic/delivery.h"

/* Groups of CPUs that one logical destination names: SDM vol. 3, 11.6.2.2 (xAPIC), 11.12.10 (x2APIC). */

/* Does this logical destination name that CPU? */
bool dest_names(uint32_t dest, unsigned cpu);
unsigned dest_members(const struct delivery *, uint32_t dest);
/*
 * Up to max destinations: each whole cluster (xAPIC flat: the one there is), then seeded sets of some of
 * a cluster's members. Returns how many; 0 where no CPU has a logical ID.
 */
unsigned dest_sets(const struct delivery *, struct random *, uint32_t *dests, unsigned max);
/* Due once with d->vector[v] on each that dest names. */
void dest_due(struct delivery *, uint32_t dest, unsigned v);
/* Waits for one interrupt on any that dest names, and makes that one due. False: none came, as reported. */
bool dest_one_of(struct delivery *, uint32_t dest, unsigned v, const char *what);
