/* SPDX-License-Identifier: MIT */

#include "tests/vgpu/vgpu_test.h"

#include "drivers/apic/apic.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "tests/ioapic/intx_probe.h"

#define CONTROL_SHOTS 16
#define REARM_SHOTS   16
#define PATIENCE      SEC(1)
#define PATIENCE_NEXT MS(200)

/* Register accesses that one message takes by the dearest rung, counted generously. */
#define ACCESSES      12

/* ---- what a failure means ---- */

/* Does its INTx arrive, where its messages do not? */
static const char *intx_text(struct t *t, struct exerciser *ex)
{
	static char text[48];
	const char *why;
	struct intx *x = intx_open(t, ex, &why);

	fmt_snprintf(text, sizeof(text), "%s", "does not arrive either");
	if (x && intx_shot(x) == 1)
		fmt_snprintf(text, sizeof(text), "arrives, at GSI %u", x->gsi);
	if (x)
		intx_close(x);
	return text;
}

static void tell(struct t *t, const struct vgpu *v, const char *id, const char *text, const char *likely,
		 const char *remedy)
{
	char evidence[240];
	unsigned arrived;
	const char *control = vgpu_control_shots(t, CONTROL_SHOTS, &arrived);
	int n;

	n = fmt_snprintf(evidence, sizeof(evidence),
			 "%u raised, %u pending in the GPU, %u on vector 0x%x; %s", v->raised, v->pending,
			 v->arrived, v->vector, control);
	if (v->msi == VGPU_MSI_NO_VECTOR && n < (int)sizeof(evidence))
		fmt_snprintf(evidence + n, sizeof(evidence) - (size_t)n, "; its INTx %s",
			     intx_text(t, v->g->ex));
	test_finding(t, id, likely, remedy, evidence, "%s: %s", v->name, text);
}

static const char *ladder_text(const struct vgpu *v)
{
	const struct nvidia_ladder *l = &v->g->ladder;
	static char text[256];
	int n = 0;

	fmt_snprintf(text, sizeof(text), "no trigger is known for this generation");
	for (unsigned i = 0; i < l->plan.rungs && n < (int)sizeof(text) - 1; i++)
		n += fmt_snprintf(text + n, sizeof(text) - (size_t)n, "%s%s%s: %s", i ? "; " : "",
				  nvidia_rung_name(l->plan.rung[i]),
				  l->plan.inferred[l->plan.rung[i]] ? " [I]" : "",
				  nvidia_reach_name(l->reach[l->plan.rung[i]]));
	return text;
}

static void no_trigger(struct t *t, const struct vgpu *v)
{
	if (v->g->ladder.plan.reach > v->g->regs_size)
		test_note(t, "%s: BAR0 of %llu KiB does not reach the registers that raise it", v->name,
			  (unsigned long long)(v->g->regs_size >> 10));
	else if (!v->g->unposted) /* PLB029 has been told of it */
		test_finding(t, "PLB014",
			     "the host's daemon emulates none of these triggers for a guest without a "
			     "driver; or it is stuck",
			     "this says nothing of the machine's interrupts: vgpu.control does; with the "
			     "NVIDIA driver in a guest, look for \"IRQ not firing\"",
			     ladder_text(v), "%s: nothing makes its interrupt pending", v->name);
}

static void stuck_registers(struct t *t, const struct vgpu *v)
{
	const struct nvidia *g = v->g;
	char evidence[160];

	EXPECT_MSG(t, false,
		   "%s: MSI at 0x%02x: got address 0x%llx data 0x%04x enable %u, expected 0x%llx 0x%04x %u",
		   v->name, g->ex->msi.cap, (unsigned long long)g->got.addr, g->got.data, g->got_on,
		   (unsigned long long)g->wrote.addr, g->wrote.data, g->wrote_on);
	fmt_snprintf(evidence, sizeof(evidence),
		     "written 0x%llx/0x%04x/%u, read 0x%llx/0x%04x/%u (address/data/enable)",
		     (unsigned long long)g->wrote.addr, g->wrote.data, g->wrote_on,
		     (unsigned long long)g->got.addr, g->got.data, g->got_on);
	test_finding(
		t, "PLB019", "the VMM passes these registers to the host instead of emulating them",
		"a stock QEMU emulates them: is this VM's QEMU patched, or the device another than vfio-pci?",
		evidence, "%s: its MSI registers do not hold what is written", v->name);
}

