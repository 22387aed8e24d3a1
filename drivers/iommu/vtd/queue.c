/* SPDX-License-Identifier: MIT */

/* Invalidation: VT-d 4.1, 6.5. Queued where ECAP.QI, else through CCMD and IOTLB registers. */

#include "drivers/iommu/vtd/vtd.h"

#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/log/log.h"

#define QUEUE_ENTRIES 256u
#define RANGE_DESCS   32             /* more blocks than this: the whole domain is cheaper */
#define BATCH         (RANGE_DESCS + VTD_ATS_MAX)
#define ALL           UINT64_MAX     /* a size: every address */

static const char drain_text[] = "the invalidation queue does not drain";

_Static_assert(IOMMU_QUEUE_WAITS + BATCH + 1 < QUEUE_ENTRIES, "a batch behind waits that nobody has waited for");

/* ---- the queue ---- */

static bool queue_on(const struct vtd *v)
{
	return v->gcmd & GCMD_QIE;
}

static struct vtd_entry *queue_slot(struct vtd *v, unsigned i)
{
	return (struct vtd_entry *)((uint8_t *)v->queue.va + ((size_t)(i % QUEUE_ENTRIES) << v->desc_shift));
}

/* The upper half of a slot of 256 bits is zero from the start and stays so. */
static void put(struct vtd *v, unsigned i, struct vtd_entry desc)
{
	*queue_slot(v, i) = desc;
}

/* A wait that writes data to the status word once all before it is done (6.5.2.8). */
static struct vtd_entry wait_desc(const struct vtd *v, uint32_t data)
{
	return (struct vtd_entry){.lo = FIELD_PREP(QI_TYPE, QI_TYPE_WAIT) | QI_WAIT_SW |
					FIELD_PREP(QI_WAIT_DATA, data),
				  .hi = v->status.pa.v};
}

static void queue_ring(struct vtd *v)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (SABOTAGE(vtd_queue_dead))
		return;
	vtd_w64(v, IQT_REG, (uint64_t)(v->queue_tail % QUEUE_ENTRIES) << v->desc_shift);
}

/*
 * The queue stands still at a descriptor that the unit could not take (6.5.2.10). That one and those
 * behind it become waits, so that the queue can go on; what they asked for has not been done.
 */
static int queue_recover(struct vtd *v, struct deadline dl)
{
	volatile uint32_t *status = v->status.va;
	const uint32_t fsts = vtd_r32(v, FSTS_REG);
	const unsigned head = (unsigned)(vtd_r64(v, IQH_REG) & IQH_QH) >> v->desc_shift;
	const struct vtd_entry bad = *queue_slot(v, head);

	if (!v->queue_error_due)
		log_line("# note VT-d queue error FSTS=%08x at descriptor %u: %016llx %016llx", fsts, head,
			 (unsigned long long)bad.lo, (unsigned long long)bad.hi);
	for (unsigned i = head; i % QUEUE_ENTRIES != v->queue_tail % QUEUE_ENTRIES; i++) {
		const bool last = (i + 1) % QUEUE_ENTRIES == v->queue_tail % QUEUE_ENTRIES;

		put(v, i, wait_desc(v, last ? v->queue_seq : v->queue_seq - 1));
	}
	vtd_w1c(v, FSTS_REG, fsts & FSTS_QUEUE_ERRORS);
	queue_ring(v);
	if (!WAIT_UNTIL(*status == v->queue_seq, dl))
		return vtd_fail(v, "the invalidation queue did not recover from an error");
	return -EIO;
}

/* Nothing else is in the queue: every submission is waited for. */
static int queue_submit(struct vtd *v, const struct vtd_entry *desc, unsigned n, struct deadline dl)
{
	volatile uint32_t *status = v->status.va;

	if (v->iommu->broken)
		return -EIO;
	v->queue_seq++;
	for (unsigned i = 0; i < n; i++)
		put(v, v->queue_tail++, desc[i]);
	put(v, v->queue_tail++, wait_desc(v, v->queue_seq));
	queue_ring(v);
	/* The status word is memory, the register an exit under a hypervisor: in this order. */
	if (!WAIT_UNTIL(*status == v->queue_seq || (vtd_r32(v, FSTS_REG) & FSTS_QUEUE_ERRORS), dl))
		return vtd_fail(v, "an invalidation did not complete");
	return *status == v->queue_seq ? 0 : queue_recover(v, dl);
}

static bool queue_drained(struct vtd *v)
{
	return WAIT_FOR(vtd_r64(v, IQH_REG) == vtd_r64(v, IQT_REG), VTD_WAIT_NS);
}

