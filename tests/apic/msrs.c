/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"

#define MSR_FIRST 0x800u
#define MSR_COUNT 0x100u

/* SDM vol. 3, table 11-6: what each register of x2APIC mode allows. All others are reserved. */
enum access { RESERVED = 0, READ = 1, WRITE = 2, OPTIONAL = 4 };
static uint8_t access_of(unsigned reg)
{
	switch (reg) {
	case APIC_ID:
	case APIC_VERSION:
	case APIC_PPR:
	case APIC_LDR:
	case APIC_TIMER_CUR:
		return READ;
	case APIC_EOI:
	case APIC_SELF_IPI:
		return WRITE;
	case APIC_LVT_CMCI:
		return READ | WRITE | OPTIONAL;
	case APIC_TPR:
	case APIC_SVR:
	case APIC_ESR:
	case APIC_ICR:
	case APIC_TIMER_INIT:
	case APIC_TIMER_DIV:
		return READ | WRITE;
	default:
		if (reg >= APIC_ISR0 && reg < APIC_ESR)
			return READ; /* ISR, TMR, IRR: eight words each */
		if (reg >= APIC_LVT_TIMER && reg <= APIC_LVT_ERROR)
			return READ | WRITE;
		return RESERVED;
	}
}

/* Bits that must be 0 in a write: 11.12.1.3 and the registers' own layouts. */
static const struct reserved_bits {
	enum apic_reg reg;
	uint64_t bits;
	const char *name;
} reserved_bits[] = {
	{APIC_TPR, GENMASK64(63, 8), "TPR"},
	{APIC_EOI, GENMASK64(63, 0), "EOI"},
	{APIC_SVR, GENMASK64(63, 13) | GENMASK64(11, 10), "SVR"},
	{APIC_ESR, GENMASK64(63, 0), "ESR"},
	{APIC_LVT_TIMER, GENMASK64(63, 19) | GENMASK64(15, 13) | GENMASK64(11, 8), "LVT timer"},
	{APIC_LVT_LINT0, GENMASK64(63, 17) | BIT64(11), "LVT LINT0"},
	{APIC_LVT_ERROR, GENMASK64(63, 17) | GENMASK64(15, 13) | GENMASK64(11, 8), "LVT error"},
	{APIC_TIMER_INIT, GENMASK64(63, 32), "initial count"},
	{APIC_TIMER_DIV, GENMASK64(63, 4) | BIT64(2), "divide configuration"},
	{APIC_SELF_IPI, GENMASK64(63, 8), "self IPI"},
};

struct msr_map {
	bool read[MSR_COUNT], write[MSR_COUNT];
	bool read_off[MSR_COUNT], wrote_off; /* outside x2APIC mode */
	uint64_t taken[ARRAY_SIZE(reserved_bits)];
	uint8_t vector;
};

static void go(uint64_t mode)
{
	const uint64_t rest = rdmsr(MSR_APIC_BASE) & ~(APIC_BASE_EN | APIC_BASE_EXTD);

	wrmsr(MSR_APIC_BASE, rest);
	wrmsr(MSR_APIC_BASE, rest | mode);
}

