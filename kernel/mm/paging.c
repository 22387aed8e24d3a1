/* SPDX-License-Identifier: MIT */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/msr.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"

/*
 * The address space, SDM vol. 3, chapter 4 (4-level):
 *   ffff8000'00000000  direct map of all RAM, RW, never X (the image's text and rodata: R)
 *   ffffc000'00000000  windows: MMIO (UC), firmware tables, stacks with a hole below each
 *   ffffffff'80000000  the kernel image: text RX, rodata R, data RW
 */
#define DIRECT_BASE 0xffff800000000000ull
#define WINDOW_BASE 0xffffc00000000000ull
#define WINDOW_END  0xffffd00000000000ull
#define KERNEL_VMA  0xffffffff80000000ull

#define PTE_P   BIT64(0)
#define PTE_W   BIT64(1)
#define PTE_PWT BIT64(3)
#define PTE_PCD BIT64(4)
#define PTE_PS  BIT64(7)
#define PTE_NX  BIT64(63)
#define PTE_ADDR GENMASK64(51, 12)

extern const uint8_t kernel_start[], kernel_text_end[], kernel_rodata_end[], kernel_end[];

static uint64_t direct;                  /* 0 until our tables are in use */
static uint64_t *pml4;
static uint64_t pml4_phys, image_phys;
static uint64_t window_next = WINDOW_BASE;

void *phys_to_virt(gpa_t pa)
{
	return (void *)(uintptr_t)(direct + pa.v);
}

gpa_t virt_to_phys(const void *p)
{
	const uint64_t v = (uint64_t)(uintptr_t)p;
	struct page_leaf leaf;

	if (v >= DIRECT_BASE && v < WINDOW_BASE)
		return gpa(v - DIRECT_BASE);
	if (v >= (uint64_t)(uintptr_t)kernel_start && v < (uint64_t)(uintptr_t)kernel_end)
		return gpa(v - (uint64_t)(uintptr_t)kernel_start + image_phys);
	if (direct && page_lookup(v, &leaf))
		return gpa((leaf.entry & PTE_ADDR & ~(leaf.size - 1)) + (v - leaf.va));
	panic("virt_to_phys: %p is not mapped", p);
}

gpa_t kernel_phys(uint64_t *size)
{
	/* From the boot tables: what KERNEL_VMA + 2 MiB (the image's first page) translates to. */
	if (!image_phys) {
		const uint64_t *t = (uint64_t *)(uintptr_t)(read_cr3() & PTE_ADDR);

		t = (uint64_t *)(uintptr_t)(t[511] & PTE_ADDR);
		t = (uint64_t *)(uintptr_t)(t[510] & PTE_ADDR);
		image_phys = (t[1] & PTE_ADDR) & ~0x1fffffull;
	}
	*size = (uint64_t)(kernel_end - kernel_start);
	return gpa(image_phys);
}

static uint64_t *table_new(uint64_t *entry)
{
	gpa_t pa;
	uint64_t *t;

	if (!phys_alloc(1, 1, PHYS_BELOW_4G, &pa))
		panic("no memory for a page table");
	t = phys_to_virt(pa);
	memset(t, 0, PAGE_SIZE);
	if (entry)
		*entry = pa.v | PTE_P | PTE_W;
	else
		pml4_phys = pa.v;
	return t;
}

static uint64_t *table_at(uint64_t entry) { return phys_to_virt(gpa(entry & PTE_ADDR)); }

static void split(uint64_t *entry, unsigned level)
{
	const uint64_t old = *entry, step = 1ull << (12 + 9 * (level - 1));
	const uint64_t flags = (old & ~PTE_ADDR) & ~(level == 1 ? PTE_PS : 0);
	uint64_t *t = table_new(entry);

	for (unsigned i = 0; i < 512; i++)
		t[i] = ((old & PTE_ADDR) + i * step) | flags;
}