int vtd_queue_waits(struct iommu *iommu, gpa_t words, unsigned n, uint32_t first)
{
	struct vtd *v = vtd_of(iommu);

	if (iommu->broken)
		return -EIO;
	if (!queue_on(v))
		return -EOPNOTSUPP;
	if (n > IOMMU_QUEUE_WAITS)
		return -EINVAL;
	/* Those of the call before may still be there. */
	if (!queue_drained(v))
		return vtd_fail(v, drain_text);
	for (unsigned i = 0; i < n; i++) {
		struct vtd_entry e = wait_desc(v, first + i);

		e.hi = words.v + 8 * i;
		put(v, v->queue_tail++, e);
	}
	queue_ring(v);
	return 0;
}

/* Type 0 is reserved in every revision (6.5.2). */
int vtd_queue_bad(struct iommu *iommu)
{
	struct vtd *v = vtd_of(iommu);
	const struct vtd_entry desc = {.lo = FIELD_PREP(QI_TYPE, 0)};
	int r;

	if (!queue_on(v))
		return -EOPNOTSUPP;
	v->queue_error_due = true;
	r = queue_submit(v, &desc, 1, deadline_in(VTD_WAIT_NS));
	v->queue_error_due = false;
	return r;
}

int vtd_queue_start(struct vtd *v)
{
	/* Scalable mode has descriptors that want 256 bits; then all are as long (6.5.2). */
	v->desc_shift = v->scalable ? 5 : 4;
	if (!v->queue.va && !dma_alloc(&v->queue, (size_t)QUEUE_ENTRIES << v->desc_shift, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	if (!v->status.va && !dma_alloc(&v->status, sizeof(uint32_t), PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	v->queue_tail = 0;
	vtd_w64(v, IQT_REG, 0);
	vtd_w64(v, IQA_REG, v->queue.pa.v | (v->scalable ? IQA_DW | FIELD_PREP(IQA_QS, 1) : 0));
	return vtd_state(v, GCMD_QIE, true);
}

/* What is in the queue, ours or firmware's, has to be done before it may be switched off (6.5.2). */
int vtd_queue_stop(struct vtd *v)
{
	if (!queue_on(v))
		return 0;
	if (!queue_drained(v))
		return vtd_fail(v, drain_text);
	return vtd_state(v, GCMD_QIE, false);
}

/* Scalable mode, interrupt entries and device TLBs know no other way (6.5.1). */
int vtd_queue_use(struct iommu *iommu, bool on)
{
	struct vtd *v = vtd_of(iommu);

	if (iommu->broken)
		return -EIO;
	if (iommu->translating || iommu->remapping)
		return -EBUSY;
	if (!iommu->caps.queued_invalidation || v->scalable)
		return on == iommu->caps.queued_invalidation ? 0 : -EOPNOTSUPP;
	if (on == queue_on(v))
		return 0;
	if (on)
		return vtd_queue_start(v);
	/* QEMU (10.0, 11.1) leaves a queue on whose last descriptor was no wait; one that was never used had none. */
	(void)queue_submit(v, NULL, 0, deadline_in(VTD_WAIT_NS));
	return vtd_queue_stop(v);
}

/* ---- by register (6.5.1) ---- */

static int register_context(struct vtd *v, uint64_t request)
{
	vtd_w64(v, CCMD_REG, CCMD_ICC | request);
	if (!WAIT_FOR(!(vtd_r64(v, CCMD_REG) & CCMD_ICC), VTD_WAIT_NS))
		return vtd_fail(v, "CCMD.ICC stays set");
	return 0;
}

static int register_iotlb(struct vtd *v, uint64_t request, uint64_t iva, struct deadline dl)
{
	const unsigned at = (unsigned)FIELD_GET(ECAP_IRO, v->ecap) * 16;

	if (v->cap & CAP_DRD)
		request |= IOTLB_DR;
	if (v->cap & CAP_DWD)
		request |= IOTLB_DW;
	vtd_w64(v, at + IVA_REG, iva);
	vtd_w64(v, at + IOTLB_REG, IOTLB_IVT | request);
	if (!WAIT_UNTIL(!(vtd_r64(v, at + IOTLB_REG) & IOTLB_IVT), dl))
		return vtd_fail(v, "IOTLB.IVT stays set");
	/* Zero: the request was refused as incorrect. */
	return FIELD_GET(IOTLB_IAIG, vtd_r64(v, at + IOTLB_REG)) ? 0 : -EIO;
}

/* ---- context cache ---- */

int vtd_inv_context_all(struct vtd *v)
{
	const struct vtd_entry desc = {.lo = FIELD_PREP(QI_TYPE, QI_TYPE_CONTEXT) |
					     FIELD_PREP(QI_G, QI_G_GLOBAL)};

	if (queue_on(v))
		return queue_submit(v, &desc, 1, deadline_in(VTD_WAIT_NS));
	return register_context(v, FIELD_PREP(CCMD_CIRG, CCMD_CIRG_GLOBAL));
}

int vtd_inv_context_device(struct vtd *v, uint16_t did, uint16_t sid)
{
	const struct vtd_entry desc = {
		.lo = FIELD_PREP(QI_TYPE, QI_TYPE_CONTEXT) | FIELD_PREP(QI_G, QI_G_DEVICE) |
		      FIELD_PREP(QI_CONTEXT_DID, did) | FIELD_PREP(QI_CONTEXT_SID, sid)};

	if (SABOTAGE(vtd_context_inv_skip))
		return 0;
	if (queue_on(v))
		return queue_submit(v, &desc, 1, deadline_in(VTD_WAIT_NS));
	return register_context(v, FIELD_PREP(CCMD_CIRG, CCMD_CIRG_DEVICE) |
					   FIELD_PREP(CCMD_SID, sid) | FIELD_PREP(CCMD_DID, did));
}

/* ---- PASID cache ---- */

static int inv_pasid(struct vtd *v, uint64_t granularity, uint16_t did)
{
	const struct vtd_entry desc = {.lo = FIELD_PREP(QI_TYPE, QI_TYPE_PASID) | FIELD_PREP(QI_G, granularity) |
					     FIELD_PREP(QI_CONTEXT_DID, did)};

	return v->scalable ? queue_submit(v, &desc, 1, deadline_in(VTD_WAIT_NS)) : 0;
}

int vtd_inv_pasid_all(struct vtd *v)
{
	return inv_pasid(v, QI_PASID_G_GLOBAL, 0);
}

int vtd_inv_pasid_domain(struct vtd *v, uint16_t did)
{
	return inv_pasid(v, QI_PASID_G_DOMAIN, did);
}

/* ---- IOTLB and device TLBs ---- */

struct batch {
	struct vtd_entry desc[BATCH];
	unsigned n;
};

static void push(struct batch *b, uint64_t lo, uint64_t hi)
{
	b->desc[b->n++] = (struct vtd_entry){lo, hi};
}

static uint64_t iotlb(const struct vtd *v, uint64_t granularity, uint16_t did)
{
	if (SABOTAGE(vtd_iotlb_inv_domain))
		did ^= 1;
	return FIELD_PREP(QI_TYPE, QI_TYPE_IOTLB) | FIELD_PREP(QI_G, granularity) | FIELD_PREP(QI_IOTLB_DID, did) |
	       (v->cap & CAP_DRD ? QI_IOTLB_DR : 0) | (v->cap & CAP_DWD ? QI_IOTLB_DW : 0);
}

/* Of the first stage, whose translations are a PASID's: ours are PASID 0's, that of requests without one. */
static uint64_t piotlb(uint64_t granularity, uint16_t did)
{
	return FIELD_PREP(QI_TYPE, QI_TYPE_PIOTLB) | FIELD_PREP(QI_PASID, (uint64_t)SABOTAGE(vtd_piotlb_inv_pasid)) | FIELD_PREP(QI_G, granularity) | FIELD_PREP(QI_IOTLB_DID, did);
}

/* The smallest naturally aligned block that holds it: with S as large as the lowest zero tells (ATS 3.2.2). */
static uint64_t devtlb_where(uint64_t iova, uint64_t size)
{
	uint64_t block = PAGE_SIZE;

	if (size == ALL)
		return QI_DEVTLB_ALL | QI_DEVTLB_S;
	while (align_down(iova, block) + (block - 1) < iova + (size - 1) && block < BIT64(62))
		block *= 2;
	if (block == PAGE_SIZE)
		return iova;
	return align_down(iova, block) | ((block / 2 - 1) & ~(PAGE_SIZE - 1)) | QI_DEVTLB_S;
}

/* Of the functions in that domain, or (did 0) of all. */
static void push_devtlb(struct vtd *v, struct batch *b, uint16_t did, uint64_t iova, uint64_t size)
{
	for (unsigned i = 0; i < v->ats_end; i++) {
		const struct vtd_ats *a = &v->ats[i];

		if (a->depth && (did == 0 || a->did == did))
			push(b,
			     FIELD_PREP(QI_TYPE, QI_TYPE_DEVTLB) | FIELD_PREP(QI_DEVTLB_MIP, a->depth - 1ull) |
				     FIELD_PREP(QI_DEVTLB_SID, a->sid),
			     devtlb_where(iova, size));
	}
}

int vtd_inv_all(struct vtd *v, struct deadline dl)
{
	struct batch b;                  /* its 768 bytes are not worth clearing for each unmap */

	b.n = 0;
	if (!queue_on(v))
		return register_iotlb(v, FIELD_PREP(IOTLB_IIRG, IOTLB_IIRG_GLOBAL), 0, dl);
	push(&b, iotlb(v, QI_G_GLOBAL, 0), 0);
	push_devtlb(v, &b, 0, 0, ALL);
	return queue_submit(v, b.desc, b.n, dl);
}

int vtd_inv_domain(struct vtd *v, uint16_t did, unsigned stage, struct deadline dl)
{
	struct batch b;                  /* its 768 bytes are not worth clearing for each unmap */

	b.n = 0;
	if (SABOTAGE(vtd_iotlb_inv_skip))
		return 0;
	if (!queue_on(v))
		return register_iotlb(v, FIELD_PREP(IOTLB_IIRG, IOTLB_IIRG_DOMAIN) | FIELD_PREP(IOTLB_DID, did), 0, dl);
	push(&b, stage == 1 ? piotlb(QI_PIOTLB_PASID, did) : iotlb(v, QI_G_DOMAIN, did), 0);
	push_devtlb(v, &b, did, 0, ALL);
	return queue_submit(v, b.desc, b.n, dl);
}

int vtd_inv_range(struct vtd *v, uint16_t did, unsigned stage, uint64_t iova, uint64_t size, bool leaf_only,
		  struct deadline dl)
{
	const unsigned mamv = (unsigned)FIELD_GET(CAP_MAMV, v->cap);
	const uint64_t lo = stage == 1 ? piotlb(QI_G_PAGE, did) : iotlb(v, QI_G_PAGE, did);
	struct batch b;                  /* its 768 bytes are not worth clearing for each unmap */

	b.n = 0;
	if (SABOTAGE(vtd_iotlb_inv_skip))
		return 0;
	if (!(v->cap & CAP_PSI))
		return vtd_inv_domain(v, did, stage, dl);
	/* What a driver does for each transfer: one page. */
	if (size == PAGE_SIZE && queue_on(v) && !v->ats_end) {
		const struct vtd_entry one = {lo, iova | (leaf_only ? QI_IOTLB_IH : 0)};

		return queue_submit(v, &one, 1, dl);
	}
	/* A request covers a naturally aligned block of 1 << AM pages. */
	for (uint64_t at = iova, left = size; left > 0;) {
		unsigned am = 63 - (unsigned)__builtin_clzll(left >> PAGE_SHIFT);

		if (b.n == RANGE_DESCS)
			return vtd_inv_domain(v, did, stage, dl);
		am = MIN(am, mamv);
		if (at != 0)
			am = MIN(am, (unsigned)__builtin_ctzll(at) - PAGE_SHIFT);
		push(&b, lo, at | FIELD_PREP(QI_IOTLB_AM, am) | (leaf_only ? QI_IOTLB_IH : 0));
		at += PAGE_SIZE << am;
		left -= PAGE_SIZE << am;
	}
	if (queue_on(v)) {
		push_devtlb(v, &b, did, iova, size);
		return queue_submit(v, b.desc, b.n, dl);
	}
	for (unsigned i = 0; i < b.n; i++) {
		/* IVA_REG has the layout of the descriptor's high quadword. */
		const int r = register_iotlb(v, FIELD_PREP(IOTLB_IIRG, IOTLB_IIRG_PAGE) |
							FIELD_PREP(IOTLB_DID, did),
					     b.desc[i].hi, dl);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- interrupt entry cache: by queue only ---- */

int vtd_inv_iec_all(struct vtd *v)
{
	const struct vtd_entry desc = {.lo = FIELD_PREP(QI_TYPE, QI_TYPE_IEC)};

	return queue_submit(v, &desc, 1, deadline_in(VTD_WAIT_NS));
}

int vtd_inv_iec(struct vtd *v, unsigned index)
{
	const struct vtd_entry desc = {.lo = FIELD_PREP(QI_TYPE, QI_TYPE_IEC) | QI_IEC_INDEXED |
					     FIELD_PREP(QI_IEC_IIDX, index)};

	return queue_submit(v, &desc, 1, deadline_in(VTD_WAIT_NS));
}
