/* SPDX-License-Identifier: MIT */
/*
 * Config spaces. Sources: shared/facts/nvidia.md "What a guest sees"; PCI 3.0 chapter 6 for the layout.
 * [I]: inferred, nobody read it off a device: the order of the mdev's capability chain, the length and
 * content of its vendor capability, the VF's PCI IDs and capability offsets, the PM capability's bits.
 */
#include <string.h>

#include "tests/models/config.h"

#define KiB 1024ull
#define MiB (1024 * KiB)

enum {
	CFG_COMMAND = 0x04, CFG_STATUS = 0x06, CFG_REVISION = 0x08, CFG_CLASS = 0x09, CFG_BAR0 = 0x10,
	CFG_SUBSYSTEM = 0x2c, CFG_ROM = 0x30, CFG_CAP = 0x34, CFG_LINE = 0x3c, CFG_PIN = 0x3d,
	COMMAND_IO = 1 << 0, COMMAND_MEMORY = 1 << 1, COMMAND_MASTER = 1 << 2, COMMAND_INTX_DISABLE = 1 << 10,
	STATUS_INTX = 1 << 3, STATUS_CAP = 1 << 4, STATUS_W1C = 0xf900,
	CAP_PM = 0x01, CAP_MSI = 0x05, CAP_VENDOR = 0x09, CAP_PCIE = 0x10, CAP_MSIX = 0x11,
	MSI_ENABLE = 1 << 0, MSI_MME = 0x70, MSI_64 = 1 << 7,
	MSIX_ENABLE = 1 << 15, MSIX_MASKALL = 1 << 14,
	VENDOR_CAP_LEN = 0x1b,       /* [I] */
};

