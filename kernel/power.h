/* SPDX-License-Identifier: MIT */
#pragma once

#include "boot/boot_info.h"

/* exit= on the command line */
enum exit_how {
	EXIT_DEBUG,    /* the default: isa-debug-exit, then as EXIT_POWEROFF */
	EXIT_POWEROFF, /* UEFI ResetSystem, ACPI S5, then as EXIT_HALT */
	EXIT_RESET,    /* UEFI ResetSystem, FADT reset register, 0xcf9, 8042, then as EXIT_HALT */
	EXIT_HALT,     /* say the verdict again every ten seconds */
};

enum end_outcome { END_PASS = 0, END_FAIL = 1, END_PANIC = 2 };

/*
 * Remembers how this machine can be ended: after acpi_init(), as early as there is one. bi must stay
 * mapped. Without it machine_end() still tries what needs no tables.
 */
void power_init(const struct boot_info *bi);
/*
 * Ends the machine, from any CPU and context. Each way gets a second before the next is tried, and none
 * is tried twice; one that faults is left. (A firmware that neither ends the machine nor returns from
 * ResetSystem is the one wait here without a bound.) again(), which may be NULL, says the verdict once
 * more every ten seconds when nothing could end it.
 */
extern unsigned again_seconds;           /* repeat=: how long until it is said once more */
void machine_end(enum end_outcome, enum exit_how, void (*again)(void)) __attribute__((noreturn));
