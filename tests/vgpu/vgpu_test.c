/* SPDX-License-Identifier: MIT */

#include "tests/vgpu/vgpu_test.h"

#include "kernel/cmdline.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

#define PATIENCE      SEC(1) /* an eventfd goes through the VMM's main loop, on a busy host */
#define PATIENCE_NEXT MS(200)
#define LATE_WINDOW   MS(100)
#define PROBE_SHOTS   3
#define RAISE_TRIES   3
#define OTHERS_MAX    4 /* messages or MSI-X entries that may come instead of the first */
#define BUDGET        SEC(12) /* of register accesses, for one test and GPU */

static struct vgpu vgpus[VGPU_MAX];
static unsigned vgpu_count;

const char *vgpu_time_text(uint64_t ns, char buf[16])
{
	if (ns < US(1))
		fmt_snprintf(buf, 16, "%llu ns", (unsigned long long)ns);
	else if (ns < MS(1))
		fmt_snprintf(buf, 16, "%llu.%llu us", (unsigned long long)(ns / 1000),
			     (unsigned long long)(ns / 100 % 10));
	else if (ns < SEC(1))
		fmt_snprintf(buf, 16, "%llu.%llu ms", (unsigned long long)(ns / MS(1)),
			     (unsigned long long)(ns / US(100) % 10));
	else
		fmt_snprintf(buf, 16, "%llu.%llu s", (unsigned long long)(ns / SEC(1)),
			     (unsigned long long)(ns / MS(100) % 10));
	return buf;
}

/* ---- which GPUs ---- */

static const char *model_name(const struct pci_dev *d, const struct nvidia *g)
{
	const struct nvidia_profile *p = nvidia_profile(d->device, d->subvendor, d->subdevice);
	const char *chip;

	if (p)
		return p->name;
	chip = nvidia_chip_name(g->silent ? nvidia_chip_of_device(d->device) : g->id.chip);
	return chip ? chip : "NVIDIA";
}

static void find(void)
{
	if (vgpu_count)
		return;
	FOR_EACH_PCI(d) {
		struct nvidia *g = nvidia_of(d);

		if (!g || vgpu_count == VGPU_MAX)
			continue;
		vgpus[vgpu_count].g = g;
		fmt_snprintf(vgpus[vgpu_count].name, sizeof(vgpus[0].name), PRIRID " %s", RIDARG(d->rid),
			     model_name(d, g));
		vgpu_count++;
	}
}

static struct vgpu *from(unsigned i)
{
	for (; i < vgpu_count; i++)
		if (!cmdline.has_device || vgpus[i].g->dev->rid.v == cmdline.device.v)
			return &vgpus[i];
	return NULL;
}

struct vgpu *vgpu_first(struct t *t)
{
	struct vgpu *v;

	find();
	v = from(0);
	if (v)
		return v;
	if (vgpu_count)
		test_skip(t, "device= names " PRIRID ", which is no NVIDIA GPU; there is one at " PRIRID,
			  RIDARG(cmdline.device), RIDARG(vgpus[0].g->dev->rid));
	FOR_EACH_PCI(d)
		if (nvidia_is_gpu(d))
			test_skip(t, PRIRID ": more devices than this driver takes", RIDARG(d->rid));
	test_skip(t, "no NVIDIA GPU (class 03xx, vendor 10de)");
}

struct vgpu *vgpu_next(struct t *t, struct vgpu *v)
{
	(void)t;
	return from((unsigned)(v - vgpus) + 1);
}

/* ---- is it there ---- */

