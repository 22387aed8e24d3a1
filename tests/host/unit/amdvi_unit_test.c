/* SPDX-License-Identifier: MIT */
// link: drivers/iommu/entries.c drivers/iommu/amdvi/decode.c drivers/iommu/pgtable/memory.c drivers/iommu/pgtable/pgtable.c drivers/iommu/pgtable/spoil.c drivers/pci/alias.c kernel/acpi/ivrs.c kernel/acpi/table.c kernel/irq/msg.c kernel/lib/crc.c kernel/lib/fmt.c
/*
 * The AMD-Vi driver before a unit that is made of memory: command buffer, event log and device table as 48882 has
 * them (2.2, 2.4, 2.5, 3.4), which no QEMU does: a buffer that stands still at an illegal command, a log that
 * overflows and is started again, an entry that comes after the pointer to it, a device TLB, a unit that dies.
 */
#include "tests/host/unit/iommu_fake.h"

#include "drivers/iommu/amdvi/amdvi.c"
#include "drivers/iommu/amdvi/command.c"
#include "drivers/iommu/amdvi/event.c"
#include "drivers/iommu/amdvi/ir.c"

/* ---- the unit ---- */
static _Alignas(4096) uint8_t regs[MMIO_SIZE];
static enum { EAGER, LAZY, STUCK } mode;     /* commands: at the tail's write; one a turn; never */
static bool dead;                            /* no register takes anything */
static bool deaf;                            /* CONTROL does not switch it */
static bool no_store;                        /* waits are done and do not store */
static bool breaks;                          /* the next command: COMMAND_HARDWARE_ERROR */
static struct amdvi_pair late;               /* an event whose entry is written a turn after the pointer */
static volatile struct amdvi_pair *late_at;
static uint64_t cap_header;
static unsigned most_pending;

struct asked { unsigned op; uint64_t lo, hi; };
static struct asked list[4096];
static unsigned asked, waited;

static volatile void *fake_regs(void) { return regs; }
static uint64_t *reg(unsigned at) { return (uint64_t *)(regs + at); }
static void fake_w8(volatile void *p, uint8_t x) { (void)p, (void)x; abort(); }
static void fake_w16(volatile void *p, uint16_t x) { (void)p, (void)x; abort(); }
static void fake_w32(volatile void *p, uint32_t x) { (void)p, (void)x; abort(); }

static unsigned ring_size(unsigned base) { return 16u << FIELD_GET(COM_LEN, *reg(base)); }

/* 2.5: one entry stays free; without room the overflow is told, the log stands, and what comes is lost. */
static void event(uint64_t lo, uint64_t hi, bool is_late)
{
	const uint64_t next = (*reg(EVENT_TAIL) + 16) % ring_size(EVENT_BASE);
	volatile struct amdvi_pair *e =
		(struct amdvi_pair *)((*reg(EVENT_BASE) & TABLE_BASE) + *reg(EVENT_TAIL));

	if (!(*reg(STATUS) & STATUS_EVENTLOGRUN))
		return;
	if (next == *reg(EVENT_HEAD)) {
		*reg(STATUS) = (*reg(STATUS) | STATUS_EVENTOVERFLOW | STATUS_EVENTLOGINT) & ~STATUS_EVENTLOGRUN;
		return;
	}
	CHECK(e->lo == 0 && e->hi == 0);     /* what was read was made zero, for the next one to be seen coming */
	if (is_late) {
		late = (struct amdvi_pair){lo, hi};
		late_at = e;
	} else {
		e->lo = lo;
		e->hi = hi;
	}
	*reg(EVENT_TAIL) = next;
	*reg(STATUS) |= STATUS_EVENTLOGINT;
}

static void halt(unsigned code)
{
	event(FIELD_PREP(EVENT_CODE, (uint64_t)code), (*reg(COM_BASE) & TABLE_BASE) + *reg(COM_HEAD), false);
	*reg(STATUS) &= ~STATUS_CMDBUFRUN;
}

/* Of each command's first quadword, what is not reserved (2.4.1 to 2.4.8). */
static uint64_t meaning(unsigned op)
{
	switch (op) {
	case COMPLETION_WAIT:
		return CMD_OPCODE | WAIT_ADDR | WAIT_S;
	case INVALIDATE_DEVTAB_ENTRY:
	case INVALIDATE_INTERRUPT_TABLE:
		return CMD_OPCODE | CMD_DEVICEID;
	case INVALIDATE_IOMMU_PAGES:
		return CMD_OPCODE | PAGES_DOMAINID;
	case INVALIDATE_IOTLB_PAGES:
		return CMD_OPCODE | CMD_DEVICEID | IOTLB_MAXPEND | IOTLB_QUEUEID;
	default:
		return CMD_OPCODE;
	}
}

static bool one_command(void)
{
	const struct amdvi_pair *c = (struct amdvi_pair *)((*reg(COM_BASE) & TABLE_BASE) + *reg(COM_HEAD));
	unsigned op;

	if (mode == STUCK || !(*reg(STATUS) & STATUS_CMDBUFRUN) || *reg(COM_HEAD) == *reg(COM_TAIL))
		return false;
	op = (unsigned)FIELD_GET(CMD_OPCODE, c->lo);
	if (breaks || op == 0 || op > INVALIDATE_IOMMU_ALL) {
		halt(breaks ? COMMAND_HARDWARE_ERROR : ILLEGAL_COMMAND_ERROR);
		breaks = false;
		return false;
	}
	CHECK_EQ(c->lo & ~meaning(op), 0);
	if (op == COMPLETION_WAIT) {
		waited++;
		if (!no_store && (c->lo & WAIT_S))
			*(uint64_t *)(c->lo & WAIT_ADDR) = c->hi;
	} else {
		list[asked++ % ARRAY_SIZE(list)] = (struct asked){op, c->lo, c->hi};
	}
	*reg(COM_HEAD) = (*reg(COM_HEAD) + 16) % ring_size(COM_BASE);
	return true;
}

