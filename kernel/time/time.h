/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Durations are uint64_t nanoseconds. */
#define NS(n) ((uint64_t)(n))
#define US(n) ((uint64_t)(n) * 1000u)
#define MS(n) ((uint64_t)(n) * 1000000u)
#define SEC(n) ((uint64_t)(n) * 1000000000u)

/* Ordered TSC reads: LFENCE; RDTSC [; LFENCE]. SDM vol. 2, RDTSC. */
static inline uint64_t tsc_read(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) : : "memory");
	return ((uint64_t)hi << 32) | lo;
}
/*
 * PAUSE between two looks at something. Rarely under TCG: there it leaves the translated code and takes
 * QEMU's big lock, which the device or the CPU that we wait for wants. Always where one thread runs all
 * CPUs in turn (thread=single): there nothing else hands over.
 */
void cpu_relax(void);
void cpu_relax_in_turn(bool yes);

/* Calibrates the TSC: CPUID 0x15/0x40000010 where they tell, else against the ACPI PM timer or the PIT. */
void time_init(void);
uint64_t tsc_khz(void);
const char *tsc_source(void);            /* "CPUID 0x40000010", "PM timer", "PIT" */
uint64_t tsc_to_ns(uint64_t ticks);
uint64_t ns_to_tsc(uint64_t ns);
uint64_t time_ns(void);                  /* since time_init */

/* The ACPI PM timer as a second clock, read between two TSC reads. */
struct clock2 { uint64_t tsc, width; uint32_t ticks; }; /* width: TSC ticks the read took */
bool clock2_present(void);
bool clock2_stands(void);                /* ACPI names it, but it does not run */
struct clock2 clock2_read(void);
uint64_t clock2_ns(struct clock2 from, struct clock2 to); /* less than 4.6 s apart (24 bits) */

/* The PIT's channel 2, which counts down from 65535 and comes round after 54.9 ms. 8254, mode 0. */
#define PIT_HZ 1193182u
struct pit_read { uint64_t tsc, width; uint16_t left; }; /* in the middle of the read, and the ticks that it took */
void pit_start(void);
struct pit_read pit_read(void);

struct deadline { uint64_t tsc; };
static inline struct deadline deadline_in(uint64_t ns)
{
	return (struct deadline){tsc_read() + ns_to_tsc(ns)};
}
/* The earlier of two. */
static inline struct deadline deadline_min(struct deadline a, struct deadline b)
{
	return a.tsc < b.tsc ? a : b;
}
bool deadline_passed(struct deadline d); /* also true once the running test's budget is spent */

/*
 * The one primitive that waits. True as soon as cond holds; false when the deadline has passed and
 * cond, looked at once more after that, still does not hold (a stalled vCPU is not a late device).
 */
#define WAIT_UNTIL(cond, dl)                                                                       \
	(__extension__({                                                                           \
		const struct deadline dl_ = (dl);                                                  \
		bool met_;                                                                         \
		while (!(met_ = (cond))) {                                                         \
			if (deadline_passed(dl_)) {                                                \
				met_ = (cond);                                                     \
				break;                                                             \
			}                                                                          \
			cpu_relax();                                                               \
		}                                                                                  \
		met_;                                                                              \
	}))
#define WAIT_FOR(cond, ns) WAIT_UNTIL(cond, deadline_in(ns))

void delay(uint64_t ns);
/* The harness sets the running test's budget here: no deadline outlives it. {UINT64_MAX} for none. */
void deadline_set_limit(struct deadline d);
bool deadline_limit_passed(void);
void deadline_limit_later(uint64_t ticks); /* by so many: what passed was not the test's */
