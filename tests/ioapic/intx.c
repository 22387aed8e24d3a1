/* SPDX-License-Identifier: MIT */

#include "tests/ioapic/intx.h"

#include "kernel/lib/fmt.h"
#include "tests/ioapic/intx_probe.h"

static struct intx_line line;

static void serve(int vector, void *arg)
{
	struct exerciser *ex = arg;

	(void)vector;
	(void)ex->ops->irq_ack(ex, 0);
}

void intx_line_disable(struct intx_line *l, bool off)
{
	pci_set_command(l->ex->dev, off ? PCI_COMMAND_INTX_OFF : 0, off ? 0 : PCI_COMMAND_INTX_OFF);
}

void intx_line_close(struct intx_line *l)
{
	if (!l->is_open)
		return;
	l->is_open = false;
	pin_mask(&l->pin, true);
	irq_set_handler(l->d->vector[0], NULL, NULL);
	if (!l->ex->broken)
		(void)l->ex->ops->irq_ack(l->ex, 0);
	l->ex->ops->quiesce(l->ex);
	(void)exerciser_use_msix(l->ex, l->was_msix);
}

/* The pin too, which a test may have opened again. */
static void close_line(void *arg)
{
	struct intx_line *l = arg;

	intx_line_close(l);
	pin_mask(&l->pin, true);
}

static bool by_tables(struct intx_line *l, const char **why)
{
	struct pci_intx r;

	if (pci_intx_route(l->ex->dev, &r) < 0) {
		*why = r.how;
		return false;
	}
	l->pin.gsi = r.gsi;
	l->pin.io = ioapic_of_gsi(r.gsi, &l->pin.pin);
	l->pin.route = (struct irq_route){.level = !r.edge, .active_low = r.active_low};
	fmt_snprintf(l->how, sizeof(l->how), "GSI %u by %s", r.gsi, r.text);
	*why = "no I/O APIC has the pin that the tables name";
	return l->pin.io != NULL;
}

static bool by_trying(struct t *t, struct intx_line *l, const char **why)
{
	struct intx *x = intx_open(t, l->ex, why);

	if (!x)
		return false;
	l->pin = (struct pin){.io = x->io, .pin = x->pin, .gsi = x->gsi,
			      .route = {.level = true, .active_low = true}};
	intx_close(x);
	l->probed = true;
	return true;
}

static void start(struct t *t, struct intx_line *l)
{
	struct exerciser *ex = l->ex;

	l->was_msix = ex->irq_is_msix;
	(void)exerciser_use_msix(ex, false);
	ex->ops->quiesce(ex);
	if (ex->caps & EX_MSIX)
		msix_enable(&ex->msix, false);
	if (ex->caps & EX_MSI)
		msi_enable(&ex->msi, false);
	intx_line_aim(l, 0, true);
	if (exerciser_start(ex) < 0)
		test_error(t, PRIRID " %s: the device does not start", RIDARG(ex->dev->rid), ex->ops->name);
	irq_set_handler(l->d->vector[0], serve, ex);
	intx_line_disable(l, false);
	l->is_open = true;
}

struct intx_line *intx_line_open(struct t *t, struct delivery *d, struct exerciser *ex, const char **why)
{
	const char *not_read;

	line = (struct intx_line){.d = d, .ex = ex};
	*why = "no I/O APIC";
	if (!ioapic_count)
		return NULL;
	if (!by_tables(&line, &not_read)) {
		if (!by_trying(t, &line, why))
			return NULL;
		fmt_snprintf(line.how, sizeof(line.how), "GSI %u by trying: %s", line.pin.gsi, not_read);
	}
	test_cleanup(t, close_line, &line);
	start(t, &line);
	return &line;
}

void intx_line_aim(struct intx_line *l, unsigned cpu, bool masked)
{
	pin_aim(l->d->t, &l->pin, cpus[cpu]->apic_id, IRQ_PHYSICAL, l->d->vector[0], masked);
}

void intx_line_raise(struct intx_line *l, const char *what)
{
	struct exerciser *ex = l->ex;

	if (ex->ops->irq_raise(ex, 0) < 0 ||
	    !WAIT_FOR(ex->ops->irq_pending(ex, 0) != 0, SEC(1)))
		test_error(l->d->t, PRIRID " %s, %s: the device did not signal", RIDARG(ex->dev->rid), ex->ops->name,
			   what);
}

bool intx_line_one(struct intx_line *l, unsigned cpu, const char *what)
{
	struct exerciser *ex = l->ex;

	delivery_due(l->d, cpu, 0, 1);
	if (ex->ops->irq_raise(ex, 0) < 0)
		test_error(l->d->t, PRIRID " %s, %s: it cannot be raised", RIDARG(ex->dev->rid), ex->ops->name, what);
	if (!delivery_arrived(l->d, cpu, 0) && ex->ops->irq_pending(ex, 0) == 0)
		test_error(l->d->t, PRIRID " %s, %s: the device did not signal", RIDARG(ex->dev->rid), ex->ops->name,
			   what);
	if (delivery_check(l->d, PRIRID " %s INTx, %s, to CPU %u", RIDARG(ex->dev->rid), ex->ops->name, what, cpu))
		return true;
	(void)ex->ops->irq_ack(ex, 0);
	return false;
}