static void fake_turn(void)
{
	if (late_at) {
		late_at->hi = late.hi;
		late_at->lo = late.lo;
		late_at = NULL;
	}
	one_command();
}

static void control(uint64_t x)
{
	const uint64_t before = *reg(CONTROL), on = x & ~before;
	const uint64_t run = (x & CONTROL_CMDBUFEN ? STATUS_CMDBUFRUN : 0) | (x & CONTROL_EVENTLOGEN ? STATUS_EVENTLOGRUN : 0);

	*reg(CONTROL) = x;
	if (!(x & CONTROL_IOMMUEN))
		*reg(STATUS) &= ~(STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN);
	else if (on & CONTROL_IOMMUEN)
		*reg(STATUS) |= run;
	else                                 /* one that stands goes on when it is switched on anew */
		*reg(STATUS) = ((*reg(STATUS) & ~(STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN)) | (*reg(STATUS) & run)) |
			       (on & CONTROL_CMDBUFEN ? STATUS_CMDBUFRUN : 0) |
			       (on & CONTROL_EVENTLOGEN ? STATUS_EVENTLOGRUN : 0);
	CHECK(!(*reg(STATUS) & STATUS_EVENTOVERFLOW) || !(*reg(STATUS) & STATUS_EVENTLOGRUN));
}

static void fake_w64(volatile void *p, uint64_t x)
{
	const unsigned at = (unsigned)((uint8_t *)p - regs);

	if (dead)
		return;
	switch (at) {
	case CONTROL:
		if (!deaf)
			control(x);
		break;
	case STATUS:
		*reg(at) &= ~(x & STATUS_W1C);
		break;
	case COM_BASE:
		CHECK(!(*reg(STATUS) & STATUS_CMDBUFRUN));
		*reg(at) = x;
		*reg(COM_HEAD) = *reg(COM_TAIL) = 0;
		break;
	case EVENT_BASE:
		CHECK(!(*reg(STATUS) & STATUS_EVENTLOGRUN));
		*reg(at) = x;
		*reg(EVENT_HEAD) = *reg(EVENT_TAIL) = 0;
		break;
	case COM_TAIL: {
		const uint64_t size = ring_size(COM_BASE);
		const unsigned before = (unsigned)((*reg(COM_TAIL) - *reg(COM_HEAD) + size) % size / 16);
		const unsigned now = (unsigned)((x - *reg(COM_HEAD) + size) % size / 16);

		CHECK(x < size && x % 16 == 0);
		/* Forwards, and never onto the head: a ring that is written full reads as empty, and commands are lost. */
		CHECK(now >= before);
		most_pending = MAX(most_pending, now);
		*reg(at) = x;
		while (mode == EAGER && one_command())
			;
		break;
	}
	default:
		CHECK(at == DEV_TAB_BASE || at == EXCL_BASE || at == EXCL_LIMIT || at == EVENT_HEAD || at == EVENT_TAIL ||
		      at == COM_HEAD);
		*reg(at) = x;
	}
}

/* ---- what else it asks ---- */
enum apic_mode apic_mode = APIC_X2APIC;
static bool msi_there;
static unsigned msi_is_on;
static struct msi_msg msi_message;
uint32_t pci_r32(pci_rid_t rid, unsigned off) { (void)rid, (void)off; return (uint32_t)cap_header; }
void pci_set_command(struct pci_dev *d, uint16_t set, uint16_t clear) { (void)d, (void)set, (void)clear; }
int msi_open(struct pci_dev *d, struct msi *m) { m->dev = d; return msi_there ? 0 : -ENOENT; }
void msi_enable(struct msi *m, bool on) { (void)m; msi_is_on = on; }
int msi_program(struct msi *m, const struct msi_msg *msg, unsigned n) { (void)m, (void)n; msi_message = *msg; return 0; }

/* ---- a unit with these capabilities, translating, and a function in a domain ---- */
#define DEVS 90u                             /* functions behind it: more than a batch takes */
static struct pci_dev devs[DEVS];
static struct iommu iommu;
static struct iommu_domain domain;
static pci_rid_t rid;
static struct ivrs_unit *unit;

static void boot(uint64_t efr, uint64_t header)
{
	memset(regs, 0, sizeof(regs));
	memset(&acpi, 0, sizeof(acpi));
	mode = EAGER;
	dead = deaf = no_store = breaks = fake_ats_on = msi_there = false;
	late_at = NULL;
	looks = notes = most_pending = 0;
	fake_ats_depth = 0;
	pages_out = 0;
	cap_header = header;
	acpi.has_ivrs = true;
	acpi.ivrs.unit_count = 1;
	unit = &acpi.ivrs.unit[0];
	unit->device_id = 0x2;
	unit->flags = IVHD_HTTUNEN | IVHD_ISOC;
	unit->dev_count = 2;
	unit->dev[0] = (struct ivrs_dev){.first = 0, .last = 0x5ff};
	unit->dev[1] = (struct ivrs_dev){.first = 0x328, .last = 0x328, .settings = IVHD_NMIPASS | 0x20};
	unit->special_count = 1;
	unit->special[0] = (struct ivrs_special){.variety = IVRS_IOAPIC, .handle = 0, .source = 0xa0, .settings = IVHD_EINTPASS};
	acpi.has_madt = true;
	acpi.madt.ioapic_count = 1;
	for (unsigned i = 0; i < DEVS; i++)
		devs[i] = (struct pci_dev){.rid = {i < 8 ? i : 0x300 + i}, .next = i + 1 < DEVS ? &devs[i + 1] : NULL};
	pci_devs = devs;
	rid = (pci_rid_t){0x340};
	*reg(EXT_FEATURE) = efr;
	/* What firmware may have left: all on, a log that has overflowed, an exclusion range. */
	*reg(CONTROL) = CONTROL_IOMMUEN | CONTROL_CMDBUFEN | CONTROL_EVENTLOGEN | CONTROL_PASSPW;
	*reg(STATUS) = STATUS_CMDBUFRUN | STATUS_PPRINT;
	*reg(EXCL_BASE) = 0x1000 | 1;
	iommu = (struct iommu){.ops = &amdvi_ops, .desc = {.vendor = IOMMU_AMDVI, .table = unit}};
}

