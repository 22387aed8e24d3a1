/* SPDX-License-Identifier: MIT */

/* virtio-iommu: VIRTIO 1.2, 5.13; who is behind it says the VIOT (ACPI 6.5, 5.2.33). */

#include "drivers/iommu/virtio/unit.h"

#include "drivers/virtio/virtio_regs.h"
#include "kernel/acpi/acpi.h"
#include "kernel/lib/err.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/sabotage.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"

#define WANTED (VIRTIO_IOMMU_F_INPUT_RANGE | VIRTIO_IOMMU_F_DOMAIN_RANGE | VIRTIO_IOMMU_F_MAP_UNMAP | \
		VIRTIO_IOMMU_F_PROBE | VIRTIO_IOMMU_F_BYPASS_CONFIG)
#define NEEDED (VIRTIO_IOMMU_F_MAP_UNMAP | VIRTIO_IOMMU_F_BYPASS_CONFIG)

static const char start_text[] = "it does not start: reset, features or queues are refused";
static const char mmio_text[] = "its registers are in memory (virtio-mmio): plumb drives those over PCI";
static const char absent_text[] = "the VIOT names a function for it that is not there, or no virtio-iommu";
static const char viot_text[] = "no VIOT says which endpoints are behind it";

static uint32_t config32(const struct viommu *v, unsigned off) { return mmio_r32(v->virtio.device + off); }
static uint64_t config64(const struct viommu *v, unsigned off)
{
	return config32(v, off) | (uint64_t)config32(v, off + 4) << 32;
}

static void set_bypass(struct viommu *v, bool on)
{
	mmio_w8(v->virtio.device + VIRTIO_IOMMU_CONFIG_BYPASS, on);
}

static void viommu_dump(struct iommu *iommu)
{
	const struct viommu *v = viommu_of(iommu);

	if (!v || !v->virtio.common || !v->virtio.device)
		return;
	log_line("# note virtio-iommu " PRIRID " status=%02x offered=%llx agreed=%llx page_size_mask=%llx bypass=%u",
		 RIDARG(v->virtio.pci->rid), virtio_status(&v->virtio), (unsigned long long)v->virtio.offered,
		 (unsigned long long)v->virtio.features, (unsigned long long)config64(v, VIRTIO_IOMMU_PAGE_SIZE_MASK),
		 mmio_r8(v->virtio.device + VIRTIO_IOMMU_CONFIG_BYPASS));
	for (unsigned i = 0; v->shared && i < 2; i++) {
		const struct virtqueue *q = i ? &v->events : &v->requests;

		if (q->avail)
			log_line("# note virtio-iommu queue %u size=%u avail=%u used=%u taken=%u", i, q->size, q->avail_idx,
				 *(const volatile uint16_t *)(const volatile void *)(q->used + 2), q->used_idx);
	}
}

int viommu_fail(struct viommu *v, const char *why)
{
	if (!v->iommu->broken) {
		v->iommu->broken = why;
		log_line("# note virtio-iommu " PRIRID " is not used any more: %s", RIDARG(v->virtio.pci->rid), why);
		viommu_dump(v->iommu);
		/* Whoever is behind it shall get to memory again, if it still takes that much in. */
		if (v->virtio.features & VIRTIO_IOMMU_F_BYPASS_CONFIG)
			set_bypass(v, true);
		(void)virtio_reset(&v->virtio);
	}
	v->running = v->iommu->translating = false;
	return -ETIMEDOUT;
}

/* ---- on and off ---- */

static int queue_start(struct viommu *v, uint16_t index, struct virtqueue *q)
{
	uint16_t size = virtio_queue_max(&v->virtio, index);

	while (size > VIRTQUEUE_MAX)
		size /= 2;
	if (size < 3 || !is_pow2(size))
		return -ENODEV;
	virtqueue_init(q, v->shared->queue[index],
		       v->mem.pa.v + offsetof(struct viommu_shared, queue) + index * VIRTQUEUE_BYTES, size);
	return virtio_queue_enable(&v->virtio, index, q, VIRTIO_MSI_NO_VECTOR, &v->bell[index]);
}

