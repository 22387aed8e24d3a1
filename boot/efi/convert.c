/* SPDX-License-Identifier: MIT */
#include "boot/efi/convert.h"

#include <stdbool.h>

#include "boot/boot_edit.h"
#include "kernel/lib/addr.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/string.h"

/* EFI_MEMORY_DESCRIPTOR, UEFI 2.10, 7.2.3 */
#define DESC_TYPE      0
#define DESC_START     8
#define DESC_PAGES     24
#define DESC_ATTRIBUTE 32
#define DESC_SIZE      40
#define EFI_MEMORY_SP  BIT64(18) /* special purpose: not for us */

/* EFI_MEMORY_TYPE, in its order */
static const uint32_t types[] = {
	BOOT_MEM_RESERVED, /* EfiReservedMemoryType */
	BOOT_MEM_RAM,      /* EfiLoaderCode */
	BOOT_MEM_RAM,      /* EfiLoaderData */
	BOOT_MEM_RAM,      /* EfiBootServicesCode */
	BOOT_MEM_RAM,      /* EfiBootServicesData */
	BOOT_MEM_RUNTIME,  /* EfiRuntimeServicesCode */
	BOOT_MEM_RUNTIME,  /* EfiRuntimeServicesData */
	BOOT_MEM_RAM,      /* EfiConventionalMemory */
	BOOT_MEM_BAD,      /* EfiUnusableMemory */
	BOOT_MEM_ACPI,     /* EfiACPIReclaimMemory */
	BOOT_MEM_NVS,      /* EfiACPIMemoryNVS */
	BOOT_MEM_MMIO,     /* EfiMemoryMappedIO */
	BOOT_MEM_MMIO,     /* EfiMemoryMappedIOPortSpace */
};
#define EFI_CONVENTIONAL 7

void efi_memory_map(const uint8_t *map, size_t size, size_t desc_size, struct boot_info *bi)
{
	if (desc_size < DESC_SIZE)
		return;
	for (; size >= desc_size; size -= desc_size, map += desc_size) {
		const uint64_t pages = get_le64(map + DESC_PAGES);
		uint32_t efi = get_le32(map + DESC_TYPE);
		uint32_t type = efi < ARRAY_SIZE(types) ? types[efi] : BOOT_MEM_RESERVED;

		if (get_le64(map + DESC_ATTRIBUTE) & EFI_MEMORY_SP && type == BOOT_MEM_RAM)
			type = BOOT_MEM_RESERVED;
		/* What the boot services held is free: one type for all of it, so that neighbours merge. */
		if (type == BOOT_MEM_RAM)
			efi = EFI_CONVENTIONAL;
		boot_map_add(bi, get_le64(map + DESC_START),
			     pages > UINT64_MAX / PAGE_SIZE ? UINT64_MAX : pages * PAGE_SIZE, type,
			     efi + 1);
	}
}

static bool ends_in_efi(const char *s, size_t len)
{
	return len >= 4 && s[len - 4] == '.' && (s[len - 3] | 0x20) == 'e' && (s[len - 2] | 0x20) == 'f' &&
	       (s[len - 1] | 0x20) == 'i';
}

size_t efi_load_options(const uint8_t *options, size_t bytes, char *out, size_t size)
{
	size_t n = 0, word = 0;

	if (!size)
		return 0;
	out[0] = '\0';
	for (size_t i = 0; i + 1 < bytes; i += 2) {
		const uint16_t c = get_le16(options + i);

		if (c == 0)
			break;
		if ((c < 0x20 || c > 0x7e) && c != '\t' && c != '\r' && c != '\n') {
			n = 0; /* not text */
			break;
		}
		if (n < size - 1)
			out[n++] = (char)c;
	}
	out[n] = '\0';
	while (word < n && out[word] != ' ')
		word++;
	if (ends_in_efi(out, word)) {
		while (word < n && out[word] == ' ')
			word++;
		memmove(out, out + word, n - word + 1);
		n -= word;
	}
	return n;
}

void efi_ascii(const uint16_t *s, char *out, size_t size)
{
	size_t n = 0;

	for (; s && s[n] && n < size - 1; n++)
		out[n] = s[n] >= 0x20 && s[n] < 0x7f ? (char)s[n] : '?';
	out[n] = '\0';
}

const char *efi_status_name(uint64_t status)
{
	/* UEFI 2.10, appendix D; all of them with the top bit */
	static const char *const names[] = {
		[1] = "EFI_LOAD_ERROR", [2] = "EFI_INVALID_PARAMETER", [3] = "EFI_UNSUPPORTED",
		[4] = "EFI_BAD_BUFFER_SIZE", [5] = "EFI_BUFFER_TOO_SMALL", [6] = "EFI_NOT_READY",
		[7] = "EFI_DEVICE_ERROR", [8] = "EFI_WRITE_PROTECTED", [9] = "EFI_OUT_OF_RESOURCES",
		[10] = "EFI_VOLUME_CORRUPTED", [11] = "EFI_VOLUME_FULL", [12] = "EFI_NO_MEDIA",
		[13] = "EFI_MEDIA_CHANGED", [14] = "EFI_NOT_FOUND", [15] = "EFI_ACCESS_DENIED",
		[18] = "EFI_TIMEOUT", [21] = "EFI_ABORTED", [26] = "EFI_SECURITY_VIOLATION",
	};
	const uint64_t code = status & ~BIT64(63);

	return status >> 63 && code < ARRAY_SIZE(names) && names[code] ? names[code] : "";
}
