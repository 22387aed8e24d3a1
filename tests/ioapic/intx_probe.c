/* SPDX-License-Identifier: MIT */

#include "tests/ioapic/intx_probe.h"

#include "kernel/lib/sabotage.h"

#define RTE_MASKED BIT64(16)
#define PIN_WINDOW US(100) /* a pin that is up interrupts at once when it is unmasked … */
#define PIN_LATE   MS(2)   /* … or some thousand instructions later, where KVM emulates each */
#define PIN_AGAIN  MS(50)  /* … and once more after its EOI */
#define LINE_LIMIT MS(600) /* for the device's signal to reach the pin */
#define LINE_TRIES 3
#define LINE_HOST  SEC(3)  /* the last of them, where a host's process hands the signal on when it gets CPU time */
#define ARRIVAL    SEC(1)
#define QUIET      MS(2)

struct candidate {
	struct ioapic *io;
	unsigned pin;
	bool noisy;
};
static struct candidate candidates[96];
static unsigned candidate_count;

static struct intx intx;

const struct intx *intx_last(void) { return &intx; }

/* Timers, keyboard, COM1, RTC, SCI, mouse, coprocessor, IDE: others drive these. */
#define ISA_TAKEN                                                                                            \
	(BIT(0) | BIT(1) | BIT(2) | BIT(4) | BIT(8) | BIT(9) | BIT(12) | BIT(13) | BIT(14) | BIT(15))

static uint32_t came(void) { return irq_watch_count(&intx.watch, 0, intx.vector); }

/* PCI interrupts are level, active low (PCI 3.0, 2.2.6); ISA pins as the MADT overrides them. */
static bool pin_write(struct ioapic *io, unsigned pin, bool masked)
{
	const uint32_t gsi = io->gsi_base + pin;
	struct irq_route isa = {0};
	struct irq_route r = {
		.level = true,
		.active_low = true,
		.dest = cpus[0]->apic_id,
		.vector = (uint8_t)intx.vector,
	};
	uint64_t rte;

	if (gsi < 16 && ioapic_isa_gsi(gsi, &isa) == gsi && isa.level)
		r.active_low = isa.active_low;
	if (msg_ioapic_compat(&r, masked, &rte, NULL) < 0)
		return false;
	ioapic_rte_write(io, pin, rte);
	return true;
}

/* Masked, but level: an edge entry that is masked forgets what its line does (82093AA, 3.2.4; QEMU, KVM). */
static void pin_mask(struct ioapic *io, unsigned pin) { (void)pin_write(io, pin, true); }

static void pin_off(struct ioapic *io, unsigned pin) { ioapic_rte_write(io, pin, RTE_MASKED); }

/* The interrupt stays in service until here, so that a line that is up comes once and not for ever. */
static bool take_in_service(void)
{
	const bool in_service = apic_isr(intx.vector);

	if (in_service)
		apic_eoi();
	return in_service;
}

/* Is that pin up, or will it be? */
static bool pin_up(struct ioapic *io, unsigned pin, uint64_t ns)
{
	const uint32_t before = came();
	bool up;

	if (!pin_write(io, pin, false))
		return false;
	up = WAIT_FOR(came() != before, ns);
	pin_mask(io, pin);
	/* It may have come between the last look and the mask. */
	up |= came() != before;
	(void)take_in_service();
	return up;
}

static bool pin_is_up(const struct candidate *c)
{
	return pin_up(c->io, c->pin, kvm_emulates() ? PIN_LATE : PIN_WINDOW);
}

static void add(struct ioapic *io, unsigned pin)
{
	if (candidate_count < ARRAY_SIZE(candidates))
		candidates[candidate_count++] = (struct candidate){.io = io, .pin = pin};
}

/* What firmware wrote into the Interrupt Line first, then the pins above ISA's, then the free ISA ones. */
static void find_candidates(const struct pci_dev *d)
{
	unsigned pin;
	struct ioapic *io = ioapic_of_gsi(d->int_line, &pin);

	candidate_count = 0;
	if (d->int_line && d->int_line < 16 && io)
		add(io, pin);
	for (unsigned isa = 0; isa < 2; isa++)
		for (unsigned i = 0; i < ioapic_count; i++)
			for (unsigned p = 0; p < ioapics[i].pins; p++) {
				const uint32_t gsi = ioapics[i].gsi_base + p;

				if (isa ? gsi < 16 && !(ISA_TAKEN & BIT(gsi)) && gsi != d->int_line
					: gsi >= 16)
					add(&ioapics[i], p);
			}
}

static void set_intx(bool on)
{
	const uint16_t c = intx.command;

	/* Written whole: an mdev may answer reads of this register with a constant. */
	pci_w16(intx.ex->dev->rid, PCI_COMMAND,
		(uint16_t)(on ? c & ~PCI_COMMAND_INTX_OFF : c | PCI_COMMAND_INTX_OFF));
}

void intx_close(struct intx *x)
{
	if (!x->is_open)
		return;
	x->is_open = false;
	if (!x->ex->broken)
		(void)x->ex->ops->irq_ack(x->ex, 0);
	x->ex->ops->quiesce(x->ex);
	(void)exerciser_use_msix(x->ex, x->was_msix);
	(void)take_in_service();
	for (unsigned i = 0; i < candidate_count; i++)
		pin_off(candidates[i].io, candidates[i].pin);
	irq_watch_end(&x->watch);
	irq_vector_free(x->vector);
}

static void close_last(void *arg) { intx_close(arg); }

/*
 * The one that is up, of those that were down before; twice, lest it was the last one's, come late. After the EOI
 * vfio looks at the device before its line is up again, a model's process too.
 */