static bool status_bit(const struct intx_line *l)
{
	return pci_r16(l->ex->dev->rid, PCI_STATUS) & PCI_STATUS_INTX;
}

/* Where does it arrive, if not where the tables say? */
static void say_where(struct t *t, struct intx_line *l)
{
	const uint32_t told = l->pin.gsi;
	const char *why;
	bool found;

	if (l->probed)
		return;
	intx_line_close(l);
	found = by_trying(t, l, &why);
	if (found && l->pin.gsi == told)
		return; /* there, but not as it should */
	if (found)
		test_finding(t, "PLB070", "a VMM whose ACPI tables and wiring disagree",
			     "a driver that follows the tables never sees this interrupt: use MSI, or mend the tables",
			     l->how, "INTx of " PRIRID " arrives on GSI %u, and the firmware's tables say GSI %u",
			     RIDARG(l->ex->dev->rid), l->pin.gsi, told);
	else
		test_finding(t, "PLB071", "the device's INTx is not wired, or its pin is held by another device",
			     "use MSI; see whether the device's Interrupt Pin register is right", l->how,
			     "INTx of " PRIRID " arrives on no pin of any I/O APIC", RIDARG(l->ex->dev->rid));
}

static void one_device(struct t *t, struct delivery *d, struct intx_line *l)
{
	struct exerciser *ex = l->ex;
	const unsigned last = d->cpus - 1, far = cpus[last]->apic_id <= 254 ? last : 0;
	char who[48];

	fmt_snprintf(who, sizeof(who), PRIRID " %s INTx", RIDARG(ex->dev->rid), ex->ops->name);
	intx_line_aim(l, 0, false);
	if (!intx_line_one(l, 0, l->how)) {
		say_where(t, l);
		return;
	}
	intx_line_aim(l, far, false);
	intx_line_one(l, far, "aimed anew");
	EXPECT_MSG(t, !status_bit(l), "%s, served: Interrupt Status: got 1, expected 0", who);

	/* Interrupt Disable: the status shows it, the line does not; enabled again, it comes. */
	intx_line_disable(l, true);
	intx_line_raise(l, "with Interrupt Disable");
	EXPECT_MSG(t, status_bit(l), "%s, raised with Interrupt Disable: Interrupt Status: got 0, expected 1", who);
	delivery_window();
	delivery_check(d, "%s, raised with Interrupt Disable", who);
	delivery_due(d, far, 0, 1);
	intx_line_disable(l, false);
	delivery_check(d, "%s, Interrupt Disable taken away", who);

	/* De-assert: the line falls when the device is served, and a pin unmasked after that is quiet. */
	pin_mask(&l->pin, true);
	intx_line_raise(l, "its pin masked");
	(void)ex->ops->irq_ack(ex, 0);
	EXPECT_MSG(t, !status_bit(l), "%s, served while masked: Interrupt Status: got 1, expected 0", who);
	pin_mask(&l->pin, false);
	delivery_window();
	delivery_check(d, "%s, raised and served while its pin was masked", who);
	/* … and one that is still up comes. */
	pin_mask(&l->pin, true);
	intx_line_raise(l, "its pin masked again");
	delivery_due(d, far, 0, 1);
	pin_mask(&l->pin, false);
	delivery_check(d, "%s, raised while its pin was masked, and unmasked", who);
	delivery_finish(d, "%s, at the end", who);
	test_note(t, "%s: %s", who, l->how);
}

/*
 * A PCI device's INTx arrives where the firmware says, and follows the device.
 *
 * PCI 3.0, 2.2.6, 6.2.2 and 6.2.3; ACPI 6.5, 6.2.13. The pin by the DSDT's _PRT, and where that leads to a
 * programmable link, by the chipset's PIRQ register; read without an AML interpreter, and where that is not
 * enough, found by trying (said so). Through the bridges above the device, each of which turns the pins. Raised:
 * once, on the CPU aimed at. With Interrupt Disable: not, but the status bit shows it; enabled: once. Served
 * while its pin is masked: nothing comes after. A line stuck high is a storm, one lost a dead device.
 * Paravirtual devices without a count of their signals have tests of their own.
 */
TEST(ioapic, intx, "a PCI device's INTx through its real routing; INTx disable; de-assert", NEED_IOAPIC, NEED_EX_IRQ)
{
	struct delivery *d = delivery_open(t, 1);
	const char *why = "no device under test with INTx";
	unsigned shown = 0;

	FOR_EACH_EXERCISER(t, ex, EX_IRQ | EX_INTX | EX_IRQ_COUNTED) {
		struct intx_line *l;

		if (ex->bars_private)
			continue;
		l = intx_line_open(t, d, ex, &why);
		if (!l) {
			test_note(t, PRIRID " %s: %s", RIDARG(ex->dev->rid), ex->ops->name, why);
			continue;
		}
		one_device(t, d, l);
		intx_line_close(l);
		shown++;
	}
	if (!shown)
		test_skip(t, "%s", why);
}
