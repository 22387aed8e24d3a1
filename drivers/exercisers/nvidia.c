/* SPDX-License-Identifier: MIT */

#include "drivers/exercisers/nvidia.h"

#include "drivers/exercisers/nvidia_regs.h"
#include "drivers/pci/regs.h"
#include "kernel/cpu/cpu.h"
#include "kernel/irq/irq.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

/*
 * NVIDIA GPUs as interrupt sources: physical, mediated (paravirtual vGPU) and SR-IOV virtual functions.
 * Their messages are the host's in a VM: vfio takes the GPU's interrupt as an eventfd. Every access to a
 * mediated vGPU's BAR0 waits for a daemon on the host, for seconds if it is stuck: all are timed, and a
 * GPU that answers so slowly is left to the tests that are about that.
 */

#define PENDING_DEADLINE MS(5)
#define FIRST_MESSAGE    SEC(1)   /* an eventfd goes through QEMU's main loop, on a busy host */
#define NEXT_MESSAGE     MS(100)
#define DOUBLE_WINDOW    MS(1)
#define TRIAL_MESSAGES   6

extern const struct exerciser_ops nvidia_ops;

/* ---- registers ---- */

static void account(struct nvidia *g, uint64_t t0)
{
	const uint64_t ticks = tsc_read() - t0;

	g->accesses++;
	g->ticks += ticks;
	g->worst_ticks = MAX(g->worst_ticks, ticks);
}

static uint32_t raw_read(struct nvidia *g, uint32_t off)
{
	const uint64_t t0 = tsc_read();
	const uint32_t v = mmio_r32(g->regs + off);

	account(g, t0);
	return v;
}

static void died(struct nvidia *g)
{
	g->died = true;
	g->ex->broken = "it stopped answering: BAR0 reads all ones";
}

bool nvidia_alive(struct nvidia *g)
{
	if (!g->died && raw_read(g, NV_PMC_BOOT_0) == ~0u)
		died(g);
	return !g->died;
}

bool nvidia_config_alive(struct nvidia *g)
{
	g->gone = g->gone || pci_r32(g->dev->rid, PCI_VENDOR_ID) == PCI_ABSENT;
	return !g->gone;
}

static uint32_t nv_r32(void *arg, uint32_t off)
{
	struct nvidia *g = arg;
	uint32_t v;

	if (g->died || off + 4 > g->regs_size)
		return ~0u;
	v = raw_read(g, off);
	if (v == ~0u && off != NV_PMC_BOOT_0)
		(void)nvidia_alive(g);
	return v;
}

static bool can_write(const struct nvidia *g, uint32_t off, unsigned size)
{
	return !g->died && off + size <= g->regs_size;
}

/* A write says nothing of whether it was heard: one that took so long is followed by a look. */
static void wrote(struct nvidia *g, uint64_t t0)
{
	account(g, t0);
	if (tsc_to_ns(tsc_read() - t0) >= NVIDIA_STALL)
		(void)nvidia_alive(g);
}

static void nv_w32(void *arg, uint32_t off, uint32_t v)
{
	struct nvidia *g = arg;
	const uint64_t t0 = tsc_read();

	if (!can_write(g, off, 4))
		return;
	mmio_w32(g->regs + off, v);
	wrote(g, t0);
}

static void nv_w8(void *arg, uint32_t off, uint8_t v)
{
	struct nvidia *g = arg;
	const uint64_t t0 = tsc_read();

	if (!can_write(g, off, 1))
		return;
	mmio_w8(g->regs + off, v);
	wrote(g, t0);
}

uint64_t nvidia_access_ns(const struct nvidia *g)
{
	return g->accesses ? tsc_to_ns(g->ticks) / g->accesses : 0;
}

uint64_t nvidia_access_worst_ns(const struct nvidia *g)
{
	return tsc_to_ns(g->worst_ticks);
}

uint32_t nvidia_boot_0(struct nvidia *g)
{
	return nv_r32(g, NV_PMC_BOOT_0);
}

/*
 * TIME_1 before and after TIME_0: the same, or the low word has just wrapped. The clock itself passes a PRI error's
 * value for 65 us of every 4.3 s: an error is what is still there when it is read again. False: out->ns is what was read.
 */
bool nvidia_ptimer(struct nvidia *g, struct nvidia_time *out)
{
	uint32_t high, low, again;

	for (unsigned i = 0; i < 3; i++) {
		high = nv_r32(g, g->clock.high);
		out->tsc_before = tsc_read();
		low = nv_r32(g, g->clock.low);
		out->tsc_after = tsc_read();
		again = nv_r32(g, g->clock.high);
		out->ns = (uint64_t)high << 32 | low;
		if (g->died || high == ~0u || low == ~0u)
			return false;
		if (nvidia_pri_error(high) || nvidia_pri_error(low))
			continue;
		out->ns = (uint64_t)(high & NV_PTIMER_TIME_1_NSEC) << 32 | (low & NV_PTIMER_TIME_0_NSEC);
		if (SABOTAGE(vgpu_clock_units))
			out->ns >>= 5;
		if (high == again)
			return true;
	}
	return false;
}

