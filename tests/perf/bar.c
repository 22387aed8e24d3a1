/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/exerciser.h"
#include "drivers/pci/pci.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/mm/mm.h"
#include "tests/vgpu/bar_class.h"

#define PAGES_SHOWN 3u                   /* of a BAR; iterations= looks at up to PAGES_MOST */
#define PAGES_MOST  64u
#define LARGE       0x100000u            /* bytes: a BAR like that is memory, and meant to be used directly */

struct safe { const char *why; uint64_t first, end; }; /* bytes of a BAR */

static struct exerciser *exerciser_of(const struct pci_dev *d)
{
	for (unsigned i = 0; i < exerciser_count; i++)
		if (exercisers[i].dev == d)
			return &exercisers[i];
	return NULL;
}

/*
 * What of a BAR may be read: all, where reads have no side effects by its own word (prefetchable), or
 * where a driver of ours has it at rest; of other devices the page of the MSI-X table (PCIe 7.7.2).
 */
static struct safe safe_part(struct pci_dev *d, unsigned bar)
{
	const struct exerciser *ex = exerciser_of(d);
	const struct pci_bar *b = &d->bar[bar];
	unsigned table_bar;
	uint64_t table;

	if (ex && ex->bars_private)
		return (struct safe){NULL, 0, 0};
	if (b->prefetchable)
		return (struct safe){"prefetchable", 0, b->size};
	if (ex && !ex->broken)
		return (struct safe){"at rest", 0, b->size};
	if (!msix_table_at(d, &table_bar, &table) || table_bar != bar || table >= b->size)
		return (struct safe){NULL, 0, 0};
	table = align_down(table, PAGE_SIZE);
	return (struct safe){"MSI-X table", table, MIN(table + PAGE_SIZE, b->size)};
}

static void tell_trapped(struct t *t, const struct pci_dev *d, unsigned bar, uint64_t of_port)
{
	char evidence[112];

	fmt_snprintf(evidence, sizeof(evidence), "%llu KiB at 0x%llx, prefetchable; a read costs %llu %% of one of port 0xcf8 or more",
		     (unsigned long long)(d->bar[bar].size >> 10), (unsigned long long)d->bar[bar].base,
		     (unsigned long long)of_port);
	test_finding(t, "PLB100",
		     "the host does not map the device's memory into the guest: no mmap of the region (x-no-mmap=on, a "
		     "vendor driver that emulates it), or dirty tracking",
		     "QEMU's log and dmesg for vfio mmap failures; info mtree shows a ramd region where it is mapped", evidence,
		     PRIRID " BAR%u is memory, and every access to it leaves the guest", RIDARG(d->rid), bar);
}

static unsigned look(struct t *t, struct pci_dev *d, unsigned bar)
{
	const struct safe part = safe_part(d, bar);
	const uint64_t pages = (part.end - part.first + PAGE_SIZE - 1) / PAGE_SIZE;
	const unsigned most = (unsigned)MIN(pages, (uint64_t)(test_iterations(t, 0) ? PAGES_MOST : PAGES_SHOWN));
	uint64_t least = UINT64_MAX;     /* percent of a port */
	unsigned count[3] = {0};

	for (unsigned i = 0; i < most; i++) {
		/* The first, the last, and evenly between. */
		const uint64_t page = most > 1 ? (pages - 1) * i / (most - 1) : 0;
		volatile void *p = mmio_map(gpa(d->bar[bar].base + part.first + page * PAGE_SIZE), 4);
		struct bar_latency l;
		char series[64];

		if (!p)
			test_error(t, "no room to map " PRIRID " BAR%u", RIDARG(d->rid), bar);
		fmt_snprintf(series, sizeof(series), "dev=" PRIRID " bar=bar%u page=0x%llx", RIDARG(d->rid), bar,
			     (unsigned long long)(part.first / PAGE_SIZE + page));
		l = bar_measure(t, series, p);
		count[bar_classify(&l)]++;
		least = MIN(least, l.of_port);
		EXPECT_MSG(t, l.max_ns < SEC(1), PRIRID " BAR%u page 0x%llx: a read took %llu ms", RIDARG(d->rid), bar,
			   (unsigned long long)page, (unsigned long long)(l.max_ns / 1000000));
	}
	if (most && count[BAR_TRAPPED] == most && d->bar[bar].prefetchable && d->bar[bar].size >= LARGE)
		tell_trapped(t, d, bar, least);
	if (most)
		test_note(t, PRIRID " BAR%u (%s): of %u pages %u direct, %u trapped, %u unclear", RIDARG(d->rid), bar,
			  part.why, most, count[BAR_DIRECT], count[BAR_TRAPPED], count[BAR_UNCLEAR]);
	return most;
}

/*
 * Which pages of which BARs the guest reaches by itself, and which the hypervisor answers.
 *
 * A page is direct where reading it costs less than half of a trap that is certain, the I/O APIC's window,
 * and else trapped where it costs what a port does that the VMM answers; both are read right beside it.
 * Registers of an emulated device are trapped; the frame buffer of one that is passed through must not be:
 * that is what to look for here.
 */
TEST_TIMED(perf, bar, "each BAR page that may be read: direct or trapped, against the floor of a certain trap", NEED_PCI)
{
	unsigned pages = 0;

	bar_floor_measure(t);
	FOR_EACH_PCI(d) {
		if (!pci_decodes_memory(d))
			continue;
		for (unsigned bar = 0; bar < PCI_BAR_COUNT; bar++)
			if (d->bar[bar].size && !d->bar[bar].io && d->bar[bar].assigned)
				pages += look(t, d, bar);
	}
	if (pages == 0)
		test_skip(t, "no memory BAR that may be read is decoded");
}
