/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/pgtable/memory.c drivers/iommu/pgtable/pgtable.c drivers/iommu/virtio/decode.c drivers/pci/alias.c drivers/virtio/virtqueue.c kernel/acpi/table.c kernel/acpi/viot.c kernel/irq/msg.c kernel/lib/crc.c kernel/lib/fmt.c
/*
 * The virtio-iommu driver before a device that is made of memory: VIRTIO 1.2, 2.7 (queues), 4.1.4 (transport) and
 * 5.13. It keeps endpoints, domains and mappings as 5.13.6 says, and answers at once, one a turn, backwards, wrongly
 * or not at all; its event queue runs dry, and its configuration lacks what a driver needs.
 */
#include "tests/host/unit/iommu_fake.h"

#define kick kick_events                     /* request.c has one too */
#include "drivers/iommu/virtio/event.c"
#undef kick
#include "drivers/iommu/virtio/request.c"
#include "drivers/iommu/virtio/viommu.c"

/* ---- the device's registers; BAR space is one block ---- */
#define COMMON 0x000u
#define NOTIFY 0x100u
#define ISR    0x200u
#define CONFIG 0x300u
static _Alignas(4096) uint8_t regs[4096];
static uint64_t features;
static bool stubborn;                        /* a reset is not done */
static bool refuses;                         /* FEATURES_OK does not stay */
static enum { EAGER, LAZY, BACKWARDS, SILENT, GARBLED, NEEDY } mode;
static uint8_t answer;                       /* in place of what it would say; 0xff: as it would */
static bool no_tail;                         /* answers, and writes nothing */

static volatile void *fake_regs(void) { return regs; }
static uint32_t r(unsigned at, unsigned n)
{
	uint32_t x = 0;

	memcpy(&x, regs + at, n);
	return x;
}
static void w(unsigned at, uint64_t x, unsigned n) { memcpy(regs + at, &x, n); }

/* ---- its queues ---- */
struct ring { uint64_t desc, avail, used; uint16_t size, seen, done; };
static struct ring ring[2];
static unsigned kicks[2];

static uint16_t *avail16(const struct ring *q, unsigned i) { return (uint16_t *)q->avail + i; }
static bool waiting(const struct ring *q) { return q->size && q->seen != *avail16(q, 1); }

/* One chain: what the driver wrote, and where its answer goes. */
struct chain { uint16_t head; uint8_t out[128]; size_t out_len; uint8_t *in[2]; uint32_t in_len[2]; unsigned ins; };

static struct chain take(struct ring *q)
{
	struct chain c = {.head = *avail16(q, 2 + q->seen++ % q->size)};
	uint16_t id = c.head;

	for (unsigned n = 0; n < q->size; n++) {
		const uint8_t *d = (uint8_t *)q->desc + 16 * id;
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;

		memcpy(&addr, d, 8), memcpy(&len, d + 8, 4), memcpy(&flags, d + 12, 2), memcpy(&next, d + 14, 2);
		if (flags & VIRTQ_DESC_F_WRITE) {
			CHECK(c.ins < 2);
			c.in[c.ins] = (uint8_t *)addr;
			c.in_len[c.ins++] = len;
		} else {
			CHECK(c.ins == 0 && c.out_len + len <= sizeof(c.out));
			memcpy(c.out + c.out_len, (void *)addr, len);
			c.out_len += len;
		}
		if (!(flags & VIRTQ_DESC_F_NEXT))
			break;
		id = next;
	}
	return c;
}

static void give_back(struct ring *q, uint32_t head, uint32_t written)
{
	uint8_t *e = (uint8_t *)q->used + 4 + 8 * (q->done % q->size);

	memcpy(e, &head, 4), memcpy(e + 4, &written, 4);
	q->done++;
	memcpy((uint8_t *)q->used + 2, &q->done, 2);
}

/* ---- endpoints, domains, mappings (5.13.6) ---- */
struct mapping { uint32_t domain, flags; uint64_t first, last, pa; };
static struct mapping mapping[4096];
static unsigned mappings;
#define ENDPOINTS 64u
static int64_t domain_of[ENDPOINTS];         /* by endpoint ID; -1: none */
static unsigned requests, probes;
static uint8_t properties[64];

static bool exists(uint32_t domain)
{
	for (unsigned i = 0; i < ENDPOINTS; i++)
		if (domain_of[i] == domain)
			return true;
	return false;
}

