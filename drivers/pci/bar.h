/* SPDX-License-Identifier: MIT */
#pragma once

/* What a base address register says about itself. Pure. PCI 3.0, 6.2.5.1. */

#include <stdint.h>

#include "drivers/pci/pci.h"

/* A register as found, and as it reads after all ones were written to it. */
struct bar_probe { uint32_t value, ones; };

/*
 * hi: the register above it, NULL where there is none. Fills *out (base, size, kind; size 0: not
 * implemented). Returns what is illegal about it, or NULL.
 */
const char *bar_decode(struct bar_probe lo, const struct bar_probe *hi, struct pci_bar *out);
const char *bar_decode_rom(struct bar_probe, struct pci_bar *out);

/* How many BARs the header has, and where its expansion ROM register is (0: none). */
unsigned bar_count(const struct pci_dev *);
unsigned bar_rom_offset(const struct pci_dev *);
/* Reads, writes all ones, reads, puts back. Decoding should be off. ones: what to write. */
struct bar_probe bar_probe(pci_rid_t, unsigned off, uint32_t ones);
