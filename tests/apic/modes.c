/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/mm/mm.h"
#include "tests/apic/delivery.h"

/* IA32_APIC_BASE: SDM vol. 3, 11.4.4 and 11.12.1. The two bits make four states, one of them invalid. */
enum state { OFF, XAPIC, X2APIC, INVALID, STATES };
static const uint64_t state_bits[STATES] = {
	[OFF] = 0,
	[XAPIC] = APIC_BASE_EN,
	[X2APIC] = APIC_BASE_EN | APIC_BASE_EXTD,
	[INVALID] = APIC_BASE_EXTD,
};
static const char *const state_name[STATES] = {"off", "xAPIC", "x2APIC", "EXTD without EN"};
#define STATE_MASK (APIC_BASE_EN | APIC_BASE_EXTD)

/* SDM vol. 3, figure 11-27. EXTD is reserved where there is no x2APIC. */
static bool is_legal(enum state from, enum state to)
{
	if (to == INVALID || (to == X2APIC && !cpu_features.x2apic))
		return false;
	return !(from == X2APIC && to == XAPIC) && !(from == OFF && to == X2APIC);
}

/* By legal steps only. */
static bool go_to(uint64_t rest, enum state s)
{
	bool good = wrmsr_safe(MSR_APIC_BASE, rest) == 0;

	if (s != OFF)
		good &= wrmsr_safe(MSR_APIC_BASE, rest | state_bits[XAPIC]) == 0;
	if (s == X2APIC)
		good &= wrmsr_safe(MSR_APIC_BASE, rest | state_bits[X2APIC]) == 0;
	return good && (rdmsr(MSR_APIC_BASE) & STATE_MASK) == state_bits[s];
}

/* An AP where there is one: a boot CPU that is left without its APIC ends the suite. */
static unsigned victim(void)
{
	return cpu_count() > 1 ? 1 : 0;
}

struct change { bool reached, faulted, cpuid_apic; uint64_t after; };
struct transitions {
	struct change change[STATES][STATES];
	uint64_t reserved_taken; /* reserved bits that could be set without #GP */
	uint32_t id_after;
};

/* Bits 7:0, 9 and those above the physical address width (11.4.4). Bit 8 is BSP. */
static bool is_reserved(unsigned bit)
{
	return bit < 8 || bit == 9 || bit >= cpu_features.phys_bits;
}

static void make_transitions(void *arg)
{
	struct transitions *r = arg;
	uint64_t base, rest;

	irq_disable();
	base = rdmsr(MSR_APIC_BASE);
	rest = base & ~STATE_MASK;
	for (enum state from = OFF; from < INVALID; from++) {
		if (from == X2APIC && !cpu_features.x2apic)
			continue;
		for (enum state to = OFF; to < STATES; to++) {
			struct change *c = &r->change[from][to];

			c->reached = go_to(rest, from);
			c->faulted = wrmsr_safe(MSR_APIC_BASE, rest | state_bits[to]) != 0;
			c->after = rdmsr(MSR_APIC_BASE);
			c->cpuid_apic = cpuid(1, 0).edx & BIT(9);
		}
	}
	go_to(rest, XAPIC);
	apic_init_ap();
	for (unsigned bit = 0; bit < 64; bit++)
		if (is_reserved(bit) && wrmsr_safe(MSR_APIC_BASE, base | BIT64(bit)) == 0)
			r->reserved_taken |= BIT64(bit);
	wrmsr_safe(MSR_APIC_BASE, base);
	r->id_after = apic_id();
	irq_enable();
}

static void on_cpu(struct t *t, struct delivery *d, unsigned cpu)
{
	struct transitions *r = test_alloc(t, sizeof(*r));

	REQUIRE_OK(t, cpu_call(cpu, make_transitions, r, CALL_LIMIT));
	for (enum state from = OFF; from < INVALID; from++)
		for (enum state to = OFF; to < STATES; to++) {
			const struct change *c = &r->change[from][to];
			const enum state want = is_legal(from, to) ? to : from;

			if (from == X2APIC && !cpu_features.x2apic)
				continue;
			if (!EXPECT_MSG(t, c->reached, "CPU %u: %s cannot be reached by legal steps", cpu, state_name[from]))
				continue;
			EXPECT_MSG(t, c->faulted == !is_legal(from, to), "CPU %u, %s to %s: got %s, expected %s", cpu,
				   state_name[from], state_name[to], c->faulted ? "#GP" : "no fault",
				   is_legal(from, to) ? "no fault" : "#GP");
			EXPECT_MSG(t, (c->after & STATE_MASK) == state_bits[want],
				   "CPU %u, %s to %s: APIC_BASE: got 0x%llx, expected bits 11:10 to say %s", cpu,
				   state_name[from], state_name[to], (unsigned long long)c->after,
				   state_name[want]);
			EXPECT_MSG(t, c->cpuid_apic == (want != OFF),
				   "CPU %u, %s to %s: CPUID 1 EDX[9]: got %u, expected %u", cpu, state_name[from],
				   state_name[to], c->cpuid_apic, want != OFF);
		}
	EXPECT_MSG(t, !r->reserved_taken, "CPU %u: APIC_BASE took reserved bits 0x%llx: got no fault, expected #GP", cpu,
		   (unsigned long long)r->reserved_taken);
	EXPECT_EQ(t, r->id_after, cpus[cpu]->apic_id);

	delivery_due(d, cpu, 0, 1);
	ipi_vector(cpu, (uint8_t)d->vector[0]);
	delivery_check(d, "CPU 0 to CPU %u, after the changes", cpu);
}