static void forget(uint32_t domain)
{
	for (unsigned i = 0; i < mappings;)
		if (mapping[i].domain == domain && !exists(domain))
			mapping[i] = mapping[--mappings];
		else
			i++;
}

static uint8_t obey(const struct chain *c)
{
	const uint8_t *p = c->out;
	const uint32_t domain = get_le32(p + 4);

	requests++;
	switch (p[0]) {
	case VIRTIO_IOMMU_T_ATTACH: {
		const uint32_t endpoint = get_le32(p + 8);
		const int64_t was = endpoint < ENDPOINTS ? domain_of[endpoint] : -1;

		CHECK(c->out_len == 20 && get_le32(p + 16) == 0);
		if (endpoint >= ENDPOINTS)
			return VIRTIO_IOMMU_S_NOENT;
		domain_of[endpoint] = domain;
		if (was >= 0)
			forget((uint32_t)was);
		return VIRTIO_IOMMU_S_OK;
	}
	case VIRTIO_IOMMU_T_DETACH: {
		const uint32_t endpoint = get_le32(p + 8);

		CHECK_EQ(c->out_len, 20);
		if (endpoint >= ENDPOINTS || domain_of[endpoint] != domain)
			return VIRTIO_IOMMU_S_INVAL;
		domain_of[endpoint] = -1;
		forget(domain);
		return VIRTIO_IOMMU_S_OK;
	}
	case VIRTIO_IOMMU_T_MAP: {
		const struct mapping m = {domain, get_le32(p + 32), get_le64(p + 8), get_le64(p + 16), get_le64(p + 24)};

		CHECK(c->out_len == 36 && ((m.first | (m.last + 1) | m.pa) & 4095) == 0 && m.flags);
		if (!exists(domain))
			return VIRTIO_IOMMU_S_NOENT;
		for (unsigned i = 0; i < mappings; i++)
			if (mapping[i].domain == domain && mapping[i].first <= m.last && m.first <= mapping[i].last)
				return VIRTIO_IOMMU_S_INVAL;
		mapping[mappings++] = m;
		return VIRTIO_IOMMU_S_OK;
	}
	case VIRTIO_IOMMU_T_UNMAP: {
		const uint64_t first = get_le64(p + 8), last = get_le64(p + 16);

		CHECK_EQ(c->out_len, 28);
		if (!exists(domain))
			return VIRTIO_IOMMU_S_NOENT;
		for (unsigned i = 0; i < mappings; i++)
			if (mapping[i].domain == domain && mapping[i].first <= last && first <= mapping[i].last &&
			    (mapping[i].first < first || mapping[i].last > last))
				return VIRTIO_IOMMU_S_RANGE;
		for (unsigned i = 0; i < mappings;)
			if (mapping[i].domain == domain && mapping[i].first >= first && mapping[i].last <= last)
				mapping[i] = mapping[--mappings];
			else
				i++;
		return VIRTIO_IOMMU_S_OK;
	}
	case VIRTIO_IOMMU_T_PROBE:
		CHECK(c->out_len == 72 && c->ins == 2 && c->in_len[0] == r(CONFIG + VIRTIO_IOMMU_PROBE_SIZE, 4));
		probes++;
		memcpy(c->in[0], properties, MIN(c->in_len[0], sizeof(properties)));
		return domain < ENDPOINTS ? VIRTIO_IOMMU_S_OK : VIRTIO_IOMMU_S_NOENT;
	default:
		return VIRTIO_IOMMU_S_UNSUPP;
	}
}

static void reply(struct ring *q, const struct chain *c)
{
	uint8_t *tail = c->in[c->ins - 1], status = obey(c);

	CHECK(c->ins && c->in_len[c->ins - 1] == VIRTIO_IOMMU_TAIL);
	if (!no_tail)
		tail[0] = answer == 0xff ? status : answer;
	give_back(q, c->head, no_tail ? 0 : VIRTIO_IOMMU_TAIL);
}

static void work(unsigned most)
{
	struct ring *q = &ring[VIRTIO_IOMMU_REQUESTQ];
	struct chain c[VIRTQUEUE_MAX];
	unsigned n = 0;

	if (mode == SILENT || !(r(COMMON + VIRTIO_DEVICE_STATUS, 1) & VIRTIO_STATUS_DRIVER_OK))
		return;
	if (mode == NEEDY && waiting(q)) {
		w(COMMON + VIRTIO_DEVICE_STATUS, r(COMMON + VIRTIO_DEVICE_STATUS, 1) | VIRTIO_STATUS_NEEDS_RESET, 1);
		return;
	}
	if (mode == GARBLED && waiting(q)) {
		take(q);
		give_back(q, 0x1234, 0);
		return;
	}
	while (n < most && waiting(q))
		c[n++] = take(q);
	for (unsigned i = 0; i < n; i++)
		reply(q, &c[mode == BACKWARDS ? n - 1 - i : i]);
}