static void unit_on(uint64_t efr, uint64_t header, unsigned depth)
{
	boot(efr, header);
	fake_ats_depth = depth;
	CHECK_EQ(amdvi_ops.probe(&iommu, &iommu.desc), 0);
	/* Off, and as the IVHD wants it. */
	CHECK_EQ(*reg(CONTROL), CONTROL_COHERENT | CONTROL_HTTUNEN | CONTROL_ISOC);
	CHECK_EQ(*reg(EXCL_BASE), 0);
	CHECK_EQ(*reg(STATUS), 0);
	domain = (struct iommu_domain){.iommu = &iommu};
	CHECK_EQ(amdvi_ops.domain_init(&domain, false), 0);
	CHECK_EQ(amdvi_ops.enable(&iommu), 0);
	CHECK_EQ(*reg(STATUS), STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN);
	asked = 0;
	CHECK_EQ(amdvi_ops.attach(&domain, rid), 0);
}

static void unit_off(void)
{
	amdvi_ops.detach(&domain, rid);
	amdvi_ops.domain_fini(&domain);
	amdvi_ops.disable(&iommu);
	CHECK(iommu.broken || !(*reg(CONTROL) & CONTROL_IOMMUEN));
	CHECK(iommu.broken || pages_out == 0);
}

#define EFR (EFR_IASUP | FIELD_PREP(EFR_HATS, 2ull))
#define HEADER CAP_HEADER_EFRSUP

static const uint64_t *dte(unsigned id)
{
	CHECK(id < (FIELD_GET(DEV_TAB_SIZE, *reg(DEV_TAB_BASE)) + 1) * 128);
	return (uint64_t *)(*reg(DEV_TAB_BASE) & TABLE_BASE) + 4 * id;
}

static int sync_all(void) { return amdvi_ops.sync_all(&iommu, deadline_in(SEC(2))); }

static int map_at(uint64_t at, uint64_t n)
{
	asked = 0;
	return amdvi_ops.map(&domain, iova(at), gpa(0x100000 + at % 0x200000), n, IOMMU_RW, 4096);
}

static void unmap_sync(uint64_t at, uint64_t n, bool leaf_only)
{
	const struct sync_range r = {iova(at), n, leaf_only};

	CHECK_EQ(amdvi_ops.unmap(&domain, iova(at), n), 0);
	asked = 0;
	CHECK_EQ(amdvi_ops.sync(&domain, &r, deadline_in(SEC(2))), 0);
}

/* 2.2.2: who has a domain, who has none, and on whose bus nobody is. */
static void test_device_table(void)
{
	unit_on(EFR, HEADER, 0);
	CHECK_EQ(dte(0x340)[0] & ~DTE_ROOT, DTE_V | DTE_TV | DTE_IR | DTE_IW | FIELD_PREP(DTE_MODE, 4ull));
	CHECK_EQ(dte(0x340)[0] & DTE_ROOT, v1_of(&domain)->root);
	CHECK_EQ(dte(0x340)[1], domain.id);
	CHECK_EQ(dte(0x340)[2], 0);
	CHECK(list[0].op == INVALIDATE_DEVTAB_ENTRY && list[0].lo << 4 >> 4 == 0x340);
	CHECK(dte(0x341)[0] == DTE_V && dte(0)[0] == DTE_V);
	CHECK(dte(0x328)[0] == DTE_V && dte(0x328)[1] == FIELD_PREP(DTE1_SYSMGT, 2ull));
	CHECK(dte(0x100)[0] == DTE_V && dte(0x100)[2] == DTE2_IV);
	CHECK_EQ(amdvi_ops.attach(&domain, rid), -EBUSY);
	CHECK_EQ(amdvi_ops.attach(&domain, (pci_rid_t){0x700}), -ERANGE);
	asked = 0;
	CHECK_EQ(amdvi_ops.detach(&domain, rid), 0);
	CHECK_EQ(dte(0x340)[0], DTE_V);
	/* The entry first, then what was found through it. */
	CHECK(asked == 3 && list[0].op == INVALIDATE_DEVTAB_ENTRY && list[1].op == INVALIDATE_INTERRUPT_TABLE &&
	      list[2].op == INVALIDATE_IOMMU_PAGES && FIELD_GET(PAGES_DOMAINID, list[2].lo) == domain.id);
	CHECK_EQ(amdvi_ops.detach(&domain, rid), -ENOENT);
	CHECK_EQ(amdvi_ops.attach(&domain, rid), 0);
	/* A domain that ends leaves nobody with its tables. */
	amdvi_ops.domain_fini(&domain);
	CHECK_EQ(dte(0x340)[0], DTE_V);
	amdvi_ops.disable(&iommu);
	CHECK(dte(0x340)[0] == 0 && dte(0x100)[0] == DTE_V);
	CHECK_EQ(pages_out, 0);
}

