/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Walking capability chains of a configuration space that may lie. Pure: the space is reached
 * through a callback, every step is bounded, no offset outside the space is ever read. PCI 3.0, 6.7
 * and PCIe 5.0, 7.6.
 */

#include <stdbool.h>
#include <stdint.h>

#include "kernel/lib/addr.h"

struct cap_space {
	uint32_t (*read)(void *ctx, unsigned off); /* off: multiple of 4, below size */
	void *ctx;
	unsigned size;                   /* bytes: 256, or 4096 where the extended space is reached */
};

struct cap {
	uint16_t id, off;
	uint8_t version;                 /* of an extended capability */
	bool extended;
};

struct cap_walk {
	const struct cap_space *space;
	bool extended;
	uint16_t next;                   /* 0: at the end */
	uint16_t at;                     /* where problem was found */
	const char *problem;             /* why the walk stopped early, or NULL */
	uint32_t seen[4096 / 4 / 32];    /* one bit a dword: a chain that comes back is a loop */
};

void cap_walk_start(struct cap_walk *, const struct cap_space *, bool extended);
bool cap_walk_next(struct cap_walk *, struct cap *); /* false: the end, or w->problem */
/* Bytes that the capability takes; 4 (its header) where the ID does not tell. */
unsigned cap_length(const struct cap_space *, const struct cap *);
unsigned cap_find(const struct cap_space *, bool extended, uint16_t id); /* offset or 0 */
/*
 * Walks both chains and checks that they end, stay in their space, do not loop, that no capability
 * runs out of its space or into another. NULL, or what is wrong and at which offset.
 */
const char *cap_check(const struct cap_space *, unsigned *at);

/* The configuration space of a function of this machine; with its extended part where it has one. */
void pci_cap_space(pci_rid_t, bool extended, struct cap_space *);