static void fake_turn(void) { work(mode == LAZY ? 1 : VIRTQUEUE_MAX); }

/* A report, if there is a buffer for it. */
static bool report(uint32_t first, uint32_t flags, uint32_t endpoint, uint64_t address, uint32_t len)
{
	struct ring *q = &ring[VIRTIO_IOMMU_EVENTQ];
	uint8_t bytes[VIRTIO_IOMMU_FAULT_SIZE] = {0};
	struct chain c;

	if (!waiting(q))
		return false;
	c = take(q);
	CHECK(c.ins == 1 && c.out_len == 0 && c.in_len[0] >= VIRTIO_IOMMU_FAULT_SIZE);
	memcpy(bytes, &first, 4), memcpy(bytes + 4, &flags, 4), memcpy(bytes + 8, &endpoint, 4), memcpy(bytes + 16, &address, 8);
	memcpy(c.in[0], bytes, sizeof(bytes));
	give_back(q, c.head, len);
	return true;
}

/* ---- writes ---- */
static void reset_device(void)
{
	memset(ring, 0, sizeof(ring));
	for (unsigned i = 0; i < ENDPOINTS; i++)
		domain_of[i] = -1;
	mappings = 0;
	w(COMMON + VIRTIO_DEVICE_STATUS, 0, 1);
}

static void fake_w8(volatile void *p, uint8_t x)
{
	const unsigned at = (unsigned)((uint8_t *)p - regs);

	if (at == COMMON + VIRTIO_DEVICE_STATUS && x == 0) {
		if (!stubborn)
			reset_device();
	} else if (at == COMMON + VIRTIO_DEVICE_STATUS) {
		w(at, refuses ? x & ~VIRTIO_STATUS_FEATURES_OK : x, 1);
	} else {
		CHECK_EQ(at, CONFIG + VIRTIO_IOMMU_CONFIG_BYPASS);
		CHECK(x <= 1);
		w(at, x, 1);
	}
}

static void fake_w16(volatile void *p, uint16_t x)
{
	const unsigned at = (unsigned)((uint8_t *)p - regs);
	const uint16_t select = (uint16_t)r(COMMON + VIRTIO_QUEUE_SELECT, 2);

	if (at == NOTIFY || at == NOTIFY + 4) {
		CHECK(x == (at - NOTIFY) / 4);
		kicks[x]++;
		if (x == VIRTIO_IOMMU_REQUESTQ && mode != LAZY)
			work(VIRTQUEUE_MAX);
		return;
	}
	w(at, x, 2);
	if (at == COMMON + VIRTIO_QUEUE_SELECT) {
		w(COMMON + VIRTIO_QUEUE_SIZE, 64, 2);
		w(COMMON + VIRTIO_QUEUE_NOTIFY_OFF, x, 2);
	} else if (at == COMMON + VIRTIO_QUEUE_ENABLE) {
		CHECK(!(r(COMMON + VIRTIO_DEVICE_STATUS, 1) & VIRTIO_STATUS_DRIVER_OK) && select < 2);
		memcpy(&ring[select].desc, regs + COMMON + VIRTIO_QUEUE_DESC, 8);
		memcpy(&ring[select].avail, regs + COMMON + VIRTIO_QUEUE_DRIVER, 8);
		memcpy(&ring[select].used, regs + COMMON + VIRTIO_QUEUE_DEVICE, 8);
		ring[select].size = (uint16_t)r(COMMON + VIRTIO_QUEUE_SIZE, 2);
	}
}

static void fake_w32(volatile void *p, uint32_t x)
{
	const unsigned at = (unsigned)((uint8_t *)p - regs);

	w(at, x, 4);
	if (at == COMMON + VIRTIO_DEVICE_FEATURE_SELECT)
		w(COMMON + VIRTIO_DEVICE_FEATURE, features >> (32 * x), 4);
}
static void fake_w64(volatile void *p, uint64_t x) { (void)p, (void)x; abort(); }