static void doubled(struct t *t, const struct vgpu *v)
{
	tell(t, v, "PLB015", "more messages arrive than it raised",
	     "the host signals its eventfd again when the message is re-armed, or two paths deliver it",
	     "on the host: update the vGPU manager and QEMU together; a driver survives it, at a cost");
}

static void judge(struct t *t, const struct vgpu *v)
{
	switch (v->msi) {
	case VGPU_MSI_ABSENT:
		EXPECT_MSG(t, false, "%s: capabilities: got neither MSI nor MSI-X, expected one of them",
			   v->name);
		test_finding(t, "PLB019", "the VMM hides its capability list, or the profile has none",
			     "lspci -vv in another VM; a driver will fall back to INTx, see vgpu.intx",
			     "no capability 05 or 11", "%s: it has no MSI", v->name);
		break;
	case VGPU_MSI_STUCK:
		stuck_registers(t, v);
		break;
	case VGPU_MSI_NO_VECTOR:
		EXPECT_MSG(t, false,
			   "%s: got %u of %u messages, of which %u were pending in the GPU and enabled",
			   v->name, v->arrived, v->raised, v->pending);
		tell(t, v, "PLB013", "the vGPU signalled, and nothing arrived",
		     "the eventfd between the host's daemon (or vfio) and KVM is not connected, or its route "
		     "is wrong",
		     "on the host: grep vfio /proc/interrupts; QEMU's messages about SET_IRQS; compare "
		     "vgpu.intx");
		break;
	case VGPU_MSI_HELD:
		EXPECT_MSG(t, false, "%s: its interrupt stays pending after it was acknowledged", v->name);
		test_finding(t, "PLB037",
			     "the host's daemon keeps the status and does not see the acknowledgement",
			     "compare driver versions of host and guest; a driver in this VM would see an "
			     "interrupt storm",
			     ladder_text(v), "%s: its interrupt cannot be taken back", v->name);
		break;
	case VGPU_MSI_DOUBLED:
		EXPECT_MSG(t, false, "%s: got %u messages too many for %u raised", v->name, v->extra,
			   v->raised);
		doubled(t, v);
		break;
	case VGPU_MSI_ASTRAY:
		EXPECT_MSG(t, false, "%s: got vector 0x%x on CPU %u, expected vector 0x%x on CPU 0", v->name,
			   v->stray_vector, v->stray_cpu, v->vector);
		if (v->other)
			test_note(t, "%s: message %u is sent for message 0", v->name, v->other);
		tell(t, v, "PLB016",
		     "its messages arrive with another vector or at another CPU than it was told",
		     "the VMM uses a route from before address and data were written",
		     "on the host: QEMU's version; try kernel-irqchip=split, and without viommu");
		break;
	case VGPU_MSI_ONLY_FIRST:
	case VGPU_MSI_LOSSY:
		test_note(t, "%s: %u of %u messages arrived; vgpu.msi_rearm judges the missing ones", v->name,
			  v->arrived, v->raised);
		test_check(t);
		break;
	default:
		EXPECT_MSG(t, v->arrived == v->raised, "%s: got %u of %u messages", v->name, v->arrived,
			   v->raised);
		break;
	}
}

/*
 * The GPU is told to interrupt, by the ladder for its generation, and the message arrives: right CPU, right
 * vector, once.
 *
 * The GPU's own status tells two failures apart. Pending in the GPU and enabled, and no CPU is
 * interrupted: the message was lost on its way, a failure. Never pending: the trigger is not offered to a
 * guest without a driver, which is no fault (SKIP); which triggers a mediated Pascal honours is not
 * public [I]. Registers used: PBUS 0x1150, PTIMER's alarm, PMC 0x1a0, the tree's LEAF_TRIGGER; all put back.
 */
