/* SPDX-License-Identifier: MIT */
// link: drivers/pci/groups.c drivers/pci/scan.c drivers/pci/cap.c drivers/pci/bar.c drivers/pci/alias.c drivers/pci/describe.c kernel/lib/fmt.c

/* IOMMU groups. What is expected here is what Linux 6.12 has in sysfs for these machines of QEMU's (the lab's truth-*). */

#include "drivers/pci/groups.h"
#include "tests/host/unit/pci_fake.h"

static struct pci_dev *at(unsigned bus, unsigned dev, unsigned fn) { return pci_find(pci_rid(bus, dev, fn)); }

static int pcie_bridge(int parent, unsigned dev, unsigned fn, unsigned bus, unsigned sec, unsigned sub, unsigned type)
{
	const int f = fake_bridge(parent, 0, dev, fn, bus, sec, sub);

	fake_pcie(f, type);
	return f;
}

static int endpoint(int parent, unsigned dev, unsigned fn, bool pcie)
{
	const int f = fake_add(parent, 0, dev, fn, 0x11e81234, 0x00ff00);

	if (pcie)
		fake_pcie(f, PCIE_TYPE_ENDPOINT);
	return f;
}

static void acs(int f) { fake_set(f, PCI_EXT_CAP_START, 4, 0x00010000 | PCI_EXT_ACS); }
static void several(int f, bool bridge) { fake_set(f, PCI_HEADER_TYPE, 1, (bridge ? 1 : 0) | PCI_HEADER_MULTI); }

static unsigned form(void)
{
	fake_free_all();
	pci_scan();
	return pci_groups_form();
}

static bool together(struct pci_dev *a, struct pci_dev *b) { return a && b && a->group == b->group; }

static int switch_up(void)
{
	int f;

	fake_reset();
	fake_add(-1, 0, 0, 0, 0x29c08086, PCI_CLASS_HOST);
	f = pcie_bridge(-1, 0x10, 0, 0, 1, 6, PCIE_TYPE_ROOT);
	acs(f);
	return pcie_bridge(f, 0, 0, 1, 2, 6, PCIE_TYPE_UP);
}

static void switch_without(void)
{
	const int up = switch_up();
	int a, b, c, d;

	a = pcie_bridge(up, 0, 0, 2, 3, 3, PCIE_TYPE_DOWN);
	b = pcie_bridge(up, 1, 0, 2, 4, 4, PCIE_TYPE_DOWN);
	c = pcie_bridge(up, 2, 0, 2, 5, 5, PCIE_TYPE_DOWN);
	d = pcie_bridge(up, 2, 1, 2, 6, 6, PCIE_TYPE_DOWN);
	several(c, true);
	endpoint(a, 0, 0, false);
	endpoint(b, 0, 0, true);
	endpoint(c, 0, 0, false);
	endpoint(d, 0, 0, false);
	CHECK_EQ(form(), 6);             /* host bridge, root port, upstream port, and three */
	CHECK(together(at(2, 0, 0), at(3, 0, 0)) && together(at(2, 1, 0), at(4, 0, 0)));
	CHECK(!together(at(3, 0, 0), at(4, 0, 0)) && !together(at(1, 0, 0), at(2, 0, 0)));
	CHECK(together(at(2, 2, 0), at(2, 2, 1)) && together(at(5, 0, 0), at(6, 0, 0)));
	CHECK_EQ(at(6, 0, 0)->group->rid.v, 0x210);
}

static void switch_with(void)
{
	const int up = switch_up();
	int a, b;

	a = pcie_bridge(up, 0, 0, 2, 3, 3, PCIE_TYPE_DOWN);
	b = pcie_bridge(up, 0, 1, 2, 4, 4, PCIE_TYPE_DOWN);
	several(a, true);
	acs(a);
	acs(b);
	endpoint(a, 0, 0, false);
	endpoint(b, 0, 0, true);
	CHECK_EQ(form(), 7);             /* each alone */
	fakes[1].cfg[PCI_EXT_CAP_START] = 0; /* ACS of the root port gone: all below it is one */
	CHECK_EQ(form(), 2);
	CHECK(together(at(0, 0x10, 0), at(4, 0, 0)) && together(at(3, 0, 0), at(2, 0, 1)));
}

static void bridges(void)
{
	int f, to_pci;

	fake_reset();
	fake_add(-1, 0, 0, 0, 0x29c08086, PCI_CLASS_HOST);
	to_pci = pcie_bridge(-1, 0x12, 0, 0, 1, 2, PCIE_TYPE_TO_PCI);
	endpoint(to_pci, 1, 0, false);
	endpoint(to_pci, 2, 0, false);
	f = fake_bridge(to_pci, 0, 3, 0, 1, 2, 2);
	endpoint(f, 1, 0, false);
	f = fake_bridge(-1, 0, 0x13, 0, 0, 3, 3); /* conventional, on the root bus */
	endpoint(f, 1, 0, false);
	f = pcie_bridge(-1, 0x14, 0, 0, 4, 5, PCIE_TYPE_ROOT);
	acs(f);
	f = pcie_bridge(f, 0, 0, 4, 5, 5, PCIE_TYPE_TO_PCI);
	endpoint(f, 1, 0, false);
	CHECK_EQ(form(), 5);
	CHECK(together(at(0, 0x12, 0), at(1, 1, 0)) && together(at(1, 2, 0), at(2, 1, 0)) && together(at(1, 3, 0), at(1, 1, 0)));
	CHECK(together(at(0, 0x13, 0), at(3, 1, 0)) && !together(at(3, 1, 0), at(1, 1, 0)));
	CHECK(together(at(4, 0, 0), at(5, 1, 0)) && !together(at(0, 0x14, 0), at(4, 0, 0)));
}

static void functions(void)
{
	int port, a;

	fake_reset();
	a = endpoint(-1, 5, 0, false);
	several(a, false);
	a = endpoint(-1, 5, 3, true);
	port = pcie_bridge(-1, 0x10, 0, 0, 1, 1, PCIE_TYPE_ROOT);
	acs(port);
	a = endpoint(port, 0, 0, true);
	several(a, false);
	a = endpoint(port, 0, 1, true);
	acs(a);                          /* this one lets nothing through to its neighbours */
	endpoint(port, 0, 2, true);
	CHECK_EQ(form(), 4);
	CHECK(together(at(0, 5, 0), at(0, 5, 3)));
	CHECK(together(at(1, 0, 0), at(1, 0, 2)) && !together(at(1, 0, 0), at(1, 0, 1)));
	CHECK(!together(at(0, 0x10, 0), at(1, 0, 0)));
}

int main(void)
{
	switch_without();
	switch_with();
	bridges();
	functions();
	return host_done("pci_groups");
}