/* ---- the transport, as drivers/virtio/virtio.c finds it; the rest of that file as it is ---- */
#define virtio_open not_that_one
#include "drivers/virtio/virtio.c"
#undef virtio_open
int virtio_parse_caps(const uint8_t config[256], struct virtio_layout *l) { (void)config, (void)l; return -ENOENT; }
volatile void *pci_bar_map(struct pci_dev *d, unsigned i) { (void)d, (void)i; return regs; }
int virtio_open(struct pci_dev *dev, struct virtio *v)
{
	*v = (struct virtio){.pci = dev, .common = regs + COMMON, .notify = regs + NOTIFY, .isr = regs + ISR,
			     .device = regs + CONFIG, .notify_len = 8, .notify_multiplier = 4,
			     .device_len = VIRTIO_IOMMU_CONFIG_SIZE};
	return 0;
}
uint32_t pci_r32(pci_rid_t rid, unsigned off) { (void)rid, (void)off; return 0; }
static uint16_t command;
void pci_set_command(struct pci_dev *d, uint16_t set, uint16_t clear) { (void)d; command = (uint16_t)((command | set) & ~clear); }
static int intx_known;
static uint64_t rte;
struct ioapic ioapics[16];
int pci_intx_route(const struct pci_dev *d, struct pci_intx *x) { (void)d; *x = (struct pci_intx){.gsi = 20, .active_low = true, .how = "no"}; return intx_known; }
struct ioapic *ioapic_of_gsi(uint32_t gsi, unsigned *pin) { *pin = gsi; return &ioapics[0]; }
void ioapic_rte_write(struct ioapic *io, unsigned pin, uint64_t x) { (void)io; CHECK_EQ(pin, 20); rte = x; }
static void (*handler)(int, void *);
void irq_set_handler(int vector, void (*fn)(int, void *), void *arg) { (void)arg; CHECK_EQ(vector, 0x55); handler = fn; }

/* ---- a unit with a function in a domain, translating ---- */
#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_IOMMU_F_INPUT_RANGE | VIRTIO_IOMMU_F_DOMAIN_RANGE | VIRTIO_IOMMU_F_MAP_UNMAP | \
		  VIRTIO_IOMMU_F_PROBE | VIRTIO_IOMMU_F_BYPASS_CONFIG)
static struct pci_dev devs[4];
static struct iommu iommu;
static struct iommu_domain domain;
static const pci_rid_t rid = {0x20}, other = {0x28};

static int boot(uint64_t f, uint64_t last)
{
	memset(regs, 0, sizeof(regs));
	memset(&acpi, 0, sizeof(acpi));
	memset(properties, 0, sizeof(properties));
	features = f;
	stubborn = refuses = no_tail = false;
	mode = EAGER;
	answer = 0xff;
	looks = notes = requests = probes = 0;
	pages_out = 0;
	command = PCI_COMMAND_INTX_OFF;
	reset_device();
	w(COMMON + VIRTIO_NUM_QUEUES, 2, 2);
	w(CONFIG + VIRTIO_IOMMU_PAGE_SIZE_MASK, ~0xfffull, 8);
	w(CONFIG + VIRTIO_IOMMU_INPUT_END, last, 8);
	w(CONFIG + VIRTIO_IOMMU_DOMAIN_START, 5, 4);
	w(CONFIG + VIRTIO_IOMMU_DOMAIN_END, 8, 4);
	w(CONFIG + VIRTIO_IOMMU_PROBE_SIZE, 64, 4);
	w(CONFIG + VIRTIO_IOMMU_CONFIG_BYPASS, 1, 1);
	devs[0] = (struct pci_dev){.rid = {0x18}, .vendor = VIRTIO_VENDOR, .device = VIRTIO_IOMMU_DEVICE, .next = &devs[1]};
	devs[1] = (struct pci_dev){.rid = rid, .next = &devs[2]};
	devs[2] = (struct pci_dev){.rid = other, .next = &devs[3]};
	devs[3] = (struct pci_dev){.rid = {0x900}};  /* no endpoint of its */
	pci_devs = devs;
	acpi.has_viot = true;
	acpi.viot.unit_count = 1;
	acpi.viot.unit[0] = (struct viot_unit){.bdf = 0x18};
	acpi.viot.range_count = 1;
	acpi.viot.range[0] = (struct viot_range){.bdf_last = 0xff, .endpoint = 0};
	iommu = (struct iommu){.ops = &viommu_ops, .desc = {.vendor = IOMMU_VIRTIO, .table = &acpi.viot.unit[0]}};
	return viommu_ops.probe(&iommu, &iommu.desc);
}

