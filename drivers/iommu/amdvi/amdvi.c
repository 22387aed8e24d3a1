/* SPDX-License-Identifier: MIT */

/* AMD-Vi units: 48882, 2.2 (device table), 3.4 (registers), 5.2 (what the IVRS says). */

#include "drivers/iommu/amdvi/unit.h"

#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"

#define GIVE_UP_NS  MS(50)
#define LIMBO_MAX   32u                /* tables kept for a page-selective sync before we ask for more */
#define BITS_WANTED 48u                /* of input: what a domain gets where its user does not say */

static const char off_text[] = "a bit of STATUS stays set";
static const char on_text[] = "a bit of STATUS stays clear";

/* ---- registers ---- */

static void amdvi_dump(struct iommu *iommu)
{
	static const struct { const char *name; unsigned reg; } regs[] = {
		{"DEV_TAB_BASE", DEV_TAB_BASE}, {"COM_BASE", COM_BASE}, {"COM_HEAD", COM_HEAD},
		{"COM_TAIL", COM_TAIL}, {"EVENT_BASE", EVENT_BASE}, {"EVENT_HEAD", EVENT_HEAD},
		{"EVENT_TAIL", EVENT_TAIL}, {"CONTROL", CONTROL}, {"STATUS", STATUS},
		{"EXT_FEATURE", EXT_FEATURE}, {"EXCL_BASE", EXCL_BASE},
	};
	const struct amdvi *v = amdvi_of(iommu);
	char text[400];
	size_t n = 0;

	if (!v || !v->regs)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(regs) && n < sizeof(text); i++)
		n += (size_t)fmt_snprintf(text + n, sizeof(text) - n, " %s=%llx", regs[i].name,
					  (unsigned long long)amdvi_r64(v, regs[i].reg));
	log_line("# note iommu %08llx%s control=%llx", (unsigned long long)iommu->desc.regs.v, text,
		 (unsigned long long)v->control);
}

/* What has stopped answering must not go on blocking devices and interrupts: off, if it still can. */
static void give_up(struct amdvi *v)
{
	const uint64_t running = STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN;

	v->control &= ~(CONTROL_IOMMUEN | CONTROL_CMDBUFEN | CONTROL_EVENTLOGEN | CONTROL_EVENTINTEN);
	amdvi_w64(v, CONTROL, v->control);
	if (!WAIT_FOR(!(amdvi_r64(v, STATUS) & running), GIVE_UP_NS))
		log_line("# note iommu %08llx cannot be switched off: devices behind it may be cut off",
			 (unsigned long long)v->iommu->desc.regs.v);
	v->running = false;
	v->iommu->translating = v->iommu->remapping = v->iommu->remapping_eim = false;
}

int amdvi_fail(struct amdvi *v, const char *why)
{
	if (!v->iommu->broken) {
		v->iommu->broken = why;
		log_line("# note iommu %08llx is not used any more: %s",
			 (unsigned long long)v->iommu->desc.regs.v, why);
		amdvi_dump(v->iommu);
		give_up(v);
	}
	return -ETIMEDOUT;
}

int amdvi_control(struct amdvi *v, uint64_t bits, bool on, uint64_t follows)
{
	v->control = on ? v->control | bits : v->control & ~bits;
	amdvi_w64(v, CONTROL, v->control);
	if (!WAIT_FOR((amdvi_r64(v, STATUS) & follows) == (on ? follows : 0), AMDVI_WAIT_NS))
		return amdvi_fail(v, on ? on_text : off_text);
	return 0;
}

/* ---- the device table ---- */

static struct amdvi_device *device_find(struct amdvi *v, uint16_t id)
{
	for (unsigned i = 0; i < AMDVI_DEVICES; i++) {
		if (v->device[i].domain && v->device[i].id == id)
			return &v->device[i];
	}
	return NULL;
}

