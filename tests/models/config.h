/* SPDX-License-Identifier: MIT */
#pragma once

/* The kinds of device there are, and their config space: bytes and write masks, no I/O. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/models/breaks.h"

enum { PCI_CONFIG_SIZE = 4096, PCI_BARS = 6 };
/* Offsets in config space, and in BAR0's mirror of it, that re-arm the MSI: a byte 0xff, a doubleword. */
enum { CFG_MSI_REARM_8 = 0x68, CFG_MSI_REARM = 0x704 };

enum bar_type { BAR_NONE, BAR_MEM32, BAR_MEM64, BAR_MEM64_PREF, BAR_IO };

/* What lets the next message go, by generation. */
enum rearm {
	REARM_NONE,                   /* nothing: a VF */
	REARM_BYTE,                   /* Kepler, Maxwell: CFG_MSI_REARM_8 */
	REARM_DWORD,                  /* GP100 to GA10x: CFG_MSI_REARM */
	REARM_TOP,                    /* Hopper: the tree's TOP_EN cleared and set */
};

struct bar {
	enum bar_type type;
	uint64_t size;                /* power of two; at least 4 KiB for memory */
};

struct kind {
	const char *name, *text;
	uint16_t vendor, device, sub_vendor, sub_device;
	uint32_t class_code;          /* 0: a VGA controller */
	uint8_t revision;
	uint8_t pin;                  /* 1: INTA */
	struct bar bar[PCI_BARS];
	uint32_t rom;                 /* bytes, 0: none */
	uint8_t first_cap;
	uint8_t pm, msi, pcie, vendor_cap, msix; /* where each capability is, 0: nowhere */
	uint16_t vectors;             /* of MSI-X; the table is in BAR0 */
	uint32_t msix_table, msix_pba;
	uint32_t chip, other_chip;    /* BOOT_42's chip id; the one of an unlocked card */
	uint32_t boot1;               /* BOOT_1 17:16: 0 real, 1 paravirtual, 2 VF */
	enum rearm rearm;
	bool old_pmc;                 /* to Maxwell: one enable register of two bits, software bit in the status */
	bool turing;                  /* has the Turing interrupt tree, not PMC */
	uint32_t tree;                /* where in BAR0 */
	bool window;                  /* 0x1700 can name system memory */
	uint32_t absent;              /* what a register that is not there reads */
};

/* NULL past the last. */
const struct kind *kind_at(unsigned n);
const struct kind *kind_find(const char *name);

struct config {
	uint8_t bytes[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE];   /* bits that stick */
	uint8_t w1c[PCI_CONFIG_SIZE];
	uint8_t msi, msix;                   /* capabilities there are, 0: none */
};

/* As after reset. The kind has its final BAR sizes and IDs by now. */
void config_init(struct config *c, const struct kind *k, const struct breaks *brk);
/* Bounds are the caller's: off + n <= PCI_CONFIG_SIZE. */
void config_read(const struct config *c, unsigned off, void *buf, size_t n);
void config_write(struct config *c, unsigned off, const void *buf, size_t n);
/* Status bit 3. */
void config_intx_status(struct config *c, bool asserted);

bool config_bus_master(const struct config *c);
bool config_intx_disabled(const struct config *c);
bool config_msi_enabled(const struct config *c);
bool config_msix_enabled(const struct config *c);
bool config_msix_masked(const struct config *c);
/* Messages the capability offers, 0 without one. */
unsigned config_msi_offered(const struct config *c);

/* The option ROM of a physical card: a signature, a far return, a PCI data structure. */
void rom_make(const struct kind *k, uint8_t *rom);
