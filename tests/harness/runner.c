/* SPDX-License-Identifier: MIT */
#include "tests/harness/runner.h"

#include "kernel/boot.h"
#include "kernel/cmdline.h"
#include "kernel/cpu/context.h"
#include "kernel/cpu/cpu.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/string.h"
#include "kernel/lib/ubsan.h"
#include "kernel/log/log.h"
#include "kernel/mm/mm.h"
#include "kernel/version.h"
#include "tests/harness/dump.h"

#define PLAN_MAX  512
#define BUDGET_MS 10000
#define PATIENCE  5      /* times that, where an exit is slow */

/* The order in which a fault is best met: a layer before those that stand on it. */
static const char *const suites[] = {
	"boot", "pci", "apic", "ioapic", "msi", "msix", "ir", "iommu", "dma", "perf", "vgpu", "mdev", "selftest",
};

static const struct test *plan[PLAN_MAX];
static unsigned plan_count;
static struct t *current;

/* Kept, as are the names below: the plan asks for each many times. */
static unsigned rank(const struct test *x)
{
	static uint8_t ranks[PLAN_MAX];  /* plus one */
	uint8_t *r = &ranks[x - tests_start];

	if (!*r)
		for (*r = 1; *r <= ARRAY_SIZE(suites) && strcmp(x->suite, suites[*r - 1]);)
			++*r;
	return *r;
}

static const char *full_name(const struct test *x)
{
	static char names[PLAN_MAX][48];
	char *name = names[x - tests_start];

	if (!name[0])
		fmt_snprintf(name, sizeof(names[0]), "%s.%s", x->suite, x->name);
	return name;
}

/* A test on demand wants its suite spelt out: only=selftest.*, not only=*. */
static bool asked_for(const struct test *x, const char *name)
{
	for (unsigned i = 0; i < cmdline.only.count; i++)
		if (fmt_glob(cmdline.only.glob[i], name) &&
		    (!(x->flags & TEST_ON_DEMAND) || !strncmp(cmdline.only.glob[i], x->suite, strlen(x->suite))))
			return true;
	return cmdline.only.count == 0 && !(x->flags & TEST_ON_DEMAND) && (!cmdline.timing || x->flags & TEST_TIMES);
}

/* By suite, then as the source has them: the compiler may have turned a file's table round. */
static bool before(const struct test *a, const struct test *b)
{
	const int file = rank(a) == rank(b) ? strcmp(a->file, b->file) : 0;

	if (rank(a) != rank(b))
		return rank(a) < rank(b);
	return file ? file < 0 : a->line < b->line;
}

static void plan_make(void)
{
	if (tests_end - tests_start > PLAN_MAX)
		panic("more than %u tests", PLAN_MAX);
	for (const struct test *x = tests_start; x < tests_end; x++) {
		const char *name = full_name(x);
		unsigned i = plan_count;

		if (!asked_for(x, name) || cmdline_match(&cmdline.skip, name))
			continue;
		for (; i > 0 && before(x, plan[i - 1]); i--)
			plan[i] = plan[i - 1];
		plan[i] = x;
		plan_count++;
	}
}

/* ---- leaving a test ---- */
static void leave(struct t *t, enum outcome o, const char *prefix, const char *fmt, va_list ap)
{
	fmt_vsnprintf(t->reason, sizeof(t->reason), fmt, ap);
	if (prefix)
		log_line("# %s: %s", prefix, t->reason);
	t->outcome = o;
	context_restore(t->ctx, 1);
}

#define LEAVE(outcome_, prefix_)                                                                   \
	do {                                                                                       \
		va_list ap;                                                                        \
		va_start(ap, fmt);                                                                 \
		leave(t, outcome_, prefix_, fmt, ap);                                              \
		va_end(ap);                                                                        \
		__builtin_unreachable();                                                           \
	} while (0)

void test_skip(struct t *t, const char *fmt, ...) { LEAVE(OUT_SKIP, NULL); }
void test_error(struct t *t, const char *fmt, ...) { LEAVE(OUT_ERROR, "error"); }
void test_timeout(struct t *t, const char *fmt, ...) { LEAVE(OUT_TIMEOUT, "timeout"); }
void test_stop(struct t *t) { context_restore(t->ctx, 1); }

/*
 * A hypervisor within one that is itself emulated takes some 100 us for an exit (CPUID always is one), a hundred times
 * as long as others: there a walk through all of configuration space is no hang.
 */
