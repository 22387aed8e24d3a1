/* SPDX-License-Identifier: MIT */

#include "tests/msi/irq_test.h"

#include "drivers/apic/apic.h"
#include "kernel/lib/fmt.h"

const char *irq_source_name(const struct irq_source *s)
{
	return s->name;
}

void irq_source_enable(struct irq_source *s, bool on)
{
	if (s->ex->irq_is_msix)
		msix_enable(&s->ex->msix, on);
	else
		msi_enable(&s->ex->msi, on);
}

/* One that has both is back with MSI-X, as every test finds it. */
static void use_msix(void *arg)
{
	(void)exerciser_use_msix(arg, true);
}

struct exerciser *irq_next_exerciser(struct t *t, struct exerciser *after)
{
	/* First by MSI-X, then, where it can, by MSI. */
	if (after && after->irq_counts[0] && after->irq_counts[1]) {
		if (after->irq_is_msix && exerciser_use_msix(after, false) == 0) {
			test_cleanup(t, use_msix, after);
			return after;
		}
		use_msix(after);
	}
	do
		after = test_next_exerciser(t, after, EX_IRQ);
	while (after && !(after->caps & (EX_MSI | EX_MSIX)));
	return after;
}

/* EIM is for CPUs in x2APIC mode (VT-d 5.1.4). */
static int set_remapping(struct iommu *u, bool on, bool eim)
{
	if (u->remapping && (!on || u->remapping_eim != eim))
		u->ops->ir_disable(u);
	return on && !u->remapping ? u->ops->ir_enable(u, eim) : 0;
}

static void drop_entries(struct irq_source *s)
{
	for (unsigned i = 0; i < IRQ_SOURCE_MAX; i++) {
		if (s->irte[i] >= 0)
			s->iommu->ops->irq_unmap(s->iommu, s->irte[i]);
		s->irte[i] = -1;
	}
}

/* The device first: after it nothing is sent that the unit would have to reject. */
static void source_close(struct irq_source *s)
{
	if (!s->is_open)
		return;
	s->is_open = false;
	s->ex->ops->quiesce(s->ex);
	irq_source_enable(s, false);
	pci_w16(s->ex->dev->rid, PCI_COMMAND, s->command);
	if (!s->iommu)
		return;
	drop_entries(s);
	if (set_remapping(s->iommu, s->was_remapping, s->was_eim) < 0)
		s->iommu->broken = "interrupt remapping could not be put back";
}

/* Of one test; the last opened is closed first. */
static struct irq_source pool[8];
static bool cleanup_registered;

static void close_all(void *arg)
{
	(void)arg;
	cleanup_registered = false;
	for (size_t i = ARRAY_SIZE(pool); i-- > 0;)
		source_close(&pool[i]);
}

static struct irq_source *source_new(struct t *t)
{
	if (!cleanup_registered)
		test_cleanup(t, close_all, NULL);
	cleanup_registered = true;
	for (size_t i = 0; i < ARRAY_SIZE(pool); i++)
		if (!pool[i].is_open)
			return &pool[i];
	test_error(t, "more than %zu interrupt sources at once", ARRAY_SIZE(pool));
}

void irq_source_close(struct irq_source *s)
{
	source_close(s);
}

static const char *no_remapping(const struct iommu *u)
{
	if (!u)
		return "no remapping unit in front of it";
	if (u->broken)
		return u->broken;
	return u->caps.interrupt_remapping ? NULL : "its unit does not remap interrupts";
}

/*
 * What nobody aims stays masked, but holds a message all the same: under KVM with remapping, QEMU's
 * ivshmem (10.0) translates all entries when MSI-X goes on, and gives up every one of its vectors if one
 * of them is blank ("MSI address low 32 bit invalid: 0x0").
 */
static void fill_table(struct msix *m)
{
	const struct irq_route nobody = {.dest = cpus[0]->apic_id, .vector = VEC_SPURIOUS};
	struct msi_msg msg = {0};

	(void)msg_compat(&nobody, &msg, NULL);
	for (unsigned i = 0; i < m->count; i++) {
		msix_mask(m, i, true);
		(void)msix_program(m, i, &msg);
	}
	msix_enable(m, true);
	msix_function_mask(m, false);
}

struct irq_source *irq_source_open(struct t *t, struct exerciser *ex, enum irq_via via, const char **why)
{
	struct iommu *u = iommu_of(ex->dev);
	struct irq_source *s;
	int err;

	*why = via == IRQ_REMAPPED ? no_remapping(u) : NULL;
	if (*why)
		return NULL;
	s = source_new(t);
	*s = (struct irq_source){
		.t = t,
		.ex = ex,
		.via = via,
		.iommu = u,
		.was_remapping = u && u->remapping,
		.was_eim = u && u->remapping_eim,
		.command = pci_r16(ex->dev->rid, PCI_COMMAND),
	};
	for (unsigned i = 0; i < IRQ_SOURCE_MAX; i++)
		s->irte[i] = -1;
	fmt_snprintf(s->name, sizeof(s->name), PRIRID " %s %s %s", RIDARG(ex->dev->rid), ex->ops->name,
		     ex->irq_is_msix ? "MSI-X" : "MSI", via == IRQ_REMAPPED ? "remapped" : "direct");
	s->is_open = true;

