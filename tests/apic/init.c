/* SPDX-License-Identifier: MIT */

#include "drivers/apic/apic.h"
#include "kernel/lib/sabotage.h"
#include "tests/apic/delivery.h"

#define VICTIMS_MAX 16
#define PATIENCE SEC(2)

enum { WHILE_DEAD, AFTER, VECTORS };

static void put_page(void *arg)
{
	(void)arg;
	smp_page_put();
}

/* A call that never ends by itself; INIT ends it. */
static void stay(void *arg)
{
	volatile bool *there = arg;

	*there = true;
	(void)WAIT_FOR(false, SEC(8));
}

struct after {
	uint32_t id, ldr;
};

static void look(void *arg)
{
	struct after *a = arg;

	a->id = apic_id();
	a->ldr = apic_ldr();
}

static void ipi_to(struct delivery *d, unsigned cpu, unsigned v, enum irq_dest_mode mode)
{
	ipi_send(&(struct irq_route){.dest = mode == IRQ_LOGICAL ? apic_logical_id(cpu) : cpus[cpu]->apic_id,
				     .mode = mode,
				     .vector = (uint8_t)d->vector[v]},
		 IPI_DEST);
}

/* busy: in a call, with interrupts on; otherwise in HLT. */
static bool start_again(struct delivery *d, unsigned cpu, uint8_t page, bool busy)
{
	const uint32_t id = cpus[cpu]->apic_id;
	const unsigned strangers = smp_strangers();
	const char *from = busy ? "running" : "in HLT";
	static volatile bool there;
	struct after *a = test_alloc(d->t, sizeof(*a));
	uint64_t began;

	there = false;
	if (busy) {
		REQUIRE_OK(d->t, cpu_start(cpu, stay, (void *)(uintptr_t)&there));
		if (!WAIT_FOR(there, SEC(1)))
			test_timeout(d->t, "CPU %u takes no call", cpu);
	}
	/* SIPI to one that does not wait for it does nothing. SDM vol. 3, 9.4.2. */
	ipi_startup(id, page);
	delivery_due(d, cpu, AFTER, 1); /* once it has taken this, it had its occasion to take SIPI */
	ipi_to(d, cpu, AFTER, IRQ_PHYSICAL);
	delivery_check(d, "CPU %u %s, after SIPI", cpu, from);
	EXPECT_MSG(d->t, smp_strangers() == strangers && cpu_has_started(cpu),
		   "CPU %u %s: SIPI without INIT started it, expected nothing", cpu, from);

	if (!SABOTAGE(init_not_sent))
		ipi_init(id);
	delay(cpu_features.accel == ACCEL_BARE ? MS(10) : US(500));
	cpu_expect_start(cpu);
	/*
	 * Waiting for SIPI it takes nothing else, and INIT has cleared the APIC's enable bit. TCG has no such
	 * state: an NMI makes it run from the reset vector, which resets the machine, and an interrupt may be
	 * kept for later.
	 */
	if (cpu_features.accel != ACCEL_TCG) {
		ipi_to(d, cpu, WHILE_DEAD, IRQ_PHYSICAL);
		ipi_send(&(struct irq_route){.dest = id, .delivery = IRQ_NMI}, IPI_DEST);
	}
	delivery_window();
	EXPECT_MSG(d->t, !cpu_has_started(cpu), "CPU %u %s: runs after INIT, before SIPI", cpu, from);

	began = tsc_read();
	ipi_startup(id, page);
	if (!WAIT_FOR(cpu_has_started(cpu), MS(200)))
		ipi_startup(id, page);
	ASSERT_MSG(d->t, WAIT_FOR(cpu_has_started(cpu), PATIENCE),
		   "CPU %u %s: does not start after INIT and SIPI", cpu, from);
	EXPECT_MSG(d->t, cpus[cpu]->tsc_online > began, "CPU %u %s: its TSC was %llu ticks behind", cpu, from,
		   (unsigned long long)(began - cpus[cpu]->tsc_online));
	REQUIRE_OK(d->t, cpu_call(cpu, look, a, CALL_LIMIT));
	EXPECT_MSG(d->t, a->id == id && a->ldr == apic_logical_id(cpu),
		   "CPU %u %s: after the start its IDs are 0x%x 0x%x, expected 0x%x 0x%x", cpu, from, a->id,
		   a->ldr, id, apic_logical_id(cpu));
	for (enum irq_dest_mode mode = IRQ_PHYSICAL; mode <= IRQ_LOGICAL; mode++) {
		if (mode == IRQ_LOGICAL && !apic_logical_id(cpu))
			continue;
		delivery_due(d, cpu, AFTER, 1);
		ipi_to(d, cpu, AFTER, mode);
		delivery_check(d, "CPU %u %s, started again, %s IPI", cpu, from,
			       mode == IRQ_LOGICAL ? "logical" : "physical");
	}
	return !test_has_failed(d->t);
}

/*
 * INIT stops a CPU whatever it is at, SIPI starts it again at the page that it names, and it is as before.
 *
 * SDM vol. 3, 9.4.2 and 11.4.7.3: after INIT a CPU waits for SIPI, its APIC is disabled but has its mode and
 * ID; it takes neither interrupts nor NMIs. SIPI means nothing to one that runs. Each AP (at most 16) in HLT
 * and in a call. Afterwards it has its IDs and takes IPIs by both destinations. Kernels do this at each CPU
 * hot-plug, kexec and resume; a VMM that resets too little, or keeps the pending interrupts, shows here.
 */
TEST(apic, init_sipi, "a CPU can be sent INIT and started again", NEED_DISRUPTIVE, NEED_SMP)
{
	struct delivery *d = delivery_open(t, VECTORS);
	const unsigned step = (d->cpus + VICTIMS_MAX - 1) / VICTIMS_MAX;
	uint8_t page;

	REQUIRE_OK(t, smp_page_get(&page));
	test_cleanup(t, put_page, NULL);
	for (unsigned cpu = 1; cpu < d->cpus; cpu += step)
		for (unsigned busy = 0; busy < 2; busy++)
			if (!start_again(d, cpu, page, busy))
				test_stop(t);
	delivery_finish(d, "after all CPUs");
}
