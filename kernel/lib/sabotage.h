/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/lib/err.h"

/*
 * Faults of our own, made on purpose, so that the host sees each test catch what it claims to catch:
 *
 *	if (SABOTAGE(msi_wrong_cpu))
 *		dest ^= 1;
 *
 * Only `make kernel SABOTAGE=1` compiles them in, and there `sabotage=msi_wrong_cpu` on the guest's
 * command line turns one on. In a release image the code is not there, and the word is an error.
 * What must catch each is written in tests/host/sabotage/sabotages.toml.
 */
#ifdef PLUMB_SABOTAGE
struct sabotage_point {
	const char *name;
	volatile bool on;
};

/* Several places may share a name: they go wrong together. */
#define SABOTAGE(what) ({                                                                           \
	static struct sabotage_point __attribute__((used, section(".sabotage"), aligned(16)))       \
		sabotage_point_ = {#what, false};                                                   \
	sabotage_point_.on;                                                                         \
})

/* Turns it on in all its places. -EINVAL: no place has that name. */
int sabotage_select(const char *name, size_t len);
/* The one that is on; "" for none. */
const char *sabotage_name(void);
#else
#define SABOTAGE(what) false

static inline int sabotage_select(const char *name, size_t len)
{
	(void)name;
	(void)len;
	return -EINVAL;
}

static inline const char *sabotage_name(void)
{
	return "";
}
#endif
