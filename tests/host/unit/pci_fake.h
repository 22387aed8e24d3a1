/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A PCI machine made of bytes, behind the configuration accessors of drivers/pci/pci.h. A function is
 * reached only through the bridges above it, by the bus numbers that stand in their registers at that
 * moment, as in a real one. Writes go through a mask per byte.
 */

#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/fwcfg.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"
#include "tests/host/host.h"

#define FAKE_MAX 128

struct fake {
	int parent;                      /* index of the bridge above; -1: on a root bus */
	uint8_t root, devfn;
	uint8_t cfg[PCI_EXT_CFG_SIZE], wmask[PCI_EXT_CFG_SIZE];
};

static struct fake fakes[FAKE_MAX];
static int fake_count;
static bool fake_ecam = true, fake_cf8 = true;
static unsigned long fake_reads, fake_writes;
static uint64_t fake_ram_end = 0x20000000;
static int fake_extra_roots = -1;        /* as fw_cfg tells; -1: no fw_cfg, 0: no such file */

struct acpi acpi;

static void fake_reset(void)
{
	memset(fakes, 0, sizeof(fakes));
	fake_count = 0;
	fake_ecam = fake_cf8 = true;
	fake_reads = fake_writes = 0;
	fake_extra_roots = -1;
	memset(&acpi, 0, sizeof(acpi));
	acpi.has_mcfg = true;
	acpi.mcfg.count = 1;
	acpi.mcfg.alloc[0].base = 0xb0000000;
	acpi.mcfg.alloc[0].bus_last = 0xff;
}

