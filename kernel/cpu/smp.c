/* SPDX-License-Identifier: MIT */
#include "kernel/acpi/acpi.h"
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/msr.h"
#include "kernel/cpu/trap.h"
#include "kernel/irq/irq.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/string.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"
#include "kernel/time/time.h"

#define AP_STACK_SIZE 32768
#define LATE_CALL     SEC(5)
#define ALONE         MS(1)    /* for an AP to answer without our help */
#define HAND_OVERS    16u
#define TRIES         4u

struct cpu *cpus[CPU_MAX];
struct smp_report smp_report;
static unsigned online_count = 1;
static const struct smp_ops *apic;

/* What boot/entry.asm looks its CPU up in; one entry a CPU that is to start. */
struct ap_entry { uint32_t apic_id, taken; uint64_t stack_top, cpu; };
_Static_assert(sizeof(struct ap_entry) == 24, "boot/entry.asm goes through the table in steps of this");
struct ap_entry *ap_table;
uint32_t ap_table_count;
uint64_t ap_cr3, ap_efer;                /* the boot CPU's */
extern uint32_t ap_strangers;

extern const uint8_t trampoline_start[], trampoline_end[];
extern const uint8_t trampoline_cr3[], trampoline_entry[], trampoline_base[], trampoline_far[];
extern const uint8_t boot_pml4[], ap_entry64[];

unsigned cpu_count(void) { return online_count; }

struct cpu *cpu_by_apic_id(uint32_t id)
{
	for (unsigned i = 0; i < online_count; i++)
		if (cpus[i]->apic_id == id)
			return cpus[i];
	return NULL;
}

uint32_t cpu_max_apic_id(void)
{
	uint32_t m = 0;

	for (unsigned i = 0; i < online_count; i++)
		m = MAX(m, cpus[i]->apic_id);
	return m;
}

/* ---- an AP's life ---- */
static void ap_loop(struct cpu *c)
{
	for (;;) {
		irq_disable();
		if (__atomic_load_n(&c->call_seq, __ATOMIC_ACQUIRE) == c->done_seq) {
			if (c->want_busy) {
				irq_enable();
				cpu_relax();
			} else {
				cpu_idle();
			}
			continue;
		}
		irq_enable();
		c->call_fn(c->call_arg);
		irq_enable();            /* whatever it left */
		__atomic_store_n(&c->done_seq, c->call_seq, __ATOMIC_RELEASE);
	}
}

void ap_start(struct cpu *c);
void ap_start(struct cpu *c)
{
	paging_enable_cpu();
	cpu_load(c);
	apic->init_ap();
	c->tsc_online = tsc_read();
	__atomic_store_n(&c->online, true, __ATOMIC_RELEASE);
	ap_loop(c);
}

/* ---- starting them ---- */
static struct cpu *ap_prepare(const struct madt_cpu *m, struct ap_entry *e)
{
	struct cpu *c = kzalloc(sizeof(*c));

	if (!c)
		return NULL;
	c->self = c;
	c->apic_id = m->apic_id;
	c->acpi_uid = m->uid;
	c->index = CPU_MAX;              /* not the boot CPU's 0 until it has its own */
	c->irq_counts = kzalloc(256 * sizeof(uint32_t));
	c->irq_tsc = kzalloc(256 * sizeof(uint64_t));
	c->stack_top = stack_alloc(AP_STACK_SIZE);
	if (!c->irq_counts || !c->irq_tsc || !c->stack_top)
		return NULL;
	cpu_alloc_ist(c);
	*e = (struct ap_entry){m->apic_id, 0, (uint64_t)(uintptr_t)c->stack_top, (uint64_t)(uintptr_t)c};
	return c;
}

static void patch(uint8_t *page, const uint8_t *where, uint64_t v, size_t n)
{
	memcpy(page + (where - trampoline_start), &v, n);
}

static gpa_t trampoline;                 /* while it is needed */

static bool trampoline_install(gpa_t *at)
{
	const size_t size = (size_t)(trampoline_end - trampoline_start);
	uint32_t far_base, gdt_base;
	uint8_t *page;

	if (!phys_alloc(1, 1, PHYS_BELOW_1M, at))
		return false;
	page = phys_to_virt(*at);
	memcpy(page, trampoline_start, size);
	memcpy(&gdt_base, trampoline_base, 4);
	memcpy(&far_base, trampoline_far, 4);
	patch(page, trampoline_base, gdt_base + at->v, 4);
	patch(page, trampoline_far, far_base + at->v, 4);
	patch(page, trampoline_cr3, virt_to_phys(boot_pml4).v, 4);
	patch(page, trampoline_entry, (uint64_t)(uintptr_t)ap_entry64, 8);
	return true;
}

