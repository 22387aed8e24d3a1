/* SPDX-License-Identifier: MIT */
#pragma once

/* What the pci tests share: registers that are put back, and a sign of life of a BAR. */

#include "drivers/pci/pci.h"
#include "tests/harness/test.h"

/* Registers that a test writes. They are put back by keep_restore(), or when the test ends. */
#define KEEP_MAX 64
struct keep {
	struct t *t;
	unsigned count;
	struct { pci_rid_t rid; uint16_t off, width; uint32_t value; } reg[KEEP_MAX];
};
struct keep *keep_start(struct t *);
uint32_t keep_reg(struct keep *, pci_rid_t, unsigned off, unsigned width); /* its value */
/* The command registers of a function and of the bridges above it. */
void keep_command(struct keep *, const struct pci_dev *);
void keep_restore(struct keep *);

/*
 * A dword of a BAR by which one sees that it answers: neither 0 nor all ones, and the same when read
 * again. Looked for in its first 64 bytes, so only on devices that an exerciser knows and has at
 * rest. False: none, or the BAR cannot be reached.
 */
struct sign {
	uint64_t address;                /* physical, or a port */
	bool io;
	uint32_t value;
};
bool sign_find(struct pci_dev *, unsigned bar, struct sign *);
uint32_t sign_read(const struct sign *);
static inline bool sign_answers(const struct sign *s) { return sign_read(s) == s->value; }
