/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "tests/apic/delivery.h"

#define ROUNDS 8 /* NMIs a state and target, one at a time */
#define NOBODY UINT32_MAX
#define PATIENCE      SEC(2)  /* one of hundreds of vCPUs on two busy cores, for the first that is missing */
#define PATIENCE_LEFT MS(100) /* and for each after it */

/* What a CPU is at when the NMI comes. */
enum state { IF_OFF, HALTED, STI_SHADOW, STATES };
static const char *const state_name[STATES] = {"with interrupts off", "in HLT", "between STI and CLI"};

static struct nmi_run {
	struct t *t;
	uint32_t *count, *due;  /* a CPU */
	uint64_t patience;
	volatile uint32_t hold; /* the CPU whose next NMI stays in its handler until … */
	volatile bool inside, release;
	volatile bool stop;
	volatile uint32_t turns; /* of the loop that a target is in */
	enum state state;
} run;

static void on_nmi(struct trap_frame *f)
{
	const unsigned me = this_cpu()->index;

	(void)f;
	__atomic_add_fetch(&run.count[me], 1, __ATOMIC_SEQ_CST);
	if (run.hold != me)
		return;
	run.hold = NOBODY;
	run.inside = true;
	(void)WAIT_FOR(run.release, SEC(2));
}

static uint32_t came(unsigned cpu)
{
	return __atomic_load_n(&run.count[cpu], __ATOMIC_SEQ_CST);
}

static void close_run(void *arg)
{
	(void)arg;
	run.release = run.stop = true;
	delay(MS(1)); /* one on its way would be a trap that nobody expects */
	nmi_set_handler(NULL);
}

/* All CPUs: what was due, and nothing more. */
static void check(const char *step, unsigned cpu, const char *how)
{
	for (unsigned i = 0; i < cpu_count(); i++) {
		const bool all = WAIT_FOR(came(i) >= run.due[i], run.patience);
		const uint32_t got = came(i), want = run.due[i];

		run.due[i] = got;
		if (!all)
			run.patience = PATIENCE_LEFT;
		EXPECT_MSG(run.t, all && got == want,
			   "%s CPU %u %s: %s: CPU %u: got %u NMIs in all, expected %u", step, cpu, how,
			   got < want ? "missing"
			   : i == cpu ? "too often"
				      : "stray",
			   i, got, want);
	}
}

static void be_target(void *arg)
{
	(void)arg;
	irq_disable();
	while (!run.stop) {
		switch (run.state) {
		case HALTED:
			cpu_idle(); /* STI; HLT: an NMI ends it */
			irq_disable();
			break;
		case STI_SHADOW:
			__asm__ volatile("sti; nop; cli; sti; nop; cli" : : : "memory");
			break;
		default:
			cpu_relax();
		}
		run.turns++;
	}
	irq_enable();
}

static void send_nmi(uint32_t dest, enum irq_dest_mode mode)
{
	ipi_send(&(struct irq_route){.dest = dest, .mode = mode, .delivery = IRQ_NMI}, IPI_DEST);
}

static void send_to(unsigned cpu, bool logical)
{
	logical &= apic_logical_id(cpu) != 0;
	run.due[cpu]++;
	send_nmi(logical ? apic_logical_id(cpu) : cpus[cpu]->apic_id, logical ? IRQ_LOGICAL : IRQ_PHYSICAL);
	check("to", cpu, state_name[run.state]);
}

/* Not before it is there: on its way it may be anywhere. */
static void enter(unsigned cpu, enum state state)
{
	run.state = state;
	run.stop = false;
	run.turns = 0;
	REQUIRE_OK(run.t, cpu_start(cpu, be_target, NULL));
	if (state != HALTED && !WAIT_FOR(run.turns, SEC(4)))
		test_timeout(run.t, "CPU %u takes no call", cpu);
}

