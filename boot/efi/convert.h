/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "boot/boot_info.h"

/* What UEFI tells, in boot_info's terms. Pure, for the host to test. */

/*
 * A memory map as GetMemoryMap() leaves it: size bytes of descriptors of desc_size bytes each
 * (UEFI 2.10, 7.2.3). Appends to bi->mem.
 */
void efi_memory_map(const uint8_t *map, size_t size, size_t desc_size, struct boot_info *bi);
/*
 * LoadOptions (9.1) as ASCII: empty where they are not text (a boot option's binary optional data).
 * The UEFI shell puts the program's name first: a first word that ends in .efi is dropped.
 * Returns the length.
 */
size_t efi_load_options(const uint8_t *options, size_t bytes, char *out, size_t size);
/* A CHAR16 string as ASCII, '?' for what is not. */
void efi_ascii(const uint16_t *s, char *out, size_t size);
/* "EFI_NOT_FOUND" for an EFI_STATUS; "" for one without a name here. */
const char *efi_status_name(uint64_t status);