int viommu_start(struct viommu *v)
{
	int r;

	/* A test may have taken Bus Master away, and DRIVER_OK with it. */
	pci_set_command(v->virtio.pci, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	v->running = false;
	r = virtio_reset(&v->virtio);
	if (r == 0)
		r = virtio_negotiate(&v->virtio, WANTED);
	if (r == 0)
		r = queue_start(v, VIRTIO_IOMMU_REQUESTQ, &v->requests);
	if (r == 0)
		r = queue_start(v, VIRTIO_IOMMU_EVENTQ, &v->events);
	if (r < 0) {
		viommu_fail(v, start_text);
		return r;
	}
	viommu_requests_reset(v);
	virtio_driver_ok(&v->virtio);
	viommu_events_fill(v);
	v->running = true;
	viommu_events_interrupt(v);
	return 0;
}

/* Whoever is not attached passes, now and after: bypass outlasts a reset, endpoints and domains do not (5.13.5). */
static int stop(struct viommu *v)
{
	int r;

	v->running = false;
	set_bypass(v, true);
	r = virtio_reset(&v->virtio);
	if (r < 0)
		viommu_fail(v, start_text);
	return r;
}

/* ---- what the device is told ---- */

static void put(uint8_t *p, uint64_t x, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		p[i] = (uint8_t)(x >> (8 * i));
}

static int tell_attach(struct viommu *v, const struct viommu_domain *d, uint32_t endpoint)
{
	uint8_t req[20] = {VIRTIO_IOMMU_T_ATTACH};

	put(req + 4, d->id, 4);
	put(req + 8, endpoint ^ (SABOTAGE(viommu_wrong_endpoint) ? 8 : 0), 4);
	put(req + 12, d->passthrough ? VIRTIO_IOMMU_ATTACH_F_BYPASS : 0, 4);
	return viommu_request(v, req, sizeof(req));
}

static int tell_detach(struct viommu *v, const struct viommu_domain *d, uint32_t endpoint)
{
	uint8_t req[20] = {VIRTIO_IOMMU_T_DETACH};

	put(req + 4, d->id, 4);
	put(req + 8, endpoint, 4);
	return viommu_request(v, req, sizeof(req));
}

static int post_map(struct viommu *v, const struct viommu_domain *d, uint64_t at, const struct pgt_leaf *leaf)
{
	uint8_t req[36] = {VIRTIO_IOMMU_T_MAP};

	put(req + 4, d->id, 4);
	put(req + 8, at, 8);
	put(req + 16, at + (leaf->size - 1), 8);
	put(req + 24, leaf->pa, 8);
	put(req + 32, (leaf->prot & IOMMU_R ? VIRTIO_IOMMU_MAP_F_READ : 0) |
			      (leaf->prot & IOMMU_W || SABOTAGE(viommu_writable) ? VIRTIO_IOMMU_MAP_F_WRITE : 0), 4);
	return viommu_post(v, req, sizeof(req));
}

static int post_unmap(struct viommu *v, const struct viommu_domain *d, uint64_t at, uint64_t size)
{
	uint8_t req[28] = {VIRTIO_IOMMU_T_UNMAP};

	if (SABOTAGE(viommu_no_unmap))
		return 0;
	put(req + 4, d->id ^ (SABOTAGE(viommu_unmap_other_domain) ? 1 : 0), 4);
	put(req + 8, at, 8);
	put(req + 16, at + (size - 1), 8);
	return viommu_post(v, req, sizeof(req));
}

/* All leaves in [at, last]; answered on return. What was queued before is done first: it may be their unmap. */
static int tell_maps(struct viommu *v, const struct viommu_domain *d, uint64_t at, uint64_t last)
{
	int r = viommu_flush(v, deadline_in(VIOMMU_WAIT_NS));
	struct pgt_leaf leaf;

	while (r == 0 && pgt_next(&d->v1, &at, &leaf) == 0 && at <= last) {
		r = post_map(v, d, at, &leaf);
		if (at + (leaf.size - 1) >= last)
			break;
		at += leaf.size;
	}
	return r < 0 ? r : viommu_flush(v, deadline_in(VIOMMU_WAIT_NS));
}

/* ---- endpoints ---- */

static bool endpoint_of(const struct viommu *v, pci_rid_t rid, uint32_t *endpoint)
{
	return viot_endpoint(&acpi.viot, v->index, rid.v, endpoint);
}

bool viommu_covers(const struct iommu *iommu, const struct pci_dev *dev)
{
	const struct viommu *v = viommu_of(iommu);
	uint32_t endpoint;

	return v && iommu->desc.table && dev != v->virtio.pci && endpoint_of(v, pci_requester_id(dev), &endpoint);
}

struct pci_dev *viommu_nth(unsigned nth)
{
	FOR_EACH_PCI(d)
		if (d->vendor == VIRTIO_VENDOR && d->device == VIRTIO_IOMMU_DEVICE && nth-- == 0)
			return d;
	return NULL;
}

static int probe_endpoint(struct viommu *v, struct viommu_endpoint *e)
{
	uint8_t req[72] = {VIRTIO_IOMMU_T_PROBE};
	uint32_t endpoint;
	int r;

	if (!endpoint_of(v, e->rid, &endpoint))
		return -ENOENT;
	put(req + 4, endpoint, 4);
	r = viommu_request_probe(v, req, sizeof(req));
	if (r == 0)
		e->regions = MIN(VIOMMU_REGIONS, viommu_regions(v->shared->properties, v->probe_size, e->region,
								VIOMMU_REGIONS, &v->damaged));
	return r;
}

/* Of every function behind the unit, under the ID by which the unit knows it. */
static int probe_endpoints(struct viommu *v)
{
	unsigned n = 0;

	FOR_EACH_PCI(d)
		n += viommu_covers(v->iommu, d);
	v->endpoint = kzalloc((n + 1) * sizeof(*v->endpoint));
	if (!v->endpoint)
		return -ENOMEM;
	FOR_EACH_PCI(d) {
		struct viommu_endpoint *e = &v->endpoint[v->endpoints];

		if (!viommu_covers(v->iommu, d) || v->iommu->broken || v->endpoints == n)
			continue;
		e->rid = pci_requester_id(d);
		e->result = v->probe_size ? probe_endpoint(v, e) : 0;
		v->endpoints++;
	}
	return 0;
}

static int viommu_reserved(struct iommu *iommu, pci_rid_t rid, unsigned nth, struct iommu_region *region)
{
	const struct viommu *v = viommu_of(iommu);

	for (unsigned i = 0; i < v->endpoints; i++) {
		const struct viommu_endpoint *e = &v->endpoint[i];

		if (e->rid.v != rid.v)
			continue;
		if (e->result < 0)
			return e->result == -ENOENT ? -ENXIO : e->result;
		if (nth >= e->regions)
			break;
		*region = e->region[nth];
		return 0;
	}
	return -ENOENT;
}

/* A domain may get any of the endpoints later: what one of them has reserved is nobody's. */
static bool is_reserved(const struct viommu *v, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < v->endpoints; i++) {
		for (unsigned k = 0; k < v->endpoint[i].regions; k++) {
			const struct iommu_region *g = &v->endpoint[i].region[k];

			if (first <= g->last && g->first <= last)
				return true;
		}
	}
	return false;
}