static struct candidate *find_pin(uint64_t ns)
{
	const struct deadline end = deadline_in(ns);

	do {
		for (unsigned i = 0; i < candidate_count; i++)
			if (!candidates[i].noisy && pin_is_up(&candidates[i]) &&
			    pin_up(candidates[i].io, candidates[i].pin, PIN_AGAIN))
				return &candidates[i];
	} while (!deadline_passed(end));
	return NULL;
}

/* Up before anything is raised, and not the device's last interrupt, which a slow host may hand on only now. */
static void find_noisy(struct t *t)
{
	bool any = false;

	for (unsigned i = 0; i < candidate_count; i++)
		any |= candidates[i].noisy = pin_is_up(&candidates[i]);
	if (!any)
		return;
	(void)intx.ex->ops->irq_ack(intx.ex, 0);
	delay(QUIET);
	for (unsigned i = 0; i < candidate_count; i++) {
		if (!candidates[i].noisy)
			continue;
		candidates[i].noisy = pin_is_up(&candidates[i]);
		test_note(t, "I/O APIC pin %u is up before anything is raised%s", candidates[i].pin,
			  candidates[i].noisy ? "" : ", once");
	}
}

struct intx *intx_open(struct t *t, struct exerciser *ex, const char **why)
{
	struct candidate *found = NULL;

	intx_close(&intx);
	intx = (struct intx){.t = t, .ex = ex, .was_msix = ex->irq_is_msix};
	*why = "no I/O APIC";
	if (!ioapic_count)
		return NULL;
	*why = "it has no interrupt pin";
	if (!ex->dev->int_pin || !(ex->ops->caps & EX_INTX))
		return NULL;
	intx.vector = irq_vector_alloc();
	if (intx.vector < 0 || !irq_watch_start(&intx.watch))
		test_error(t, "no vector or no memory for the watch");
	irq_set_manual_eoi(intx.vector, true);
	intx.is_open = true;
	test_cleanup(t, close_last, &intx);

	find_candidates(ex->dev);
	(void)exerciser_use_msix(ex, false);
	ex->ops->quiesce(ex);
	*why = "the device does not start";
	if (exerciser_start(ex) < 0) {
		intx_close(&intx);
		return NULL;
	}
	intx.command = (uint16_t)(pci_r16(ex->dev->rid, PCI_COMMAND) | PCI_COMMAND_MASTER);
	set_intx(true);
	for (unsigned i = 0; i < candidate_count; i++)
		pin_mask(candidates[i].io, candidates[i].pin);
	find_noisy(t);
	*why = "the device could not be told to raise it";
	/* Again where nothing came: an mdev drops what it is told before its last interrupt was served. */
	for (unsigned i = 0; i < LINE_TRIES && !found; i++) {
		if (ex->ops->irq_raise(ex, 0) < 0) {
			intx_close(&intx);
			return NULL;
		}
		found = find_pin(ex->irq_by_host && i + 1 == LINE_TRIES ? LINE_HOST : LINE_LIMIT / LINE_TRIES);
		if (!found)
			intx.signalled |= ex->ops->irq_pending(ex, 0) > 0;
		(void)ex->ops->irq_ack(ex, 0);
		/* vfio lowers the line at any access, and may have raised it behind the last one. */
		delay(QUIET);
		(void)ex->ops->irq_ack(ex, 0);
	}
	intx.tried = candidate_count;
	if (!found) {
		*why = "no pin of any I/O APIC follows it";
		intx_close(&intx);
		return NULL;
	}
	/*
	 * QEMU with its I/O APIC in user space under KVM leaves the route of a masked pin as it is
	 * (ioapic_update_kvm_routes()): a vfio device's eventfd goes by it past the mask. Left in service, it would
	 * hold back the first that is asked for.
	 */
	if (take_in_service())
		test_note(t, PRIRID " %s: an interrupt came by a masked pin", RIDARG(ex->dev->rid), ex->ops->name);
	intx.io = found->io;
	intx.pin = found->pin;
	intx.gsi = found->io->gsi_base + found->pin;
	*why = NULL;
	return &intx;
}

unsigned intx_one(struct intx *x, const struct intx_ops *ops)
{
	uint32_t before;

	delay(US(100));
	before = came();
	(void)pin_write(x->io, x->pin, false);
	ops->raise(ops->arg);
	(void)WAIT_FOR(came() != before, ARRIVAL);
	/*
	 * Taken back by the first access: vfio takes any access for the end of the interrupt, and a device
	 * that is still pending then signals once more.
	 */
	if (SABOTAGE(intx_eoi_first))
		(void)take_in_service();
	ops->take(ops->arg);
	/*
	 * A KVM that emulates ends a level as it injects it, and it comes again until it is taken back
	 * (docs/kvm.md): there only what comes later is one too many.
	 */
	if (kvm_emulates() && came() != before) {
		delay(QUIET);
		before = came() - 1;
	}
	/* Taken back before the EOI: a line that stays up comes again, and is counted. */
	for (unsigned i = 0; i < 4 && take_in_service(); i++)
		delay(QUIET);
	pin_mask(x->io, x->pin);
	(void)take_in_service();
	return came() - before;
}

static void raise_exerciser(void *arg)
{
	struct exerciser *ex = arg;

	(void)ex->ops->irq_raise(ex, 0);
}

static void take_exerciser(void *arg)
{
	struct exerciser *ex = arg;

	(void)ex->ops->irq_ack(ex, 0);
}

unsigned intx_shot(struct intx *x)
{
	const struct intx_ops ops = {raise_exerciser, take_exerciser, x->ex};

	return intx_one(x, &ops);
}
