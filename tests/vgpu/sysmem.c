/* SPDX-License-Identifier: MIT */

#include "tests/vgpu/vgpu_test.h"

#include "kernel/cmdline.h"
#include "kernel/lib/fmt.h"
#include "tests/iommu/iommu_test.h"

#define PAGES  3
#define MIDDLE 1 /* the page that the window shows; its neighbours must not change */
#define WORDS  ((unsigned)(PAGE_SIZE / 4))
#define STEP   4 /* every fourth word: enough to name a wrong page or offset */
#define TIMED  64

static uint32_t word(unsigned page, unsigned i)
{
	return (page * 0x01000193u + i) * 0x9e3779b1u ^ 0x5bd1e995u;
}

static void fill(struct dma_target *g)
{
	volatile uint32_t *w = (volatile uint32_t *)g->va;

	for (unsigned i = 0; i < PAGES * WORDS; i++)
		w[i] = word(i / WORDS, i % WORDS);
}

/* Where a word that does not belong there comes from. */
static void name_word(uint32_t v, char *buf, size_t size)
{
	for (unsigned p = 0; p < PAGES; p++)
		for (unsigned i = 0; i < WORDS; i++)
			if (word(p, i) == v) {
				fmt_snprintf(buf, size, "that is offset 0x%x of the page %s", 4 * i,
					     p < MIDDLE   ? "before"
					     : p > MIDDLE ? "after"
							  : "itself");
				return;
			}
	fmt_snprintf(buf, size, "%s", v == ~0u ? "no answer" : "of none of these pages");
}

static void wrong_page(struct t *t, const struct vgpu *v, const char *what, const char *evidence)
{
	test_finding(t, "PLB028",
		     "the IOMMU of the host or of the VMM maps this address to another page, or holds an old "
		     "mapping",
		     "do not use this VM with a driver: the GPU reads or writes memory of others; host: "
		     "intel_iommu, dmesg DMAR",
		     evidence, "%s: its DMA %s the wrong memory", v->name, what);
}

static void no_dma(struct t *t, const struct vgpu *v, const char *evidence)
{
	test_finding(t, "PLB041", "the IOMMU of the host blocks it, or Bus Master does not reach the card",
		     "host: dmesg for DMAR/IOMMU faults of this card; with viommu: caching-mode=on", evidence,
		     "%s: its DMA reaches no memory", v->name);
}

static bool reads(struct t *t, struct vgpu *v, struct dma_target *g, volatile uint8_t *win, const char *mode)
{
	static uint64_t ticks[TIMED];
	char where[64], evidence[160], series[64];
	unsigned n = 0;

	for (unsigned i = 0; i < WORDS; i += STEP) {
		const uint32_t want = word(MIDDLE, i);
		const uint64_t t0 = tsc_read();
		const uint32_t got = mmio_r32(win + 4 * i);
		const uint64_t dt = tsc_read() - t0;

		if (n < TIMED)
			ticks[n++] = dt;
		if (got == want) {
			test_check(t);
			continue;
		}
		name_word(got, where, sizeof(where));
		EXPECT_MSG(t, false, "%s, %s: read of IOVA 0x%llx: got 0x%08x (%s), expected 0x%08x", v->name,
			   mode, (unsigned long long)(g->iova.v + PAGE_SIZE * MIDDLE + 4 * i), got, where,
			   want);
		fmt_snprintf(evidence, sizeof(evidence), "%s, IOVA 0x%llx read 0x%08x instead of 0x%08x: %s",
			     mode, (unsigned long long)(g->iova.v + PAGE_SIZE * MIDDLE + 4 * i), got, want,
			     where);
		if (!vgpu_still_answers(t, v))
			return false;
		if (got == ~0u)
			no_dma(t, v, evidence);
		else
			wrong_page(t, v, "reads", evidence);
		return false;
	}
	fmt_snprintf(series, sizeof(series), "dev=" PRIRID " what=read mode=%s size=4",
		     RIDARG(v->g->dev->rid), mode);
	test_metric_ticks(t, series, ticks, n);
	return true;
}

static bool writes(struct t *t, struct vgpu *v, struct dma_target *g, volatile uint8_t *win, const char *mode)
{
	volatile uint32_t *w = (volatile uint32_t *)g->va;
	unsigned wrong = 0, first = 0;
	char evidence[160];

	for (unsigned i = 0; i < WORDS; i += STEP)
		mmio_w32(win + 4 * i, ~word(MIDDLE, i));
	(void)mmio_r32(win); /* behind the writes */
	for (unsigned i = 0; i < PAGES * WORDS; i++) {
		const uint32_t was = word(i / WORDS, i % WORDS);
		const bool ours = i / WORDS == MIDDLE && i % STEP == 0;

		if (w[i] == (ours ? ~was : was))
			continue;
		first = wrong++ ? first : i;
	}
	if (EXPECT_MSG(
		    t, !wrong,
		    "%s, %s: %u words are not as written, the first at %+d from the page's start: got 0x%08x",
		    v->name, mode, wrong, (int)(4 * first) - (int)(MIDDLE * PAGE_SIZE), w[first]))
		return true;
	fmt_snprintf(evidence, sizeof(evidence),
		     "%s, %u words of three pages differ, the first at byte %+d of the target page", mode,
		     wrong, (int)(4 * first) - (int)(MIDDLE * PAGE_SIZE));
	if (vgpu_still_answers(t, v))
		wrong_page(t, v, "writes", evidence);
	return false;
}