static unsigned started(struct cpu *const *all, unsigned n)
{
	unsigned up = 0;

	for (unsigned i = 0; i < n; i++)
		up += __atomic_load_n(&all[i]->online, __ATOMIC_ACQUIRE);
	return up;
}

/*
 * INIT to all, one pause, SIPI to all: SDM vol. 3, 9.4.4 (MP initialisation), with the long pause
 * shared. A second SIPI goes only to those that have not come: to one that runs it would be lost.
 */
static void start_all(struct cpu *const *all, unsigned n, uint8_t page)
{
	for (unsigned i = 0; i < n; i++)
		apic->init_ipi(all[i]->apic_id);
	delay(cpu_features.accel == ACCEL_BARE ? MS(10) : US(200));
	for (unsigned i = 0; i < n; i++)
		apic->startup_ipi(all[i]->apic_id, page);
	if (WAIT_FOR(started(all, n) == n, MS(200) + n * MS(5)))
		return;
	for (unsigned i = 0; i < n; i++)
		if (!__atomic_load_n(&all[i]->online, __ATOMIC_ACQUIRE))
			apic->startup_ipi(all[i]->apic_id, page);
	WAIT_FOR(started(all, n) == n, MS(1000) + n * MS(20));
}

static bool runs_in_turn(void);

void smp_init(const struct smp_ops *ops)
{
	const uint64_t t0 = time_ns();
	static struct cpu *all[CPU_MAX];
	unsigned n = 0;
	gpa_t page;

	apic = ops;
	smp_report = (struct smp_report){.listed = 1, .online = 1};
	cpus[0]->apic_id = apic->id();
	cpu_alloc_ist(cpus[0]);
	idt_use_ist();
	cpus[0]->tsc_online = tsc_read();
	if (!acpi.has_madt)
		return;
	ap_table = kzalloc(acpi.madt.cpu_count * sizeof(*ap_table));
	if (!ap_table)
		panic("no memory for %u CPUs", acpi.madt.cpu_count);
	for (unsigned i = 0; i < acpi.madt.cpu_count; i++) {
		const struct madt_cpu *m = &acpi.madt.cpu[i];
		bool twice = m->apic_id == cpus[0]->apic_id;

		if (twice)
			cpus[0]->acpi_uid = m->uid;
		for (unsigned j = 0; j < n; j++)
			twice |= all[j]->apic_id == m->apic_id;
		if (!m->enabled || twice || !apic->can_reach(m->apic_id))
			continue;
		all[n] = ap_prepare(m, &ap_table[n]);
		if (!all[n])
			panic("no memory for CPU %u of %u", i, acpi.madt.cpu_count);
		n++;
	}
	smp_report.listed += n;
	if (n == 0)
		return;
	ap_cr3 = read_cr3();
	ap_efer = rdmsr(MSR_EFER);
	__atomic_store_n(&ap_table_count, n, __ATOMIC_RELEASE);
	if (!trampoline_install(&page)) {
		smp_report.problem = "no page below 1 MiB for the start-up code";
		return;
	}
	start_all(all, n, (uint8_t)(page.v >> PAGE_SHIFT));
	/* Latecomers would run on memory we have given away: their page stays, they stay uncounted. */
	for (unsigned i = 0; i < n; i++) {
		if (__atomic_load_n(&all[i]->online, __ATOMIC_ACQUIRE)) {
			all[i]->index = online_count;
			cpus[online_count++] = all[i];
		} else {
			if (smp_report.failed < ARRAY_SIZE(smp_report.failed_ids))
				smp_report.failed_ids[smp_report.failed] = all[i]->apic_id;
			smp_report.failed++;
		}
	}
	if (!smp_report.failed)
		phys_free(page, 1);
	smp_report.online = online_count;
	smp_report.strangers = ap_strangers;
	smp_report.ns = time_ns() - t0;
	smp_report.in_turn = cpu_features.accel == ACCEL_TCG && online_count > 1 && runs_in_turn();
	cpu_relax_in_turn(smp_report.in_turn);
}

/* ---- starting one again ---- */
int smp_page_get(uint8_t *page)
{
	if (!trampoline.v && !trampoline_install(&trampoline)) {
		trampoline.v = 0;
		return -ENOMEM;
	}
	*page = (uint8_t)(trampoline.v >> PAGE_SHIFT);
	return 0;
}

void smp_page_put(void)
{
	if (trampoline.v)
		phys_free(trampoline, 1);
	trampoline.v = 0;
}