static void unit_on(void)
{
	CHECK_EQ(boot(FEATURES, (1ull << 39) - 1), 0);
	CHECK(iommu.caps.translation && iommu.caps.iova_bits == 39 && probes == 2);
	CHECK(r(COMMON + VIRTIO_DEVICE_STATUS, 1) == 0 && regs[CONFIG + VIRTIO_IOMMU_CONFIG_BYPASS] == 1);
	domain = (struct iommu_domain){.iommu = &iommu};
	CHECK_EQ(viommu_ops.domain_init(&domain, false), 0);
	CHECK_EQ(viommu_ops.attach(&domain, rid), 0);
	CHECK_EQ(viommu_ops.enable(&iommu), 0);
	CHECK(regs[CONFIG + VIRTIO_IOMMU_CONFIG_BYPASS] == 0 && domain_of[0x20] == 5 && iommu.translating);
}

static void unit_off(void)
{
	mode = EAGER;
	answer = 0xff;
	no_tail = false;
	viommu_ops.detach(&domain, rid);
	viommu_ops.domain_fini(&domain);
	viommu_ops.disable(&iommu);
	CHECK(iommu.broken || (regs[CONFIG + VIRTIO_IOMMU_CONFIG_BYPASS] == 1 && mappings == 0 && domain_of[0x20] == -1));
	CHECK_EQ(pages_out, 0);
}

static int map_at(uint64_t at, uint64_t n) { return viommu_ops.map(&domain, iova(at), gpa(0x100000 + at), n, IOMMU_RW, 0); }
static int sync(void) { return viommu_ops.sync(&domain, NULL, deadline_in(SEC(2))); }

/* Bytes that the device holds for the domain's address, as one mapping after the other has them. */
static bool device_has(uint32_t d, uint64_t at, uint64_t n)
{
	while (n) {
		unsigned i = 0;

		while (i < mappings && !(mapping[i].domain == d && mapping[i].first == at))
			i++;
		if (i == mappings || mapping[i].pa != 0x100000 + at || mapping[i].last - at + 1 > n)
			return false;
		n -= mapping[i].last - at + 1;
		at = mapping[i].last + 1;
	}
	return true;
}

/* ---- what it is told ---- */

static void test_mappings(void)
{
	static const int modes[] = {EAGER, LAZY, BACKWARDS};
	struct iommu_domain second = {.iommu = &iommu};

	unit_on();
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		mode = modes[i];
		for (unsigned n = 0; n < 200; n++) {
			const uint64_t at = 0x1000 * (n * 7ull % 90 + 1), size = 0x1000 * (n % 13 + 1ull);

			CHECK_EQ(map_at(at, size), 0);
			CHECK(device_has(5, at, size));
			CHECK_EQ(viommu_ops.unmap(&domain, iova(at), size), 0);
			CHECK_EQ(sync(), 0);
			CHECK_EQ(mappings, 0);
		}
	}
	/* Answers may come in any order: what was unmapped goes before something else is mapped there. */
	CHECK_EQ(map_at(0x5000, 0x1000), 0);
	CHECK_EQ(viommu_ops.unmap(&domain, iova(0x5000), 0x1000), 0);
	CHECK_EQ(map_at(0x4000, 0x3000), 0);
	CHECK(device_has(5, 0x4000, 0x3000));
	CHECK_EQ(viommu_ops.unmap(&domain, iova(0x4000), 0x3000), 0);
	CHECK_EQ(sync(), 0);
	/* More requests than there are slots, none lost. */
	mode = LAZY;
	for (unsigned n = 0; n < 300; n++)
		CHECK_EQ(map_at(0x10000000 + n * 0x3000ull, 0x1000), 0);
	CHECK_EQ(mappings, 300);
	for (unsigned n = 0; n < 300; n++)
		CHECK_EQ(viommu_ops.unmap(&domain, iova(0x10000000 + n * 0x3000ull), 0x1000), 0);
	CHECK_EQ(sync(), 0);
	CHECK_EQ(mappings, 0);
	/* A second endpoint finds them; the domain's last takes them with it, and they are told again to the next. */
	mode = EAGER;
	CHECK_EQ(map_at(0x5000, 0x3000), 0);
	CHECK_EQ(viommu_ops.attach(&domain, other), 0);
	CHECK_EQ(viommu_ops.attach(&domain, other), -EBUSY);
	CHECK_EQ(viommu_ops.attach(&domain, (pci_rid_t){0x900}), -ERANGE);
	CHECK(domain_of[0x28] == 5 && device_has(5, 0x5000, 0x3000));
	CHECK_EQ(viommu_ops.detach(&domain, rid), 0);
	CHECK(device_has(5, 0x5000, 0x3000));
	CHECK_EQ(viommu_ops.detach(&domain, other), 0);
	CHECK_EQ(mappings, 0);
	CHECK_EQ(viommu_ops.detach(&domain, other), -ENOENT);
	CHECK_EQ(viommu_ops.attach(&domain, rid), 0);
	CHECK(device_has(5, 0x5000, 0x3000));
	/* Off and on, by disable and by reset: the same again. */
	for (unsigned i = 0; i < 2; i++) {
		if (i)
			CHECK_EQ(viommu_ops.reset(&iommu), 0);
		else
			viommu_ops.disable(&iommu);
		CHECK(mappings == 0 && regs[CONFIG + VIRTIO_IOMMU_CONFIG_BYPASS] == 1);
		CHECK_EQ(map_at(0x40000, 0x1000), i ? -EEXIST : 0);
		CHECK_EQ(viommu_ops.enable(&iommu), 0);
		CHECK(device_has(5, 0x5000, 0x3000) && device_has(5, 0x40000, 0x1000) && domain_of[0x20] == 5);
	}
	/* Domain IDs are the device's: 5 to 8. */
	CHECK_EQ(viommu_ops.domain_init(&second, false), 0);
	CHECK_EQ(viommu_ops.attach(&second, other), 0);
	CHECK_EQ(domain_of[0x28], 6);
	viommu_ops.domain_fini(&second);
	CHECK_EQ(domain_of[0x28], -1);
	unit_off();
}

