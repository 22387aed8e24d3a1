/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* Intel 82574 datasheet 3.4, chapter 10. */
#define E1000E_CTRL     0x0000
#define E1000E_CTRL_RST BIT(26)
#define E1000E_STATUS   0x0008
#define E1000E_ICR      0x00c0 /* write 1 to clear; a read may clear too (10.2.4.1) */
#define E1000E_ITR      0x00c4
#define E1000E_ITR_MAX  0xffff /* 256 ns each; of EITR too */
#define E1000E_ICS      0x00c8
#define E1000E_IMS      0x00d0
#define E1000E_IMC      0x00d8
#define E1000E_IVAR     0x00e4
#define E1000E_EITR(n)  (0x00e8 + 4 * (n))
#define E1000E_CAUSE    BIT(4) /* RXDMT0: nothing else sets it while no receiver is on */
/* By MSI-X: the causes of both receive queues, both transmit queues and all others, to entries 0 to 4 (10.2.4.9). */
#define E1000E_VECTORS       5
#define E1000E_QUEUE_CAUSE(n) BIT(20 + (n))
#define E1000E_IVAR_EACH     0x000cba98u