/* What firmware wants of a function that is no part of anybody's tables: messages that must pass. */
static uint8_t settings_of(const struct amdvi *v, uint16_t id)
{
	const struct ivrs_dev *dev = ivrs_find(v->unit, id);
	uint8_t s = dev ? dev->settings : 0;

	for (uint32_t i = 0; i < v->unit->special_count; i++) {
		if (v->unit->special[i].source == id)
			s |= v->unit->special[i].settings;
	}
	return s;
}

/*
 * Translation and remapping are apart in an entry: V governs the first half, IV the second. While
 * translating, who is not attached has V = 1, TV = 0: every access faults.
 */
static void dte_of(const struct amdvi *v, const struct amdvi_device *d, const struct amdvi_irt *t, uint8_t settings,
		   uint64_t dte[4])
{
	const bool translating = v->iommu->translating, remapping = v->iommu->remapping;

	memset(dte, 0, 4 * sizeof(dte[0]));
	if (translating) {
		dte[0] = d ? d->dte[0] : DTE_V;
		dte[1] = (d ? d->dte[1] : 0) | FIELD_PREP(DTE1_SYSMGT, (uint64_t)FIELD_GET(IVHD_SYSMGT, settings));
	}
	if (remapping)
		dte[2] = DTE2_IV | FIELD_PREP(DTE2_INTTABLEN, AMDVI_IRT_LOG2) |
			 (t ? t->table.pa.v : v->no_irt.pa.v) | FIELD_PREP(DTE2_INTCTL, INTCTL_REMAP) |
			 (settings & IVHD_INITPASS ? DTE2_INITPASS : 0) |
			 (settings & IVHD_EINTPASS ? DTE2_EINTPASS : 0) |
			 (settings & IVHD_NMIPASS ? DTE2_NMIPASS : 0) |
			 (settings & IVHD_LINT0PASS ? DTE2_LINT0PASS : 0) |
			 (settings & IVHD_LINT1PASS ? DTE2_LINT1PASS : 0);
}

static uint64_t *dte_at(struct amdvi *v, unsigned id)
{
	return (uint64_t *)v->dev_tab.va + 4 * (id ^ SABOTAGE(amdvi_wrong_device));
}

/* Between two tables nothing gets through: first V = 1, TV = 0, then the rest, then the new tables. */
static void set_dte(struct amdvi *v, unsigned id, const uint64_t dte[4])
{
	volatile uint64_t *p = dte_at(v, id);

	if (p[1] != dte[1]) {
		p[0] = DTE_V;
		__atomic_thread_fence(__ATOMIC_RELEASE);
		p[1] = dte[1];
		__atomic_thread_fence(__ATOMIC_RELEASE);
	}
	p[0] = dte[0];
	p[2] = dte[2];
	p[3] = dte[3];
}

static void write_device(struct amdvi *v, uint16_t id)
{
	uint64_t dte[4];

	dte_of(v, device_find(v, id), amdvi_irt_find(v, id), settings_of(v, id), dte);
	set_dte(v, id, dte);
}

static bool is_live(const struct amdvi *v, unsigned id)
{
	return v->live_bus[id / 256 / 64] & BIT64(id / 256 % 64);
}

/* All on live buses alike, then those of whom something more is known. */
static void write_table(struct amdvi *v)
{
	const struct ivrs_unit *u = v->unit;
	uint64_t dte[4];

	dte_of(v, NULL, NULL, 0, dte);
	for (unsigned id = 0; id < v->ids; id += is_live(v, id) ? 1 : 256) {
		if (is_live(v, id))
			set_dte(v, id, dte);
	}
	for (uint32_t i = 0; i < u->dev_count; i++) {
		for (unsigned id = u->dev[i].first; u->dev[i].settings && id <= u->dev[i].last && id < v->ids; id++) {
			if (is_live(v, id))
				write_device(v, (uint16_t)id);
		}
	}
	for (uint32_t i = 0; i < u->special_count; i++)
		write_device(v, u->special[i].source);
	for (unsigned i = 0; i < AMDVI_DEVICES; i++) {
		if (v->device[i].domain)
			write_device(v, v->device[i].id);
		if (v->irt[i].table.va)
			write_device(v, v->irt[i].id);
	}
}