/* 5.2.3: what firmware reserves for the function, with its permissions; an exclusion range with both. */
static void test_unity(void)
{
	struct iommu_leaf leaf;

	unit_on(EFR, HEADER, 0);
	CHECK_EQ(amdvi_ops.detach(&domain, rid), 0);
	acpi.ivrs.memory_count = 4;
	acpi.ivrs.memory[0] = (struct ivrs_memory){.first = 0x300, .last = 0x3ff, .flags = IVRS_UNITY | IVRS_READ, .base = 0x5000, .length = 0x2000};
	acpi.ivrs.memory[1] = (struct ivrs_memory){.first = 0, .last = 0xffff, .flags = IVRS_EXCLUSION, .base = 0x9000, .length = 0x1000};
	acpi.ivrs.memory[2] = (struct ivrs_memory){.first = 0x341, .last = 0x341, .flags = IVRS_UNITY | IVRS_READ | IVRS_WRITE, .base = 0xb000, .length = 0x1000};
	acpi.ivrs.memory[3] = (struct ivrs_memory){.first = 0, .last = 0xffff, .segment = 1, .flags = IVRS_UNITY | IVRS_READ, .base = 0xc000, .length = 0x1000};
	CHECK_EQ(amdvi_ops.attach(&domain, rid), 0);
	CHECK(amdvi_ops.lookup(&domain, iova(0x6fff), &leaf) == 0 && leaf.pa.v == 0x6fff && leaf.prot == IOMMU_R);
	CHECK(amdvi_ops.lookup(&domain, iova(0x9000), &leaf) == 0 && leaf.pa.v == 0x9000 && leaf.prot == IOMMU_RW);
	CHECK_EQ(amdvi_ops.lookup(&domain, iova(0xb000), &leaf), -ENOENT);
	CHECK_EQ(amdvi_ops.lookup(&domain, iova(0xc000), &leaf), -ENOENT);
	unit_off();
}

/* ---- the command buffer ---- */

/* The block that an INVALIDATE_IOMMU_PAGES or _IOTLB_PAGES names (2.4.3, 2.4.4). */
static void block_of(uint64_t hi, uint64_t *base, uint64_t *size)
{
	const uint64_t at = hi & ~0xfffull;

	*size = hi & PAGES_S ? 2ull << __builtin_ctzll(~(at | 0xfff)) : 4096;
	*base = at & ~(*size - 1);
}

/* Pages of any place and number: the blocks are just these, the device's own block holds them, after the unit's. */
static void test_ranges(void)
{
	uint64_t seed = 1;

	unit_on(EFR, HEADER | CAP_HEADER_IOTLBSUP, 5);
	CHECK(fake_ats_on && dte(0x340)[1] == (domain.id | DTE1_I));
	for (unsigned n = 0; n < 3000; n++) {
		uint64_t at, size, base, block, next;
		const bool leaf_only = n & 1;
		bool whole;
		unsigned i = 0;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		at = (seed >> 20) % 1000 * 4096;
		size = ((seed >> 40) % 60 + 1) * 4096;
		next = at;
		CHECK_EQ(map_at(at, size), 0);
		CHECK_EQ(asked, 0);
		unmap_sync(at, size, leaf_only);
		for (; i < asked && list[i].op == INVALIDATE_IOMMU_PAGES; i++) {
			block_of(list[i].hi, &base, &block);
			CHECK(FIELD_GET(PAGES_DOMAINID, list[i].lo) == domain.id && base == next);
			/* Tables went: those above the leaves are invalidated too. */
			CHECK(leaf_only || (list[i].hi & PAGES_PDE));
			next += block;
		}
		CHECK_EQ(next, at + size);
		CHECK(list[i].op == INVALIDATE_IOTLB_PAGES && (list[i].lo & CMD_DEVICEID) == rid.v &&
		      FIELD_GET(IOTLB_MAXPEND, list[i].lo) == 5);
		block_of(list[i].hi, &base, &block);
		CHECK(base <= at && base + block >= at + size);
		CHECK(block <= 4096 || at / (block / 2) != (at + size - 1) / (block / 2));
		/* And now and then all of the domain, the device last again, before tables are freed. */
		whole = asked == i + 3 && list[i + 1].op == INVALIDATE_IOMMU_PAGES &&
			list[i + 1].hi == (PAGES_ALL | PAGES_S | PAGES_PDE) && list[i + 2].op == INVALIDATE_IOTLB_PAGES;
		CHECK(asked == i + 1 || whole);
	}
	/* In more pieces than are worth it: the domain. */
	CHECK_EQ(amdvi_ops.sync(&domain, NULL, deadline_in(SEC(2))), 0);
	CHECK_EQ(amdvi_ops.map(&domain, iova(4096), gpa(4096), (1ull << 31) - 8192, IOMMU_RW, 0), 0);
	unmap_sync(4096, (1ull << 31) - 8192, false);
	CHECK(asked == 2 && list[0].hi == (PAGES_ALL | PAGES_S | PAGES_PDE) && list[1].op == INVALIDATE_IOTLB_PAGES);
	CHECK_EQ(amdvi_ops.sync(&domain, NULL, deadline_in(SEC(2))), 0);
	CHECK(list[asked - 2].hi == (PAGES_ALL | PAGES_S | PAGES_PDE) && list[asked - 1].op == INVALIDATE_IOTLB_PAGES &&
	      list[asked - 1].hi == (PAGES_ALL | PAGES_S));
	asked = 0;
	CHECK_EQ(amdvi_ops.detach(&domain, rid), 0);
	CHECK(list[0].op == INVALIDATE_DEVTAB_ENTRY && list[asked - 1].op == INVALIDATE_IOTLB_PAGES && !fake_ats_on);
	/* Nobody keeps anything now. */
	CHECK_EQ(map_at(0x5000, 4096), 0);
	unmap_sync(0x5000, 4096, true);
	CHECK(asked == 1 && list[0].op == INVALIDATE_IOMMU_PAGES);
	unit_off();
	unit_on(EFR, HEADER, 5);
	CHECK(!fake_ats_on && dte(0x340)[1] == domain.id);
	unit_off();
	/* Firmware forbids it. */
	boot(EFR, HEADER | CAP_HEADER_IOTLBSUP);
	unit_on(EFR, HEADER | CAP_HEADER_IOTLBSUP, 5);
	CHECK_EQ(amdvi_ops.detach(&domain, rid), 0);
	unit->dev[1] = (struct ivrs_dev){.first = 0x340, .last = 0x340, .extended = IVHD_EXT_ATS_DISABLED};
	CHECK_EQ(amdvi_ops.attach(&domain, rid), 0);
	CHECK(!fake_ats_on);
	unit_off();
}