/* Each answer has its error; a mapping that is refused is none of ours either. */
static void test_answers(void)
{
	static const struct { uint8_t status; int r; } kinds[] = {
		{VIRTIO_IOMMU_S_IOERR, -EIO}, {VIRTIO_IOMMU_S_UNSUPP, -EOPNOTSUPP}, {VIRTIO_IOMMU_S_DEVERR, -EIO},
		{VIRTIO_IOMMU_S_INVAL, -EINVAL}, {VIRTIO_IOMMU_S_RANGE, -ERANGE}, {VIRTIO_IOMMU_S_NOENT, -ENOENT},
		{VIRTIO_IOMMU_S_FAULT, -EFAULT}, {VIRTIO_IOMMU_S_NOMEM, -ENOMEM}, {0x77, -EIO},
	};
	struct iommu_leaf leaf;

	unit_on();
	for (unsigned i = 0; i <= ARRAY_SIZE(kinds); i++) {
		no_tail = i == ARRAY_SIZE(kinds);
		answer = no_tail ? 0xff : kinds[i].status;
		CHECK_EQ(map_at(0x9000, 0x2000), no_tail ? -EIO : kinds[i].r);
		CHECK_EQ(viommu_ops.lookup(&domain, iova(0x9000), &leaf), -ENOENT);
		no_tail = false;
		answer = 0xff;
		/* The device has carried it out, whatever it said; the unmap that follows took it back. */
		(void)sync();
		mappings = 0;
		CHECK_EQ(map_at(0x9000, 0x2000), 0);
		CHECK_EQ(viommu_ops.unmap(&domain, iova(0x9000), 0x2000), 0);
		CHECK_EQ(sync(), 0);
		CHECK(!iommu.broken);
	}
	CHECK_EQ(viommu_ops.queue_bad(&iommu), -EIO);
	CHECK(!iommu.broken);
	unit_off();
}

static void test_waits(void)
{
	static _Alignas(4096) uint64_t word[512];

	unit_on();
	for (unsigned round = 0; round < 9; round++) {
		mode = round % 3 == 0 ? EAGER : round % 3 == 1 ? LAZY : BACKWARDS;
		CHECK_EQ(viommu_ops.queue_waits(&iommu, gpa((uint64_t)word), IOMMU_QUEUE_WAITS, 1000 * round), 0);
		for (unsigned k = 0; k < IOMMU_QUEUE_WAITS; k++)
			CHECK_EQ(word[k], 1000 * round + k);
	}
	unit_off();
}

/* ---- reports ---- */

