/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/boot_info.h"
#include "kernel/lib/addr.h"

/* ---- physical pages (kernel/mm/phys.c): a bitmap over the RAM of the memory map ---- */
enum phys_where { PHYS_ANY, PHYS_BELOW_1M, PHYS_BELOW_4G, PHYS_ABOVE_4G };
struct phys_stats { uint64_t total, free, above_4g; }; /* bytes */
void phys_init(const struct boot_info *); /* bi stays in use */
void phys_moved(void);                   /* after paging_init() */
/* count pages, contiguous, aligned to align pages (power of two). false: none. Not zeroed. */
bool phys_alloc(size_t count, size_t align, enum phys_where, gpa_t *out);
void phys_free(gpa_t, size_t count);
struct phys_stats phys_stats(void);
/* Is [base, base+size) RAM by the memory map? Touches RAM at all? */
bool phys_is_ram(uint64_t base, uint64_t size);
bool phys_touches_ram(uint64_t base, uint64_t size);

/* ---- kernel address space (kernel/mm/paging.c) ---- */
enum page_prot { PAGE_R = 0, PAGE_W = 1, PAGE_X = 2, PAGE_UC = 4 };
/* Our own tables in place of the boot ones; W^X throughout, page 0 unmapped. */
void paging_init(const struct boot_info *);
void paging_enable_cpu(void);            /* the control bits and our CR3, on every CPU */
gpa_t kernel_phys(uint64_t *size);       /* where the image lies */
/* All RAM is mapped at one offset, writable, never executable. */
void *phys_to_virt(gpa_t);
gpa_t virt_to_phys(const void *);        /* direct map and kernel image; panics on anything else */
/* Maps [gpa, gpa+size) uncached, anywhere; not page aligned is fine. NULL: no room, or beyond the CPU's address bits. */
volatile void *mmio_map(gpa_t, size_t size);
/* Firmware tables and other memory that is not in the direct map: cached, read-only. */
const void *firmware_map(gpa_t, size_t size);
/* A stack with an unmapped page below it; returns its top. NULL: no memory. */
void *stack_alloc(size_t size);
/* Leaf of va as mapped now; false if not mapped. For tests of the protections. */
struct page_leaf { uint64_t entry; uint64_t size; uint64_t va; };
bool page_lookup(uint64_t va, struct page_leaf *);
/* Calls fn for every leaf in ascending order, until it returns false. */
void page_walk(bool (*fn)(const struct page_leaf *, void *), void *arg);
void page_set(void *va, gpa_t, enum page_prot); /* one 4 KiB page, and INVLPG on this CPU */
void page_clear(void *va);
static inline void invlpg(volatile const void *va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }

/* ---- heap (kernel/mm/heap.c): first fit with coalescing; the boot CPU only ---- */
void *kmalloc(size_t);
void *kzalloc(size_t);
void kfree(void *);
size_t heap_used(void);

/* ---- memory that devices see: contiguous, zeroed, page aligned or better ---- */
struct dma_buf { void *va; gpa_t pa; size_t size; };
/* align: bytes, power of two, at least PAGE_SIZE is used. false: none. */
bool dma_alloc(struct dma_buf *, size_t size, size_t align, enum phys_where);
void dma_free(struct dma_buf *);

/* ---- MMIO accessors: volatile, of the stated width ---- */
static inline uint8_t mmio_r8(volatile const void *p) { return *(volatile const uint8_t *)p; }
static inline uint16_t mmio_r16(volatile const void *p) { return *(volatile const uint16_t *)p; }
static inline uint32_t mmio_r32(volatile const void *p) { return *(volatile const uint32_t *)p; }
static inline uint64_t mmio_r64(volatile const void *p) { return *(volatile const uint64_t *)p; }
static inline void mmio_w8(volatile void *p, uint8_t v) { *(volatile uint8_t *)p = v; }
static inline void mmio_w16(volatile void *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static inline void mmio_w32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }
static inline void mmio_w64(volatile void *p, uint64_t v) { *(volatile uint64_t *)p = v; }
