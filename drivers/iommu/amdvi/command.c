/* SPDX-License-Identifier: MIT */

/* The command buffer: 48882, 2.4. Every submission ends with a COMPLETION_WAIT and is waited for. */

#include "drivers/iommu/amdvi/unit.h"

#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/log/log.h"

#define COMMANDS    256u               /* COM_LEN = 8: one page */
#define BATCH       48u
#define RANGE_PARTS 32u                /* more blocks than this: the whole domain is cheaper */

_Static_assert(IOMMU_QUEUE_WAITS + BATCH + 1 < COMMANDS, "a batch behind waits that nobody has waited for");

int amdvi_commands_init(struct amdvi *v)
{
	if (!dma_alloc(&v->commands, COMMANDS * sizeof(struct amdvi_pair), PAGE_SIZE, PHYS_ANY) ||
	    !dma_alloc(&v->store, sizeof(uint64_t), PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	return 0;
}

/* With CmdBufEn off: writing the base sets both pointers to zero (3.4.2), writing them too makes sure. */
void amdvi_commands_start(struct amdvi *v)
{
	v->tail = 0;
	amdvi_w64(v, COM_BASE, v->commands.pa.v | FIELD_PREP(COM_LEN, 8));
	amdvi_w64(v, COM_HEAD, 0);
	amdvi_w64(v, COM_TAIL, 0);
}

static struct amdvi_pair *slot(struct amdvi *v, unsigned i)
{
	return (struct amdvi_pair *)v->commands.va + i % COMMANDS;
}

static void ring(struct amdvi *v)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (SABOTAGE(amdvi_queue_dead))
		return;
	amdvi_w64(v, COM_TAIL, FIELD_PREP(RING_POINTER, (uint64_t)(v->tail % COMMANDS)));
}

static struct amdvi_pair command(uint64_t opcode, uint64_t lo, uint64_t hi)
{
	return (struct amdvi_pair){FIELD_PREP(CMD_OPCODE, opcode) | lo, hi};
}

/*
 * The unit stands still at a command that it could not take (2.4, 2.5.7). What it and those behind it
 * asked for has not been done; the buffer begins anew.
 */
static int recover(struct amdvi *v)
{
	const unsigned head = (unsigned)FIELD_GET(RING_POINTER, amdvi_r64(v, COM_HEAD));
	const struct amdvi_pair bad = *slot(v, head);
	int r;

	if (!v->error_due)
		log_line("# note AMD-Vi command buffer stopped, STATUS=%llx, at command %u: %016llx %016llx",
			 (unsigned long long)amdvi_r64(v, STATUS), head, (unsigned long long)bad.lo,
			 (unsigned long long)bad.hi);
	r = amdvi_control(v, CONTROL_CMDBUFEN, false, STATUS_CMDBUFRUN);
	if (r < 0)
		return r;
	amdvi_commands_start(v);
	r = amdvi_control(v, CONTROL_CMDBUFEN, true, STATUS_CMDBUFRUN);
	return r < 0 ? r : -EIO;
}

static int submit(struct amdvi *v, const struct amdvi_pair *c, unsigned n, struct deadline dl)
{
	volatile uint64_t *store = v->store.va;

	if (v->iommu->broken)
		return -EIO;
	if (!v->running)
		return 0;
	v->seq++;
	for (unsigned i = 0; i < n; i++)
		*slot(v, v->tail++) = c[i];
	*slot(v, v->tail++) = command(COMPLETION_WAIT, WAIT_S | v->store.pa.v, v->seq);
	ring(v);
	/* The word is memory, the register an exit under a hypervisor: in this order. */
	if (!WAIT_UNTIL(*store == v->seq || !(amdvi_r64(v, STATUS) & STATUS_CMDBUFRUN), dl))
		return amdvi_fail(v, "a command did not complete");
	return *store == v->seq ? 0 : recover(v);
}

int amdvi_queue_waits(struct iommu *iommu, gpa_t words, unsigned n, uint32_t first)
{
	struct amdvi *v = amdvi_of(iommu);

	if (iommu->broken)
		return -EIO;
	if (!v->running)
		return -EOPNOTSUPP;
	if (n > IOMMU_QUEUE_WAITS)
		return -EINVAL;
	/* Those of the call before may still be there. */
	if (!WAIT_FOR(amdvi_r64(v, COM_HEAD) == amdvi_r64(v, COM_TAIL), AMDVI_WAIT_NS))
		return amdvi_fail(v, "the command buffer does not drain");
	for (unsigned i = 0; i < n; i++)
		*slot(v, v->tail++) = command(COMPLETION_WAIT, WAIT_S | (words.v + 8 * i), first + i);
	ring(v);
	return 0;
}

/* Opcode 0 is reserved (2.4). */
int amdvi_queue_bad(struct iommu *iommu)
{
	struct amdvi *v = amdvi_of(iommu);
	const struct amdvi_pair c = command(0, 0, 0);
	int r;

	if (!v->running)
		return -EOPNOTSUPP;
	v->error_due = true;
	r = submit(v, &c, 1, deadline_in(AMDVI_WAIT_NS));
	v->error_due = false;
	return r;
}

/* ---- batches ---- */

struct batch {
	struct amdvi *v;
	struct deadline dl;
	struct amdvi_pair c[BATCH];
	unsigned n;
	int r;                       /* the first error */
};

static void flush(struct batch *b)
{
	const int r = b->n ? submit(b->v, b->c, b->n, b->dl) : 0;

	b->r = b->r < 0 ? b->r : r;
	b->n = 0;
}

static void push(struct batch *b, struct amdvi_pair c)
{
	b->c[b->n++] = c;
	if (b->n == BATCH)
		flush(b);
}

/* ---- entries of the device table, and what hangs on them ---- */

static void push_device(struct batch *b, uint16_t id)
{
	push(b, command(INVALIDATE_DEVTAB_ENTRY, FIELD_PREP(CMD_DEVICEID, (uint64_t)id), 0));
	push(b, command(INVALIDATE_INTERRUPT_TABLE, FIELD_PREP(CMD_DEVICEID, (uint64_t)id), 0));
}

int amdvi_inv_device(struct amdvi *v, uint16_t id)
{
	struct batch b = {.v = v, .dl = deadline_in(AMDVI_WAIT_NS)};

	if (SABOTAGE(amdvi_device_inv_skip))
		return 0;
	push_device(&b, id);
	flush(&b);
	return b.r;
}

int amdvi_inv_interrupts(struct amdvi *v, uint16_t id)
{
	const struct amdvi_pair c =
		command(INVALIDATE_INTERRUPT_TABLE, FIELD_PREP(CMD_DEVICEID, (uint64_t)id), 0);

	return submit(v, &c, 1, deadline_in(AMDVI_WAIT_NS));
}

static struct amdvi_pair whole_domain(uint16_t domain)
{
	return command(INVALIDATE_IOMMU_PAGES, FIELD_PREP(PAGES_DOMAINID, (uint64_t)domain),
		       PAGES_ALL | PAGES_S | PAGES_PDE);
}

static struct amdvi_pair device_tlb(const struct amdvi_device *d, uint64_t where)
{
	return command(INVALIDATE_IOTLB_PAGES,
		       FIELD_PREP(CMD_DEVICEID, (uint64_t)d->id) | FIELD_PREP(IOTLB_MAXPEND, (uint64_t)d->depth) |
			       FIELD_PREP(IOTLB_QUEUEID, (uint64_t)d->id),
		       where);
}

/*
 * INVALIDATE_IOMMU_ALL takes in the device table (2.4.8); the functions that exist get a command of their
 * own all the same: a hypervisor may act on that one alone, as QEMU 10.2 and later do (dma-remap=on).
 */
int amdvi_inv_all(struct amdvi *v, struct deadline dl)
{
	struct batch b = {.v = v, .dl = dl};

	if (v->efr & EFR_IASUP)
		push(&b, command(INVALIDATE_IOMMU_ALL, 0, 0));
	FOR_EACH_PCI(d) {
		if (!amdvi_covers(v->iommu, d))
			continue;
		push_device(&b, (uint16_t)d->rid.v);
		if (pci_requester_id(d).v != d->rid.v)
			push_device(&b, (uint16_t)pci_requester_id(d).v);
	}
	for (uint32_t i = 0; i < v->unit->special_count; i++)
		push_device(&b, v->unit->special[i].source);
	for (unsigned id = 1; !(v->efr & EFR_IASUP) && id < AMDVI_DOMAINS; id++) {
		if (v->domain_used[id / 64] & BIT64(id % 64))
			push(&b, whole_domain((uint16_t)id));
	}
	for (unsigned i = 0; i < AMDVI_DEVICES; i++) {
		if (v->device[i].domain && v->device[i].depth)
			push(&b, device_tlb(&v->device[i], PAGES_ALL | PAGES_S));
	}
	flush(&b);
	return b.r;
}

/* ---- translations ---- */

/* A naturally aligned block: 4 KiB, or with S as large as the lowest zero tells (2.4.3). */
static uint64_t block(uint64_t iova, unsigned order)
{
	return order == PAGE_SHIFT ? iova : iova | ((BIT64(order - 1) - 1) & ~(PAGE_SIZE - 1)) | PAGES_S;
}

/* The smallest block that holds all of it, for each device of the domain that keeps translations. */
static void push_device_tlbs(struct batch *b, uint16_t domain, uint64_t iova, uint64_t last)
{
	unsigned order = PAGE_SHIFT;

	while (order < 63 && iova >> order != last >> order)
		order++;
	for (unsigned i = 0; i < AMDVI_DEVICES; i++) {
		const struct amdvi_device *d = &b->v->device[i];

		if (d->domain == domain && d->depth)
			push(b, device_tlb(d, order == 63 ? PAGES_ALL | PAGES_S :
							    block(align_down(iova, BIT64(order)), order)));
	}
}

int amdvi_inv_device_tlb(struct amdvi *v, const struct amdvi_device *d)
{
	const struct amdvi_pair c = device_tlb(d, PAGES_ALL | PAGES_S);

	return d->depth ? submit(v, &c, 1, deadline_in(AMDVI_WAIT_NS)) : 0;
}

int amdvi_inv_domain(struct amdvi *v, uint16_t domain, struct deadline dl)
{
	struct batch b = {.v = v, .dl = dl};

	if (SABOTAGE(amdvi_pages_inv_skip))
		return 0;
	push(&b, whole_domain(domain));
	push_device_tlbs(&b, domain, 0, UINT64_MAX);
	flush(&b);
	return b.r;
}

int amdvi_inv_range(struct amdvi *v, uint16_t domain, uint64_t iova, uint64_t size, bool leaf_only,
		    struct deadline dl)
{
	struct batch b = {.v = v, .dl = dl};
	unsigned parts = 0;

	if (SABOTAGE(amdvi_pages_inv_skip))
		return 0;
	for (uint64_t at = iova, left = size; left > 0;) {
		unsigned order = 63 - (unsigned)__builtin_clzll(left);

		if (parts++ == RANGE_PARTS)
			return amdvi_inv_domain(v, domain, dl);
		if (at != 0)
			order = MIN(order, (unsigned)__builtin_ctzll(at));
		push(&b, command(INVALIDATE_IOMMU_PAGES, FIELD_PREP(PAGES_DOMAINID, (uint64_t)domain),
				 block(at, order) | (leaf_only ? 0 : PAGES_PDE)));
		at += BIT64(order);
		left -= BIT64(order);
	}
	push_device_tlbs(&b, domain, iova, iova + (size - 1));
	flush(&b);
	return b.r;
}