static const struct kind kinds[] = {
	{
		.name = "p40-2a-mdev",
		.text = "GRID P40-2A (nvidia-55): paravirtual vGPU",
		.vendor = 0x10de,
		.device = 0x1b38,
		.sub_vendor = 0x10de,
		.sub_device = 0x11f1,
		.revision = 0xa1,
		.pin = 1,
		.bar = {{BAR_MEM32, 16 * MiB},
			{BAR_MEM64_PREF, 256 * MiB},
			{BAR_NONE, 0},
			{BAR_MEM64, 32 * MiB}},
		.first_cap = 0xd0,
		.vendor_cap = 0xd0,
		.msi = 0x68,
		.chip = 0x132,
		.other_chip = 0x136,
		.boot1 = 1,
		.rearm = REARM_DWORD,
		.absent = 0, /* [I] the host's daemon answers, not a bus */
	},
	{
		/* The PCI ID is a GeForce GTX 1080 Ti's. */
		.name = "gp102",
		.text = "a physical GP102",
		.vendor = 0x10de,
		.device = 0x1b06,
		.sub_vendor = 0x10de,
		.sub_device = 0x120f,
		.revision = 0xa1,
		.pin = 1,
		.bar = {{BAR_MEM32, 16 * MiB},
			{BAR_MEM64_PREF, 256 * MiB},
			{BAR_NONE, 0},
			{BAR_MEM64_PREF, 32 * MiB},
			{BAR_NONE, 0},
			{BAR_IO, 128}},
		.rom = 64 * KiB,
		.first_cap = 0x60,
		.pm = 0x60,
		.msi = 0x68,
		.pcie = 0x78,
		.chip = 0x132,
		.other_chip = 0x136,
		.boot1 = 0,
		.rearm = REARM_DWORD,
		.window = true,
		.absent = 0xbadf5040,
	},
	{
		/* The PCI ID is a GeForce GTX 970's. */
		.name = "gm204",
		.text = "a physical GM204: Maxwell's PMC, re-armed by a byte",
		.vendor = 0x10de,
		.device = 0x13c2,
		.sub_vendor = 0x10de,
		.sub_device = 0x1131,
		.revision = 0xa1,
		.pin = 1,
		.bar = {{BAR_MEM32, 16 * MiB},
			{BAR_MEM64_PREF, 256 * MiB},
			{BAR_NONE, 0},
			{BAR_MEM64_PREF, 32 * MiB},
			{BAR_NONE, 0},
			{BAR_IO, 128}},
		.rom = 64 * KiB,
		.first_cap = 0x60,
		.pm = 0x60,
		.msi = 0x68,
		.pcie = 0x78,
		.chip = 0x124,
		.other_chip = 0x126,
		.boot1 = 0,
		.rearm = REARM_BYTE,
		.old_pmc = true,
		.window = true,
		.absent = 0xbadf5040,
	},
	{
		/* The PCI ID is a GeForce RTX 2080's. */
		.name = "tu104",
		.text = "a physical TU104: the interrupt tree at 0xb80000",
		.vendor = 0x10de,
		.device = 0x1e87,
		.sub_vendor = 0x10de,
		.sub_device = 0x12b0,
		.revision = 0xa1,
		.pin = 1,
		.bar = {{BAR_MEM32, 16 * MiB},
			{BAR_MEM64_PREF, 256 * MiB},
			{BAR_NONE, 0},
			{BAR_MEM64_PREF, 32 * MiB},
			{BAR_NONE, 0},
			{BAR_IO, 128}},
		.rom = 64 * KiB,
		.first_cap = 0x60,
		.pm = 0x60,
		.msi = 0x68,
		.pcie = 0x78,
		.chip = 0x164,
		.other_chip = 0x166,
		.boot1 = 0,
		.rearm = REARM_DWORD,
		.turing = true,
		.tree = 0xb80000,
		.window = true,
		.absent = 0xbadf5040,
	},
	{
		/* The PCI ID is an H100's. [I] that it has one MSI; its BARs are another kind's. */
		.name = "gh100",
		.text = "a physical GH100: re-armed by TOP_EN, no window at system memory",
		.vendor = 0x10de,
		.device = 0x2331,
		.sub_vendor = 0x10de,
		.sub_device = 0x1626,
		.class_code = 0x030200,
		.revision = 0xa1,
		.pin = 1,
		.bar = {{BAR_MEM32, 16 * MiB},
			{BAR_MEM64_PREF, 256 * MiB},
			{BAR_NONE, 0},
			{BAR_MEM64_PREF, 32 * MiB}},
		.first_cap = 0x60,
		.pm = 0x60,
		.msi = 0x68,
		.pcie = 0x78,
		.chip = 0x180,
		.other_chip = 0x192,
		.boot1 = 0,
		.rearm = REARM_TOP,
		.turing = true,
		.tree = 0xb80000,
		.absent = 0xbadf5040,
	},
	{
		/* A VF's BAR0 is 256 KiB: NVIDIA's open kernel modules say so; the MSI-X table and PBA are
		 * where NVIDIA's dev_vm manual has them. */
		.name = "tu-vf",
		.text = "an SR-IOV virtual function of a Turing GPU",
		.vendor = 0x10de,
		.device = 0x1eb8,
		.sub_vendor = 0x10de,
		.sub_device = 0x0000,
		.revision = 0xa1,
		.pin = 0,
		.bar = {{BAR_MEM32, 256 * KiB},
			{BAR_MEM64_PREF, 256 * MiB},
			{BAR_NONE, 0},
			{BAR_MEM64_PREF, 32 * MiB}},
		.first_cap = 0x40,
		.pcie = 0x40,
		.msix = 0x7c,
		.vectors = 6,
		.msix_table = 0x10000,
		.msix_pba = 0x20000,
		.chip = 0x164,
		.other_chip = 0x166,
		.boot1 = 2,
		.turing = true,
		.tree = 0,
		.absent = 0xbadf5040,
	},
};

const struct kind *kind_at(unsigned n)
{
	return n < sizeof(kinds) / sizeof(kinds[0]) ? &kinds[n] : NULL;
}

const struct kind *kind_find(const char *name)
{
	for (unsigned n = 0; kind_at(n); n++)
		if (strcmp(kinds[n].name, name) == 0)
			return &kinds[n];
	return NULL;
}

static void put(struct config *c, unsigned off, unsigned n, uint64_t value, uint64_t writable)
{
	for (unsigned i = 0; i < n; i++) {
		c->bytes[off + i] = (uint8_t)(value >> 8 * i);
		c->writable[off + i] = (uint8_t)(writable >> 8 * i);
	}
}

