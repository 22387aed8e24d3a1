/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the IOMMU drivers ask of the kernel, for a driver that is included whole and stands before a unit made of
 * memory. Included first: it puts the unit's write hooks in the place of the MMIO accessors. Reads are plain.
 *
 * Time goes by only while the driver waits: each look at a deadline is LOOK later, and a turn of the unit's.
 */
#include "kernel/acpi/acpi.h"
#include "kernel/lib/bits.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"
#include "tests/host/host.h"

#define LOOK MS(5)

/* The unit's. */
static void fake_w8(volatile void *p, uint8_t x);
static void fake_w16(volatile void *p, uint16_t x);
static void fake_w32(volatile void *p, uint32_t x);
static void fake_w64(volatile void *p, uint64_t x);
static void fake_turn(void);
static volatile void *fake_regs(void);
#define mmio_w8  fake_w8
#define mmio_w16 fake_w16
#define mmio_w32 fake_w32
#define mmio_w64 fake_w64

#include "drivers/iommu/iommu.h"

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; } /* a unit's memory is kept for good */

struct acpi acpi;
struct pci_dev *pci_devs;
static unsigned looks, notes;        /* since the test set them to 0: at deadlines; lines in the log */
static uint64_t gone_by;             /* TSC ticks, a thousand to the ns: what the host really takes is nothing */
static unsigned fake_ats_depth;           /* of every function */
static bool fake_ats_on;
static long pages_out;               /* table pages that are not given back */

uint64_t ns_to_tsc(uint64_t ns) { return ns * 1000 + gone_by; }
void cpu_relax(void) {}
bool deadline_passed(struct deadline d)
{
	looks++;
	gone_by += LOOK * 1000;
	fake_turn();
	return tsc_read() + gone_by > d.tsc;
}
void log_line(const char *fmt, ...) { (void)fmt, notes++; }
void *kzalloc(size_t n) { return calloc(1, n); }
void kfree(void *p) { free(p); }
volatile void *mmio_map(gpa_t at, size_t n) { (void)at, (void)n; return fake_regs(); }
void *phys_to_virt(gpa_t at) { return (void *)at.v; }
bool dma_alloc(struct dma_buf *b, size_t n, size_t align, enum phys_where where)
{
	(void)where;
	b->size = (n + align - 1) / align * align;
	b->va = aligned_alloc(align, b->size);
	memset(b->va, 0, b->size);
	b->pa = gpa((uint64_t)b->va);
	return true;
}
void dma_free(struct dma_buf *b) { free(b->va); }
bool phys_alloc(size_t n, size_t align, enum phys_where where, gpa_t *out)
{
	(void)align, (void)where;
	*out = gpa((uint64_t)aligned_alloc(4096, n * 4096));
	pages_out += (long)n;
	return true;
}
void phys_free(gpa_t at, size_t n) { pages_out -= (long)n, free((void *)at.v); }
struct pci_dev *pci_find(pci_rid_t rid)
{
	FOR_EACH_PCI(d)
		if (d->rid.v == rid.v)
			return d;
	return NULL;
}
unsigned pci_ats_depth(pci_rid_t rid) { (void)rid; return fake_ats_depth; }
bool pci_ats_enable(pci_rid_t rid, bool on) { (void)rid; fake_ats_on = on; return true; }
