/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* Intel 82576 datasheet 2.63, chapter 8. */
#define IGB_CTRL      0x00000
#define IGB_CTRL_RST  BIT(26)
#define IGB_STATUS    0x00008
/* The aliases, for QEMU (10.0, 11.1) has no others: ICR is at 0x1500 as well, and so on. */
#define IGB_ICR       0x000c0 /* write 1 to clear; a read may clear too (8.8.9) */
#define IGB_ICS       0x000c8
#define IGB_IMS       0x000d0
#define IGB_IMC       0x000d8
#define IGB_GPIE      0x01514
#define IGB_GPIE_MULTIPLE_MSIX BIT(4)
#define IGB_EICS      0x01520
#define IGB_EIMS      0x01524
#define IGB_EIMC      0x01528
#define IGB_EIAC      0x0152c
#define IGB_EICR      0x01580 /* write 1 to clear */
#define IGB_EITR(n)   (0x01680u + 4 * (n))
#define IGB_VECTORS   10      /* that are the physical function's: with virtual ones it has fewer */
#define IGB_CAUSE     BIT(4)  /* RXDMT0: nothing else sets it while no receiver is on */
#define IGBVF_VECTORS 3
#define IGBVF_CAUSES  GENMASK(IGBVF_VECTORS - 1, 0)
