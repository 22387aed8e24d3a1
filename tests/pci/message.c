/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "drivers/pci/regs.h"
#include "kernel/irq/irq.h"
#include "kernel/irq/msg.h"
#include "kernel/mm/mm.h"
#include "tests/pci/common.h"

/*
 * Message registers while they cannot send: MSI is off, or Bus Master is, or the entry is masked.
 * Only then do they hold patterns; a register that is enabled holds a message made by msg.c.
 */
static const uint32_t pattern[] = {0xffffffff, 0x00000000, 0x55555555, 0xaaaaaaaa};

/* Firmware does not use messages: a function that no exerciser has opened is as reset left it. */
static bool untouched(const struct pci_dev *d)
{
	for (unsigned i = 0; i < exerciser_count; i++)
		if (exercisers[i].dev == d)
			return false;
	return !d->driver;
}

/* To some devices the loss of Bus Master is a reset: its exerciser starts it again. */
static void needs_start(const struct pci_dev *d)
{
	for (unsigned i = 0; i < exerciser_count; i++)
		if (exercisers[i].dev == d)
			exercisers[i].ready = false;
}

static void master_off(struct keep *k, const struct pci_dev *d)
{
	keep_reg(k, d->rid, PCI_COMMAND, 2);
	pci_w16(d->rid, PCI_COMMAND, (uint16_t)(pci_r16(d->rid, PCI_COMMAND) & ~PCI_COMMAND_MASTER));
	needs_start(d);
}

/* ---- MSI ---- */

/* A field of the capability: exactly the bits of mask take what is written. */
static void check_field(struct t *t, struct keep *k, const struct msi *m, unsigned off, unsigned width,
			uint32_t mask, const char *name)
{
	const pci_rid_t rid = m->dev->rid;

	keep_reg(k, rid, m->cap + off, width);
	for (unsigned i = 0; i < ARRAY_SIZE(pattern); i++) {
		uint32_t got;

		if (width == 2)
			pci_w16(rid, m->cap + off, (uint16_t)pattern[i]);
		else
			pci_w32(rid, m->cap + off, pattern[i]);
		got = width == 2 ? pci_r16(rid, m->cap + off) : pci_r32(rid, m->cap + off);
		EXPECT_MSG(t, got == (pattern[i] & mask),
			   PRIRID " MSI %s: %08x written: got %08x, expected %08x", RIDARG(rid), name,
			   pattern[i], got, pattern[i] & mask);
	}
}

static uint16_t msi_control(const struct msi *m)
{
	return pci_r16(m->dev->rid, m->cap + MSI_CONTROL);
}

static void check_grants(struct t *t, const struct msi *m)
{
	const uint16_t was = msi_control(m) & (uint16_t)~MSI_MME;
	const unsigned asked = FIELD_GET(MSI_MMC, was);

	for (unsigned log2 = 0; log2 <= MIN(asked, 5); log2++) {
		const uint16_t v = (uint16_t)(was | FIELD_PREP(MSI_MME, log2));

		pci_w16(m->dev->rid, m->cap + MSI_CONTROL, v);
		EXPECT_MSG(t, msi_control(m) == v,
			   PRIRID " MSI granted %u of %u messages: got control %04x, expected %04x",
			   RIDARG(m->dev->rid), 1u << log2, 1u << asked, msi_control(m), v);
	}
}

/* Enabled for a moment, with a message that is one, and nobody to send it. */
static void check_enable(struct t *t, struct keep *k, struct msi *m, int vector)
{
	const struct irq_route route = {.dest = cpus[0]->apic_id, .vector = (uint8_t)vector};
	const uint16_t off = msi_control(m) & (uint16_t)~(MSI_ENABLE | MSI_MME);
	struct msi_msg msg, got;
	bool enabled;

	master_off(k, m->dev);
	if (msg_compat(&route, &msg, NULL) < 0) {
		test_note(t, PRIRID ": no message without remapping, enable bit not looked at",
			  RIDARG(m->dev->rid));
		return;
	}
	REQUIRE_OK(t, msi_program(m, &msg, 1));
	msi_read(m, &got, &enabled);
	EXPECT_MSG(t, got.addr == msg.addr && got.data == msg.data,
		   PRIRID " MSI: got %llx/%x, expected %llx/%x as programmed", RIDARG(m->dev->rid),
		   (unsigned long long)got.addr, got.data, (unsigned long long)msg.addr, msg.data);
	EXPECT_MSG(t, !enabled, PRIRID " MSI: enabled by programming it", RIDARG(m->dev->rid));
	msi_enable(m, true);
	EXPECT_MSG(t, msi_control(m) == (off | MSI_ENABLE),
		   PRIRID " MSI enabled: got control %04x, expected %04x", RIDARG(m->dev->rid),
		   msi_control(m), off | MSI_ENABLE);
	msi_enable(m, false);
	EXPECT_MSG(t, msi_control(m) == off, PRIRID " MSI disabled: got control %04x, expected %04x",
		   RIDARG(m->dev->rid), msi_control(m), off);
}

