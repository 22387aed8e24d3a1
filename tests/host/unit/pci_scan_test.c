/* SPDX-License-Identifier: MIT */
// link: drivers/pci/scan.c drivers/pci/cap.c drivers/pci/bar.c drivers/pci/alias.c drivers/pci/describe.c kernel/lib/fmt.c

/* The walk over whole machines: sound ones, ones that firmware has not numbered, and ones that lie. */

#include "tests/host/unit/pci_fake.h"

static void scan(void)
{
	fake_free_all();
	pci_scan();
}

static bool sorted(void)
{
	unsigned n = 0;

	FOR_EACH_PCI(d) {
		n++;
		if (d->next && d->next->rid.v <= d->rid.v)
			return false;
	}
	return n == pci_scan_report.functions;
}

static struct pci_dev *at(unsigned bus, unsigned dev, unsigned fn)
{
	return pci_find(pci_rid(bus, dev, fn));
}

static int endpoint(int parent, unsigned root, unsigned dev)
{
	return fake_add(parent, root, dev, 0, 0x11e81234, 0x00ff00);
}

/* q35 with a switch of two ports, a second root, a PCIe-to-PCI bridge, a conventional one below it. */
static void whole(void)
{
	int root, up, down, to_pci, f;
	struct pci_dev *d;

	fake_reset();
	fake_add(-1, 0, 0, 0, 0x29c08086, PCI_CLASS_HOST);
	root = fake_bridge(-1, 0, 1, 0, 0, 1, 4);
	fake_pcie(root, PCIE_TYPE_ROOT);
	up = fake_bridge(root, 0, 0, 0, 1, 2, 4);
	fake_pcie(up, PCIE_TYPE_UP);
	down = fake_bridge(up, 0, 0, 0, 2, 3, 3);
	fake_pcie(down, PCIE_TYPE_DOWN);
	fake_set(down, PCI_HEADER_TYPE, 1, PCI_HEADER_BRIDGE | PCI_HEADER_MULTI);
	endpoint(down, 0, 0);
	endpoint(down, 0, 5);                    /* an echo: below a port there is device 0 only */
	down = fake_bridge(up, 0, 0, 1, 2, 4, 4);
	fake_pcie(down, PCIE_TYPE_DOWN);
	fake_pcie(endpoint(down, 0, 0), PCIE_TYPE_ENDPOINT);
	to_pci = fake_bridge(-1, 0, 3, 0, 0, 8, 9);
	fake_pcie(to_pci, PCIE_TYPE_TO_PCI);
	endpoint(to_pci, 0, 4);
	f = fake_bridge(to_pci, 0, 7, 0, 8, 9, 9);
	endpoint(f, 0, 2);
	f = fake_bridge(-1, 0x80, 0, 0, 0x80, 0x81, 0x81);
	fake_pcie(f, PCIE_TYPE_ROOT);
	endpoint(f, 0x80, 0);
	f = fake_bridge(-1, 0x80, 3, 0, 0x80, 0x82, 0x83);
	endpoint(f, 0x80, 1);
	f = fake_add(-1, 0, 0x1f, 2, 0x29228086, 0x010601); /* function 0 of its device is missing */
	f = fake_add(-1, 0, 0x1e, 0, 0x29188086, 0x060100);
	fake_set(f, PCI_HEADER_TYPE, 1, PCI_HEADER_MULTI);
	fake_add(-1, 0, 0x1e, 3, 0x29308086, 0x0c0500);
	scan();

	CHECK(!pci_scan_report.problem);
	CHECK(sorted());
	CHECK_EQ(pci_scan_report.functions, 17);
	CHECK_EQ(pci_scan_report.roots, 2);
	CHECK_EQ(pci_scan_report.buses, 10);
	CHECK(!at(3, 5, 0) && at(3, 0, 0) && at(4, 0, 0));
	CHECK(at(0x81, 0, 0) && at(0x82, 1, 0) && at(0, 0x1e, 3));
	CHECK(!at(0, 0x1f, 2));
	CHECK(at(0x82, 1, 0)->root_bus == 0x80 && at(9, 2, 0)->root_bus == 0);
	CHECK(at(3, 0, 0)->parent == at(2, 0, 0) && at(2, 0, 0)->parent == at(1, 0, 0));
	CHECK(at(1, 0, 0)->port == PCI_PORT_UPSTREAM && at(2, 0, 1)->port == PCI_PORT_DOWNSTREAM);
	CHECK(at(0, 3, 0)->port == PCI_PORT_TO_PCI && at(8, 7, 0)->port == PCI_PORT_CONVENTIONAL);

	/* Requester IDs: links leave them alone, bridges to conventional PCI put in their own. */
	CHECK_EQ(pci_requester_id(at(3, 0, 0)).v, 0x300);
	CHECK_EQ(pci_requester_id(at(8, 4, 0)).v, 0x800);    /* (secondary, 0) of the PCIe-to-PCI bridge */
	CHECK_EQ(pci_requester_id(at(9, 2, 0)).v, 0x800);    /* the last one on the way up wins */
	CHECK_EQ(pci_requester_id(at(8, 7, 0)).v, 0x800);
	CHECK_EQ(pci_requester_id(at(0, 3, 0)).v, 0x018);    /* the bridge itself */
	CHECK_EQ(pci_requester_id(at(0x82, 1, 0)).v, 0x8018); /* conventional bridge: its own ID */
	d = at(0x82, 1, 0);
	d->rid.v |= 0x10000;
	d->parent->rid.v |= 0x10000;
	CHECK_EQ(pci_requester_id(d).v, 0x18018);            /* the segment stays */
}

