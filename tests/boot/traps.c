/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "kernel/mm/mm.h"
#include "tests/apic/delivery.h"

/* SDM vol. 3, 4.7: page-fault error code. */
#define PF_P     1u
#define PF_W     2u
#define PF_FETCH 16u

#define UNMAPPED      0x10ull               /* in page 0 */
#define NON_CANONICAL 0x8000000000000010ull
#define BAD_SELECTOR  0x7ff0u               /* beyond the limit of any GDT of ours */

static void raise_de(void *arg)
{
	uint32_t lo = 1, hi = 0;

	(void)arg;
	__asm__ volatile("divl %2" : "+a"(lo), "+d"(hi) : "r"(0) : "cc");
}
static void raise_bp(void *arg)
{
	(void)arg;
	__asm__ volatile("int3");
}
static void raise_ud(void *arg)
{
	(void)arg;
	__asm__ volatile("ud2");
}
/* LOCK MOV: SDM vol. 2, LOCK. The assembler would refuse it. */
static void raise_ud_lock(void *arg)
{
	(void)arg;
	__asm__ volatile(".byte 0xf0, 0x8b, 0x04, 0x24" : : : "eax");
}
static void raise_gp(void *arg)
{
	uint32_t v;

	__asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(arg));
}
static void raise_gp_selector(void *arg)
{
	(void)arg;
	__asm__ volatile("mov %0, %%fs" : : "r"(BAD_SELECTOR));
}
static void raise_pf_read(void *arg)
{
	raise_gp(arg);
}
static void raise_pf_write(void *arg)
{
	__asm__ volatile("movl $0, (%0)" : : "r"(arg) : "memory");
}
static void raise_pf_fetch(void *arg)
{
	((void (*)(void))(uintptr_t)arg)();
}

static const uint32_t constant = 1;

static const struct exception {
	const char *name;
	void (*raise)(void *);
	uint64_t arg; /* also what CR2 must say */
	uint32_t vector;
	uint64_t error;
	/*
	 * KVM's instruction emulator cannot do INT3 in long mode: KVM_EXIT_INTERNAL_ERROR, and the machine
	 * stands still (tests/host/kvm/kvm_facts.c shows it; seen on kvm_pvm with QEMU 10.0 and 11.1).
	 */
	bool native;
} exceptions[] = {
	{"#DE", raise_de, 0, VEC_DE, 0, false},
	{"#BP", raise_bp, 0, VEC_BP, 0, true},
	{"#UD, UD2", raise_ud, 0, VEC_UD, 0, false},
	{"#UD, LOCK MOV", raise_ud_lock, 0, VEC_UD, 0, false},
	{"#GP, non-canonical", raise_gp, NON_CANONICAL, VEC_GP, 0, false},
	{"#GP, selector", raise_gp_selector, 0, VEC_GP, BAD_SELECTOR, false},
	{"#PF, read", raise_pf_read, UNMAPPED, VEC_PF, 0, false},
	{"#PF, write", raise_pf_write, UNMAPPED, VEC_PF, PF_W, false},
	{"#PF, fetch", raise_pf_fetch, UNMAPPED, VEC_PF, PF_FETCH, false},
	{"#PF, write to read-only", raise_pf_write, (uint64_t)(uintptr_t)&constant, VEC_PF, PF_P | PF_W, false},
};

struct caught {
	struct trap_info info[ARRAY_SIZE(exceptions)];
	unsigned times[ARRAY_SIZE(exceptions)];
	bool interrupts_on;
};

static bool emulated;

/* Twice each: the first must leave the CPU fit for the second. */
static void raise_all(void *arg)
{
	struct caught *c = arg;

	for (unsigned k = 0; k < 2 * ARRAY_SIZE(exceptions); k++) {
		const unsigned i = k % ARRAY_SIZE(exceptions);

		if (emulated && exceptions[i].native)
			continue;
		if (trap_expect(exceptions[i].raise, (void *)(uintptr_t)exceptions[i].arg, &c->info[i]) ==
		    -EFAULT)
			c->times[i]++;
	}
	c->interrupts_on = irq_enabled();
}

/*
 * Exceptions arrive as what they are, on every CPU, and the CPU goes on.
 *
 * SDM vol. 3, chapter 6. What the suite says of a fault it did not expect rests on this; and a VMM that
 * emulates instructions injects them itself: vector, error code and CR2 are its work.
 */
TEST(boot, traps, "#DE #BP #UD #GP #PF: right vector, error code and CR2, and gone on from", NEED_NONE)
{
	struct caught *c = test_alloc(t, sizeof(*c) * cpu_count());

	emulated = kvm_emulates();
	if (emulated)
		test_note(t, "#BP is left out: this KVM emulates every instruction and stops the machine at INT3");
	on_every_cpu(t, raise_all, c, sizeof(*c));
	for (unsigned cpu = 0; cpu < cpu_count(); cpu++) {
		for (unsigned i = 0; i < ARRAY_SIZE(exceptions); i++) {
			const struct exception *e = &exceptions[i];
			const struct trap_info *got = &c[cpu].info[i];

			if (emulated && e->native)
				continue;
			if (!EXPECT_MSG(t, c[cpu].times[i] == 2, "CPU %u, %s: got %u, expected 2", cpu, e->name,
					c[cpu].times[i]))
				continue;
			EXPECT_MSG(t, got->vector == e->vector && got->error == e->error,
				   "CPU %u, %s: got exception %u error 0x%llx, expected %u error 0x%llx", cpu,
				   e->name, got->vector, (unsigned long long)got->error, e->vector,
				   (unsigned long long)e->error);
			if (e->vector == VEC_PF)
				EXPECT_MSG(t, got->cr2 == e->arg, "CPU %u, %s: CR2: got %llx, expected %llx",
					   cpu, e->name, (unsigned long long)got->cr2,
					   (unsigned long long)e->arg);
			/* The instruction itself, or the one after it (#BP); a fetch that faults is there
			 * already. */
			const uint64_t at = e->raise == raise_pf_fetch ? e->arg : (uint64_t)(uintptr_t)e->raise;

			EXPECT_MSG(t, got->rip - at < 64,
				   "CPU %u, %s: RIP: got %llx, expected within 64 bytes of %llx", cpu,
				   e->name, (unsigned long long)got->rip, (unsigned long long)at);
		}
		EXPECT_MSG(t, c[cpu].interrupts_on, "CPU %u: interrupts are off after its exceptions", cpu);
	}
}