/* A unit that keeps entries that are not present is told of new ones too (NpCache). */
static void test_np_cache(void)
{
	unit_on(EFR, HEADER | CAP_HEADER_NPCACHE, 0);
	CHECK_EQ(map_at(0x5000, 0x3000), 0);
	CHECK(asked == 2 && list[0].op == INVALIDATE_IOMMU_PAGES && (list[0].hi & ~0xfffull) == 0x5000 &&
	      FIELD_GET(PAGES_DOMAINID, list[0].lo) == domain.id && list[1].hi == (0x6000 | PAGES_S | PAGES_PDE));
	unit_off();
}

/* Everything, of more functions than a batch has room for; with and without INVALIDATE_IOMMU_ALL. */
static void test_all(void)
{
	for (unsigned ia = 0; ia < 2; ia++) {
		uint8_t entry[0x600] = {0}, table[0x600] = {0};
		unsigned all = 0, pages = 0;

		unit_on(ia ? EFR : EFR & ~EFR_IASUP, HEADER, 0);
		asked = 0;
		CHECK_EQ(sync_all(), 0);
		for (unsigned i = 0; i < asked; i++) {
			all += list[i].op == INVALIDATE_IOMMU_ALL;
			pages += list[i].op == INVALIDATE_IOMMU_PAGES && FIELD_GET(PAGES_DOMAINID, list[i].lo) == domain.id;
			if (list[i].op == INVALIDATE_DEVTAB_ENTRY)
				entry[list[i].lo & CMD_DEVICEID]++;
			if (list[i].op == INVALIDATE_INTERRUPT_TABLE)
				table[list[i].lo & CMD_DEVICEID]++;
		}
		for (unsigned i = 0; i < DEVS; i++)
			CHECK(entry[devs[i].rid.v] == 1 && table[devs[i].rid.v] == 1);
		CHECK(entry[0xa0] == 1 && table[0xa0] == 1);
		CHECK(ia ? all == 1 && pages == 0 : all == 0 && pages == 1);
		CHECK(most_pending <= 255);
		unit_off();
	}
}

/* The ring goes round many times, whatever is asked, at the unit's own pace; waits are stored in order. */
static void test_ring(void)
{
	static _Alignas(4096) uint64_t word[512];
	uint32_t next = 0x1000;

	unit_on(EFR, HEADER, 0);
	for (unsigned round = 0; round < 40; round++) {
		mode = round & 1 ? LAZY : EAGER;
		memset(word, 0, sizeof(word));
		CHECK_EQ(amdvi_ops.queue_waits(&iommu, gpa((uint64_t)word), 100 + round, next), 0);
		for (unsigned k = 0; k < 100 + round; k++) {
			CHECK(mode == EAGER || word[k] == 0);
			fake_turn();
			CHECK_EQ(word[k], next + k);
			CHECK(mode == EAGER || word[k + 1] == 0);
		}
		next += 1000;
	}
	/* As many as there may be, again and again, and all that there is between: no place is taken twice. */
	for (unsigned round = 0; round < 10; round++) {
		mode = LAZY;
		most_pending = 0;
		CHECK_EQ(amdvi_ops.queue_waits(&iommu, gpa((uint64_t)word), IOMMU_QUEUE_WAITS, next), 0);
		if (round & 1)
			CHECK_EQ(amdvi_ops.queue_waits(&iommu, gpa((uint64_t)(word + 256)), IOMMU_QUEUE_WAITS, next), 0);
		CHECK_EQ(sync_all(), 0);
		for (unsigned k = 0; k < IOMMU_QUEUE_WAITS; k++)
			CHECK(word[k] == next + k && (!(round & 1) || word[256 + k] == next + k));
		CHECK(most_pending >= 200 && most_pending <= 255);
		next += 1000;
	}
	CHECK_EQ(amdvi_ops.queue_waits(&iommu, gpa((uint64_t)word), IOMMU_QUEUE_WAITS + 1, next), -EINVAL);
	CHECK(!iommu.broken);
	unit_off();
	CHECK_EQ(amdvi_ops.queue_waits(&iommu, gpa((uint64_t)word), 1, next), -EOPNOTSUPP);
}

