/* SPDX-License-Identifier: MIT */

/*
 * Finds every function. From each root bus down through the bridges that firmware has numbered;
 * then the buses that no bridge leads to, for further roots; then bridges that nobody has numbered.
 *
 * The topology is read from registers that may lie, so every walk is over bus numbers, each of them
 * visited once.
 */

#include "drivers/pci/cap.h"
#include "drivers/pci/pci.h"
#include "drivers/pci/regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/fwcfg.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "kernel/mm/mm.h"

#define FUNCTION_MAX 4096                /* what the heap is spent on at most */
#define NEST_MAX     16                  /* unnumbered bridges below one another */

struct pci_dev *pci_devs;
struct pci_scan_report pci_scan_report;

/* One PCI segment while it is scanned. */
static struct segment {
	uint16_t number;
	unsigned first, last;            /* bus numbers that can be reached */
	uint32_t seen[8];                /* buses that were scanned, or are in todo */
	uint32_t covered[8];             /* those, and all others in the range of a bridge */
	/* Buses to scan. Each bus is seen once, so this cannot overflow. */
	struct todo { struct pci_dev *parent; uint8_t bus, root; } todo[256];
	unsigned todo_count;
} seg;

static char problem_text[128];

static bool bus_test(const uint32_t *map, unsigned bus) { return map[bus / 32] & BIT(bus % 32); }
static void bus_set(uint32_t *map, unsigned bus) { map[bus / 32] |= BIT(bus % 32); }

/* The first one is kept: what comes after may follow from it. */
static void problem(pci_rid_t rid, const char *what, unsigned a, unsigned b)
{
	size_t n;

	if (pci_scan_report.problem)
		return;
	n = (size_t)fmt_snprintf(problem_text, sizeof(problem_text), PRIRID ": ", RIDARG(rid));
	fmt_snprintf(problem_text + n, sizeof(problem_text) - n, what, a, b);
	pci_scan_report.problem = problem_text;
}

/* Nobody there. A vendor of 0 is what some bridges give instead of all ones. */
static bool absent(uint32_t id)
{
	return (id & 0xffff) == 0xffff || (id & 0xffff) == 0;
}

static pci_rid_t rid_of(unsigned bus, unsigned devfn)
{
	return (pci_rid_t){(uint32_t)seg.number << 16 | bus << 8 | devfn};
}

/* after: one that it comes behind, or NULL; the scan mostly goes upwards. */
static void insert_sorted(struct pci_dev *d, struct pci_dev *after)
{
	struct pci_dev **at = &pci_devs;

	if (pci_devs && after && after->rid.v < d->rid.v)
		at = &after->next;
	while (*at && (*at)->rid.v < d->rid.v)
		at = &(*at)->next;
	d->next = *at;
	*at = d;
}

static void read_caps(struct pci_dev *d)
{
	struct cap_space s;
	struct cap_walk w;
	struct cap c;

	pci_cap_space(d->rid, false, &s);
	cap_walk_start(&w, &s, false);
	while (cap_walk_next(&w, &c)) {
		uint16_t *const at = c.id == PCI_CAP_PM     ? &d->cap_pm
				     : c.id == PCI_CAP_MSI  ? &d->cap_msi
				     : c.id == PCI_CAP_MSIX ? &d->cap_msix
				     : c.id == PCI_CAP_PCIE ? &d->cap_pcie
							    : NULL;

		if (at && !*at)
			*at = c.off;
	}
}

void pci_add(struct pci_dev *d)
{
	read_caps(d);
	insert_sorted(d, d->physfn);
}

