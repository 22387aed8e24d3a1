/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drivers/exercisers/exerciser.h"
#include "drivers/iommu/iommu.h"
#include "kernel/lib/addr.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/err.h"
#include "kernel/lib/random.h"
#include "kernel/time/time.h"

/*
 * TEST(suite, name, NEED(…)) { … }: one claim. The runner checks the needs (SKIP names the one that is
 * missing), runs the body, runs the cleanups in reverse, and reports. A body that checked nothing is
 * an error. EXPECT goes on, ASSERT leaves the test; both print expressions and values.
 */

enum test_need {
	NEED_NONE, NEED_SMP, NEED_X2APIC, NEED_IOAPIC, NEED_PCI, NEED_ECAM, NEED_ACPI,
	NEED_IOMMU,              /* a unit, of any kind */
	NEED_IOMMU_TRANSLATION,  /* … that can translate, with an exerciser that does DMA behind it */
	NEED_IR,                 /* interrupt remapping, with an exerciser that interrupts behind it */
	NEED_IR_EIM,
	NEED_EX_IRQ, NEED_EX_MSI, NEED_EX_MSIX,
	NEED_EX_DMA,             /* reads and writes */
	NEED_EX_DMA_TIMED,
	NEED_DISRUPTIVE,         /* allow=disruptive */
	NEED_MAX
};

struct test;
struct t;
typedef void (*test_fn)(struct t *);

enum test_flags {
	TEST_ON_DEMAND = 1,              /* runs only when only= names its suite */
	TEST_UNITS_OFF = 2,              /* finds no unit translating, although it needs one (units_off()) */
	TEST_TIMES = 4,                  /* prints times: part of the timing suite (`timing` on the command line) */
};

struct test {
	const char *suite, *name, *claim, *file;
	test_fn fn;
	uint8_t need[6];
	unsigned line, flags;
	unsigned budget_ms;              /* 0: the default, 10 s, more with many CPUs and where kvm_emulates() */
};

_Static_assert(sizeof(struct test) == 64, "linker.ld checks the table in steps of this");