/* 2.5.6: the buffer stands still at what it cannot take, what is behind it is not done, and it goes on when begun anew. */
static void test_illegal(void)
{
	struct iommu_fault f;

	unit_on(EFR, HEADER, 0);
	for (unsigned round = 0; round < 300; round++) {
		mode = round % 3 == 0 ? LAZY : EAGER;
		notes = 0;
		CHECK_EQ(amdvi_ops.queue_bad(&iommu), -EIO);
		CHECK(!iommu.broken && (*reg(STATUS) & STATUS_CMDBUFRUN));
		CHECK_EQ(notes, 0);          /* it was asked for */
		CHECK_EQ(amdvi_ops.fault_pop(&iommu, &f), 0);
		CHECK(f.raw_reason >> 12 == ILLEGAL_COMMAND_ERROR && f.reason == IOMMU_FAULT_OTHER && !f.interrupt);
		CHECK_EQ(amdvi_ops.fault_pop(&iommu, &f), -EAGAIN);
		waited = 0;
		CHECK_EQ(sync_all(), 0);
		CHECK(waited >= 1);
	}
	/* One that nobody asked for, in the middle of others, and an error of its memory: told, and survived. */
	mode = EAGER;
	for (unsigned round = 0; round < 2; round++) {
		const struct amdvi_pair c[3] = {command(INVALIDATE_DEVTAB_ENTRY, 1, 0), command(round ? INVALIDATE_IOMMU_ALL : 12, 0, 0),
						command(INVALIDATE_DEVTAB_ENTRY, 2, 0)};
		const uint64_t at = (uint64_t)slot(amdvi_of(&iommu), amdvi_of(&iommu)->tail);

		notes = asked = 0;
		breaks = round;
		CHECK_EQ(submit(amdvi_of(&iommu), c, 3, deadline_in(SEC(2))), -EIO);
		CHECK_EQ(notes, 1);
		CHECK_EQ(asked, round ? 0 : 1);
		CHECK_EQ(amdvi_ops.fault_pop(&iommu, &f), 0);
		CHECK_EQ(f.raw_reason >> 12, round ? COMMAND_HARDWARE_ERROR : ILLEGAL_COMMAND_ERROR);
		CHECK_EQ(f.iova.v, at + (round ? 0 : 16));
		CHECK_EQ(sync_all(), 0);
	}
	unit_off();
}

/* ---- the event log ---- */

static uint64_t fault_of(unsigned id)
{
	return FIELD_PREP(EVENT_CODE, (uint64_t)IO_PAGE_FAULT) | FIELD_PREP(EVENT_DOMAINID, (uint64_t)domain.id) | EVENT_RW | id;
}

static void log_n(unsigned n, unsigned from)
{
	for (unsigned i = 0; i < n; i++)
		event(fault_of((from + i) % 0x500), (uint64_t)(from + i) << 12, false);
}

static void expect_n(unsigned n, unsigned from, bool overflow)
{
	struct iommu_fault f;
	bool same = true;

	for (unsigned i = 0; i < n; i++) {
		same &= amdvi_ops.fault_pop(&iommu, &f) == 0 && f.rid.v == (from + i) % 0x500 &&
			f.iova.v == (uint64_t)(from + i) << 12 && f.write && f.reason == IOMMU_FAULT_NOT_PRESENT &&
			f.overflow == overflow;
	}
	CHECK(same);
}

static void test_log(void)
{
	struct iommu_fault f;
	unsigned n = 0;

	unit_on(EFR, HEADER, 0);
	CHECK_EQ(iommu.caps.fault_records, 511);
	CHECK_EQ(amdvi_ops.fault_pop(&iommu, &f), -EAGAIN);
	/* Round the ring, some at a time. */
	for (unsigned round = 0; round < 100; round++) {
		const unsigned k = 1 + round * 37 % 511;

		log_n(k, n);
		expect_n(k, n, false);
		CHECK_EQ(amdvi_ops.fault_pop(&iommu, &f), -EAGAIN);
		n += k;
	}
	/* All that it holds, and no more: nothing is lost, nothing said to be. */
	log_n(511, n);
	CHECK(!(*reg(STATUS) & STATUS_EVENTOVERFLOW));
	expect_n(511, n, false);
	/* One more: told with each of those that are there; the log begins anew after the last of them. */
	for (unsigned round = 0; round < 5; round++) {
		log_n(511 + 1 + round * 100, n);
		CHECK((*reg(STATUS) & STATUS_EVENTOVERFLOW) && !(*reg(STATUS) & STATUS_EVENTLOGRUN));
		expect_n(511, n, true);
		CHECK_EQ(*reg(STATUS) & (STATUS_EVENTOVERFLOW | STATUS_EVENTLOGRUN), STATUS_EVENTLOGRUN);
		CHECK_EQ(amdvi_ops.fault_pop(&iommu, &f), -EAGAIN);
		log_n(3, n + 7);
		expect_n(3, n + 7, false);
	}
	/* Cleared instead: the same, and the next one interrupts. */
	log_n(600, n);
	amdvi_ops.fault_clear(&iommu);
	CHECK_EQ(*reg(STATUS), STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN);
	log_n(2, n);
	CHECK(*reg(STATUS) & STATUS_EVENTLOGINT);
	amdvi_ops.fault_clear(&iommu);
	CHECK_EQ(*reg(STATUS), STATUS_CMDBUFRUN | STATUS_EVENTLOGRUN);
	CHECK_EQ(amdvi_ops.fault_pop(&iommu, &f), -EAGAIN);
	/* The pointer first, the entry a moment later; and one that never comes, which is told and no hang. */
	event(fault_of(5), 5 << 12, true);
	expect_n(1, 5, false);
	event(0, 0, false);
	looks = 0;
	CHECK(amdvi_ops.fault_pop(&iommu, &f) == 0 && f.reason == IOMMU_FAULT_OTHER && looks < 10);
	/* The log that cannot be begun anew is a unit that does not answer. */
	log_n(512, n);
	deaf = true;
	expect_n(511, n, true);
	CHECK(iommu.broken);
	deaf = false;
	unit_off();
}

