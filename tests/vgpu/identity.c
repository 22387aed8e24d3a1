/* SPDX-License-Identifier: MIT */

#include "tests/vgpu/vgpu_test.h"

#include "kernel/cmdline.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/mm/mm.h"
#include "tests/vgpu/bar_class.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

static const char *chip_text(unsigned chip)
{
	const char *name = nvidia_chip_name(chip);

	return name ? name : "unknown chip";
}

/* device= names a slot where nothing is: the one thing that a guest can say of a GPU that is missing. */
static void check_slot(struct t *t)
{
	char evidence[96] = "no NVIDIA GPU anywhere";

	if (!cmdline.has_device || pci_find(cmdline.device))
		return;
	FOR_EACH_PCI(d)
		if (nvidia_is_gpu(d))
			fmt_snprintf(evidence, sizeof(evidence), "an NVIDIA GPU is at " PRIRID,
				     RIDARG(d->rid));
	EXPECT_MSG(t, false, "function " PRIRID ": got nothing there, expected the device under test",
		   RIDARG(cmdline.device));
	test_finding(t, "PLB010", "hostpciN is not in this VM's configuration, or it was given another slot",
		     "qm config VMID: look for hostpciN; slot 00:10.0 is hostpci0 on i440fx; run plumb "
		     "without device=",
		     evidence, "there is no device at " PRIRID, RIDARG(cmdline.device));
}

static void check_ids(struct t *t, const struct vgpu *v)
{
	const struct nvidia_id *id = &v->g->id;
	const unsigned by_pci = nvidia_chip_of_device(v->g->dev->device);
	const bool boots_agree = !id->boot_42 || id->chip == id->chip_42;
	char evidence[128];

	fmt_snprintf(evidence, sizeof(evidence), "PCI 10de:%04x: %s; BOOT_0 %08x: %s; BOOT_42 %08x: %s",
		     v->g->dev->device, by_pci ? chip_text(by_pci) : "not in our list", id->boot_0,
		     chip_text(id->chip), id->boot_42, id->boot_42 ? chip_text(id->chip_42) : "not read");
	test_note(t, "%s: %s", v->name, evidence);
	if (boots_agree && (!by_pci || by_pci == id->chip))
		return;
	test_finding(t, "PLB022",
		     "the vGPU shows another board's ID than the chip below it has: an unlocked card, or a "
		     "profile override",
		     "none if the card was unlocked on purpose; else compare pci_id and vdev_id of "
		     "profile_override.toml",
		     evidence, "%s: its identities disagree", v->name);
}

/* Its timer, the one other thing that is safe to read, answers as a unit without power. */
static void check_posted(struct t *t, const struct vgpu *v)
{
	if (v->g->unposted)
		test_finding(t, "PLB029", "a passed-through GPU whose firmware (VBIOS) was never run",
			     "none for Linux, whose driver runs it; else hostpciN: …,romfile=, or the card "
			     "as the host's second",
			     "PTIMER answers 0xbadf…",
			     "%s: the GPU was never started; its interrupt and clock are not tried", v->name);
}

static void check_kind(struct t *t, const struct vgpu *v)
{
	const struct pci_dev *d = v->g->dev;
	char evidence[160];

	if (v->g->kind == v->g->id.kind)
		return;
	fmt_snprintf(evidence, sizeof(evidence),
		     "BOOT_1 %08x: %s; configuration space (%s, %s, INT pin %u, %04x:%04x): %s [I]",
		     v->g->id.boot_1, nvidia_kind_name(v->g->id.kind), d->cap_pcie ? "PCIe" : "no PCIe",
		     d->cap_msix ? "MSI-X" : "no MSI-X", d->int_pin, d->subvendor, d->subdevice,
		     nvidia_kind_name(v->g->kind));
	test_finding(
		t, "PLB022",
		"a host driver that does not virtualise BOOT_1, or a VMM that changes configuration space",
		"the tests go by configuration space, and leave the window at system memory alone", evidence,
		"%s: BOOT_1 and its configuration space disagree on what it is", v->name);
}

