/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/framebuffer.h"

#include "kernel/cmdline.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/mm/mm.h"
#include "tests/harness/test.h"
#include "tests/vgpu/bar_class.h"

#define STRIDE_PAGES 61 /* one page in so many, those at each address bit, and the last */

static bool under_test(const struct pci_dev *d)
{
	return !cmdline.has_device || d->rid.v == cmdline.device.v;
}

struct page {
	uint64_t off;
	volatile uint32_t *va;
	uint32_t was[4];
};
#define PAGES_MAX 512

/* Four words of each page, two of them at its ends. */
static const unsigned words[4] = {0, 1, 511, 1023};

static uint32_t value(uint64_t off, unsigned i)
{
	return (uint32_t)(off >> 2) * 0x9e3779b1u ^ (i + 1) * 0x85ebca6bu;
}

static void add_page(struct t *t, const struct pci_bar *b, struct page *p, unsigned *n, uint64_t off)
{
	if (*n == PAGES_MAX)
		return;
	p[*n].off = off;
	p[*n].va = mmio_map(gpa(b->base + (SABOTAGE(framebuffer_page) && off == 2 * PAGE_SIZE ? 0 : off)), PAGE_SIZE);
	if (!p[*n].va)
		test_error(t, "no room to map the framebuffer");
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		p[*n].was[i] = p[*n].va[words[i]];
	++*n;
}

/* All written, then all read: a page that shows another's memory is found. Put back at the end. */
static void holds_pattern(struct t *t, const struct pci_dev *d, const struct pci_bar *b)
{
	struct page *p = test_alloc(t, PAGES_MAX * sizeof(*p));
	uint64_t step = STRIDE_PAGES * PAGE_SIZE;
	unsigned n = 0, wrong = 0, first = 0;
	char evidence[80];

	while (b->size / step >= PAGES_MAX / 2)
		step *= 2;
	for (uint64_t off = PAGE_SIZE; off < b->size; off *= 2)
		add_page(t, b, p, &n, off);
	for (uint64_t off = 0; off < b->size; off += step)
		add_page(t, b, p, &n, off);
	add_page(t, b, p, &n, b->size - PAGE_SIZE);
	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
			p[k].va[words[i]] = value(p[k].off, i);
	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
			if (p[k].va[words[i]] != value(p[k].off, i) && !wrong++)
				first = k;
	EXPECT_MSG(t, !wrong,
		   PRIRID " BAR0: %u of %u words are not what was written, the first in the page at 0x%llx: "
			  "got 0x%08x, expected 0x%08x",
		   RIDARG(d->rid), wrong, 4 * n, (unsigned long long)p[first].off, p[first].va[0],
		   value(p[first].off, 0));
	if (wrong) {
		fmt_snprintf(evidence, sizeof(evidence), "%u of %u words differ, the first at 0x%llx", wrong, 4 * n,
			     (unsigned long long)p[first].off);
		test_finding(t, "PLB045",
			     "the BAR is trapped (x-no-mmap=on), and the sample writes each word to its "
			     "beginning; or two pages are one",
			     "without x-no-mmap; QEMU's log for vfio mmap failures", evidence,
			     PRIRID ": its framebuffer does not hold what is written", RIDARG(d->rid));
	}
	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
			p[k].va[words[i]] = p[k].was[i];
	test_note(t, PRIRID " BAR0: %u pages of %llu KiB hold a pattern", RIDARG(d->rid), n,
		  (unsigned long long)(b->size >> 10));
}

static void classify(struct t *t, const struct pci_dev *d, unsigned bar, volatile const void *p)
{
	char series[48], beside[BAR_BESIDE];
	struct bar_latency l;

	fmt_snprintf(series, sizeof(series), "dev=" PRIRID " page=bar%u", RIDARG(d->rid), bar);
	bar_floor_measure(t);
	l = bar_measure(t, series, p);
	test_note(t, PRIRID " BAR%u is %s: %llu ns a read, %s", RIDARG(d->rid), bar, bar_class_name(bar_classify(&l)),
		  (unsigned long long)l.p50_ns, bar_beside_text(&l, beside));
}

/* What it says of itself does not fit together. */
static void odd_identity(struct t *t, const struct pci_dev *d, const char *name)
{
	test_finding(t, "PLB046", "the host's sample is another version, or patched",
		     "on the host: modinfo mdpy mbochs; compare with that kernel's own build", NULL,
		     PRIRID " %s: what it says of its mode, size or registers does not fit together",
		     RIDARG(d->rid), name);
}

static bool usable(struct t *t, struct pci_dev *d)
{
	const struct pci_bar *b = &d->bar[0];

	if (!EXPECT_MSG(t, b->size && !b->io && b->assigned,
			PRIRID ": BAR0: got %llu KiB at 0x%llx, expected memory with an address",
			RIDARG(d->rid), (unsigned long long)(b->size >> 10), (unsigned long long)b->base))
		return false;
	pci_set_command(d, PCI_COMMAND_MEMORY, 0);
	return true;
}