/* Each kind of event, through ring and log. */
static void test_events(void)
{
	static const struct { unsigned code; uint64_t flags; enum iommu_reason reason; bool interrupt; } kinds[] = {
		{ILLEGAL_DEV_TABLE_ENTRY, EVENT_RW, IOMMU_FAULT_RESERVED_BITS, false},
		{ILLEGAL_DEV_TABLE_ENTRY, EVENT_I, IOMMU_FAULT_IR_RESERVED, true},
		{IO_PAGE_FAULT, 0, IOMMU_FAULT_NOT_PRESENT, false},
		{IO_PAGE_FAULT, EVENT_PR | EVENT_PE | EVENT_RW, IOMMU_FAULT_WRITE, false},
		{IO_PAGE_FAULT, EVENT_PR | EVENT_PE, IOMMU_FAULT_READ, false},
		{IO_PAGE_FAULT, EVENT_PR | EVENT_RZ, IOMMU_FAULT_RESERVED_BITS, false},
		{IO_PAGE_FAULT, EVENT_I, IOMMU_FAULT_IR_NOT_PRESENT, true},
		{DEV_TAB_HARDWARE_ERROR, 0, IOMMU_FAULT_TABLE, false},
		{PAGE_TAB_HARDWARE_ERROR, EVENT_I, IOMMU_FAULT_IR_TABLE, true},
		{PAGE_TAB_HARDWARE_ERROR, 0, IOMMU_FAULT_TABLE, false},
		{IOTLB_INV_TIMEOUT, 0, IOMMU_FAULT_OTHER, false},
		{INVALID_DEVICE_REQUEST, 0, IOMMU_FAULT_BLOCKED, false},
		{INVALID_PPR_REQUEST, 0, IOMMU_FAULT_OTHER, false},
	};
	struct iommu_fault f;

	unit_on(EFR, HEADER, 0);
	unit->segment = 3;
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		event(FIELD_PREP(EVENT_CODE, (uint64_t)kinds[i].code) | kinds[i].flags | 0x340 |
			      FIELD_PREP(EVENT_DOMAINID, (uint64_t)domain.id), 0xfdf8012000, false);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		CHECK_EQ(amdvi_ops.fault_pop(&iommu, &f), 0);
		CHECK(f.reason == kinds[i].reason && f.interrupt == kinds[i].interrupt && f.rid.v == 0x30340);
		CHECK(f.interrupt ? f.ir_index == 1 : f.iova.v == 0xfdf8012000);
	}
	/* Past what the domain's tables reach: not the entry, but the driver knows. */
	event(fault_of(0x340), 1ull << 48, false);
	CHECK(amdvi_ops.fault_pop(&iommu, &f) == 0 && f.reason == IOMMU_FAULT_ADDRESS_WIDTH);
	unit->segment = 0;
	unit_off();
}

static void test_fault_irq(void)
{
	const struct irq_route route = {.dest = 3, .vector = 0x55};
	const char *why = NULL;

	unit_on(EFR, HEADER, 0);
	CHECK(amdvi_ops.fault_irq(&iommu, &route, &why) == -EOPNOTSUPP && why);
	msi_there = true;
	CHECK_EQ(amdvi_ops.fault_irq(&iommu, &route, &why), 0);
	CHECK(msi_is_on && msi_message.addr == 0xfee03000 && msi_message.data == 0x55 && (*reg(CONTROL) & CONTROL_EVENTINTEN));
	CHECK_EQ(amdvi_ops.fault_irq(&iommu, NULL, &why), 0);
	CHECK(!msi_is_on && !(*reg(CONTROL) & CONTROL_EVENTINTEN));
	unit_off();
}

/* ---- it stops answering ---- */

static void expect_given_up(int r, bool off)
{
	CHECK_EQ(r, -ETIMEDOUT);
	CHECK(looks < 1000 && notes >= 2 && iommu.broken && !iommu.translating && !iommu.remapping);
	CHECK(!off || !(*reg(CONTROL) & CONTROL_IOMMUEN));
	looks = 0;
	/* Nothing more is asked of it. */
	CHECK_EQ(sync_all(), -EIO);
	CHECK_EQ(amdvi_ops.sync(&domain, NULL, deadline_in(SEC(2))), -EIO);
	CHECK_EQ(amdvi_ops.map(&domain, iova(0), gpa(0), 4096, IOMMU_R, 0), -EIO);
	CHECK_EQ(amdvi_ops.enable(&iommu), -EIO);
	CHECK_EQ(amdvi_ops.queue_waits(&iommu, gpa(0), 1, 0), -EIO);
	unit_off();
	CHECK_EQ(looks, 0);
}

static void test_dead(void)
{
	static _Alignas(4096) uint64_t word[512];

	unit_on(EFR, HEADER, 0);
	mode = STUCK;
	looks = notes = 0;
	expect_given_up(amdvi_ops.sync(&domain, NULL, deadline_in(SEC(2))), true);
	/* A completion wait that is done and never stores. */
	unit_on(EFR, HEADER, 0);
	no_store = true;
	looks = notes = 0;
	expect_given_up(sync_all(), true);
	/* No room in the ring, for it does not move. */
	unit_on(EFR, HEADER, 0);
	mode = STUCK;
	CHECK_EQ(amdvi_ops.queue_waits(&iommu, gpa((uint64_t)word), IOMMU_QUEUE_WAITS, 1), 0);
	looks = notes = 0;
	expect_given_up(amdvi_ops.queue_waits(&iommu, gpa((uint64_t)word), IOMMU_QUEUE_WAITS, 1), true);
	/* Not even its registers. */
	unit_on(EFR, HEADER, 0);
	dead = true;
	looks = notes = 0;
	expect_given_up(sync_all(), false);
	/* One that cannot be begun anew after an error. */
	unit_on(EFR, HEADER, 0);
	breaks = deaf = true;
	looks = notes = 0;
	expect_given_up(sync_all(), false);
	/* One that does not start. */
	unit_on(EFR, HEADER, 0);
	amdvi_ops.disable(&iommu);
	deaf = true;
	looks = notes = 0;
	CHECK_EQ(amdvi_ops.enable(&iommu), -ETIMEDOUT);
	CHECK(iommu.broken && !iommu.translating && looks < 1000);
	/* One that does not stop, when firmware left it on. */
	boot(EFR, HEADER);
	deaf = true;
	CHECK_EQ(amdvi_ops.probe(&iommu, &iommu.desc), -ETIMEDOUT);
	CHECK(iommu.broken);
	boot(EFR, HEADER);
	memset(regs, 0xff, sizeof(regs));
	CHECK_EQ(amdvi_ops.probe(&iommu, &iommu.desc), -ENODEV);
}

