/* SPDX-License-Identifier: MIT */
// link: drivers/pci/scan.c drivers/pci/cap.c drivers/pci/bar.c drivers/pci/assign.c drivers/pci/alias.c drivers/pci/describe.c kernel/lib/fmt.c

/*
 * A whole machine of any content: where functions answer, what their headers say, which bits take
 * writes. Scanning and placing must end in a bounded number of accesses, the list be sorted and free
 * of duplicates, and every walk upwards reach a root.
 */

#include <stdlib.h>
#include <string.h>

#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/boot.h"
#include "kernel/cpu/cpu.h"
#include "kernel/fwcfg.h"
#include "kernel/lib/err.h"
#include "kernel/mm/mm.h"

#define REQUIRE(cond) do { if (!(cond)) abort(); } while (0)
#define FUNCTIONS 48

struct acpi acpi;
struct boot_info boot_info;
struct cpu_features cpu_features;

/* Each function: 4 bytes of place and writability, then its header. */
static struct { uint16_t bdf; uint8_t mask_seed; uint8_t cfg[PCI_CFG_SIZE]; } fns[FUNCTIONS];
static unsigned fn_count;
static unsigned long accesses;

static int find(pci_rid_t rid)
{
	for (unsigned i = 0; i < fn_count; i++)
		if (fns[i].bdf == (rid.v & 0xffff) && !rid_seg(rid))
			return (int)i;
	return -1;
}

static uint32_t fuzz_read(pci_rid_t rid, unsigned off, unsigned n)
{
	const int f = find(rid);
	uint32_t v = 0;

	accesses++;
	REQUIRE(off + n <= PCI_EXT_CFG_SIZE && off % n == 0);
	if (f < 0 || off + n > PCI_CFG_SIZE)
		return PCI_ABSENT;
	memcpy(&v, fns[f].cfg + off, n);
	return v;
}

static void fuzz_write(pci_rid_t rid, unsigned off, unsigned n, uint32_t v)
{
	const int f = find(rid);

	accesses++;
	REQUIRE(off + n <= PCI_EXT_CFG_SIZE && off % n == 0);
	for (unsigned i = 0; f >= 0 && off + i < PCI_CFG_SIZE && i < n; i++) {
		const uint8_t m =
			(uint8_t)(fns[f].mask_seed * 7 + (off + i) * 13) | (fns[f].mask_seed & 1 ? 0xff : 0);

		fns[f].cfg[off + i] = (uint8_t)((fns[f].cfg[off + i] & ~m) | ((v >> (8 * i)) & m));
	}
}

uint8_t pci_r8(pci_rid_t rid, unsigned off) { return (uint8_t)fuzz_read(rid, off, 1); }
uint16_t pci_r16(pci_rid_t rid, unsigned off) { return (uint16_t)fuzz_read(rid, off, 2); }
uint32_t pci_r32(pci_rid_t rid, unsigned off) { return fuzz_read(rid, off, 4); }
void pci_w16(pci_rid_t rid, unsigned off, uint16_t v) { fuzz_write(rid, off, 2, v); }
void pci_w32(pci_rid_t rid, unsigned off, uint32_t v) { fuzz_write(rid, off, 4, v); }
bool pci_cfg_has(enum pci_cfg_path path, pci_rid_t rid) { return path == PCI_CFG_CF8 && rid_seg(rid) == 0; }
uint32_t pci_r32_by(enum pci_cfg_path path, pci_rid_t rid, unsigned off)
{
	(void)path;
	return fuzz_read(rid, off, 4);
}
bool phys_touches_ram(uint64_t base, uint64_t size) { (void)size; return base < 0x10000000; }
volatile void *mmio_map(gpa_t at, size_t size) { (void)at, (void)size; return NULL; }

static uint8_t arena[1 << 20];
static size_t arena_used;

void *kzalloc(size_t n)
{
	void *p = arena + arena_used;

	n = (n + 15) & ~(size_t)15;
	if (n > sizeof(arena) - arena_used)
		return NULL;
	arena_used += n;
	return memset(p, 0, n);
}

int fwcfg_read(const char *name, char *buf, size_t size)
{
	(void)name, (void)buf, (void)size;
	return -ENODEV;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t each = 4 + 64;

	memset(fns, 0, sizeof(fns));
	fn_count = 0;
	accesses = 0;
	arena_used = 0;
	boot_info.mem_count = 1;
	boot_info.mem[0] = (struct boot_mem){.base = 0, .size = 0x10000000, .type = BOOT_MEM_RAM};
	cpu_features.phys_bits = 40;
	for (; size >= each && fn_count < FUNCTIONS; data += each, size -= each, fn_count++) {
		/* Low bus numbers, so that bridges and functions meet. */
		fns[fn_count].bdf = (uint16_t)((data[0] & 0x0f) << 8 | data[1]);
		fns[fn_count].mask_seed = data[2];
		memcpy(fns[fn_count].cfg, data + 4, 64);
		fns[fn_count].cfg[0] |= 1;
	}
	pci_scan();
	REQUIRE(accesses < 40000);
	pci_assign_resources();
	FOR_EACH_PCI(d) {
		unsigned up = 0;
		char line[512];

		REQUIRE(!d->next || d->next->rid.v > d->rid.v);
		for (const struct pci_dev *p = d; p; p = p->parent)
			REQUIRE(++up <= 256);
		(void)pci_requester_id(d);
		REQUIRE(pci_describe(d, line, sizeof(line)) < (int)sizeof(line));
	}
	return 0;
}
