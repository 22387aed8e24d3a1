/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/scope.c drivers/iommu/pgtable/memory.c drivers/iommu/pgtable/pgtable.c drivers/iommu/pgtable/spoil.c drivers/pci/alias.c kernel/lib/fmt.c
/*
 * The VT-d driver before a unit that is made of memory: it does what registers and queue ask, and keeps a list
 * of it. For what no QEMU has or shows: a device TLB that must be told, no queue, no page-selective
 * invalidation, a write buffer, caching mode, a queue and fault records that are full, and a unit that dies.
 */
#include "tests/host/unit/iommu_fake.h"

#include "drivers/iommu/vtd/context.c"
#include "drivers/iommu/vtd/fault.c"
#include "drivers/iommu/vtd/queue.c"
#include "drivers/iommu/vtd/vtd.c"

/* ---- the unit ---- */
#define IRO 0x100
static _Alignas(4096) uint8_t regs[4096];
static bool dead, lazy;              /* lazy: one descriptor a turn */
static unsigned flushes, register_context_done, most_pending;

/* What it was asked for, in order; waits are not kept. */
struct asked { unsigned type, g; uint64_t did, sid, hi; };
static struct asked list[512];
static unsigned asked;

static volatile void *fake_regs(void) { return regs; }
static void fake_turn(void);
static void fake_w8(volatile void *p, uint8_t x) { (void)p, (void)x; abort(); }
static void fake_w16(volatile void *p, uint16_t x) { (void)p, (void)x; abort(); }
static uint32_t *reg32(unsigned at) { return (uint32_t *)(regs + at); }
static uint64_t *reg64(unsigned at) { return (uint64_t *)(regs + at); }

static void run_queue(unsigned most)
{
	const unsigned shift = *reg64(IQA_REG) & IQA_DW ? 5 : 4;

	for (unsigned i = 0; i < most && *reg64(IQH_REG) != *reg64(IQT_REG); i++) {
		const uint64_t *d = (uint64_t *)((*reg64(IQA_REG) & ~0xfffull) + *reg64(IQH_REG));
		const unsigned type = (unsigned)FIELD_GET(QI_TYPE, d[0]);

		/* 6.5.2.10: it stands still at what it cannot take until the error is cleared. */
		if (type == 0 || (*reg32(FSTS_REG) & FSTS_QUEUE_ERRORS))
			*reg32(FSTS_REG) |= FSTS_IQE;
		if (*reg32(FSTS_REG) & FSTS_QUEUE_ERRORS)
			return;
		CHECK(shift == 4 || (d[2] == 0 && d[3] == 0));
		if (type == QI_TYPE_WAIT)
			*(uint32_t *)d[1] = (uint32_t)FIELD_GET(QI_WAIT_DATA, d[0]);
		else
			list[asked++ % ARRAY_SIZE(list)] = (struct asked){
				type, (unsigned)FIELD_GET(QI_G, d[0]), FIELD_GET(QI_IOTLB_DID, d[0]),
				FIELD_GET(QI_DEVTLB_SID, d[0]), d[1]};
		*reg64(IQH_REG) = (*reg64(IQH_REG) + (1u << shift)) % (256u << shift);
	}
}

/* ---- fault records (7.3, 11.4.14) ---- */
#define FRO     0x220
#define RECORDS 4u
static unsigned next_record;

static void pending_faults(void)
{
	for (unsigned i = 0; i < RECORDS; i++)
		if (*reg64(FRO + 16 * i + 8) & FRCD_F)
			return;
	*reg32(FSTS_REG) &= ~FSTS_PPF;
}