/* ---- remapping: entries of both forms, each function's table its own ---- */

/* Four messages of one function: entries in a row, the first a multiple of four, each by its own route. */
static void entries_in_a_row(bool eim, uint64_t table)
{
	const struct irq_route one = {.dest = 9, .vector = 0x50};
	const struct irq_route routes[4] = {{.dest = 1, .vector = 0x51}, {.dest = 2, .vector = 0x52}, {.dest = 3, .vector = 0x53},
					    {.dest = 4, .vector = 0x54}};
	const int alone = amdvi_ops.irq_map(&iommu, rid, &one, 1, NULL); /* in the way of 0 to 3 */
	struct msi_msg m;
	const int first = amdvi_ops.irq_map(&iommu, rid, routes, 4, &m);

	CHECK((alone & 0xffff) == 0 && (first & 0xffff) == 4 && m.data == 4);
	for (unsigned i = 0; i < 4; i++) {
		if (eim)
			CHECK(((struct amdvi_pair *)table)[4 + i].lo == (IRTE_REMAPEN | (i + 1) << 8) &&
			      ((struct amdvi_pair *)table)[4 + i].hi == 0x51 + i);
		else
			CHECK_EQ(((uint32_t *)table)[4 + i], IRTE_REMAPEN | (i + 1) << 8 | (0x51 + i) << 16);
	}
	asked = 0;
	CHECK_EQ(amdvi_ops.irq_sync(&iommu), 0);
	CHECK(asked > 0 && list[0].op == INVALIDATE_INTERRUPT_TABLE);
	CHECK_EQ(amdvi_ops.irq_unmap(&iommu, alone), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(amdvi_ops.irq_unmap(&iommu, first + i), 0);
}

static void test_remapping(void)
{
	const struct irq_route route = {.dest = 0x23, .vector = 0x61};
	struct msi_msg m;
	int index;

	unit_on(EFR | EFR_GASUP | EFR_XTSUP, HEADER, 0);
	for (unsigned eim = 0; eim < 2; eim++) {
		const struct irq_route wide = {.dest = 0x12345678, .vector = 0x62};
		uint64_t table;

		CHECK_EQ(amdvi_ops.ir_enable(&iommu, eim), 0);
		CHECK_EQ(!!(*reg(CONTROL) & CONTROL_XTEN), eim);
		asked = 0;
		index = amdvi_ops.irq_map(&iommu, rid, &route, 1, &m);
		CHECK(index >= 0 && list[asked - 1].op == INVALIDATE_INTERRUPT_TABLE && (list[asked - 1].lo & CMD_DEVICEID) == rid.v);
		CHECK_EQ(dte(rid.v)[2] & ~DTE2_INTROOT, DTE2_IV | FIELD_PREP(DTE2_INTTABLEN, 8ull) | FIELD_PREP(DTE2_INTCTL, INTCTL_REMAP));
		table = dte(rid.v)[2] & DTE2_INTROOT;
		if (eim)
			CHECK(((struct amdvi_pair *)table)[index & 0xffff].lo == (IRTE_REMAPEN | 0x23 << 8) &&
			      ((struct amdvi_pair *)table)[index & 0xffff].hi == 0x61);
		else
			CHECK_EQ(((uint32_t *)table)[index & 0xffff], IRTE_REMAPEN | 0x23 << 8 | 0x61 << 16);
		CHECK_EQ(amdvi_ops.irq_update(&iommu, index, rid, &wide), eim ? 0 : -EOPNOTSUPP);
		if (eim)
			CHECK(((struct amdvi_pair *)table)[index & 0xffff].lo == (IRTE_REMAPEN | 0x345678 << 8) &&
			      ((struct amdvi_pair *)table)[index & 0xffff].hi == (0x62 | 0x12ull << 56));
		/* What firmware wants to pass does; who has no table has one in which nothing is enabled. */
		CHECK((dte(0xa0)[2] & DTE2_EINTPASS) && (dte(0x328)[2] & DTE2_NMIPASS) && !(dte(rid.v)[2] & DTE2_NMIPASS));
		CHECK_EQ(((uint64_t *)(dte(0xa0)[2] & DTE2_INTROOT))[0], 0);
		CHECK_EQ(amdvi_ops.irq_unmap(&iommu, index), 0);
		CHECK_EQ(((uint32_t *)table)[eim ? 4 * (index & 0xffff) : index & 0xffff], 0);
		entries_in_a_row(eim, table);
		amdvi_ops.ir_disable(&iommu);
		CHECK_EQ(dte(rid.v)[2], 0);
	}
	unit_off();
}

int main(void)
{
	test_device_table();
	test_unity();
	test_ranges();
	test_np_cache();
	test_all();
	test_ring();
	test_illegal();
	test_log();
	test_events();
	test_fault_irq();
	test_dead();
	test_remapping();
	return host_done("amdvi_unit");
}