/* ---- probe ---- */

static void read_config(struct viommu *v)
{
	struct iommu_caps *c = &v->iommu->caps;
	const uint64_t features = v->virtio.features, mask = config64(v, VIRTIO_IOMMU_PAGE_SIZE_MASK);

	v->input.first = features & VIRTIO_IOMMU_F_INPUT_RANGE ? config64(v, VIRTIO_IOMMU_INPUT_START) : 0;
	v->input.last = features & VIRTIO_IOMMU_F_INPUT_RANGE ? config64(v, VIRTIO_IOMMU_INPUT_END) : ~0ull;
	v->domains.first = features & VIRTIO_IOMMU_F_DOMAIN_RANGE ? config32(v, VIRTIO_IOMMU_DOMAIN_START) : 0;
	v->domains.last = features & VIRTIO_IOMMU_F_DOMAIN_RANGE ? config32(v, VIRTIO_IOMMU_DOMAIN_END) : ~0u;
	if (features & VIRTIO_IOMMU_F_PROBE)
		v->probe_size = MIN(config32(v, VIRTIO_IOMMU_PROBE_SIZE), VIOMMU_PROBE_MAX);

	c->raw[0] = v->virtio.offered;
	c->raw[1] = mask;
	c->page_sizes = mask & PGT_ALL_SIZES;
	c->page_2m = c->page_sizes & PGT_2M;
	c->page_1g = c->page_sizes & PGT_1G;
	/* Of the range's lower end we use nothing: it is 0 in every unit known. */
	c->iova_bits = v->input.last ? 64 - (unsigned)__builtin_clzll(v->input.last) : 0;
	if (c->iova_bits && v->input.last != ~0ull >> (64 - c->iova_bits))
		c->iova_bits--;
	c->domains_log2 = 8;
	c->fault_records = VIOMMU_EVENTS;
	c->coherent = c->queued_invalidation = true;
	c->passthrough = features & VIRTIO_IOMMU_F_BYPASS_CONFIG;
	c->translation = (features & NEEDED) == NEEDED && (mask & (2 * PAGE_SIZE - 1)) && v->input.first == 0 &&
			 c->iova_bits >= 32;
	fmt_snprintf(c->text, sizeof(c->text),
		     "virtio-iommu " PRIRID " features=%llx page_size_mask=%llx input=%llx-%llx domains=%x-%x probe=%u bypass=%u",
		     RIDARG(v->virtio.pci->rid), (unsigned long long)v->virtio.offered, (unsigned long long)mask,
		     (unsigned long long)v->input.first, (unsigned long long)v->input.last, v->domains.first,
		     v->domains.last, v->probe_size, mmio_r8(v->virtio.device + VIRTIO_IOMMU_CONFIG_BYPASS));
}

