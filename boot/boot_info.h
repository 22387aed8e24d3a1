/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a boot path tells the kernel. Every entry (UEFI loader, PVH, Multiboot2) fills this one
 * structure; nothing after kernel/boot.c knows how we were booted.
 */

#include <stdint.h>

#define BOOT_INFO_MAGIC   0x626d6c70u /* "plmb" */
#define BOOT_INFO_VERSION 1
#define BOOT_MEM_MAX      512
#define BOOT_CMDLINE_MAX  2048

enum boot_path { BOOT_UEFI = 1, BOOT_PVH, BOOT_MULTIBOOT2 };

enum boot_mem_type {
	BOOT_MEM_RAM = 1,   /* free for us */
	BOOT_MEM_RESERVED,
	BOOT_MEM_ACPI,      /* ACPI tables: readable, never reused */
	BOOT_MEM_NVS,
	BOOT_MEM_BAD,
	BOOT_MEM_MMIO,
	BOOT_MEM_RUNTIME,   /* UEFI runtime code or data: needed by ResetSystem */
	BOOT_MEM_LOADER,    /* RAM that holds the kernel image or this structure */
};

struct boot_mem {
	uint64_t base, size; /* bytes */
	uint32_t type;
	uint32_t efi_type;   /* EFI_MEMORY_TYPE + 1, 0 when not from UEFI */
};

struct boot_info {
	uint32_t magic, version;
	uint32_t path;              /* enum boot_path */
	uint32_t mem_count;
	struct boot_mem mem[BOOT_MEM_MAX]; /* as the firmware gave it: not sorted, not merged */
	uint64_t rsdp;              /* physical; 0: not told, scan for it */
	uint64_t efi_system_table;  /* physical; 0 without UEFI */
	uint64_t efi_reset_system;  /* EFI_RUNTIME_SERVICES.ResetSystem, physical; 0 without */
	uint64_t tsc_entry;         /* TSC at our first instruction, 0: unknown */
	uint32_t mem_truncated;     /* entries that did not fit */
	uint32_t secure_boot;       /* 0 off, 1 on, 2 unknown */
	char firmware[96];          /* "EDK II rev 0x10000 (UEFI 2.70)" */
	char loader[64];            /* "plumb.efi", "GRUB 2.06", "QEMU PVH" */
	char cmdline[BOOT_CMDLINE_MAX]; /* sources apart by '\n': what the loader was given, plumb.cfg */
	uint32_t cmdline_truncated; /* not 0: it was longer than this; the run must fail */
};