int amdvi_update_device(struct amdvi *v, uint16_t id)
{
	write_device(v, id);
	return amdvi_inv_device(v, id);
}

static int start(struct amdvi *v)
{
	int r;

	amdvi_commands_start(v);
	amdvi_log_start(v);
	/* EventIntEn sends nothing while MSI is off in the unit's function; QEMU tells of an overflow with it only. */
	r = amdvi_control(v, CONTROL_CMDBUFEN | CONTROL_EVENTLOGEN | CONTROL_EVENTINTEN, true, 0);
	if (r == 0)
		r = amdvi_control(v, CONTROL_IOMMUEN, true, STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN);
	v->running = r == 0;
	return r;
}

static int stop(struct amdvi *v)
{
	v->running = false;
	return amdvi_control(v, CONTROL_IOMMUEN | CONTROL_CMDBUFEN | CONTROL_EVENTLOGEN | CONTROL_EVENTINTEN, false,
			     STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN);
}

/*
 * The unit may keep any entry that it has read, valid or not: after the table is another one, everything
 * is invalidated; before it stops too, so that nothing is left for the next start.
 */
int amdvi_switch(struct amdvi *v)
{
	const bool on = v->iommu->translating || v->iommu->remapping;
	int r = 0;

	write_table(v);
	if (on && !v->running)
		r = start(v);
	if (r == 0)
		r = amdvi_inv_all(v, deadline_in(AMDVI_WAIT_NS));
	if (r == 0 && !on && v->running)
		r = stop(v);
	return r;
}

/* ---- bringing a unit to a known state ---- */

pci_rid_t amdvi_own_rid(const struct amdvi *v)
{
	return (pci_rid_t){(uint32_t)v->unit->segment << 16 | v->unit->device_id};
}

/* Remapping needs every I/O APIC's source ID: the firmware that lacks one means that there is none. */
static bool ioapics_named(void)
{
	pci_rid_t source;

	for (uint32_t i = 0; acpi.has_madt && i < acpi.madt.ioapic_count; i++) {
		bool named = false;

		for (uint32_t k = 0; k < acpi.ivrs.unit_count && !named; k++) {
			const struct iommu probe = {.desc.table = &acpi.ivrs.unit[k]};

			named = amdvi_covers_ioapic(&probe, acpi.madt.ioapic[i].id, &source);
		}
		if (!named)
			return false;
	}
	return true;
}

static void read_caps(struct amdvi *v)
{
	struct iommu_caps *c = &v->iommu->caps;
	const uint32_t header = pci_r32(amdvi_own_rid(v), v->unit->cap_offset + IOMMU_CAP_HEADER);
	const unsigned most = 4 + MIN((unsigned)FIELD_GET(EFR_HATS, v->efr), 2u);

	c->raw[0] = v->efr;
	c->raw[1] = header;
	c->translation = c->passthrough = c->coherent = c->queued_invalidation = true;
	c->page_2m = c->page_1g = c->ir_by_source = true;
	c->page_sizes = PGT_ALL_SIZES;
	c->caching_mode = header != 0xffffffff && (header & CAP_HEADER_NPCACHE);
	c->device_tlb = header != 0xffffffff && (header & CAP_HEADER_IOTLBSUP);
	c->interrupt_remapping = ioapics_named();
	c->eim = c->interrupt_remapping && (v->efr & EFR_XTSUP) && (v->efr & EFR_GASUP);
	c->ir_entries = c->interrupt_remapping ? AMDVI_IRT_ENTRIES : 0;
	c->levels = GENMASK(most, 1);
	c->iova_bits = MIN(12 + 9 * most, 64u);
	if (acpi.ivrs.va_bits >= 32)
		c->iova_bits = MIN(c->iova_bits, (unsigned)acpi.ivrs.va_bits);
	c->domains_log2 = 16;
	c->fault_records = AMDVI_LOG_ENTRIES - 1;
	fmt_snprintf(c->text, sizeof(c->text),
		     "AMD-Vi at %llx EFR=%llx IVHD=%xh " PRIRID " %u-bit levels=1-%u pages=4K..%s%s%s%s%s%s%s",
		     (unsigned long long)v->iommu->desc.regs.v, (unsigned long long)v->efr, v->unit->type,
		     RIDARG(amdvi_own_rid(v)), c->iova_bits, most, "2^51", v->efr & EFR_IASUP ? " IA" : "",
		     v->efr & EFR_GASUP ? " GA" : "", v->efr & EFR_XTSUP ? " XT" : "",
		     c->interrupt_remapping ? " IR" : "", c->caching_mode ? " NpCache" : "",
		     c->device_tlb ? " IOTLB" : "");
}