/* QEMU says how many further roots there are: no more than needed is looked at. */
static void told(void)
{
	unsigned long all = 0;
	int port;

	for (int roots = -1; roots <= 3; roots++) {
		fake_reset();
		fake_extra_roots = roots;
		fake_add(-1, 0, 0, 0, 0x29c08086, PCI_CLASS_HOST);
		/* Its only device is not number 0; that of the bus behind it is: which one is the root? */
		port = fake_bridge(-1, 0x40, 5, 0, 0x40, 0x41, 0x41);
		endpoint(port, 0x40, 0);
		endpoint(-1, 0x80, 0);
		scan();
		CHECK(!pci_scan_report.problem);
		CHECK_EQ(pci_scan_report.roots, roots < 0 || roots > 1 ? 3 : roots == 1 ? 2 : 1);
		CHECK(roots == 0 || at(0x41, 0, 0)->root_bus == 0x40);
		if (roots == -1)
			all = fake_reads;
		else if (roots == 0)
			CHECK(fake_reads < 200);
		else if (roots == 1)
			CHECK(fake_reads < all / 3);
		else if (roots == 2)
			CHECK(fake_reads < all * 2 / 3);
		else
			CHECK_EQ(fake_reads, all); /* it told too many: everything has been looked at */
	}
}