/*
 * Of the changes between off, xAPIC and x2APIC mode the legal ones work, and the illegal ones are #GP
 * and change nothing.
 *
 * SDM vol. 3, 11.12.1 and figure 11-27: from x2APIC mode the way back leads through off; from off
 * there is none to x2APIC; EXTD without EN is invalid; reserved bits are #GP (11.4.4). While off,
 * CPUID 1 EDX[9] is 0 (11.4.3). Afterwards the CPU has its ID and takes interrupts again: a VMM that
 * loses the APIC's place in its routing on the way passes everything but that. On every AP (of many on 16).
 */
TEST(apic, transitions,
     "every legal change of the APIC_BASE mode works, every illegal one is #GP; reserved bits #GP", NEED_NONE)
{
	struct delivery *d = delivery_open(t, 1);
	const unsigned step = d->cpus > 16 ? d->cpus / 16 : 1;

	for (unsigned cpu = victim(); cpu < d->cpus; cpu += step)
		on_cpu(t, d, cpu);
	delivery_finish(d, "after all CPUs");
}

struct mmio_probe { bool answers, takes_writes; };
struct mmio_off {
	volatile uint8_t *page;
	uint32_t version;        /* as the APIC itself says */
	bool was_x2apic;
	struct mmio_probe x2apic, off, xapic;
};

/* Does the register page do what an xAPIC does: tell its version, and keep a task priority? */
static void probe_page(const struct mmio_off *r, struct mmio_probe *p)
{
	volatile uint8_t *tpr = r->page + APIC_TPR * 16;
	uint32_t before = 0, v = 0;

	p->answers = read32_safe(r->page + APIC_VERSION * 16, &v) == 0 && v == r->version;
	read32_safe(tpr, &before);
	write32_safe(tpr, 0x20);
	p->takes_writes = read32_safe(tpr, &v) == 0 && v == 0x20;
	write32_safe(tpr, before);
}

static void probe_modes(void *arg)
{
	struct mmio_off *r = arg;
	uint64_t base, rest;

	irq_disable();
	base = rdmsr(MSR_APIC_BASE);
	rest = base & ~STATE_MASK;
	r->version = apic_read(APIC_VERSION);
	r->was_x2apic = base & APIC_BASE_EXTD;
	if (r->was_x2apic) {
		probe_page(r, &r->x2apic);
		/* A write that went through would be seen by MSR, even if reads are dead. */
		write32_safe(r->page + APIC_TPR * 16, 0x30);
		r->x2apic.takes_writes |= rdmsr(MSR_X2APIC(APIC_TPR)) == 0x30;
		wrmsr(MSR_X2APIC(APIC_TPR), 0);
	}
	go_to(rest, OFF);
	probe_page(r, &r->off);
	go_to(rest, XAPIC);
	probe_page(r, &r->xapic);
	apic_init_ap();
	irq_enable();
}

/*
 * The register page answers in xAPIC mode, and in no other.
 *
 * SDM vol. 3, 11.12.2: in x2APIC mode the memory-mapped interface is not available, and accesses
 * behave as with the APIC globally disabled (11.4.3): they are not the APIC's. Where the page goes on
 * working, software that was meant to be cut off from it still sends interrupts.
 */
TEST(apic, mmio_off, "the MMIO page is dead in x2APIC mode and when disabled, alive in xAPIC mode", NEED_NONE)
{
	struct mmio_off *r = test_alloc(t, sizeof(*r));
	const unsigned cpu = victim();

	r->page = mmio_map(gpa(rdmsr(MSR_APIC_BASE) & GENMASK64(51, 12)), PAGE_SIZE);
	if (!r->page)
		test_error(t, "no room to map the APIC page");
	REQUIRE_OK(t, cpu_call(cpu, probe_modes, r, CALL_LIMIT));
	EXPECT_MSG(t, r->xapic.answers, "xAPIC mode: the version by MMIO is not 0x%x", r->version);
	EXPECT_MSG(t, r->xapic.takes_writes, "xAPIC mode: TPR by MMIO does not take a write");
	if (r->was_x2apic) {
		EXPECT_MSG(t, !r->x2apic.answers, "x2APIC mode: got the version 0x%x by MMIO, expected nothing",
			   r->version);
		EXPECT_MSG(t, !r->x2apic.takes_writes,
			   "x2APIC mode: got a TPR write by MMIO taken, expected not");
	}
	EXPECT_MSG(t, !r->off.answers, "APIC off: got the version 0x%x by MMIO, expected nothing", r->version);
	EXPECT_MSG(t, !r->off.takes_writes, "APIC off: got a TPR write by MMIO taken, expected not");
}
