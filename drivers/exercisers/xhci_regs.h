/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* xHCI 1.2, chapter 5. Capability registers, from the BAR's start: */
#define XHCI_CAPLENGTH     0x00
#define XHCI_HCSPARAMS1    0x04
#define XHCI_MAX_INTRS     GENMASK(18, 8)
#define XHCI_RTSOFF        0x18
/* Operational registers, from CAPLENGTH on */
#define XHCI_USBCMD        0x00
#define XHCI_CMD_RUN       BIT(0)
#define XHCI_CMD_RESET     BIT(1)
#define XHCI_CMD_INTE      BIT(2)
#define XHCI_USBSTS        0x04
#define XHCI_STS_HALTED    BIT(0)
#define XHCI_STS_EINT      BIT(3)  /* write 1 to clear */
#define XHCI_STS_NOT_READY BIT(11)
/* Runtime registers, from RTSOFF on: one set an interrupter */
#define XHCI_IR(n)         (0x20u + 0x20 * (n))
#define XHCI_IMAN          0x00
#define XHCI_IMAN_IP       BIT(0)  /* write 1 to clear */
#define XHCI_IMAN_IE       BIT(1)
#define XHCI_IMOD          0x04
#define XHCI_ERSTSZ        0x08
#define XHCI_ERSTBA        0x10    /* 64 bits */
#define XHCI_ERDP          0x18    /* 64 bits */
#define XHCI_ERDP_EHB      BIT(3)  /* event handler busy; write 1 to clear */
#define XHCI_TRB_SIZE      16
#define XHCI_RING_TRBS     16