static void tell_death(struct t *t, struct vgpu *v)
{
	struct nvidia *g = v->g;
	const bool config = nvidia_config_alive(g);
	char evidence[128];

	v->death_told = true;
	if (g->died) {
		EXPECT_MSG(t, false, "%s: BOOT_0: got 0xffffffff, expected 0x%08x as before", v->name,
			   g->id.boot_0);
		fmt_snprintf(
			evidence, sizeof(evidence),
			"BOOT_0 was 0x%08x; all ones after %llu register accesses; configuration space %s",
			g->id.boot_0, (unsigned long long)g->accesses,
			config ? "answers" : "is all ones too");
		test_finding(t, "PLB027",
			     "the host's vGPU daemon (nvidia-vgpu-mgr) ended or closed it, or the GPU fell "
			     "off its bus",
			     "on the host: journalctl -u nvidia-vgpu-mgr; dmesg for NVRM Xid and vfio lines; "
			     "restart the VM",
			     evidence, "%s died while it was being used", v->name);
		return;
	}
	EXPECT_MSG(t, false, "%s: configuration space at 0: got 0xffffffff, expected 0x%04x%04x as before",
		   v->name, g->dev->device, g->dev->vendor);
	fmt_snprintf(evidence, sizeof(evidence), "IDs 0xffffffff, 0x%04x%04x before; BAR0 %s", g->dev->device,
		     g->dev->vendor, g->silent ? g->silent : "still answers");
	test_finding(t, "PLB039",
		     "the VMM lost the device's configuration space, or the host's power management took it",
		     "on the host: dmesg for vfio-pci and pcieport lines; vfio-pci disable_idle_d3=1; "
		     "restart the VM",
		     evidence, "%s: its configuration space stopped answering", v->name);
}

bool vgpu_answers(struct t *t, struct vgpu *v, const char **why)
{
	const bool told = v->death_told;

	*why = "it stopped answering, as an earlier test says";
	if (told)
		return false;
	if (v->g->died || !nvidia_config_alive(v->g)) {
		if (!v->g->died && !v->g->silent)
			(void)nvidia_alive(v->g);
		tell_death(t, v);
		return false;
	}
	*why = v->g->silent;
	return !v->g->silent;
}

bool vgpu_still_answers(struct t *t, struct vgpu *v)
{
	if (nvidia_alive(v->g))
		return true;
	if (!v->death_told)
		tell_death(t, v);
	return false;
}

bool vgpu_can_afford(struct vgpu *v, unsigned accesses, const char **why)
{
	const uint64_t each = nvidia_access_worst_ns(v->g) >= NVIDIA_STALL ? nvidia_access_worst_ns(v->g)
									   : nvidia_access_ns(v->g);

	*why = "its register accesses take too long for it: vgpu.bar_class says how long";
	return each * accesses <= BUDGET;
}

/* ---- messages ---- */

static bool is_ours(unsigned cpu, int vector, void *arg)
{
	const struct irq_stray *own = arg;

	return cpu == own->cpu && vector == own->vector;
}

struct vgpu_shot vgpu_shoot(struct exerciser *ex, struct delivery *d, unsigned cpu, unsigned v,
			    uint64_t patience)
{
	struct irq_stray own = {.cpu = cpu, .vector = d->vector[v]};
	struct vgpu_shot s = {0};
	uint32_t came;

	irq_watch_restart(&d->watch);
	/* An alarm's time may pass while it is set, again and again on a busy host: that raised nothing. */
	s.error = -ETIMEDOUT;
	for (unsigned i = 0; i < RAISE_TRIES && s.error == -ETIMEDOUT && !ex->broken; i++)
		s.error = SABOTAGE(vgpu_control_lost) && !nvidia_of(ex->dev) ? 0 : ex->ops->irq_raise(ex, 0);
	/* Said at once: to put such a device away may take long in silence. */
	if (ex->broken)
		test_note(d->t, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, ex->broken);
	if (s.error < 0)
		return s;
	(void)WAIT_FOR(irq_watch_count(&d->watch, cpu, own.vector), patience);
	s.pending = ex->ops->irq_pending(ex, 0) > 0;
	(void)ex->ops->irq_ack(ex, 0);
	irq_window();
	came = irq_watch_count(&d->watch, cpu, own.vector);
	s.arrived = came != 0;
	s.extra = came ? came - 1 : 0;
	s.strayed = irq_watch_stray(&d->watch, is_ours, &own, &s.stray);
	return s;
}

static void add(struct vgpu *v, const struct vgpu_shot *s)
{
	v->raised++;
	v->pending += s->pending;
	v->arrived += s->arrived;
	v->extra += s->extra;
	if (s->strayed) {
		v->stray_cpu = s->stray.cpu;
		v->stray_vector = s->stray.vector;
	}
}