/* Into the next of them, round and round; with that one taken, the overflow is told, and nothing more recorded. */
static void fault(uint64_t at, uint64_t hi)
{
	uint64_t *r = reg64(FRO + 16 * next_record);

	if ((*reg32(FSTS_REG) & FSTS_PFO) || (r[1] & FRCD_F)) {
		*reg32(FSTS_REG) |= FSTS_PFO;
		return;
	}
	r[0] = at;
	r[1] = hi | FRCD_F;
	if (!(*reg32(FSTS_REG) & FSTS_PPF))
		*reg32(FSTS_REG) = (*reg32(FSTS_REG) & ~FSTS_FRI) | FSTS_PPF | FIELD_PREP(FSTS_FRI, next_record);
	next_record = (next_record + 1) % RECORDS;
}

static void fake_turn(void)
{
	if (!dead && (*reg32(GSTS_REG) & GCMD_QIE))
		run_queue(1);
}

static void fake_w32(volatile void *p, uint32_t x)
{
	const unsigned at = (unsigned)((uint8_t *)p - regs);

	if (dead)
		return;
	if (at == FSTS_REG) {
		*reg32(at) &= ~(x & FSTS_W1C);
	} else if (at >= FRO && at < FRO + 16 * RECORDS) {
		CHECK(at % 16 == 12 && x == (uint32_t)(FRCD_F >> 32));
		*reg64(at / 16 * 16 + 8) &= ~FRCD_F;
		pending_faults();
	} else if (at == GCMD_REG) {
		*reg32(GSTS_REG) = (x & GCMD_STATES) | ((*reg32(GSTS_REG) | x) & GCMD_SRTP);
		flushes += (x & GCMD_WBF) != 0;
	} else {
		*reg32(at) = x;
	}
}

static void fake_w64(volatile void *p, uint64_t x)
{
	const unsigned at = (unsigned)((uint8_t *)p - regs);

	if (dead)
		return;
	if (at == IQT_REG && (*reg32(GSTS_REG) & GCMD_QIE)) {
		const uint64_t size = 256u << (*reg64(IQA_REG) & IQA_DW ? 5 : 4);
		const uint64_t before = (*reg64(at) - *reg64(IQH_REG) + size) % size, now = (x - *reg64(IQH_REG) + size) % size;

		/* Forwards, and never onto the head: a ring that is written full reads as empty. */
		CHECK(now >= before);
		most_pending = MAX(most_pending, (unsigned)(now / (size / 256)));
	}
	*reg64(at) = x;
	if (at == IQT_REG && (*reg32(GSTS_REG) & GCMD_QIE)) {
		run_queue(lazy ? 0 : 256);
	} else if (at == CCMD_REG && (x & CCMD_ICC)) {
		register_context_done++;
		*reg64(at) &= ~CCMD_ICC;
	} else if (at == IRO + IOTLB_REG && (x & IOTLB_IVT)) {
		list[asked++ % ARRAY_SIZE(list)] = (struct asked){QI_TYPE_IOTLB, (unsigned)FIELD_GET(IOTLB_IIRG, x),
								  FIELD_GET(IOTLB_DID, x), 0, *reg64(IRO + IVA_REG)};
		*reg64(at) = (x & ~IOTLB_IVT) | FIELD_PREP(IOTLB_IAIG, FIELD_GET(IOTLB_IIRG, x));
	}
}

/* ---- what is not looked at here ---- */
int msg_compat(const struct irq_route *r, struct msi_msg *m, const char **why) { (void)r, (void)m, (void)why; return 0; }
int vtd_ir_enable(struct iommu *u, bool e) { (void)u, (void)e; return -1; }
void vtd_ir_disable(struct iommu *u) { (void)u; }
int vtd_irq_map(struct iommu *u, pci_rid_t r, const struct irq_route *i, unsigned n, struct msi_msg *m) { (void)u, (void)r, (void)i, (void)n, (void)m; return -1; }
int vtd_irq_write(struct iommu *u, int x, pci_rid_t r, const struct irq_route *i) { (void)u, (void)x, (void)r, (void)i; return -1; }
int vtd_irq_sync(struct iommu *u) { (void)u; return -1; }
int vtd_irq_update(struct iommu *u, int x, pci_rid_t r, const struct irq_route *i) { (void)u, (void)x, (void)r, (void)i; return -1; }
int vtd_irq_unmap(struct iommu *u, int x) { (void)u, (void)x; return -1; }
int vtd_irq_message(struct iommu *u, int x, struct msi_msg *m) { (void)u, (void)x, (void)m; return -1; }
int vtd_irq_reserved(struct iommu *u, int x, unsigned k) { (void)u, (void)x, (void)k; return -1; }
uint64_t vtd_irq_rte(struct iommu *u, int x, const struct irq_route *r, bool m) { (void)u, (void)x, (void)r, (void)m; return 0; }

