/* SPDX-License-Identifier: MIT */

/*
 * Interrupt remapping: 48882, 2.2.5. Every function has a table of its own, so that nobody can name
 * another's entry; there is no compatibility format, a message's data is an index whatever it says.
 *
 * An index as our callers see it: the function's table in 31:16, the entry, which is what the message
 * carries, in 15:0.
 */

#include "drivers/apic/apic.h"
#include "drivers/iommu/amdvi/unit.h"
#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

#define INDEX_MAX 0x1ffu               /* bits 10:8 of the data are the message type too: fixed or lowest */

struct amdvi_irt *amdvi_irt_find(struct amdvi *v, uint16_t id)
{
	for (unsigned i = 0; i < AMDVI_DEVICES; i++) {
		if (v->irt[i].table.va && v->irt[i].id == id)
			return &v->irt[i];
	}
	return NULL;
}

static struct amdvi_irt *irt_of(struct amdvi *v, pci_rid_t rid)
{
	const uint16_t id = (uint16_t)rid.v;
	struct amdvi_irt *t = amdvi_irt_find(v, id);

	if (t || id >= v->ids)
		return t;
	for (unsigned i = 0; i < AMDVI_DEVICES && !t; i++) {
		if (!v->irt[i].table.va)
			t = &v->irt[i];
	}
	/* Twice what the table's length says: set_entry() tells why. */
	if (!t || !dma_alloc(&t->table, 2 * AMDVI_IRT_ENTRIES * sizeof(struct amdvi_pair), PAGE_SIZE, PHYS_ANY))
		return NULL;
	t->id = id;
	amdvi_update_device(v, id);
	return t;
}

/* ---- on and off ---- */

int amdvi_ir_enable(struct iommu *iommu, bool eim)
{
	struct amdvi *v = amdvi_of(iommu);
	const uint64_t bits = CONTROL_GAEN | CONTROL_XTEN;
	int r = 0;

	if (iommu->broken)
		return -EIO;
	if (!iommu->caps.interrupt_remapping || (eim && !iommu->caps.eim))
		return -EOPNOTSUPP;
	if (iommu->remapping)
		return iommu->remapping_eim == eim ? 0 : -EBUSY;
	/* Entries of the other form would be read as what they are not. */
	if (!(v->control & CONTROL_GAEN) != !eim) {
		for (unsigned i = 0; i < AMDVI_DEVICES; i++) {
			if (v->irt[i].table.va)
				memset(v->irt[i].table.va, 0, v->irt[i].table.size);
		}
		r = amdvi_control(v, bits, eim, 0);
	}
	if (r < 0)
		return r;
	iommu->remapping = true;
	iommu->remapping_eim = eim;
	r = amdvi_switch(v);
	if (r < 0)
		iommu->remapping = iommu->remapping_eim = false;
	return r;
}

void amdvi_ir_disable(struct iommu *iommu)
{
	if (!iommu->remapping || iommu->broken)
		return;
	iommu->remapping = iommu->remapping_eim = false;
	amdvi_switch(amdvi_of(iommu));
}

/* ---- entries ---- */

/* With 32-bit entries a destination has eight bits, in which no x2APIC logical ID fits. */
static int compose(const struct iommu *iommu, const struct irq_route *route, struct amdvi_pair *e)
{
	if (!iommu->remapping_eim &&
	    (route->dest > 0xff || (route->mode == IRQ_LOGICAL && apic_mode == APIC_X2APIC)))
		return -EOPNOTSUPP;
	if (route->delivery != IRQ_FIXED && route->delivery != IRQ_LOWEST)
		return -EOPNOTSUPP;
	e->lo = IRTE_REMAPEN | FIELD_PREP(IRTE_INTTYPE, (uint64_t)route->delivery) |
		(route->mode == IRQ_LOGICAL ? IRTE_DM : 0) | (route->level ? IRTE_RQEOI : 0);
	e->hi = 0;
	if (iommu->remapping_eim) {
		e->lo |= FIELD_PREP(IRTE128_DESTINATION, (uint64_t)route->dest);
		e->hi = FIELD_PREP(IRTE128_VECTOR, (uint64_t)route->vector) |
			FIELD_PREP(IRTE128_DESTINATION_HI, (uint64_t)route->dest >> 24);
	} else {
		e->lo |= FIELD_PREP(IRTE32_DESTINATION, (uint64_t)route->dest) |
			 FIELD_PREP(IRTE32_VECTOR, (uint64_t)route->vector);
	}
	return 0;
}

