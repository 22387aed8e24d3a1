/* SPDX-License-Identifier: MIT */

/* VT-d units in legacy mode: VT-d 4.1, 3.4 (translation), 9.1 and 9.3 (root and context entries). */

#include "drivers/iommu/vtd/vtd.h"

#include "kernel/acpi/acpi.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"

#define CACHE_LINE 64u
#define LIMBO_MAX  32u               /* tables kept for a page-selective sync before we ask for more */

/* ---- registers ---- */

static void vtd_dump(struct iommu *iommu)
{
	const struct vtd *v = vtd_of(iommu);

	if (!v || !v->regs)
		return;
	log_line("# note iommu %08llx VER=%08x CAP=%016llx ECAP=%016llx GSTS=%08x gcmd=%08x",
		 (unsigned long long)iommu->desc.regs.v, vtd_r32(v, VER_REG),
		 (unsigned long long)vtd_r64(v, CAP_REG), (unsigned long long)vtd_r64(v, ECAP_REG),
		 vtd_r32(v, GSTS_REG), v->gcmd);
	log_line("# note iommu %08llx RTADDR=%016llx CCMD=%016llx FSTS=%08x FECTL=%08x PMEN=%08x",
		 (unsigned long long)iommu->desc.regs.v, (unsigned long long)vtd_r64(v, RTADDR_REG),
		 (unsigned long long)vtd_r64(v, CCMD_REG), vtd_r32(v, FSTS_REG),
		 vtd_r32(v, FECTL_REG), vtd_r32(v, PMEN_REG));
	log_line("# note iommu %08llx IQH=%llx IQT=%llx IQA=%016llx ICS=%08x IRTA=%016llx",
		 (unsigned long long)iommu->desc.regs.v, (unsigned long long)vtd_r64(v, IQH_REG),
		 (unsigned long long)vtd_r64(v, IQT_REG), (unsigned long long)vtd_r64(v, IQA_REG),
		 vtd_r32(v, ICS_REG), (unsigned long long)vtd_r64(v, IRTA_REG));
}

int vtd_fail(struct vtd *v, const char *why)
{
	if (!v->iommu->broken) {
		v->iommu->broken = why;
		log_line("# note iommu %08llx is not used any more: %s",
			 (unsigned long long)v->iommu->desc.regs.v, why);
		vtd_dump(v->iommu);
	}
	return -ETIMEDOUT;
}

int vtd_state(struct vtd *v, uint32_t bit, bool on)
{
	v->gcmd = on ? v->gcmd | bit : v->gcmd & ~bit;
	vtd_w32(v, GCMD_REG, v->gcmd);
	if (!WAIT_FOR(!(vtd_r32(v, GSTS_REG) & bit) == !on, VTD_WAIT_NS))
		return vtd_fail(v, on ? "GSTS does not follow GCMD: a bit stays clear"
				      : "GSTS does not follow GCMD: a bit stays set");
	return 0;
}

int vtd_oneshot(struct vtd *v, uint32_t bit)
{
	/* WBF shows until it is done, the table pointers once they are taken. */
	const bool done = bit != GCMD_WBF;

	vtd_w32(v, GCMD_REG, v->gcmd | bit);
	if (!WAIT_FOR(!(vtd_r32(v, GSTS_REG) & bit) == !done, VTD_WAIT_NS))
		return vtd_fail(v, "GSTS does not answer a command");
	return 0;
}

/* ---- memory that the unit reads ---- */

void vtd_flush(const struct vtd *v, const void *p, size_t size)
{
	const uintptr_t end = (uintptr_t)p + size;

	if (v->ecap & ECAP_C)
		return;
	for (uintptr_t at = (uintptr_t)p & ~(uintptr_t)(CACHE_LINE - 1); at < end; at += CACHE_LINE)
		__asm__ volatile("clflush (%0)" : : "r"(at) : "memory");
	__asm__ volatile("mfence" ::: "memory");
}

