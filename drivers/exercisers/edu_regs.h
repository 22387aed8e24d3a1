/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* QEMU's educational device, BAR0 (QEMU, docs/specs/edu.rst). Below 0x80 only 4-byte accesses. */
#define EDU_ID             0x00          /* 0xRRrr00ed: major, minor revision */
#define EDU_ID_MASK        0x0000ffffu
#define EDU_ID_VALUE       0x000000edu
#define EDU_LIVENESS       0x04          /* reads back the complement of what was written */
#define EDU_STATUS         0x20
#define EDU_STATUS_IRQFACT BIT(7)        /* interrupt when a factorial is done */
#define EDU_IRQ_STATUS     0x24
#define EDU_IRQ_RAISE      0x60          /* ORs into the status, sends while that is not 0 */
#define EDU_IRQ_ACK        0x64          /* clears these bits of the status */
#define EDU_DMA_SRC        0x80
#define EDU_DMA_DST        0x88
#define EDU_DMA_COUNT      0x90
#define EDU_DMA_CMD        0x98
#define EDU_DMA_RUN        BIT(0)
#define EDU_DMA_TO_RAM     BIT(1)
#define EDU_BUF            0x40000       /* the device's own buffer, as the DMA registers name it */
#define EDU_BUF_SIZE       4096