static void check_profile(struct t *t, const struct vgpu *v)
{
	const struct pci_dev *d = v->g->dev;
	const struct nvidia_profile *p = nvidia_profile(d->device, d->subvendor, d->subdevice);

	if (p && p->type)
		test_note(t, "%s: profile %s (nvidia-%u), %u MiB by its subsystem %04x:%04x", v->name,
			  p->name, p->type, p->mbytes, d->subvendor, d->subdevice);
	else
		test_note(t, "%s: subsystem %04x:%04x names no profile that we know", v->name, d->subvendor,
			  d->subdevice);
}

static void dead(struct t *t, const struct vgpu *v)
{
	const struct nvidia *g = v->g;
	char evidence[128];

	EXPECT_MSG(t, false, "%s: BOOT_0: got 0x%08x (%s), expected the chip's identity", v->name,
		   g->id.boot_0, g->silent);
	fmt_snprintf(evidence, sizeof(evidence),
		     "BAR0 at 0x%llx, %llu KiB, BOOT_0 0x%08x; configuration space answers",
		     (unsigned long long)g->dev->bar[0].base, (unsigned long long)(g->dev->bar[0].size / KIB),
		     g->id.boot_0);
	test_finding(
		t, "PLB011",
		"the host's vGPU daemon does not answer for this vGPU, or the card is off its bus (D3cold, "
		"reset)",
		"on the host: systemctl status nvidia-vgpu-mgr; dmesg for NVRM Xid; stop and start the VM",
		evidence, "%s: %s", v->name, g->silent);
}

/*
 * Who it says it is, in three places that need not agree: PCI IDs, BOOT_0 and BOOT_42 (which chip), BOOT_1
 * bits 17:16 (the chip itself, a mediated vGPU, or a virtual function).
 *
 * Disagreement is told, not failed: a consumer card unlocked for vGPU shows a Tesla's ID. [I] Registers
 * that answer with all ones, zero or a PRI error are a GPU that is not there behind its configuration
 * space. Which profile it is, is read from the subsystem ID.
 */
TEST_FULL(vgpu, identify, 0, 30000, "PCI ID, BOOT_0/BOOT_42, BOOT_1 and the profile; disagreement told",
	  NEED_PCI)
{
	check_slot(t);
	if (test_has_failed(t))
		return;
	FOR_EACH_VGPU(t, v) {
		const struct nvidia *g = v->g;
		const struct pci_dev *d = g->dev;
		const char *why;

		if (!vgpu_answers(t, v, &why)) {
			/* No address is vgpu.bars' to judge. */
			if (g->silent && !g->unplaced && !g->gone)
				dead(t, v);
			else
				test_note(t, "%s: %s", v->name, why);
			test_check(t);
			continue;
		}
		EXPECT_MSG(t, g->id.kind != NVIDIA_RESERVED,
			   "%s: BOOT_1: got 0x%08x, bits 17:16 are the reserved 3", v->name, g->id.boot_1);
		test_note(t, "%s: %s, %s %s (BOOT_1 %08x), class %06x rev %02x, %s", v->name,
			  nvidia_kind_name(g->kind),
			  nvidia_arch_name(g->id.arch) ? nvidia_arch_name(g->id.arch) : "?",
			  chip_text(g->id.chip), g->id.boot_1, d->class_code, d->revision,
			  d->cap_pcie ? "PCI Express" : "conventional PCI");
		check_ids(t, v);
		check_kind(t, v);
		check_profile(t, v);
		check_posted(t, v);
		if (!nvidia_arch_name(g->id.arch))
			test_note(t,
				  "%s: a generation that this version does not know: its interrupt is not "
				  "tried",
				  v->name);
	}
}

/* ---- BARs ---- */

static void bar_unassigned(struct t *t, const struct vgpu *v, unsigned bar, const char *what)
{
	const struct pci_bar *b = &v->g->dev->bar[bar];
	char evidence[96];

	EXPECT_MSG(t, false, "%s: BAR%u (%llu KiB) at 0x%llx: %s", v->name, bar,
		   (unsigned long long)(b->size / KIB), (unsigned long long)b->base, what);
	fmt_snprintf(evidence, sizeof(evidence), "BAR%u: base 0x%llx, %llu MiB, %s-bit", bar,
		     (unsigned long long)b->base, (unsigned long long)(b->size / MIB), b->is64 ? "64" : "32");
	test_finding(t, "PLB021",
		     "the firmware had no room for it: too small a window, or one that the CPU's address "
		     "bits do not reach",
		     "cpu: host (more address bits); q35 with OVMF; fewer devices with large BARs", evidence,
		     "%s: BAR%u %s", v->name, bar, what);
}