#define TEST_FULL(suite_, name_, flags_, budget_, claim_, ...)                                     \
	static void test_##suite_##_##name_(struct t *);                                           \
	static const struct test test_def_##suite_##_##name_                                       \
		__attribute__((used, section(".tests." #suite_), aligned(8))) = {                   \
			.suite = #suite_, .name = #name_, .claim = claim_, .file = __FILE__,       \
			.fn = test_##suite_##_##name_, .need = {__VA_ARGS__}, .line = __LINE__,    \
			.flags = (flags_), .budget_ms = (budget_)};                                \
	static void test_##suite_##_##name_(struct t *t)
/* TEST(apic, ids, "every CPU's APIC ID is the MADT's", NEED_X2APIC) { … } */
#define TEST(suite_, name_, claim_, ...) TEST_FULL(suite_, name_, 0, 0, claim_, __VA_ARGS__)
#define TEST_TIMED(suite_, name_, claim_, ...) TEST_FULL(suite_, name_, TEST_TIMES, 0, claim_, __VA_ARGS__)

/* ---- outcomes; none of them returns ---- */
void test_skip(struct t *, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
void test_error(struct t *, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
void test_timeout(struct t *, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
void test_stop(struct t *) __attribute__((noreturn)); /* leave with what was found so far */

/* ---- diagnostics ---- */
void test_note(struct t *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* After "name": "key=value … unit=ns n=…"; the context is appended. */
void test_metric(struct t *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sorts the samples (TSC ticks) and prints them as ns: min p50 p90 p99 p99.9 max mean n, and a histogram. */
void test_metric_ticks(struct t *, const char *series, uint64_t *ticks, size_t n);
/*
 * The same for samples of many rounds, `batch` of each, in the order in which they were taken. The interval
 * of the median is then that of the rounds' medians: samples of one round are alike for reasons of their own.
 */
void test_metric_rounds(struct t *, const char *series, uint64_t *ticks, size_t n, size_t batch);
void sort_ticks(uint64_t *ticks, size_t n);
/* What two readings of the clock cost with nothing between them, in ticks: the least of many. */
uint64_t test_measure_nothing(void);
/* A rate, of n times (batch of each round) that as much took: work >> shift a second. The slowest, the median, … */
void test_metric_rate(struct t *, const char *series, const char *unit, uint64_t work, unsigned shift,
		      uint64_t *ticks, size_t n, size_t batch);
/* evidence/likely/remedy as in docs/findings.md; NULL parts are left out. id as "PLB012". */
void test_finding(struct t *, const char *id, const char *likely, const char *remedy,
		  const char *evidence, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
bool test_has_failed(const struct t *);
bool kvm_emulates(void);                 /* this KVM emulates every instruction; see known.c */
uint64_t test_seed(const struct t *);    /* seed= on the command line, printed when asked for */
/* iterations=, or dflt without it; also in the timing suite, where it is the rounds that are more. */
uint64_t test_iterations(const struct t *, uint64_t dflt);
bool test_wide(const struct t *);        /* iterations= was given: more sizes, depths, pages than by default */
/*
 * A test that times things goes round all of them, and not from one to the next, so that a host that is
 * slow for a while is slow for each:
 *
 *	struct rounds r = test_rounds(t, OFTEN, TIMING);
 *	…room for r.most batches of samples of each…
 *	while (test_round(t, &r))
 *		…a batch of each…
 *
 * Once; in the timing suite (`timing` on the command line) until OFTEN or TIMING ns are over, both times
 * iterations=. There a round waits for the machine to be as fast as it was at best, and
 * test_metric_rounds() leaves out those in which it was not, if enough are left.
 */
struct rounds {
	size_t most, done;
	struct deadline enough;
};
struct rounds test_rounds(const struct t *, size_t often, uint64_t ns);
bool test_round(struct t *, struct rounds *);
/* What is measured in one go: again, now and then, where the timing suite finds that the machine was slow. tries: 0 at first. */
bool test_again(const struct t *, unsigned *tries);
void test_budget(struct t *, uint64_t ns); /* from now on, in place of the declared one; longer with timing iterations= */

/* ---- cleanup: registered functions run in reverse when the test ends, however it ends ---- */
void test_cleanup(struct t *, void (*fn)(void *), void *arg);
void *test_alloc(struct t *, size_t);    /* zeroed; freed at the end; no memory: error */

/* ---- checks ---- */
void test_check(struct t *);             /* counts one check that held */
void test_fail_quietly(struct t *, const char *text); /* one that did not, and that nobody needs to read again */
bool test_expect_(struct t *, bool ok, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* By call, and not by a format each: there are hundreds. */
bool test_eq_(struct t *, uint64_t a, uint64_t b, const char *file, int line, const char *what);
bool test_ok_(struct t *, int r, const char *file, int line, const char *what);
bool test_err_(struct t *, int r, int err, const char *file, int line, const char *what);
void test_assert_ok_(struct t *, int r, const char *file, int line, const char *what);
void test_require_ok_(struct t *, int r, const char *file, int line, const char *what);

#define EXPECT(t, cond)       test_expect_(t, (cond), __FILE__, __LINE__, "%s: got false, expected true", #cond)
/* With a text that names the failing combination: EXPECT_MSG(t, got == 1, "CPU %u vector 0x%x: …", …) */
#define EXPECT_MSG(t, cond, ...) test_expect_(t, (cond), __FILE__, __LINE__, __VA_ARGS__)
#define EXPECT_EQ(t, a, b)                                                                         \
	test_eq_(t, (uint64_t)(a), (uint64_t)(b), __FILE__, __LINE__, #a " == " #b)
#define EXPECT_OK(t, call)       test_ok_(t, call, __FILE__, __LINE__, #call)
#define EXPECT_ERR(t, call, err) test_err_(t, call, err, __FILE__, __LINE__, #call)
#define ASSERT(t, cond)       do { if (!EXPECT(t, cond)) test_stop(t); } while (0)
#define ASSERT_MSG(t, ...)    do { if (!EXPECT_MSG(t, __VA_ARGS__)) test_stop(t); } while (0)
#define ASSERT_EQ(t, a, b)    do { if (!EXPECT_EQ(t, a, b)) test_stop(t); } while (0)
#define ASSERT_OK(t, call)    test_assert_ok_(t, call, __FILE__, __LINE__, #call)
/* Set-up of ours that must work for the test to mean anything: an error, not a failure. */
#define REQUIRE_OK(t, call) test_require_ok_(t, call, __FILE__, __LINE__, #call)

/* Exercisers with all of these caps, not broken, and (device= on the command line) the one asked for. */
struct exerciser *test_next_exerciser(struct t *, struct exerciser *after, uint32_t caps);
#define FOR_EACH_EXERCISER(t, ex, caps)                                                            \
	for (struct exerciser *ex = test_next_exerciser(t, NULL, caps); ex;                        \
	     ex = test_next_exerciser(t, ex, caps))