static enum pci_port port_of(const struct pci_dev *d)
{
	if (!d->is_bridge)
		return PCI_PORT_NONE;
	if (!d->cap_pcie)
		return PCI_PORT_CONVENTIONAL;
	switch (FIELD_GET(PCIE_TYPE, pci_r16(d->rid, d->cap_pcie + PCIE_FLAGS))) {
	case PCIE_TYPE_ROOT:
		return PCI_PORT_ROOT;
	case PCIE_TYPE_UP:
		return PCI_PORT_UPSTREAM;
	case PCIE_TYPE_DOWN:
		return PCI_PORT_DOWNSTREAM;
	case PCIE_TYPE_TO_PCI:
		return PCI_PORT_TO_PCI;
	case PCIE_TYPE_FROM_PCI:
		return PCI_PORT_FROM_PCI;
	default:
		return PCI_PORT_CONVENTIONAL;
	}
}

static void push_bus(unsigned bus, struct pci_dev *parent, unsigned root)
{
	bus_set(seg.seen, bus);
	bus_set(seg.covered, bus);
	seg.todo[seg.todo_count++] = (struct todo){parent, (uint8_t)bus, (uint8_t)root};
}

/* Goes down a bridge if its numbers make sense and nothing else has led to that bus. */
static void follow_bridge(struct pci_dev *d)
{
	const unsigned sec = d->secondary, sub = d->subordinate, bus = rid_bus(d->rid);

	if (sec == 0)
		return;                  /* left to number_bridges() */
	if (sub < sec || sec <= bus || sub > seg.last) {
		problem(d->rid, "bridge to buses %02x-%02x, which cannot be", sec, sub);
		return;
	}
	if (bus_test(seg.seen, sec)) {
		problem(d->rid, "bridge to buses %02x-%02x: another one leads there too", sec, sub);
		return;
	}
	if (d->parent && sub > d->parent->subordinate)
		problem(d->rid, "bridge to buses %02x-%02x: not inside its parent's", sec, sub);
	push_bus(sec, d, d->root_bus);
	for (unsigned b = sec; b <= sub; b++)
		bus_set(seg.covered, b);
}

/* False: there is none. */
static bool scan_function(pci_rid_t rid, struct pci_dev *parent, unsigned root, bool *multi)
{
	static struct pci_dev *last;
	const uint32_t id = pci_r32(rid, PCI_VENDOR_ID);
	struct pci_dev *d;
	uint32_t word;

	if (absent(id))
		return false;
	if (pci_scan_report.functions == FUNCTION_MAX || !(d = kzalloc(sizeof(*d)))) {
		problem(rid, "not looked at: %u functions are all we have room for",
			pci_scan_report.functions, 0);
		return false;
	}
	pci_scan_report.functions++;
	d->rid = rid;
	d->parent = parent;
	d->root_bus = (uint8_t)root;
	d->vendor = id & 0xffff;
	d->device = (uint16_t)(id >> 16);
	word = pci_r32(rid, PCI_CLASS_REVISION);
	d->class_code = word >> 8;
	d->revision = word & 0xff;
	word = pci_r8(rid, PCI_HEADER_TYPE);
	d->header_type = word & PCI_HEADER_LAYOUT;
	d->multifunction = word & PCI_HEADER_MULTI;
	d->is_bridge = d->header_type == PCI_HEADER_BRIDGE;
	word = pci_r16(rid, PCI_INT_LINE);
	d->int_line = word & 0xff;
	d->int_pin = (uint8_t)(word >> 8);
	if (d->header_type == PCI_HEADER_NORMAL) {
		word = pci_r32(rid, PCI_SUBSYSTEM);
		d->subvendor = word & 0xffff;
		d->subdevice = (uint16_t)(word >> 16);
	}
	read_caps(d);
	d->port = port_of(d);
	pci_bars_read(d);
	insert_sorted(d, last);
	last = d;
	if (d->is_bridge) {
		word = pci_r32(rid, BRIDGE_BUSES);
		d->secondary = (uint8_t)FIELD_GET(BRIDGE_SECONDARY, word);
		d->subordinate = (uint8_t)FIELD_GET(BRIDGE_SUBORDINATE, word);
		follow_bridge(d);
	}
	*multi = d->multifunction;
	return true;
}

