/* SPDX-License-Identifier: MIT */

#include "tests/ioapic/remap.h"

static void unit_switch(struct iommu *u, bool on, bool eim)
{
	if (u->remapping && (!on || u->remapping_eim != eim))
		u->ops->ir_disable(u);
	if (on && !u->remapping && u->ops->ir_enable(u, eim) < 0)
		u->broken = "interrupt remapping could not be put back";
}

void pin_release(struct pin_user *p)
{
	if (!p->pin)
		return;
	pin_mask(p->pin, true);
	if (p->u) {
		if (p->index >= 0)
			p->u->ops->irq_unmap(p->u, p->index);
		unit_switch(p->u, p->was_on, p->was_eim);
	}
	p->pin = NULL;
}

static void release(void *arg)
{
	pin_release(arg);
}

static struct pin_user *user_open(struct t *t, struct pin *pin, struct iommu *u, pci_rid_t source)
{
	struct pin_user *p = test_alloc(t, sizeof(*p));

	*p = (struct pin_user){.t = t, .pin = pin, .u = u, .source = source, .index = -1};
	if (u) {
		p->was_on = u->remapping;
		p->was_eim = u->remapping_eim;
	}
	test_cleanup(t, release, p);
	return p;
}

struct pin_user *pin_direct(struct t *t, struct pin *pin)
{
	pci_rid_t source;
	struct iommu *u = iommu_of_ioapic(pin->io->id, &source);

	if (u && u->remapping)
		test_error(t, "remapping is on: an entry in compatibility format would be blocked");
	return user_open(t, pin, NULL, source);
}

struct pin_user *pin_remap(struct t *t, struct pin *pin, const char **why)
{
	pci_rid_t source;
	struct iommu *u = iommu_of_ioapic(pin->io->id, &source);
	struct pin_user *p;

	*why = "no remapping unit names the I/O APIC";
	if (!u || u->broken || !u->caps.interrupt_remapping)
		return NULL;
	p = user_open(t, pin, u, source);
	if (!u->remapping)
		REQUIRE_OK(t, u->ops->ir_enable(u, u->caps.eim && apic_mode == APIC_X2APIC));
	return p;
}

static struct irq_route route_of(const struct pin_user *p, uint32_t dest, enum irq_dest_mode mode,
				 enum irq_delivery delivery, int vector)
{
	struct irq_route r = p->pin->route;

	r.dest = dest;
	r.mode = mode;
	r.delivery = delivery;
	r.vector = (uint8_t)vector;
	return r;
}

/* 0, and the pin's entry. */
static int compose(struct pin_user *p, const struct irq_route *r, uint64_t *rte, const char **why)
{
	int err;

	*why = "the unit refuses the entry";
	if (!p->u)
		return msg_ioapic_compat(r, false, rte, why);
	if (p->index < 0)
		err = p->index = p->u->ops->irq_map(p->u, p->source, r, 1, NULL);
	else
		err = p->u->ops->irq_update(p->u, p->index, p->source, r);
	if (err < 0)
		return err;
	/* VT-d 5.1.5.1: the vector stands in the pin's entry too, for its EOI. */
	*rte = p->u->ops->irq_rte(p->u, p->index, r, false);
	return 0;
}

int pin_route(struct pin_user *p, uint32_t dest, enum irq_dest_mode mode, enum irq_delivery delivery, int vector,
	      const char **why)
{
	const struct irq_route r = route_of(p, dest, mode, delivery, vector);
	uint64_t rte;
	const int err = compose(p, &r, &rte, why);

	if (err < 0)
		return err;
	if (ioapic_rte_read(p->pin->io, p->pin->pin) != rte)
		ioapic_rte_write(p->pin->io, p->pin->pin, rte);
	return 0;
}

/* The upper half alone: the lower one holds Remote IRR, and is the same. */
int pin_move(struct pin_user *p, uint32_t dest, enum irq_dest_mode mode, int vector, const char **why)
{
	const struct irq_route r = route_of(p, dest, mode, IRQ_FIXED, vector);
	uint64_t rte;
	const int err = compose(p, &r, &rte, why);

	if (err == 0 && !p->u)
		ioapic_write(p->pin->io, (uint8_t)(0x11 + 2 * p->pin->pin), (uint32_t)(rte >> 32));
	return err;
}

uint8_t pin_eoi_vector(const struct pin_user *p)
{
	return (uint8_t)ioapic_rte_read(p->pin->io, p->pin->pin);
}