/* Firmware that knows more address bits than the CPU has puts large BARs where nobody reaches them. */
static bool beyond_cpu(const struct pci_bar *b)
{
	return !b->io && (b->base + b->size - 1) >> cpu_features.phys_bits;
}

static bool in_window(const struct pci_dev *d, const struct pci_bar *b)
{
	uint64_t base, limit;

	if (!d->parent)
		return true;
	for (enum pci_window w = PCI_WINDOW_MEM; w <= PCI_WINDOW_PREF; w++)
		if (pci_window(d->parent, w, &base, &limit) && b->base >= base &&
		    b->base + b->size - 1 <= limit)
			return true;
	return false;
}

static void check_bar(struct t *t, const struct vgpu *v, unsigned bar, const struct nvidia_bar *want)
{
	const struct pci_bar *b = &v->g->dev->bar[bar];
	const char *basis = want->inferred ? " [I]" : "";
	char evidence[96];

	if (!EXPECT_MSG(t, b->size >= want->size && !b->io,
			"%s: BAR%u: got %llu KiB%s, expected %llu KiB of memory%s", v->name, bar,
			(unsigned long long)(b->size / KIB), b->io ? " of I/O" : "",
			(unsigned long long)(want->size / KIB), basis)) {
		fmt_snprintf(evidence, sizeof(evidence), "BAR%u: %llu KiB, expected %llu KiB%s", bar,
			     (unsigned long long)(b->size / KIB), (unsigned long long)(want->size / KIB),
			     basis);
		test_finding(t, "PLB020",
			     "the vGPU was made with another layout than this kind has, or the VMM cut it",
			     "on the host: dmesg for \"BAR …: can't reserve\"; compare with lspci -v of "
			     "another VM",
			     evidence, "%s: BAR%u is too small", v->name, bar);
		return;
	}
	if (want->any_type)
		return;
	if (want->inferred) {
		if (b->is64 != want->is64 || b->prefetchable != want->prefetchable)
			test_note(t, "%s: BAR%u is %s-bit%s; expected %s-bit%s [I]", v->name, bar,
				  b->is64 ? "64" : "32", b->prefetchable ? " prefetchable" : "",
				  want->is64 ? "64" : "32", want->prefetchable ? " prefetchable" : "");
		return;
	}
	EXPECT_MSG(t, b->is64 == want->is64 && b->prefetchable == want->prefetchable,
		   "%s: BAR%u: got %s-bit%s, expected %s-bit%s", v->name, bar, b->is64 ? "64" : "32",
		   b->prefetchable ? " prefetchable" : "", want->is64 ? "64" : "32",
		   want->prefetchable ? " prefetchable" : "");
}

/*
 * The BARs that this kind has: registers in BAR0 (16 MiB), framebuffer in BAR1, the third in BAR3; each
 * of the size and type that the public sources show for it, with an address inside its bridge's window,
 * and BAR0 answering there.
 *
 * Sizes and types are read of V100 and RTX mdevs and of GP10x boards; for other mdevs they are inferred,
 * and only a BAR that is too small fails.
 */
