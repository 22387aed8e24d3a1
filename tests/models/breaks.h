/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What can be broken, one thing at a time. A break is a name and, for some, a number: "slow-traps=4000".
 * Without any, the model does what shared/facts/nvidia.md says of its kind.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum brk {
	BRK_NO_TRIGGER, BRK_NO_PBUS, BRK_NO_ALARM, BRK_NO_PMC_SW, BRK_STUCK_PENDING,
	BRK_NO_MSI, BRK_NO_REARM, BRK_DOUBLE_MSI, BRK_LOSE_MSI, BRK_LATE_MSI, BRK_SPURIOUS_MSI,
	BRK_WRONG_VECTOR, BRK_MSI_AS_INTX, BRK_NO_MSI_CAP, BRK_MSI_REGISTER_STUCK,
	BRK_INTX_DEAD, BRK_NO_INTX_PIN,
	BRK_BAR0_DEAD, BRK_BAR1_DEAD, BRK_BAR3_DEAD, BRK_BAR_SMALL, BRK_CONFIG_DEAD,
	BRK_ID_MISMATCH, BRK_BOOT1_MISMATCH, BRK_UNPOSTED,
	BRK_PTIMER_STUCK, BRK_PTIMER_BACK, BRK_PTIMER_FAST,
	BRK_SLOW_TRAPS, BRK_DIE_AFTER, BRK_HANG_AFTER,
	BRK_DMA_WRONG_PAGE, BRK_DMA_DEAD,
	BRK_COUNT,
};

struct breaks {
	uint64_t set;                 /* bit n: enum brk n */
	uint64_t arg[BRK_COUNT];
};

_Static_assert(BRK_COUNT <= 64, "struct breaks.set");

static inline bool broken(const struct breaks *b, enum brk n)
{
	return b->set >> n & 1;
}

/* Adds "name" or "name=number", several with commas between. 0, or -EINVAL with nothing added for the bad one. */
int breaks_add(struct breaks *b, const char *text);
/* One line a break: name, default number where it takes one, what it does. */
void breaks_list(FILE *to);
/* "no-msi,slow-traps=4000", or "none". */
void breaks_print(const struct breaks *b, FILE *to);