/* ---- a unit with these capabilities, translating, and a function in a domain ---- */
#define CAP                                                                                        \
	(FIELD_PREP(CAP_ND, 6ull) | FIELD_PREP(CAP_SAGAW, 6ull) | FIELD_PREP(CAP_MGAW, 47ull) |     \
	 FIELD_PREP(CAP_FRO, FRO / 16ull) | FIELD_PREP(CAP_NFR, RECORDS - 1ull) | CAP_SLLPS_2M | CAP_PSI | FIELD_PREP(CAP_MAMV, 18ull) | CAP_DRD | CAP_DWD)
#define ECAP (ECAP_QI | ECAP_PT | FIELD_PREP(ECAP_IRO, IRO / 16ull))
static struct pci_dev dev = {.rid = {0x0340}};
static struct iommu iommu;
static struct iommu_domain domain;

static void start(uint64_t cap, uint64_t ecap, unsigned depth)
{
	static struct dmar_unit unit;

	memset(regs, 0, sizeof(regs));
	*reg32(VER_REG) = 0x10;
	*reg64(CAP_REG) = cap;
	*reg64(ECAP_REG) = ecap;
	dead = fake_ats_on = false;
	looks = flushes = register_context_done = 0;
	fake_ats_depth = depth;
	pci_devs = &dev;
	iommu = (struct iommu){.ops = &vtd_ops};
	CHECK_EQ(vtd_ops.probe(&iommu, &(struct iommu_desc){.regs_size = 4096, .table = &unit}), 0);
	domain = (struct iommu_domain){.iommu = &iommu};
	CHECK_EQ(vtd_ops.domain_init(&domain, false), 0);
	CHECK_EQ(vtd_ops.enable(&iommu), 0);
	CHECK(*reg32(GSTS_REG) & GCMD_TE);
	asked = 0;
	CHECK_EQ(vtd_ops.attach(&domain, dev.rid), 0);
}

static void stop(void)
{
	vtd_ops.detach(&domain, dev.rid);
	vtd_ops.domain_fini(&domain);
	vtd_ops.disable(&iommu);
}

static int map_at(uint64_t at, uint64_t n)
{
	asked = 0;
	return vtd_ops.map(&domain, iova(at), gpa(0x100000 + at % 0x200000), n, IOMMU_RW, 4096);
}

static void unmap_sync(uint64_t at, uint64_t n)
{
	const struct sync_range r = {iova(at), n, false};

	CHECK_EQ(vtd_ops.unmap(&domain, iova(at), n), 0);
	asked = 0;
	CHECK_EQ(vtd_ops.sync(&domain, &r, deadline_in(SEC(1))), 0);
}

/* The block of a device TLB invalidation. */
static void devtlb_block(uint64_t hi, uint64_t *base, uint64_t *size)
{
	const uint64_t at = hi & ~0xfffull;

	*size = hi & QI_DEVTLB_S ? 2ull << __builtin_ctzll(~(at | 0xfff)) : 4096;
	*base = at & ~(*size - 1);
}

/*
 * Pages of any place and number: the unit's blocks make up just these, the device's block holds them and is
 * no larger than it must be.
 */
