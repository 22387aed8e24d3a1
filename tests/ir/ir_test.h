/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/msi/irq_test.h"

/*
 * Raises interrupt index, waits until the device has signalled it (one with a queue does so when its
 * command is done, and not when it is told), and wants nothing to arrive. A device that does not signal
 * is an error: nothing was shown. what: "its entry not present".
 */
bool ir_expect_nothing(struct irq_source *, struct delivery *, unsigned index, const char *what);