static void test_events(void)
{
	const uint32_t at = VIRTIO_IOMMU_FAULT_F_ADDRESS | VIRTIO_IOMMU_FAULT_F_WRITE;
	struct iommu_fault f;
	unsigned n = 0;

	unit_on();
	CHECK_EQ(viommu_ops.fault_pop(&iommu, &f), -EAGAIN);
	/* Round the ring many times, some at once; the buffers come back. */
	for (unsigned round = 0; round < 100; round++) {
		const unsigned k = 1 + round * 17 % 64;

		for (unsigned i = 0; i < k; i++)
			CHECK(report(VIRTIO_IOMMU_FAULT_R_MAPPING, at, 0x20, (n + i) * 4096ull, 24));
		for (unsigned i = 0; i < k; i++) {
			CHECK_EQ(viommu_ops.fault_pop(&iommu, &f), 0);
			CHECK(f.rid.v == 0x20 && f.iova.v == (n + i) * 4096ull && f.write && f.reason == IOMMU_FAULT_WRITE);
		}
		CHECK_EQ(viommu_ops.fault_pop(&iommu, &f), -EAGAIN);
		n += k;
	}
	/* The queue runs dry: what has no buffer is lost, the others are there, and it goes on. */
	for (unsigned i = 0; i < 80; i++)
		CHECK_EQ(report(VIRTIO_IOMMU_FAULT_R_MAPPING, at, 0x20, i * 4096ull, 24), i < 64);
	for (unsigned i = 0; i < 64; i++)
		CHECK(viommu_ops.fault_pop(&iommu, &f) == 0 && f.iova.v == i * 4096ull);
	CHECK_EQ(viommu_ops.fault_pop(&iommu, &f), -EAGAIN);
	for (unsigned i = 0; i < 80; i++)
		report(VIRTIO_IOMMU_FAULT_R_MAPPING, at, 0x20, 0, 24);
	viommu_ops.fault_clear(&iommu);
	CHECK_EQ(viommu_ops.fault_pop(&iommu, &f), -EAGAIN);
	/* Those to be ignored hide none behind them: too short, reserved bits; an ID that the VIOT does not have is told. */
	CHECK(report(VIRTIO_IOMMU_FAULT_R_MAPPING, at, 0x20, 0x1000, 23) && report(0x102, at, 0x20, 0x1000, 24));
	CHECK(report(VIRTIO_IOMMU_FAULT_R_DOMAIN, at, 0x12345, 0x2000, 1u << 31));
	CHECK(viommu_ops.fault_pop(&iommu, &f) == 0 && f.rid.v == 0x12345 && f.reason == IOMMU_FAULT_NO_DOMAIN);
	CHECK_EQ(viommu_ops.fault_pop(&iommu, &f), -EAGAIN);
	/* A queue that names a buffer that there is not is no hang. */
	give_back(&ring[VIRTIO_IOMMU_EVENTQ], 0x4321, 24);
	CHECK_EQ(viommu_ops.fault_pop(&iommu, &f), -EAGAIN);
	unit_off();
}

static void test_fault_irq(void)
{
	const struct irq_route route = {.dest = 3, .vector = 0x55};
	const char *why = NULL;

	unit_on();
	CHECK(*avail16(&ring[VIRTIO_IOMMU_EVENTQ], 0) == VIRTQ_AVAIL_F_NO_INTERRUPT);
	intx_known = -ENOENT;
	CHECK(viommu_ops.fault_irq(&iommu, &route, &why) == -EOPNOTSUPP && why);
	intx_known = 0;
	for (unsigned round = 0; round < 2; round++) {
		CHECK_EQ(viommu_ops.fault_irq(&iommu, &route, &why), 0);
		/* Level, active low, not masked; both queues' interrupts and the line as they should be, after a reset too. */
		CHECK_EQ(rte, 3ull << 56 | 1 << 15 | 1 << 13 | 0x55);
		if (round) {
			viommu_ops.disable(&iommu);
			CHECK_EQ(viommu_ops.enable(&iommu), 0);
		}
		CHECK(handler && !(command & PCI_COMMAND_INTX_OFF) && *avail16(&ring[VIRTIO_IOMMU_EVENTQ], 0) == 0 &&
		      *avail16(&ring[VIRTIO_IOMMU_REQUESTQ], 0) == VIRTQ_AVAIL_F_NO_INTERRUPT);
		CHECK_EQ(viommu_ops.fault_irq(&iommu, NULL, &why), 0);
		CHECK((rte & 1 << 16) && !handler && (command & PCI_COMMAND_INTX_OFF) &&
		      *avail16(&ring[VIRTIO_IOMMU_EVENTQ], 0) == VIRTQ_AVAIL_F_NO_INTERRUPT);
	}
	devs[0].cap_msix = 0x40;
	CHECK(viommu_ops.fault_irq(&iommu, &route, &why) == -EOPNOTSUPP && strstr(why, "MSI-X"));
	unit_off();
}

