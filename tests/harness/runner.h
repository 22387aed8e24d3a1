/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/boot.h"
#include "tests/harness/test.h"

/* ---- inside the harness ---- */
#define TEST_CLEANUPS 64
enum outcome { OUT_PASS, OUT_FAIL, OUT_SKIP, OUT_ERROR, OUT_TIMEOUT };
struct t {
	const struct test *test;
	unsigned number, checks, failures, findings;
	unsigned unknown;                /* of the failures: those that no known bug accounts for */
	enum outcome outcome;            /* ERROR, TIMEOUT and SKIP once they are certain */
	char reason[256];
	uint64_t ctx[8];
	struct { void (*fn)(void *); void *arg; } cleanup[TEST_CLEANUPS];
	unsigned cleanup_count;
};
extern const struct test tests_start[], tests_end[];

/* needs.c: what is missing, in a sentence, or NULL */
const char *need_missing(enum test_need);
/* known.c: why this test is known to fail on this platform, or NULL; passed: … or always did */
const char *known_bug(const char *suite, const char *name, bool passed);
/* … and does it account for this check's failure? */
bool known_failure(const char *suite, const char *name, const char *text);
/* rounds.c: " slow=3/32", rounds that were, or ""; leaves out their samples and says how many are left */
#define ROUNDS_MAX 1024u
void rounds_reset(void);
const char *rounds_text(void);
size_t rounds_quiet(uint64_t *ticks, size_t n, size_t batch);
/* units.c: an IOMMU that stopped answering fails the test, and is a finding */
void units_check(struct t *);
/*
 * No unit translates. To switch one is dear where it is emulated (VT-d in QEMU: 15 ms), so that a test that asks for
 * NEED_IOMMU_TRANSLATION may find one on as the test before it left it: with no device attached.
 */
void units_off(void);
void devices_check(struct t *);         /* of a test that has failed: are they still there? */
/* env.c: the # env lines */
void env_print(void);
/* " accel=… clock=tsc apic=… iommu=…" for metrics */
const char *env_context(void);
