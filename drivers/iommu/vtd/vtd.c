/* SPDX-License-Identifier: MIT */

/* VT-d units: VT-d 4.1, 3.4 (translation), chapter 11 (registers). */

#include "drivers/iommu/vtd/vtd.h"

#include "kernel/acpi/acpi.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"

#define CACHE_LINE 64u
#define GIVE_UP_NS MS(50)
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

/* What has stopped answering must not go on blocking devices and interrupts: off, if it still can. */
static void give_up(struct vtd *v)
{
	const uint32_t on = GCMD_TE | GCMD_IRE;

	v->gcmd &= ~on;
	vtd_w32(v, GCMD_REG, v->gcmd);
	if (!WAIT_FOR(!(vtd_r32(v, GSTS_REG) & on), GIVE_UP_NS))
		log_line("# note iommu %08llx cannot be switched off: devices behind it may be cut off",
			 (unsigned long long)v->iommu->desc.regs.v);
	v->iommu->translating = v->iommu->remapping = v->iommu->remapping_eim = false;
}

int vtd_fail(struct vtd *v, const char *why)
{
	if (!v->iommu->broken) {
		v->iommu->broken = why;
		log_line("# note iommu %08llx is not used any more: %s",
			 (unsigned long long)v->iommu->desc.regs.v, why);
		vtd_dump(v->iommu);
		give_up(v);
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

/* No fence: CLFLUSH keeps its order with the stores before and after it (SDM vol. 2, CLFLUSH). */
static void flush_lines(const void *p, size_t size)
{
	const uintptr_t end = (uintptr_t)p + size;

	for (uintptr_t at = (uintptr_t)p & ~(uintptr_t)(CACHE_LINE - 1); at < end; at += CACHE_LINE)
		__asm__ volatile("clflush (%0)" : : "r"(at) : "memory");
}

void vtd_flush(const struct vtd *v, const void *p, size_t size)
{
	if (!(v->ecap & ECAP_C))
		flush_lines(p, size);
}

void vtd_flush_paging(const struct vtd *v, const void *p, size_t size)
{
	if (!(v->ecap & (v->scalable ? ECAP_SMPWCS : ECAP_C)))
		flush_lines(p, size);
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

static void pt_flush(void *ctx, const void *p, size_t size)
{
	vtd_flush_paging(ctx, p, size);
}


/* ---- bringing a unit to a known state ---- */

/* What a domain gets whose user does not say: the stage that an operating system prefers. */
static unsigned default_stage(const struct vtd *v)
{
	return v->scalable && (v->ecap & ECAP_FSTS) ? 1 : 2;
}

static unsigned most_levels(const struct iommu_caps *c)
{
	return c->levels ? 31 - (unsigned)__builtin_clz(c->levels) : 0;
}

static uint64_t page_sizes(const struct vtd *v, unsigned stage)
{
	if (stage == 1)
		return PGT_4K | PGT_2M | (v->cap & CAP_FS1GP ? PGT_1G : 0);
	return PGT_4K | (v->cap & CAP_SLLPS_2M ? PGT_2M : 0) | (v->cap & CAP_SLLPS_1G ? PGT_1G : 0);
}

static void read_caps(struct vtd *v)
{
	struct iommu_caps *c = &v->iommu->caps;
	const uint32_t ver = vtd_r32(v, VER_REG);
	const uint64_t cap = v->cap, ecap = v->ecap;

	c->raw[0] = cap;
	c->raw[1] = ecap;
	c->scalable = v->scalable;
	c->first_stage = v->scalable && (ecap & ECAP_FSTS);
	c->second_stage = !v->scalable || (ecap & ECAP_SSTS);
	c->canonical = c->no_write_only = default_stage(v) == 1;
	c->levels = vtd_levels(v, default_stage(v));
	c->translation = c->levels != 0;
	c->iova_bits = c->canonical ? 11 + 9 * most_levels(c) : (unsigned)FIELD_GET(CAP_MGAW, cap) + 1;
	c->pasid_bits = v->scalable && (ecap & ECAP_PASID) ? (unsigned)FIELD_GET(ECAP_PSS, ecap) + 1 : 0;
	c->domains_log2 = 4 + 2 * (unsigned)FIELD_GET(CAP_ND, cap);
	c->fault_records = (unsigned)FIELD_GET(CAP_NFR, cap) + 1;
	c->caching_mode = cap & CAP_CM;
	c->page_sizes = page_sizes(v, default_stage(v));
	c->page_2m = c->page_sizes & PGT_2M;
	c->page_1g = c->page_sizes & PGT_1G;
	c->posted = cap & CAP_PI;
	c->coherent = ecap & ECAP_C;
	c->queued_invalidation = ecap & ECAP_QI;
	/* Its entries are invalidated through the queue alone. */
	c->interrupt_remapping = (ecap & ECAP_IR) && (ecap & ECAP_QI);
	c->eim = c->interrupt_remapping && (ecap & ECAP_EIM);
	c->passthrough = ecap & ECAP_PT;
	c->snoop_control = ecap & ECAP_SC;
	c->device_tlb = (ecap & ECAP_DT) && c->queued_invalidation;
	c->ir_entries = c->interrupt_remapping ? VTD_IRT_ENTRIES : 0;
	fmt_snprintf(c->text, sizeof(c->text),
		     "VT-d %u.%u at %llx CAP=%llx ECAP=%llx %s %u-bit levels=%s%s%s pages=4K%s%s%s%s%s%s%s%s%s%s",
		     FIELD_GET(VER_MAX, ver), FIELD_GET(VER_MIN, ver),
		     (unsigned long long)v->iommu->desc.regs.v, (unsigned long long)cap,
		     (unsigned long long)ecap,
		     !v->scalable ? "legacy" : default_stage(v) == 1 ? "scalable,first-stage" : "scalable,second-stage",
		     c->iova_bits, c->levels & BIT(3) ? "3" : "",
		     c->levels & BIT(4) ? "4" : "", c->levels & BIT(5) ? "5" : "",
		     c->page_2m ? ",2M" : "", c->page_1g ? ",1G" : "",
		     c->queued_invalidation ? " QI" : "", c->interrupt_remapping ? " IR" : "",
		     c->eim ? " EIM" : "", c->passthrough ? " PT" : "", c->caching_mode ? " CM" : "",
		     cap & CAP_RWBF ? " RWBF" : "", c->coherent ? " C" : "", c->device_tlb ? " DT" : "");
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
	/* Scalable mode needs the queue, and one of the stages to be of any use. */
	v->scalable = (v->ecap & ECAP_SMTS) && (v->ecap & ECAP_QI) && (v->ecap & (ECAP_FSTS | ECAP_SSTS));
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
	uint64_t rtaddr;
	int r;

	if (iommu->broken)
		return -EIO;
	if (!iommu->caps.translation)
		return -EOPNOTSUPP;
	if (iommu->translating)
		return 0;
	r = vtd_root(v, &rtaddr);
	if (r < 0)
		return r;
	vtd_w64(v, RTADDR_REG, rtaddr);
	r = vtd_oneshot(v, GCMD_SRTP);
	/* In this order, after a new root table (6.6). */
	if (r == 0)
		r = vtd_inv_context_all(v);
	if (r == 0)
		r = vtd_inv_pasid_all(v);
	if (r == 0)
		r = vtd_inv_all(v, deadline_in(VTD_WAIT_NS));
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
static unsigned default_levels(unsigned levels, unsigned bits)
{
	unsigned best = 0;

	for (unsigned n = 3; n <= 5; n++) {
		if (!(levels & BIT(n)))
			continue;
		best = n;
		if (12 + 9 * n >= bits)
			break;
	}
	return best;
}

/* Pass-through has no tables, and must be given the largest width (9.3, 9.6: AW). */
static int choose_tables(struct vtd *v, struct iommu_domain *d, bool passthrough)
{
	const struct iommu_caps *c = &d->iommu->caps;
	unsigned levels;

	if (!c->translation || (passthrough && !c->passthrough))
		return -EOPNOTSUPP;
	if (passthrough) {
		levels = vtd_levels(v, 2) ? vtd_levels(v, 2) : c->levels;
		d->stage = 0;
		d->levels = 31 - (unsigned)__builtin_clz(levels);
		return 0;
	}
	if (d->stage == 0)
		d->stage = default_stage(v);
	if (d->stage == 1 ? !c->first_stage : !c->second_stage)
		return -EOPNOTSUPP;
	levels = vtd_levels(v, d->stage);
	if (d->levels == 0)
		d->levels = default_levels(levels, c->iova_bits);
	return d->levels <= 5 && (levels & BIT(d->levels)) ? 0 : -EOPNOTSUPP;
}

static int vtd_domain_init(struct iommu_domain *d, bool passthrough)
{
	struct iommu *iommu = d->iommu;
	struct vtd *v = vtd_of(iommu);
	const unsigned ids = MIN(1u << MIN(iommu->caps.domains_log2, 16u), (unsigned)VTD_DOMAINS);
	struct vtd_domain *priv;
	unsigned id = 1;
	int r;

	if (iommu->broken)
		return -EIO;
	r = choose_tables(v, d, passthrough);
	if (r < 0)
		return r;
	while (id < ids && (v->domain_used[id / 64] & BIT64(id % 64)))
		id++;
	if (id >= ids)
		return -ENOSPC;
	priv = kzalloc(sizeof(*priv));
	if (!priv)
		return -ENOMEM;
	priv->pt = (struct pgt){.mem = &pgt_memory,
				.flush = pt_flush,
				.ctx = v,
				.format = d->stage == 1 ? PGT_VTD_FIRST : PGT_VTD_SECOND,
				.levels = d->levels,
				.bits = (unsigned)FIELD_GET(CAP_MGAW, v->cap) + 1,
				.sizes = page_sizes(v, d->stage),
				.leaf_bits = d->stage == 2 && (iommu->caps.snoop_control || SABOTAGE(vtd_leaf_snoop)) ?
						     SL_SNP : 0};
	if (!passthrough)
		r = pgt_init(&priv->pt);
	if (r < 0) {
		kfree(priv);
		return r;
	}
	v->domain_used[id / 64] |= BIT64(id % 64);
	d->id = (uint16_t)id;
	d->passthrough = passthrough;
	d->attached = 0;
	d->priv = priv;
	d->table_pages = priv->pt.pages;
	return 0;
}

static int inv_domain(struct iommu_domain *d, struct deadline dl)
{
	return vtd_inv_domain(vtd_of(d->iommu), d->id, d->stage, dl);
}

static int map(struct iommu_domain *d, iova_t at, gpa_t to, size_t size, uint32_t prot, size_t page_max)
{
	struct vtd *v = vtd_of(d->iommu);
	const int r = pgt_map(vtd_pt_of(d), at.v, to.v, size, prot, pgt_sizes(PGT_NATURAL, page_max));

	d->table_pages = vtd_pt_of(d)->pages;
	if (r < 0)
		return r;
	/* Caching mode keeps what is not present too (6.1). */
	if ((v->cap & CAP_CM) && !SABOTAGE(vtd_cm_map_skip))
		return vtd_inv_range(v, d->id, d->stage, at.v, size, false, deadline_in(VTD_WAIT_NS));
	return vtd_flush_write_buffer(v);
}

/* What firmware says that a function must reach, one to one (8.4); it stays for as long as the domain. */
static int map_reserved(struct iommu_domain *d, pci_rid_t rid)
{
	struct vtd_domain *priv = d->priv;

	for (uint32_t i = 0; i < acpi.dmar.rmrr_count; i++) {
		const uint64_t base = align_down(acpi.dmar.rmrr[i].base, PAGE_SIZE);
		const uint64_t end = align_up(acpi.dmar.rmrr[i].limit + 1, PAGE_SIZE);
		int r;

		if ((priv->reserved & BIT(i)) || !dmar_reserved_for(&acpi.dmar, i, rid))
			continue;
		r = map(d, iova(base), gpa(base), end - base, IOMMU_RW, 0);
		if (r < 0)
			return r;
		priv->reserved |= BIT(i);
	}
	return 0;
}

/* ---- device TLBs ---- */

static struct vtd_ats *ats_of(struct vtd *v, uint16_t sid)
{
	for (unsigned i = 0; i < VTD_ATS_MAX; i++) {
		if (v->ats[i].depth && v->ats[i].sid == sid)
			return &v->ats[i];
	}
	return NULL;
}

/*
 * A place for a function that keeps translations: it can, its unit and the ports in front of it let it, and
 * its ID is its own. NULL: it works without. Pass-through has none in legacy mode.
 */
static struct vtd_ats *ats_reserve(struct vtd *v, const struct iommu_domain *d, pci_rid_t rid)
{
	const struct pci_dev *dev = pci_find(rid);
	const unsigned depth = dev && v->iommu->caps.device_tlb && !d->passthrough ? pci_ats_depth(rid) : 0;

	if (!depth || !dmar_ats_allowed(&acpi.dmar, dev))
		return NULL;
	for (unsigned i = 0; i < VTD_ATS_MAX; i++) {
		if (!v->ats[i].depth) {
			v->ats[i] = (struct vtd_ats){(uint16_t)rid.v, d->id, depth};
			v->ats_end = MAX(v->ats_end, i + 1);
			return &v->ats[i];
		}
	}
	return NULL;
}

/* The function goes on asking until it is told: the unit first, the function last, and off the other way. */
static void ats_drop(struct vtd *v, pci_rid_t rid)
{
	struct vtd_ats *a = ats_of(v, (uint16_t)rid.v);

	if (!a)
		return;
	pci_ats_enable(rid, false);
	a->depth = 0;
}

/* ---- attach ---- */

static int vtd_attach(struct iommu_domain *d, pci_rid_t rid)
{
	struct vtd *v = vtd_of(d->iommu);
	struct vtd_ats *ats;
	int r;

	if (d->iommu->broken)
		return -EIO;
	r = d->passthrough ? 0 : map_reserved(d, rid);
	if (r < 0)
		return r;
	ats = ats_of(v, (uint16_t)rid.v) ? NULL : ats_reserve(v, d, rid);
	r = vtd_context_set(v, rid, d, ats != NULL);
	if (r < 0) {
		if (ats)
			ats->depth = 0;
		return r;
	}
	d->attached++;
	if (v->cap & CAP_CM) {
		/* Caching mode: "not present" was cached under domain ID 0. */
		r = vtd_inv_context_device(v, 0, (uint16_t)rid.v);
		if (r == 0)
			r = vtd_inv_pasid_domain(v, d->id);
		if (r == 0)
			r = inv_domain(d, deadline_in(VTD_WAIT_NS));
	} else {
		r = vtd_flush_write_buffer(v);
	}
	if (ats)
		pci_ats_enable(rid, true);
	return r;
}

static int vtd_detach(struct iommu_domain *d, pci_rid_t rid)
{
	struct vtd *v = vtd_of(d->iommu);
	int r = vtd_context_clear(v, rid, d->id);

	if (r < 0)
		return r;
	d->attached--;
	if (d->iommu->broken)
		return -EIO;
	/* The context and PASID caches, then what was found through them (6.5.3), the device's own last. */
	r = vtd_inv_context_device(v, d->id, (uint16_t)rid.v);
	if (r == 0)
		r = vtd_inv_pasid_domain(v, d->id);
	if (r == 0)
		r = inv_domain(d, deadline_in(VTD_WAIT_NS));
	ats_drop(v, rid);
	return r;
}

static const char *vtd_spoil(struct iommu *iommu, pci_rid_t rid, unsigned n, enum iommu_reason *reason)
{
	struct vtd *v = vtd_of(iommu);
	const char *what = iommu->broken ? NULL : vtd_context_spoil(v, rid, n, reason);

	if (what && (vtd_inv_context_device(v, 0, (uint16_t)rid.v) < 0 || vtd_inv_pasid_all(v) < 0 ||
		     vtd_inv_all(v, deadline_in(VTD_WAIT_NS)) < 0))
		return NULL;
	return what;
}

static void vtd_domain_fini(struct iommu_domain *d)
{
	struct vtd *v = vtd_of(d->iommu);

	if (!d->priv)
		return;
	/* No device may be left with a pointer to tables that are about to be freed. */
	for (unsigned bus = 0; d->attached > 0 && bus < 256; bus++) {
		for (unsigned devfn = 0; v->context[bus].va && devfn < 256; devfn++)
			vtd_detach(d, (pci_rid_t){(uint32_t)d->iommu->desc.segment << 16 | bus << 8 | devfn});
	}
	if (!d->passthrough && !d->iommu->broken) {
		inv_domain(d, deadline_in(VTD_WAIT_NS));
		pgt_fini(vtd_pt_of(d));
	}
	v->domain_used[d->id / 64] &= ~BIT64(d->id % 64);
	kfree(d->priv);
	d->priv = NULL;
	d->table_pages = 0;
}

static int vtd_map(struct iommu_domain *d, iova_t at, gpa_t to, size_t size, uint32_t prot,
		   size_t page_max)
{
	if (d->iommu->broken)
		return -EIO;
	return d->passthrough ? -EINVAL : map(d, at, to, size, prot, page_max);
}

static int vtd_unmap(struct iommu_domain *d, iova_t at, size_t size)
{
	if (d->iommu->broken)
		return -EIO;
	return d->passthrough ? -EINVAL : pgt_unmap(vtd_pt_of(d), at.v, size);
}

static int vtd_lookup(const struct iommu_domain *d, iova_t at, struct iommu_leaf *leaf)
{
	struct pgt_leaf l;
	const int r = d->passthrough ? -EINVAL : pgt_lookup(vtd_pt_of(d), at.v, &l);

	if (r == 0)
		*leaf = (struct iommu_leaf){gpa(l.pa), l.size, l.prot};
	return r;
}

static int vtd_used(const struct iommu_domain *d, iova_t at, bool *accessed, bool *dirty)
{
	struct pgt_leaf l;
	const int r = d->stage == 1 ? pgt_lookup(vtd_pt_of(d), at.v, &l) : -EOPNOTSUPP;

	if (r == 0) {
		*accessed = l.accessed;
		*dirty = l.dirty;
	}
	return r;
}

/* Tables that unmap took out are freed once nothing of the domain can be cached. */
static int sync_domain(struct iommu_domain *d, struct deadline dl)
{
	const int r = inv_domain(d, dl);

	if (r == 0 && !d->passthrough) {
		pgt_reap(vtd_pt_of(d));
		d->table_pages = vtd_pt_of(d)->pages;
	}
	return r;
}

static int vtd_sync(struct iommu_domain *d, const struct sync_range *range, struct deadline dl)
{
	struct vtd *v = vtd_of(d->iommu);
	struct pgt *pt = vtd_pt_of(d);
	int r;

	if (d->iommu->broken)
		return -EIO;
	if (SABOTAGE(vtd_sync_skip))
		return 0;
	if (!range || d->passthrough)
		return sync_domain(d, dl);
	if (range->size == 0 || !is_aligned(range->iova.v | range->size, PAGE_SIZE))
		return -EINVAL;
	/* With tables gone, their parents' cached entries have to go too: no invalidation hint. */
	r = vtd_inv_range(v, d->id, d->stage, range->iova.v, range->size,
			  range->leaf_only && pt->limbo_pages == 0, dl);
	if (r == 0 && pt->limbo_pages > LIMBO_MAX)
		r = sync_domain(d, dl);
	return r;
}

static const char *vtd_spoil_page(struct iommu_domain *d, iova_t at, unsigned n, enum iommu_reason *reason)
{
	const char *what = d->passthrough || d->iommu->broken ? NULL : pgt_spoil(vtd_pt_of(d), at.v, n, reason);

	return what && sync_domain(d, deadline_in(VTD_WAIT_NS)) < 0 ? NULL : what;
}

static int vtd_sync_all(struct iommu *iommu, struct deadline dl)
{
	return iommu->broken ? -EIO : vtd_inv_all(vtd_of(iommu), dl);
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
	.used = vtd_used,
	.sync = vtd_sync,
	.sync_all = vtd_sync_all,
	.ir_enable = vtd_ir_enable,
	.ir_disable = vtd_ir_disable,
	.irq_map = vtd_irq_map,
	.irq_update = vtd_irq_update,
	.irq_write = vtd_irq_write,
	.irq_sync = vtd_irq_sync,
	.irq_reserved = vtd_irq_reserved,
	.irq_unmap = vtd_irq_unmap,
	.irq_message = vtd_irq_message,
	.irq_rte = vtd_irq_rte,
	.fault_pop = vtd_fault_pop,
	.fault_clear = vtd_fault_clear,
	.fault_irq = vtd_fault_irq,
	.queue_waits = vtd_queue_waits,
	.queue_bad = vtd_queue_bad,
	.queue_use = vtd_queue_use,
	.spoil = vtd_spoil,
	.spoil_page = vtd_spoil_page,
	.dump = vtd_dump,
};
