/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/scope.c drivers/iommu/pgtable/vtd_pt.c drivers/pci/alias.c kernel/lib/fmt.c
/*
 * The VT-d driver before a unit that is made of memory: it does what registers and queue ask, and keeps a list
 * of it. For what no QEMU has or shows: a device TLB that must be told, no queue, no page-selective
 * invalidation, a write buffer, caching mode, and a unit that dies.
 */
#include "kernel/mm/mm.h"
#include "tests/host/host.h"

static void fake_w32(volatile void *p, uint32_t x);
static void fake_w64(volatile void *p, uint64_t x);
#define mmio_w32 fake_w32
#define mmio_w64 fake_w64
#include "drivers/iommu/vtd/context.c"
#include "drivers/iommu/vtd/fault.c"
#include "drivers/iommu/vtd/queue.c"
#include "drivers/iommu/vtd/vtd.c"

/* ---- the unit ---- */
#define IRO 0x100
static _Alignas(4096) uint8_t regs[4096];
static bool dead;
static unsigned flushes, register_context_done;

/* What it was asked for, in order; waits are not kept. */
struct asked { unsigned type, g; uint64_t did, sid, hi; };
static struct asked list[512];
static unsigned asked;

static uint32_t *reg32(unsigned at) { return (uint32_t *)(regs + at); }
static uint64_t *reg64(unsigned at) { return (uint64_t *)(regs + at); }