static void test_ranges(unsigned stage)
{
	uint64_t seed = 1;

	for (unsigned n = 0; n < 3000; n++) {
		uint64_t at, size, sum = 0, base = 0, block = 0, next;
		unsigned i = 0;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		at = (seed >> 20) % 1000 * 4096;
		size = ((seed >> 40) % 60 + 1) * 4096;
		next = at;
		CHECK_EQ(map_at(at, size), 0);
		unmap_sync(at, size);
		for (; i < asked && list[i].type == (stage == 1 ? QI_TYPE_PIOTLB : QI_TYPE_IOTLB); i++) {
			const uint64_t pages = 4096ull << FIELD_GET(QI_IOTLB_AM, list[i].hi);

			CHECK(list[i].g == QI_G_PAGE && list[i].did == domain.id);
			CHECK((list[i].hi & ~0xfffull) == next && next % pages == 0);
			next += pages;
			sum += pages;
		}
		CHECK_EQ(sum, size);
		/* The device's after the unit's, or it could fetch the old translation again (6.5.2.5). */
		CHECK(list[i].type == QI_TYPE_DEVTLB && list[i].sid == dev.rid.v);
		/* And now and then all of the domain, the device last again, before tables are freed. */
		CHECK(asked == i + 1 || (asked == i + 3 && list[i + 1].g == QI_G_DOMAIN && list[i + 2].type == QI_TYPE_DEVTLB));
		devtlb_block(list[i].hi, &base, &block);
		CHECK(base <= at && base + block >= at + size);
		CHECK(block <= 4096 || at / (block / 2) != (at + size - 1) / (block / 2));
	}
}

static void test_device_tlb(uint64_t ecap, unsigned stage)
{
	start(CAP, ecap | ECAP_DT, 5);
	CHECK(fake_ats_on);
	test_ranges(stage);
	/* The whole domain, everything, and what leaves: the device's as a whole, last. */
	CHECK_EQ(vtd_ops.sync(&domain, NULL, deadline_in(SEC(1))), 0);
	CHECK(list[asked - 1].type == QI_TYPE_DEVTLB && list[asked - 1].hi == (QI_DEVTLB_ALL | QI_DEVTLB_S));
	asked = 0;
	CHECK_EQ(vtd_ops.sync_all(&iommu, deadline_in(SEC(1))), 0);
	CHECK(asked == 2 && list[0].type == QI_TYPE_IOTLB && list[0].g == QI_G_GLOBAL && list[1].type == QI_TYPE_DEVTLB);
	asked = 0;
	CHECK_EQ(vtd_ops.detach(&domain, dev.rid), 0);
	CHECK(list[0].type == QI_TYPE_CONTEXT && list[0].g == QI_G_DEVICE && list[asked - 1].type == QI_TYPE_DEVTLB);
	CHECK(stage == 0 || (list[1].type == QI_TYPE_PASID && list[1].did == domain.id));
	CHECK(!fake_ats_on);
	/* Nobody keeps anything now. */
	CHECK_EQ(map_at(0x5000, 4096), 0);
	unmap_sync(0x5000, 4096);
	CHECK(asked == 1 && list[0].type != QI_TYPE_DEVTLB);
	stop();
	/* A function without ATS, and a unit that does not let it. */
	start(CAP, ecap | ECAP_DT, 0);
	CHECK(!fake_ats_on);
	stop();
	start(CAP, ecap, 5);
	CHECK(!fake_ats_on);
	stop();
}

static void test_caching_mode(void)
{
	start(CAP, ECAP, 0);
	CHECK_EQ(asked, 0);
	CHECK_EQ(map_at(0x5000, 4096), 0);
	CHECK_EQ(asked, 0);
	stop();
	start(CAP | CAP_CM, ECAP, 0);
	/* "Not present" was cached under domain ID 0. */
	CHECK(list[0].type == QI_TYPE_CONTEXT && list[0].did == 0);
	CHECK_EQ(map_at(0x5000, 0x3000), 0);
	CHECK(asked == 2 && list[0].type == QI_TYPE_IOTLB && list[0].did == domain.id && list[0].hi == 0x5000 &&
	      list[1].hi == (0x6000 | 1));
	stop();
}

