/* SPDX-License-Identifier: MIT */

/* The event log: 48882, 2.5. */

#include "drivers/iommu/amdvi/unit.h"

#include "kernel/lib/err.h"
#include "kernel/lib/string.h"

#define LATE_NS MS(1)                  /* an entry may arrive after the pointer to it */

int amdvi_log_init(struct amdvi *v)
{
	return dma_alloc(&v->log, AMDVI_LOG_ENTRIES * sizeof(struct amdvi_pair), PAGE_SIZE, PHYS_ANY) ? 0 : -ENOMEM;
}

/* With EventLogEn off: writing the base sets both pointers to zero (3.4.3). */
void amdvi_log_start(struct amdvi *v)
{
	memset(v->log.va, 0, v->log.size);
	v->head = 0;
	amdvi_w1c(v, STATUS_EVENTOVERFLOW | STATUS_EVENTLOGINT);
	amdvi_w64(v, EVENT_BASE, v->log.pa.v | FIELD_PREP(COM_LEN, 9));
	amdvi_w64(v, EVENT_HEAD, 0);
	amdvi_w64(v, EVENT_TAIL, 0);
}

/* After an overflow nothing is logged until the log has been switched off and on (2.5.1, 3.4.14). */
static void restart(struct amdvi *v)
{
	if (amdvi_control(v, CONTROL_EVENTLOGEN, false, STATUS_EVENTLOGRUN) < 0)
		return;
	amdvi_log_start(v);
	amdvi_control(v, CONTROL_EVENTLOGEN, true, STATUS_EVENTLOGRUN);
}

static volatile struct amdvi_pair *entry(struct amdvi *v, unsigned i)
{
	return (volatile struct amdvi_pair *)v->log.va + i % AMDVI_LOG_ENTRIES;
}

/* The oldest entry, taken out and made zero. False: there is none. */
static bool take(struct amdvi *v, struct amdvi_pair *e)
{
	volatile struct amdvi_pair *p = entry(v, v->head);

	if (FIELD_GET(RING_POINTER, amdvi_r64(v, EVENT_TAIL)) % AMDVI_LOG_ENTRIES == v->head)
		return false;
	WAIT_FOR(FIELD_GET(EVENT_CODE, p->lo) != 0, LATE_NS);
	e->lo = p->lo;
	e->hi = p->hi;
	p->lo = p->hi = 0;
	v->head = (v->head + 1) % AMDVI_LOG_ENTRIES;
	amdvi_w64(v, EVENT_HEAD, FIELD_PREP(RING_POINTER, (uint64_t)v->head));
	return true;
}

static unsigned levels_of(const void *ctx, uint16_t domain)
{
	const struct amdvi *v = ctx;

	return domain < AMDVI_DOMAINS ? v->domain_levels[domain] : 0;
}

int amdvi_fault_pop(struct iommu *iommu, struct iommu_fault *f)
{
	struct amdvi *v = amdvi_of(iommu);
	const bool overflow = v->running && (amdvi_r64(v, STATUS) & STATUS_EVENTOVERFLOW);
	struct amdvi_pair e;
	bool some;

	if (!v->running || iommu->broken)
		return -EAGAIN;
	some = take(v, &e);
	if (some) {
		amdvi_decode(e.lo, e.hi, levels_of, v, f);
		f->rid.v |= (uint32_t)v->unit->segment << 16;
		f->overflow = overflow;
	}
	/* What was logged before the overflow is read first. */
	if (overflow && FIELD_GET(RING_POINTER, amdvi_r64(v, EVENT_TAIL)) % AMDVI_LOG_ENTRIES == v->head)
		restart(v);
	return some ? 0 : -EAGAIN;
}

void amdvi_fault_clear(struct iommu *iommu)
{
	struct amdvi *v = amdvi_of(iommu);
	struct amdvi_pair e;

	if (!v->running || iommu->broken)
		return;
	for (unsigned i = 0; i < AMDVI_LOG_ENTRIES && take(v, &e); i++)
		;
	if (amdvi_r64(v, STATUS) & STATUS_EVENTOVERFLOW)
		restart(v);
	amdvi_w1c(v, STATUS_EVENTLOGINT);
}

/* By the MSI of the unit's own function (2.5.1): EventLogInt stands until it is cleared. */
int amdvi_fault_irq(struct iommu *iommu, const struct irq_route *route, const char **why)
{
	struct amdvi *v = amdvi_of(iommu);
	struct pci_dev *dev = pci_find(amdvi_own_rid(v));
	struct msi_msg msg;
	struct msi msi;
	int r;

	if (!dev || msi_open(dev, &msi) < 0) {
		*why = "the unit's function has no MSI";
		return -EOPNOTSUPP;
	}
	msi_enable(&msi, false);
	if (!route)
		return amdvi_control(v, CONTROL_EVENTINTEN, false, 0);
	r = msg_compat(route, &msg, why);
	if (r == 0)
		r = msi_program(&msi, &msg, 1);
	if (r < 0)
		return r;
	pci_set_command(dev, PCI_COMMAND_MASTER, 0);
	msi_enable(&msi, true);
	return amdvi_control(v, CONTROL_EVENTINTEN, true, 0);
}
