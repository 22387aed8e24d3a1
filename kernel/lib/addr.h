/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

#define PAGE_SIZE  4096ull
#define PAGE_SHIFT 12

/*
 * Addresses and IDs that must not be mixed up are one-member structs: map(iova, gpa) is where a
 * swap would hide.
 */
typedef struct { uint64_t v; } gpa_t;  /* guest physical address: what a CPU page table holds */
typedef struct { uint64_t v; } iova_t; /* address that a device puts on the bus */

/* A PCI function: segment 31:16 (0 here unless ACPI says otherwise), bus 15:8, device 7:3, function 2:0.
 * As a requester ID the low 16 bits are what goes over the wire. */
typedef struct { uint32_t v; } pci_rid_t;

static inline gpa_t gpa(uint64_t v) { return (gpa_t){v}; }
static inline iova_t iova(uint64_t v) { return (iova_t){v}; }
static inline pci_rid_t pci_rid(unsigned bus, unsigned dev, unsigned fn)
{
	return (pci_rid_t){((bus & 0xff) << 8) | ((dev & 0x1f) << 3) | (fn & 7)};
}
static inline unsigned rid_bus(pci_rid_t r) { return (r.v >> 8) & 0xff; }
static inline unsigned rid_dev(pci_rid_t r) { return (r.v >> 3) & 0x1f; }
static inline unsigned rid_fn(pci_rid_t r) { return r.v & 7; }
static inline unsigned rid_devfn(pci_rid_t r) { return r.v & 0xff; }
static inline unsigned rid_seg(pci_rid_t r) { return r.v >> 16; }

/*
 * printf of a function as lspci writes it: PRIRID, RIDARG(rid). A text by call and no numbers: some 250 places
 * print one. Where they print is the boot CPU; the text is good until seven more were asked for.
 */
#define PRIRID      "%s"
#define RIDARG(r)   rid_text(r)
const char *rid_text(pci_rid_t); /* kernel/lib/fmt.c */