static void try_map(void *arg)
{
	struct msr_map *m = arg;

	irq_disable();
	for (unsigned reg = 0; reg < MSR_COUNT; reg++) {
		const uint8_t access = access_of(reg);
		uint64_t v = 0;

		m->read[reg] = rdmsr_safe(MSR_FIRST + reg, &v) == 0;
		if (reg == APIC_ICR)
			m->write[reg] = true; /* apic.icr */
		else if (reg == APIC_SELF_IPI)
			m->write[reg] = wrmsr_safe(MSR_FIRST + reg, m->vector) == 0;
		else if (reg == APIC_ESR || !(access & READ))
			m->write[reg] = wrmsr_safe(MSR_FIRST + reg, 0) == 0;
		else
			m->write[reg] = wrmsr_safe(MSR_FIRST + reg, v) == 0; /* what it holds */
	}
	for (size_t i = 0; i < ARRAY_SIZE(reserved_bits); i++) {
		const struct reserved_bits *r = &reserved_bits[i];
		uint64_t v = 0;

		if (access_of(r->reg) & READ && r->reg != APIC_ESR)
			v = rdmsr(MSR_FIRST + (uint32_t)r->reg);
		if (r->reg == APIC_SELF_IPI)
			v = m->vector;
		for (unsigned bit = 0; bit < 64; bit++)
			if (r->bits & BIT64(bit) &&
			    wrmsr_safe(MSR_FIRST + (uint32_t)r->reg, v | BIT64(bit)) == 0) {
				m->taken[i] |= BIT64(bit);
				wrmsr_safe(MSR_FIRST + (uint32_t)r->reg, v);
			}
	}
	go(APIC_BASE_EN);
	for (unsigned reg = 0; reg < MSR_COUNT; reg++) {
		uint64_t v;

		m->read_off[reg] = rdmsr_safe(MSR_FIRST + reg, &v) == 0;
	}
	/* Of those that are written, two that would do no harm. */
	m->wrote_off = wrmsr_safe(MSR_X2APIC(APIC_TPR), 0) == 0 || wrmsr_safe(MSR_X2APIC(APIC_ESR), 0) == 0;
	apic_init_ap();
	irq_enable();
}

/* Runs of registers that are wrong in the same way, in one line: "0x804-0x807 0x809". */
static void expect_none(struct t *t, const bool *bad, const char *what)
{
	unsigned n = 0, first = 0, last = 0;

	for (unsigned reg = 0; reg < MSR_COUNT; reg++)
		if (bad[reg]) {
			first = n++ ? first : reg;
			last = reg;
		}
	EXPECT_MSG(t, !n, "%s: got %u registers, the first 0x%x, the last 0x%x", what, n, MSR_FIRST + first,
		   MSR_FIRST + last);
}

/*
 * MSRs 0x800 to 0x8ff are the x2APIC's registers, each with its own rights, and only in x2APIC mode.
 *
 * SDM vol. 3, 11.12.1.2 and table 11-6: reading a write-only one, writing a read-only one, any access to
 * a reserved one or a write with reserved bits set is #GP; outside x2APIC mode all of them are. A guest that
 * is let through reads or writes what another CPU would fault on.
 */
TEST(apic, msr_map, "MSRs 0x800-0x8ff: read-only, write-only, reserved and reserved bits, in and out of x2APIC",
     NEED_X2APIC)
{
	struct msr_map *m = test_alloc(t, sizeof(*m));
	struct delivery *d = delivery_open(t, 1);
	const unsigned cpu = d->cpus > 1;
	bool *bad = test_alloc(t, MSR_COUNT);

	/* Both the legal write and those that should be #GP send it. They merge: interrupts are off. */
	m->vector = (uint8_t)d->vector[0];
	REQUIRE_OK(t, cpu_call(cpu, try_map, m, CALL_LIMIT));
#define EACH(what, condition)                                                                      \
	do {                                                                                       \
		for (unsigned reg = 0; reg < MSR_COUNT; reg++) {                                   \
			const uint8_t access = access_of(reg);                                     \
			bad[reg] = !(access & OPTIONAL) && (condition);                            \
		}                                                                                  \
		expect_none(t, bad, what);                                                         \
	} while (0)
	EACH("readable, but RDMSR is #GP", (access & READ) && !m->read[reg]);
	EACH("writable, but WRMSR is #GP", (access & WRITE) && !m->write[reg]);
	EACH("write-only, but RDMSR works", access == WRITE && m->read[reg]);
	EACH("read-only, but WRMSR works", access == READ && m->write[reg]);
	EACH("reserved, but RDMSR works", access == RESERVED && m->read[reg]);
	EACH("reserved, but WRMSR works", access == RESERVED && m->write[reg]);
	EACH("outside x2APIC mode, but RDMSR works", m->read_off[reg]);
#undef EACH
	EXPECT_MSG(t, !m->wrote_off, "outside x2APIC mode, but WRMSR of TPR or ESR works");
	for (size_t i = 0; i < ARRAY_SIZE(reserved_bits); i++)
		EXPECT_MSG(t, !m->taken[i],
			   "%s (0x%x): WRMSR with reserved bits: got 0x%llx taken, expected #GP",
			   reserved_bits[i].name, MSR_FIRST + (uint32_t)reserved_bits[i].reg,
			   (unsigned long long)m->taken[i]);
	/* The legal self-IPI was lost or delivered with the mode changes: not judged here. */
	delivery_fence(t);
	delivery_due(d, cpu, 0, delivery_count(d, cpu, 0));
	delivery_due(d, cpu, 0, 1);
	ipi_vector(cpu, (uint8_t)d->vector[0]);
	delivery_finish(d, "CPU %u, after all accesses", cpu);
}