TEST_FULL(vgpu, bars, 0, 30000, "the BARs this kind should have, sizes and types; not all-ones", NEED_PCI)
{
	unsigned shown = 0;
	const char *why = NULL;

	FOR_EACH_VGPU(t, v) {
		const struct nvidia *g = v->g;
		const struct pci_dev *d = g->dev;
		/* One that is silent is judged by what its configuration space alone makes of it. */
		const enum nvidia_kind kind =
			g->silent ? d->cap_pcie ? NVIDIA_REAL : NVIDIA_PARAVIRTUAL : g->kind;
		const unsigned arch = g->silent ? nvidia_chip_of_device(d->device) >> 4 : g->id.arch;

		if (!g->unplaced && !vgpu_answers(t, v, &why))
			continue; /* vgpu.identify */
		shown++;
		for (unsigned bar = 0; bar < PCI_BAR_COUNT; bar++) {
			const struct nvidia_bar *want = nvidia_bar_expected(kind, arch, bar);
			const struct pci_bar *b = &d->bar[bar];

			if (want)
				check_bar(t, v, bar, want);
			if (!b->size)
				continue;
			test_note(t, "%s: BAR%u %s%s%s %llu KiB at 0x%llx", v->name, bar,
				  b->io     ? "I/O"
				  : b->is64 ? "64-bit"
					    : "32-bit",
				  b->prefetchable ? " prefetchable" : "", b->assigned ? "" : " unassigned",
				  (unsigned long long)(b->size / KIB), (unsigned long long)b->base);
			if (b->io)
				continue;
			if (!b->assigned)
				bar_unassigned(t, v, bar, "has no address");
			else if (beyond_cpu(b))
				bar_unassigned(t, v, bar, "lies beyond the address bits of this CPU");
			else if (!in_window(d, b))
				bar_unassigned(t, v, bar, "lies outside its bridge's window");
		}
		if (!g->silent && !g->died && nvidia_access_worst_ns(g) < NVIDIA_STALL)
			EXPECT_MSG(t, nvidia_boot_0(v->g) == g->id.boot_0, "%s: BOOT_0 changed from 0x%08x",
				   v->name, g->id.boot_0);
	}
	if (!shown)
		test_skip(t, "%s", why);
}

/* ---- latencies ---- */

static enum bar_class classify(struct t *t, const struct vgpu *v, const char *page, volatile const void *p,
			       struct bar_latency *l)
{
	char series[64], a[16], b[16], beside[BAR_BESIDE];
	enum bar_class class;

	fmt_snprintf(series, sizeof(series), "dev=" PRIRID " page=%s", RIDARG(v->g->dev->rid), page);
	*l = bar_measure(t, series, p);
	class = bar_classify(l);
	test_note(t, "%s: %s is %s: %s a read (the first %s), %s", v->name, page, bar_class_name(class),
		  vgpu_time_text(l->p50_ns, a), vgpu_time_text(l->first_ns, b), bar_beside_text(l, beside));
	return class;
}

/* In eight places of it: a white picture would be all ones as well, so that this is told, and not judged. */
static void all_ones(struct t *t, const struct vgpu *v, unsigned bar)
{
	const struct pci_bar *b = &v->g->dev->bar[bar];
	char evidence[96];

	for (unsigned i = 0; i < 8; i++) {
		volatile void *p = mmio_map(gpa(b->base + align_down(b->size / 8 * i, PAGE_SIZE)), PAGE_SIZE);

		if (!p || mmio_r32((volatile uint8_t *)p + 128) != ~0u)
			return;
	}
	fmt_snprintf(evidence, sizeof(evidence), "BAR%u at 0x%llx, %llu MiB: 0xffffffff in 8 places of 8",
		     bar, (unsigned long long)b->base, (unsigned long long)(b->size / MIB));
	test_finding(t, "PLB038", "nothing is mapped behind it: the host's daemon or the VMM refused it",
		     "on the host: dmesg for \"BAR …: can't reserve\", QEMU's log for vfio mmap failures",
		     evidence, "%s: BAR%u reads all ones everywhere", v->name, bar);
}

static void stalls(struct t *t, const struct vgpu *v, const struct bar_latency *l)
{
	char evidence[96], a[16], b[16];

	fmt_snprintf(evidence, sizeof(evidence), "BOOT_0: %s a read, %s the longest access so far",
		     vgpu_time_text(l->p50_ns, a), vgpu_time_text(nvidia_access_worst_ns(v->g), b));
	test_finding(t, "PLB026",
		     "the host's vGPU daemon answers each access late: it is stuck, swapped out, or out of "
		     "CPU time",
		     "on the host: top for nvidia-vgpu-mgr, journalctl -u nvidia-vgpu-mgr; a driver in this "
		     "VM will time out",
		     evidence, "%s: register accesses stall", v->name);
}

