/* SPDX-License-Identifier: MIT */
// link: drivers/pci/cap.c

/* The capability walker, on chains that are right and on chains that lie. */

#include "drivers/pci/cap.h"
#include "tests/host/unit/pci_fake.h"

static const pci_rid_t rid = {0x18};

static void fresh(void)
{
	fake_reset();
	fake_add(-1, 0, 3, 0, 0x11e81234, 0x00ff00);
	fake_set(0, PCI_STATUS, 1, PCI_STATUS_CAPLIST);
}

static const char *check(unsigned *at)
{
	return pci_check_caps(rid, at);
}

static void sound(void)
{
	unsigned at;

	fresh();
	fake_set(0, PCI_CAP_POINTER, 1, 0x40);
	fake_set(0, 0x40, 4, 0x00807005);        /* MSI, 64-bit; next 0x70 */
	fake_set(0, 0x70, 4, 0x00098011);        /* MSI-X, 10 entries; next 0x80 */
	fake_set(0, 0x80, 4, 0x0002 << 16 | PCI_CAP_PCIE);
	fake_set(0, 0x100, 4, 0x14820001);       /* AER, version 2; next 0x148 */
	fake_set(0, 0x148, 4, 0x0001000e);       /* ARI; the end */
	CHECK(check(&at) == NULL);
	CHECK_EQ(pci_find_cap(rid, PCI_CAP_MSI), 0x40);
	CHECK_EQ(pci_find_cap(rid, PCI_CAP_MSIX), 0x70);
	CHECK_EQ(pci_find_cap(rid, PCI_CAP_PM), 0);
	CHECK_EQ(pci_find_ext_cap(rid, PCI_EXT_AER), 0x100);
	CHECK_EQ(pci_find_ext_cap(rid, PCI_EXT_ARI), 0x148);
	CHECK_EQ(pci_find_ext_cap(rid, PCI_EXT_SRIOV), 0);

	fake_ecam = false;                       /* by CF8 alone there is no extended space */
	CHECK_EQ(pci_find_ext_cap(rid, PCI_EXT_AER), 0);
	CHECK(check(&at) == NULL);
	fake_ecam = true;

	fake_set(0, 0x82, 2, 0);                 /* conventional: what lies above 256 is not looked at */
	fake_set(0, 0x80, 1, PCI_CAP_VNDR);
	fake_set(0, 0x82, 1, 8);
	CHECK_EQ(pci_find_ext_cap(rid, PCI_EXT_AER), 0);

	fake_set(0, PCI_STATUS, 1, 0);           /* no list, whatever the pointer says */
	CHECK_EQ(pci_find_cap(rid, PCI_CAP_MSI), 0);
	CHECK(check(&at) == NULL);
	CHECK_EQ(pci_find_cap((pci_rid_t){0x20}, PCI_CAP_MSI), 0); /* nobody there */
	CHECK(pci_check_caps((pci_rid_t){0x20}, &at) == NULL);
}

/* Head of the conventional chain and two links; what is wrong and where. */
static void bad(unsigned head, unsigned off, uint32_t first, const char *part, unsigned where)
{
	const char *problem;
	unsigned at = 0;

	fresh();
	fake_set(0, PCI_CAP_POINTER, 1, head);
	fake_set(0, off, off > 0xfc ? 256 - off : 4, first);
	problem = check(&at);
	CHECK(problem && strstr(problem, part));
	CHECK_EQ(at, where);
	CHECK_EQ(pci_find_cap(rid, 0x7e), 0);    /* a search ends all the same */
}

static void bad_ext(uint32_t at100, uint32_t at200, const char *part, unsigned where)
{
	const char *problem;
	unsigned at = 0;

	fresh();
	fake_pcie(0, PCIE_TYPE_ENDPOINT);
	fake_set(0, 0x100, 4, at100);
	fake_set(0, 0x200, 4, at200);
	problem = check(&at);
	CHECK(problem && strstr(problem, part));
	CHECK_EQ(at, where);
	CHECK_EQ(pci_find_ext_cap(rid, 0x7ffe), 0);
}

static void damaged(void)
{
	unsigned at;

	bad(0x20, 0x40, 0x09, "into the header", PCI_CAP_POINTER);
	bad(0x41, 0x40, 0x09, "multiple of 4", PCI_CAP_POINTER);
	bad(0x40, 0x40, 0x00034009, "loop", 0x40);
	bad(0x40, 0x40, 0x00035209, "multiple of 4", 0x40);
	bad(0x40, 0x40, 0x000310ff, "0xff", 0x40);
	bad(0xf8, 0xf8, 0x00800005, "runs out", 0xf8);
	bad(0xfc, 0xfc, 0x00000010, "runs out", 0xfc);

	/* MSI with masks takes 24 bytes: the next one stands inside it. */
	fresh();
	fake_set(0, PCI_CAP_POINTER, 1, 0x40);
	fake_set(0, 0x40, 4, 0x01805005);
	fake_set(0, 0x50, 4, 0x00030009);
	CHECK(check(&at) && at == 0x50);
	fake_set(0, 0x42, 2, 0x0000);            /* 32-bit without masks ends at 0x4a: allowed */
	CHECK(check(&at) == NULL);

	bad_ext(0x10010001, 0, "loop", 0x100);
	bad_ext(0x08010001, 0, "below 0x100", 0x100);
	bad_ext(0x20110001, 0, "multiple of 4", 0x100);
	bad_ext(0x20010001, 0xffffffff, "all ones", 0x200);
	bad_ext(0x20010001, 0x20010003, "loop", 0x200);
	fresh();                                 /* error reporting, 8 bytes before the end */
	fake_pcie(0, PCIE_TYPE_ENDPOINT);
	fake_set(0, 0x100, 4, 0xff81000e);
	fake_set(0, 0xff8, 4, 0x00010001);
	CHECK(check(&at) && at == 0xff8);
	fake_set(0, 0x100, 4, 0x20010001);       /* vendor-specific: its own length counts */
	fake_set(0, 0x200, 4, 0x2801000b);
	fake_set(0, 0x204, 4, 0x08000000);
	fake_set(0, 0x280, 4, 0x0001000e);
	CHECK(check(&at) == NULL);
	fake_set(0, 0x204, 4, 0x08400000);
	CHECK(check(&at) && at == 0x280);
}

int main(void)
{
	sound();
	damaged();
	return host_done("pci_cap");
}
