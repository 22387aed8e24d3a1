/* SPDX-License-Identifier: MIT */
#include "kernel/time/time.h"

#include "kernel/acpi/acpi.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/bits.h"
#include "kernel/log/log.h"

#define PM_TIMER_HZ 3579545u             /* ACPI 6.5, 4.8.3.3 */
#define PM_READS    4096u                /* alike: it does not run */
#define PIT_READS   1000u
#define READS_PART  1000u                /* of a calibration that two reads of the PIT may take */
#define PIT_MS      40u                  /* of the 54.9 that it counts */

static uint64_t khz = 1000000, tsc0;     /* 1 GHz until calibrated: deadlines err on the short side */
static const char *source = "not calibrated";
static struct deadline limit = {UINT64_MAX};

/* ticks * a / b without overflow for ticks < 2^64 */
static uint64_t mul_div(uint64_t ticks, uint64_t a, uint64_t b)
{
	uint64_t hi, lo, q, r;

	__asm__("mulq %3" : "=a"(lo), "=d"(hi) : "0"(ticks), "r"(a) : "cc");
	if (hi >= b)
		return UINT64_MAX;
	__asm__("divq %4" : "=a"(q), "=d"(r) : "0"(lo), "1"(hi), "r"(b) : "cc");
	return q;
}

uint64_t tsc_khz(void) { return khz; }
const char *tsc_source(void) { return source; }
uint64_t tsc_to_ns(uint64_t ticks) { return mul_div(ticks, 1000000, khz); }
uint64_t ns_to_tsc(uint64_t ns) { return mul_div(ns, khz, 1000000); }
uint64_t time_ns(void) { return tsc_to_ns(tsc_read() - tsc0); }

void deadline_set_limit(struct deadline d) { limit = d; }
void deadline_limit_later(uint64_t ticks)
{
	if (limit.tsc != UINT64_MAX)
		limit.tsc += ticks;
}
bool deadline_limit_passed(void) { return tsc_read() >= limit.tsc; }
bool deadline_passed(struct deadline d)
{
	const uint64_t now = tsc_read();

	/* The limit is the boot CPU's: an AP helping a test ends with its own deadline. */
	return now >= d.tsc || (now >= limit.tsc && this_cpu()->index == 0);
}

#define PAUSE_EVERY 1024u

static bool in_turn;

void cpu_relax_in_turn(bool yes) { in_turn = yes; }

void cpu_relax(void)
{
	static unsigned spins;           /* of all CPUs; a lost count does not matter */

	/* Not never: until we know how the CPUs are run. */
	if (in_turn || cpu_features.accel != ACCEL_TCG || ++spins % PAUSE_EVERY == 0)
		__asm__ volatile("pause" ::: "memory");
}

void delay(uint64_t ns)
{
	WAIT_FOR(false, ns);
}

/* ---- a second clock ---- */
static uint32_t pm_read(void)
{
	return inl((uint16_t)acpi.fadt.pm_timer_port);
}

static bool pm_stands;           /* the FADT names it, and firmware has not switched it on */

bool clock2_present(void) { return acpi.has_fadt && acpi.fadt.pm_timer_port && !pm_stands; }
bool clock2_stands(void) { return pm_stands; }

/* It ticks three times in a microsecond; nobody reads a port so often in that. */
static bool pm_ticks(void)
{
	const uint32_t first = pm_read();

	for (unsigned i = 0; i < PM_READS; i++)
		if (pm_read() != first)
			return true;
	return false;
}

struct clock2 clock2_read(void)
{
	/* The TSC on both sides of the read: how far apart they are is the error. */
	struct clock2 best = {0};
	uint64_t width = UINT64_MAX;

	for (unsigned i = 0; i < 5; i++) {
		const uint64_t a = tsc_read();
		const uint32_t t = pm_read();
		const uint64_t b = tsc_read();

		if (b - a < width) {
			width = b - a;
			best = (struct clock2){a + (b - a) / 2, width, t};
		}
	}
	return best;
}

uint64_t clock2_ns(struct clock2 from, struct clock2 to)
{
	const uint32_t mask = acpi.fadt.pm_timer_32bit ? UINT32_MAX : 0xffffff;

	return mul_div((to.ticks - from.ticks) & mask, 1000000000u, PM_TIMER_HZ);
}

/* Ticks a millisecond over about ms; 0: that clock does not run. */
static uint64_t against_pm_timer(unsigned ms)
{
	const struct clock2 a = clock2_read();
	const uint64_t give_up = tsc_read() + 50000000000ull;
	struct clock2 b;

	do {
		b = clock2_read();
		if (tsc_read() > give_up)
			return 0;
	} while (clock2_ns(a, b) < ms * 1000000u);
	return mul_div(b.tsc - a.tsc, 1000000, clock2_ns(a, b));
}

/* As long as it takes for the reads' own time not to matter, and no longer than the counter has. */
static uint64_t against_pit(unsigned ms)
{
	const uint64_t give_up = tsc_read() + 50000000000ull;
	struct pit_read a, b;
	uint32_t counted, stands = 0;

	pit_start();
	(void)pit_read();                /* it loads at the next of its own ticks */
	a = pit_read();
	do {
		b = pit_read();
		stands += b.left == a.left;
		if (stands == PIT_READS || tsc_read() > give_up)
			return 0;
		counted = (uint32_t)(a.left - b.left) & 0xffff;
	} while (counted < PIT_HZ / 1000 * ms ||
		 (b.tsc - a.tsc < READS_PART * (a.width + b.width) && counted < PIT_HZ / 1000 * PIT_MS));
	return mul_div(b.tsc - a.tsc, PIT_HZ, (uint64_t)counted * 1000);
}

/* The middle of three short runs: one stall of the vCPU does not count. */
static uint64_t median3(uint64_t (*f)(unsigned), unsigned ms)
{
	const uint64_t a = f(ms), b = f(ms), c = f(ms);

	return MAX(MIN(a, b), MIN(MAX(a, b), c));
}

static uint64_t from_cpuid(void)
{
	struct cpuid r;

	if (cpu_features.max_hv_leaf >= 0x40000010 && cpu_features.max_hv_leaf < 0x40000100) {
		r = cpuid(0x40000010, 0);
		if (r.eax) {
			source = "CPUID 0x40000010";
			return r.eax;
		}
	}
	if (cpu_features.max_leaf >= 0x15) {
		r = cpuid(0x15, 0);
		if (r.eax && r.ebx && r.ecx) {
			source = "CPUID 0x15";
			return mul_div(r.ecx, r.ebx, r.eax) / 1000;
		}
	}
	return 0;
}

void time_init(void)
{
	uint64_t k = from_cpuid();

	pm_stands = clock2_present() && !pm_ticks();
	if (!k && clock2_present()) {
		source = "PM timer";
		k = median3(against_pm_timer, 3);
	}
	if (!k) {
		source = "PIT";
		k = median3(against_pit, 5);
	}
	if (!k)
		panic("no clock: CPUID names no TSC rate, and neither PM timer nor PIT runs");
	khz = k;
	tsc0 = tsc_read();
}