static void check_msi(struct t *t, struct keep *k, struct msi *m, int vector)
{
	const pci_rid_t rid = m->dev->rid;
	const uint32_t kept = keep_reg(k, rid, m->cap + MSI_CONTROL, 2);
	const uint32_t vectors = m->count_max == 32 ? ~0u : BIT(m->count_max) - 1;

	EXPECT_MSG(t, FIELD_GET(MSI_MMC, kept) <= 5, PRIRID " MSI: asks for 2^%u messages", RIDARG(rid),
		   (unsigned)FIELD_GET(MSI_MMC, kept));
	EXPECT_MSG(t, !(kept & MSI_ENABLE), PRIRID " MSI: enabled at rest", RIDARG(rid));
	if (untouched(m->dev))
		EXPECT_MSG(t, !(kept & MSI_MME), PRIRID " MSI: messages granted after reset (%04x)",
			   RIDARG(rid), kept);
	msi_enable(m, false);
	check_field(t, k, m, MSI_ADDR, 4, MSI_ADDR_MASK, "address");
	if (m->is64)
		check_field(t, k, m, MSI_ADDR_HI, 4, 0xffffffff, "upper address");
	check_field(t, k, m, MSI_DATA(m->is64), 2, 0xffff, "data");
	if (m->maskable) {
		check_field(t, k, m, MSI_MASK(m->is64), 4, vectors, "mask bits");
		EXPECT_MSG(t, !(msi_pending(m) & ~vectors),
			   PRIRID " MSI: pending bits %08x of messages that do not exist", RIDARG(rid),
			   msi_pending(m));
	}
	check_grants(t, m);
	check_enable(t, k, m, vector);
	keep_restore(k);
}

static void free_vector(void *arg)
{
	irq_vector_free((int)(intptr_t)arg);
}

static int own_vector(struct t *t)
{
	const int vector = irq_vector_alloc();

	REQUIRE_OK(t, vector);
	test_cleanup(t, free_vector, (void *)(intptr_t)vector);
	return vector;
}

/* Every byte of the capability is as before. */
static void check_put_back(struct t *t, const struct pci_dev *d, unsigned cap, unsigned words,
			   const uint32_t *before)
{
	for (unsigned i = 0; i < words; i++) {
		const uint32_t now = pci_r32(d->rid, cap + 4 * i);

		EXPECT_MSG(t, now == before[i],
			   PRIRID " at %02x: got %08x after the test, expected %08x again", RIDARG(d->rid),
			   cap + 4 * i, now, before[i]);
	}
}

static void read_cap(const struct pci_dev *d, unsigned cap, unsigned words, uint32_t *out)
{
	for (unsigned i = 0; i < words; i++)
		out[i] = pci_r32(d->rid, cap + 4 * i);
}

/*
 * The MSI registers of every function hold what is written, and nothing else changes.
 *
 * PCI 3.0, 6.8.1: address (bits 1:0 read as 0), upper address where there is one, 16 bits of data,
 * a mask bit for each message asked for and none beyond, Multiple Message Enable up to what is asked
 * for, MSI Enable. Patterns stand in them only while the function cannot send. A VMM that mirrors the
 * capability of a real device may keep a copy that does not take all bits, or lose the upper half of
 * the address; the message then goes to another place than software believes.
 */