/* The entry of va at level (0: 4 KiB), tables made and large leaves split on the way. */
static uint64_t *entry_of(uint64_t va, unsigned level)
{
	uint64_t *t = pml4;

	for (unsigned l = 3; l > level; l--) {
		uint64_t *e = &t[(va >> (12 + 9 * l)) & 511];

		if (!(*e & PTE_P))
			table_new(e);
		else if (*e & PTE_PS)
			split(e, l);
		t = table_at(*e);
	}
	return &t[(va >> (12 + 9 * level)) & 511];
}

static uint64_t flags_of(enum page_prot prot)
{
	uint64_t f = PTE_P;

	if (prot & PAGE_W)
		f |= PTE_W;
	if (!(prot & PAGE_X) && cpu_features.nx)
		f |= PTE_NX;
	if (prot & PAGE_UC)
		f |= PTE_PCD | PTE_PWT;
	return f;
}

static void map(uint64_t va, uint64_t pa, uint64_t size, enum page_prot prot)
{
	while (size) {
		unsigned level = 0;

		for (unsigned l = cpu_features.gib_pages ? 2 : 1; l > 0; l--) {
			const uint64_t page = 1ull << (12 + 9 * l);

			if (size >= page && is_aligned(va | pa, page)) {
				level = l;
				break;
			}
		}
		*entry_of(va, level) = pa | flags_of(prot) | (level ? PTE_PS : 0);
		va += 1ull << (12 + 9 * level);
		pa += 1ull << (12 + 9 * level);
		size -= 1ull << (12 + 9 * level);
	}
}

static void map_image(const uint8_t *from, const uint8_t *to, enum page_prot prot)
{
	const uint64_t va = (uint64_t)(uintptr_t)from;
	const uint64_t pa = va - (uint64_t)(uintptr_t)kernel_start + image_phys;

	for (uint64_t off = 0; off < (uint64_t)(to - from); off += PAGE_SIZE) {
		*entry_of(va + off, 0) = (pa + off) | flags_of(prot);
		/* the same page through the direct map is not a way round the protection */
		*entry_of(DIRECT_BASE + pa + off, 0) = (pa + off) | flags_of(prot & PAGE_W);
	}
}

void paging_enable_cpu(void)
{
	if (cpu_features.nx)
		wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	write_cr3(pml4_phys);
	write_cr0((read_cr0() & ~(CR0_EM | CR0_TS | CR0_CD | CR0_NW)) | CR0_WP | CR0_MP | CR0_NE);
	write_cr4(read_cr4() | (cpu_features.smep ? CR4_SMEP : 0) | (cpu_features.smap ? CR4_SMAP : 0));
}

void paging_init(const struct boot_info *bi)
{
	uint64_t size;

	kernel_phys(&size);
	pml4 = table_new(NULL);
	for (unsigned i = 0; i < bi->mem_count; i++) {
		const struct boot_mem *m = &bi->mem[i];
		const uint64_t from = align_up(MAX(m->base, PAGE_SIZE), PAGE_SIZE);
		const uint64_t to = align_down(m->base + m->size, PAGE_SIZE);

		if ((m->type == BOOT_MEM_RAM || m->type == BOOT_MEM_LOADER) && from < to)
			map(DIRECT_BASE + from, from, to - from, PAGE_W);
	}
	map_image(kernel_start, kernel_text_end, PAGE_X);
	map_image(kernel_text_end, kernel_rodata_end, PAGE_R);
	map_image(kernel_rodata_end, kernel_end, PAGE_W);
	paging_enable_cpu();
	direct = DIRECT_BASE;
	pml4 = phys_to_virt(gpa(pml4_phys));
}

/* ---- windows ---- */
static struct { uint64_t pa, va, pages; enum page_prot prot; } windows[512];
static unsigned window_count;