static int open_device(struct viommu *v, struct pci_dev *dev)
{
	int r = virtio_open(dev, &v->virtio);

	if (r < 0 || !v->virtio.device || v->virtio.device_len < VIRTIO_IOMMU_CONFIG_SIZE) {
		v->iommu->broken = "its configuration has no structures that VIRTIO 1.0 knows";
		return -ENODEV;
	}
	dev->driver = v->iommu;
	if (!dma_alloc(&v->mem, sizeof(struct viommu_shared), PAGE_SIZE, PHYS_ANY))
		return -ENOMEM;
	v->shared = v->mem.va;
	r = viommu_start(v);
	if (r < 0)
		return r;
	read_config(v);
	if (v->iommu->caps.translation)
		r = probe_endpoints(v);
	/* A unit that we cannot switch off again is left as it was before anybody spoke to it. */
	if (v->virtio.features & VIRTIO_IOMMU_F_BYPASS_CONFIG)
		stop(v);
	else
		virtio_reset(&v->virtio);
	v->running = false;
	return r;
}

static int viommu_probe(struct iommu *iommu, const struct iommu_desc *desc)
{
	const struct viot_unit *u = desc->table;
	struct viommu *v = kzalloc(sizeof(*v));
	struct pci_dev *dev;

	if (!v)
		return -ENOMEM;
	iommu->priv = v;
	v->iommu = iommu;
	v->index = u ? (uint32_t)(u - acpi.viot.unit) : 0;
	dev = u ? u->mmio ? NULL : pci_find((pci_rid_t){(uint32_t)u->segment << 16 | u->bdf}) : viommu_nth(0);
	fmt_snprintf(iommu->caps.text, sizeof(iommu->caps.text), "virtio-iommu");
	if (!dev || dev->vendor != VIRTIO_VENDOR || dev->device != VIRTIO_IOMMU_DEVICE) {
		iommu->broken = u && u->mmio ? mmio_text : absent_text;
		iommu->unused = u && u->mmio;
		return -ENODEV;
	}
	for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
		if (!dev->bar[i].io && dev->bar[i].size)
			iommu->desc.regs = gpa(dev->bar[i].base);
	if (!u) {
		iommu->broken = viot_text;
		iommu->unused = true;
		return -ENODEV;
	}
	return open_device(v, dev);
}

/* ---- translation ---- */

static unsigned users(const struct viommu *v, const struct viommu_domain *d)
{
	unsigned n = 0;

	for (unsigned i = 0; i < VIOMMU_DEVICES; i++)
		n += v->device[i].domain == d;
	return n;
}

/* Does the device know the domain? Only while it has an endpoint in it. */
static bool is_live(const struct viommu *v, const struct viommu_domain *d)
{
	return v->iommu->translating && users(v, d) > 0;
}

/* Of all that are attached; in each domain the mappings follow its first endpoint. */
static int tell_all(struct viommu *v)
{
	int r = 0;

	for (unsigned i = 0; i < VIOMMU_DEVICES && r == 0; i++) {
		const struct viommu_domain *d = v->device[i].domain;
		bool first = true;

		if (!d)
			continue;
		for (unsigned k = 0; k < i; k++)
			first &= v->device[k].domain != d;
		r = tell_attach(v, d, v->device[i].endpoint);
		if (r == 0 && first && !d->passthrough)
			r = tell_maps(v, d, 0, v->input.last);
	}
	return r;
}