static void test_write_buffer(void)
{
	start(CAP, ECAP, 0);
	CHECK_EQ(map_at(0x5000, 4096), 0);
	CHECK_EQ(flushes, 0);
	stop();
	start(CAP | CAP_RWBF, ECAP, 0);
	CHECK_EQ(flushes, 1);                /* the context entry */
	CHECK_EQ(map_at(0x5000, 4096), 0);
	CHECK_EQ(flushes, 2);
	stop();
}

static void test_without(void)
{
	start(CAP & ~CAP_PSI, ECAP, 0);
	CHECK_EQ(map_at(0x5000, 4096), 0);
	unmap_sync(0x5000, 4096);
	CHECK(asked == 1 && list[0].type == QI_TYPE_IOTLB && list[0].g == QI_G_DOMAIN && list[0].did == domain.id);
	stop();
	/* No queue: the registers. */
	start(CAP, ECAP & ~ECAP_QI, 0);
	CHECK(!(*reg32(GSTS_REG) & GCMD_QIE) && register_context_done == 1);
	CHECK_EQ(map_at(0x5000, 0x3000), 0);
	unmap_sync(0x5000, 0x3000);
	CHECK(asked == 2 && list[0].g == IOTLB_IIRG_PAGE && list[0].did == domain.id && list[0].hi == 0x5000 &&
	      list[1].hi == (0x6000 | 1));
	CHECK_EQ(vtd_ops.queue_use(&iommu, true), -EBUSY);
	CHECK_EQ(vtd_ops.detach(&domain, dev.rid), 0);
	CHECK_EQ(register_context_done, 2);
	stop();
}

/* As many waits as there may be, again before they are done: no place of the ring is taken twice. */
static void test_ring(void)
{
	static _Alignas(4096) uint64_t word[2][256];

	start(CAP, ECAP, 0);
	for (unsigned round = 0; round < 20; round++) {
		lazy = true;
		most_pending = 0;
		for (unsigned i = 0; i < 2; i++)
			CHECK_EQ(vtd_ops.queue_waits(&iommu, gpa((uint64_t)word[i]), IOMMU_QUEUE_WAITS, 1000 * round), 0);
		CHECK_EQ(vtd_ops.sync_all(&iommu, deadline_in(SEC(2))), 0);
		for (unsigned k = 0; k < IOMMU_QUEUE_WAITS; k++)
			CHECK((uint32_t)word[0][k] == 1000 * round + k && (uint32_t)word[1][k] == 1000 * round + k);
		CHECK(most_pending >= IOMMU_QUEUE_WAITS && most_pending <= 255);
	}
	lazy = false;
	stop();
}

/* A descriptor that there is not, wherever the ring is: refused, those behind it too, and the queue goes on. */
static void test_queue_error(uint64_t ecap)
{
	const struct vtd_entry bad[3] = {{.lo = QI_TYPE_CONTEXT | FIELD_PREP(QI_G, QI_G_GLOBAL)}, {.lo = 0},
					 {.lo = QI_TYPE_CONTEXT | FIELD_PREP(QI_G, QI_G_GLOBAL)}};

	start(CAP, ecap, 0);
	for (unsigned round = 0; round < 300; round++) {
		lazy = round % 3 == 0;
		notes = 0;
		CHECK_EQ(vtd_ops.queue_bad(&iommu), -EIO);
		CHECK(!iommu.broken && notes == 0 && !(*reg32(FSTS_REG) & FSTS_QUEUE_ERRORS));
		asked = 0;
		CHECK_EQ(queue_submit(vtd_of(&iommu), bad, 3, deadline_in(SEC(2))), -EIO);
		CHECK(asked == 1 && notes == 1); /* one that nobody asked for is told of */
		asked = 0;
		CHECK_EQ(vtd_ops.sync_all(&iommu, deadline_in(SEC(2))), 0);
		CHECK_EQ(asked, 1);
	}
	lazy = false;
	stop();
}