TEST_FULL(vgpu, irq, 0, 60000,
	  "software interrupt by the ladder; pending without a vector fails, never pending skips", NEED_PCI)
{
	const char *why = NULL;
	unsigned shown = 0;

	FOR_EACH_VGPU(t, v) {
		const struct nvidia_ladder *l = &v->g->ladder;

		if (!vgpu_answers(t, v, &why))
			continue;
		switch (vgpu_msi_state(t, v)) {
		case VGPU_MSI_NO_TRIGGER:
			no_trigger(t, v);
			why = l->plan.reach > v->g->regs_size
				      ? "BAR0 is too small for the registers that raise its interrupt: "
					"vgpu.bars"
				      : "trigger not offered: nothing makes its interrupt pending";
			continue;
		case VGPU_MSI_TOO_SLOW:
			why = "its register accesses take too long for it: vgpu.bar_class says how long";
			continue;
		case VGPU_MSI_DIED:
			vgpu_still_answers(t, v);
			continue;
		default:
			break;
		}
		shown++;
		judge(t, v);
		if (v->raised)
			test_note(t, "%s: by %s%s, re-armed by %s: %u raised, %u pending, %u arrived",
				  v->name, nvidia_rung_name(l->rung), l->plan.inferred[l->rung] ? " [I]" : "",
				  nvidia_rearm_name(l->plan.rearm), v->raised, v->pending, v->arrived);
		vgpu_still_answers(t, v);
	}
	if (!shown && !test_has_failed(t))
		test_skip(t, "%s", why);
}

/* ---- one after the other ---- */

static void lossy(struct t *t, const struct vgpu *v)
{
	EXPECT_MSG(t, false, "%s: got %u of %u messages", v->name, v->arrived, v->raised);
	tell(t, v, "PLB036", "some of its messages are lost",
	     "the host signals while the last one is still being taken, or from a thread that is held up",
	     "on the host: CPU time of nvidia-vgpu-mgr and of QEMU's threads; a driver sees it as stutter "
	     "and timeouts");
}

/*
 * Sixteen in a row arrive: the GPU's MSI is armed again after each.
 *
 * GP100 to GA10x send no second message before a write to 0x88704, in the mirror of configuration space
 * that QEMU traps and forwards; a VMM that does not, delivers the first message and no other.
 */
TEST_FULL(vgpu, msi_rearm, 0, 60000, "sixteen in a row arrive", NEED_PCI)
{
	const char *why = NULL;
	unsigned shown = 0;

	FOR_EACH_VGPU(t, v) {
		struct exerciser *ex = v->g->ex;
		struct delivery *d;
		struct irq_source *s;
		unsigned arrived = 0, pending = 0, lost = 0, raised = 0, extra = 0;

		if (!vgpu_answers(t, v, &why))
			continue;
		if (!vgpu_msi_works(t, v, &why) && v->msi == VGPU_MSI_ONLY_FIRST) {
			char text[80];

			shown++;
			EXPECT_MSG(t, false, "%s: got %u of %u messages, all %u pending in the GPU", v->name,
				   v->arrived, v->raised, v->pending);
			fmt_snprintf(text, sizeof(text),
				     "only the first MSI arrives each time it is enabled (%u of %u)",
				     v->arrived, v->raised);
			tell(t, v, "PLB012", text,
			     "the VMM does not forward the GPU's MSI re-arm (config mirror, 0x88704)",
			     "stock QEMU's vfio-pci traps BAR0+0x88000 of NVIDIA's VGA devices for it: use "
			     "that");
			continue;
		}
		if (v->msi == VGPU_MSI_LOSSY) {
			shown++;
			lossy(t, v);
			continue;
		}
		if (v->msi != VGPU_MSI_WORKS || !vgpu_can_afford(v, REARM_SHOTS * ACCESSES, &why))
			continue;
		shown++;
		d = delivery_open(t, 1);
		s = irq_source_open(t, ex, IRQ_DIRECT, &why);
		irq_source_aim(s, d, 0, 0, 0);
		while (raised < REARM_SHOTS && !v->g->died) {
			const struct vgpu_shot shot =
				vgpu_shoot(ex, d, 0, 0, arrived == raised ? PATIENCE : PATIENCE_NEXT);

			raised++;
			arrived += shot.arrived;
			pending += shot.pending;
			lost += !shot.arrived && shot.pending;
			extra += shot.extra;
			EXPECT_MSG(t, !shot.extra && !shot.strayed,
				   "%s: message %u: got %u too many and %s stray", v->name, raised,
				   shot.extra, shot.strayed ? "a" : "no");
		}
		irq_source_close(s);
		irq_watch_restart(&d->watch);
		if (!vgpu_still_answers(t, v))
			continue;
		v->raised = raised;
		v->arrived = arrived;
		v->pending = pending;
		if (arrived != REARM_SHOTS)
			lossy(t, v);
		else if (extra)
			doubled(t, v);
		EXPECT_MSG(t, arrived == REARM_SHOTS,
			   "%s: got %u of %u messages (%u were pending in the GPU, %u of those lost)",
			   v->name, arrived, raised, pending, lost);
		test_note(t, "%s: %u of %u, %u pending in the GPU when they arrived", v->name, arrived,
			  raised, pending);
	}
	if (!shown && !test_has_failed(t))
		test_skip(t, "%s", why);
}

