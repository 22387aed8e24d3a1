/* SPDX-License-Identifier: MIT */
#pragma once

#include "kernel/lib/bits.h"

/* Intel 82576 datasheet 2.63, chapter 8. A virtual function has those it has at the same places (8.27). */
#define IGB_CTRL      0x00000
#define IGB_CTRL_SLU  BIT(6)
#define IGB_CTRL_RST  BIT(26)
#define IGB_STATUS    0x00008
#define IGB_STATUS_LU BIT(1)
#define IGB_MDIC      0x00020
#define IGB_MDIC_WRITE_BMCR (BIT(26) | BIT(21)) /* of PHY 1, its register 0 */
#define IGB_BMCR_NEGOTIATE  0x1340u             /* by itself, now; 1 Gb/s, full duplex */
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
#define IGB_CAUSE     BIT(11) /* GPI_SDP0: nothing but ICS sets it while no pin is an input for it */
#define IGBVF_VECTORS 3

/* Receiver and transmitter, and who gets what (7.10.3) */
#define IGB_RCTL      0x00100
#define IGB_RCTL_EN    BIT(1)
#define IGB_RCTL_LPE   BIT(5)
#define IGB_RCTL_LBM   BIT(6)  /* MAC loop-back: nothing leaves, nothing comes in */
#define IGB_RCTL_SECRC BIT(26)
#define IGB_TCTL      0x00400
#define IGB_TCTL_EN   BIT(1)
#define IGB_RLPML     0x05004
#define IGB_RAL(n)    (0x05400u + 8 * (n))
#define IGB_RAH(n)    (0x05404u + 8 * (n))
#define IGB_RAH_POOL(n) BIT(18 + (n))
#define IGB_RAH_AV    BIT(31)
#define IGB_MRQC      0x05818
#define IGB_MRQC_VMDQ 3u
#define IGB_VT_CTL    0x0581c
#define IGB_VT_CTL_NO_DEFAULT BIT(29)
#define IGB_VMOLR(n)  (0x05ad0u + 4 * (n))
#define IGB_VMOLR_RLPML  GENMASK(13, 0)
#define IGB_VMOLR_LPE    BIT(16)
#define IGB_VMOLR_AUPE   BIT(24)
#define IGB_VMOLR_STRCRC BIT(31)
#define IGB_VFRE      0x00c8c
#define IGB_VFTE      0x00c90

/* A queue's registers, from its first one on */
#define IGB_RX(q)     (0x0c000u + 0x40 * (q))
#define IGB_TX(q)     (0x0e000u + 0x40 * (q))
#define IGBVF_RX      0x02800u
#define IGBVF_TX      0x03800u
#define IGB_Q_BAL     0x00
#define IGB_Q_BAH     0x04
#define IGB_Q_LEN     0x08
#define IGB_Q_SRRCTL  0x0c    /* receive only */
#define IGB_Q_HEAD    0x10
#define IGB_Q_TAIL    0x18
#define IGB_Q_CTL     0x28
#define IGB_Q_CTL_ENABLE BIT(25)
#define IGB_SRRCTL_PACKET GENMASK(6, 0)   /* KiB */
#define IGB_SRRCTL_HEADER GENMASK(11, 8)  /* 64 bytes */
#define IGB_SRRCTL_SPLIT_ALWAYS (5u << 25)

/* A virtual function's mailbox */
#define IGBVF_MAILBOX 0x00c40u
#define IGB_MAILBOX_REQ   BIT(0)
#define IGB_MAILBOX_ACK   BIT(1)
#define IGB_MAILBOX_VFU   BIT(2)         /* in use by the virtual function */
#define IGB_MAILBOX_PFSTS BIT(4)         /* a message for it */
#define IGBVF_MEMORY  0x00800u

/* Advanced descriptors (7.1.5, 7.2.2), as four words */
#define IGB_TXD_LEN   GENMASK(15, 0)
#define IGB_TXD_DATA  (3u << 20)
#define IGB_TXD_EOP   BIT(24)
#define IGB_TXD_IFCS  BIT(25)
#define IGB_TXD_RS    BIT(27)
#define IGB_TXD_DEXT  BIT(29)
#define IGB_TXD_PAYLEN GENMASK(31, 14)
#define IGB_TXD_DD    BIT(0)              /* in word 3, when it is written back */
#define IGB_RXD_DD    BIT(0)              /* in word 2, likewise */
#define IGB_RXD_EOP   BIT(1)
#define IGB_RXD_ERROR BIT(31)
