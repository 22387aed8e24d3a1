/* SPDX-License-Identifier: MIT */
// link: boot/efi/elf.c
#include <stdlib.h>

#include "boot/efi/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What it accepts, the loader copies without another look: so all of it must lie inside. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf_image elf;
	const char *why;

	if (elf_parse(data, size, &elf, &why) < 0) {
		if (!*why)
			abort();
		return 0;
	}
	if (elf.count == 0 || elf.count > ELF_SEGMENT_MAX || elf.span > ELF_SPAN_MAX ||
	    elf.first % ELF_LOAD_ALIGN || elf.entry64 < elf.first || elf.entry64 - elf.first >= elf.span)
		abort();
	for (unsigned i = 0; i < elf.count; i++) {
		const struct elf_segment *s = &elf.segment[i];

		if (s->offset > size || s->filesz > size - s->offset || s->filesz > s->memsz ||
		    s->paddr < elf.first || s->memsz > elf.span || s->paddr - elf.first > elf.span - s->memsz)
			abort();
	}
	return 0;
}