static void run_queue(void)
{
	const unsigned shift = *reg64(IQA_REG) & IQA_DW ? 5 : 4;

	while (*reg64(IQH_REG) != *reg64(IQT_REG)) {
		const uint64_t *d = (uint64_t *)((*reg64(IQA_REG) & ~0xfffull) + *reg64(IQH_REG));
		const unsigned type = (unsigned)FIELD_GET(QI_TYPE, d[0]);

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

static void fake_w32(volatile void *p, uint32_t x)
{
	const unsigned at = (unsigned)((uint8_t *)p - regs);

	if (dead)
		return;
	if (at == FSTS_REG)
		*reg32(at) &= ~x;
	else if (at == GCMD_REG) {
		*reg32(GSTS_REG) = (x & GCMD_STATES) | ((*reg32(GSTS_REG) | x) & GCMD_SRTP);
		flushes += (x & GCMD_WBF) != 0;
	} else if (at < 0x220) /* not the fault records */
		*reg32(at) = x;
}

static void fake_w64(volatile void *p, uint64_t x)
{
	const unsigned at = (unsigned)((uint8_t *)p - regs);

	if (dead)
		return;
	*reg64(at) = x;
	if (at == IQT_REG && (*reg32(GSTS_REG) & GCMD_QIE)) {
		run_queue();
	} else if (at == CCMD_REG && (x & CCMD_ICC)) {
		register_context_done++;
		*reg64(at) &= ~CCMD_ICC;
	} else if (at == IRO + IOTLB_REG && (x & IOTLB_IVT)) {
		list[asked++ % ARRAY_SIZE(list)] = (struct asked){QI_TYPE_IOTLB, (unsigned)FIELD_GET(IOTLB_IIRG, x),
								  FIELD_GET(IOTLB_DID, x), 0, *reg64(IRO + IVA_REG)};
		*reg64(at) = (x & ~IOTLB_IVT) | FIELD_PREP(IOTLB_IAIG, FIELD_GET(IOTLB_IIRG, x));
	}
}

/* ---- the kernel ---- */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; } /* a unit's memory is kept for good */
struct acpi acpi;
struct pci_dev *pci_devs;
static unsigned looks;
static bool ats_on;
static unsigned ats_depth;

bool deadline_passed(struct deadline d) { (void)d; return looks++ > 100; }
void cpu_relax(void) {}
uint64_t ns_to_tsc(uint64_t ns) { return ns; }
void log_line(const char *fmt, ...) { (void)fmt; }
void *kzalloc(size_t n) { return calloc(1, n); }
void kfree(void *p) { free(p); }
volatile void *mmio_map(gpa_t at, size_t n) { (void)at; (void)n; return regs; }
void *phys_to_virt(gpa_t at) { return (void *)at.v; }
bool dma_alloc(struct dma_buf *b, size_t n, size_t align, enum phys_where where)
{
	(void)where;
	b->size = (n + align - 1) / align * align;
	b->va = aligned_alloc(align, b->size);
	memset(b->va, 0, b->size);
	b->pa = gpa((uint64_t)b->va);
	return true;
}
void dma_free(struct dma_buf *b) { free(b->va); }
bool phys_alloc(size_t n, size_t align, enum phys_where where, gpa_t *out)
{
	(void)align, (void)where;
	*out = gpa((uint64_t)aligned_alloc(4096, n * 4096));
	return true;
}
void phys_free(gpa_t at, size_t n) { (void)n; free((void *)at.v); }
struct pci_dev *pci_find(pci_rid_t rid) { return pci_devs && pci_devs->rid.v == rid.v ? pci_devs : NULL; }
unsigned pci_ats_depth(pci_rid_t rid) { (void)rid; return ats_depth; }
bool pci_ats_enable(pci_rid_t rid, bool on) { (void)rid; ats_on = on; return true; }
int msg_compat(const struct irq_route *r, struct msi_msg *m, const char **why) { (void)r, (void)m, (void)why; return 0; }
int vtd_ir_enable(struct iommu *u, bool e) { (void)u, (void)e; return -1; }
void vtd_ir_disable(struct iommu *u) { (void)u; }
int vtd_irq_map(struct iommu *u, pci_rid_t r, const struct irq_route *i, struct msi_msg *m) { (void)u, (void)r, (void)i, (void)m; return -1; }
int vtd_irq_write(struct iommu *u, int x, pci_rid_t r, const struct irq_route *i) { (void)u, (void)x, (void)r, (void)i; return -1; }
int vtd_irq_update(struct iommu *u, int x, pci_rid_t r, const struct irq_route *i) { (void)u, (void)x, (void)r, (void)i; return -1; }
int vtd_irq_unmap(struct iommu *u, int x) { (void)u, (void)x; return -1; }
int vtd_irq_message(struct iommu *u, int x, struct msi_msg *m) { (void)u, (void)x, (void)m; return -1; }
int vtd_irq_reserved(struct iommu *u, int x, unsigned k) { (void)u, (void)x, (void)k; return -1; }
uint64_t vtd_irq_rte(struct iommu *u, int x, const struct irq_route *r, bool m) { (void)u, (void)x, (void)r, (void)m; return 0; }

/* ---- a unit with these capabilities, translating, and a function in a domain ---- */
#define CAP                                                                                        \
	(FIELD_PREP(CAP_ND, 6ull) | FIELD_PREP(CAP_SAGAW, 6ull) | FIELD_PREP(CAP_MGAW, 47ull) |     \
	 FIELD_PREP(CAP_FRO, 0x22ull) | CAP_SLLPS_2M | CAP_PSI | FIELD_PREP(CAP_MAMV, 18ull) | CAP_DRD | CAP_DWD)
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
	dead = ats_on = false;
	looks = flushes = register_context_done = 0;
	ats_depth = depth;
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
	CHECK(ats_on);
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
	CHECK(!ats_on);
	/* Nobody keeps anything now. */
	CHECK_EQ(map_at(0x5000, 4096), 0);
	unmap_sync(0x5000, 4096);
	CHECK(asked == 1 && list[0].type != QI_TYPE_DEVTLB);
	stop();
	/* A function without ATS, and a unit that does not let it. */
	start(CAP, ecap | ECAP_DT, 0);
	CHECK(!ats_on);
	stop();
	start(CAP, ecap, 5);
	CHECK(!ats_on);
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
	test_dead();
	return host_done("vtd_unit");
}
