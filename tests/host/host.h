/* SPDX-License-Identifier: MIT */
#pragma once

/* What host unit tests share: checks that go on, and a count at the end. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned host_checks, host_failures;

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		host_checks++;                                                                     \
		if (!(cond)) {                                                                     \
			host_failures++;                                                           \
			printf("FAIL %s:%d %s\n", __FILE__, __LINE__, #cond);                      \
		}                                                                                  \
	} while (0)
#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		const uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                             \
		host_checks++;                                                                     \
		if (a_ != b_) {                                                                    \
			host_failures++;                                                           \
			printf("FAIL %s:%d %s: got 0x%" PRIx64 ", expected 0x%" PRIx64 "\n",       \
			       __FILE__, __LINE__, #a, a_, b_);                                    \
		}                                                                                  \
	} while (0)

/* Ends main(): a test that checked nothing has failed. */
static inline int host_done(const char *name)
{
	const int bad = host_failures != 0 || host_checks == 0;

	printf("%s %s: %u checks, %u failed\n", bad ? "FAIL" : "ok", name, host_checks, host_failures);
	return bad;
}