static unsigned patience(void)
{
	static unsigned known_already;
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 4 && !known_already; i++) {
		const uint64_t t0 = tsc_read();

		(void)cpuid(0, 0);
		least = MIN(least, tsc_read() - t0);
	}
	if (!known_already)
		known_already = tsc_to_ns(least) > US(20) ? PATIENCE : 1;
	return known_already;
}

/* The timing suite's times and rounds, times iterations=. */
static uint64_t stretched(uint64_t x) { return cmdline.timing ? x * MIN(MAX(cmdline.iterations, 1u), 100u) : x; }

static uint64_t budget_ms(const struct test *x)
{
	const uint64_t own = stretched(x->budget_ms ? x->budget_ms : kvm_emulates() ? 2 * BUDGET_MS : BUDGET_MS);

	return (own + 200 * cpu_count()) * patience();
}

static void budget_check(struct t *t)
{
	if (deadline_limit_passed())
		test_timeout(t, "the test's time is up (%llu s)", (unsigned long long)(budget_ms(t->test) / 1000));
}

/* An exception nobody expected, on the boot CPU: the test is over, the suite goes on. */
static void on_trap(const struct trap_frame *f, uint64_t cr2)
{
	if (!current)
		return;
	trap_print(f, cr2);
	test_error(current, "unexpected exception %llu at %llx", (unsigned long long)f->vector,
		   (unsigned long long)f->rip);
}

/* An image with UBSan says where our own code was wrong, in whatever test that was. */
static void on_ubsan(const char *what, const char *file, uint32_t line)
{
	log_line("# error: undefined behaviour at %s:%u: %s", file, line, what);
}

/* An AP that took one has stopped for good; whoever was at it hears of it here at the latest. */
static bool ap_faults(void)
{
	static bool told[CPU_MAX];
	bool any = false;

	for (unsigned i = 1; i < cpu_count(); i++) {
		if (!cpus[i]->fault || told[i])
			continue;
		told[i] = any = true;
		log_line("# error: CPU %u stopped on an unexpected exception", i);
		trap_print(cpus[i]->fault, cpus[i]->fault_cr2);
	}
	return any;
}

static void cleanups(struct t *t)
{
	while (t->cleanup_count) {
		const unsigned i = --t->cleanup_count;

		deadline_set_limit(deadline_in(SEC(3)));
		if (context_save(t->ctx) == 0)
			t->cleanup[i].fn(t->cleanup[i].arg);
		irq_enable();
	}
	/* What went wrong may have left a unit in any state: nobody takes it over. */
	deadline_set_limit(deadline_in(SEC(3)));
	if ((t->failures || t->outcome == OUT_ERROR || t->outcome == OUT_TIMEOUT) && context_save(t->ctx) == 0)
		units_off();
	deadline_set_limit((struct deadline){UINT64_MAX});
}

static bool needs(const struct test *x, enum test_need need)
{
	bool found = false;

	for (unsigned i = 0; i < ARRAY_SIZE(x->need); i++)
		found |= x->need[i] == need;
	return found;
}

static void body(struct t *t)
{
	const struct test *x = t->test;
	const unsigned undefined = ubsan_count();
	const char *missing = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(x->need) && x->need[i] && !missing; i++)
		missing = need_missing((enum test_need)x->need[i]);
	if (missing) {
		t->outcome = OUT_SKIP;
		strlcpy(t->reason, missing, sizeof(t->reason));
		return;
	}
	deadline_set_limit(deadline_in(MS(budget_ms(x))));
	if (context_save(t->ctx) == 0) {
		if (!needs(x, NEED_IOMMU_TRANSLATION) || x->flags & TEST_UNITS_OFF)
			units_off();
		x->fn(t);
		if (!t->checks && !t->failures)
			test_error(t, "checked nothing");
		budget_check(t);
	}
	irq_enable();
	cleanups(t);
	units_check(t);
	devices_check(t);
	if (t->failures || t->outcome == OUT_ERROR || t->outcome == OUT_TIMEOUT)
		units_off();
	if ((ap_faults() || ubsan_count() != undefined) && t->outcome != OUT_TIMEOUT)
		t->outcome = OUT_ERROR;
	/* A skip says that there was nothing to see, and takes back nothing that was seen. */
	if ((t->outcome == OUT_PASS || t->outcome == OUT_SKIP) && t->failures)
		t->outcome = OUT_FAIL;
}