/* ---- everywhere ---- */

struct reach {
	unsigned reached, tried, refused;
	const char *why;
};

/* One message to each CPU by this source. False: some did not come. */
static bool to_each_cpu(struct t *t, struct irq_source *s, struct delivery *d, enum irq_dest_mode mode,
			const char *name, struct reach *r)
{
	struct exerciser *ex = s->ex;
	bool good = true;

	*r = (struct reach){0};
	for (unsigned cpu = 0; cpu < cpu_count() && !ex->broken; cpu++) {
		const bool lost = SABOTAGE(vgpu_cpu_lost) && cpu && nvidia_of(ex->dev);
		const struct irq_route route = {
			.dest = mode == IRQ_LOGICAL ? apic_logical_id(cpu) : cpus[lost ? 0 : cpu]->apic_id,
			.mode = mode,
			.vector = (uint8_t)d->vector[0],
		};
		struct vgpu_shot shot;

		if (irq_source_route(s, 0, &route, &r->why) < 0) {
			EXPECT_MSG(t, cpus[cpu]->apic_id > 254,
				   "%s: CPU %u (APIC ID 0x%x) cannot be a destination: %s", name, cpu,
				   cpus[cpu]->apic_id, r->why ? r->why : "no reason given");
			r->refused++;
			continue;
		}
		r->tried++;
		shot = vgpu_shoot(ex, d, cpu, 0, good ? PATIENCE : PATIENCE_NEXT);
		r->reached += shot.arrived;
		if (ex->broken)
			break;
		good &= EXPECT_MSG(
			t, shot.arrived && !shot.extra && !shot.strayed,
			"%s, %s destination CPU %u (APIC ID 0x%x): got %s%s, expected one message there; the "
			"device %s",
			name, mode == IRQ_LOGICAL ? "logical" : "physical", cpu, cpus[cpu]->apic_id,
			!shot.arrived ? "none"
			: shot.extra  ? "several"
				      : "one",
			shot.strayed ? " and a stray" : "", shot.pending ? "signalled" : "did not signal");
	}
	return good;
}

/* All ways this machine has to aim it: directly, and through remapping, physical and logical. */
static unsigned every_way(struct t *t, struct exerciser *ex, struct delivery *d, const char *name, char *text,
			  size_t size)
{
	unsigned ways = 0;
	int n = 0;

	text[0] = 0;
	for (enum irq_via via = 0; via < IRQ_VIA_COUNT && !ex->broken; via++) {
		const char *why;
		struct irq_source *s = irq_source_open(t, ex, via, &why);

		if (!s)
			continue;
		for (enum irq_dest_mode mode = IRQ_PHYSICAL; mode <= IRQ_LOGICAL && !ex->broken; mode++) {
			struct reach r;

			if (mode == IRQ_LOGICAL && apic_mode == APIC_X2APIC && via == IRQ_DIRECT)
				continue; /* msi.no_remap_rule */
			if (mode == IRQ_LOGICAL && apic_mode == APIC_X2APIC && !apic_policy.cluster)
				continue;
			if (!to_each_cpu(t, s, d, mode, name, &r) && !ex->broken && r.reached)
				test_note(t, "%s: %u of %u CPUs reached", name, r.reached, r.tried);
			if (n < (int)size - 1)
				n += fmt_snprintf(text + n, size - (size_t)n, "%s%u of %u CPUs %s%s",
						  n ? ", " : "", r.reached, cpu_count(),
						  mode == IRQ_LOGICAL ? "logical" : "physical",
						  via == IRQ_REMAPPED ? " remapped" : "");
			ways++;
		}
		irq_source_close(s);
	}
	irq_watch_restart(&d->watch);
	return ways;
}

/*
 * Every CPU as the destination of the GPU's message: by physical ID, and through a remapping unit by physical
 * ID and by cluster. Right CPU, right vector, once.
 */