/*
 * Nothing came of message or entry 0: does another one come for it? With MSI-X the others are aimed at
 * vectors of their own, with MSI two messages are enabled, which takes two vectors in a row.
 */
static bool comes_as_another(struct vgpu *v, struct irq_source *s, struct delivery *d)
{
	struct exerciser *ex = s->ex;
	const unsigned n = MIN(ex->irq_is_msix ? ex->msix.count : ex->msi.count_max, (unsigned)OTHERS_MAX);
	struct irq_route r = {.dest = cpus[0]->apic_id};
	unsigned first = 0;
	struct vgpu_shot shot;
	struct msi_msg msg;

	if (n < 2)
		return false;
	for (unsigned i = 1; ex->irq_is_msix && i < n; i++)
		irq_source_aim(s, d, i, 0, i);
	while (!ex->irq_is_msix && first + 1 < OTHERS_MAX &&
	       (d->vector[first] % 2 || d->vector[first + 1] != d->vector[first] + 1))
		first++;
	if (first + 1 == OTHERS_MAX)
		return false;
	r.vector = (uint8_t)d->vector[first];
	if (!ex->irq_is_msix && msg_compat(&r, &msg, NULL) == 0 && msi_program(&ex->msi, &msg, 2) == 0)
		msi_enable(&ex->msi, true);
	shot = vgpu_shoot(ex, d, 0, first, PATIENCE_NEXT);
	v->other = shot.strayed && shot.stray.cpu == 0 ? (unsigned)(shot.stray.vector - d->vector[first]) : 0;
	add(v, &shot);
	return shot.strayed;
}

static enum vgpu_msi probe(struct t *t, struct vgpu *v)
{
	struct exerciser *ex = v->g->ex;
	const struct nvidia_trial *tr = &v->g->trial;
	struct delivery *d;
	struct irq_source *s;
	struct vgpu_shot shot = {0};
	/* Those that came although they were not the first since MSI was enabled. */
	unsigned later = tr->arrived - (tr->arrived && tr->first_lost != 1);
	unsigned strayed = tr->elsewhere;
	const char *why;

	if (v->g->died)
		return VGPU_MSI_DIED;
	if (!(ex->msi.dev || ex->msix.dev))
		return VGPU_MSI_ABSENT;
	if (v->g->msi_stuck)
		return VGPU_MSI_STUCK;
	if (!v->g->ladder_tried)
		return v->g->ladder.plan.reach > v->g->regs_size ? VGPU_MSI_NO_TRIGGER : VGPU_MSI_TOO_SLOW;
	for (unsigned i = 0; i < NVIDIA_RUNGS && !v->g->ladder.chosen; i++)
		if (v->g->ladder.reach[i] == NVIDIA_STUCK)
			return VGPU_MSI_HELD;
	if (!v->g->ladder.chosen)
		return v->g->died ? VGPU_MSI_DIED : VGPU_MSI_NO_TRIGGER;
	if (!vgpu_can_afford(v, 40, &why))
		return VGPU_MSI_TOO_SLOW;
	d = delivery_open(t, OTHERS_MAX);
	s = irq_source_open(t, ex, IRQ_DIRECT, &why);
	irq_source_aim(s, d, 0, 0, 0);
	v->vector = d->vector[0];
	v->raised = tr->raised;
	v->pending = tr->pending;
	v->arrived = tr->arrived;
	v->extra = tr->extra;
	for (unsigned i = 0; i < PROBE_SHOTS && !v->g->died; i++) {
		shot = vgpu_shoot(ex, d, 0, 0, i ? PATIENCE_NEXT : PATIENCE);
		if (shot.error < 0)
			break;
		add(v, &shot);
		later += i && shot.arrived;
		strayed += !shot.arrived && shot.strayed;
	}
	/* A second one that comes late is seen here at the latest. */
	irq_watch_restart(&d->watch);
	delay(LATE_WINDOW);
	v->extra += irq_watch_count(&d->watch, 0, d->vector[0]);
	if (!v->arrived && v->pending && !v->g->died)
		strayed += comes_as_another(v, s, d);
	irq_source_close(s);
	irq_watch_restart(&d->watch);
	if (v->g->died)
		return VGPU_MSI_DIED;
	if (shot.error < 0 || (!v->arrived && !v->pending))
		return VGPU_MSI_NO_TRIGGER;
	if (strayed)
		return VGPU_MSI_ASTRAY;
	if (v->extra)
		return VGPU_MSI_DOUBLED;
	if (!v->arrived)
		return VGPU_MSI_NO_VECTOR;
	if (v->arrived == v->raised)
		return VGPU_MSI_WORKS;
	return later ? VGPU_MSI_LOSSY : VGPU_MSI_ONLY_FIRST;
}