/* Records come out oldest first, wherever the ring stands; with all taken, the overflow is told and taken back. */
static void test_fault_records(void)
{
	struct iommu_fault f;
	unsigned n = 0;

	start(CAP, ECAP, 0);
	next_record = 0;
	for (unsigned round = 0; round < 200; round++) {
		const unsigned k = 1 + round * 7 % (RECORDS + 3);

		for (unsigned i = 0; i < k; i++)
			fault((uint64_t)(n + i) << 12, FIELD_PREP(FRCD_FR, (uint64_t)FR_NO_WRITE) | ((n + i) & 0xffff));
		for (unsigned i = 0; i < MIN(k, RECORDS); i++) {
			CHECK_EQ(vtd_ops.fault_pop(&iommu, &f), 0);
			CHECK(f.rid.v == ((n + i) & 0xffff) && f.iova.v == (uint64_t)(n + i) << 12 && f.write && !f.interrupt &&
			      f.reason == IOMMU_FAULT_WRITE && f.overflow == (i == 0 && k > RECORDS));
		}
		CHECK_EQ(vtd_ops.fault_pop(&iommu, &f), -EAGAIN);
		CHECK_EQ(*reg32(FSTS_REG) & (FSTS_PFO | FSTS_PPF), 0);
		n += k;
	}
	/* Cleared unread. */
	for (unsigned i = 0; i < RECORDS + 2; i++)
		fault(0x1000, FIELD_PREP(FRCD_FR, (uint64_t)FR_NO_READ) | FRCD_T1);
	vtd_ops.fault_clear(&iommu);
	CHECK_EQ(*reg32(FSTS_REG) & (FSTS_PFO | FSTS_PPF), 0);
	CHECK_EQ(vtd_ops.fault_pop(&iommu, &f), -EAGAIN);
	/* An interrupt's names its entry; a request with a PASID, it. */
	fault(0x0123ull << 48, FIELD_PREP(FRCD_FR, (uint64_t)FR_IR_NOT_PRESENT) | 0xa0);
	fault(0x7000, FIELD_PREP(FRCD_FR, (uint64_t)FR_SGN_NO_READ) | FRCD_T1 | FRCD_PP | FIELD_PREP(FRCD_PV, 0x12345ull) | 0x340);
	CHECK(vtd_ops.fault_pop(&iommu, &f) == 0 && f.interrupt && f.ir_index == 0x123 && f.reason == IOMMU_FAULT_IR_NOT_PRESENT);
	CHECK(vtd_ops.fault_pop(&iommu, &f) == 0 && !f.interrupt && !f.write && f.has_pasid && f.pasid == 0x12345 &&
	      f.reason == IOMMU_FAULT_READ && f.iova.v == 0x7000);
	stop();
}