static void *window_map(gpa_t pa, size_t size, enum page_prot prot)
{
	const uint64_t first = align_down(pa.v, PAGE_SIZE), off = pa.v - first;
	const uint64_t pages = align_up(off + size, PAGE_SIZE) / PAGE_SIZE;
	uint64_t va;

	/* An entry with more address bits than the CPU has is a fault at its first use (SDM 3A 4.5, reserved bits). */
	if (size == 0 || pa.v + size < pa.v || pa.v + size > BIT64(MIN(cpu_features.phys_bits, 52u)))
		return NULL;
	for (unsigned i = 0; i < window_count; i++)
		if (windows[i].prot == prot && first >= windows[i].pa &&
		    first + pages * PAGE_SIZE <= windows[i].pa + windows[i].pages * PAGE_SIZE)
			return (void *)(uintptr_t)(windows[i].va + first - windows[i].pa + off);
	/* same offset in 2 MiB as the target, so that a large BAR gets large pages; a hole after each */
	va = align_up(window_next, 2ull << 20) + (first & ((2ull << 20) - 1));
	if (window_count == ARRAY_SIZE(windows) || va + (pages + 1) * PAGE_SIZE > WINDOW_END)
		return NULL;
	window_next = va + (pages + 1) * PAGE_SIZE;
	map(va, first, pages * PAGE_SIZE, prot);
	windows[window_count].pa = first;
	windows[window_count].va = va;
	windows[window_count].pages = pages;
	windows[window_count++].prot = prot;
	return (void *)(uintptr_t)(va + off);
}

volatile void *mmio_map(gpa_t pa, size_t size)
{
	return window_map(pa, size, PAGE_W | PAGE_UC);
}

const void *firmware_map(gpa_t pa, size_t size)
{
	return window_map(pa, size, PAGE_R);
}

void *stack_alloc(size_t size)
{
	uint64_t va;
	gpa_t pa;

	size = align_up(size, PAGE_SIZE);
	if (!phys_alloc(size / PAGE_SIZE, 1, PHYS_ANY, &pa))
		return NULL;
	va = align_up(window_next, PAGE_SIZE) + PAGE_SIZE; /* the hole that an overflow runs into */
	if (va + size > WINDOW_END)
		return NULL;
	window_next = va + size;
	for (uint64_t off = 0; off < size; off += PAGE_SIZE)
		*entry_of(va + off, 0) = (pa.v + off) | flags_of(PAGE_W);
	return (void *)(uintptr_t)(va + size);
}

/* ---- looking and poking, for tests ---- */
bool page_lookup(uint64_t va, struct page_leaf *leaf)
{
	const uint64_t *t = pml4;

	for (unsigned l = 3;; l--) {
		const uint64_t e = t[(va >> (12 + 9 * l)) & 511];

		if (!(e & PTE_P))
			return false;
		if (l == 0 || (e & PTE_PS)) {
			*leaf = (struct page_leaf){e, 1ull << (12 + 9 * l), 0};
			leaf->va = align_down(va, leaf->size);
			return true;
		}
		t = table_at(e);
	}
}

static bool walk(const uint64_t *t, unsigned level, uint64_t va,
		 bool (*fn)(const struct page_leaf *, void *), void *arg)
{
	for (unsigned i = 0; i < 512; i++) {
		const uint64_t size = 1ull << (12 + 9 * level);
		uint64_t at = va + i * size;

		if (level == 3 && i >= 256)
			at |= 0xffff000000000000ull;
		if (!(t[i] & PTE_P))
			continue;
		if (level == 0 || (t[i] & PTE_PS)) {
			if (!fn(&(struct page_leaf){t[i], size, at}, arg))
				return false;
		} else if (!walk(table_at(t[i]), level - 1, at, fn, arg)) {
			return false;
		}
	}
	return true;
}

void page_walk(bool (*fn)(const struct page_leaf *, void *), void *arg)
{
	walk(pml4, 3, 0, fn, arg);
}

void page_set(void *va, gpa_t pa, enum page_prot prot)
{
	const uint64_t v = (uint64_t)(uintptr_t)va;

	*entry_of(v, 0) = (pa.v & PTE_ADDR) | flags_of(prot);
	invlpg(va);
}

void page_clear(void *va)
{
	const uint64_t v = (uint64_t)(uintptr_t)va;

	*entry_of(v, 0) = 0;
	invlpg(va);
}