enum vgpu_msi vgpu_msi_state(struct t *t, struct vgpu *v)
{
	if (v->msi == VGPU_MSI_UNKNOWN)
		v->msi = probe(t, v);
	return v->msi;
}

bool vgpu_msi_works(struct t *t, struct vgpu *v, const char **why)
{
	static const char *const reasons[] = {
		[VGPU_MSI_ABSENT] = "it has neither MSI nor MSI-X: vgpu.irq",
		[VGPU_MSI_STUCK] = "its MSI registers do not hold what is written: vgpu.irq",
		[VGPU_MSI_NO_TRIGGER] = "its interrupt never becomes pending: vgpu.irq",
		[VGPU_MSI_HELD] = "its interrupt cannot be taken back: vgpu.irq",
		[VGPU_MSI_LOSSY] = "some of its messages are lost: vgpu.msi_rearm",
		[VGPU_MSI_NO_VECTOR] = "its messages do not arrive: vgpu.irq",
		[VGPU_MSI_ONLY_FIRST] = "only its first message arrives: vgpu.msi_rearm",
		[VGPU_MSI_DOUBLED] = "more messages arrive than it raised: vgpu.irq",
		[VGPU_MSI_ASTRAY] = "its messages arrive elsewhere: vgpu.irq",
		[VGPU_MSI_TOO_SLOW] = "its register accesses take too long for it: vgpu.bar_class",
		[VGPU_MSI_DIED] = "it stopped answering",
	};
	const enum vgpu_msi state = vgpu_msi_state(t, v);

	*why = state == VGPU_MSI_WORKS ? NULL : reasons[state];
	return state == VGPU_MSI_WORKS;
}

/* ---- something to compare with ---- */

struct exerciser *vgpu_control_device(struct t *t, uint32_t caps)
{
	struct exerciser *other = NULL;

	(void)t;
	for (unsigned i = 0; i < exerciser_count; i++) {
		struct exerciser *ex = &exercisers[i];

		if (ex->broken || nvidia_of(ex->dev) || (ex->caps & caps) != caps)
			continue;
		if (caps & EX_INTX || ex->caps & (EX_MSI | EX_MSIX)) {
			/* One that can say whether it signalled, before one that cannot. */
			if (ex->caps & EX_DMA_COPY)
				return ex;
			other = other ? other : ex;
		}
	}
	return other;
}

const char *vgpu_control_shots(struct t *t, unsigned n, unsigned *arrived)
{
	static char text[80];
	struct exerciser *ex = vgpu_control_device(t, EX_IRQ);
	struct delivery *d;
	struct irq_source *s;
	const char *why;

	*arrived = 0;
	if (!ex)
		return "no stock device with MSI to compare with";
	d = delivery_open(t, 1);
	s = irq_source_open(t, ex, IRQ_DIRECT, &why);
	irq_source_aim(s, d, 0, 0, 0);
	for (unsigned i = 0; i < n; i++)
		*arrived += vgpu_shoot(ex, d, 0, 0, PATIENCE_NEXT).arrived;
	irq_source_close(s);
	irq_watch_restart(&d->watch);
	fmt_snprintf(text, sizeof(text), "%s at " PRIRID ": %u of %u", ex->ops->name, RIDARG(ex->dev->rid),
		     *arrived, n);
	return text;
}
