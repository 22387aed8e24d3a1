/* SPDX-License-Identifier: MIT */

#include "kernel/cpu/cpu.h"
#include "kernel/log/log.h"
#include "tests/harness/test.h"

/*
 * The tester tested: each of these comes out as one outcome, and the host checks that it is reported as
 * what it is (tests/machines/selftest.toml). They run only when only= names the suite. Those that end
 * the machine or its report are last.
 */
#define SELFTEST(name, claim) TEST_FULL(selftest, name, TEST_ON_DEMAND, 0, claim, NEED_NONE)

SELFTEST(pass, "comes out as a pass")
{
	EXPECT_EQ(t, 2 + 2, 4);
}

SELFTEST(fail, "comes out as a failure, with expression, value and place; the check after it still runs")
{
	EXPECT_EQ(t, 2 + 2, 5);
	EXPECT(t, true);
}

SELFTEST(skip, "comes out as a skip that names what is missing")
{
	test_skip(t, "selftest: nothing is missing but this reason");
}

SELFTEST(known, "fails, is in the table of known bugs, and comes out as TODO")
{
	EXPECT(t, false);
}

SELFTEST(fault, "an exception nobody expected: an error with registers, and the suite goes on")
{
	volatile uint32_t *nowhere = (volatile uint32_t *)0x10;

	__asm__ volatile("" : "+r"(nowhere)); /* the compiler must not see through it */
	*nowhere = 1;
	EXPECT(t, true);
}

static bool never(void)
{
	return false;
}

TEST_FULL(selftest, timeout, TEST_ON_DEMAND, 1000, "a wait that outlives the test's time: a timeout, not a failure", NEED_NONE)
{
	(void)WAIT_FOR(never(), SEC(600));
	EXPECT(t, true);
}

SELFTEST(empty, "a body that checks nothing is an error, not a pass")
{
	(void)t;
}

SELFTEST(hang, "stops with interrupts off: only the host can notice")
{
	irq_disable();
	for (;;)
		__asm__ volatile("hlt");
	EXPECT(t, true);
}

/* An empty IDT: the exception, the #GP that it becomes and the #DF after that find no gate. */
SELFTEST(reset, "a triple fault: the machine resets, and the host says so")
{
	const struct { uint16_t limit; uint64_t base; } __attribute__((packed)) none = {0, 0};

	__asm__ volatile("lidt %0; ud2" : : "m"(none));
	EXPECT(t, true);
}

/* What a second writer on the line, or a lossy one, would leave: not covered by the CRC. */
SELFTEST(garble, "bytes in the report that are not the report's: the host trusts none of it")
{
	EXPECT(t, true);
	log_raw("\x1b[2J\xff\xfe# no line of this re\r\nok 999 - selftest.ghost\r\n");
}