/* ---- ICR ---- */
#define ICR_RESERVED (GENMASK64(31, 20) | GENMASK64(17, 16) | BIT64(13))
#define ICR_BUSY     BIT64(12)

struct icr_probe {
	uint32_t target;
	uint8_t vector;
	uint64_t written, read_back, taken;
	bool high_half, busy;
};

static void probe_icr(void *arg)
{
	struct icr_probe *p = arg;

	p->written = (uint64_t)p->target << 32 | BIT(14) | p->vector;
	wrmsr(MSR_X2APIC(APIC_ICR), p->written);
	p->read_back = rdmsr(MSR_X2APIC(APIC_ICR));
	for (unsigned bit = 0; bit < 32; bit++)
		if (ICR_RESERVED & BIT64(bit) && wrmsr_safe(MSR_X2APIC(APIC_ICR), p->written | BIT64(bit)) == 0)
			p->taken |= BIT64(bit);
	p->busy = rdmsr(MSR_X2APIC(APIC_ICR)) & ICR_BUSY;
	p->high_half = wrmsr_safe(MSR_X2APIC(APIC_ICR_HI), (uint64_t)p->target) == 0;
}

/*
 * In x2APIC mode the ICR is one 64-bit register: one write sends, and a bad one sends nothing.
 *
 * SDM vol. 3, 11.12.9 and figure 11-28. What was written can be read, with bit 12, the delivery status, 0;
 * reserved bits 13, 17:16 and 31:20 are #GP; there is no 0x831. Each CPU sends a good one to the next: it
 * arrives once, so those that were #GP were not sent as well. Bit 12 itself may be #GP or be ignored
 * (AMD's CPUs do the one, Intel's the other); only that it never reads as 1 is judged.
 */
TEST(apic, icr, "64-bit write semantics, reserved bits #GP, delivery status absent", NEED_X2APIC)
{
	struct delivery *d = delivery_open(t, 1);
	const unsigned step = d->cpus > 16 ? d->cpus / 16 : 1;

	for (unsigned cpu = 0; cpu < d->cpus; cpu += step) {
		const unsigned target = (cpu + 1) % d->cpus;
		struct icr_probe p = {.target = cpus[target]->apic_id, .vector = (uint8_t)d->vector[0]};

		delivery_due(d, target, 0, 1);
		REQUIRE_OK(t, cpu_call(cpu, probe_icr, &p, CALL_LIMIT));
		EXPECT_MSG(t, p.read_back == p.written, "CPU %u: ICR: got 0x%llx, expected 0x%llx as written",
			   cpu, (unsigned long long)p.read_back, (unsigned long long)p.written);
		EXPECT_MSG(t, !p.taken,
			   "CPU %u: WRMSR 0x830 with reserved bits: got 0x%llx taken, expected #GP", cpu,
			   (unsigned long long)p.taken);
		EXPECT_MSG(t, !p.busy, "CPU %u: ICR bit 12, delivery status: got 1, expected 0", cpu);
		EXPECT_MSG(t, !p.high_half, "CPU %u: WRMSR 0x831: got no fault, expected #GP", cpu);
		delivery_check(d, "CPU %u to CPU %u, one good write and the bad ones", cpu, target);
	}
	delivery_finish(d, "at the end");
}