/* Firmware may have left anything on: off it goes, with what it would have done on its own. */
static int quiet(struct amdvi *v)
{
	const uint8_t flags = v->unit->flags;
	int r;

	/* 3.4.4: the order of the links is the platform's; our memory accesses are to be coherent. */
	v->control = CONTROL_COHERENT | (flags & IVHD_HTTUNEN ? CONTROL_HTTUNEN : 0) |
		     (flags & IVHD_PASSPW ? CONTROL_PASSPW : 0) |
		     (flags & IVHD_RESPASSPW ? CONTROL_RESPASSPW : 0) | (flags & IVHD_ISOC ? CONTROL_ISOC : 0);
	r = amdvi_control(v, 0, false, STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN);
	if (r < 0)
		return r;
	amdvi_w64(v, EXCL_BASE, 0);          /* ExEn: an exclusion range would go past our tables */
	amdvi_w64(v, EXCL_LIMIT, 0);
	amdvi_w1c(v, STATUS_W1C);
	return 0;
}

static void live(struct amdvi *v, unsigned id)
{
	v->live_bus[(id >> 8 & 0xff) / 64] |= BIT64((id >> 8) % 64);
}

/*
 * A switch rewrites the entries of buses on which somebody is: under a slow hypervisor 65,536 take a
 * second. The entries of the others stand for good: nothing is let through.
 */
static void init_table(struct amdvi *v)
{
	static const uint64_t nobody[4] = {DTE_V, 0, DTE2_IV, 0};

	FOR_EACH_PCI(d) {
		if (rid_seg(d->rid) != v->unit->segment)
			continue;
		live(v, d->rid.v);
		live(v, pci_requester_id(d).v);
	}
	for (uint32_t i = 0; i < v->unit->special_count; i++)
		live(v, v->unit->special[i].source);
	for (uint32_t i = 0; i < v->unit->hid_count; i++)
		live(v, v->unit->hid[i].source);
	for (unsigned id = 0; id < v->ids; id++) {
		if (!is_live(v, id))
			memcpy(dte_at(v, id), nobody, sizeof(nobody));
	}
}

static unsigned count_ids(const struct ivrs_unit *u)
{
	unsigned last = u->device_id;

	for (uint32_t i = 0; i < u->dev_count; i++) {
		last = MAX(last, (unsigned)u->dev[i].last);
		if (u->dev[i].aliased)
			last = MAX(last, (unsigned)u->dev[i].alias);
	}
	for (uint32_t i = 0; i < u->special_count; i++)
		last = MAX(last, (unsigned)u->special[i].source);
	for (uint32_t i = 0; i < u->hid_count; i++)
		last = MAX(last, (unsigned)u->hid[i].source);
	FOR_EACH_PCI(d) {
		if (rid_seg(d->rid) == u->segment)
			last = MAX(last, MAX(d->rid.v, pci_requester_id(d).v) & 0xffff);
	}
	return last + 1;
}

