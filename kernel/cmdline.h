/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/boot_info.h"
#include "kernel/lib/addr.h"
#include "kernel/power.h"

/*
 * The guest command line: words "key" or "key=value" separated by blanks or line ends; a word that
 * begins with '#' and all after it on its line is a comment. It comes from several
 * sources; a key in a later source replaces that key of the earlier ones, and within one source
 * lists add up and other keys take their last value.
 *
 * A word that we do not know, or a value that we cannot take, is not ignored: error[] names it, and
 * the run fails for it (a misspelt only= must not pass for the whole suite).
 */

#define CMDLINE_GLOBS_MAX 128
#define CMDLINE_STORE_MAX (2 * BOOT_CMDLINE_MAX)

struct cmdline_globs {
	unsigned count;
	const char *glob[CMDLINE_GLOBS_MAX];
};

struct cmdline {
	struct cmdline_globs only, skip, require;
	bool list, dump, timing, disruptive; /* list; dump; timing; allow=disruptive */
	bool has_device, has_seed;
	pci_rid_t device;                /* device=[SSSS:]BB:DD.F */
	uint64_t iterations;             /* 0: not given */
	uint64_t seed;
	uint64_t repeat;                 /* seconds between verdicts of a machine left running; 0: 10 */
	uint64_t vfs;                    /* virtual functions to switch on, of every function that has some */
	enum exit_how exit;
	char error[192];                 /* "" or the first thing wrong: "unknown word 'onyl=apic.*' (…)" */
	char store[CMDLINE_STORE_MAX];   /* where the globs live */
	size_t store_used;
};

/* Defaults: nothing given. */
void cmdline_init(struct cmdline *);
/* One source. source: who said it, for error texts; a string that stays. */
void cmdline_add(struct cmdline *, const char *source, const char *text);
/* As it was understood, in one canonical order; "" for nothing. Returns the whole length. */
int cmdline_text(const struct cmdline *, char *buf, size_t size);
bool cmdline_match(const struct cmdline_globs *, const char *name);

/* The machine's own. */
extern struct cmdline cmdline;
/*
 * Fills it: boot_info's (lines apart are sources apart: load options, then plumb.cfg), then fw_cfg's
 * opt/plumb/cmdline. In kernel/cmdline_load.c.
 */
void cmdline_load(const struct boot_info *);