TEST(pci, msi_registers, "MSI address, data, mask, enable, multiple-message fields stick", NEED_PCI)
{
	struct keep *k = keep_start(t);
	const int vector = own_vector(t);
	unsigned seen = 0;

	FOR_EACH_PCI(d) {
		uint32_t before[6];
		struct msi m;
		unsigned words;

		if (msi_open(d, &m) < 0)
			continue;
		words = (10u + (m.is64 ? 4 : 0) + (m.maskable ? 10 : 0) + 3) / 4;
		read_cap(d, m.cap, words, before);
		check_msi(t, k, &m, vector);
		check_put_back(t, d, m.cap, words, before);
		seen++;
	}
	if (!seen)
		test_skip(t, "no function with MSI");
	test_note(t, "%u functions", seen);
}

/* ---- MSI-X ---- */

#define ENTRY_WORDS (MSIX_ENTRY_SIZE / 4)
#define ENTRIES_ALL 64                   /* of a larger table: as many from each end */

struct table {
	struct msix *m;
	uint32_t *saved;                 /* ENTRY_WORDS for each entry */
	bool held;                       /* saved is to be put back */
};

static volatile uint8_t *entry_at(const struct msix *m, unsigned index)
{
	return m->table + (size_t)index * MSIX_ENTRY_SIZE;
}

static void table_save(struct table *tb)
{
	for (unsigned i = 0; i < tb->m->count * ENTRY_WORDS; i++)
		tb->saved[i] = mmio_r32(tb->m->table + 4 * (size_t)i);
	tb->held = true;
}

static void table_restore(void *arg)
{
	struct table *tb = arg;

	if (!tb->held)
		return;
	for (unsigned i = 0; i < tb->m->count * ENTRY_WORDS; i++)
		mmio_w32(tb->m->table + 4 * (size_t)i, tb->saved[i]);
	tb->held = false;
}

/* Table and pending bits: whole, inside a memory BAR, and not over one another. */
static bool check_layout(struct t *t, const struct pci_dev *d, unsigned count)
{
	const uint32_t where[] = {pci_r32(d->rid, d->cap_msix + MSIX_TABLE),
				  pci_r32(d->rid, d->cap_msix + MSIX_PBA)};
	const uint64_t size[] = {(uint64_t)count * MSIX_ENTRY_SIZE, (count + 63) / 64 * 8};
	static const char *const name[] = {"table", "PBA"};
	uint64_t from[2];
	bool good = true;

	for (unsigned i = 0; i < 2; i++) {
		const unsigned bir = FIELD_GET(MSIX_BIR, where[i]);
		const bool memory = bir < PCI_BAR_COUNT && d->bar[bir].size && !d->bar[bir].io;

		from[i] = where[i] & MSIX_OFFSET;
		good &= EXPECT_MSG(t, memory, PRIRID " MSI-X %s: BAR%u is no memory BAR", RIDARG(d->rid),
				   name[i], bir);
		if (memory)
			good &= EXPECT_MSG(t, from[i] + size[i] <= d->bar[bir].size,
					   PRIRID " MSI-X %s: +%llx, %llu bytes, in BAR%u of %llx bytes",
					   RIDARG(d->rid), name[i], (unsigned long long)from[i],
					   (unsigned long long)size[i], bir,
					   (unsigned long long)d->bar[bir].size);
	}
	good &= EXPECT_MSG(t,
			   FIELD_GET(MSIX_BIR, where[0]) != FIELD_GET(MSIX_BIR, where[1]) ||
				   from[0] + size[0] <= from[1] || from[1] + size[1] <= from[0],
			   PRIRID " MSI-X: table and PBA overlap (%08x, %08x)", RIDARG(d->rid), where[0],
			   where[1]);
	return good;
}

