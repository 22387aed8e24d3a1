/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Edits of boot_info: its memory map and its command line. Header-only, as the UEFI loader and the
 * kernel are two programs and both need it. No library calls.
 */

#include <stdbool.h>

#include "boot/boot_info.h"

/*
 * Appends [base, base+size). Grows the entry before it where that ends here and has the same types;
 * counts in mem_truncated what does not fit, or what is empty or wraps around.
 */
static inline void boot_map_add(struct boot_info *bi, uint64_t base, uint64_t size, uint32_t type,
				uint32_t efi_type)
{
	struct boot_mem *last = bi->mem_count ? &bi->mem[bi->mem_count - 1] : 0;

	if (size == 0)
		return;
	if (base + (size - 1) < base) {
		bi->mem_truncated++;
		return;
	}
	if (last && base && last->type == type && last->efi_type == efi_type &&
	    last->base + last->size == base && last->size + size > size) {
		last->size += size;
		return;
	}
	if (bi->mem_count >= BOOT_MEM_MAX) {
		bi->mem_truncated++;
		return;
	}
	bi->mem[bi->mem_count++] = (struct boot_mem){base, size, type, efi_type};
}

/*
 * Gives [base, base+size) a type of its own wherever the map says RAM: entries are split, and what
 * is not RAM stays as it is. False where the splits did not fit: the range is then not safe.
 */
static inline bool boot_map_carve(struct boot_info *bi, uint64_t base, uint64_t size, uint32_t type)
{
	const uint64_t end = base + size;
	const uint32_t count = bi->mem_count;

	if (size == 0 || end < base)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		struct boot_mem *m = &bi->mem[i];
		const uint64_t m_end = m->base + m->size;
		const uint64_t from = m->base > base ? m->base : base;
		const uint64_t to = m_end < end ? m_end : end;
		const uint32_t extra = (from > m->base ? 1u : 0u) + (to < m_end ? 1u : 0u);
		const struct boot_mem whole = *m;

		if (m->type != BOOT_MEM_RAM || from >= to)
			continue;
		if (bi->mem_count + extra > BOOT_MEM_MAX)
			return false;
		*m = (struct boot_mem){from, to - from, type, whole.efi_type};
		if (from > whole.base)
			bi->mem[bi->mem_count++] = (struct boot_mem){
				whole.base, from - whole.base, whole.type, whole.efi_type};
		if (to < m_end)
			bi->mem[bi->mem_count++] =
				(struct boot_mem){to, m_end - to, whole.type, whole.efi_type};
	}
	return true;
}

/*
 * One source of the command line, len bytes at most, up to a NUL. Call it for what the loader was
 * given first (absent: len 0), then for plumb.cfg: a '\n' is what keeps the two apart, so that inside
 * the first one it becomes a blank.
 */
static inline void boot_cmdline_add(struct boot_info *bi, const void *text, uint64_t len, bool first)
{
	const char *p = (const char *)text;
	uint64_t n = 0;

	while (n < sizeof(bi->cmdline) && bi->cmdline[n])
		n++;
	if (!first && n < sizeof(bi->cmdline) - 1)
		bi->cmdline[n++] = '\n';
	for (; len && *p; p++, len--) {
		if (n >= sizeof(bi->cmdline) - 1) {
			bi->cmdline_truncated = 1;
			break;
		}
		bi->cmdline[n++] = first && *p == '\n' ? ' ' : *p;
	}
	if (n < sizeof(bi->cmdline))
		bi->cmdline[n] = '\0';
}