/*
 * Linux's sample mdev mdpy: a framebuffer in BAR0, its mode in a vendor capability. The mode is one that can
 * be, the BAR is as large as it needs, and its memory holds a pattern, each page its own.
 *
 * The BAR should be mapped memory; where it is trapped (x-no-mmap), the sample writes each word to its
 * beginning, and the pattern does not hold.
 */
TEST(mdev, mdpy, "identity, framebuffer memory holds a pattern, BAR class", NEED_PCI)
{
	unsigned shown = 0;

	FOR_EACH_PCI(d) {
		struct mdpy_mode m = {0};
		uint8_t config[256];
		int err;

		if (!mdpy_matches(d) || !under_test(d))
			continue;
		shown++;
		for (unsigned i = 0; i < sizeof(config); i++)
			config[i] = pci_r8(d->rid, i);
		err = mdpy_parse(config, &m);
		EXPECT_MSG(t, err == 0, PRIRID " mdpy: its mode in the capability at 0x40: -%s (%08x %ux%u)",
			   RIDARG(d->rid), err_name(err), m.format, m.width, m.height);
		if (err < 0)
			odd_identity(t, d, "mdpy");
		if (err < 0 || !usable(t, d))
			continue;
		if (!EXPECT_MSG(t, d->bar[0].size == mdpy_bar_size(&m),
				PRIRID " mdpy: BAR0: got %llu KiB for %ux%u, expected %llu", RIDARG(d->rid),
				(unsigned long long)(d->bar[0].size >> 10), m.width, m.height,
				(unsigned long long)(mdpy_bar_size(&m) >> 10)))
			odd_identity(t, d, "mdpy");
		test_note(t, PRIRID " mdpy: %ux%u XRGB8888", RIDARG(d->rid), m.width, m.height);
		classify(t, d, 0, mmio_map(gpa(d->bar[0].base), PAGE_SIZE));
		holds_pattern(t, d, &d->bar[0]);
	}
	if (!shown)
		test_skip(t, "no mdpy (1b36:000f, subsystem 1af4:1100): modprobe mdpy on the host, and an "
			     "mdev of it");
}

/*
 * Linux's sample mdev mbochs: a framebuffer in BAR0 and the Bochs display registers in BAR2, which name the
 * memory's size and hold what is written. QEMU's secondary-vga is the same to a driver and is taken too.
 */
TEST(mdev, mbochs, "identity, framebuffer memory holds a pattern, BAR class", NEED_PCI)
{
	unsigned shown = 0;

	FOR_EACH_PCI(d) {
		volatile uint8_t *regs;
		uint16_t was;
		bool fits;

		if (!mbochs_matches(d) || !under_test(d))
			continue;
		shown++;
		if (!usable(t, d))
			continue;
		regs = mbochs_map(d);
		if (!EXPECT_MSG(t, regs, PRIRID " mbochs: BAR2 has no registers", RIDARG(d->rid)))
			continue;
		fits = EXPECT_EQ(t, mbochs_read(regs, DISPI_ID), DISPI_ID5);
		fits &= EXPECT_MSG(t, (uint64_t)mbochs_read(regs, DISPI_MEMORY_64K) << 16 == d->bar[0].size,
				   PRIRID " mbochs: got %u times 64 KiB, expected BAR0's %llu KiB",
				   RIDARG(d->rid), mbochs_read(regs, DISPI_MEMORY_64K),
				   (unsigned long long)(d->bar[0].size >> 10));
		was = mbochs_read(regs, DISPI_XRES);
		for (uint16_t x = 640; x <= 800; x = (uint16_t)(x + 160)) {
			mbochs_write(regs, DISPI_XRES, x);
			fits &= EXPECT_MSG(t, mbochs_read(regs, DISPI_XRES) == x,
					   PRIRID " mbochs: XRES: got %u, expected %u", RIDARG(d->rid),
					   mbochs_read(regs, DISPI_XRES), x);
		}
		mbochs_write(regs, DISPI_XRES, was);
		if (!fits)
			odd_identity(t, d, mbochs_is_mdev(d) ? "mbochs" : "secondary-vga");
		test_note(t, PRIRID " %s, %llu MiB", RIDARG(d->rid),
			  mbochs_is_mdev(d) ? "mbochs" : "QEMU's secondary-vga",
			  (unsigned long long)(d->bar[0].size >> 20));
		classify(t, d, 0, mmio_map(gpa(d->bar[0].base), PAGE_SIZE));
		classify(t, d, 2, regs);
		holds_pattern(t, d, &d->bar[0]);
	}
	if (!shown)
		test_skip(
			t,
			"no mbochs (1234:1111, class 0380): modprobe mbochs on the host, and an mdev of it");
}