static struct { unsigned passed, failed, skipped, todo; } counts;

static void report(struct t *t)
{
	const char *name = full_name(t->test);
	const char *known = known_bug(t->test->suite, t->test->name, t->outcome == OUT_PASS);

	switch (t->outcome) {
	case OUT_PASS:
		counts.passed++;
		if (!known) {
			log_line("ok %u - %s", t->number, name);
			break;
		}
		log_line("ok %u - %s # TODO %s", t->number, name, known);
		test_finding(t, "PLB002", "the platform has been mended, or this is another version than the table knows",
			     "narrow the version range in tests/harness/known.c", known,
			     "%s passes although a known bug of the platform says it cannot", name);
		break;
	case OUT_SKIP:
		if (!cmdline_match(&cmdline.require, name)) {
			counts.skipped++;
			log_line("ok %u - %s # SKIP %s", t->number, name, t->reason);
			break;
		}
		log_line("# error: required, but skipped: %s", t->reason);
		counts.failed++;
		log_line("not ok %u - %s", t->number, name);
		break;
	case OUT_FAIL:
		if (known && !t->unknown) {
			counts.todo++;
			log_line("not ok %u - %s # TODO %s", t->number, name, known);
			break;
		}
		/* fall through */
	default:
		counts.failed++;
		log_line("# claim %s", t->test->claim);
		log_line("not ok %u - %s", t->number, name);
		break;
	}
}

static void run_one(const struct test *x, unsigned number)
{
	static struct t t;               /* survives the longjmp out of a test */
	uint64_t t0;

	t = (struct t){.test = x, .number = number};
	log_line("# run %u %s", number, full_name(x));
	current = &t;
	rounds_reset();
	t0 = time_ns();
	body(&t);
	current = NULL;
	log_line("# took %u us=%llu", number, (unsigned long long)((time_ns() - t0) / 1000));
	report(&t);
}

/* require= that names nothing in the plan is a misspelling, or a test that somebody took out. */
static unsigned required_but_absent(void)
{
	unsigned absent = 0;

	for (unsigned g = 0; g < cmdline.require.count; g++) {
		bool met = false;

		for (unsigned i = 0; i < plan_count && !met; i++)
			met = fmt_glob(cmdline.require.glob[g], full_name(plan[i]));
		if (!met && !cmdline.only.count && !cmdline.skip.count) {
			log_line("# error: require=%s names no test of this plan", cmdline.require.glob[g]);
			absent++;
		}
	}
	return absent;
}

static void list(void)
{
	for (unsigned i = 0; i < plan_count; i++)
		log_line("# list %s %s", full_name(plan[i]), plan[i]->claim);
}

static uint64_t nonce(void)
{
	/* TSC and the CMOS clock: two boots of one image must differ, no more. */
	uint64_t clock = 0;

	for (uint8_t reg = 0; reg < 10; reg++) {
		outb(0x70, reg);
		clock = clock * 61 + inb(0x71);
	}
	struct random r = random_seed(tsc_read() ^ clock << 20);

	return random_u64(&r);
}

enum end_outcome run_all(void)
{
	unsigned broken;
	char text[960];

	plan_make();
	log_begin();
	log_line("TAP version 14");
	log_line("# plumb %s git=%s boot=%016llx", PLUMB_VERSION, PLUMB_GIT, (unsigned long long)nonce());
	if (cmdline.list || plan_count == 0)
		log_line("1..0 # SKIP %s", cmdline.list ? "list" : "no test is selected");
	else
		log_line("1..%u", plan_count);
	cmdline_text(&cmdline, text, sizeof(text));
	log_line("# cmdline %s", text);
	broken = cmdline.error[0] != 0;
	if (broken)
		log_line("# error: command line: %s", cmdline.error);
	env_print();
	log_early();
	if (cmdline.dump)
		dump_print();
	if (cmdline.list) {
		list();
		plan_count = 0;
	} else {
		broken += required_but_absent() + (plan_count == 0);
	}
	if (ubsan_count())
		log_line("# error: undefined behaviour before the first test, %u times", ubsan_count());
	broken += ubsan_count() != 0;
	ubsan_set_reporter(on_ubsan);
	trap_set_hook(on_trap);
	for (unsigned i = 0; i < plan_count; i++)
		run_one(plan[i], i + 1);
	units_off();
	trap_set_hook(NULL);
	log_verdict("# verdict %s tests=%u passed=%u failed=%u skipped=%u todo=%u us=%llu",
		    counts.failed || broken ? "FAIL" : "PASS", plan_count, counts.passed, counts.failed,
		    counts.skipped, counts.todo, (unsigned long long)(time_ns() / 1000));
	return counts.failed || broken ? END_FAIL : END_PASS;
}