/* ---- it stops answering, or was never any good ---- */

static void expect_given_up(int got)
{
	CHECK_EQ(got, -ETIMEDOUT);
	CHECK(looks < 2000 && notes && iommu.broken && !iommu.translating);
	CHECK_EQ(regs[CONFIG + VIRTIO_IOMMU_CONFIG_BYPASS], 1); /* who is behind it gets to memory again */
	looks = 0;
	CHECK_EQ(map_at(0x7000, 0x1000), -EIO);
	CHECK_EQ(viommu_ops.enable(&iommu), -EIO);
	CHECK_EQ(viommu_ops.sync_all(&iommu, deadline_in(SEC(2))), -EIO);
	CHECK_EQ(looks, 0);
	unit_off();
}

static void test_dead(void)
{
	static const int modes[] = {SILENT, GARBLED, NEEDY};

	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		unit_on();
		mode = modes[i];
		looks = notes = 0;
		CHECK_EQ(map_at(0x5000, 0x3000), -ETIMEDOUT);
		CHECK(modes[i] == SILENT || looks < 10); /* what it says is heard, and not waited out */
		expect_given_up(-ETIMEDOUT);
	}
	unit_on();
	viommu_ops.disable(&iommu);
	refuses = true;
	CHECK(viommu_ops.enable(&iommu) < 0 && iommu.broken && !iommu.translating);
	unit_off();
	CHECK(boot(FEATURES & ~VIRTIO_F_VERSION_1, ~0ull) < 0 && iommu.broken);
	/* Without what is needed it is not used, and let go as it was. */
	CHECK_EQ(boot(FEATURES & ~VIRTIO_IOMMU_F_BYPASS_CONFIG, ~0ull), 0);
	CHECK(!iommu.caps.translation && r(COMMON + VIRTIO_DEVICE_STATUS, 1) == 0);
	CHECK_EQ(boot(FEATURES & ~VIRTIO_IOMMU_F_MAP_UNMAP, ~0ull), 0);
	CHECK(!iommu.caps.translation);
	CHECK_EQ(boot(FEATURES & ~VIRTIO_IOMMU_F_PROBE, ~0ull), 0);
	CHECK(iommu.caps.translation && iommu.caps.iova_bits == 64 && probes == 0);
	/* A function that is not there, and one in memory. */
	acpi.viot.unit[0].bdf = 0x19;
	CHECK(viommu_ops.probe(&iommu, &iommu.desc) == -ENODEV && iommu.broken);
}

/* What a PROBE says is reserved is nobody's. */
static void test_reserved(void)
{
	struct iommu_region g;

	CHECK_EQ(boot(FEATURES, (1ull << 39) - 1), 0);
	properties[0] = VIRTIO_IOMMU_PROBE_T_RESV_MEM;
	properties[2] = 20;
	properties[VIRTIO_IOMMU_RESV_SUBTYPE] = VIRTIO_IOMMU_RESV_T_MSI;
	memcpy(properties + VIRTIO_IOMMU_RESV_START, &(uint64_t){0xfee00000}, 8);
	memcpy(properties + VIRTIO_IOMMU_RESV_END, &(uint64_t){0xfeefffff}, 8);
	CHECK_EQ(viommu_ops.probe(&iommu, &iommu.desc), 0);
	CHECK(viommu_ops.reserved(&iommu, rid, 0, &g) == 0 && g.messages && g.first == 0xfee00000 && g.last == 0xfeefffff);
	CHECK_EQ(viommu_ops.reserved(&iommu, rid, 1, &g), -ENOENT);
	domain = (struct iommu_domain){.iommu = &iommu};
	CHECK_EQ(viommu_ops.domain_init(&domain, false), 0);
	CHECK_EQ(map_at(0xfee00000, 0x1000), -EPERM);
	CHECK_EQ(map_at(0xfeeff000, 0x2000), -EPERM);
	CHECK_EQ(map_at(0xfef00000, 0x1000), 0);
	viommu_ops.domain_fini(&domain);
	CHECK_EQ(pages_out, 0);
}

int main(void)
{
	test_mappings();
	test_answers();
	test_waits();
	test_events();
	test_fault_irq();
	test_dead();
	test_reserved();
	return host_done("viommu_unit");
}