/* Each reason of chapter 7 has a word; those of one kind the same. */
static void test_reasons(void)
{
	static const struct { unsigned fr; enum iommu_reason read, write; } kinds[] = {
		{FR_LRT_NOT_PRESENT, IOMMU_FAULT_NO_DOMAIN, IOMMU_FAULT_NO_DOMAIN},
		{FR_LCT_NOT_PRESENT, IOMMU_FAULT_NO_DOMAIN, IOMMU_FAULT_NO_DOMAIN},
		{FR_LCT_INVALID, IOMMU_FAULT_TABLE, IOMMU_FAULT_TABLE},
		{FR_BEYOND_MGAW, IOMMU_FAULT_ADDRESS_WIDTH, IOMMU_FAULT_ADDRESS_WIDTH},
		{FR_NO_WRITE, IOMMU_FAULT_WRITE, IOMMU_FAULT_WRITE}, {FR_NO_READ, IOMMU_FAULT_READ, IOMMU_FAULT_READ},
		{FR_PTE_RSVD, IOMMU_FAULT_RESERVED_BITS, IOMMU_FAULT_RESERVED_BITS},
		{FR_TABLE_ACCESS, IOMMU_FAULT_TABLE, IOMMU_FAULT_TABLE},
		{FR_TRANSLATED_BLOCKED, IOMMU_FAULT_BLOCKED, IOMMU_FAULT_BLOCKED},
		{FR_SPD_NOT_PRESENT, IOMMU_FAULT_NO_DOMAIN, IOMMU_FAULT_NO_DOMAIN},
		{FR_SPT_NOT_PRESENT, IOMMU_FAULT_NO_DOMAIN, IOMMU_FAULT_NO_DOMAIN},
		{FR_SPT_INVALID, IOMMU_FAULT_TABLE, IOMMU_FAULT_TABLE},
		{FR_SFS_NOT_PRESENT, IOMMU_FAULT_NOT_PRESENT, IOMMU_FAULT_NOT_PRESENT},
		{FR_SFS_RSVD, IOMMU_FAULT_RESERVED_BITS, IOMMU_FAULT_RESERVED_BITS},
		{FR_SSS_NO_RIGHT, IOMMU_FAULT_READ, IOMMU_FAULT_WRITE}, {FR_SSS_RSVD, IOMMU_FAULT_RESERVED_BITS, IOMMU_FAULT_RESERVED_BITS},
		{FR_SGN_CANONICAL, IOMMU_FAULT_ADDRESS_WIDTH, IOMMU_FAULT_ADDRESS_WIDTH},
		{FR_SGN_NO_WRITE, IOMMU_FAULT_WRITE, IOMMU_FAULT_WRITE}, {FR_SGN_INTERRUPT, IOMMU_FAULT_BLOCKED, IOMMU_FAULT_BLOCKED},
		{0xff, IOMMU_FAULT_OTHER, IOMMU_FAULT_OTHER},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		CHECK(reason(kinds[i].fr, false) == kinds[i].read && reason(kinds[i].fr, true) == kinds[i].write);
}

/* Bounded, off, and nothing more is asked of it. */
static void test_dead(void)
{
	start(CAP, ECAP, 0);
	dead = true;
	looks = 0;
	CHECK_EQ(vtd_ops.sync(&domain, NULL, deadline_in(SEC(1))), -ETIMEDOUT);
	CHECK(looks < 1000 && iommu.broken && !iommu.translating);
	CHECK_EQ(vtd_ops.sync(&domain, NULL, deadline_in(SEC(1))), -EIO);
	CHECK_EQ(vtd_ops.map(&domain, iova(0), gpa(0), 4096, IOMMU_R, 0), -EIO);
	CHECK_EQ(vtd_ops.enable(&iommu), -EIO);
	/* The queue alone: translation goes off by register. */
	start(CAP, ECAP, 0);
	*reg32(GSTS_REG) &= ~GCMD_QIE;
	CHECK_EQ(vtd_ops.sync(&domain, NULL, deadline_in(SEC(1))), -ETIMEDOUT);
	CHECK(iommu.broken && !(*reg32(GSTS_REG) & GCMD_TE));
}

int main(void)
{
	test_device_tlb(ECAP, 0);
	test_device_tlb(ECAP | ECAP_SMTS | ECAP_SSTS, 2);
	test_device_tlb(ECAP | ECAP_SMTS | ECAP_FSTS, 1);
	test_caching_mode();
	test_write_buffer();
	test_without();
	test_ring();
	test_queue_error(ECAP);
	test_queue_error(ECAP | ECAP_SMTS | ECAP_SSTS);
	test_fault_records();
	test_reasons();
	test_dead();
	return host_done("vtd_unit");
}