int vtd_flush_write_buffer(struct vtd *v)
{
	return v->cap & CAP_RWBF ? vtd_oneshot(v, GCMD_WBF) : 0;
}

void vtd_set_entry(const struct vtd *v, struct vtd_entry *e, uint64_t lo, uint64_t hi)
{
	volatile struct vtd_entry *p = e;

	/* Same second word, as in a retarget: one store does it, and there is no moment without. */
	if (p->hi != hi) {
		p->lo = 0;
		__atomic_thread_fence(__ATOMIC_RELEASE);
		p->hi = hi;
		__atomic_thread_fence(__ATOMIC_RELEASE);
	}
	p->lo = lo;
	vtd_flush(v, e, sizeof(*e));
}

static uint64_t *sl_alloc(void *ctx, uint64_t *pa)
{
	gpa_t page;
	void *va;

	(void)ctx;
	if (!phys_alloc(1, 1, PHYS_ANY, &page))
		return NULL;
	va = phys_to_virt(page);
	memset(va, 0, PAGE_SIZE);
	*pa = page.v;
	return va;
}

static void sl_free(void *ctx, uint64_t pa)
{
	(void)ctx;
	phys_free(gpa(pa), 1);
}

static uint64_t *sl_at(void *ctx, uint64_t pa)
{
	(void)ctx;
	return phys_to_virt(gpa(pa));
}

static void sl_flush(void *ctx, const void *p, size_t size)
{
	vtd_flush(ctx, p, size);
}

static const struct vtd_sl_mem sl_mem = {sl_alloc, sl_free, sl_at, sl_flush};

/* ---- bringing a unit to a known state ---- */

static void read_caps(struct vtd *v)
{
	struct iommu_caps *c = &v->iommu->caps;
	const uint32_t ver = vtd_r32(v, VER_REG);
	const uint64_t cap = v->cap, ecap = v->ecap;

	c->raw[0] = cap;
	c->raw[1] = ecap;
	/* SAGAW bit 1: 3 levels, bit 2: 4, bit 3: 5. */
	c->levels = ((unsigned)FIELD_GET(CAP_SAGAW, cap) << 2) & (BIT(3) | BIT(4) | BIT(5));
	c->translation = c->levels != 0;
	c->iova_bits = (unsigned)FIELD_GET(CAP_MGAW, cap) + 1;
	c->domains_log2 = 4 + 2 * (unsigned)FIELD_GET(CAP_ND, cap);
	c->fault_records = (unsigned)FIELD_GET(CAP_NFR, cap) + 1;
	c->caching_mode = cap & CAP_CM;
	c->page_2m = cap & CAP_SLLPS_2M;
	c->page_1g = cap & CAP_SLLPS_1G;
	c->page_sizes = VTD_SL_4K | (c->page_2m ? VTD_SL_2M : 0) | (c->page_1g ? VTD_SL_1G : 0);
	c->posted = cap & CAP_PI;
	c->coherent = ecap & ECAP_C;
	c->queued_invalidation = ecap & ECAP_QI;
	/* Its entries are invalidated through the queue alone. */
	c->interrupt_remapping = (ecap & ECAP_IR) && (ecap & ECAP_QI);
	c->eim = c->interrupt_remapping && (ecap & ECAP_EIM);
	c->passthrough = ecap & ECAP_PT;
	c->snoop_control = ecap & ECAP_SC;
	c->scalable = ecap & ECAP_SMTS;
	c->ir_entries = c->interrupt_remapping ? VTD_IRT_ENTRIES : 0;
	fmt_snprintf(c->text, sizeof(c->text),
		     "VT-d %u.%u at %llx CAP=%llx ECAP=%llx %u-bit levels=%s%s%s pages=4K%s%s%s%s%s%s%s%s%s",
		     FIELD_GET(VER_MAX, ver), FIELD_GET(VER_MIN, ver),
		     (unsigned long long)v->iommu->desc.regs.v, (unsigned long long)cap,
		     (unsigned long long)ecap, c->iova_bits, c->levels & BIT(3) ? "3" : "",
		     c->levels & BIT(4) ? "4" : "", c->levels & BIT(5) ? "5" : "",
		     c->page_2m ? ",2M" : "", c->page_1g ? ",1G" : "",
		     c->queued_invalidation ? " QI" : "", c->interrupt_remapping ? " IR" : "",
		     c->eim ? " EIM" : "", c->passthrough ? " PT" : "", c->caching_mode ? " CM" : "",
		     cap & CAP_RWBF ? " RWBF" : "", c->coherent ? " C" : "");
}