/* RemapEn last; with the same vector as before one store does it, and there is no moment without. */
static void store_entry(struct amdvi *v, struct amdvi_irt *t, unsigned index, const struct amdvi_pair *e)
{
	volatile struct amdvi_pair *p = (struct amdvi_pair *)t->table.va + index;

	if (!(v->control & CONTROL_GAEN)) {
		((volatile uint32_t *)t->table.va)[index] = (uint32_t)e->lo;
		return;
	}
	if (p->hi != e->hi) {
		p->lo = 0;
		__atomic_thread_fence(__ATOMIC_RELEASE);
		p->hi = e->hi;
		__atomic_thread_fence(__ATOMIC_RELEASE);
	}
	p->lo = e->lo;
}

/*
 * A copy of every entry stands behind the table's end: a unit that does not look at IntTabLen takes it
 * for one, and the interrupt that this makes is seen.
 */
static void set_entry(struct amdvi *v, struct amdvi_irt *t, unsigned index, const struct amdvi_pair *e)
{
	store_entry(v, t, index, e);
	store_entry(v, t, index + AMDVI_IRT_ENTRIES, e);
}

static bool bit(const uint64_t *map, unsigned i) { return map[i / 64] & BIT64(i % 64); }
static void set_bit(uint64_t *map, unsigned i) { map[i / 64] |= BIT64(i % 64); }
static void clear_bit(uint64_t *map, unsigned i) { map[i / 64] &= ~BIT64(i % 64); }

/* The table and the entry that an index of ours names, if it is in use. */
static struct amdvi_irt *lookup(struct amdvi *v, int index, unsigned *entry)
{
	const unsigned which = (unsigned)index >> 16;

	*entry = (unsigned)index & 0xffff;
	if (index < 0 || which >= AMDVI_DEVICES || *entry >= AMDVI_IRT_ENTRIES || !v->irt[which].table.va ||
	    !bit(v->irt[which].used, *entry))
		return NULL;
	return &v->irt[which];
}

/*
 * A pin that is held until its EOI has the entry that its vector numbers: the EOI finds the pin by the
 * vector in the pin's own entry, which is what indexes the table.
 */
static int choose(const struct amdvi_irt *t, const struct irq_route *route, unsigned n)
{
	if (route->level && !bit(t->used, route->vector))
		return route->vector;
	return iommu_free_entries(t->used, AMDVI_IRT_ENTRIES, n);
}

/* Several: the sender puts its message's number in the place of the index's low bits (2.2.5). */
int amdvi_irq_map(struct iommu *iommu, pci_rid_t rid, const struct irq_route *route, unsigned n, struct msi_msg *msg)
{
	struct amdvi *v = amdvi_of(iommu);
	struct amdvi_irt *t;
	struct amdvi_pair e;
	int r = 0, index;

	if (iommu->broken)
		return -EIO;
	if (!iommu->remapping)
		return -EINVAL;
	for (unsigned i = 0; i < n && r == 0; i++)
		r = compose(iommu, &route[i], &e);
	if (r < 0)
		return r;
	t = irt_of(v, rid);
	if (!t)
		return -ENOMEM;
	index = choose(t, route, n);
	if (index < 0)
		return index;
	for (unsigned i = 0; i < n; i++) {
		(void)compose(iommu, &route[i], &e);
		if (n == 1 || i < n - 1 || !SABOTAGE(ir_block_entry_lost))
			set_entry(v, t, (unsigned)index + i, &e);
		set_bit(t->used, (unsigned)index + i);
		clear_bit(t->lent, (unsigned)index + i);
	}
	r = amdvi_inv_interrupts(v, t->id);
	if (r < 0)
		return r;
	if (msg)
		msg_amdvi_remappable((uint16_t)index, msg);
	return (int)(t - v->irt) << 16 | index;
}

/* Where the entry stands now: in its own table, or in that of the function it was given to. */
static struct amdvi_irt *holder(struct amdvi *v, struct amdvi_irt *t, unsigned entry)
{
	return bit(t->lent, entry) ? amdvi_irt_find(v, t->borrower[entry]) : t;
}