	ex->ops->quiesce(ex);
	irq_source_enable(s, false);
	if (u && !u->broken) {
		err = set_remapping(u, via == IRQ_REMAPPED, u->caps.eim && apic_mode == APIC_X2APIC);
		if (err < 0)
			test_error(t, "%s: the unit's remapping could not be switched: -%s", s->name,
				   err_name(err));
	}
	err = exerciser_start(ex);
	if (err)
		test_error(t, "%s: the device does not start: -%s", s->name, err_name(err));
	if (ex->irq_is_msix)
		fill_table(&ex->msix);
	return s;
}

void irq_source_message(struct irq_source *s, unsigned index, const struct msi_msg *msg)
{
	struct exerciser *ex = s->ex;
	int err;

	if (ex->irq_is_msix) {
		msix_mask(&ex->msix, index, true);
		err = msix_program(&ex->msix, index, msg);
		msix_mask(&ex->msix, index, false);
	} else {
		err = index == 0 ? msi_program(&ex->msi, msg, 1) : -EINVAL;
		if (ex->msi.maskable)
			msi_mask(&ex->msi, 0, false);
	}
	if (err < 0)
		test_error(s->t, "%s: message %u: -%s", s->name, index, err_name(err));
	irq_source_enable(s, true);
}

int irq_source_route(struct irq_source *s, unsigned index, const struct irq_route *route, const char **why)
{
	struct msi_msg msg = {0};
	int err;

	*why = NULL;
	if (s->via == IRQ_DIRECT) {
		err = msg_compat(route, &msg, why);
	} else if (index >= IRQ_SOURCE_MAX) {
		return -EINVAL;
	} else if (s->irte[index] >= 0) {
		*why = "the unit refuses to change its entry";
		return s->iommu->ops->irq_update(s->iommu, s->irte[index], s->ex->rid, route);
	} else {
		*why = "the unit has no entry for it";
		err = s->irte[index] = s->iommu->ops->irq_map(s->iommu, s->ex->rid, route, 1, &msg);
	}
	if (err >= 0)
		irq_source_message(s, index, &msg);
	return err < 0 ? err : 0;
}

void irq_source_messages(struct irq_source *s, const struct irq_route *route, unsigned n)
{
	struct msi *m = &s->ex->msi;
	struct msi_msg msg = {0};
	int err;

	irq_source_enable(s, false);
	if (s->via == IRQ_DIRECT) {
		err = msg_compat(route, &msg, NULL);
	} else {
		drop_entries(s);
		err = s->iommu->ops->irq_map(s->iommu, s->ex->rid, route, n, &msg);
		for (unsigned i = 0; i < n && err >= 0; i++)
			s->irte[i] = err + (int)i;
	}
	if (err >= 0)
		err = msi_program(m, &msg, n);
	if (err < 0)
		test_error(s->t, "%s: %u messages: -%s", s->name, n, err_name(err));
	for (unsigned i = 0; i < n; i++)
		msi_mask(m, i, false);
	irq_source_enable(s, true);
}

unsigned irq_source_cpu(const struct irq_source *s, unsigned k)
{
	const unsigned cpu = k % cpu_count();

	return s->via == IRQ_DIRECT && cpus[cpu]->apic_id > 254 ? 0 : cpu;
}

void irq_source_aim(struct irq_source *s, const struct delivery *d, unsigned index, unsigned cpu, unsigned v)
{
	const struct irq_route r = {.dest = cpus[cpu]->apic_id, .vector = (uint8_t)d->vector[v]};
	const char *why;
	const int err = irq_source_route(s, index, &r, &why);

	if (err < 0)
		test_error(s->t, "%s: interrupt %u to CPU %u: -%s (%s)", s->name, index, cpu, err_name(err),
			   why ? why : "no reason given");
}

void irq_source_raise(struct irq_source *s, unsigned index)
{
	const int err = s->ex->ops->irq_raise(s->ex, index);

	if (err < 0)
		test_error(s->t, "%s: raising %u: -%s", s->name, index, err_name(err));
}

void irq_source_ack(struct irq_source *s, unsigned index)
{
	const int err = s->ex->ops->irq_ack(s->ex, index);

	if (err < 0)
		test_error(s->t, "%s: acknowledging %u: -%s", s->name, index, err_name(err));
}

bool irq_expect_one(struct irq_source *s, struct delivery *d, unsigned index, unsigned cpu, unsigned v)
{
	const char *missing = "";

	delivery_due(d, cpu, v, 1);
	irq_source_raise(s, index);
	if (!delivery_arrived(d, cpu, v)) {
		const int pending = s->ex->ops->irq_pending(s->ex, index);

		if (pending == 0)
			test_error(s->t, "%s: the device never signalled interrupt %u", s->name, index);
		missing = pending > 0 ? ", which the device did signal"
				      : ", of which the device cannot tell whether it signalled";
	}
	irq_source_ack(s, index);
	return delivery_check(d, "%s, interrupt %u%s", s->name, index, missing);
}

bool irq_source_can_tell(struct irq_source *s, unsigned index)
{
	return s->ex->ops->irq_pending(s->ex, index) != -EOPNOTSUPP;
}

bool irq_expect_none(struct irq_source *s, struct delivery *d, unsigned index, const char *what)
{
	irq_source_raise(s, index);
	/* First that it signalled: a device that works through a queue takes its time. */
	if (!WAIT_FOR(s->ex->ops->irq_pending(s->ex, index) != 0, SEC(1)))
		test_error(s->t, "%s: the device did not signal interrupt %u %s: nothing was shown", s->name,
			   index, what);
	irq_window();
	irq_source_ack(s, index);
	return delivery_check(d, "%s, interrupt %u %s", s->name, index, what);
}