/*
 * Firmware may have left anything on. Translation goes first, so that nothing is blocked by tables
 * that are no longer kept; the queue last, since the others may need it.
 */
static int quiet(struct vtd *v)
{
	static const uint32_t off[] = {GCMD_TE, GCMD_IRE, GCMD_CFI, GCMD_EAFL};
	int r = 0;

	v->gcmd = vtd_r32(v, GSTS_REG) & GCMD_STATES;
	vtd_w32(v, FECTL_REG, FECTL_IM);
	if (v->ecap & ECAP_QI)
		vtd_w32(v, IECTL_REG, IECTL_IM);
	for (unsigned i = 0; r == 0 && i < ARRAY_SIZE(off); i++) {
		if (v->gcmd & off[i])
			r = vtd_state(v, off[i], false);
	}
	/* Protected memory regions would now block what translation blocked before (11.4.15). */
	if (r == 0 && (v->cap & (CAP_PLMR | CAP_PHMR)) && (vtd_r32(v, PMEN_REG) & PMEN_EPM)) {
		vtd_w32(v, PMEN_REG, 0);
		if (!WAIT_FOR(!(vtd_r32(v, PMEN_REG) & PMEN_PRS), VTD_WAIT_NS))
			r = vtd_fail(v, "PMEN.PRS stays set");
	}
	if (r == 0)
		r = vtd_queue_stop(v);
	if (r == 0)
		vtd_fault_clear(v->iommu);
	return r;
}

static int vtd_probe(struct iommu *iommu, const struct iommu_desc *desc)
{
	struct vtd *v = kzalloc(sizeof(*v));
	uint64_t need;

	if (!v)
		return -ENOMEM;
	iommu->desc = *desc;
	iommu->priv = v;
	v->iommu = iommu;
	v->regs = mmio_map(desc->regs, PAGE_SIZE);
	if (!v->regs)
		return -ENOMEM;
	v->cap = vtd_r64(v, CAP_REG);
	v->ecap = vtd_r64(v, ECAP_REG);
	if (v->cap == ~0ull || v->cap == 0 || vtd_r32(v, VER_REG) == ~0u) {
		iommu->broken = "its registers read as all ones or zero";
		return -ENODEV;
	}
	/* Two blocks of registers are where the capabilities put them, maybe past the first page. */
	need = MAX(FIELD_GET(CAP_FRO, v->cap) + FIELD_GET(CAP_NFR, v->cap) + 1,
		   FIELD_GET(ECAP_IRO, v->ecap) + 1) * 16;
	if (need > PAGE_SIZE || desc->regs_size > PAGE_SIZE) {
		v->regs = mmio_map(desc->regs, MAX(need, desc->regs_size));
		if (!v->regs)
			return -ENOMEM;
	}
	iommu->regs = v->regs;
	read_caps(v);
	v->domain_used[0] = 1;       /* ID 0 is the cache tag of entries not present (6.1) */
	if (quiet(v) < 0)
		return -ETIMEDOUT;
	return iommu->caps.queued_invalidation ? vtd_queue_start(v) : 0;
}

/* ---- translation on and off ---- */

