/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * What the loader needs of kernel.elf. Pure: bytes and length in; everything it hands out lies inside
 * the file and inside [first, first + span).
 */

#define ELF_SEGMENT_MAX 16
#define ELF_SPAN_MAX    (64u << 20) /* bytes of memory: the linker script allows less */
#define ELF_LOAD_ALIGN  0x200000u

/* The kernel's own note: owner "plumb", 8 bytes: physical address of the 64-bit entry as linked. */
#define ELF_NOTE_OWNER  "plumb"
#define ELF_NOTE_ENTRY  1

struct elf_segment {
	uint64_t offset, filesz; /* in the file */
	uint64_t paddr, memsz;   /* as linked; beyond filesz: zeroes */
};

struct elf_image {
	uint64_t first;          /* lowest physical address as linked; a multiple of ELF_LOAD_ALIGN */
	uint64_t span;           /* bytes from there to the end of the last segment */
	uint64_t entry64;        /* physical, as linked */
	unsigned count;
	struct elf_segment segment[ELF_SEGMENT_MAX];
};

/* 0, or -EINVAL with *why. */
int elf_parse(const uint8_t *file, size_t len, struct elf_image *out, const char **why);