/* Functions above 7, where the port above forwards to them (PCIe 5.0, 6.13): a chain that ascends. */
static void scan_ari(unsigned bus, struct pci_dev *port, unsigned root)
{
	unsigned fn = 0;
	bool multi;

	if (!port || !port->cap_pcie ||
	    !(pci_r16(port->rid, port->cap_pcie + PCIE_DEVCTL2) & PCIE_DEVCTL2_ARI))
		return;
	for (;;) {
		const unsigned cap = pci_find_ext_cap(rid_of(bus, fn), PCI_EXT_ARI);
		const unsigned next = cap ? pci_r8(rid_of(bus, fn), cap + ARI_NEXT) : 0;

		if (next <= fn)
			return;
		fn = next;
		if (fn > 7 && !scan_function(rid_of(bus, fn), port, root, &multi))
			return;
	}
}

static void scan_bus(unsigned bus, struct pci_dev *parent, unsigned root)
{
	/* Below a port there is one device; what answers at other numbers would be the same again. */
	const bool link = parent && (parent->port == PCI_PORT_ROOT || parent->port == PCI_PORT_DOWNSTREAM);

	pci_scan_report.buses++;
	for (unsigned dev = 0; dev < (link ? 1u : 32u); dev++) {
		bool multi = false, more;

		if (!scan_function(rid_of(bus, dev << 3), parent, root, &multi))
			continue;
		for (unsigned fn = 1; multi && fn < 8; fn++)
			scan_function(rid_of(bus, dev << 3 | fn), parent, root, &more);
	}
	if (link)
		scan_ari(bus, parent, root);
}

static void scan_pending(void)
{
	while (seg.todo_count) {
		const struct todo t = seg.todo[--seg.todo_count];

		scan_bus(t.bus, t.parent, t.root);
	}
}

/* CF8 where there is one: ECAM would have to be mapped for each bus that turns out empty. */
static uint32_t id_of(unsigned bus, unsigned dev)
{
	const pci_rid_t rid = rid_of(bus, dev << 3);

	return pci_cfg_has(PCI_CFG_CF8, rid) ? pci_r32_by(PCI_CFG_CF8, rid, PCI_VENDOR_ID)
					     : pci_r32(rid, PCI_VENDOR_ID);
}

/* A decoder that ignores the bus number shows the first bus everywhere. */
static bool repeats_first(unsigned bus)
{
	for (unsigned dev = 0; dev < 32; dev++)
		if (id_of(bus, dev) != id_of(seg.first, dev))
			return false;
	return true;
}

/*
 * How many roots there are besides bus 0, where somebody tells. QEMU does (fw_cfg etc/extra-pci-roots,
 * there only if there are any): under a hypervisor each look at a bus that does not exist costs two
 * exits, and there are some 8000 of them.
 */
static unsigned extra_roots(void)
{
	char file[16];
	const int n = fwcfg_read("etc/extra-pci-roots", file, sizeof(file));

	if (seg.number != 0 || n == -ENODEV)
		return ~0u;
	return n == 8 ? get_le32((const uint8_t *)file) : 0;
}

/*
 * Expander bridges (pxb, several sockets) are roots of their own, to which nothing in PCI leads.
 * Upwards, and all of a bus before the next one: a bus behind a root that was not found yet would
 * pass for a root itself.
 */
static void find_roots(void)
{
	unsigned left = extra_roots();

	pci_scan_report.roots++;
	push_bus(seg.first, NULL, seg.first);
	scan_pending();
	for (unsigned bus = seg.first + 1; bus <= seg.last && left; bus++) {
		unsigned dev = 0;

		if (bus_test(seg.covered, bus))
			continue;
		while (dev < 32 && absent(id_of(bus, dev)))
			dev++;
		if (dev == 32)
			continue;
		if (repeats_first(bus)) {
			problem(rid_of(bus, 0), "bus %02x repeats bus %02x: roots are not looked for", bus,
				seg.first);
			return;
		}
		pci_scan_report.roots++;
		left--;
		push_bus(bus, NULL, bus);
		scan_pending();
	}
}