static int viommu_enable(struct iommu *iommu)
{
	struct viommu *v = viommu_of(iommu);
	int r;

	if (iommu->broken)
		return -EIO;
	if (iommu->translating)
		return 0;
	r = viommu_start(v);
	if (r == 0)
		r = tell_all(v);
	if (r == 0)
		set_bypass(v, false);
	else if (!iommu->broken)
		stop(v);
	iommu->translating = r == 0;
	return r;
}

/* Endpoint by endpoint: there are devices that a reset does not make forget them (known.c). */
static void viommu_disable(struct iommu *iommu)
{
	struct viommu *v = viommu_of(iommu);

	if (!iommu->translating || iommu->broken)
		return;
	for (unsigned i = 0; i < VIOMMU_DEVICES; i++) {
		if (v->device[i].domain)
			(void)tell_detach(v, v->device[i].domain, v->device[i].endpoint);
	}
	iommu->translating = false;
	if (!iommu->broken)
		stop(v);
}

static int viommu_reset(struct iommu *iommu)
{
	if (iommu->broken)
		return -EIO;
	iommu->translating = false;
	return stop(viommu_of(iommu));
}

/* ---- domains ---- */

static struct viommu_domain *priv_of(const struct iommu_domain *d) { return d->priv; }

static int viommu_domain_init(struct iommu_domain *d, bool passthrough)
{
	struct viommu *v = viommu_of(d->iommu);
	struct viommu_domain *priv;
	unsigned n = 0, levels = 1;
	int r = 0;

	if (d->iommu->broken)
		return -EIO;
	if (d->levels && !passthrough)
		return -EOPNOTSUPP;          /* there are none to choose from */
	while (12 + 9 * levels < d->iommu->caps.iova_bits)
		levels++;
	while (n < VIOMMU_DOMAINS && (v->domain_used[n / 64] & BIT64(n % 64)))
		n++;
	if (n == VIOMMU_DOMAINS || n > v->domains.last - v->domains.first)
		return -ENOSPC;
	priv = kzalloc(sizeof(*priv));
	if (!priv)
		return -ENOMEM;
	*priv = (struct viommu_domain){.id = v->domains.first + n, .passthrough = passthrough,
				       .v1 = {.mem = &pgt_memory,
					      .format = PGT_AMD_V1,
					      .levels = levels,
					      .bits = d->iommu->caps.iova_bits,
					      .sizes = d->iommu->caps.page_sizes}};
	if (!passthrough)
		r = pgt_init(&priv->v1);
	if (r < 0) {
		kfree(priv);
		return r;
	}
	v->domain_used[n / 64] |= BIT64(n % 64);
	d->id = (uint16_t)n;
	d->passthrough = passthrough;
	d->levels = levels;
	d->attached = 0;
	d->priv = priv;
	d->table_pages = priv->v1.pages;
	return 0;
}

static int detach(struct viommu *v, struct viommu_device *dev)
{
	const struct viommu_domain *d = dev->domain;
	const int r = v->iommu->translating ? tell_detach(v, d, dev->endpoint) : 0;

	dev->domain = NULL;
	return r;
}

static void viommu_domain_fini(struct iommu_domain *d)
{
	struct viommu *v = viommu_of(d->iommu);
	struct viommu_domain *priv = priv_of(d);

	if (!priv)
		return;
	for (unsigned i = 0; i < VIOMMU_DEVICES; i++) {
		if (v->device[i].domain == priv)
			detach(v, &v->device[i]);
	}
	if (!d->passthrough)
		pgt_fini(&priv->v1);
	v->domain_used[d->id / 64] &= ~BIT64(d->id % 64);
	kfree(priv);
	d->priv = NULL;
	d->attached = 0;
	d->table_pages = 0;
}

static int viommu_attach(struct iommu_domain *d, pci_rid_t rid)
{
	struct viommu *v = viommu_of(d->iommu);
	struct viommu_device *dev = NULL;
	struct viommu_domain *priv = priv_of(d);
	uint32_t endpoint;
	int r = 0;

	if (d->iommu->broken)
		return -EIO;
	if (!endpoint_of(v, rid, &endpoint))
		return -ERANGE;
	for (unsigned i = 0; i < VIOMMU_DEVICES; i++) {
		if (v->device[i].domain && v->device[i].endpoint == endpoint)
			return -EBUSY;
		if (!v->device[i].domain && !dev)
			dev = &v->device[i];
	}
	if (!dev)
		return -ENOSPC;
	if (d->iommu->translating)
		r = tell_attach(v, priv, endpoint);
	if (r == 0 && d->iommu->translating && users(v, priv) == 0 && !d->passthrough)
		r = tell_maps(v, priv, 0, v->input.last);
	if (r < 0)
		return r;
	*dev = (struct viommu_device){.endpoint = endpoint, .domain = priv};
	d->attached++;
	return 0;
}