static unsigned get16(const struct config *c, unsigned off)
{
	return c->bytes[off] | (unsigned)c->bytes[off + 1] << 8;
}

static void init_bars(struct config *c, const struct kind *k)
{
	for (unsigned n = 0; n < PCI_BARS; n++) {
		const struct bar *b = &k->bar[n];
		const uint64_t mask = ~(b->size - 1);

		switch (b->type) {
		case BAR_NONE:
			break;
		case BAR_IO:
			put(c, CFG_BAR0 + 4 * n, 4, 0x1, mask & 0xffffffff);
			break;
		case BAR_MEM32:
			put(c, CFG_BAR0 + 4 * n, 4, 0x0, mask & 0xffffffff);
			break;
		case BAR_MEM64:
		case BAR_MEM64_PREF:
			put(c, CFG_BAR0 + 4 * n, 8, b->type == BAR_MEM64 ? 0x4 : 0xc, mask);
			break;
		}
	}
	if (k->rom)
		put(c, CFG_ROM, 4, 0, ~(uint64_t)(k->rom - 1) | 1);
}

/* Appends to the chain: tail is where the pointer to this one goes. */
static void link_cap(struct config *c, unsigned *tail, unsigned at, uint8_t id)
{
	c->bytes[*tail] = (uint8_t)at;
	c->bytes[at] = id;
	*tail = at + 1;
}

static void init_caps(struct config *c, const struct kind *k, const struct breaks *brk)
{
	unsigned tail = CFG_CAP;

	if (k->pm) {
		link_cap(c, &tail, k->pm, CAP_PM);
		put(c, k->pm + 2u, 2, 0x0003, 0);            /* version 3, no PME, D0 and D3 */
		put(c, k->pm + 4u, 2, 0x0008, 0x0003);       /* no soft reset */
	}
	if (k->vendor_cap) {
		link_cap(c, &tail, k->vendor_cap, CAP_VENDOR);
		put(c, k->vendor_cap + 2u, 1, VENDOR_CAP_LEN, 0);
	}
	if (k->msi && !broken(brk, BRK_NO_MSI_CAP)) {
		const bool stuck = broken(brk, BRK_MSI_REGISTER_STUCK);
		const bool two = broken(brk, BRK_WRONG_VECTOR);

		c->msi = k->msi;
		link_cap(c, &tail, k->msi, CAP_MSI);
		put(c, k->msi + 2u, 2, MSI_64 | (two ? 1 << 1 : 0), stuck ? 0 : MSI_ENABLE | MSI_MME);
		put(c, k->msi + 4u, 8, 0, stuck ? 0 : 0xfffffffffffffffc);
		put(c, k->msi + 12u, 2, 0, stuck ? 0 : 0xffff);
	}
	if (k->pcie) {
		link_cap(c, &tail, k->pcie, CAP_PCIE);
		put(c, k->pcie + 2u, 2, k->boot1 == 2 ? 0x0002 : 0x0012, 0); /* (legacy) endpoint */
		put(c, k->pcie + 4u, 4, 0x00008001, 0);      /* 256-byte payload, role-based errors, no FLR */
		put(c, k->pcie + 8u, 2, 0x2810, 0x7fff);
		put(c, k->pcie + 12u, 4, 0x00000103, 0);     /* x16, 8 GT/s */
		put(c, k->pcie + 16u, 2, 0, 0x0fff);
		put(c, k->pcie + 18u, 2, 0x1103, 0);
	}
	if (k->msix && !broken(brk, BRK_NO_MSI_CAP)) {
		const bool stuck = broken(brk, BRK_MSI_REGISTER_STUCK);

		c->msix = k->msix;
		link_cap(c, &tail, k->msix, CAP_MSIX);
		put(c, k->msix + 2u, 2, k->vectors - 1u, stuck ? 0 : MSIX_ENABLE | MSIX_MASKALL);
		put(c, k->msix + 4u, 4, k->msix_table, 0);   /* BIR 0 */
		put(c, k->msix + 8u, 4, k->msix_pba, 0);
	}
}