static void check_control(struct t *t, struct keep *k, const struct msix *m)
{
	const unsigned off = m->cap + MSIX_CONTROL;
	const pci_rid_t rid = m->dev->rid;
	const uint32_t kept = keep_reg(k, rid, off, 2);
	/* Function Mask first and last: enabled, but with nothing that could be sent. */
	static const uint16_t step[] = {MSIX_FUNCTION_MASK, MSIX_FUNCTION_MASK | MSIX_ENABLE,
					MSIX_FUNCTION_MASK, 0};

	EXPECT_MSG(t, !(kept & MSIX_ENABLE), PRIRID " MSI-X: enabled at rest", RIDARG(rid));
	if (untouched(m->dev))
		EXPECT_MSG(t, !(kept & MSIX_FUNCTION_MASK),
			   PRIRID " MSI-X: Function Mask set after reset (%04x)", RIDARG(rid), kept);
	for (unsigned i = 0; i < ARRAY_SIZE(step); i++) {
		const uint16_t want = (uint16_t)((kept & MSIX_SIZE) | step[i]);

		/* The size is read-only: its bits are written the other way round. */
		pci_w16(rid, off, (uint16_t)((~kept & MSIX_SIZE) | step[i]));
		EXPECT_MSG(t, pci_r16(rid, off) == want, PRIRID " MSI-X control: got %04x, expected %04x",
			   RIDARG(rid), pci_r16(rid, off), want);
	}
}

static void check_entry(struct t *t, const struct msix *m, unsigned index)
{
	static const struct { unsigned off; uint32_t mask; const char *name; } field[] = {
		{MSIX_ENTRY_ADDR, 0xfffffffc, "address"}, {MSIX_ENTRY_ADDR_HI, 0xffffffff, "upper address"},
		{MSIX_ENTRY_DATA, 0xffffffff, "data"}};
	volatile uint8_t *e = entry_at(m, index);
	const uint32_t control = mmio_r32(e + MSIX_ENTRY_CTRL);

	for (unsigned f = 0; f < ARRAY_SIZE(field); f++)
		for (unsigned i = 0; i < ARRAY_SIZE(pattern); i++) {
			/* Bits 1:0 of the address must be written as 0 (6.8.2.6). */
			const uint32_t v = pattern[i] & field[f].mask;

			mmio_w32(e + field[f].off, v);
			EXPECT_MSG(t, mmio_r32(e + field[f].off) == v,
				   PRIRID " MSI-X entry %u %s: %08x written: got %08x", RIDARG(m->dev->rid),
				   index, field[f].name, v, mmio_r32(e + field[f].off));
		}
	for (unsigned masked = 0; masked < 2; masked++) {
		const uint32_t v = masked ? control | MSIX_ENTRY_MASKED : control & ~MSIX_ENTRY_MASKED;

		mmio_w32(e + MSIX_ENTRY_CTRL, v);
		EXPECT_MSG(t, mmio_r32(e + MSIX_ENTRY_CTRL) == v,
			   PRIRID " MSI-X entry %u: control %08x written: got %08x", RIDARG(m->dev->rid),
			   index, v, mmio_r32(e + MSIX_ENTRY_CTRL));
	}
}

/* Each entry has registers of its own: all written, then all read. */
static void check_distinct(struct t *t, const struct msix *m)
{
	for (unsigned i = 0; i < m->count; i++)
		mmio_w32(entry_at(m, i) + MSIX_ENTRY_DATA, 0x5a000000 | i);
	for (unsigned i = 0; i < m->count; i++) {
		const uint32_t got = mmio_r32(entry_at(m, i) + MSIX_ENTRY_DATA);

		if (!EXPECT_MSG(t, got == (0x5a000000 | i), PRIRID " MSI-X entry %u: got %08x, expected %08x",
				RIDARG(m->dev->rid), i, got, 0x5a000000 | i))
			return;
	}
}

/* 6.8.2: functions take aligned dwords and quadwords. */
static void check_qword(struct t *t, const struct msix *m)
{
	volatile uint8_t *e = entry_at(m, m->count - 1);

	mmio_w64(e + MSIX_ENTRY_ADDR, 0x0123456789abcdecull);
	EXPECT_MSG(
		t,
		mmio_r32(e + MSIX_ENTRY_ADDR) == 0x89abcdec && mmio_r32(e + MSIX_ENTRY_ADDR_HI) == 0x01234567,
		PRIRID
		" MSI-X address written as a quadword: got %08x %08x by dwords, expected 01234567 89abcdec",
		RIDARG(m->dev->rid), mmio_r32(e + MSIX_ENTRY_ADDR_HI), mmio_r32(e + MSIX_ENTRY_ADDR));
	EXPECT_MSG(t, mmio_r64(e + MSIX_ENTRY_ADDR) == 0x0123456789abcdecull,
		   PRIRID " MSI-X address: got %llx as a quadword, expected 123456789abcdec",
		   RIDARG(m->dev->rid), (unsigned long long)mmio_r64(e + MSIX_ENTRY_ADDR));
}