bool nvidia_has_window(const struct nvidia *g)
{
	const unsigned arch = g->id.arch;

	if (g->id.kind != NVIDIA_REAL || g->kind != NVIDIA_REAL || !nvidia_arch_name(arch))
		return false;
	if (arch > NVIDIA_AMPERE || (arch == NVIDIA_AMPERE && g->id.chip != NVIDIA_GA100))
		return false;
	return g->regs_size >= NV_PRAMIN + NV_PRAMIN_SIZE;
}

volatile uint8_t *nvidia_window_open(struct nvidia *g, iova_t addr)
{
	if (!nvidia_has_window(g) || addr.v >> 40)
		return NULL;
	if (!g->window_open)
		g->window = nv_r32(g, NV_PBUS_BAR0_WINDOW);
	g->window_open = true;
	nv_w32(g, NV_PBUS_BAR0_WINDOW,
	       FIELD_PREP(NV_PBUS_BAR0_WINDOW_BASE, (uint32_t)(addr.v >> (SABOTAGE(vgpu_window_shift) ? 12 : 16))) |
		       FIELD_PREP(NV_PBUS_BAR0_WINDOW_TARGET, NV_PBUS_TARGET_SYS_COH));
	/* Read back: what follows must not overtake it. */
	(void)nv_r32(g, NV_PBUS_BAR0_WINDOW);
	return g->regs + NV_PRAMIN + (addr.v & 0xffff);
}

void nvidia_window_close(struct nvidia *g)
{
	if (g->window_open)
		nv_w32(g, NV_PBUS_BAR0_WINDOW, g->window);
	g->window_open = false;
}

/* ---- messages ---- */

static void message_enable(struct exerciser *ex, bool on)
{
	if (ex->irq_is_msix)
		msix_enable(&ex->msix, on);
	else if (ex->msi.dev)
		msi_enable(&ex->msi, on);
}

static int message_program(struct exerciser *ex, const struct msi_msg *msg)
{
	if (!ex->irq_is_msix)
		return ((struct nvidia *)ex->priv)->msi_stuck ? -EIO : msi_program(&ex->msi, msg, 1);
	msix_mask(&ex->msix, 0, true);
	(void)msix_program(&ex->msix, 0, msg);
	msix_mask(&ex->msix, 0, false);
	return 0;
}

/*
 * Address, data and Enable hold what is written to them: PCI 3.0, 6.8.1. Address and data are asked with
 * MSI off: a message to where they happen to point would be a write to somebody's memory.
 */
bool nvidia_msi_holds(struct nvidia *g)
{
	const struct irq_route nobody = {.dest = cpus[0]->apic_id, .vector = VEC_SPURIOUS};
	struct msi_msg tries[] = {{0x12345670, 0x55aa}, {0x0edcba98, 0xaa55}, {0}};
	struct msi *m = &g->ex->msi;

	if (!m->dev || g->msi_stuck)
		return !g->msi_stuck;
	(void)msg_compat(&nobody, &tries[2], NULL);
	for (size_t i = 0; !g->msi_stuck && i < ARRAY_SIZE(tries); i++) {
		g->wrote = tries[i];
		g->wrote_on = i == 2;
		(void)msi_program(m, &tries[i], 1);
		msi_read(m, &g->got, &g->got_on);
		if (g->wrote_on && g->got.addr == g->wrote.addr) {
			msi_enable(m, true);
			msi_read(m, &g->got, &g->got_on);
			msi_enable(m, false);
		}
		g->msi_stuck = g->got.addr != g->wrote.addr || g->got.data != g->wrote.data ||
			       g->got_on != g->wrote_on;
	}
	return !g->msi_stuck;
}

static void nvidia_quiesce(struct exerciser *ex)
{
	struct nvidia *g = ex->priv;

	if (g->regs) {
		nvidia_window_close(g);
		if (g->ladder.chosen)
			nvidia_disarm(&g->ladder);
	}
	ex->ready = false;
	if ((g->died || g->silent) && !nvidia_config_alive(g))
		return;
	message_enable(ex, false);
	pci_set_command(ex->dev, PCI_COMMAND_INTX_OFF, PCI_COMMAND_MASTER);
}