void cpu_expect_start(unsigned index)
{
	struct cpu *c = cpus[index];

	c->fault = NULL;
	c->expecting = false;
	c->want_busy = false;
	__atomic_store_n(&c->done_seq, c->call_seq, __ATOMIC_RELEASE); /* its call died with it */
	__atomic_store_n(&c->online, false, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < ap_table_count; i++)
		if (ap_table[i].apic_id == c->apic_id)
			__atomic_store_n(&ap_table[i].taken, 0, __ATOMIC_RELEASE);
}

bool cpu_has_started(unsigned index)
{
	return __atomic_load_n(&cpus[index]->online, __ATOMIC_ACQUIRE);
}

unsigned smp_strangers(void) { return __atomic_load_n(&ap_strangers, __ATOMIC_ACQUIRE); }

/* ---- asking a CPU to do something ---- */
int cpu_start(unsigned index, void (*fn)(void *), void *arg)
{
	struct cpu *c;

	if (index == 0 || index >= online_count)
		return -ENODEV;
	c = cpus[index];
	if (c->fault)
		return -EFAULT;
	if (__atomic_load_n(&c->done_seq, __ATOMIC_ACQUIRE) != c->call_seq)
		return -EBUSY;
	c->call_fn = fn;
	c->call_arg = arg;
	__atomic_store_n(&c->call_seq, c->call_seq + 1, __ATOMIC_RELEASE);
	apic->wake(index);
	return 0;
}

static bool is_done(const struct cpu *c)
{
	return __atomic_load_n(&c->done_seq, __ATOMIC_ACQUIRE) == c->call_seq || c->fault;
}

/*
 * Waits for another CPU, which may be measuring. Under TCG it looks at the clock seldom: QEMU's
 * cpu_get_ticks() pushes the TSC forward, by up to 36 % here, while two CPUs read it at once (boot.tsc_shared).
 * Not where one thread runs them all: there every look hands over, and no two read at once.
 */
#define LOOKS 4096u              /* some 50 us */

static bool wait_for(const struct cpu *c, uint64_t ns)
{
	const struct deadline end = deadline_in(ns);
	const unsigned looks = cpu_features.accel == ACCEL_TCG && !smp_report.in_turn ? LOOKS : 1;

	for (unsigned i = 1; !is_done(c); i++) {
		if (i % looks == 0 && deadline_passed(end))
			return is_done(c);
		cpu_relax();
	}
	return true;
}

/*
 * Too late, but what it was given (a caller's frame, often) must stand until it is back: what it writes
 * there afterwards ends in whatever came to stand there. So beyond any budget, for a while.
 */
static void let_finish(const struct cpu *c)
{
	const uint64_t until = tsc_read() + ns_to_tsc(LATE_CALL);

	while (!is_done(c) && tsc_read() < until)
		cpu_relax();
}

int cpu_wait(unsigned index, uint64_t ns)
{
	struct cpu *c;

	if (index == 0 || index >= online_count)
		return -ENODEV;
	c = cpus[index];
	if (wait_for(c, ns))
		return c->fault ? -EFAULT : 0;
	let_finish(c);
	return -ETIMEDOUT;
}

static void nothing(void *arg) { (void)arg; }

/*
 * Does an AP answer only when this CPU hands over? Then QEMU runs all CPUs in one thread (thread=single). An
 * overloaded host looks like that by chance, and a timer of QEMU's hands over too: so TRIES times, and at most
 * once not. To be wrong costs time, no result.
 */
static bool runs_in_turn(void)
{
	unsigned yes = 0;

	for (unsigned no = 0; yes < TRIES && no < TRIES / 2; ) {
		const uint64_t until = tsc_read() + ns_to_tsc(ALONE);
		bool alone;

		if (cpu_start(1, nothing, NULL))
			return false;
		while (!is_done(cpus[1]) && tsc_read() < until)
			;
		alone = !is_done(cpus[1]);
		for (unsigned k = 0; k < HAND_OVERS && !is_done(cpus[1]); k++)
			__asm__ volatile("pause" ::: "memory");
		if (alone && is_done(cpus[1]))
			yes++;
		else
			no++;
		cpu_wait(1, LATE_CALL);
	}
	return yes == TRIES;
}

int cpu_call(unsigned index, void (*fn)(void *), void *arg, uint64_t ns)
{
	int r;

	if (index == 0) {
		fn(arg);
		return 0;
	}
	r = cpu_start(index, fn, arg);
	return r ? r : cpu_wait(index, ns);
}