static int amdvi_probe(struct iommu *iommu, const struct iommu_desc *desc)
{
	struct amdvi *v = kzalloc(sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	iommu->priv = v;
	v->iommu = iommu;
	v->unit = desc->table;
	v->regs = mmio_map(desc->regs, MMIO_SIZE);
	if (!v->regs)
		return -ENOMEM;
	iommu->regs = v->regs;
	if (amdvi_r64(v, CONTROL) == ~0ull && amdvi_r64(v, STATUS) == ~0ull) {
		iommu->broken = "its registers read as all ones";
		return -ENODEV;
	}
	v->efr = amdvi_r64(v, EXT_FEATURE);
	read_caps(v);
	v->domain_used[0] = 1;               /* ID 0 is everybody without a domain */
	r = quiet(v);
	if (r < 0)
		return r;
	v->ids = (unsigned)align_up(count_ids(v->unit), 256);
	if (!dma_alloc(&v->dev_tab, v->ids * 4 * sizeof(uint64_t), PAGE_SIZE, PHYS_ANY) ||
	    !dma_alloc(&v->no_irt, 2 * AMDVI_IRT_ENTRIES * sizeof(struct amdvi_pair), PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	init_table(v);
	/* Now, so that firmware's is not looked at any more, not even by a unit that does so while it is off. */
	amdvi_w64(v, DEV_TAB_BASE, v->dev_tab.pa.v | FIELD_PREP(DEV_TAB_SIZE, v->dev_tab.size / PAGE_SIZE - 1));
	r = amdvi_commands_init(v);
	return r < 0 ? r : amdvi_log_init(v);
}

/* ---- which functions ---- */

bool amdvi_covers(const struct iommu *iommu, const struct pci_dev *dev)
{
	const struct ivrs_unit *u = iommu->desc.table;

	return rid_seg(dev->rid) == u->segment && (ivrs_find(u, (uint16_t)dev->rid.v) ||
						   ivrs_find(u, (uint16_t)pci_requester_id(dev).v));
}

bool amdvi_covers_ioapic(const struct iommu *iommu, uint8_t ioapic_id, pci_rid_t *source)
{
	const struct ivrs_unit *u = iommu->desc.table;

	for (uint32_t i = 0; i < u->special_count; i++) {
		if (u->special[i].variety == IVRS_IOAPIC && u->special[i].handle == ioapic_id) {
			*source = (pci_rid_t){(uint32_t)u->segment << 16 | u->special[i].source};
			return true;
		}
	}
	return false;
}

/* ---- translation on and off ---- */

static int amdvi_enable(struct iommu *iommu)
{
	int r;

	if (iommu->broken)
		return -EIO;
	if (iommu->translating)
		return 0;
	iommu->translating = true;
	r = amdvi_switch(amdvi_of(iommu));
	if (r < 0)
		iommu->translating = false;
	return r;
}

static void amdvi_disable(struct iommu *iommu)
{
	if (!iommu->translating || iommu->broken)
		return;
	iommu->translating = false;
	amdvi_switch(amdvi_of(iommu));
}

/* ---- domains ---- */

static struct pgt *v1_of(const struct iommu_domain *d)
{
	return &((struct amdvi_domain *)d->priv)->v1;
}

static unsigned default_levels(const struct iommu_caps *c)
{
	unsigned n = 1;

	while ((c->levels & BIT(n + 1)) && 12 + 9 * n < MIN(c->iova_bits, BITS_WANTED))
		n++;
	return n;
}

static int amdvi_domain_init(struct iommu_domain *d, bool passthrough)
{
	struct iommu *iommu = d->iommu;
	struct amdvi *v = amdvi_of(iommu);
	struct amdvi_domain *priv;
	unsigned id = 1;
	int r = 0;

	if (iommu->broken)
		return -EIO;
	if (passthrough || d->levels == 0)
		d->levels = default_levels(&iommu->caps);
	if (d->levels > 6 || !(iommu->caps.levels & BIT(d->levels)))
		return -EOPNOTSUPP;
	while (id < AMDVI_DOMAINS && (v->domain_used[id / 64] & BIT64(id % 64)))
		id++;
	if (id == AMDVI_DOMAINS)
		return -ENOSPC;
	priv = kzalloc(sizeof(*priv));
	if (!priv)
		return -ENOMEM;
	/* Walks are coherent: CONTROL.Coherent, and SD is clear in every entry. */
	priv->v1 = (struct pgt){.mem = &pgt_memory,
				.format = PGT_AMD_V1,
				.levels = d->levels,
				.bits = iommu->caps.iova_bits,
				.sizes = iommu->caps.page_sizes,
				.leaf_bits = PTE_FC};
	if (!passthrough)
		r = pgt_init(&priv->v1);
	if (r < 0) {
		kfree(priv);
		return r;
	}
	v->domain_used[id / 64] |= BIT64(id % 64);
	v->domain_levels[id] = passthrough ? 0 : (uint8_t)d->levels;
	d->id = (uint16_t)id;
	d->passthrough = passthrough;
	d->attached = 0;
	d->priv = priv;
	d->table_pages = priv->v1.pages;
	return 0;
}

static int map(struct iommu_domain *d, iova_t at, gpa_t to, size_t size, uint32_t prot, size_t page_max)
{
	struct amdvi *v = amdvi_of(d->iommu);
	const int r = pgt_map(v1_of(d), at.v, to.v, size, prot, pgt_sizes(PGT_ALL_SIZES, page_max));

	d->table_pages = v1_of(d)->pages;
	if (r < 0 || !d->iommu->caps.caching_mode)
		return r;
	return amdvi_inv_range(v, d->id, at.v, size, false, deadline_in(AMDVI_WAIT_NS));
}

/*
 * What the firmware's IVMD blocks say a function must reach goes into its domain, one to one (5.2.3):
 * unity mappings with their permissions, exclusion ranges with both, so that no register is needed.
 */
static int map_unity(struct iommu_domain *d, pci_rid_t rid)
{
	struct amdvi_domain *priv = d->priv;

	for (uint32_t i = 0; i < acpi.ivrs.memory_count; i++) {
		const struct ivrs_memory *m = &acpi.ivrs.memory[i];
		const uint64_t base = align_down(m->base, PAGE_SIZE), end = align_up(m->base + m->length, PAGE_SIZE);
		uint32_t prot = (m->flags & IVRS_READ ? IOMMU_R : 0) | (m->flags & IVRS_WRITE ? IOMMU_W : 0);
		int r;

		if (m->flags & IVRS_EXCLUSION)
			prot = IOMMU_RW;
		else if (!(m->flags & IVRS_UNITY))
			prot = 0;
		if (!prot || m->segment != rid_seg(rid) || (rid.v & 0xffff) < m->first ||
		    (rid.v & 0xffff) > m->last || (priv->unity & BIT(i)))
			continue;
		r = map(d, iova(base), gpa(base), end - base, prot, 0);
		if (r < 0)
			return r;
		priv->unity |= BIT(i);
	}
	return 0;
}

/* How many invalidations its device TLB takes at once; 0: none, or firmware or its place forbid it. */
static unsigned ats_depth(const struct amdvi *v, const struct iommu_domain *d, pci_rid_t rid)
{
	const struct ivrs_dev *dev = ivrs_find(v->unit, (uint16_t)rid.v);

	if (d->passthrough || !d->iommu->caps.device_tlb || !pci_find(rid) ||
	    (dev && (dev->extended & IVHD_EXT_ATS_DISABLED)))
		return 0;
	return pci_ats_depth(rid);
}

static int amdvi_attach(struct iommu_domain *d, pci_rid_t rid)
{
	struct amdvi *v = amdvi_of(d->iommu);
	const uint16_t id = (uint16_t)rid.v;
	struct amdvi_device *dev = NULL;
	unsigned depth;
	int r;

	if (d->iommu->broken)
		return -EIO;
	if (id >= v->ids)
		return -ERANGE;
	if (device_find(v, id))
		return -EBUSY;
	for (unsigned i = 0; i < AMDVI_DEVICES && !dev; i++) {
		if (!v->device[i].domain)
			dev = &v->device[i];
	}
	if (!dev)
		return -ENOSPC;
	r = d->passthrough ? 0 : map_unity(d, rid);
	if (r < 0)
		return r;
	depth = ats_depth(v, d, rid);
	*dev = (struct amdvi_device){
		.id = id,
		.domain = d->id,
		.depth = depth,
		.dte = {DTE_V | DTE_TV | DTE_IR | DTE_IW |
				(d->passthrough ? 0 : FIELD_PREP(DTE_MODE, (uint64_t)d->levels - SABOTAGE(amdvi_mode)) | v1_of(d)->root),
			FIELD_PREP(DTE1_DOMAINID, (uint64_t)d->id) | (depth ? DTE1_I : 0)}};
	d->attached++;
	r = amdvi_update_device(v, id);
	if (r == 0 && depth)
		pci_ats_enable(rid, true);
	return r;
}

static int detach(struct amdvi *v, struct amdvi_device *dev)
{
	const struct amdvi_device was = *dev;
	int r;

	dev->domain = 0;
	r = amdvi_update_device(v, was.id);
	/* The entry, then what was found through it, the device's own last. */
	if (r == 0)
		r = amdvi_inv_domain(v, was.domain, deadline_in(AMDVI_WAIT_NS));
	if (r == 0)
		r = amdvi_inv_device_tlb(v, &was);
	if (was.depth)
		pci_ats_enable((pci_rid_t){(uint32_t)v->unit->segment << 16 | was.id}, false);
	return r;
}

static int amdvi_detach(struct iommu_domain *d, pci_rid_t rid)
{
	struct amdvi *v = amdvi_of(d->iommu);
	struct amdvi_device *dev = device_find(v, (uint16_t)rid.v);

	if (!dev || dev->domain != d->id)
		return -ENOENT;
	d->attached--;
	return detach(v, dev);
}

static const char *amdvi_spoil(struct iommu *iommu, pci_rid_t rid, unsigned n, enum iommu_reason *reason)
{
	static const struct { const char *what; uint64_t set; } ways[] = {
		{"a device table entry with reserved bit 2 set", BIT64(2)},
		{"a device table entry of the reserved paging mode 7", DTE_MODE},
	};
	struct amdvi *v = amdvi_of(iommu);
	const uint16_t id = (uint16_t)rid.v;

	if (iommu->broken || n >= ARRAY_SIZE(ways) || !device_find(v, id))
		return NULL;
	*(volatile uint64_t *)dte_at(v, id) |= ways[n].set;
	*reason = IOMMU_FAULT_RESERVED_BITS;
	if (amdvi_inv_device(v, id) < 0 || amdvi_inv_all(v, deadline_in(AMDVI_WAIT_NS)) < 0)
		return NULL;
	return ways[n].what;
}

static void amdvi_domain_fini(struct iommu_domain *d)
{
	struct amdvi *v = amdvi_of(d->iommu);

	if (!d->priv)
		return;
	/* No device may be left with a pointer to tables that are about to be freed. */
	for (unsigned i = 0; i < AMDVI_DEVICES; i++) {
		if (v->device[i].domain == d->id)
			detach(v, &v->device[i]);
	}
	if (!d->passthrough && !d->iommu->broken) {
		amdvi_inv_domain(v, d->id, deadline_in(AMDVI_WAIT_NS));
		pgt_fini(v1_of(d));
	}
	v->domain_used[d->id / 64] &= ~BIT64(d->id % 64);
	v->domain_levels[d->id] = 0;
	kfree(d->priv);
	d->priv = NULL;
	d->attached = 0;
	d->table_pages = 0;
}

static int amdvi_map(struct iommu_domain *d, iova_t at, gpa_t to, size_t size, uint32_t prot, size_t page_max)
{
	if (d->iommu->broken)
		return -EIO;
	return d->passthrough ? -EINVAL : map(d, at, to, size, prot, page_max);
}

static int amdvi_unmap(struct iommu_domain *d, iova_t at, size_t size)
{
	if (d->iommu->broken)
		return -EIO;
	return d->passthrough ? -EINVAL : pgt_unmap(v1_of(d), at.v, size);
}

static int amdvi_lookup(const struct iommu_domain *d, iova_t at, struct iommu_leaf *leaf)
{
	struct pgt_leaf l;
	const int r = d->passthrough ? -EINVAL : pgt_lookup(v1_of(d), at.v, &l);

	if (r == 0)
		*leaf = (struct iommu_leaf){gpa(l.pa), l.size, l.prot};
	return r;
}

/* Tables that unmap took out are freed once nothing of the domain can be cached. */
static int sync_domain(struct iommu_domain *d, struct deadline dl)
{
	const int r = amdvi_inv_domain(amdvi_of(d->iommu), d->id, dl);

	if (r == 0 && !d->passthrough) {
		pgt_reap(v1_of(d));
		d->table_pages = v1_of(d)->pages;
	}
	return r;
}

static int amdvi_sync(struct iommu_domain *d, const struct sync_range *range, struct deadline dl)
{
	struct pgt *v1 = v1_of(d);
	int r;

	if (d->iommu->broken)
		return -EIO;
	if (!range || d->passthrough)
		return sync_domain(d, dl);
	if (range->size == 0 || !is_aligned(range->iova.v | range->size, PAGE_SIZE))
		return -EINVAL;
	/* With tables gone, their parents' cached entries have to go too. */
	r = amdvi_inv_range(amdvi_of(d->iommu), d->id, range->iova.v, range->size,
			    range->leaf_only && v1->limbo_pages == 0, dl);
	if (r == 0 && v1->limbo_pages > LIMBO_MAX)
		r = sync_domain(d, dl);
	return r;
}

static const char *amdvi_spoil_page(struct iommu_domain *d, iova_t at, unsigned n, enum iommu_reason *reason)
{
	const char *what = d->passthrough || d->iommu->broken ? NULL : pgt_spoil(v1_of(d), at.v, n, reason);

	return what && sync_domain(d, deadline_in(AMDVI_WAIT_NS)) < 0 ? NULL : what;
}

static int amdvi_sync_all(struct iommu *iommu, struct deadline dl)
{
	return iommu->broken ? -EIO : amdvi_inv_all(amdvi_of(iommu), dl);
}

const struct iommu_ops amdvi_ops = {
	.name = "amdvi",
	.probe = amdvi_probe,
	.enable = amdvi_enable,
	.disable = amdvi_disable,
	.domain_init = amdvi_domain_init,
	.domain_fini = amdvi_domain_fini,
	.attach = amdvi_attach,
	.detach = amdvi_detach,
	.map = amdvi_map,
	.unmap = amdvi_unmap,
	.lookup = amdvi_lookup,
	.sync = amdvi_sync,
	.sync_all = amdvi_sync_all,
	.ir_enable = amdvi_ir_enable,
	.ir_disable = amdvi_ir_disable,
	.irq_map = amdvi_irq_map,
	.irq_update = amdvi_irq_update,
	.irq_write = amdvi_irq_write,
	.irq_sync = amdvi_irq_sync,
	.irq_reserved = amdvi_irq_reserved,
	.irq_unmap = amdvi_irq_unmap,
	.irq_message = amdvi_irq_message,
	.irq_rte = amdvi_irq_rte,
	.fault_pop = amdvi_fault_pop,
	.fault_clear = amdvi_fault_clear,
	.fault_irq = amdvi_fault_irq,
	.queue_waits = amdvi_queue_waits,
	.queue_bad = amdvi_queue_bad,
	.spoil = amdvi_spoil,
	.spoil_page = amdvi_spoil_page,
	.dump = amdvi_dump,
};