static int remove_entry(struct amdvi *v, struct amdvi_irt *t, unsigned entry)
{
	static const struct amdvi_pair none;
	struct amdvi_irt *h = holder(v, t, entry);

	set_entry(v, h, entry, &none);
	if (h != t)
		clear_bit(h->used, entry);
	clear_bit(t->lent, entry);
	return amdvi_inv_interrupts(v, h->id);
}

/* Another function's entry is one in that function's table. */
int amdvi_irq_update(struct iommu *iommu, int index, pci_rid_t rid, const struct irq_route *route)
{
	struct amdvi *v = amdvi_of(iommu);
	unsigned entry;
	struct amdvi_irt *t = lookup(v, index, &entry), *to;
	struct amdvi_pair e;
	int r;

	if (iommu->broken)
		return -EIO;
	if (!t)
		return -EINVAL;
	r = compose(iommu, route, &e);
	if (r < 0)
		return r;
	to = irt_of(v, rid);
	if (!to)
		return -ENOMEM;
	if (to != holder(v, t, entry)) {
		if (to != t && bit(to->used, entry))
			return -EBUSY;
		r = remove_entry(v, t, entry);
		if (r < 0)
			return r;
		if (to != t) {
			set_bit(to->used, entry);
			set_bit(t->lent, entry);
			t->borrower[entry] = to->id;
		}
	}
	set_entry(v, to, entry, &e);
	return amdvi_inv_interrupts(v, to->id);
}

int amdvi_irq_write(struct iommu *iommu, int index, pci_rid_t rid, const struct irq_route *route)
{
	struct amdvi *v = amdvi_of(iommu);
	unsigned entry;
	struct amdvi_irt *t = lookup(v, index, &entry);
	struct amdvi_pair e;
	int r;

	if (iommu->broken)
		return -EIO;
	if (!t || holder(v, t, entry) != amdvi_irt_find(v, (uint16_t)rid.v))
		return -EINVAL;
	r = compose(iommu, route, &e);
	if (r == 0)
		set_entry(v, holder(v, t, entry), entry, &e);
	return r;
}

/* Function by function: not every unit has a command for all. */
int amdvi_irq_sync(struct iommu *iommu)
{
	struct amdvi *v = amdvi_of(iommu);
	int r = iommu->broken ? -EIO : 0;

	for (unsigned i = 0; i < AMDVI_DEVICES && r == 0; i++)
		if (v->irt[i].table.va)
			r = amdvi_inv_interrupts(v, v->irt[i].id);
	return r;
}

/* 2.2.5.2, 2.2.5.3: an IntType that there is not, then a bit that there is not. */
int amdvi_irq_reserved(struct iommu *iommu, int index, unsigned k)
{
	struct amdvi *v = amdvi_of(iommu);
	unsigned entry;
	struct amdvi_irt *t = lookup(v, index, &entry);
	struct amdvi_pair e;

	if (!t)
		return -EINVAL;
	if (k > 1)
		return -ERANGE;
	t = holder(v, t, entry);
	if (v->control & CONTROL_GAEN)
		e = ((struct amdvi_pair *)t->table.va)[entry];
	else
		e = (struct amdvi_pair){.lo = ((uint32_t *)t->table.va)[entry]};
	if (k == 0)
		e.lo |= IRTE_INTTYPE;
	else if (v->control & CONTROL_GAEN)
		e.hi |= BIT64(8);
	else
		e.lo |= BIT64(24);
	set_entry(v, t, entry, &e);
	return amdvi_inv_interrupts(v, t->id);
}

int amdvi_irq_unmap(struct iommu *iommu, int index)
{
	struct amdvi *v = amdvi_of(iommu);
	unsigned entry;
	struct amdvi_irt *t = lookup(v, index, &entry);

	if (!t)
		return -EINVAL;
	clear_bit(t->used, entry);
	return remove_entry(v, t, entry);
}

int amdvi_irq_message(struct iommu *iommu, int index, struct msi_msg *msg)
{
	(void)iommu;
	if (index < 0 || ((unsigned)index & 0xffff) > INDEX_MAX)
		return -ERANGE;
	msg_amdvi_remappable((uint16_t)index, msg);
	return 0;
}

uint64_t amdvi_irq_rte(struct iommu *iommu, int index, const struct irq_route *route, bool mask)
{
	(void)iommu;
	return msg_ioapic_amdvi(route, (uint16_t)index, mask);
}
