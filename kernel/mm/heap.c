/* SPDX-License-Identifier: MIT */
#include "kernel/lib/bits.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"

/*
 * First fit over a list in address order. Each arena is a run of pages; blocks of one arena lie side
 * by side, so freeing merges with the next block when it is free, and allocation merges as it walks.
 */
#define ARENA_PAGES 64
#define MAGIC_USED  0x706c7573u
#define MAGIC_FREE  0x706c6672u

struct block {
	uint32_t magic, last;            /* last: no block of this arena after it */
	size_t size;                     /* payload bytes */
	struct block *next;              /* in the list of all blocks */
	uint64_t pad;                    /* payload on 32 bytes */
};

static struct block *first, *tail;
static size_t used;

static struct block *arena_add(size_t payload)
{
	const size_t pages = MAX((payload + sizeof(struct block) + PAGE_SIZE - 1) / PAGE_SIZE,
				 (size_t)ARENA_PAGES);
	struct block *b;
	gpa_t pa;

	if (!phys_alloc(pages, 1, PHYS_ANY, &pa))
		return NULL;
	b = phys_to_virt(pa);
	*b = (struct block){MAGIC_FREE, 1, pages * PAGE_SIZE - sizeof(*b), NULL, 0};
	if (tail)
		tail->next = b;
	else
		first = b;
	tail = b;
	return b;
}

static void merge(struct block *b)
{
	while (!b->last && b->next->magic == MAGIC_FREE) {
		struct block *n = b->next;

		b->size += sizeof(*n) + n->size;
		b->last = n->last;
		b->next = n->next;
		if (tail == n)
			tail = b;
		n->magic = 0;
	}
}

static void *take(struct block *b, size_t size)
{
	if (b->size >= size + sizeof(*b) + 64) {
		struct block *rest = (struct block *)((uint8_t *)(b + 1) + size);

		*rest = (struct block){MAGIC_FREE, b->last, b->size - size - sizeof(*b), b->next, 0};
		b->size = size;
		b->last = 0;
		b->next = rest;
		if (tail == b)
			tail = rest;
	}
	b->magic = MAGIC_USED;
	used += b->size;
	return b + 1;
}

void *kmalloc(size_t size)
{
	struct block *b;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = align_up(MAX(size, (size_t)1), 32);
	for (b = first; b; b = b->next) {
		BUG_ON(b->magic != MAGIC_FREE && b->magic != MAGIC_USED);
		if (b->magic != MAGIC_FREE)
			continue;
		merge(b);
		if (b->size >= size)
			return take(b, size);
	}
	b = arena_add(size);
	return b ? take(b, size) : NULL;
}

void *kzalloc(size_t size)
{
	void *p = kmalloc(size);

	return p ? memset(p, 0, size) : NULL;
}

void kfree(void *p)
{
	struct block *b;

	if (!p)
		return;
	b = (struct block *)p - 1;
	BUG_ON(b->magic != MAGIC_USED);  /* twice, or overwritten from below */
	b->magic = MAGIC_FREE;
	used -= b->size;
	merge(b);
}

size_t heap_used(void) { return used; }

bool dma_alloc(struct dma_buf *b, size_t size, size_t align, enum phys_where where)
{
	const size_t pages = (size + PAGE_SIZE - 1) / PAGE_SIZE;
	gpa_t pa;

	if (size == 0 || !phys_alloc(pages, MAX(align / PAGE_SIZE, 1ull), where, &pa))
		return false;
	*b = (struct dma_buf){phys_to_virt(pa), pa, pages * PAGE_SIZE};
	memset(b->va, 0, b->size);
	return true;
}

void dma_free(struct dma_buf *b)
{
	if (b->va)
		phys_free(b->pa, b->size / PAGE_SIZE);
	*b = (struct dma_buf){0};
}