/* No firmware has been here: every bridge at 0. Depth first, each range as small as it can be. */
static void unnumbered(void)
{
	int root, up, down[2], f;

	fake_reset();
	fake_ecam = false;                       /* i440fx: CF8 only, 256 buses */
	fake_add(-1, 0, 0, 0, 0x12378086, PCI_CLASS_HOST);
	root = fake_bridge(-1, 0, 1, 0, 0, 0, 0);
	up = fake_bridge(root, 0, 0, 0, 0, 0, 0);
	down[0] = fake_bridge(up, 0, 0, 0, 0, 0, 0);
	down[1] = fake_bridge(up, 0, 1, 0, 0, 0, 0);
	endpoint(down[0], 0, 0);
	endpoint(down[1], 0, 7);
	f = fake_bridge(-1, 0, 2, 0, 0, 0, 0);   /* empty */
	fake_bridge(-1, 0, 3, 0, 0, 0x10, 0x1f); /* firmware's: stays */
	endpoint(-1, 0x20, 1);                   /* a second root above */
	fake_set(root, BRIDGE_BUSES + 3, 1, 0x40);
	scan();
	CHECK(!pci_scan_report.problem);
	CHECK(sorted());
	CHECK_EQ(pci_scan_report.functions, 10);
	CHECK(fake_reg_sec(root) == 1 && fake_reg_sub(root) == 4);
	CHECK(fake_reg_sec(up) == 2 && fake_reg_sub(up) == 4);
	CHECK(fake_reg_sec(down[0]) == 3 && fake_reg_sub(down[0]) == 3);
	CHECK(fake_reg_sec(down[1]) == 4 && fake_reg_sub(down[1]) == 4);
	CHECK(fake_reg_sec(f) == 5 && fake_reg_sub(f) == 5);
	CHECK_EQ(fakes[up].cfg[BRIDGE_BUSES], 1); /* primary */
	CHECK_EQ(fakes[root].cfg[BRIDGE_BUSES + 3], 0x40);
	CHECK(at(4, 7, 0) && at(3, 0, 0) && at(0x20, 1, 0));
	CHECK_EQ(pci_scan_report.roots, 2);

	/* One unnumbered bridge below a numbered one, which has room for exactly one bus more. */
	fake_reset();
	root = fake_bridge(-1, 0, 1, 0, 0, 1, 3);
	fake_bridge(root, 0, 0, 0, 1, 2, 2);
	up = fake_bridge(root, 0, 1, 0, 0, 0, 0);
	down[0] = fake_bridge(root, 0, 2, 0, 0, 0, 0);
	endpoint(up, 0, 0);
	scan();
	CHECK(fake_reg_sec(up) == 3 && fake_reg_sub(up) == 3 && at(3, 0, 0));
	CHECK(fake_reg_sec(down[0]) == 0);
	CHECK(pci_scan_report.problem && strstr(pci_scan_report.problem, "01:02.0"));

	/* 40 bridges below one another: deeper than we go, and it is said. */
	fake_reset();
	root = -1;
	for (unsigned i = 0; i < 40; i++)
		root = fake_bridge(root, 0, 0, 0, 0, 0, 0);
	scan();
	CHECK(pci_scan_report.problem);
	CHECK(sorted() && pci_scan_report.functions < 40);
}

/* Registers that lie. The walk ends, says what is wrong, and finds what can be found. */
static void lies(void)
{
	int a, b;

	fake_reset();                            /* two bridges to the same bus */
	a = fake_bridge(-1, 0, 1, 0, 0, 1, 1);
	b = fake_bridge(-1, 0, 2, 0, 0, 1, 1);
	endpoint(a, 0, 0);
	endpoint(b, 0, 1);
	scan();
	CHECK(pci_scan_report.problem && strstr(pci_scan_report.problem, "00:02.0"));
	CHECK(sorted() && at(1, 0, 0));

	fake_reset();                            /* a bridge that leads to its own bus, and upwards */
	a = fake_bridge(-1, 0, 1, 0, 0, 1, 2);
	b = fake_bridge(a, 0, 0, 0, 1, 1, 1);
	fake_bridge(a, 0, 1, 0, 1, 2, 1);
	scan();
	CHECK(pci_scan_report.problem);
	CHECK_EQ(pci_scan_report.functions, 3);

	fake_reset();                            /* beyond its parent */
	a = fake_bridge(-1, 0, 1, 0, 0, 1, 2);
	fake_bridge(a, 0, 0, 0, 1, 2, 9);
	scan();
	CHECK(pci_scan_report.problem && strstr(pci_scan_report.problem, "parent"));

	fake_reset();                            /* beyond what ECAM reaches */
	acpi.mcfg.alloc[0].bus_last = 0x3f;
	fake_bridge(-1, 0, 1, 0, 0, 0x40, 0x41);
	endpoint(-1, 0x50, 0);
	scan();
	CHECK(pci_scan_report.problem);
	CHECK_EQ(pci_scan_report.buses, 1);
	CHECK(!at(0x50, 0, 0));

	fake_reset();                            /* every bus shows bus 0 again */
	for (unsigned bus = 0; bus < 100; bus++)
		endpoint(-1, bus, 3);
	scan();
	CHECK_EQ(pci_scan_report.functions, 1);
	CHECK(pci_scan_report.problem && strstr(pci_scan_report.problem, "repeats"));

	fake_reset();                            /* nothing at all */
	scan();
	CHECK(!pci_devs && pci_scan_report.functions == 0);
	fake_ecam = fake_cf8 = false;            /* and no way to look */
	scan();
	CHECK(!pci_devs && pci_scan_report.buses == 0);
}

