/* SPDX-License-Identifier: MIT */

/* ELF-64, System V ABI (gABI 4.1), chapters 4 and 5; offsets as in its structures. */

#include "boot/efi/elf.h"

#include <stdbool.h>

#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"

#define EHDR_SIZE       64
#define EHDR_TYPE       16
#define EHDR_MACHINE    18
#define EHDR_PHOFF      32
#define EHDR_PHENTSIZE  54
#define EHDR_PHNUM      56
#define ET_EXEC         2
#define EM_X86_64       62

#define PHDR_SIZE       56
#define PHDR_FLAGS      4
#define PHDR_OFFSET     8
#define PHDR_PADDR      24
#define PHDR_FILESZ     32
#define PHDR_MEMSZ      40
#define PHDR_NUM_MAX    64
#define PT_LOAD         1
#define PT_NOTE         4
#define PF_X            1

#define NHDR_SIZE       12 /* namesz, descsz, type */

static int bad(const char **why, const char *text)
{
	*why = text;
	return -EINVAL;
}

static bool inside(uint64_t off, uint64_t size, uint64_t len)
{
	return off <= len && size <= len - off;
}

/* Looks for our note in [p, p+len); the entry it names, or 0. */
static uint64_t find_entry(const uint8_t *p, uint64_t len)
{
	while (len >= NHDR_SIZE) {
		const uint32_t namesz = get_le32(p), descsz = get_le32(p + 4), type = get_le32(p + 8);
		const uint64_t desc = NHDR_SIZE + align_up(namesz, 4), end = desc + align_up(descsz, 4);

		if (!inside(desc, descsz, len))
			return 0;
		if (type == ELF_NOTE_ENTRY && descsz == 8 && namesz == sizeof(ELF_NOTE_OWNER) &&
		    memcmp(p + NHDR_SIZE, ELF_NOTE_OWNER, sizeof(ELF_NOTE_OWNER)) == 0)
			return get_le64(p + desc);
		if (end > len)
			return 0;
		p += end;
		len -= end;
	}
	return 0;
}

static int take_load(const uint8_t *ph, size_t len, struct elf_image *out, const char **why)
{
	struct elf_segment *s = &out->segment[out->count];

	if (get_le64(ph + PHDR_MEMSZ) == 0 && get_le64(ph + PHDR_FILESZ) == 0)
		return 0;
	if (out->count == ELF_SEGMENT_MAX)
		return bad(why, "too many segments");
	*s = (struct elf_segment){
		.offset = get_le64(ph + PHDR_OFFSET),
		.filesz = get_le64(ph + PHDR_FILESZ),
		.paddr = get_le64(ph + PHDR_PADDR),
		.memsz = get_le64(ph + PHDR_MEMSZ),
	};
	if (!inside(s->offset, s->filesz, len))
		return bad(why, "a segment runs past the end of the file");
	if (s->filesz > s->memsz)
		return bad(why, "a segment has more bytes in the file than in memory");
	if (s->paddr + s->memsz < s->paddr)
		return bad(why, "a segment wraps around");
	for (unsigned i = 0; i < out->count; i++) {
		const struct elf_segment *o = &out->segment[i];

		if (s->paddr < o->paddr + o->memsz && o->paddr < s->paddr + s->memsz)
			return bad(why, "two segments overlap");
	}
	out->count++;
	return 0;
}

int elf_parse(const uint8_t *file, size_t len, struct elf_image *out, const char **why)
{
	uint64_t phoff, end = 0;
	unsigned phnum;
	bool entry_runs = false;

	*why = "";
	memset(out, 0, sizeof(*out));
	if (len < EHDR_SIZE || memcmp(file, "\177ELF\2\1\1", 7) != 0)
		return bad(why, "not a little-endian 64-bit ELF file");
	if (get_le16(file + EHDR_TYPE) != ET_EXEC || get_le16(file + EHDR_MACHINE) != EM_X86_64)
		return bad(why, "not an x86-64 executable");
	phoff = get_le64(file + EHDR_PHOFF);
	phnum = get_le16(file + EHDR_PHNUM);
	if (get_le16(file + EHDR_PHENTSIZE) != PHDR_SIZE || phnum > PHDR_NUM_MAX ||
	    !inside(phoff, (uint64_t)phnum * PHDR_SIZE, len))
		return bad(why, "no sound program headers");

	for (unsigned i = 0; i < phnum; i++) {
		const uint8_t *ph = file + phoff + (uint64_t)i * PHDR_SIZE;

		if (get_le32(ph) == PT_LOAD && take_load(ph, len, out, why) < 0)
			return -EINVAL;
		if (get_le32(ph) == PT_NOTE && !out->entry64 &&
		    inside(get_le64(ph + PHDR_OFFSET), get_le64(ph + PHDR_FILESZ), len))
			out->entry64 = find_entry(file + get_le64(ph + PHDR_OFFSET),
						  get_le64(ph + PHDR_FILESZ));
	}
	if (!out->count)
		return bad(why, "nothing to load");

	out->first = UINT64_MAX;
	for (unsigned i = 0; i < out->count; i++) {
		out->first = MIN(out->first, out->segment[i].paddr);
		end = MAX(end, out->segment[i].paddr + out->segment[i].memsz);
	}
	out->span = end - out->first;
	if (out->span > ELF_SPAN_MAX)
		return bad(why, "larger in memory than a kernel of ours can be");
	if (!is_aligned(out->first, ELF_LOAD_ALIGN))
		return bad(why, "not linked at a multiple of 2 MiB");

	for (unsigned i = 0; i < phnum; i++) {
		const uint8_t *ph = file + phoff + (uint64_t)i * PHDR_SIZE;

		entry_runs = entry_runs ||
			     (get_le32(ph) == PT_LOAD && get_le32(ph + PHDR_FLAGS) & PF_X &&
			      out->entry64 >= get_le64(ph + PHDR_PADDR) &&
			      out->entry64 - get_le64(ph + PHDR_PADDR) < get_le64(ph + PHDR_FILESZ));
	}
	if (!out->entry64)
		return bad(why, "no note \"plumb\" that names the 64-bit entry");
	if (!entry_runs)
		return bad(why, "the 64-bit entry is not in executable bytes of the file");
	return 0;
}