/* ---- checks and cleanup ---- */
bool test_expect_(struct t *t, bool ok, const char *file, int line, const char *fmt, ...)
{
	if (ok) {
		t->checks++;
	} else {
		char text[512];
		va_list ap;

		va_start(ap, fmt);
		fmt_vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		if (t->failures++ < 20)
			log_line("# expect %s:%d %s", file, line, text);
		t->unknown += !known_failure(t->test->suite, t->test->name, text);
	}
	budget_check(t);
	return ok;
}

bool test_eq_(struct t *t, uint64_t a, uint64_t b, const char *file, int line, const char *what)
{
	return test_expect_(t, a == b, file, line, "%s: got 0x%llx, expected 0x%llx", what, (unsigned long long)a,
			    (unsigned long long)b);
}

bool test_ok_(struct t *t, int r, const char *file, int line, const char *what)
{
	return test_expect_(t, r >= 0, file, line, "%s: got -%s, expected success", what, err_name(r));
}

bool test_err_(struct t *t, int r, int err, const char *file, int line, const char *what)
{
	return test_expect_(t, r == -err, file, line, "%s: got %s%s, expected -%s", what, r < 0 ? "-" : "",
			    r < 0 ? err_name(r) : "success", err_name(err));
}

void test_assert_ok_(struct t *t, int r, const char *file, int line, const char *what)
{
	if (!test_ok_(t, r, file, line, what))
		test_stop(t);
}

void test_require_ok_(struct t *t, int r, const char *file, int line, const char *what)
{
	if (r < 0)
		test_error(t, "%s:%d %s: -%s", file, line, what, err_name(r));
}

void test_check(struct t *t) { t->checks++; }

void test_fail_quietly(struct t *t, const char *text)
{
	t->failures++;
	t->unknown += !known_failure(t->test->suite, t->test->name, text);
	budget_check(t);
}
bool test_has_failed(const struct t *t) { return t->failures != 0; }

void test_cleanup(struct t *t, void (*fn)(void *), void *arg)
{
	if (t->cleanup_count == TEST_CLEANUPS) {
		fn(arg);
		test_error(t, "more than %u cleanups", TEST_CLEANUPS);
	}
	t->cleanup[t->cleanup_count].fn = fn;
	t->cleanup[t->cleanup_count++].arg = arg;
}

void *test_alloc(struct t *t, size_t n)
{
	void *p = kzalloc(n);

	if (!p)
		test_error(t, "no memory for %zu bytes", n);
	test_cleanup(t, kfree, p);
	return p;
}

uint64_t test_seed(const struct t *t)
{
	static uint64_t drawn;
	uint64_t seed;

	/* without seed= a new one each boot; printed, so that a failure can be had again */
	if (!drawn)
		drawn = nonce() & 0xffffff;
	seed = cmdline.has_seed ? cmdline.seed : drawn;
	log_line("# note seed=%llu", (unsigned long long)seed);
	(void)t;
	return seed;
}

uint64_t test_iterations(const struct t *t, uint64_t dflt)
{
	(void)t;
	return cmdline.iterations && !cmdline.timing ? cmdline.iterations : dflt;
}

bool test_wide(const struct t *t)
{
	(void)t;
	return cmdline.iterations;
}

void test_budget(struct t *t, uint64_t ns)
{
	(void)t;
	deadline_set_limit(deadline_in(stretched(ns)));
}

struct exerciser *test_next_exerciser(struct t *t, struct exerciser *after, uint32_t caps)
{
	(void)t;
	for (struct exerciser *ex = after ? after + 1 : exercisers; ex < exercisers + exerciser_count; ex++)
		if ((ex->caps & caps) == caps && !ex->broken &&
		    (!cmdline.has_device || ex->dev->rid.v == cmdline.device.v))
			return ex;
	return NULL;
}
