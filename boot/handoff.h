/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What PVH and Multiboot2 loaders hand over, as struct boot_info. Pure: physical memory is seen only
 * through a reader, so that the host can test and fuzz it. They write every field of boot_info but
 * tsc_entry, which the entry code has set.
 *
 * The kernel's own pages are RAM in these maps: the caller carves them out with
 * boot_map_carve(bi, phys, size, BOOT_MEM_LOADER) (boot/boot_edit.h).
 */

#include <stddef.h>
#include <stdint.h>

#include "boot/boot_info.h"

/* The len bytes at physical pa, or NULL where they cannot be read. */
struct handoff_mem {
	const uint8_t *(*at)(void *arg, uint64_t pa, size_t len);
	void *arg;
};
/* The reader of the early kernel: the first 4 GiB are mapped one to one (QEMU leaves the PVH map in
 * page 0). Address 0 and beyond: NULL. */
extern const struct handoff_mem handoff_identity;

#define PVH_START_MAGIC 0x336ec578u /* Xen, public/arch-x86/hvm/start_info.h */
#define MB2_LOADER_MAGIC 0x36d76289u /* Multiboot2 3.3: in EAX */

/* start_info: physical address, from EBX. -EINVAL with *why (never NULL then). */
int pvh_handoff(const struct handoff_mem *, uint64_t start_info, struct boot_info *, const char **why);
/*
 * info: physical address, from EBX. The information structure stays in use (the RSDP is a copy
 * inside it), so its pages become BOOT_MEM_LOADER.
 */
int multiboot2_handoff(const struct handoff_mem *, uint64_t info, struct boot_info *, const char **why);