TEST_FULL(vgpu, msi_each_cpu, 0, 60000, "physical and cluster destinations, each CPU", NEED_PCI)
{
	const char *why = NULL;
	unsigned shown = 0;

	FOR_EACH_VGPU(t, v) {
		char text[160];
		struct delivery *d;

		if (!vgpu_answers(t, v, &why) || !vgpu_msi_works(t, v, &why) ||
		    !vgpu_can_afford(v, 3 * cpu_count() * ACCESSES, &why))
			continue;
		shown++;
		d = delivery_open(t, 1);
		every_way(t, v->g->ex, d, v->name, text, sizeof(text));
		if (vgpu_still_answers(t, v) && test_has_failed(t))
			test_finding(t, "PLB018", "the VMM's route for this device cannot name that CPU",
				     "compare vgpu.control: if the stock device reaches all CPUs, the fault "
				     "is in vfio's route",
				     text, "%s: its messages reach some CPUs only", v->name);
		else
			test_note(t, "%s: %s", v->name, text);
	}
	if (!shown && !test_has_failed(t))
		test_skip(t, "%s", why);
}

/* ---- INTx ---- */

static unsigned intx_sixteen(struct intx *x, unsigned *doubled)
{
	unsigned good = 0;

	*doubled = 0;
	for (unsigned i = 0; i < CONTROL_SHOTS && !x->ex->broken; i++) {
		const unsigned came = intx_shot(x);

		good += came == 1;
		*doubled += came > 1;
	}
	return good;
}

/* Does INTx of anything else arrive on this machine? */
static const char *intx_control(struct t *t, bool *arrives)
{
	static char text[96];
	struct exerciser *ex = vgpu_control_device(t, EX_IRQ | EX_INTX);
	struct intx *x;
	const char *why;

	*arrives = false;
	if (!ex)
		return "no stock device with INTx to compare with";
	x = intx_open(t, ex, &why);
	if (!x) {
		fmt_snprintf(text, sizeof(text), "%s at " PRIRID ": %s", ex->ops->name, RIDARG(ex->dev->rid),
			     why);
		return text;
	}
	*arrives = intx_shot(x) == 1;
	fmt_snprintf(text, sizeof(text), "%s at " PRIRID ": %s at GSI %u", ex->ops->name,
		     RIDARG(ex->dev->rid), *arrives ? "arrives" : "does not arrive", x->gsi);
	intx_close(x);
	return text;
}

/*
 * With MSI off the GPU's INTx arrives: once for each signal, no more once the signal is taken back.
 *
 * The pin is found by trying (no AML is read). Where no pin follows the GPU, a stock device decides: if its
 * INTx arrives, the GPU's is lost (a failure); if not, the machine routes none (SKIP).
 */
TEST_FULL(vgpu, intx, 0, 60000, "with MSI off, INTx arrives", NEED_PCI, NEED_IOAPIC)
{
	const char *why = NULL;
	unsigned shown = 0;

	FOR_EACH_VGPU(t, v) {
		struct nvidia *g = v->g;
		struct intx *x;
		const char *not_found, *control;
		bool others, works;
		char evidence[160];
		unsigned good, doubled;

		if (!vgpu_answers(t, v, &why))
			continue;
		why = "it has no interrupt pin";
		if (!g->dev->int_pin)
			continue;
		why = "its interrupt never becomes pending: vgpu.irq";
		if (!g->ladder.chosen || !vgpu_can_afford(v, (CONTROL_SHOTS + 4) * ACCESSES, &why))
			continue;
		x = intx_open(t, g->ex, &not_found);
		if (!x) {
			const struct intx last = *intx_last();

			if (!vgpu_still_answers(t, v))
				continue;
			why = last.signalled ? "this machine routes no INTx, of a stock device neither"
					     : "its interrupt never becomes pending: vgpu.irq";
			if (!last.signalled)
				continue;
			control = intx_control(t, &others);
			if (!others && vgpu_control_device(t, EX_IRQ | EX_INTX)) {
				test_note(t, "%s: its INTx does not arrive, but neither does another's: %s",
					  v->name, control);
				continue;
			}
			shown++;
			works = vgpu_msi_state(t, v) == VGPU_MSI_WORKS;
			EXPECT_MSG(t, false,
				   "%s: INT%c: got no interrupt on any of %u I/O APIC pins, with it pending "
				   "in the GPU",
				   v->name, 'A' + g->dev->int_pin - 1, last.tried);
			fmt_snprintf(evidence, sizeof(evidence),
				     "pending in the GPU, %u pins tried; MSI %s; %s", last.tried,
				     works ? "works" : "does not work either", control);
			test_finding(
				t, "PLB017",
				"the host does not signal INTx for this vGPU, or vfio's INTx eventfd is not "
				"connected",
				"no loss while MSI works; a driver forced to INTx (NVreg_EnableMSI=0) hangs",
				evidence, "%s: its INTx does not arrive", v->name);
			continue;
		}
		shown++;
		good = intx_sixteen(x, &doubled);
		if (!vgpu_still_answers(t, v))
			continue;
		EXPECT_MSG(t, good == CONTROL_SHOTS,
			   "%s: INT%c at GSI %u: got %u of %u exactly once, %u came again after being taken "
			   "back",
			   v->name, 'A' + g->dev->int_pin - 1, x->gsi, good, CONTROL_SHOTS, doubled);
		test_note(t,
			  "%s: INT%c is GSI %u (found by trying %u pins; Interrupt Line says %u): %u of %u",
			  v->name, 'A' + g->dev->int_pin - 1, x->gsi, x->tried, g->dev->int_line, good,
			  CONTROL_SHOTS);
		if (v->msi == VGPU_MSI_NO_VECTOR)
			test_note(t, "%s: INTx arrives, MSI does not", v->name);
		intx_close(x);
	}
	if (!shown && !test_has_failed(t))
		test_skip(t, "%s", why);
}