/* CPU 0 to another, one at a time, in each state; a halted CPU must also go on. */
static void try_state(unsigned cpu, enum state state)
{
	enter(cpu, state);
	for (unsigned i = 0; i < ROUNDS; i++) {
		const uint32_t turns = run.turns;
		bool goes_on = false;

		/* One that comes just before the HLT leaves the CPU to sleep: the next wakes it. */
		for (unsigned tries = 0; tries < 5 && !goes_on; tries++) {
			if (state == HALTED)
				delay(US(50)); /* it is back in HLT, as a rule */
			send_to(cpu, i & 1);
			goes_on = WAIT_FOR(run.turns != turns, MS(100));
		}
		EXPECT_MSG(run.t, goes_on, "CPU %u %s: does not go on after the NMI", cpu, state_name[state]);
	}
	run.stop = true;
	ipi_vector(cpu, VEC_IPI_CALL); /* out of HLT */
	REQUIRE_OK(run.t, cpu_wait(cpu, SEC(2)));
}

/* While one is in its handler the next waits, and only one of those is kept. SDM vol. 3, 7.7.1. */
static void try_held(unsigned cpu)
{
	run.inside = run.release = false;
	enter(cpu, IF_OFF);
	run.hold = cpu;
	run.due[cpu]++;
	send_nmi(cpus[cpu]->apic_id, IRQ_PHYSICAL);
	if (EXPECT_MSG(run.t, WAIT_FOR(run.inside, run.patience),
		       "CPU %u: the NMI that is to be held did not come", cpu)) {
		for (unsigned i = 0; i < 3; i++)
			send_nmi(cpus[cpu]->apic_id, IRQ_PHYSICAL);
		delivery_window();
		check("during the handler on", cpu, "three more");
		run.due[cpu]++;
		run.release = true;
		check("after the handler on", cpu, "one of three");
	}
	run.hold = NOBODY;
	run.release = run.stop = true;
	REQUIRE_OK(run.t, cpu_wait(cpu, SEC(4)));
}

/* To itself with interrupts off, and then STI with something that follows at once. */
static void to_self(void *arg)
{
	const uint32_t id = cpus[this_cpu()->index]->apic_id;

	(void)arg;
	for (unsigned i = 0; i < 2 * ROUNDS; i++) {
		const uint32_t before = came(this_cpu()->index);

		irq_disable();
		send_nmi(id, IRQ_PHYSICAL);
		__asm__ volatile("sti; nop" : : : "memory");
		(void)WAIT_FOR(came(this_cpu()->index) != before, MS(100));
	}
}

/*
 * An NMI sent as IPI reaches its CPU, whatever that is at; during an NMI one more is kept, and comes after
 * it.
 *
 * SDM vol. 3, 7.7.1 (further NMIs wait for the IRET; of several one is latched), 11.6.1 (delivery mode 100,
 * the vector is ignored); vol. 2, STI (the shadow holds interrupts back, and NMIs on some processors, but
 * loses none). Each CPU from CPU 0: with interrupts off, in HLT, which it must leave, and between STI and
 * CLI; by physical and logical destination, and by shorthand; each to itself. A VMM that only sets a flag for
 * a vCPU that runs, or forgets to wake one that sleeps, loses some; one that does not block them comes into
 * its own handler.
 */
TEST(apic, nmi, "an NMI IPI reaches its CPU; held while in NMI, one kept; not lost in an STI shadow",
     NEED_NONE)
{
	const unsigned n = cpu_count(), step = n > 32 ? n / 16 : 1;

	run = (struct nmi_run){.t = t, .hold = NOBODY, .patience = PATIENCE};
	run.count = test_alloc(t, n * sizeof(*run.count));
	run.due = test_alloc(t, n * sizeof(*run.due));
	test_cleanup(t, close_run, NULL);
	nmi_set_handler(on_nmi);

	for (unsigned cpu = 0; cpu < n; cpu += step) {
		run.due[cpu] += 2 * ROUNDS;
		REQUIRE_OK(t, cpu_call(cpu, to_self, NULL, SEC(4)));
		check("itself:", cpu, "then STI");
	}
	for (unsigned cpu = 1; cpu < n; cpu += step) {
		for (enum state s = 0; s < STATES; s++)
			try_state(cpu, s);
		try_held(cpu);
	}
	if (n > 1) {
		for (unsigned i = 1; i < n; i++)
			run.due[i]++;
		ipi_send(&(struct irq_route){.delivery = IRQ_NMI}, IPI_OTHERS);
		check("from", 0, "to all but itself");
	}
	delivery_fence(t);
	check("at the end of", 0, "all");
}