static int viommu_detach(struct iommu_domain *d, pci_rid_t rid)
{
	struct viommu *v = viommu_of(d->iommu);
	uint32_t endpoint;

	for (unsigned i = 0; endpoint_of(v, rid, &endpoint) && i < VIOMMU_DEVICES; i++) {
		if (v->device[i].domain == d->priv && v->device[i].endpoint == endpoint) {
			d->attached--;
			return detach(v, &v->device[i]);
		}
	}
	return -ENOENT;
}

static int viommu_map(struct iommu_domain *d, iova_t at, gpa_t to, size_t size, uint32_t prot, size_t page_max)
{
	struct viommu *v = viommu_of(d->iommu);
	struct viommu_domain *priv = priv_of(d);
	int r;

	if (d->iommu->broken)
		return -EIO;
	if (d->passthrough)
		return -EINVAL;
	r = size && is_reserved(v, at.v, at.v + (size - 1)) ? -EPERM : 0;
	if (r == 0)
		r = pgt_map(&priv->v1, at.v, to.v, size, prot, pgt_sizes(PGT_ALL_SIZES, page_max));
	if (r == 0 && is_live(v, priv)) {
		r = tell_maps(v, priv, at.v, at.v + (size - 1));
		if (r < 0) {
			pgt_unmap(&priv->v1, at.v, size);
			if (post_unmap(v, priv, at.v, size) == 0)
				viommu_flush(v, deadline_in(VIOMMU_WAIT_NS));
		}
	}
	pgt_reap(&priv->v1);
	d->table_pages = priv->v1.pages;
	return r;
}

/* The device is told with the next sync, or with whatever else there is to say. */
static int viommu_unmap(struct iommu_domain *d, iova_t at, size_t size)
{
	struct viommu *v = viommu_of(d->iommu);
	struct viommu_domain *priv = priv_of(d);
	int r;

	if (d->iommu->broken)
		return -EIO;
	if (d->passthrough)
		return -EINVAL;
	r = pgt_unmap(&priv->v1, at.v, size);
	if (r == 0 && is_live(v, priv))
		r = post_unmap(v, priv, at.v, size);
	pgt_reap(&priv->v1);
	d->table_pages = priv->v1.pages;
	return r;
}

/* What the device was told. */
static int viommu_lookup(const struct iommu_domain *d, iova_t at, struct iommu_leaf *leaf)
{
	struct pgt_leaf l;
	const int r = d->passthrough ? -EINVAL : pgt_lookup(&priv_of(d)->v1, at.v, &l);

	if (r == 0)
		*leaf = (struct iommu_leaf){gpa(l.pa), l.size, l.prot};
	return r;
}

static int viommu_sync_all(struct iommu *iommu, struct deadline dl)
{
	if (iommu->broken)
		return -EIO;
	return iommu->translating ? viommu_flush(viommu_of(iommu), dl) : 0;
}

static int viommu_sync(struct iommu_domain *d, const struct sync_range *range, struct deadline dl)
{
	if (range && (range->size == 0 || !is_aligned(range->iova.v | range->size, PAGE_SIZE)))
		return -EINVAL;
	return viommu_sync_all(d->iommu, dl);
}

/* Interrupts are no business of its: caps.interrupt_remapping is clear. */
const struct iommu_ops viommu_ops = {
	.name = "virtio-iommu",
	.probe = viommu_probe,
	.enable = viommu_enable,
	.disable = viommu_disable,
	.reset = viommu_reset,
	.domain_init = viommu_domain_init,
	.domain_fini = viommu_domain_fini,
	.attach = viommu_attach,
	.detach = viommu_detach,
	.map = viommu_map,
	.unmap = viommu_unmap,
	.lookup = viommu_lookup,
	.reserved = viommu_reserved,
	.sync = viommu_sync,
	.sync_all = viommu_sync_all,
	.fault_pop = viommu_fault_pop,
	.fault_clear = viommu_fault_clear,
	.fault_irq = viommu_fault_irq,
	.queue_waits = viommu_queue_waits,
	.queue_bad = viommu_queue_bad,
	.dump = viommu_dump,
};