static void check_at_rest(struct t *t, const struct msix *m)
{
	for (unsigned i = 0; i < m->count; i++) {
		const uint32_t control = mmio_r32(entry_at(m, i) + MSIX_ENTRY_CTRL);

		EXPECT_MSG(t, control & MSIX_ENTRY_MASKED,
			   PRIRID " MSI-X entry %u: not masked after reset (%08x)", RIDARG(m->dev->rid), i,
			   control);
	}
	for (unsigned i = 0; i < (m->count + 63) / 64 * 2; i++) {
		const uint32_t pending = mmio_r32(m->pba + 4 * (size_t)i);

		EXPECT_MSG(t, !pending, PRIRID " MSI-X: pending bits %u-%u after reset: %08x",
			   RIDARG(m->dev->rid), 32 * i, 32 * i + 31, pending);
	}
}

static bool asleep(const struct pci_dev *d)
{
	return d->cap_pm && (pci_r16(d->rid, d->cap_pm + PM_CONTROL) & PM_STATE) != PM_D0;
}

static void check_table(struct t *t, struct keep *k, struct msix *m, struct table *tb)
{
	master_off(k, m->dev);
	if (!EXPECT_MSG(t, mmio_r32(m->table + MSIX_ENTRY_CTRL) != PCI_ABSENT,
			PRIRID " MSI-X table does not answer", RIDARG(m->dev->rid)))
		return;
	if (untouched(m->dev))
		check_at_rest(t, m);
	table_save(tb);
	for (unsigned i = 0; i < m->count; i++)
		if (i < ENTRIES_ALL || i >= m->count - ENTRIES_ALL)
			check_entry(t, m, i);
	check_distinct(t, m);
	check_qword(t, m);
	table_restore(tb);
	for (unsigned i = 0; i < m->count * ENTRY_WORDS; i++)
		EXPECT_MSG(t, mmio_r32(m->table + 4 * (size_t)i) == tb->saved[i],
			   PRIRID " MSI-X entry %u +%u: got %08x after the test, expected %08x again",
			   RIDARG(m->dev->rid), i / ENTRY_WORDS, i % ENTRY_WORDS * 4,
			   mmio_r32(m->table + 4 * (size_t)i), tb->saved[i]);
}

/*
 * The MSI-X registers, table and pending bits of every function are where and what they should be.
 *
 * PCI 3.0, 6.8.2: table and pending bits lie whole inside a memory BAR that the capability names;
 * after reset all entries are masked; address, data and mask bit of each entry hold what is written,
 * by dwords and quadwords; the table's size is read-only; enable and Function Mask stick. MSI-X is
 * off, or masked, while patterns stand in the table. A table that a VMM has placed at the wrong
 * offset, or of which it emulates fewer entries than the capability says, shows here.
 */
TEST(pci, msix_registers,
     "MSI-X table and PBA lie inside their BAR, entries masked after reset, fields stick", NEED_PCI)
{
	struct keep *k = keep_start(t);
	static struct msix m;            /* the cleanup may come after a fault */
	static struct table tb;
	unsigned seen = 0;

	tb = (struct table){.m = &m, .saved = test_alloc(t, 2048 * MSIX_ENTRY_SIZE)};
	test_cleanup(t, table_restore, &tb);
	FOR_EACH_PCI(d) {
		int r;

		if (!d->cap_msix)
			continue;
		seen++;
		keep_command(k, d);
		r = msix_open(d, &m);
		if (check_layout(t, d, m.count) && asleep(d))
			test_note(t, PRIRID " is not in D0: its table was not looked at", RIDARG(d->rid));
		else if (r < 0)
			test_note(t, PRIRID ": the BAR of its table has no address: not looked at",
				  RIDARG(d->rid));
		check_control(t, k, &m);
		if (r == 0 && !asleep(d))
			check_table(t, k, &m, &tb);
		msix_close(&m);
		keep_restore(k);
	}
	if (!seen)
		test_skip(t, "no function with MSI-X");
	test_note(t, "%u functions", seen);
}
