/* SPDX-License-Identifier: MIT */

/* Which requester has which domain: VT-d 4.1, 3.4, and 9.1 to 9.6 for the entries of both modes. */

#include "drivers/iommu/vtd/vtd.h"

#include "kernel/lib/err.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"

#define SM_CONTEXT_WORDS 4
#define PASID_WORDS      8

/* Words 1 and up first, then word 0, which holds Present; a present entry goes out before it changes. */
static void set_words(uint64_t *entry, const uint64_t *to, unsigned n)
{
	volatile uint64_t *p = entry;

	p[0] = 0;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	for (unsigned i = 1; i < n; i++)
		p[i] = to[i];
	__atomic_thread_fence(__ATOMIC_RELEASE);
	p[0] = to[0];
}

unsigned vtd_levels(const struct vtd *v, unsigned stage)
{
	if (stage == 1)
		return BIT(4) | (v->cap & CAP_FS5LP ? BIT(5) : 0);
	/* SAGAW bit 1: 3 levels, bit 2: 4, bit 3: 5. */
	return ((unsigned)FIELD_GET(CAP_SAGAW, v->cap) << 2) & (BIT(3) | BIT(4) | BIT(5));
}

/* ---- the tables ---- */

int vtd_root(struct vtd *v, uint64_t *rtaddr)
{
	if (!v->root.va && !dma_alloc(&v->root, PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	vtd_flush(v, v->root.va, PAGE_SIZE);
	*rtaddr = v->root.pa.v | FIELD_PREP(RTADDR_TTM, v->scalable ? TTM_SCALABLE : TTM_LEGACY);
	return 0;
}

/* A legacy table is a page; of scalable mode's two, the lower devfns' is the first. */
static int new_context_table(struct vtd *v, unsigned bus)
{
	struct dma_buf *table = &v->context[bus];
	uint64_t rtaddr;

	if (vtd_root(v, &rtaddr) < 0 || !dma_alloc(table, (v->scalable ? 2 : 1) * PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	vtd_flush(v, table->va, table->size);
	if (SABOTAGE(vtd_root_wrong_bus))
		bus = (bus + 1) % 256;
	vtd_set_entry(v, (struct vtd_entry *)v->root.va + bus, table->pa.v | ROOT_P,
		      v->scalable ? (table->pa.v + PAGE_SIZE) | ROOT_P : 0);
	return 0;
}

/* The first word of rid's entry; NULL: its bus has no table. */
static uint64_t *entry_of(struct vtd *v, pci_rid_t rid)
{
	uint64_t *table = v->context[rid_bus(rid)].va;
	const unsigned index = rid_devfn(rid) ^ (SABOTAGE(vtd_context_wrong_function) ? 1 : 0);

	if (!table)
		return NULL;
	/* Scalable mode: 2 × 128 entries in a row. */
	return table + index * (v->scalable ? SM_CONTEXT_WORDS : 2);
}

static struct vtd_pasid *pasid_of(struct vtd *v, uint16_t sid, bool make)
{
	struct vtd_pasid *p = v->pasid;

	while (p < v->pasid + VTD_PASID_TABLES && p->dir.va && p->sid != sid)
		p++;
	if (p == v->pasid + VTD_PASID_TABLES || (!p->dir.va && !make))
		return NULL;
	if (p->dir.va)
		return p;
	if (!dma_alloc(&p->table, PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		return NULL;
	if (!dma_alloc(&p->dir, PAGE_SIZE, PAGE_SIZE, PHYS_ANY)) {
		dma_free(&p->table);
		return NULL;
	}
	p->sid = sid;
	vtd_flush_paging(v, p->dir.va, PAGE_SIZE);
	vtd_flush_paging(v, p->table.va, PAGE_SIZE);
	return p;
}

/* ---- legacy ---- */

static void set_legacy(struct vtd *v, uint64_t *e, const struct iommu_domain *d, bool device_tlb)
{
	uint64_t tt = device_tlb ? CONTEXT_TT_DT : CONTEXT_TT_SL;

	if (d->passthrough)
		tt = CONTEXT_TT_PASS;
	vtd_set_entry(v, (struct vtd_entry *)e,
		      CONTEXT_P | FIELD_PREP(CONTEXT_TT, tt) | (d->passthrough ? 0 : vtd_pt_of(d)->root),
		      FIELD_PREP(CONTEXT_AW, d->levels - (SABOTAGE(vtd_context_aw) ? 3 : 2)) | FIELD_PREP(CONTEXT_DID, d->id));
}

/* ---- scalable: requests without a PASID use PASID 0's entry (RID_PASID, 9.4) ---- */

static void pasid_entry(const struct vtd *v, const struct iommu_domain *d, uint64_t e[PASID_WORDS])
{
	memset(e, 0, PASID_WORDS * sizeof(e[0]));
	e[0] = PASID_P | FIELD_PREP(PASID_AW, d->levels - (SABOTAGE(vtd_pasid_aw) ? 3 : 2));
	e[1] = FIELD_PREP(PASID_DID, d->id) | (v->ecap & ECAP_SMPWCS ? PASID_PWSNP : 0) |
	       (v->ecap & ECAP_SC ? PASID_PGSNP : 0);
	if (d->passthrough) {
		e[0] |= FIELD_PREP(PASID_PGTT, PGTT_PASS);
	} else if (d->stage == 1) {
		e[0] |= FIELD_PREP(PASID_PGTT, PGTT_FIRST);
		e[2] = FIELD_PREP(PASID_FSPM, d->levels - 4) | vtd_pt_of(d)->root;
	} else {
		e[0] |= FIELD_PREP(PASID_PGTT, PGTT_SECOND) | vtd_pt_of(d)->root;
	}
}

static int set_scalable(struct vtd *v, uint64_t *e, uint16_t sid, const struct iommu_domain *d, bool device_tlb)
{
	struct vtd_pasid *p = pasid_of(v, sid, true);
	uint64_t pe[PASID_WORDS], ce[SM_CONTEXT_WORDS] = {0};

	if (!p)
		return -ENOMEM;
	*(uint64_t *)p->dir.va = p->table.pa.v | PASID_DIR_P;
	vtd_flush_paging(v, p->dir.va, sizeof(uint64_t));
	pasid_entry(v, d, pe);
	set_words(p->table.va, pe, PASID_WORDS);
	vtd_flush_paging(v, p->table.va, sizeof(pe));
	ce[0] = CONTEXT_P | (device_tlb ? SM_CONTEXT_DTE : 0) | FIELD_PREP(SM_CONTEXT_PDTS, 0) | p->dir.pa.v;
	ce[1] = FIELD_PREP(SM_CONTEXT_RID_PASID, 0);
	set_words(e, ce, SM_CONTEXT_WORDS);
	vtd_flush(v, e, sizeof(ce));
	return 0;
}

/* ---- both ---- */

int vtd_context_set(struct vtd *v, pci_rid_t rid, const struct iommu_domain *d, bool device_tlb)
{
	uint64_t *e = entry_of(v, rid);

	if (!e && new_context_table(v, rid_bus(rid)) < 0)
		return -ENOMEM;
	e = entry_of(v, rid);
	if (e[0] & CONTEXT_P)
		return -EBUSY;
	if (v->scalable)
		return set_scalable(v, e, (uint16_t)rid.v, d, device_tlb);
	set_legacy(v, e, d, device_tlb);
	return 0;
}

int vtd_context_clear(struct vtd *v, pci_rid_t rid, uint16_t did)
{
	static const uint64_t none[PASID_WORDS];
	uint64_t *e = entry_of(v, rid);
	struct vtd_pasid *p;

	if (!e || !(e[0] & CONTEXT_P))
		return -ENOENT;
	if (!v->scalable) {
		if (FIELD_GET(CONTEXT_DID, e[1]) != did)
			return -ENOENT;
		vtd_set_entry(v, (struct vtd_entry *)e, 0, 0);
		return 0;
	}
	p = pasid_of(v, (uint16_t)rid.v, false);
	if (!p || FIELD_GET(PASID_DID, ((uint64_t *)p->table.va)[1]) != did)
		return -ENOENT;
	set_words(e, none, SM_CONTEXT_WORDS);
	vtd_flush(v, e, SM_CONTEXT_WORDS * sizeof(*e));
	set_words(p->table.va, none, PASID_WORDS);
	vtd_flush_paging(v, p->table.va, sizeof(none));
	return 0;
}

/* One bit or field wrong, the rest as it was. */
const char *vtd_context_spoil(struct vtd *v, pci_rid_t rid, unsigned n, enum iommu_reason *reason)
{
	/* Which entry, which word of it, what is cleared and set there. */
	enum which { CONTEXT, DIR, PASID };
	static const struct way {
		const char *what;
		enum iommu_reason reason;
		enum which which;
		unsigned word;
		uint64_t clear, set;
	} legacy[] = {
		{"a context entry with reserved bit 5 set", IOMMU_FAULT_RESERVED_BITS, CONTEXT, 0, 0, BIT64(5)},
		{"a context entry with tables of 9 levels (AW=7)", IOMMU_FAULT_TABLE, CONTEXT, 1, 0, CONTEXT_AW},
		{"a context entry of the reserved translation type 3", IOMMU_FAULT_TABLE, CONTEXT, 0, 0, CONTEXT_TT},
	}, scalable[] = {
		{"a context entry with a reserved bit set", IOMMU_FAULT_RESERVED_BITS, CONTEXT, 0, 0, BIT64(5)},
		{"a PASID directory entry that is not present", IOMMU_FAULT_NO_DOMAIN, DIR, 0, PASID_DIR_P, 0},
		{"a PASID entry that is not present", IOMMU_FAULT_NO_DOMAIN, PASID, 0, PASID_P, 0},
		{"a PASID entry of the reserved translation type 7", IOMMU_FAULT_TABLE, PASID, 0, 0, PASID_PGTT},
	};
	const struct way *way = v->scalable ? scalable : legacy;
	uint64_t *e = entry_of(v, rid);

	if (n >= (v->scalable ? ARRAY_SIZE(scalable) : ARRAY_SIZE(legacy)) || !e || !(e[0] & CONTEXT_P))
		return NULL;
	way += n;
	if (way->which != CONTEXT) {
		struct vtd_pasid *p = pasid_of(v, (uint16_t)rid.v, false);

		e = way->which == DIR ? p->dir.va : p->table.va;
	}
	*(volatile uint64_t *)&e[way->word] = (e[way->word] & ~way->clear) | way->set;
	vtd_flush(v, e, PASID_WORDS * sizeof(*e));
	vtd_flush_paging(v, e, PASID_WORDS * sizeof(*e));
	*reason = way->reason;
	return way->what;
}