/* Function 9 of a device: only where the port above forwards, and only along a chain that ascends. */
static void ari(void)
{
	int port, f;

	for (unsigned forward = 0; forward < 2; forward++) {
		fake_reset();
		port = fake_bridge(-1, 0, 1, 0, 0, 1, 1);
		fake_pcie(port, PCIE_TYPE_ROOT);
		fake_set(port, 0x40 + PCIE_DEVCTL2, 2, forward ? PCIE_DEVCTL2_ARI : 0);
		f = endpoint(port, 0, 0);
		fake_pcie(f, PCIE_TYPE_ENDPOINT);
		fake_set(f, 0x100, 4, 0x0001000e);
		fake_set(f, 0x105, 1, 9);
		f = endpoint(port, 0, 1);
		fakes[f].devfn = 9;
		fake_pcie(f, PCIE_TYPE_ENDPOINT);
		fake_set(f, 0x100, 4, 0x0001000e);
		fake_set(f, 0x105, 1, 9);        /* on to itself: the end */
		scan();
		CHECK_EQ(pci_scan_report.functions, 2 + forward);
		CHECK(!!pci_find((pci_rid_t){0x109}) == !!forward);
	}
}

static void describe(void)
{
	char line[256], small[16];
	int f, n;

	fake_reset();
	f = fake_add(-1, 0, 4, 0, 0x11e81234, 0x00ff00);
	fake_set(f, 8, 1, 0x10);
	fake_set(f, PCI_SUBSYSTEM, 4, 0x11001af4);
	fake_set(f, PCI_INT_LINE, 2, 0x010b);
	fake_set(f, PCI_STATUS, 1, PCI_STATUS_CAPLIST);
	fake_set(f, PCI_CAP_POINTER, 1, 0x40);
	fake_set(f, 0x40, 4, 0x00845005);        /* 4 messages */
	fake_set(f, 0x50, 4, 0x00090011);        /* 10 entries */
	fake_bar(f, 0, 0x100000, 0, 0xfea00000);
	fake_bar(f, 1, 0x20, BAR_IO, 0);
	fake_bar(f, 2, 0x4000, 0xc, 0x800000000);
	f = fake_bridge(-1, 0, 5, 0, 0, 1, 2);
	fake_pcie(f, PCIE_TYPE_ROOT);
	scan();
	n = pci_describe(at(0, 4, 0), line, sizeof(line));
	CHECK(strcmp(line, "00:04.0 1234:11e8 00ff00 rev=10 hdr=00 sub=1af4:1100 irq=A msi@40/4 msix@50/10 "
			   "bar0=fea00000+100000 bar1=unset+20/io bar2=800000000+4000/64/pref") == 0);
	CHECK_EQ(n, strlen(line));
	CHECK_EQ(pci_describe(at(0, 4, 0), small, sizeof(small)), n);
	CHECK(strcmp(small, "00:04.0 1234:11") == 0);
	pci_describe(at(0, 5, 0), line, sizeof(line));
	CHECK(strcmp(line, "00:05.0 1b36:000c 060400 rev=00 hdr=01 pcie@40 root-port=01-02") == 0);
}

int main(void)
{
	whole();
	told();
	unnumbered();
	lies();
	ari();
	describe();
	fake_free_all();
	return host_done("pci_scan");
}