void config_init(struct config *c, const struct kind *k, const struct breaks *brk)
{
	bool io = false;

	memset(c, 0, sizeof(*c));
	for (unsigned n = 0; n < PCI_BARS; n++)
		io |= k->bar[n].type == BAR_IO;
	put(c, 0, 2, k->vendor, 0);
	put(c, 2, 2, k->device, 0);
	put(c, CFG_COMMAND, 2, 0,
	    COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_DISABLE | (io ? COMMAND_IO : 0));
	put(c, CFG_STATUS, 2, STATUS_CAP, 0);
	c->w1c[CFG_STATUS + 1] = STATUS_W1C >> 8;
	put(c, CFG_REVISION, 1, k->revision, 0);
	put(c, CFG_CLASS, 3, k->class_code ? k->class_code : 0x030000, 0);
	put(c, CFG_REVISION + 4, 1, 0, 0xff);                /* cache line size */
	put(c, CFG_SUBSYSTEM, 4, (uint32_t)k->sub_device << 16 | k->sub_vendor, 0);
	put(c, CFG_LINE, 1, 0, 0xff);
	put(c, CFG_PIN, 1, broken(brk, BRK_NO_INTX_PIN) ? 0 : k->pin, 0);
	init_bars(c, k);
	init_caps(c, k, brk);
	if (!c->bytes[CFG_CAP])
		put(c, CFG_STATUS, 2, 0, 0);
}

void config_read(const struct config *c, unsigned off, void *buf, size_t n)
{
	memcpy(buf, c->bytes + off, n);
}

void config_write(struct config *c, unsigned off, const void *buf, size_t n)
{
	const uint8_t *in = buf;

	for (size_t i = 0; i < n; i++) {
		uint8_t *b = &c->bytes[off + i];
		const uint8_t w = c->writable[off + i];

		*b = (uint8_t)((*b & ~w) | (in[i] & w));
		*b = (uint8_t)(*b & ~(in[i] & c->w1c[off + i]));
	}
}

void config_intx_status(struct config *c, bool asserted)
{
	c->bytes[CFG_STATUS] =
		(uint8_t)((c->bytes[CFG_STATUS] & ~STATUS_INTX) | (asserted ? STATUS_INTX : 0));
}

bool config_bus_master(const struct config *c)
{
	return get16(c, CFG_COMMAND) & COMMAND_MASTER;
}

bool config_intx_disabled(const struct config *c)
{
	return get16(c, CFG_COMMAND) & COMMAND_INTX_DISABLE;
}

bool config_msi_enabled(const struct config *c)
{
	return c->msi && (get16(c, c->msi + 2u) & MSI_ENABLE);
}

bool config_msix_enabled(const struct config *c)
{
	return c->msix && (get16(c, c->msix + 2u) & MSIX_ENABLE);
}

bool config_msix_masked(const struct config *c)
{
	return c->msix && (get16(c, c->msix + 2u) & MSIX_MASKALL);
}

unsigned config_msi_offered(const struct config *c)
{
	return c->msi ? 1u << (get16(c, c->msi + 2u) >> 1 & 7) : 0;
}

void rom_make(const struct kind *k, uint8_t *rom)
{
	static const uint8_t head[] = { 0x55, 0xaa, 0x01, 0xcb }; /* one block; lret */
	uint8_t *data = rom + 0x20;
	uint8_t sum = 0;

	memset(rom, 0xff, k->rom);
	memset(rom, 0, 512);
	memcpy(rom, head, sizeof(head));
	rom[0x18] = 0x20;
	memcpy(data, "PCIR", 4);
	data[4] = (uint8_t)k->vendor;
	data[5] = (uint8_t)(k->vendor >> 8);
	data[6] = (uint8_t)k->device;
	data[7] = (uint8_t)(k->device >> 8);
	data[0xa] = 0x18;
	data[0xf] = 0x03;                                    /* class 030000 */
	data[0x10] = 1;
	data[0x15] = 0x80;                                   /* the last image */
	for (unsigned i = 0; i < 511; i++)
		sum = (uint8_t)(sum + rom[i]);
	rom[511] = (uint8_t)-sum;
}
