/* SPDX-License-Identifier: MIT */

#include "tests/pci/common.h"

#include "drivers/exercisers/exerciser.h"
#include "kernel/cpu/cpu.h"
#include "kernel/mm/mm.h"

#define SIGN_BYTES 64

static void restore(void *arg)
{
	keep_restore(arg);
}

struct keep *keep_start(struct t *t)
{
	struct keep *k = test_alloc(t, sizeof(*k));

	k->t = t;
	test_cleanup(t, restore, k);
	return k;
}

uint32_t keep_reg(struct keep *k, pci_rid_t rid, unsigned off, unsigned width)
{
	const uint32_t v = width == 1 ? pci_r8(rid, off) : width == 2 ? pci_r16(rid, off) : pci_r32(rid, off);

	if (k->count == KEEP_MAX)
		test_error(k->t, "more than %u registers to put back", KEEP_MAX);
	k->reg[k->count].rid = rid;
	k->reg[k->count].off = (uint16_t)off;
	k->reg[k->count].width = (uint16_t)width;
	k->reg[k->count++].value = v;
	return v;
}

void keep_command(struct keep *k, const struct pci_dev *d)
{
	for (; d; d = d->parent)
		keep_reg(k, d->rid, PCI_COMMAND, 2);
}

void keep_restore(struct keep *k)
{
	while (k->count) {
		const unsigned i = --k->count;

		if (k->reg[i].width == 1)
			pci_w8(k->reg[i].rid, k->reg[i].off, (uint8_t)k->reg[i].value);
		else if (k->reg[i].width == 2)
			pci_w16(k->reg[i].rid, k->reg[i].off, (uint16_t)k->reg[i].value);
		else
			pci_w32(k->reg[i].rid, k->reg[i].off, k->reg[i].value);
	}
}

uint32_t sign_read(const struct sign *s)
{
	volatile void *at;

	if (s->io)
		return inl((uint16_t)s->address);
	at = mmio_map(gpa(s->address), sizeof(uint32_t));
	return at ? mmio_r32(at) : ~0u;
}

bool sign_find(struct pci_dev *d, unsigned bar, struct sign *s)
{
	const struct pci_bar *b = &d->bar[bar];
	const struct exerciser *ex = d->driver;

	if (!b->size || !b->assigned || (ex && ex->bars_private))
		return false;
	pci_set_command(d, b->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY, 0);
	for (unsigned off = 0; off + 4 <= MIN(b->size, SIGN_BYTES); off += 4) {
		*s = (struct sign){b->base + off, b->io, 0};
		s->value = sign_read(s);
		if (s->value != 0 && s->value != ~0u && sign_answers(s))
			return true;
	}
	return false;
}