/* Is a bus number that a bridge on this bus could be given in use? parent: above the bridge. */
static bool bus_taken(const struct pci_dev *parent, unsigned bus)
{
	if (!parent)
		return bus_test(seg.covered, bus);
	FOR_EACH_PCI(c)
		if (c->parent == parent && c->is_bridge && c->secondary <= bus && bus <= c->subordinate)
			return true;
	return bus_test(seg.seen, bus);
}

/*
 * Gives a bridge that firmware left at 0 the lowest free bus, and for the time of the scan below it
 * all free ones that follow; then keeps what was needed.
 */
static void number_bridge(struct pci_dev *d, unsigned depth)
{
	const unsigned low = (d->parent ? d->parent->secondary : d->root_bus) + 1u;
	const unsigned high = d->parent ? d->parent->subordinate : seg.last;
	const uint32_t keep = pci_r32(d->rid, BRIDGE_BUSES) & 0xff000000; /* latency timer */
	unsigned sec = low, sub, used;

	while (sec <= high && bus_taken(d->parent, sec))
		sec++;
	if (sec > high || depth == NEST_MAX) {
		problem(d->rid, "bridge without numbers, and none left from %02x to %02x", low, high);
		return;
	}
	for (sub = sec; sub < high && !bus_taken(d->parent, sub + 1); sub++)
		;
	d->secondary = (uint8_t)sec;
	d->subordinate = (uint8_t)sub;
	pci_w32(d->rid, BRIDGE_BUSES, keep | sub << 16 | sec << 8 | rid_bus(d->rid));
	push_bus(sec, d, d->root_bus);
	scan_pending();
	used = sec;
	FOR_EACH_PCI(c) {
		if (c->parent != d || !c->is_bridge)
			continue;
		if (c->secondary == 0)
			number_bridge(c, depth + 1);
		used = MAX(used, c->subordinate);
	}
	d->subordinate = (uint8_t)used;
	pci_w32(d->rid, BRIDGE_BUSES, keep | used << 16 | sec << 8 | rid_bus(d->rid));
}

static void number_bridges(void)
{
	FOR_EACH_PCI(d)
		if (d->is_bridge && d->secondary == 0 && rid_seg(d->rid) == seg.number)
			number_bridge(d, 0);
}

static void scan_segment(uint16_t number, unsigned first, unsigned last)
{
	seg = (struct segment){.number = number, .first = first, .last = last};
	find_roots();
	number_bridges();
}

void pci_scan(void)
{
	const pci_rid_t zero = {0};

	pci_scan_report = (struct pci_scan_report){.functions = 0};
	pci_devs = NULL;
	/* Segment 0 as far as CF8 reaches, unless ECAM tells how far that makes sense. */
	if (!pci_cfg_has(PCI_CFG_ECAM, zero) && pci_cfg_has(PCI_CFG_CF8, zero))
		scan_segment(0, 0, 0xff);
	for (unsigned i = 0; acpi.has_mcfg && i < acpi.mcfg.count; i++) {
		const unsigned first = acpi.mcfg.alloc[i].bus_first;
		const pci_rid_t at = {(uint32_t)acpi.mcfg.alloc[i].segment << 16 | first << 8};

		if (pci_cfg_has(PCI_CFG_ECAM, at))
			scan_segment(acpi.mcfg.alloc[i].segment, first, acpi.mcfg.alloc[i].bus_last);
	}
}

struct pci_dev *pci_find(pci_rid_t rid)
{
	FOR_EACH_PCI(d)
		if (d->rid.v == rid.v)
			return d;
	return NULL;
}

bool pci_matches(const struct pci_dev *d, const struct pci_match *m)
{
	return (m->vendor == 0xffff || m->vendor == d->vendor) &&
	       (m->device == 0xffff || m->device == d->device) &&
	       (d->class_code & m->class_mask) == (m->class_code & m->class_mask);
}

const struct pci_dev *pci_sign_of_a_vm(void)
{
	FOR_EACH_PCI(d)
		if (d->vendor == 0x1af4 || d->vendor == 0x1b36 || d->vendor == 0x1234)
			return d;
	return NULL;
}