static void put(uint8_t *p, unsigned n, uint64_t v)
{
	for (unsigned i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void fake_set(int f, unsigned off, unsigned n, uint64_t v) { put(fakes[f].cfg + off, n, v); }
static void fake_writable(int f, unsigned off, unsigned n, uint64_t v) { put(fakes[f].wmask + off, n, v); }

static int fake_add(int parent, unsigned root, unsigned dev, unsigned fn, uint32_t ids, uint32_t class_code)
{
	const int f = fake_count++;

	CHECK(f < FAKE_MAX);
	fakes[f].parent = parent;
	fakes[f].root = (uint8_t)root;
	fakes[f].devfn = (uint8_t)(dev << 3 | fn);
	fake_set(f, PCI_VENDOR_ID, 4, ids);
	fake_set(f, PCI_CLASS_REVISION, 4, class_code << 8);
	fake_writable(f, PCI_COMMAND, 2, 0x0407);
	fake_writable(f, PCI_INT_LINE, 1, 0xff);
	return f;
}

/* A base address register. size: power of two. flags: its type bits. */
static void fake_bar(int f, unsigned i, uint64_t size, uint32_t flags, uint64_t base)
{
	const uint64_t mask = ~(size - 1);
	const bool is64 = !(flags & BAR_IO) && FIELD_GET(BAR_MEM_TYPE, flags) == BAR_MEM_64;

	fake_set(f, PCI_BAR(i), is64 ? 8 : 4, base | flags);
	fake_writable(f, PCI_BAR(i), is64 ? 8 : 4, mask);
}

static int fake_bridge(int parent, unsigned root, unsigned dev, unsigned fn, unsigned bus, unsigned sec,
		       unsigned sub)
{
	const int f = fake_add(parent, root, dev, fn, 0x000c1b36, PCI_CLASS_BRIDGE_PCI);

	fake_set(f, PCI_HEADER_TYPE, 1, PCI_HEADER_BRIDGE);
	fake_set(f, BRIDGE_BUSES, 4, sub << 16 | sec << 8 | bus);
	fake_writable(f, BRIDGE_BUSES, 4, 0xffffffff);
	fake_writable(f, BRIDGE_IO, 2, 0xf0f0);
	fake_set(f, BRIDGE_IO, 2, 0x0101);
	fake_writable(f, BRIDGE_MEM, 4, 0xfff0fff0);
	fake_writable(f, BRIDGE_PREF, 4, 0xfff0fff0);
	fake_set(f, BRIDGE_PREF, 4, 0x00010001);
	fake_writable(f, BRIDGE_PREF_BASE_UPPER, 8, ~0ull);
	fake_writable(f, BRIDGE_IO_UPPER, 4, 0xffffffff);
	return f;
}

/* PCI Express capability, version 2, at 0x40. */
static void fake_pcie(int f, unsigned type)
{
	fake_set(f, PCI_STATUS, 1, PCI_STATUS_CAPLIST);
	fake_set(f, PCI_CAP_POINTER, 1, 0x40);
	fake_set(f, 0x40, 4, PCI_CAP_PCIE | (2 | type << 4) << 16);
	fake_writable(f, 0x40 + PCIE_DEVCTL2, 2, 0xffff);
}

static unsigned fake_reg_sec(int f) { return fakes[f].cfg[BRIDGE_BUSES + 1]; }
static unsigned fake_reg_sub(int f) { return fakes[f].cfg[BRIDGE_BUSES + 2]; }

static int fake_at(pci_rid_t rid)
{
	if (rid_seg(rid))
		return -1;
	for (int f = 0; f < fake_count; f++) {
		bool open = true;

		if (fakes[f].devfn != rid_devfn(rid))
			continue;
		if (fakes[f].parent < 0) {
			if (fakes[f].root == rid_bus(rid))
				return f;
			continue;
		}
		/* A root bus is spoken to directly: no bridge claims its number. */
		if (rid_bus(rid) == fakes[f].root || fake_reg_sec(fakes[f].parent) != rid_bus(rid))
			continue;
		for (int up = fakes[f].parent; up >= 0; up = fakes[up].parent)
			open = open && fake_reg_sec(up) <= rid_bus(rid) && rid_bus(rid) <= fake_reg_sub(up);
		if (open)
			return f;
	}
	return -1;
}

static uint32_t fake_read(pci_rid_t rid, unsigned off, unsigned n)
{
	const int f = fake_at(rid);
	uint32_t v = 0;

	fake_reads++;
	CHECK(off + n <= PCI_EXT_CFG_SIZE && off % n == 0);
	if (f < 0 || off + n > (fake_ecam ? PCI_EXT_CFG_SIZE : PCI_CFG_SIZE))
		return 0xffffffff;
	for (unsigned i = 0; i < n; i++)
		v |= (uint32_t)fakes[f].cfg[off + i] << (8 * i);
	return v;
}

static void fake_write(pci_rid_t rid, unsigned off, unsigned n, uint32_t v)
{
	const int f = fake_at(rid);

	fake_writes++;
	CHECK(off + n <= PCI_EXT_CFG_SIZE && off % n == 0);
	for (unsigned i = 0; f >= 0 && i < n; i++) {
		const uint8_t m = fakes[f].wmask[off + i], b = (uint8_t)(v >> (8 * i));

		fakes[f].cfg[off + i] = (uint8_t)((fakes[f].cfg[off + i] & ~m) | (b & m));
	}
}

uint8_t pci_r8(pci_rid_t rid, unsigned off) { return (uint8_t)fake_read(rid, off, 1); }
uint16_t pci_r16(pci_rid_t rid, unsigned off) { return (uint16_t)fake_read(rid, off, 2); }
uint32_t pci_r32(pci_rid_t rid, unsigned off) { return fake_read(rid, off, 4); }
void pci_w8(pci_rid_t rid, unsigned off, uint8_t v) { fake_write(rid, off, 1, v); }
void pci_w16(pci_rid_t rid, unsigned off, uint16_t v) { fake_write(rid, off, 2, v); }
void pci_w32(pci_rid_t rid, unsigned off, uint32_t v) { fake_write(rid, off, 4, v); }
uint32_t pci_r32_by(enum pci_cfg_path path, pci_rid_t rid, unsigned off)
{
	return pci_cfg_has(path, rid) ? fake_read(rid, off, 4) : 0xffffffff;
}
bool pci_cfg_has(enum pci_cfg_path path, pci_rid_t rid)
{
	return rid_seg(rid) == 0 && (path == PCI_CFG_ECAM ? fake_ecam : path == PCI_CFG_CF8 && fake_cf8);
}

/* What the sources under test ask of the kernel. Allocations live until the program ends. */
static void *fake_allocs[8192];
static unsigned fake_alloc_count;

void *kzalloc(size_t n)
{
	return fake_alloc_count < 8192 ? (fake_allocs[fake_alloc_count++] = calloc(1, n)) : NULL;
}
static void fake_free_all(void)
{
	while (fake_alloc_count)
		free(fake_allocs[--fake_alloc_count]);
}
bool phys_touches_ram(uint64_t base, uint64_t size)
{
	(void)size;
	return base < fake_ram_end;
}
volatile void *mmio_map(gpa_t at, size_t size)
{
	(void)at, (void)size;
	return NULL;
}
int fwcfg_read(const char *name, char *buf, size_t size)
{
	CHECK(strcmp(name, "etc/extra-pci-roots") == 0 && size > 8);
	if (fake_extra_roots <= 0)
		return fake_extra_roots ? -ENODEV : -ENOENT;
	memset(buf, 0, 9);
	buf[0] = (char)fake_extra_roots;
	return 8;
}