/* ---- whose fault ---- */

static const char *verdict(const struct vgpu *v)
{
	switch (v->msi) {
	case VGPU_MSI_WORKS:
		return "and so do the vGPU's";
	case VGPU_MSI_NO_TRIGGER:
		return "the vGPU's never left the GPU";
	case VGPU_MSI_NO_VECTOR:
		return "the vGPU signalled, and nothing arrived";
	case VGPU_MSI_ONLY_FIRST:
		return "of the vGPU's only the first arrived";
	case VGPU_MSI_LOSSY:
		return "some of the vGPU's are lost";
	case VGPU_MSI_HELD:
		return "the vGPU's interrupt cannot be taken back";
	case VGPU_MSI_DOUBLED:
		return "of the vGPU's more arrive than it raised";
	case VGPU_MSI_ASTRAY:
		return "the vGPU's arrive elsewhere";
	case VGPU_MSI_TOO_SLOW:
		return "the vGPU answers too slowly to be asked";
	case VGPU_MSI_DIED:
		return "the vGPU died";
	default:
		return "the vGPU has no MSI that could be told where to go";
	}
}

/*
 * The same paths with a stock device of the same machine, in the same boot: each CPU, physical and (with
 * remapping) cluster, sixteen in a row. What works there and not on the GPU is the GPU's fault or its
 * host's, not the machine's.
 */
TEST_FULL(vgpu, control, 0, 60000,
	  "the same paths with a stock device, so that a fault is the vGPU's or the machine's", NEED_PCI)
{
	struct vgpu *v = vgpu_first(t);
	struct exerciser *ex = vgpu_control_device(t, EX_IRQ);
	char name[48], text[160];
	struct delivery *d;
	unsigned arrived;

	if (!ex)
		test_skip(t, "no stock device with MSI or MSI-X in this machine (QEMU: -device edu)");
	fmt_snprintf(name, sizeof(name), PRIRID " %s", RIDARG(ex->dev->rid), ex->ops->name);
	d = delivery_open(t, 1);
	every_way(t, ex, d, name, text, sizeof(text));
	(void)vgpu_control_shots(t, CONTROL_SHOTS, &arrived);
	EXPECT_MSG(t, arrived == CONTROL_SHOTS, "%s: got %u of %u in a row", name, arrived, CONTROL_SHOTS);
	if (test_has_failed(t)) {
		test_finding(t, "PLB034", "the machine's own interrupt delivery is at fault, not the vGPU",
			     "look at the msi and apic tests of this report first", text,
			     "%s: a stock device's messages are lost too", name);
		return;
	}
	for (; v; v = vgpu_next(t, v)) {
		if (!v->g->silent)
			(void)vgpu_msi_state(t, v);
		test_note(t, "the machine delivers MSIs (%s: %s, %u of %u in a row); %s: %s", name, text,
			  arrived, CONTROL_SHOTS, v->name,
			  v->g->silent ? "does not answer at all" : verdict(v));
	}
}

