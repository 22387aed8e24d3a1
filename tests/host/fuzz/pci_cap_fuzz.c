/* SPDX-License-Identifier: MIT */
// link: drivers/pci/cap.c

/*
 * The capability walker on configuration space of any content: 256 or 4096 bytes, whatever is not
 * given reads as 0. It must end, read only inside the space, and agree with itself: a space that
 * checks as sound can be walked to its end, and what a search finds is what the walk has shown.
 */

#include <stdlib.h>
#include <string.h>

#include "drivers/pci/cap.h"
#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"

static uint8_t space[PCI_EXT_CFG_SIZE];
static unsigned reads;

#define REQUIRE(cond) do { if (!(cond)) abort(); } while (0)

static uint32_t read_space(void *ctx, unsigned off)
{
	const struct cap_space *s = ctx;
	uint32_t v;

	REQUIRE(off % 4 == 0 && off + 4 <= s->size);
	reads++;
	memcpy(&v, space + off, sizeof(v));
	return v;
}

/* For the part of cap.c that speaks to the machine. */
bool pci_cfg_has(enum pci_cfg_path path, pci_rid_t rid)
{
	(void)path, (void)rid;
	return false;
}

uint32_t pci_r32(pci_rid_t rid, unsigned off)
{
	(void)rid, (void)off;
	return PCI_ABSENT;
}

static void walk(const struct cap_space *s, bool extended, bool sound)
{
	uint8_t seen[PCI_EXT_CFG_SIZE / 4] = {0};
	struct cap_walk w;
	struct cap c;
	unsigned steps = 0;

	cap_walk_start(&w, s, extended);
	while (cap_walk_next(&w, &c)) {
		REQUIRE(++steps <= PCI_EXT_CFG_SIZE / 4);
		REQUIRE(c.off >= (extended ? 0x100 : 0x40) && c.off % 4 == 0 && c.off + 4u <= s->size);
		REQUIRE(!seen[c.off / 4]);
		seen[c.off / 4] = 1;
		REQUIRE(cap_length(s, &c) >= 3);
		REQUIRE(!sound || c.off + cap_length(s, &c) <= s->size);
		REQUIRE(cap_find(s, extended, c.id) != 0);
	}
	REQUIRE(!sound || !w.problem);
	REQUIRE(!w.problem || w.at < s->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cap_space s = {read_space, &s, size > PCI_CFG_SIZE ? PCI_EXT_CFG_SIZE : PCI_CFG_SIZE};
	unsigned at = 0;
	bool sound;

	memset(space, 0, sizeof(space));
	memcpy(space, data, size < sizeof(space) ? size : sizeof(space));
	reads = 0;
	sound = cap_check(&s, &at) == NULL;
	REQUIRE(reads < 8 * PCI_EXT_CFG_SIZE);
	REQUIRE(at < s.size);
	walk(&s, false, sound);
	if (s.size > PCI_CFG_SIZE)
		walk(&s, true, sound);
	return 0;
}