/*
 * Each BAR of the GPU, direct or trapped, with what a read of it costs.
 *
 * A mediated vGPU's BAR0 and BAR3 are answered by a daemon on the host, its BAR1 is memory that is mapped at
 * the first touch; of a virtual function or a card passed through all are direct. No class fails: the
 * figures are what a user wants to know, told against a trap that is certain. What fails is a BOOT_0 that
 * changes while it is read. BAR1 and BAR3 are read on a paravirtual vGPU only (a page that nobody set up
 * is a dummy there); on a chip an access that nothing backs may be logged as its fault, so that takes
 * allow=disruptive.
 */
TEST_FULL(vgpu, bar_class, 0, 90000, "each BAR direct or trapped, with latencies", NEED_PCI)
{
	const char *why = NULL;
	unsigned shown = 0;

	FOR_EACH_VGPU(t, v) {
		struct nvidia *g = v->g;
		struct bar_latency l;

		if (!vgpu_answers(t, v, &why))
			continue;
		if (!shown++)
			bar_floor_measure(t);
		classify(t, v, "bar0", g->regs, &l);
		if (l.value == ~0u && !vgpu_still_answers(t, v))
			continue;
		EXPECT_MSG(t, l.value == g->id.boot_0 && !l.changed,
			   "%s: BOOT_0: got 0x%08x, %u of %u reads differ from it, expected 0x%08x always",
			   v->name, l.value, l.changed, l.n, g->id.boot_0);
		if (l.p50_ns >= NVIDIA_SLOW || l.max_ns >= NVIDIA_STALL)
			stalls(t, v, &l);
		if (g->kind != NVIDIA_PARAVIRTUAL && !cmdline.disruptive) {
			test_note(t, "%s: BAR1 and BAR3 are not read: allow=disruptive", v->name);
			continue;
		}
		bool answers = vgpu_still_answers(t, v);

		for (unsigned bar = 1; answers && bar <= 3; bar += 2) {
			const struct pci_bar *b = &g->dev->bar[bar];
			volatile void *p;

			if (!b->size || b->io || !b->assigned || beyond_cpu(b))
				continue;
			p = mmio_map(gpa(b->base), PAGE_SIZE);
			if (!p)
				continue;
			classify(t, v, bar == 1 ? "bar1" : "bar3", p, &l);
			answers = vgpu_still_answers(t, v);
			if (answers && l.value == ~0u)
				all_ones(t, v, bar);
		}
	}
	if (!shown && !test_has_failed(t))
		test_skip(t, "%s", why);
}

/* ---- the GPU's clock ---- */
#define READS      64
#define RATE_SPAN  MS(250) /* as long as it takes to be sure, and no longer than … */
#define RATE_LIMIT SEC(3)
#define RATE_PPM   10000 /* 1 % */

static void timer_finding(struct t *t, const struct vgpu *v, const char *id, const char *text,
			  const char *evidence)
{
	test_finding(
		t, id,
		"the host's daemon computes this clock, and does it wrong; or nobody set up the card's own",
		"compare the host driver's version with the guest's; a driver's timeouts go by this clock",
		evidence, "%s: %s", v->name, text);
}

static bool read_timer(struct t *t, struct vgpu *v, struct nvidia_time *out)
{
	if (nvidia_ptimer(v->g, out))
		return true;
	if (!vgpu_still_answers(t, v))
		return false;
	EXPECT_MSG(t, false, "%s: PTIMER: its two words never fitted together, or a PRI error: 0x%llx", v->name,
		   (unsigned long long)out->ns);
	return false;
}

/* Successive reads: later, or the same within its 32 ns. */
static bool monotonic(struct t *t, struct vgpu *v, bool *moved)
{
	struct nvidia_time last, now;
	char evidence[96];

	*moved = false;
	if (!read_timer(t, v, &last))
		return false;
	for (unsigned i = 0; i < READS; i++, last = now) {
		if (!read_timer(t, v, &now))
			return false;
		*moved |= now.ns != last.ns;
		if (EXPECT_MSG(t, now.ns >= last.ns, "%s: PTIMER went from %llu to %llu ns", v->name,
			       (unsigned long long)last.ns, (unsigned long long)now.ns))
			continue;
		fmt_snprintf(evidence, sizeof(evidence), "%llu ns, then %llu ns", (unsigned long long)last.ns,
			     (unsigned long long)now.ns);
		timer_finding(t, v, "PLB024", "its clock goes backwards", evidence);
		return false;
	}
	return true;
}