static int vtd_enable(struct iommu *iommu)
{
	struct vtd *v = vtd_of(iommu);
	int r;

	if (iommu->broken)
		return -EIO;
	if (!iommu->caps.translation)
		return -EOPNOTSUPP;
	if (iommu->translating)
		return 0;
	if (!v->root.va && !dma_alloc(&v->root, PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	vtd_flush(v, v->root.va, PAGE_SIZE);
	vtd_w64(v, RTADDR_REG, v->root.pa.v); /* TTM = 00b: legacy mode */
	r = vtd_oneshot(v, GCMD_SRTP);
	/* In this order, after a new root table (6.6). */
	if (r == 0)
		r = vtd_inv_context_all(v);
	if (r == 0)
		r = vtd_inv_iotlb_all(v, deadline_in(VTD_WAIT_NS));
	if (r == 0)
		r = vtd_state(v, GCMD_TE, true);
	if (r < 0)
		return r;
	iommu->translating = true;
	return 0;
}

static void vtd_disable(struct iommu *iommu)
{
	if (!iommu->translating || iommu->broken)
		return;
	if (vtd_state(vtd_of(iommu), GCMD_TE, false) == 0)
		iommu->translating = false;
}

/* ---- domains ---- */

/* The fewest levels that reach every address the unit takes; else the most there are. */
static unsigned default_levels(const struct iommu_caps *c)
{
	unsigned best = 0;

	for (unsigned n = 3; n <= 5; n++) {
		if (!(c->levels & BIT(n)))
			continue;
		best = n;
		if (12 + 9 * n >= c->iova_bits)
			break;
	}
	return best;
}

static unsigned most_levels(const struct iommu_caps *c)
{
	return 31 - (unsigned)__builtin_clz(c->levels);
}

static int vtd_domain_init(struct iommu_domain *d, bool passthrough)
{
	struct iommu *iommu = d->iommu;
	struct vtd *v = vtd_of(iommu);
	const unsigned ids = MIN(1u << MIN(iommu->caps.domains_log2, 16u), (unsigned)VTD_DOMAINS);
	struct vtd_domain *priv;
	unsigned id = 1;
	int r = 0;

	if (iommu->broken)
		return -EIO;
	if (!iommu->caps.translation || (passthrough && !iommu->caps.passthrough))
		return -EOPNOTSUPP;
	/* The caller may ask for a depth. Pass-through must be given the largest (9.3, AW). */
	if (passthrough)
		d->levels = most_levels(&iommu->caps);
	else if (d->levels == 0)
		d->levels = default_levels(&iommu->caps);
	if (d->levels > 5 || !(iommu->caps.levels & BIT(d->levels)))
		return -EOPNOTSUPP;
	while (id < ids && (v->domain_used[id / 64] & BIT64(id % 64)))
		id++;
	if (id >= ids)
		return -ENOSPC;
	priv = kzalloc(sizeof(*priv));
	if (!priv)
		return -ENOMEM;
	priv->sl = (struct vtd_sl){.mem = &sl_mem,
				   .ctx = v,
				   .levels = d->levels,
				   .bits = iommu->caps.iova_bits,
				   .sizes = (iommu->caps.page_2m ? VTD_SL_2M : 0) |
					    (iommu->caps.page_1g ? VTD_SL_1G : 0),
				   .leaf_bits = iommu->caps.snoop_control ? SL_SNP : 0};
	if (!passthrough)
		r = vtd_sl_init(&priv->sl);
	if (r < 0) {
		kfree(priv);
		return r;
	}
	v->domain_used[id / 64] |= BIT64(id % 64);
	d->id = (uint16_t)id;
	d->passthrough = passthrough;
	d->attached = 0;
	d->priv = priv;
	d->table_pages = priv->sl.pages;
	return 0;
}

static struct vtd_sl *sl_of(const struct iommu_domain *d)
{
	return &((struct vtd_domain *)d->priv)->sl;
}

static struct vtd_entry *context_entry(struct vtd *v, pci_rid_t rid)
{
	const struct dma_buf *table = &v->context[rid_bus(rid)];

	return table->va ? (struct vtd_entry *)table->va + rid_devfn(rid) : NULL;
}

static int new_context_table(struct vtd *v, unsigned bus)
{
	struct dma_buf *table = &v->context[bus];

	if (!v->root.va && !dma_alloc(&v->root, PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	if (!dma_alloc(table, PAGE_SIZE, PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	vtd_flush(v, table->va, PAGE_SIZE);
	vtd_set_entry(v, (struct vtd_entry *)v->root.va + bus, table->pa.v | ROOT_P, 0);
	return 0;
}

static int vtd_attach(struct iommu_domain *d, pci_rid_t rid)
{
	struct vtd *v = vtd_of(d->iommu);
	struct vtd_entry *e;
	uint64_t lo;
	int r = 0;

	if (d->iommu->broken)
		return -EIO;
	if (!context_entry(v, rid))
		r = new_context_table(v, rid_bus(rid));
	if (r < 0)
		return r;
	e = context_entry(v, rid);
	if (e->lo & CONTEXT_P)
		return -EBUSY;
	if (d->passthrough)
		lo = CONTEXT_P | FIELD_PREP(CONTEXT_TT, CONTEXT_TT_PASS);
	else
		lo = CONTEXT_P | FIELD_PREP(CONTEXT_TT, CONTEXT_TT_SL) | sl_of(d)->root;
	vtd_set_entry(v, e, lo, FIELD_PREP(CONTEXT_AW, d->levels - 2) | FIELD_PREP(CONTEXT_DID, d->id));
	d->attached++;
	if (!(v->cap & CAP_CM))
		return vtd_flush_write_buffer(v);
	/* Caching mode: "not present" was cached under domain ID 0. */
	r = vtd_inv_context_device(v, 0, (uint16_t)rid.v);
	return r < 0 ? r : vtd_inv_iotlb_domain(v, d->id, deadline_in(VTD_WAIT_NS));
}

static int vtd_detach(struct iommu_domain *d, pci_rid_t rid)
{
	struct vtd *v = vtd_of(d->iommu);
	struct vtd_entry *e = context_entry(v, rid);
	int r;

	if (!e || !(e->lo & CONTEXT_P) || FIELD_GET(CONTEXT_DID, e->hi) != d->id)
		return -ENOENT;
	vtd_set_entry(v, e, 0, 0);
	d->attached--;
	if (d->iommu->broken)
		return -EIO;
	/* The context cache, then what was found through it (6.5.3). */
	r = vtd_inv_context_device(v, d->id, (uint16_t)rid.v);
	return r < 0 ? r : vtd_inv_iotlb_domain(v, d->id, deadline_in(VTD_WAIT_NS));
}

static void vtd_domain_fini(struct iommu_domain *d)
{
	struct vtd *v = vtd_of(d->iommu);

	if (!d->priv)
		return;
	/* No device may be left with a pointer to tables that are about to be freed. */
	for (unsigned bus = 0; d->attached > 0 && bus < 256; bus++) {
		for (unsigned devfn = 0; v->context[bus].va && devfn < 256; devfn++)
			vtd_detach(d, (pci_rid_t){bus << 8 | devfn});
	}
	if (!d->passthrough && !d->iommu->broken) {
		vtd_inv_iotlb_domain(v, d->id, deadline_in(VTD_WAIT_NS));
		vtd_sl_fini(sl_of(d));
	}
	v->domain_used[d->id / 64] &= ~BIT64(d->id % 64);
	kfree(d->priv);
	d->priv = NULL;
	d->table_pages = 0;
}

static int vtd_map(struct iommu_domain *d, iova_t at, gpa_t to, size_t size, uint32_t prot,
		   size_t page_max)
{
	struct vtd *v = vtd_of(d->iommu);
	int r;

	if (d->iommu->broken)
		return -EIO;
	if (d->passthrough)
		return -EINVAL;
	r = vtd_sl_map(sl_of(d), at.v, to.v, size, prot, page_max);
	d->table_pages = sl_of(d)->pages;
	if (r < 0)
		return r;
	if (v->cap & CAP_CM)
		return vtd_inv_iotlb_range(v, d->id, at.v, size, false, deadline_in(VTD_WAIT_NS));
	return vtd_flush_write_buffer(v);
}

static int vtd_unmap(struct iommu_domain *d, iova_t at, size_t size)
{
	if (d->iommu->broken)
		return -EIO;
	return d->passthrough ? -EINVAL : vtd_sl_unmap(sl_of(d), at.v, size);
}

static int vtd_lookup(const struct iommu_domain *d, iova_t at, struct iommu_leaf *leaf)
{
	struct vtd_sl_leaf l;
	const int r = d->passthrough ? -EINVAL : vtd_sl_lookup(sl_of(d), at.v, &l);

	if (r == 0)
		*leaf = (struct iommu_leaf){gpa(l.pa), l.size, l.prot};
	return r;
}

/* Tables that unmap took out are freed once nothing of the domain can be cached. */
static int sync_domain(struct iommu_domain *d, struct deadline dl)
{
	const int r = vtd_inv_iotlb_domain(vtd_of(d->iommu), d->id, dl);

	if (r == 0 && !d->passthrough) {
		vtd_sl_reap(sl_of(d));
		d->table_pages = sl_of(d)->pages;
	}
	return r;
}

static int vtd_sync(struct iommu_domain *d, const struct sync_range *range, struct deadline dl)
{
	struct vtd *v = vtd_of(d->iommu);
	struct vtd_sl *sl = sl_of(d);
	int r;

	if (d->iommu->broken)
		return -EIO;
	if (!range || d->passthrough)
		return sync_domain(d, dl);
	if (range->size == 0 || !is_aligned(range->iova.v | range->size, PAGE_SIZE))
		return -EINVAL;
	/* With tables gone, their parents' cached entries have to go too: no invalidation hint. */
	r = vtd_inv_iotlb_range(v, d->id, range->iova.v, range->size,
				range->leaf_only && sl->limbo_pages == 0, dl);
	if (r == 0 && sl->limbo_pages > LIMBO_MAX)
		r = sync_domain(d, dl);
	return r;
}

static int vtd_sync_all(struct iommu *iommu, struct deadline dl)
{
	return iommu->broken ? -EIO : vtd_inv_iotlb_all(vtd_of(iommu), dl);
}

const struct iommu_ops vtd_ops = {
	.name = "vtd",
	.probe = vtd_probe,
	.enable = vtd_enable,
	.disable = vtd_disable,
	.domain_init = vtd_domain_init,
	.domain_fini = vtd_domain_fini,
	.attach = vtd_attach,
	.detach = vtd_detach,
	.map = vtd_map,
	.unmap = vtd_unmap,
	.lookup = vtd_lookup,
	.sync = vtd_sync,
	.sync_all = vtd_sync_all,
	.ir_enable = vtd_ir_enable,
	.ir_disable = vtd_ir_disable,
	.irq_map = vtd_irq_map,
	.irq_update = vtd_irq_update,
	.irq_write = vtd_irq_write,
	.irq_reserved = vtd_irq_reserved,
	.irq_unmap = vtd_irq_unmap,
	.irq_message = vtd_irq_message,
	.irq_rte = vtd_irq_rte,
	.fault_pop = vtd_fault_pop,
	.fault_clear = vtd_fault_clear,
	.fault_irq = vtd_fault_irq,
	.queue_waits = vtd_queue_waits,
	.queue_bad = vtd_queue_bad,
	.dump = vtd_dump,
};