/* An address without a mapping: whatever it reads, it is not that memory, and a write leaves it alone. */
static void blocked(struct t *t, struct vgpu *v, struct dma_space *s)
{
	struct dma_target *g = dma_target_alloc(s, PAGES * PAGE_SIZE);
	volatile uint8_t *win;
	volatile uint32_t *w = (volatile uint32_t *)g->va;
	unsigned changed = 0;

	fill(g);
	win = nvidia_window_open(v->g, iova(g->iova.v + MIDDLE * PAGE_SIZE));
	EXPECT_MSG(t, mmio_r32(win) != word(MIDDLE, 0),
		   "%s: read of IOVA 0x%llx, which is not mapped: got its memory", v->name,
		   (unsigned long long)g->iova.v);
	mmio_w32(win, 0xdeadbeef);
	(void)mmio_r32(win);
	for (unsigned i = 0; i < PAGES * WORDS; i++)
		changed += w[i] != word(i / WORDS, i % WORDS);
	EXPECT_MSG(t, !changed, "%s: write to IOVA 0x%llx, which is not mapped: %u words changed", v->name,
		   (unsigned long long)g->iova.v, changed);
}

static void through_window(struct t *t, struct vgpu *v, enum dma_mode mode)
{
	struct nvidia *g = v->g;
	const char *why;
	struct dma_space *s = dma_space_open(t, g->ex, mode, &why);
	struct dma_target *target;
	volatile uint8_t *win;

	if (!s) {
		test_note(t, "%s: not %s: %s", v->name, dma_mode_name(mode), why);
		return;
	}
	target = dma_target_map(s, PAGES * PAGE_SIZE, IOMMU_RW);
	fill(target);
	pci_set_command(g->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	win = nvidia_window_open(g, iova(target->iova.v + MIDDLE * PAGE_SIZE));
	if (!win)
		test_error(t, "%s: no window to 0x%llx", v->name, (unsigned long long)target->iova.v);
	if (reads(t, v, target, win, dma_mode_name(mode)) && writes(t, v, target, win, dma_mode_name(mode)) &&
	    mode == DMA_TRANSLATED)
		blocked(t, v, s);
	nvidia_window_close(g);
	dma_space_close(s);
}

/* Why not with this card, or NULL. */
static const char *cannot(struct t *t, struct vgpu *v)
{
	const unsigned accesses = 2 * (2 * WORDS / STEP + 16); /* reads, writes, and the rest; off and translated */
	const char *why = NULL;

	if (!vgpu_answers(t, v, &why))
		return why ? why : "it has died";
	if (v->g->kind != NVIDIA_REAL || v->g->id.kind != NVIDIA_REAL)
		return "a vGPU has no DMA that a guest without a driver could start [I]: dma.* time another device";
	if (v->g->unposted)
		return "the GPU was never started: vgpu.identify";
	if (!nvidia_has_window(v->g))
		return "this generation's window shows video memory only, or BAR0 does not reach it";
	return vgpu_can_afford(v, accesses, &why) ? NULL : why;
}

/*
 * The GPU's 1 MiB window at 0x700000, turned to system memory (PBUS 0x1700, target 2): what the CPU reads and
 * writes there the GPU reads and writes in guest memory over the bus, through the IOMMU when it is on.
 * The one DMA that needs no firmware, no channel and no driver.
 *
 * Read of GM107 to GA100 driver code; on a GP10x that no VBIOS has started it is inferred [I]. A mediated
 * vGPU offers nothing of the kind [I], Hopper's window shows video memory only. The register is put
 * back. It may upset a GPU that somebody uses: allow=disruptive.
 */
TEST_FULL(vgpu, sysmem_window, 0, 60000,
	  "the window at system memory reads and writes guest RAM, through the IOMMU when on", NEED_PCI)
{
	const char *reason = NULL, *why;
	unsigned shown = 0;

	FOR_EACH_VGPU(t, v) {
		if (!cmdline.disruptive)
			test_skip(t, "runs only with allow=disruptive");
		why = cannot(t, v);
		if (why) {
			/* Of several the GPU's own: that a vGPU has none is no news. */
			reason = reason && v->g->kind != NVIDIA_REAL ? reason : why;
			continue;
		}
		shown++;
		through_window(t, v, DMA_OFF);
		if (iommu_of(v->g->dev))
			through_window(t, v, DMA_TRANSLATED);
		vgpu_still_answers(t, v);
	}
	if (!shown && !test_has_failed(t))
		test_skip(t, "%s", reason);
}