/* ---- two of them ---- */

/* While a interrupts, b is neither pending nor heard. */
static void alone(struct t *t, struct vgpu *a, struct vgpu *b, struct irq_source *sa, struct irq_source *sb,
		  struct delivery *d)
{
	struct vgpu_shot shot;

	irq_source_aim(sa, d, 0, 0, 0);
	irq_source_aim(sb, d, 0, 0, 1);
	EXPECT_OK(t, a->g->ex->ops->irq_raise(a->g->ex, 0));
	EXPECT_MSG(t, WAIT_FOR(a->g->ex->ops->irq_pending(a->g->ex, 0) == 1, MS(100)),
		   "%s was raised, and is not pending", a->name);
	EXPECT_MSG(t, b->g->ex->ops->irq_pending(b->g->ex, 0) == 0,
		   "%s was raised, and %s shows it as pending", a->name, b->name);
	(void)a->g->ex->ops->irq_ack(a->g->ex, 0);
	irq_window();
	for (unsigned i = 0; i < 4; i++) {
		shot = vgpu_shoot(a->g->ex, d, 0, 0, PATIENCE);
		EXPECT_MSG(t, shot.arrived && !shot.extra && !shot.strayed,
			   "%s: got %s%s, expected one message on its own vector 0x%x (%s has 0x%x)", a->name,
			   shot.arrived ? "one" : "none", shot.strayed ? " and a stray" : "", d->vector[0],
			   b->name, d->vector[1]);
	}
}

/*
 * Two GPUs in one machine: none takes another's interrupt, none shows another's state, and their BARs do
 * not overlap. Their memory is not written to: on a mediated vGPU a read-back proves nothing.
 */
TEST_FULL(vgpu, several, 0, 60000, "two or more: none takes another's interrupt or memory", NEED_PCI)
{
	struct vgpu *a = vgpu_first(t);
	const char *why = NULL;
	unsigned shown = 0;

	if (!vgpu_next(t, a))
		test_skip(t, "one NVIDIA GPU only");
	for (; a; a = vgpu_next(t, a))
		for (struct vgpu *b = vgpu_next(t, a); b; b = vgpu_next(t, b)) {
			struct delivery *d;
			struct irq_source *sa, *sb;

			for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
				for (unsigned k = 0; k < PCI_BAR_COUNT; k++) {
					const struct pci_bar *x = &a->g->dev->bar[i], *y = &b->g->dev->bar[k];

					if (x->size && y->size && x->assigned && y->assigned &&
					    x->io == y->io)
						EXPECT_MSG(t,
							   x->base + x->size <= y->base ||
								   y->base + y->size <= x->base,
							   "%s BAR%u and %s BAR%u overlap at 0x%llx", a->name,
							   i, b->name, k,
							   (unsigned long long)MAX(x->base, y->base));
				}
			if (!vgpu_answers(t, a, &why) || !vgpu_answers(t, b, &why) ||
			    !vgpu_msi_works(t, a, &why) || !vgpu_msi_works(t, b, &why) ||
			    !vgpu_can_afford(a, 20 * ACCESSES, &why) ||
			    !vgpu_can_afford(b, 20 * ACCESSES, &why))
				continue;
			shown++;
			d = delivery_open(t, 2);
			sa = irq_source_open(t, a->g->ex, IRQ_DIRECT, &why);
			sb = irq_source_open(t, b->g->ex, IRQ_DIRECT, &why);
			alone(t, a, b, sa, sb, d);
			irq_source_close(sb);
			irq_source_close(sa);
			sb = irq_source_open(t, b->g->ex, IRQ_DIRECT, &why);
			sa = irq_source_open(t, a->g->ex, IRQ_DIRECT, &why);
			alone(t, b, a, sb, sa, d);
			irq_source_close(sa);
			irq_source_close(sb);
			irq_watch_restart(&d->watch);
			if (test_has_failed(t))
				test_finding(
					t, "PLB035",
					"two hostpci lines share an eventfd, a UUID or an address window",
					"qm showcmd: each vGPU has an mdev UUID of its own", a->name,
					"%s and %s are not apart", a->name, b->name);
		}
	if (!shown && !test_has_failed(t))
		test_skip(t, "%s", why);
}