static int nvidia_recover(struct exerciser *ex)
{
	struct nvidia *g = ex->priv;

	if (!g->ladder.chosen || !nvidia_alive(g))
		return -EIO;
	pci_set_command(ex->dev, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	nvidia_disarm(&g->ladder);
	nvidia_arm(&g->ladder);
	return g->died ? -EIO : 0;
}

static int nvidia_irq_raise(struct exerciser *ex, unsigned index)
{
	struct nvidia *g = ex->priv;
	int r;

	if (index >= ex->irq_count)
		return -EINVAL;
	r = exerciser_start(ex);
	if (r < 0)
		return r;
	r = nvidia_trigger(&g->ladder);
	for (unsigned i = 0; SABOTAGE(vgpu_crosstalk) && i < exerciser_count; i++)
		if (exercisers[i].ops == &nvidia_ops && exercisers[i].ready && &exercisers[i] != ex)
			(void)nvidia_trigger(&((struct nvidia *)exercisers[i].priv)->ladder);
	return g->died ? -EIO : r;
}

static int nvidia_irq_ack(struct exerciser *ex, unsigned index)
{
	struct nvidia *g = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	nvidia_clear(&g->ladder);
	return 0;
}

static int nvidia_irq_pending(struct exerciser *ex, unsigned index)
{
	struct nvidia *g = ex->priv;

	if (index >= ex->irq_count)
		return -EINVAL;
	return nvidia_pending(&g->ladder) == NVIDIA_AT_TOP;
}

static void trial_one(struct nvidia *g, struct irq_watch *w, int vector)
{
	struct nvidia_trial *tr = &g->trial;
	struct irq_stray stray;
	uint32_t came;

	irq_watch_restart(w);
	if (nvidia_trigger(&g->ladder) < 0)
		return;
	tr->raised++;
	(void)WAIT_FOR(irq_watch_count(w, 0, vector), tr->raised > 1 ? NEXT_MESSAGE : FIRST_MESSAGE);
	tr->pending += nvidia_pending(&g->ladder) == NVIDIA_AT_TOP;
	nvidia_clear(&g->ladder);
	delay(DOUBLE_WINDOW);
	came = irq_watch_count(w, 0, vector);
	tr->arrived += came != 0;
	tr->extra += came ? came - 1 : 0;
	if (!came && !tr->first_lost)
		tr->first_lost = tr->raised;
	tr->elsewhere += !came && irq_watch_stray(w, NULL, NULL, &stray);
}

/*
 * A few messages to this CPU before any test: the first one is the only one that some hosts ever deliver,
 * and a test of something else must not use it up unseen.
 */
static void trial(struct nvidia *g)
{
	struct exerciser *ex = g->ex;
	struct irq_route route = {.dest = cpus[0]->apic_id};
	struct irq_watch w;
	struct msi_msg msg;
	const int vector = irq_vector_alloc();

	if (vector < 0)
		return;
	route.vector = (uint8_t)vector;
	if (irq_watch_start(&w)) {
		if (msg_compat(&route, &msg, NULL) == 0 && message_program(ex, &msg) == 0 &&
		    nvidia_recover(ex) == 0) {
			message_enable(ex, true);
			for (unsigned i = 0; i < TRIAL_MESSAGES && !g->died; i++)
				trial_one(g, &w, vector);
		}
		nvidia_quiesce(ex);
		irq_watch_end(&w);
	}
	irq_vector_free(vector);
}

/* ---- open ---- */

static void open_messages(struct exerciser *ex)
{
	ex->irq_count = 1;
	if (msi_open(ex->dev, &ex->msi) == 0) {
		ex->caps &= ~(uint32_t)EX_MSIX;
	} else {
		ex->msi.dev = NULL;
		ex->caps &= ~(uint32_t)EX_MSI;
		ex->irq_is_msix = msix_open(ex->dev, &ex->msix) == 0;
		if (!ex->irq_is_msix) {
			ex->msix.dev = NULL;
			ex->caps &= ~(uint32_t)EX_MSIX;
		}
	}
	if (!ex->dev->int_pin)
		ex->caps &= ~(uint32_t)EX_INTX;
}

static void withhold(struct exerciser *ex, const char *why)
{
	ex->caps &= ~(uint32_t)(EX_IRQ | EX_MSI | EX_MSIX | EX_INTX | EX_IRQ_COUNTED);
	ex->note = why;
}

static void find_trigger(struct nvidia *g)
{
	struct exerciser *ex = g->ex;

	if (g->ladder.plan.reach > g->regs_size) {
		withhold(ex, "BAR0 is too small for the registers that raise its interrupt");
		return;
	}
	if (nvidia_access_worst_ns(g) >= NVIDIA_STALL) {
		withhold(ex, "register accesses stall for seconds: vgpu.bar_class says how long");
		return;
	}
	g->ladder_tried = true;
	if (nvidia_choose(&g->ladder, PENDING_DEADLINE) < 0) {
		withhold(ex, g->died ? ex->broken : "none of its triggers is honoured: vgpu.irq says more");
		return;
	}
	if (nvidia_access_ns(g) >= NVIDIA_SLOW) {
		withhold(ex, "register accesses are slow: only the vgpu tests use it");
		return;
	}
	if (!(ex->caps & (EX_MSI | EX_MSIX)))
		return;
	if (g->msi_stuck) {
		withhold(ex, "its MSI registers do not hold what is written: vgpu.irq says more");
		return;
	}
	trial(g);
	if (!g->trial.raised || g->trial.arrived != g->trial.raised || g->trial.extra || g->trial.elsewhere)
		withhold(ex, "its messages at start-up were not right: vgpu.irq and vgpu.msi_rearm say how");
}

static int silent(struct nvidia *g, const char *why)
{
	g->silent = g->ex->broken = why;
	return -ENODEV;
}

static int nvidia_open(struct exerciser *ex)
{
	const struct pci_bar *bar = &ex->dev->bar[0];
	struct nvidia *g = ex->priv;
	uint32_t boot_0, boot_1, boot_42 = 0;

	g->ex = ex;
	g->dev = ex->dev;
	ex->dma_mask = BIT64(40) - 1; /* the window's */
	ex->bars_private = true;
	open_messages(ex);
	if (!bar->size || bar->io)
		return silent(g, "it has no BAR0 of memory");
	g->unplaced = !bar->assigned || (bar->base + bar->size - 1) >> cpu_features.phys_bits;
	if (g->unplaced)
		return silent(g, bar->assigned ? "BAR0 lies beyond the address bits of this CPU"
					       : "BAR0 has no address");
	g->regs_size = bar->size;
	g->regs = bar->size >= PAGE_SIZE ? pci_bar_map(ex->dev, 0) : NULL;
	if (!g->regs)
		return silent(g, "BAR0 cannot be mapped");
	boot_0 = raw_read(g, NV_PMC_BOOT_0);
	if (nvidia_dead_answer(boot_0)) {
		g->id.boot_0 = boot_0;
		return silent(g, nvidia_dead_answer(boot_0));
	}
	boot_1 = raw_read(g, NV_PMC_BOOT_1);
	if (nvidia_access_worst_ns(g) < NVIDIA_STALL)
		boot_42 = nv_r32(g, NV_PMC_BOOT_42);
	g->id = nvidia_identify(boot_0, boot_1, boot_42);
	g->ladder.io = (struct nvidia_io){nv_r32, nv_w32, nv_w8, g};
	g->kind = nvidia_believe(g->id.kind, &(struct nvidia_shape){
		.device = ex->dev->device, .subvendor = ex->dev->subvendor, .subdevice = ex->dev->subdevice,
		.pcie = ex->dev->cap_pcie, .msi = ex->dev->cap_msi, .msix = ex->dev->cap_msix,
		.pin = ex->dev->int_pin});
	g->clock = nvidia_clock(g->kind, g->id.arch);
	if (g->clock.high + 4 > g->regs_size)
		g->no_ptimer = true;
	else if (nvidia_access_worst_ns(g) < NVIDIA_STALL)
		g->no_ptimer = nvidia_pri_error(nv_r32(g, g->clock.low));
	g->unposted = g->no_ptimer && g->kind != NVIDIA_VF && g->clock.high < g->regs_size;
	g->ladder.plan = nvidia_plan(g->kind, g->id.arch);
	/* Under a hypervisor its message is an eventfd of the host's, and no write of its own. */
	ex->irq_by_host = cpu_features.accel != ACCEL_BARE;
	pci_set_command(ex->dev, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF, 0);
	(void)nvidia_msi_holds(g);
	find_trigger(g);
	return 0;
}

const struct exerciser_ops nvidia_ops = {
	.name = "nvidia",
	.match = (const struct pci_match[]){{.vendor = 0x10de, .device = 0xffff, .class_code = 0x030000,
					     .class_mask = 0xff0000}, {.vendor = 0}},
	.caps = EX_IRQ | EX_MSI | EX_MSIX | EX_INTX | EX_IRQ_COUNTED,
	.priv_size = sizeof(struct nvidia),
	.open = nvidia_open,
	.quiesce = nvidia_quiesce,
	.recover = nvidia_recover,
	.irq_raise = nvidia_irq_raise,
	.irq_ack = nvidia_irq_ack,
	.irq_pending = nvidia_irq_pending,
};

bool nvidia_is_gpu(const struct pci_dev *d)
{
	return pci_matches(d, nvidia_ops.match);
}

struct nvidia *nvidia_of(const struct pci_dev *d)
{
	struct exerciser *ex = d->driver;

	for (unsigned i = 0; ex && i < exerciser_count; i++)
		if (&exercisers[i] == ex && ex->ops == &nvidia_ops)
			return ex->priv;
	return NULL;
}