/* ns of a span by the TSC, the reads' own length counted in: the least and the most it can have been. */
struct span {
	uint64_t gpu, least, most;
};

static struct span between(const struct nvidia_time *a, const struct nvidia_time *b)
{
	return (struct span){
		.gpu = b->ns - a->ns,
		.least = b->tsc_before > a->tsc_after ? tsc_to_ns(b->tsc_before - a->tsc_after) : 0,
		.most = tsc_to_ns(b->tsc_after - a->tsc_before),
	};
}

/* Outside what the span can have been, by more than 1 % and its resolution. */
static bool wrong_rate(const struct span *s)
{
	return s->gpu + 64 < s->least - s->least / (1000000 / RATE_PPM) ||
	       s->gpu > s->most + s->most / (1000000 / RATE_PPM) + 64;
}

static void rate(struct t *t, struct vgpu *v)
{
	const struct deadline end = deadline_in(RATE_LIMIT);
	struct nvidia_time first, now;
	unsigned wrong = 0, spans = 0;
	struct span s = {0};
	char evidence[128];

	if (!read_timer(t, v, &first))
		return;
	/* Spans that grow until the reads' own length is less than a hundredth of them. */
	for (uint64_t ns = MS(10); spans < 3 || (s.most - s.least > s.most / 100 && !deadline_passed(end));
	     ns *= 2) {
		struct nvidia_time from;

		if (!read_timer(t, v, &from))
			return;
		delay(MIN(ns, RATE_SPAN));
		if (!read_timer(t, v, &now))
			return;
		s = between(&from, &now);
		wrong += wrong_rate(&s);
		spans++;
	}
	s = between(&first, &now);
	wrong += wrong_rate(&s);
	/* In thousandths: no figure here is worth more digits. */
	test_metric(t, "dev=" PRIRID " what=rate unit=count n=%u value=%llu", RIDARG(v->g->dev->rid), spans,
		    (unsigned long long)(s.gpu * 1000 / MAX((s.least + s.most) / 2, 1ull)));
	if (EXPECT_MSG(t, !wrong, "%s: PTIMER: got %llu ns in a time between %llu and %llu ns by the TSC",
		       v->name, (unsigned long long)s.gpu, (unsigned long long)s.least,
		       (unsigned long long)s.most))
		return;
	fmt_snprintf(evidence, sizeof(evidence),
		     "%llu ns by the GPU, %llu to %llu ns by the TSC, %u of %u spans",
		     (unsigned long long)s.gpu, (unsigned long long)s.least, (unsigned long long)s.most,
		     wrong, spans + 1);
	timer_finding(t, v, "PLB025", "its clock runs at the wrong rate", evidence);
}

/*
 * PTIMER counts nanoseconds: never backwards, and as fast as the TSC says that time passes, within 1 % of
 * what the reads themselves leave open (a trapped read may take long; that is not the clock's fault).
 *
 * Read at 0x9400 and 0x9410; from Turing on at 0x30080 and 0x30084 of the virtual function's registers, which
 * are at 0xb80000 of a whole GPU: where NVIDIA's own driver reads it.
 */
TEST_FULL(vgpu, ptimer, 0, 60000, "monotonic, and at a steady rate against the TSC", NEED_PCI)
{
	const char *why = NULL;
	unsigned shown = 0;

	FOR_EACH_VGPU(t, v) {
		char evidence[64];
		bool moved;

		if (!vgpu_answers(t, v, &why) || !vgpu_can_afford(v, 3 * READS + 40, &why))
			continue;
		why = v->g->unposted ? "the GPU was never started: vgpu.identify"
				     : "its clock answers 0xbadf…, or lies behind BAR0's end";
		if (v->g->no_ptimer)
			continue;
		shown++;
		if (!monotonic(t, v, &moved))
			continue;
		if (!EXPECT_MSG(t, moved, "%s: PTIMER: %u reads gave the same value", v->name, READS)) {
			fmt_snprintf(evidence, sizeof(evidence), "%u reads, one value", READS);
			timer_finding(t, v, "PLB023", "its clock stands still", evidence);
			continue;
		}
		rate(t, v);
		vgpu_still_answers(t, v);
	}
	if (!shown && !test_has_failed(t))
		test_skip(t, "%s", why);
}
